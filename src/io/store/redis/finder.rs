//! What has to be found out before anybody can be asked, and again when it has changed: who is master, who has which slots.
//!
//! One search at a time. While nothing is known, callers wait for the first search as long as a call may take; later ones are told
//! at once what it failed with, and it goes on behind until it succeeds.

use super::trouble;
use crate::error::StoreError;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// How what is looked for is found: given what was found last.
pub type Find<T> = Box<dyn Fn(Option<Arc<T>>) -> Finding<T> + Send + Sync>;
/// A search that is under way.
pub type Finding<T> = Pin<Box<dyn Future<Output = Result<Arc<T>, StoreError>> + Send>>;

/// No two searches begin sooner after each other, however many ask for one.
const GAP: Duration = Duration::from_millis(50);
/// How long after a search that failed the next begins.
const AGAIN: Duration = Duration::from_millis(200);

struct State<T> {
    found: Option<Arc<T>>,
    failed: Option<StoreError>,
    searching: Option<(watch::Receiver<()>, AbortHandle)>,
    not_before: Instant,
    closed: bool,
}

/// See the module.
pub struct Finder<T> {
    me: Weak<Finder<T>>,
    name: String,
    limit: Duration,
    find: Find<T>,
    state: Mutex<State<T>>,
}

impl<T: Send + Sync + 'static> Finder<T> {
    /// Nothing is known yet. `name` is the store's, `limit` how long a call may take.
    pub fn new(name: String, limit: Duration, find: impl FnOnce(&Weak<Self>) -> Find<T>) -> Arc<Self> {
        let state = State { found: None, failed: None, searching: None, not_before: Instant::now(), closed: false };
        Arc::new_cyclic(|me| Finder { me: me.clone(), name, limit, find: find(me), state: Mutex::new(state) })
    }

    /// What was found last.
    pub fn found(&self) -> Option<Arc<T>> {
        self.state.lock().found.clone()
    }

    /// What was found, or will be before the deadline.
    pub async fn get(&self, deadline: Instant) -> Result<Arc<T>, StoreError> {
        let mut searching = {
            let state = &mut *self.state.lock();
            match (&state.found, &state.failed) {
                _ if state.closed => return Err(trouble::closed(&self.name)),
                (Some(found), _) => return Ok(Arc::clone(found)),
                (None, Some(failed)) => return Err(trouble::known(failed)),
                (None, None) => self.search(state),
            }
        };
        // Its end, or a first failure.
        let ended = timeout_at(deadline, searching.changed()).await.is_ok();
        let mut state = self.state.lock();
        let state = &mut *state;
        match (&state.found, &state.failed) {
            (Some(found), _) => Ok(Arc::clone(found)),
            (None, Some(failed)) => Err(failed.clone()),
            (None, None) if ended => Err(trouble::closed(&self.name)),
            (None, None) => {
                let error = trouble::timed_out(&self.name, self.limit, false);
                state.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// It may have changed.
    pub fn look_again(&self) {
        let mut state = self.state.lock();
        if !state.closed {
            self.search(&mut state);
        }
    }

    /// What is told when the search that runs from now on has come to something.
    fn search(&self, state: &mut State<T>) -> watch::Receiver<()> {
        if let Some((searching, _)) = &state.searching {
            return searching.clone();
        }
        let (told, searching) = watch::channel(());
        let (me, begin) = (self.me.clone(), state.not_before);
        let task = tokio::spawn(async move {
            sleep_until(begin).await;
            while !Self::try_once(&me).await {
                told.send_replace(());
                sleep(AGAIN).await;
            }
        });
        state.searching = Some((searching.clone(), task.abort_handle()));
        searching
    }

    /// True when the search is over.
    async fn try_once(me: &Weak<Self>) -> bool {
        let Some(this) = me.upgrade() else { return true };
        let finding = (this.find)(this.found());
        drop(this);
        let result = finding.await;
        let Some(this) = me.upgrade() else { return true };
        let mut state = this.state.lock();
        state.not_before = Instant::now() + GAP;
        match result {
            Ok(found) => (state.found, state.failed) = (Some(found), None),
            // What is known may still be right. Whoever finds out otherwise asks again.
            Err(_) if state.found.is_some() => {}
            Err(error) => {
                state.failed = Some(error);
                return false;
            }
        }
        state.searching = None;
        true
    }

    /// Ends the search, and gives what was found.
    pub fn close(&self) -> Option<Arc<T>> {
        let mut state = self.state.lock();
        state.closed = true;
        let (searching, found) = (state.searching.take(), state.found.take());
        drop(state);
        searching.into_iter().for_each(|(_, task)| task.abort());
        found
    }
}
