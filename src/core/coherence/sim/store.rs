//! The store of the simulator: keys, the clock of a cache and its own time, which may jump. Each request is one step.

use super::node::Held;
use crate::core::clock::{Millis, later};
use crate::core::coherence::cell::Cell as Clock;
use crate::core::coherence::{How, Known, Name, Told};
use crate::core::remote::cell::{Cell, Under};
use crate::core::remote::write::What;
use crate::core::remote::{CLAIM_LIFE, Filled, Found, Frame, TOMBSTONE_LIFE, Token, Version, Wanted};
use std::collections::BTreeMap;

/// How long values are fresh.
pub const TTL: Millis = 60_000;
/// How long they are of some use after that.
pub const GRACE: Millis = 60_000;
/// What its time is ahead of ours at first.
const AHEAD: i64 = 100_000_000;

/// See the module.
#[derive(Clone, Debug, Hash)]
pub struct Store {
    cells: BTreeMap<u8, Cell<Frame<Held>>>,
    /// Not born where it is not there.
    pub clock: Clock,
    ahead: i64,
    /// Each request takes a moment.
    moments: u64,
}

impl Default for Store {
    fn default() -> Self {
        Store { cells: BTreeMap::new(), clock: Clock::default(), ahead: AHEAD, moments: 0 }
    }
}

impl Store {
    /// Its time, in ms.
    fn time(&self, now: Millis) -> Millis {
        (now as i64 + self.ahead).max(1) as Millis
    }

    /// Its time, as its clock counts, which is never asked twice at one moment: far more often than anybody asks.
    pub fn moment(&mut self, now: Millis) -> u64 {
        self.moments += 3;
        self.time(now) * 1_000_000 + self.moments
    }

    /// Its time jumps.
    pub fn jump(&mut self, by: i64) {
        self.ahead += by;
    }

    fn cell(&mut self, key: u8, now: Millis) -> &mut Cell<Frame<Held>> {
        let time = self.time(now);
        self.cells.retain(|_, cell| !cell.is_over(time));
        self.cells.entry(key).or_default()
    }

    /// A stamp that begins a load, and what the asker does not know of the registers.
    pub fn told(&mut self, known: Known, now: Millis) -> Told {
        let moment = self.moment(now);
        self.clock.told(known, moment)
    }

    /// What is wanted, or a claim.
    pub fn claim(&mut self, key: u8, token: Token, wanted: Wanted, now: Millis) -> Found<Frame<Held>> {
        let time = self.time(now);
        self.cell(key, now).claim(token, wanted, later(time, CLAIM_LIFE), time)
    }

    /// What is fresh.
    pub fn read(&mut self, key: u8, now: Millis) -> Option<Frame<Held>> {
        let time = self.time(now);
        self.cell(key, now).fresh(None, time).copied()
    }

    /// Takes a claim away.
    pub fn release(&mut self, key: u8, token: Token, now: Millis) {
        self.cell(key, now).release(token);
    }

    /// Writes what was loaded under a claim if that is still there; or, while a test breaks the rule, in any case.
    pub fn fill(
        &mut self,
        key: u8,
        (claim, newer_than): (Option<Token>, Option<Version>),
        value: Option<Held>,
        now: Millis,
    ) -> Filled<Frame<Held>> {
        let (time, frame) = (self.time(now), self.frame(key, value, now));
        let cell = self.cell(key, now);
        match claim {
            Some(token) => cell.fill(Under::Claim(token), newer_than, frame, time),
            None => Filled::Written(cell.put(frame)),
        }
    }

    /// Writes, whatever is there.
    pub fn write(&mut self, key: u8, what: What<u32>, now: Millis) -> Version {
        let (time, frame) = (self.time(now), self.frame(key, None, now));
        match what {
            What::Value(value) => {
                let value = Some(Held { value, stamp: frame.version.0 });
                self.cell(key, now).put(Frame { value, ..frame })
            }
            What::Tombstone => self.cell(key, now).bury(frame.version, later(time, TOMBSTONE_LIFE)),
        }
    }

    /// Moves registers; when that was.
    pub fn moved(&mut self, names: &[Name], how: How, now: Millis) -> u64 {
        let moment = self.moment(now);
        self.clock.moved(names, how, moment)
    }

    /// Later than what was written last, and than all the clock gave.
    fn frame(&mut self, key: u8, value: Option<Held>, now: Millis) -> Frame<Held> {
        let last = self.cell(key, now).last().map_or(0, |Version(last)| last);
        let moment = self.moment(now).max(last + 1);
        let version = Version(self.clock.next(moment));
        let fresh_until = self.time(now) + TTL;
        Frame { version, value, fresh_until, expires: fresh_until + GRACE }
    }

    /// How long a frame is still fresh.
    pub fn left(&self, frame: &Frame<Held>, now: Millis) -> Millis {
        frame.fresh_until.saturating_sub(self.time(now)).min(TTL)
    }

    /// It needed the room, or somebody else wrote something that is no frame.
    pub fn evict(&mut self, key: u8) {
        self.cells.remove(&key);
    }

    /// It lost everything.
    pub fn flush(&mut self) {
        self.cells.clear();
        self.clock = Clock::default();
    }
}
