//! Soonest to expire first; what never expires leaves last, the oldest of it first. A binary heap, so an operation
//! touches a logarithm of the entries: 20 of a million.

use super::{Arrival, Choice, Load, Order, validate_count};
use crate::core::clock::Millis;
use crate::core::memory::Nodes;
use crate::core::memory::worth::Worth;

/// See the module.
#[derive(Debug, Default)]
pub struct Soonest {
    /// Each entry is due no later than the two at twice its place and one and two more.
    heap: Vec<Due>,
    /// Where an entry is in the heap, by slot.
    places: Vec<u32>,
    arrivals: u64,
}

/// Ordered by deadline, then by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    deadline: Millis,
    arrival: u64,
    id: u32,
}

impl Soonest {
    fn put(&mut self, at: usize, due: Due) {
        self.heap[at] = due;
        self.places[due.id as usize] = at as u32;
    }

    fn sift_up(&mut self, mut at: usize) -> usize {
        let due = self.heap[at];
        while at > 0 && due < self.heap[(at - 1) / 2] {
            self.put(at, self.heap[(at - 1) / 2]);
            at = (at - 1) / 2;
        }
        self.put(at, due);
        at
    }

    fn sift_down(&mut self, mut at: usize) {
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
        if self.places.len() <= id as usize {
            self.places.resize(id as usize + 1, u32::MAX);
        }
        self.arrivals += 1;
        self.heap.push(Due { deadline: new.deadline, arrival: self.arrivals, id });
        self.sift_up(self.heap.len() - 1);
    }

    fn hit(&mut self, _nodes: &mut Nodes, _id: u32, _hash: u64) {}

    fn remove(&mut self, _nodes: &mut Nodes, id: u32) {
        let at = self.places[id as usize] as usize;
        self.heap.swap_remove(at);
        if at < self.heap.len() {
            let at = self.sift_up(at);
            self.sift_down(at);
        }
    }

    fn choose(&mut self, _: &mut Nodes, _: &Arrival, _: &dyn Fn(&Nodes, u32) -> bool) -> Option<Choice> {
        self.heap.first().map(|due| Choice::Evict(due.id))
    }

    fn changed(&mut self, _nodes: &mut Nodes, id: u32, deadline: Millis, _worth: Worth) {
        let at = self.places[id as usize] as usize;
        self.heap[at].deadline = deadline;
        let at = self.sift_up(at);
        self.sift_down(at);
    }

    fn allocated(&self) -> usize {
        self.heap.capacity() * size_of::<Due>() + self.places.capacity() * 4
    }

    fn validate(&self, nodes: &Nodes, load: Load) -> Result<(), String> {
        let sorted = (1..self.heap.len()).all(|at| self.heap[(at - 1) / 2] < self.heap[at]);
        if sorted { validate_count(self.ids(nodes).len(), load) } else { Err("the heap is out of order".into()) }
    }

    fn ids(&self, _nodes: &Nodes) -> Vec<u32> {
        let mut sorted = self.heap.clone();
        sorted.sort_unstable();
        sorted.iter().map(|due| due.id).collect()
    }
}
