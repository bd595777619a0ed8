//! A store in this process's own memory: the same answers as from a server, for tests and for one process alone.
//!
//! What a request does is decided by [`core::remote::cell`](crate::core::remote::cell); here are the map, the lock and the clock. Nothing
//! bounds it: what is over is removed when its key is asked for again, or with a scan.

use super::kept::{Kept, act, no_frame};
use super::{Answer, Answers, Cursor, Paging, Request, Store, Tally};
use crate::core::clock::Clock;
use crate::core::remote::Version;
use crate::core::remote::cell::Cell;
use crate::error::{StoreError, StoreFailure};
use parking_lot::Mutex;
use std::collections::BTreeMap;

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

    fn answer(&mut self, Request { key, action }: &Request, now: u64) -> Answer {
        if self.closed {
            return Err(closed());
        }
        let version = self.version(now);
        let mut cell = self.cells.remove(key).filter(|cell| !cell.is_over(now)).unwrap_or_default();
        let reply = act(&mut cell, action, version, now);
        if !cell.is_over(now) {
            self.cells.insert(key.clone(), cell);
        }
        reply.ok_or_else(|| no_frame(NAME))
    }
}

const NAME: &str = "the store in memory";

fn closed() -> StoreError {
    let (kind, what, cure) = (StoreFailure::Unreachable, "it was closed".into(), "ask it before it is closed".into());
    StoreError { kind, store: NAME.into(), what, cure, undone: true }
}

impl Store for LocalStore {
    fn submit(&self, requests: Vec<Request>, answers: Answers) {
        let now = self.now();
        let done = {
            let all = &mut *self.all.lock();
            let one = |(at, request): (usize, Request)| {
                all.tally.ask(&request.action);
                let answer = all.answer(&request, now);
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
