//! A store in this process's own memory: the same answers as from a server, for tests and for one process alone.
//!
//! What a request does is decided by [`core::remote::cell`](crate::core::remote::cell); here are the map, the lock and the clock. Nothing
//! bounds it: what is over is removed when its key is asked for again, or with a scan. Who listens is told by whoever writes, so
//! nothing can be missed.

use super::ear::{Ear, Listening, News};
use super::kept::{Kept, act, no_frame, tick};
use super::{Action, Answer, Answers, Cursor, Paging, Reply, Request, Store, Tally};
use crate::core::clock::Clock;
use crate::core::coherence::cell::Cell as Stamps;
use crate::core::coherence::{Known, Move, Origin};
use crate::core::remote::cell::Cell;
use crate::core::remote::{Filled, Version};
use crate::error::{StoreError, StoreFailure};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug, Default)]
pub struct LocalStore {
    clock: Clock,
    all: Arc<Mutex<Contents>>,
}

#[derive(Debug, Default)]
struct Contents {
    cells: BTreeMap<Vec<u8>, Cell<Kept>>,
    /// The clocks of caches.
    stamps: BTreeMap<Vec<u8>, Stamps>,
    last: u64,
    ears: BTreeMap<u64, Listener>,
    tally: Tally,
    closed: bool,
}

struct Listener {
    cache: Vec<u8>,
    origin: Origin,
    external: bool,
    ear: Arc<dyn Ear>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// What has to be said to whom, when the lock is free again.
type Told = Vec<(Arc<dyn Ear>, News)>;

/// So long nothing is missed.
const LONG: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl LocalStore {
    /// An empty one, whose time is this clock's.
    pub fn new(clock: Clock) -> Self {
        LocalStore { clock, ..LocalStore::default() }
    }

    /// Microseconds since 1970.
    fn now(&self) -> u64 {
        self.clock.wall(self.clock.now()) * 1000
    }
}

impl Contents {
    fn version(&mut self, now: u64) -> Version {
        self.last = now.max(self.last + 1);
        Version(self.last)
    }

    /// The version of what is written now, if anything is; that of the cache's clock if others are told.
    fn stamp(&mut self, action: &Action, now: u64) -> Version {
        let mut version = self.version(now);
        if let Some(tell) = action.tell() {
            version = Version(self.stamps.entry(tell.cache.clone()).or_default().next(version.0));
            self.last = version.0;
        }
        version
    }

    fn answer(&mut self, Request { key, action }: &Request, now: u64, told: &mut Told) -> Answer {
        if self.closed {
            return Err(closed());
        }
        let version = self.stamp(action, now);
        if matches!(action, Action::Move { .. } | Action::Registers { .. }) {
            let stamps = self.stamps.entry(key.to_vec()).or_default();
            let reply = tick(stamps, action, version.0).ok_or_else(|| no_frame(NAME))?;
            if let (Action::Move { names, how, origin, .. }, Reply::Moved(at)) = (action, &reply) {
                stamps.number();
                self.last = *at;
                self.tell(told, key, *origin, &News::Moved(Move { names: names.clone(), how: *how, at: *at }));
            }
            return Ok(reply);
        }
        if *action == Action::Delete {
            self.stamps.remove(&key[..]);
        }
        let mut cell = self.cells.remove(&key[..]).filter(|cell| !cell.is_over(now)).unwrap_or_default();
        let reply = act(&mut cell, action, version, now);
        if !cell.is_over(now) {
            self.cells.insert(key.to_vec(), cell);
        }
        let reply = reply.ok_or_else(|| no_frame(NAME))?;
        self.tell_of(told, key, action, &reply);
        Ok(reply)
    }

    /// Something may have been written.
    fn tell_of(&mut self, told: &mut Told, key: &[u8], action: &Action, reply: &Reply) {
        let version = match reply {
            Reply::Written(version) | Reply::Filled(Filled::Written(version)) | Reply::Buried(version, _) => *version,
            Reply::Done(true) if *action == Action::Delete => Version(0),
            _ => return,
        };
        for listener in self.ears.values().filter(|listener| listener.external) {
            if key.strip_prefix(&listener.cache[..]).is_some_and(|rest| rest.starts_with(b":")) {
                told.push((Arc::clone(&listener.ear), News::Touched { key: key.to_vec() }));
            }
        }
        if let Some(tell) = action.tell() {
            self.stamps.entry(tell.cache.clone()).or_default().number();
            self.tell(told, &tell.cache, tell.origin, &News::Changed { key: key.to_vec(), version });
        }
    }

    fn tell(&self, told: &mut Told, cache: &[u8], from: Origin, news: &News) {
        let others = self.ears.values().filter(|listener| listener.cache == cache && listener.origin != from);
        told.extend(others.map(|listener| (Arc::clone(&listener.ear), news.clone())));
    }
}

const NAME: &str = "the store in memory";

fn closed() -> StoreError {
    let (kind, what, cure) = (StoreFailure::Unreachable, "it was closed".into(), "ask it before it is closed".into());
    StoreError { kind, store: NAME.into(), what, cure, undone: true }
}

/// Takes the ear away when it is dropped.
struct Guard(Weak<Mutex<Contents>>, u64);

impl Drop for Guard {
    fn drop(&mut self) {
        let listener = self.0.upgrade().and_then(|all| all.lock().ears.remove(&self.1));
        drop(listener);
    }
}

impl Store for LocalStore {
    fn submit(&self, requests: Vec<Request>, answers: Answers) {
        let now = self.now();
        let mut told = Told::new();
        let done = {
            let all = &mut *self.all.lock();
            let one = |(at, request): (usize, Request)| {
                all.tally.ask(&request.action);
                let answer = all.answer(&request, now, &mut told);
                all.tally.answer(&answer);
                (at, answer)
            };
            requests.into_iter().enumerate().map(one).collect()
        };
        told.into_iter().for_each(|(ear, news)| ear.hear(news));
        answers.give(done);
    }

    fn scan(&self, prefix: &[u8], _from: Cursor) -> Paging {
        let (now, mut all) = (self.now(), self.all.lock());
        all.cells.retain(|_, cell| !cell.is_over(now));
        let from = all.cells.range(prefix.to_vec()..).map(|(key, _)| key);
        let keys = from.take_while(|key| key.starts_with(prefix)).cloned().collect();
        Box::pin(std::future::ready(Ok((keys, None))))
    }

    fn tally(&self) -> Tally {
        self.all.lock().tally
    }

    fn listen(&self, cache: &[u8], origin: Origin, external: bool, ear: Arc<dyn Ear>) -> Option<Listening> {
        let now = self.now();
        let (id, told) = {
            let all = &mut *self.all.lock();
            if all.closed {
                return Some(Listening::until_dropped(()));
            }
            let id = all.ears.last_key_value().map_or(0, |(last, _)| last + 1);
            let listener = Listener { cache: cache.to_vec(), origin, external, ear: Arc::clone(&ear) };
            all.ears.insert(id, listener);
            (id, all.stamps.entry(cache.to_vec()).or_default().told(Known::default(), now))
        };
        ear.hear(News::Proven { until: Instant::now() + LONG, told: Some(told) });
        Some(Listening::until_dropped(Guard(Arc::downgrade(&self.all), id)))
    }

    fn close(&self) {
        let (cells, ears) = {
            let mut all = self.all.lock();
            all.closed = true;
            (std::mem::take(&mut all.cells), std::mem::take(&mut all.ears))
        };
        ears.values().for_each(|listener| listener.ear.hear(News::Lost));
        drop(cells);
    }
}
