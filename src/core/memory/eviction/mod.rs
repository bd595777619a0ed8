//! Which entry leaves when there is no room. A policy orders slot numbers; it never holds keys or values.
//!
//! One file a policy. The table calls it under its lock, so every method is O(1) and runs no foreign code.

pub mod lru;

use super::Nodes;

/// An eviction order over slot numbers.
pub trait Eviction {
    /// A new entry, the newest of all.
    fn insert(&mut self, nodes: &mut Nodes, id: u32, hash: u64);
    /// The entry that was to be dropped has become another, the newest of all.
    fn renew(&mut self, nodes: &mut Nodes, id: u32, hash: u64) {
        self.remove(nodes, id);
        self.insert(nodes, id, hash);
    }
    /// An entry was read.
    fn hit(&mut self, nodes: &mut Nodes, id: u32);
    /// An entry leaves, for whatever reason.
    fn remove(&mut self, nodes: &mut Nodes, id: u32);
    /// The entry to drop next.
    fn victim(&self) -> Option<u32>;
}
