//! When entries die: a hierarchical timing wheel (Varghese & Lauck, SOSP '87) over the table's own records.
//!
//! Five levels of 64 buckets, the finest 64 ms wide, reach two years; what lies further waits in the last bucket. Time
//! moves whole buckets to the due list in O(1) each, and the owner takes due entries a few at a time: no operation pays
//! for a million expiries. The wheel only frees memory; whether an entry may be served is decided by its deadline at
//! every read.

use super::Nodes;
use super::lists::{Lists, NIL, WHEEL};
use crate::core::clock::{Millis, NEVER};

const TICK_BITS: u32 = 6;
const BITS: u32 = 6;
const BUCKETS: u64 = 1 << BITS;
const LEVELS: u32 = 5;
const DUE: u32 = LEVELS * BUCKETS as u32;

/// See the module.
#[derive(Debug)]
pub struct Wheel {
    tick: u64,
    lists: Lists<WHEEL>,
}

impl Default for Wheel {
    fn default() -> Self {
        Wheel { tick: 0, lists: Lists::new(DUE + 1) }
    }
}

impl Wheel {
    /// Files an unlinked entry under its deadline; what never expires is not filed.
    #[inline]
    pub fn schedule(&mut self, nodes: &mut Nodes, id: u32, deadline: Millis) {
        if deadline < NEVER {
            let list = self.bucket(deadline >> TICK_BITS);
            self.lists.push_back(nodes, list, id);
        }
    }

    /// Takes an entry out, wherever it is filed.
    #[inline]
    pub fn cancel(&mut self, nodes: &mut Nodes, id: u32) {
        self.lists.remove(nodes, id);
    }

    fn bucket(&self, tick: u64) -> u32 {
        if tick < self.tick {
            return DUE;
        }
        let ahead = tick - self.tick;
        let level = (0..LEVELS).find(|level| ahead < 1 << (BITS * (level + 1)));
        let (level, tick) = match level {
            Some(level) => (level, tick),
            None => (LEVELS - 1, self.tick + (BUCKETS - 1) * (1 << (BITS * (LEVELS - 1)))),
        };
        level * BUCKETS as u32 + ((tick >> (BITS * level)) & (BUCKETS - 1)) as u32
    }

    /// True if time has moved on by a bucket, or something is due already.
    #[inline]
    pub fn has_work(&self, now: Millis) -> bool {
        now >> TICK_BITS > self.tick || self.lists.first(DUE) != NIL
    }

    /// Brings every bucket whose time has come to the due list. Touches buckets, never entries.
    #[inline]
    pub fn advance(&mut self, nodes: &mut Nodes, now: Millis) {
        let (old, new) = (self.tick, now >> TICK_BITS);
        if new > old {
            self.turn(nodes, old, new);
        }
    }

    fn turn(&mut self, nodes: &mut Nodes, old: u64, new: u64) {
        self.tick = new;
        for level in 0..LEVELS {
            let (from, to) = (old >> (BITS * level), new >> (BITS * level));
            if from == to {
                break;
            }
            // The finest bucket is due when time has left it, a coarser one when time enters it.
            let first = if level == 0 { from } else { from + 1 };
            for step in 0..(to - from).min(BUCKETS) {
                let bucket = level * BUCKETS as u32 + ((first + step) & (BUCKETS - 1)) as u32;
                self.lists.append(nodes, DUE, bucket);
            }
        }
    }

    /// The next entry to look at: expired, or to be scheduled again by its deadline. It is taken out of the wheel.
    pub fn pop_due(&mut self, nodes: &mut Nodes) -> Option<u32> {
        let id = self.lists.first(DUE);
        if id == NIL {
            return None;
        }
        self.lists.remove(nodes, id);
        Some(id)
    }

    /// When there may be something due: at once, at the end of the first occupied bucket, or never.
    pub fn next_due(&self) -> Option<Millis> {
        if self.lists.first(DUE) != NIL {
            return Some(0);
        }
        (0..LEVELS).find_map(|level| {
            let position = self.tick >> (BITS * level);
            let first = if level == 0 { position } else { position + 1 };
            let occupied = (first..first + BUCKETS)
                .find(|at| self.lists.first(level * BUCKETS as u32 + (at & (BUCKETS - 1)) as u32) != NIL)?;
            let turn = if level == 0 { occupied + 1 } else { occupied };
            Some((turn << (BITS * level)) << TICK_BITS)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs the wheel along `stops` and tells at which stop each deadline was reaped.
    fn reaped(deadlines: &[Millis], stops: &[Millis]) -> Vec<Option<Millis>> {
        let mut nodes = Nodes::default();
        let mut wheel = Wheel::default();
        for (id, &deadline) in deadlines.iter().enumerate() {
            nodes.push();
            wheel.schedule(&mut nodes, id as u32, deadline);
        }
        let mut out = vec![None; deadlines.len()];
        for &now in stops {
            wheel.advance(&mut nodes, now);
            while let Some(id) = wheel.pop_due(&mut nodes) {
                let deadline = deadlines[id as usize];
                if deadline <= now {
                    out[id as usize] = Some(now);
                } else {
                    wheel.schedule(&mut nodes, id, deadline);
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn nothing_is_reaped_early_and_nothing_later_than_two_ticks(
            deadlines in prop::collection::vec(prop_oneof![0..10_000_u64, 0..100_000_000_u64, 0..1_u64 << 40], 1..50),
            gaps in prop::collection::vec(prop_oneof![1..200_u64, 1..1_000_000_u64, 1..1_u64 << 36], 1..50),
        ) {
            let stops: Vec<u64> = gaps.iter().scan(0, |now, gap| { *now += gap; Some(*now) }).collect();
            let out = reaped(&deadlines, &stops);
            for (deadline, at) in deadlines.iter().zip(out) {
                let first_chance = stops.iter().find(|&&stop| stop >= deadline + 128);
                if let Some(at) = at { prop_assert!(at >= *deadline); }
                if let Some(&stop) = first_chance { prop_assert!(at.is_some_and(|at| at <= stop)); }
            }
        }
    }

    #[test]
    fn the_next_due_moment_is_never_later_than_the_first_deadline_and_two_ticks() {
        for deadline in [1, 63, 64, 4_000, 5_000, 300_000, 86_400_000, 40_000_000_000] {
            let mut nodes = Nodes::default();
            nodes.push();
            let mut wheel = Wheel::default();
            wheel.schedule(&mut nodes, 0, deadline);
            let due = wheel.next_due().unwrap();
            assert!(due <= deadline + 128, "{due} for {deadline}");
        }
    }
}
