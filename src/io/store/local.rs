//! A store in this process's own memory: the same answers as from a server, for tests and for one process alone.
//!
//! What a request does is decided by [`core::remote::cell`](crate::core::remote::cell); here are the map, the lock and the clock. Nothing
//! bounds it: what is over is removed when its key is asked for again, or with a scan.

use super::stored::Stored;
use super::{Action, Answer, Answers, Cursor, Paging, Reply, Request, Store, Tally};
use crate::core::clock::Clock;
use crate::core::remote::cell::{Cell, Framed};
use crate::core::remote::{Filled, Found, Version};
use crate::error::{StoreError, StoreFailure};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;

/// See the module.
#[derive(Debug, Default)]
pub struct LocalStore {
    clock: Clock,
    all: Mutex<Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    cells: BTreeMap<Vec<u8>, Cell<Kept>>,
    last: u64,
    tally: Tally,
    closed: bool,
}

/// A frame, and until when it is kept, whatever it says itself.
#[derive(Clone, Debug)]
struct Kept(Stored, u64);

impl Framed for Kept {
    fn version(&self) -> Version {
        self.0.version()
    }

    fn fresh_until(&self) -> u64 {
        self.0.fresh_until()
    }

    fn expires(&self) -> u64 {
        self.1
    }

    fn has_value(&self) -> bool {
        self.0.has_value()
    }
}

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

fn later(now: u64, by: Option<Duration>) -> u64 {
    by.map_or(u64::MAX, |by| now.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
}

impl Contents {
    fn version(&mut self, now: u64) -> Version {
        self.last = now.max(self.last + 1);
        Version(self.last)
    }

    fn answer(&mut self, Request { key, action }: Request, now: u64) -> Answer {
        if self.closed {
            return Err(refused(StoreFailure::Unreachable, "it was closed", "ask it before it is closed"));
        }
        let frame = match &action {
            Action::Fill { frame, keep, .. } | Action::Put { frame, keep } => {
                let short = || refused(StoreFailure::Refused, "that is no frame", "give one that the codec made");
                let stored = Stored::new(self.version(now), frame.clone()).ok_or_else(short)?;
                Some(Kept(stored, later(now, *keep)))
            }
            _ => None,
        };
        let version = self.version(now);
        if self.cells.get(&key).is_some_and(|cell| cell.is_over(now)) {
            self.cells.remove(&key);
        }
        if matches!(action, Action::Delete) {
            return Ok(Reply::Done(self.cells.remove(&key).is_some()));
        }
        let cell = self.cells.entry(key).or_default();
        Ok(match (action, frame) {
            (Action::Claim { token, wanted, life }, _) => {
                Reply::Claimed(match cell.claim(token, wanted, later(now, Some(life)), now) {
                    Found::Fresh(kept) => Found::Fresh(kept.0),
                    Found::Claimed(token, old) => Found::Claimed(token, old.map(|kept| kept.0)),
                })
            }
            (Action::Fill { under, newer_than, .. }, Some(frame)) => {
                Reply::Filled(match cell.fill(under, newer_than, frame, now) {
                    Filled::Written(version) => Filled::Written(version),
                    Filled::Lost(kept) => Filled::Lost(kept.0),
                    Filled::Gone => Filled::Gone,
                })
            }
            (Action::Put { .. }, Some(frame)) => Reply::Written(cell.put(frame)),
            (Action::Invalidate { keep }, _) => {
                let there = cell.has_value(now);
                Reply::Buried(cell.bury(version, later(now, Some(keep))), there)
            }
            (Action::Renew { token, life }, _) => Reply::Done(cell.renew(token, later(now, Some(life)))),
            (Action::Release { token }, _) => Reply::Done(cell.release(token)),
            _ => Reply::Read(cell.frame().map(|kept| kept.0.clone())),
        })
    }
}

fn refused(kind: StoreFailure, what: &str, cure: &str) -> StoreError {
    StoreError { kind, store: "the store in memory".into(), what: what.into(), cure: cure.into(), undone: true }
}

impl Store for LocalStore {
    fn submit(&self, requests: Vec<Request>, answers: Answers) {
        let now = self.now();
        let done = {
            let all = &mut *self.all.lock();
            let one = |(at, request): (usize, Request)| {
                all.tally.ask(&request.action);
                let answer = all.answer(request, now);
                all.tally.answer(&answer);
                (at, answer)
            };
            requests.into_iter().enumerate().map(one).collect()
        };
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

    fn close(&self) {
        let cells = {
            let mut all = self.all.lock();
            all.closed = true;
            std::mem::take(&mut all.cells)
        };
        drop(cells);
    }
}
