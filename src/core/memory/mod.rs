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
mod table;
#[cfg(test)]
mod tests;
mod wheel;

pub use chunks::Chunks;
pub use groups::{GroupId, RegionId};
pub use index::SEGMENT;
pub use table::{Discard, Found, New, Reason, Table, Work};

use super::clock::Millis;
use super::flight::{Fill, Flights};
use lists::NIL;

/// Cold records of a table, by slot number.
pub type Nodes = Chunks<Node>;

/// The cold half of a slot, 36 bytes: its place in three lists, its group, and its identity.
#[derive(Clone, Debug)]
pub struct Node {
    links: [(u32, u32); 3],
    /// The group's slot: it is not used again as long as an entry is in it.
    group: u32,
    /// See [`Stamp`]; two halves, so that the record needs no padding.
    stamp: (u32, u32),
}

impl Default for Node {
    fn default() -> Self {
        Node { links: [(NIL, NIL); 3], group: 0, stamp: (0, 0) }
    }
}

/// What tells one use of a slot from the next: its creation time and 20 bits of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp(u64);

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
    /// When it stops being served.
    pub deadline: Millis,
    /// Twenty bits of the owner's; kept beside the value.
    pub tag: u32,
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
    /// A tier of at most `max_entries` entries, and as many aliases.
    pub fn new(max_entries: u32) -> Self {
        Memory { entries: Table::new(max_entries), aliases: Table::new(max_entries), flights: Flights::default() }
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
        let Fill { hash, key, group, seen } = fill;
        if !self.entries.is_alive(group) {
            out.keep(key, value);
            return false;
        }
        match seen.and_then(|seen| self.entries.resolve(seen)) {
            Some(id) => {
                self.entries.replace(id, value, placement, now, out);
                out.keep_key(key);
                true
            }
            None => {
                self.entries.insert(New { hash, key, value, placement }, now, out);
                false
            }
        }
    }
}
