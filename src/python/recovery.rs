//! Keys that a store is to be told of as soon as it can be reached: what was written or removed here while it was away, or may have
//! been. Told as an invalidation, whatever it was: the memory alone has the value, and others are to ask their source.

use crate::core::clock::{Clock, Millis, later};
use crate::core::remote::TOMBSTONE_LIFE;
use crate::io::process::PerProcess;
use crate::io::store::{Action, Answers, Request, Store};
use crate::work::{Appointment, Sweep, register};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// Keys told at a time.
const BATCH: usize = 1_000;

/// See the module.
pub struct Recovery {
    store: Arc<dyn Store>,
    clock: Clock,
    appointment: Appointment,
    /// A forked child has none of its parent's.
    waiting: PerProcess<Arc<Waiting>>,
    /// False while there are none, which is nearly always; the rest need not be looked at then.
    any: Arc<AtomicBool>,
}

/// The keys, with how often each was put in: only an answer to the last time counts.
#[derive(Default)]
struct Waiting(Mutex<HashMap<Vec<u8>, u64>>);

impl Recovery {
    /// For this store.
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Arc<Self> {
        let (appointment, waiting) = (Appointment::default(), PerProcess::new());
        let recovery = Arc::new(Recovery { store, clock, appointment, waiting, any: Arc::default() });
        let swept: Weak<Recovery> = Arc::downgrade(&recovery);
        register(swept);
        recovery
    }

    fn waiting(&self) -> &Arc<Waiting> {
        match self.waiting.get_or_make(|| Ok::<_, Infallible>(Arc::default())) {
            Ok(waiting) => waiting,
            Err(never) => match never {},
        }
    }

    /// The store is to be told of a key.
    pub fn put(&self, key: &[u8]) {
        let mut all = self.waiting().0.lock();
        *all.entry(key.to_vec()).or_default() += 1;
        self.any.store(true, Release);
        drop(all);
        self.appointment.by(later(self.clock.now(), PAUSE));
    }

    /// True if the store has yet to be told of a key: what it has there is no more.
    pub fn has(&self, key: &[u8]) -> bool {
        self.any.load(Acquire) && self.waiting.get().is_some_and(|waiting| waiting.0.lock().contains_key(key))
    }

    /// The store has heard of a key by another way.
    pub fn forget(&self, key: &[u8]) {
        if let Some(waiting) = self.waiting.get().filter(|_| self.any.load(Acquire)) {
            let mut all = waiting.0.lock();
            all.remove(key);
            self.any.store(!all.is_empty(), Release);
        }
    }

    /// How many keys wait.
    pub fn len(&self) -> usize {
        self.waiting.get().map_or(0, |waiting| waiting.0.lock().len())
    }
}

impl Sweep for Recovery {
    fn sweep(&self) -> Option<Millis> {
        self.appointment.set(None);
        let waiting = self.waiting.get()?;
        let some: Vec<(Vec<u8>, u64)> = {
            let all = waiting.0.lock();
            all.iter().take(BATCH).map(|(key, times)| (key.clone(), *times)).collect()
        };
        if some.is_empty() {
            return None;
        }
        let action = Action::Invalidate { keep: TOMBSTONE_LIFE };
        let requests = some.iter().map(|(key, _)| Request { key: key.clone(), action: action.clone() }).collect();
        let (there, any) = (Arc::clone(waiting), Arc::clone(&self.any));
        self.store.submit(
            requests,
            Answers::new(move |answers| {
                let mut all = there.0.lock();
                for (key, times) in answers.into_iter().filter(|(_, answer)| answer.is_ok()).map(|(at, _)| &some[at]) {
                    if all.get(key) == Some(times) {
                        all.remove(key);
                    }
                }
                any.store(!all.is_empty(), Release);
            }),
        );
        let due = Some(later(self.clock.now(), PAUSE));
        self.appointment.set(due);
        due
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}
