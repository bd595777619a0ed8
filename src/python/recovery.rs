//! What a store is to be told as soon as it can be reached: keys that were written or removed here while it was away, or may have been,
//! and tags and namespaces that were invalidated. Keys are told as invalidations, whatever was done: the memory alone has the value, and
//! others are to ask their source. Telling the store is telling all: nobody hears of anything that it does not have.
//!
//! Bounded: where there are too many keys, all of the cache is invalidated in their place. Nothing is lost by that.

use super::hearing::Inbox;
use super::tier::is_below;
use crate::core::clock::{Clock, Millis, later};
use crate::core::coherence::registers::Verdict;
use crate::core::coherence::{How, Known, Move, Name};
use crate::core::remote::TOMBSTONE_LIFE;
use crate::io::process::PerProcess;
use crate::io::store::{Action, Answer, Answers, Reply, Request, Store, Tell};
use crate::work::{Appointment, Sweep, register};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// Keys told at a time.
const BATCH: usize = 1_000;
/// No more keys wait: some 10 MB.
pub const MOST: usize = 100_000;

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

/// How often something was put in, for only an answer to the last time counts; and the stamp of the store's by which it had happened, if
/// that is known: what began to load later is not meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Put {
    times: u64,
    by: Option<By>,
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

    fn later(self, other: By) -> By {
        let (stamp, at, steps) = (self.stamp.max(other.stamp), self.at.max(other.at), self.steps.min(other.steps));
        By { stamp, at, steps }
    }

    /// The stamp, if the store's time has been seen since and has not stepped forward: else what was loaded before it may bear a later one.
    fn checked(self, inbox: &Inbox) -> Option<u64> {
        let (steps, seen) = inbox.seen();
        (steps == self.steps && seen.is_some_and(|seen| seen > self.at)).then_some(self.stamp)
    }
}

/// The store's time is asked for before anything is told late; for so long at most.
const UNSEEN: Duration = Duration::from_secs(30);
/// Between two looks whether it was.
const GLANCE: Duration = Duration::from_millis(200);

impl Put {
    /// True while the store's time is about to be seen.
    fn is_early(&self, inbox: &Inbox) -> bool {
        let seen = inbox.seen().1;
        self.by.is_some_and(|by| seen.is_none_or(|seen| seen <= by.at) && by.at.elapsed() < UNSEEN)
    }

    fn once_more(before: Option<Put>, by: Option<By>) -> Put {
        match before {
            None => Put { times: 1, by },
            Some(Put { times, by: earlier }) => Put { times: times + 1, by: earlier.zip(by).map(|(a, b)| a.later(b)) },
        }
    }
}

#[derive(Default)]
struct All {
    keys: HashMap<Vec<u8>, Put>,
    moves: HashMap<(Name, How), Put>,
}

impl All {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.moves.is_empty()
    }

    fn put_move(&mut self, name: Name, how: How, by: Option<By>) {
        let key = (name, how);
        let put = Put::once_more(self.moves.get(&key).copied(), by);
        self.moves.insert(key, put);
        self.bound(by);
    }

    fn put(&mut self, key: &[u8], by: Option<By>) {
        let put = Put::once_more(self.keys.get(key).copied(), by);
        self.keys.insert(key.to_vec(), put);
        self.bound(by);
    }

    fn bound(&mut self, by: Option<By>) {
        if self.keys.len() + self.moves.len() > MOST {
            *self = All::default();
            self.moves.insert((Name::new("", ""), How::Gone), Put { times: 1, by });
        }
    }

    /// Some of it, to be told now.
    fn some(&self) -> Telling {
        let keys = self.keys.iter().take(BATCH).map(|(key, put)| (key.clone(), *put)).collect();
        let moves = self.moves.iter().take(BATCH).map(|(moved, put)| (moved.clone(), *put)).collect();
        Telling { keys, moves }
    }
}

/// What is told at a time: the keys, then the tags and namespaces.
struct Telling {
    keys: Vec<(Vec<u8>, Put)>,
    moves: Vec<((Name, How), Put)>,
}

impl Telling {
    fn puts(&self) -> impl Iterator<Item = &Put> {
        self.keys.iter().map(|(_, put)| put).chain(self.moves.iter().map(|(_, put)| put))
    }

