//! Which entries need a second thought before they are served: those that something may have happened to of which the table knows
//! nothing. What that is, and what becomes of them, others decide.
//!
//! Two words of warning, for two who give them. An [`Alert`] is for all entries at once, and comes from another thread. A turn is for
//! the entries that are watched: each is looked at once a turn, and a table in which nothing is watched has nothing allocated here.

use super::chunks::Chunks;
use crate::core::clock::{Millis, NEVER};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

/// Until when hits need no second thought, whatever their entries say: the end of time, unless somebody has a say in that.
#[derive(Debug)]
pub struct Alert(AtomicU64);

impl Default for Alert {
    fn default() -> Self {
        Alert(AtomicU64::new(NEVER))
    }
}

impl Alert {
    /// Until when.
    #[inline(always)]
    pub fn limit(&self) -> Millis {
        self.0.load(Acquire)
    }

    /// There is something to be heard before anything else is answered.
    pub fn ring(&self) {
        self.0.store(0, Release);
    }

    /// It is going to be heard: to be said before it is.
    pub fn set(&self, until: Millis) {
        self.0.store(until, Release);
    }

    /// Nothing is left to be heard of before that moment; unless there is something just now.
    pub fn extend(&self, until: Millis) {
        let longer = |limit: Millis| (limit != 0 && limit < until).then_some(until);
        // It is as long already, or has rung.
        let _ = self.0.fetch_update(AcqRel, Acquire, longer);
    }
}

/// A number that grows each time there is something to look at.
pub type Turn = u32;

/// The turn before the first.
pub const NO_TURN: Turn = 1;

/// See the module.
#[derive(Debug)]
pub(super) struct Doubts {
    turn: Turn,
    /// By slot: the turn in which it was looked at last; 0 where nothing is watched.
    seen: Chunks<Turn>,
}

impl Default for Doubts {
    fn default() -> Self {
        Doubts { turn: NO_TURN + 1, seen: Chunks::default() }
    }
}

impl Doubts {
    /// The present turn.
    pub fn turn(&self) -> Turn {
        self.turn
    }

    /// All that is watched is to be looked at.
    pub fn next(&mut self) -> Turn {
        self.turn += 1;
        self.turn
    }

    /// True if something is watched, or was.
    #[inline]
    pub fn any(&self) -> bool {
        self.seen.len() > 0
    }

    /// When a slot was looked at last; `None` if it is not watched.
    #[inline]
    pub fn seen(&self, id: u32) -> Option<Turn> {
        if id < self.seen.len() { Some(self.seen[id]).filter(|&turn| turn > 0) } else { None }
    }

    /// True if a slot is to be looked at.
    #[inline]
    pub fn concern(&self, id: u32) -> bool {
        self.seen(id).is_some_and(|turn| turn != self.turn)
    }

    /// Watches a slot that was looked at in that turn.
    pub fn watch(&mut self, id: u32, seen: Turn) {
        while self.seen.len() <= id {
            self.seen.push(0);
        }
        self.seen[id] = seen;
    }

    /// Another entry is in a slot.
    #[inline]
    pub fn forget(&mut self, id: u32) {
        if id < self.seen.len() {
            self.seen[id] = 0;
        }
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        self.seen.allocated()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_rings_is_heard_before_trust_is_extended() {
        let alert = Alert::default();
        assert_eq!(alert.limit(), NEVER);
        alert.set(100);
        alert.extend(50);
        assert_eq!(alert.limit(), 100);
        alert.extend(200);
        assert_eq!(alert.limit(), 200);
        alert.ring();
        alert.extend(300);
        assert_eq!(alert.limit(), 0, "there is something to be heard");
        alert.set(300);
        assert_eq!(alert.limit(), 300);
    }

    #[test]
    fn what_is_watched_is_looked_at_once_a_turn_and_what_is_not_never() {
        let mut doubts = Doubts::default();
        assert!(!doubts.any() && !doubts.concern(7));
        doubts.watch(7, doubts.turn());
        assert!(doubts.any() && !doubts.concern(7) && !doubts.concern(3) && !doubts.concern(700));
        doubts.next();
        assert!(doubts.concern(7) && !doubts.concern(3));
        doubts.watch(7, doubts.turn());
        assert!(!doubts.concern(7));
        doubts.watch(7, NO_TURN);
        assert!(doubts.concern(7), "it was looked at before the first turn");
        doubts.forget(7);
        doubts.next();
        assert!(!doubts.concern(7), "another entry is there");
    }
}
