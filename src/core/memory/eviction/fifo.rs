//! First in, first out: use changes nothing, the oldest leaves.

use super::{Arrival, Choice, HashOf, Order, upward};
use crate::core::memory::Nodes;
use crate::core::memory::lists::{Lists, NIL, RECENCY};

/// See the module.
#[derive(Debug)]
pub struct Fifo(Lists<RECENCY>);

impl Default for Fifo {
    fn default() -> Self {
        Fifo(Lists::new(1))
    }
}

impl Order for Fifo {
    fn insert(&mut self, nodes: &mut Nodes, id: u32, _new: Arrival) {
        self.0.push_front(nodes, 0, id);
    }

    fn hit(&mut self, _nodes: &mut Nodes, _id: u32, _: HashOf<'_>) {}

    fn remove(&mut self, nodes: &mut Nodes, id: u32) {
        self.0.remove(nodes, id);
    }

    fn choose(&mut self, _: &mut Nodes, _: &Arrival, _: &dyn Fn(&Nodes, u32) -> bool) -> Option<Choice> {
        let last = self.0.last(0);
        (last != NIL).then_some(Choice::Evict(last))
    }

    fn ids(&self, nodes: &Nodes) -> Vec<u32> {
        upward(&self.0, nodes, 0)
    }
}
