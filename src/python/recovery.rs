//! What a store is to be told as soon as it can be reached: keys that were written or removed here while it was away, or may have been,
//! and tags and namespaces that were invalidated. Keys are told as invalidations, whatever was done: the memory alone has the value, and
//! others are to ask their source. Telling the store is telling all: nobody hears of anything that it does not have.
//!
//! Bounded: where there are too many keys, all of the cache is invalidated in their place. Nothing is lost by that.

use super::hearing::Inbox;
use crate::core::clock::{Clock, Millis, later};
use crate::core::coherence::owed::{Debt, Owed, What, When};
use crate::core::coherence::registers::Verdict;
use crate::core::coherence::{Known, Move};
use crate::core::remote::TOMBSTONE_LIFE;
use crate::io::process::PerProcess;
use crate::io::store::{Action, Answer, Answers, Reply, Request, Store, Tell};
use crate::work::{Appointment, Sweep, register};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// Told at a time.
const BATCH: usize = 1_000;
/// The store's time is asked for before anything is told late; for so long at most.
const UNSEEN: Duration = Duration::from_secs(30);
/// Between two looks whether it was.
const GLANCE: Duration = Duration::from_millis(200);

/// See the module.
pub struct Recovery {
    store: Arc<dyn Store>,
    clock: Clock,
    /// What the cache's clock is called there.
    cache: Vec<u8>,
    appointment: Appointment,
    /// A forked child has none of its parent's.
    waiting: PerProcess<Arc<Waiting>>,
    /// False while there are none, which is nearly always; the rest need not be looked at then.
    any: Arc<AtomicBool>,
}

/// What waits.
#[derive(Default)]
struct Waiting {
    all: Mutex<All>,
    /// Who hears when that has been told.
    inbox: OnceLock<Weak<Inbox>>,
}

/// A stamp, as far as it can be told from the last one that the store gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct By {
    stamp: u64,
    at: Instant,
    /// How often the store's time had stepped forward.
    steps: u64,
}

impl By {
    fn now(inbox: &Inbox) -> Option<By> {
        let stamp = inbox.stamp_by_now()?;
        Some(By { stamp, at: Instant::now(), steps: inbox.seen().0 })
    }

    /// The stamp, if the store's time has been seen since and has not stepped forward: else what was loaded before it may bear a later one.
    fn checked(self, inbox: &Inbox) -> Option<u64> {
        let (steps, seen) = inbox.seen();
        (steps == self.steps && seen.is_some_and(|seen| seen > self.at)).then_some(self.stamp)
    }

    /// True while the store's time is about to be seen.
    fn is_early(self, inbox: &Inbox) -> bool {
        inbox.seen().1.is_none_or(|seen| seen <= self.at) && self.at.elapsed() < UNSEEN
    }
}

/// What is not known covers all.
impl When for Option<By> {
    fn both(self, other: Self) -> Self {
        self.zip(other).map(|(one, other)| By {
            stamp: one.stamp.max(other.stamp),
            at: one.at.max(other.at),
            steps: one.steps.min(other.steps),
        })
    }
}

/// By which stamp each has happened, if that is known: what began to load later is not meant.
type All = Owed<Vec<u8>, Option<By>>;
type One = Debt<Vec<u8>, Option<By>>;

fn request(one: &One, cache: &[u8], inbox: &Inbox) -> Request {
    let (by, origin) = (one.when.and_then(|by| by.checked(inbox)), inbox.heard.origin);
    match &one.what {
        What::Key(key) => {
            let tell = Some(Arc::new(Tell { cache: cache.to_vec(), origin }));
            Request { key: key.clone().into(), action: Action::Invalidate { keep: TOMBSTONE_LIFE, by, tell } }
        }
        What::Move(name, how) => {
            let action = Action::Move { names: vec![name.clone()], how: *how, by, origin };
            Request { key: cache.to_vec().into(), action }
        }
    }
}

/// The answer to one; what was moved with it, if anything.
fn told(all: &mut All, one: &One, answer: Answer) -> Option<Move> {
    let reply = answer.ok()?;
    all.told(one);
    let (What::Move(name, how), Reply::Moved(at)) = (&one.what, reply) else { return None };
    Some(Move { names: vec![name.clone()], how: *how, at })
}

