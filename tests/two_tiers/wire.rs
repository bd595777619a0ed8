//! A store that can be out of reach, lose answers or hold them back: a real one behind it does what it is asked.

use parking_lot::Mutex;
use samovar::core::coherence::Origin;
use samovar::io::store::ear::{Ear, Listening, News};
use samovar::io::store::local::LocalStore;
use samovar::io::store::{Answer, Answers, Cursor, Paging, Reply, Request, Store, Tally};
use samovar::{Clock, StoreError, StoreFailure};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};

/// How it fares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Fare {
    #[default]
    Well,
    /// It does nothing, and says so.
    Away,
    /// It does what it is asked, and nobody hears of it.
    Mute,
    /// It does what it is asked, and its answers wait.
    Slow,
}

/// Answers to one submission, and where they go.
type Held = (Answers, Vec<(usize, Answer)>);

/// See the file.
pub struct Wire {
    pub store: LocalStore,
    fare: Mutex<Fare>,
    held: Mutex<Vec<Held>>,
    /// How many requests each submission had.
    submitted: Mutex<Vec<usize>>,
    /// False unless a test says so: who listens hears nothing then.
    pub has_bus: AtomicBool,
    ears: Mutex<Vec<Weak<dyn Ear>>>,
}

impl Wire {
    /// Everybody hears this.
    pub fn say(&self, news: &News) {
        self.heard_by().iter().for_each(|ear| ear.hear(news.clone()));
    }

    /// Who listens.
    pub fn heard_by(&self) -> Vec<Arc<dyn Ear>> {
        self.ears.lock().iter().filter_map(Weak::upgrade).collect()
    }

    pub fn new(clock: Clock) -> Arc<Self> {
        let store = LocalStore::new(clock);
        let (fare, held, submitted) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Wire { store, fare, held, submitted, has_bus: AtomicBool::new(false), ears: Mutex::default() })
    }

    pub fn fares(&self, fare: Fare) {
        *self.fare.lock() = fare;
    }

    /// What the store has done.
    pub fn store_tally(&self) -> Tally {
        self.store.tally()
    }

    /// How many answers wait.
    pub fn waiting(&self) -> usize {
        self.held.lock().len()
    }

    /// Gives the answers to one submission that wait.
    pub fn give(&self, at: usize) {
        let (answers, given) = self.held.lock().remove(at);
        answers.give(given);
    }

    /// How many requests each submission had since the last time.
    pub fn take_submitted(&self) -> Vec<usize> {
        std::mem::take(&mut self.submitted.lock())
    }
}

fn failed(kind: StoreFailure, undone: bool) -> Answer {
    let (store, what, cure) = ("the wire".into(), "it does not answer".into(), "wait".into());
    Err(StoreError { kind, store, what, cure, undone })
}

impl Store for Wire {
    fn submit(&self, requests: Vec<Request>, answers: Answers) {
        let (count, fare) = (requests.len(), *self.fare.lock());
        self.submitted.lock().push(count);
        if fare == Fare::Away {
            return answers.give((0..count).map(|at| (at, failed(StoreFailure::Unreachable, true))).collect());
        }
        let given: Arc<Mutex<Vec<(usize, Answer)>>> = Arc::default();
        let into = Arc::clone(&given);
        self.store.submit(requests, Answers::new(move |answers| into.lock().extend(answers)));
        let given = std::mem::take(&mut *given.lock());
        match fare {
            Fare::Mute => answers.give((0..count).map(|at| (at, failed(StoreFailure::Timeout, false))).collect()),
            Fare::Slow => self.held.lock().push((answers, given)),
            _ => answers.give(given),
        }
    }

    fn scan(&self, prefix: &[u8], from: Cursor) -> Paging {
        self.store.scan(prefix, from)
    }

    fn tally(&self) -> Tally {
        self.store.tally()
    }

    fn listen(&self, cache: &[u8], origin: Origin, external: bool, ear: Arc<dyn Ear>) -> Option<Listening> {
        if !self.has_bus.load(SeqCst) {
            return None;
        }
        self.ears.lock().push(Arc::downgrade(&ear));
        self.store.listen(cache, origin, external, ear)
    }

    fn counts_messages(&self) -> bool {
        true
    }

    fn close(&self) {
        self.store.close();
    }
}

/// What the store has under a key of the cache "app", as it stands there.
pub async fn stored(wire: &Wire, key: &str) -> Option<Vec<u8>> {
    let store: &dyn Store = &wire.store;
    match store.ask_one(format!("app::{key}"), samovar::io::store::Action::Read).await {
        Ok(Reply::Read(stored)) => stored.map(|stored| stored.frame().to_vec()),
        other => panic!("{other:?}"),
    }
}
