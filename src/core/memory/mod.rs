//! The memory tier: a table of entries, a table of aliases, and the flights of keys that are being loaded.
//!
//! One lock, the owner's, guards all three, so "is it there, is it coming, or do I fetch it" is one question. The lock is
//! never held while foreign code runs: keys are compared by a closure the caller vouches for, and what leaves the tables
//! goes into a [`Discard`] that the caller drops after unlocking.

pub mod chunks;
pub mod eviction;
mod groups;
mod index;
pub mod lists;
mod nodes;
mod table;
#[cfg(test)]
mod tests;
mod uses;
mod wheel;
mod worth;

pub use chunks::Chunks;
pub use eviction::{Capacity, Eviction, Insight, Steering};
pub use groups::{GroupId, RegionId};
pub use index::SEGMENT;
pub use nodes::{Nodes, Stamp};
pub use table::{Discard, Found, Left, New, Reason, Table, Work};
pub use worth::Worth;

use super::clock::{Millis, NEVER};
use super::flight::{Fill, Flights};

/// A slot number together with the stamp it had: a weak pointer to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The slot.
    pub id: u32,
    /// Its stamp when the pointer was made.
    pub stamp: Stamp,
}

/// What a store of a value needs to know beside key and value.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// The group the entry belongs to.
    pub group: GroupId,
    /// Until when, and what the owner notes.
    pub terms: Terms,
    /// What it is worth keeping for.
    pub worth: Worth,
}

impl Placement {
    /// In a group, served until `deadline`; `tag` is twenty bits of the owner's, kept beside the value.
    #[inline]
    pub fn new(group: GroupId, deadline: Millis, tag: u32) -> Self {
        Placement { group, terms: Terms::new(deadline, tag), worth: Worth::default() }
    }

    /// Worth so much.
    #[inline]
    pub fn worth(self, worth: Worth) -> Self {
        Placement { worth, ..self }
    }
}

/// When an entry stops being served (44 bits), and the owner's tag (20 bits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms(u64);

impl Terms {
    const TAG: u64 = (1 << 20) - 1;

    #[inline]
    fn new(deadline: Millis, tag: u32) -> Self {
        Terms(deadline.min(NEVER) << 20 | (u64::from(tag) & Self::TAG))
    }

    /// When the entry stops being served.
    #[inline]
    pub fn deadline(self) -> Millis {
        self.0 >> 20
    }

    /// The owner's tag.
    #[inline]
    pub fn tag(self) -> u32 {
        (self.0 & Self::TAG) as u32
    }
}

/// Spreads a hash and folds a space's salt into it. A bijection of `hash ^ salt`: two equal keys whose results are equal
/// have equal salts, so keys of different spaces never meet though they share one table.
#[inline]
pub fn mix(hash: u64, salt: u64) -> u64 {
    let x = (hash ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^ (x >> 32)
}

/// All of one cache that lives in this process, under one lock. `W` is what the driver of the flights wakes.
#[derive(Debug)]
pub struct Memory<K, V, W> {
    /// The entries, by canonical key or by call.
    pub entries: Table<K, V>,
    /// Call arguments that lead to an entry with a canonical key.
    pub aliases: Table<K, Target>,
    /// The loads that are under way.
    pub flights: Flights<K, W>,
}

impl<K, V, W> Memory<K, V, W> {
    /// A tier bounded so, where `eviction` chooses who leaves; and as many aliases, the least recently used leaving.
    pub fn new(bound: Capacity, eviction: Eviction) -> Self {
        let aliases = Table::new(Capacity::entries(bound.entries), Eviction::Lru);
        Memory { entries: Table::new(bound, eviction), aliases, flights: Flights::default() }
    }

    /// Stores what a flight has loaded. True if something of the same key was there.
    pub fn fill(
        &mut self,
        fill: Fill<K>,
        value: V,
        placement: Placement,
        now: Millis,
        out: &mut Discard<K, V>,
    ) -> bool {
        let Fill { hash, key, group, seen, began: _ } = fill;
        if !self.entries.is_alive(group) {
            out.keep(key, value);
            return false;
        }
        match seen.and_then(|seen| self.entries.resolve(seen)) {
            Some(id) => {
                self.entries.replace(id, Some(key), value, placement, now, out);
                true
            }
            None => {
                self.entries.insert(New { hash, key, value, placement }, now, out);
                false
            }
        }
    }
}