impl Recovery {
    /// For a cache in this store.
    pub fn new(store: Arc<dyn Store>, clock: Clock, cache: Vec<u8>) -> Arc<Self> {
        let (appointment, waiting) = (Appointment::default(), PerProcess::new());
        let recovery = Arc::new(Recovery { store, clock, cache, appointment, waiting, any: Arc::default() });
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

    fn change(&self, change: impl FnOnce(&mut All)) {
        let mut all = self.waiting().all.lock();
        change(&mut all);
        self.any.store(true, Release);
        drop(all);
        self.appointment.by(later(self.clock.now(), PAUSE));
    }

    /// The store is to be told of a key, and this process of what comes of it.
    pub fn put(&self, key: &[u8], undone: bool, inbox: &Arc<Inbox>) {
        self.waiting().inbox.get_or_init(|| Arc::downgrade(inbox));
        let by = By::now(inbox).filter(|_| undone);
        self.change(|all| all.key(key.to_vec(), by));
    }

    /// The store is to be told of tags or namespaces.
    pub fn put_move(&self, moved: &Move, undone: bool, inbox: &Arc<Inbox>) {
        self.waiting().inbox.get_or_init(|| Arc::downgrade(inbox));
        let by = By::now(inbox).filter(|_| undone);
        self.change(|all| moved.names.iter().for_each(|name| all.moved(name, moved.how, by)));
    }

    /// True if the store has yet to be told of a key: what it has there is no more.
    #[inline]
    pub fn has(&self, key: &[u8]) -> bool {
        self.any.load(Acquire) && self.has_indeed(key)
    }

    #[cold]
    fn has_indeed(&self, key: &[u8]) -> bool {
        self.waiting.get().is_some_and(|waiting| waiting.all.lock().has(key))
    }

    /// What is to be said of something that the store has, by what it has yet to be told.
    pub fn judge<'a>(&self, path: &str, tags: impl Iterator<Item = &'a str> + Clone) -> Verdict {
        let Some(waiting) = self.waiting.get().filter(|_| self.any.load(Acquire)) else { return Verdict::Good };
        waiting.all.lock().judge(path, tags)
    }

    /// The store has heard of a key by another way.
    pub fn forget(&self, key: &[u8]) {
        if let Some(waiting) = self.waiting.get().filter(|_| self.any.load(Acquire)) {
            let mut all = waiting.all.lock();
            all.forget(key);
            self.any.store(!all.is_empty(), Release);
        }
    }

    /// How many keys, tags and namespaces wait.
    pub fn len(&self) -> usize {
        self.waiting.get().map_or(0, |waiting| waiting.all.lock().len())
    }

    /// Asks what time the store has.
    fn see(&self, inbox: &Arc<Inbox>) {
        inbox.asks();
        let (request, inbox) = (Action::Registers { known: Known::default() }, Arc::clone(inbox));
        let answers = Answers::new(move |answers| {
            for (_, answer) in answers {
                if let Ok(Reply::Told(told)) = answer {
                    inbox.saw(told.stamp);
                }
            }
        });
        self.store.submit(vec![Request { key: self.cache.clone().into(), action: request }], answers);
    }
}

impl Sweep for Recovery {
    fn sweep(&self) -> Option<Millis> {
        self.appointment.set(None);
        let waiting = self.waiting.get()?;
        let inbox = waiting.inbox.get()?.upgrade()?;
        let some = waiting.all.lock().some(BATCH);
        if some.is_empty() {
            return None;
        }
        if some.iter().any(|one| one.when.is_some_and(|by| by.is_early(&inbox))) {
            self.see(&inbox);
            let due = Some(later(self.clock.now(), GLANCE));
            self.appointment.set(due);
            return due;
        }
        let requests = some.iter().map(|one| request(one, &self.cache, &inbox)).collect();
        let (there, any) = (Arc::clone(waiting), Arc::clone(&self.any));
        self.store.submit(
            requests,
            Answers::new(move |answers| {
                let mut all = there.all.lock();
                let moved: Vec<Move> =
                    answers.into_iter().filter_map(|(at, answer)| told(&mut all, some.get(at)?, answer)).collect();
                // Memory hears of it before what the store has is judged without it.
                moved.into_iter().for_each(|moved| inbox.heard.moved(moved));
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