    fn requests(&self, cache: &[u8], inbox: &Inbox) -> Vec<Request> {
        let origin = inbox.origin;
        let by = |put: &Put| put.by.and_then(|by| by.checked(inbox));
        let tell = Some(Tell { cache: cache.to_vec(), origin });
        let keys = self.keys.iter().map(|(key, put)| {
            let action = Action::Invalidate { keep: TOMBSTONE_LIFE, by: by(put), tell: tell.clone() };
            Request { key: key.clone().into(), action }
        });
        let moves = self.moves.iter().map(|((name, how), put)| {
            let action = Action::Move { names: vec![name.clone()], how: *how, by: by(put), origin };
            Request { key: cache.to_vec().into(), action }
        });
        keys.chain(moves).collect()
    }

    /// An answer to one of these; what was moved with it, if anything.
    fn told(&self, all: &mut All, (at, answer): (usize, Answer)) -> Option<Move> {
        let reply = answer.ok()?;
        if let Some((key, put)) = self.keys.get(at) {
            if all.keys.get(key) == Some(put) {
                all.keys.remove(key);
            }
            return None;
        }
        let (moved, put) = self.moves.get(at - self.keys.len())?;
        if all.moves.get(moved) == Some(put) {
            all.moves.remove(moved);
        }
        let Reply::Moved(stamp) = reply else { return None };
        Some(Move { names: vec![moved.0.clone()], how: moved.1, at: stamp })
    }
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
        self.change(|all| all.put(key, by));
    }

    /// The store is to be told of tags or namespaces.
    pub fn put_move(&self, moved: &Move, undone: bool, inbox: &Arc<Inbox>) {
        self.waiting().inbox.get_or_init(|| Arc::downgrade(inbox));
        let by = By::now(inbox).filter(|_| undone);
        self.change(|all| moved.names.iter().for_each(|name| all.put_move(name.clone(), moved.how, by)));
    }

    /// True if the store has yet to be told of a key: what it has there is no more.
    pub fn has(&self, key: &[u8]) -> bool {
        self.any.load(Acquire) && self.waiting.get().is_some_and(|waiting| waiting.all.lock().keys.contains_key(key))
    }

    /// What is to be said of something that the store has, by what it has yet to be told.
    pub fn judge<'a>(&self, path: &str, tags: impl Iterator<Item = &'a str> + Clone) -> Verdict {
        let Some(waiting) = self.waiting.get().filter(|_| self.any.load(Acquire)) else { return Verdict::Good };
        let all = waiting.all.lock();
        let concerns = |name: &Name| {
            is_below(path, &name.path) && (name.tag.is_empty() || tags.clone().any(|tag| *tag == *name.tag))
        };
        let verdicts = all.moves.keys().filter(|(name, _)| concerns(name));
        let verdicts = verdicts.map(|(_, how)| if *how == How::Gone { Verdict::Gone } else { Verdict::Stale });
        verdicts.max().unwrap_or(Verdict::Good)
    }

    /// The store has heard of a key by another way.
    pub fn forget(&self, key: &[u8]) {
        if let Some(waiting) = self.waiting.get().filter(|_| self.any.load(Acquire)) {
            let mut all = waiting.all.lock();
            all.keys.remove(key);
            self.any.store(!all.is_empty(), Release);
        }
    }

    /// How many keys, tags and namespaces wait.
    pub fn len(&self) -> usize {
        self.waiting.get().map_or(0, |waiting| {
            let all = waiting.all.lock();
            all.keys.len() + all.moves.len()
        })
    }
}

impl Recovery {
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
        let some = {
            let all = waiting.all.lock();
            if all.is_empty() {
                return None;
            }
            all.some()
        };
        if some.puts().any(|put| put.is_early(&inbox)) {
            self.see(&inbox);
            let due = Some(later(self.clock.now(), GLANCE));
            self.appointment.set(due);
            return due;
        }
        let requests = some.requests(&self.cache, &inbox);
        let (there, any) = (Arc::clone(waiting), Arc::clone(&self.any));
        self.store.submit(
            requests,
            Answers::new(move |answers| {
                let mut all = there.all.lock();
                let moved: Vec<Move> = answers.into_iter().filter_map(|answer| some.told(&mut all, answer)).collect();
                // Memory hears of it before what the store has is judged without it.
                moved.into_iter().for_each(|moved| inbox.moved(moved));
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
