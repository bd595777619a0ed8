//! Least frequently used, with dynamic ageing (LFU-DA: Arlitt et al., "Evaluating content management techniques for web
//! proxy caches", 2000).
//!
//! An entry's priority is its frequency plus the priority of the last entry that left: who was popular long ago is
//! overtaken by who is used now, without any sweep over counters. Frequencies end at 15, so all priorities lie within 16
//! of that age, and a ring of 32 lists holds them in O(1). Among equals the least recently used leaves.

use super::{Arrival, Choice, HashOf, Mark, Order, Ranked, upward};
use crate::core::memory::Nodes;
use crate::core::memory::lists::{Lists, NIL, RECENCY};

const RING: u32 = 32;

/// See the module.
#[derive(Debug)]
pub struct Lfu {
    /// By priority, modulo the ring.
    lists: Lists<RECENCY>,
    /// The priority of the last entry that left; nobody's is lower.
    age: u32,
}

impl Default for Lfu {
    fn default() -> Self {
        Lfu { lists: Lists::new(RING), age: 0 }
    }
}

impl Lfu {
    /// Files an unlinked entry under its frequency.
    fn file(&mut self, nodes: &mut Nodes, id: u32, frequency: u8) {
        nodes.set_mark(id, Mark::new(0, frequency, 0));
        self.lists.push_front(nodes, (self.age + u32::from(frequency)) % RING, id);
    }

    fn lists_upward(&self) -> impl Iterator<Item = u32> + use<> {
        let age = self.age;
        (0..RING).map(move |step| (age + step) % RING)
    }
}

impl Order for Lfu {
    fn insert(&mut self, nodes: &mut Nodes, id: u32, _new: Arrival) {
        self.file(nodes, id, 1);
    }

    fn hit(&mut self, nodes: &mut Nodes, id: u32, _: HashOf<'_>) {
        let frequency = (nodes.mark(id).frequency() + 1).min(Mark::MOST);
        self.lists.remove(nodes, id);
        self.file(nodes, id, frequency);
    }

    fn remove(&mut self, nodes: &mut Nodes, id: u32) {
        self.lists.remove(nodes, id);
    }

    fn choose(&mut self, _: &mut Nodes, _: &Arrival, _: &dyn Fn(&Nodes, u32) -> bool) -> Option<Choice> {
        let list = self.lists_upward().find(|&list| self.lists.first(list) != NIL)?;
        self.age += (list + RING - self.age % RING) % RING;
        Some(Choice::Evict(self.lists.last(list)))
    }

    fn ids(&self, nodes: &Nodes) -> Vec<u32> {
        self.lists_upward().flat_map(|list| upward(&self.lists, nodes, list)).collect()
    }
}
