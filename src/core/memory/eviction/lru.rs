//! Least recently used, exact: a hit moves the entry to the front, the last one leaves.

use super::Eviction;
use crate::core::memory::Nodes;
use crate::core::memory::lists::{Lists, NIL, RECENCY};

/// See the module.
#[derive(Debug)]
pub struct Lru(Lists<RECENCY>);

impl Default for Lru {
    fn default() -> Self {
        Lru(Lists::new(1))
    }
}

impl Eviction for Lru {
    fn insert(&mut self, nodes: &mut Nodes, id: u32, _hash: u64) {
        self.0.push_front(nodes, 0, id);
    }

    #[inline]
    fn renew(&mut self, nodes: &mut Nodes, id: u32, _hash: u64) {
        self.hit(nodes, id);
    }

    #[inline]
    fn hit(&mut self, nodes: &mut Nodes, id: u32) {
        if self.0.first(0) != id {
            self.0.to_front(nodes, 0, id);
        }
    }

    fn remove(&mut self, nodes: &mut Nodes, id: u32) {
        self.0.remove(nodes, id);
    }

    fn victim(&self) -> Option<u32> {
        let last = self.0.last(0);
        (last != NIL).then_some(last)
    }
}
