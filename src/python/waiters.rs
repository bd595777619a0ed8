//! Who waits here for what another process loads, by key: told as soon as the key is known to have changed.
//!
//! When a waiter asks again by itself is `core::remote::wait`'s to say, and its own affair. Telling it takes no interpreter, so whoever
//! hears of a change may do it: on an event loop it goes on in the loop's next pass, on a blocked thread at once.

use crate::io::process::PerProcess;
use crate::io::store::{Answers, Reply};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;

/// See the module.
#[derive(Default)]
pub struct Waiters {
    /// A forked child has none of its parent's.
    waiting: PerProcess<Waiting>,
}

type Waiting = Mutex<HashMap<Vec<u8>, Vec<Answers>>>;

/// A waiter's place, given up when this is dropped.
pub struct Place {
    waiters: Arc<Waiters>,
    key: Vec<u8>,
    wakes: Answers,
}

impl Waiters {
    /// Somebody waits for a key from now on; `wakes` is given one answer should it change.
    pub fn join(self: &Arc<Self>, key: &[u8], wakes: Answers) -> Place {
        let waiting = match self.waiting.get_or_make(|| Ok::<_, Infallible>(Waiting::default())) {
            Ok(waiting) => waiting,
            Err(never) => match never {},
        };
        waiting.lock().entry(key.to_vec()).or_default().push(wakes.clone());
        Place { waiters: Arc::clone(self), key: key.to_vec(), wakes }
    }

    /// The key has changed in the store, or may have: whoever waits for it asks the store now.
    pub fn changed(&self, key: &[u8]) {
        let told = self.waiting.get().and_then(|waiting| waiting.lock().remove(key));
        told.into_iter().flatten().for_each(|wakes| wake(&wakes));
    }
}

/// Has a waiter go on.
pub fn wake(wakes: &Answers) {
    wakes.give(vec![(0, Ok(Reply::Done(true)))]);
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(waiting) = self.waiters.waiting.get() else { return };
        let mut waiting = waiting.lock();
        if let Some(here) = waiting.get_mut(&self.key) {
            here.retain(|wakes| !wakes.is(&self.wakes));
            if here.is_empty() {
                waiting.remove(&self.key);
            }
        }
    }
}
