//! Soonest to expire first; what never expires leaves last, the oldest of it first. A binary heap, so an operation
//! touches a logarithm of the entries, 20 of a million, and growing moves none.

use super::{Arrival, Choice, HashOf, Load, Order, validate_count};
use crate::core::clock::Millis;
use crate::core::memory::worth::Worth;
use crate::core::memory::{Chunks, Nodes};

/// See the module.
#[derive(Debug, Default)]
pub struct Soonest {
    /// Each entry is due no later than the two at twice its place and one and two more.
    heap: Chunks<Due>,
    /// Where an entry is in the heap, by slot.
    places: Chunks<u32>,
    arrivals: u64,
}

/// Ordered by deadline, then by arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    deadline: Millis,
    arrival: u64,
    id: u32,
}

impl Soonest {
    fn put(&mut self, at: u32, due: Due) {
        self.heap[at] = due;
        self.places[due.id] = at;
    }

    fn sift_up(&mut self, mut at: u32) -> u32 {
        let due = self.heap[at];
        while at > 0 && due < self.heap[(at - 1) / 2] {
            self.put(at, self.heap[(at - 1) / 2]);
            at = (at - 1) / 2;
        }
        self.put(at, due);
        at
    }

    fn sift_down(&mut self, mut at: u32) {
        let due = self.heap[at];
        loop {
            let below = 2 * at + 1..(2 * at + 3).min(self.heap.len());
            let Some(least) = below.min_by_key(|&child| self.heap[child]) else { break };
            if due < self.heap[least] {
                break;
            }
            self.put(at, self.heap[least]);
            at = least;
        }
        self.put(at, due);
    }
}

impl Order for Soonest {
    fn insert(&mut self, _nodes: &mut Nodes, id: u32, new: Arrival) {
        // Slots are new one by one.
        while self.places.len() <= id {
            self.places.push(u32::MAX);
        }
        self.arrivals += 1;
        self.heap.push(Due { deadline: new.deadline, arrival: self.arrivals, id });
        self.sift_up(self.heap.len() - 1);
    }

    fn hit(&mut self, _nodes: &mut Nodes, _id: u32, _: HashOf<'_>) {}

    fn remove(&mut self, _nodes: &mut Nodes, id: u32) {
        let at = self.places[id];
        let Some(last) = self.heap.pop() else { return };
        if at < self.heap.len() {
            self.heap[at] = last;
            let at = self.sift_up(at);
            self.sift_down(at);
        }
    }

    fn choose(&mut self, _: &mut Nodes, _: &Arrival, _: &dyn Fn(&Nodes, u32) -> bool) -> Option<Choice> {
        (self.heap.len() > 0).then(|| Choice::Evict(self.heap[0].id))
    }

    fn changed(&mut self, _nodes: &mut Nodes, id: u32, deadline: Millis, _worth: Worth) {
        let at = self.places[id];
        self.heap[at].deadline = deadline;
        let at = self.sift_up(at);
        self.sift_down(at);
    }

    fn allocated(&self) -> usize {
        self.heap.allocated() + self.places.allocated()
    }

    fn validate(&self, nodes: &Nodes, load: Load) -> Result<(), String> {
        let sorted = (1..self.heap.len()).all(|at| self.heap[(at - 1) / 2] < self.heap[at]);
        if sorted { validate_count(self.ids(nodes).len(), load) } else { Err("the heap is out of order".into()) }
    }

    fn ids(&self, _nodes: &Nodes) -> Vec<u32> {
        let mut sorted: Vec<Due> = (0..self.heap.len()).map(|at| self.heap[at]).collect();
        sorted.sort_unstable();
        sorted.iter().map(|due| due.id).collect()
    }
}
