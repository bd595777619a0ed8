//! S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP '23): a small queue that newcomers pass
//! through, a main queue for those used twice on the way, and ghosts of those that were not, who go to main at once.
//!
//! A hit counts to three and moves nothing. An eviction moves at most [`STEPS`] entries on; then the next one leaves
//! whatever it has earned.

use super::{Arrival, Capacity, Choice, HashOf, Load, Mark, Order, Ranked, upward, validate_count};
use crate::core::memory::chunks::Chunks;
use crate::core::memory::index::Index;
use crate::core::memory::lists::{Linked, Links, Lists, NIL, RECENCY};
use crate::core::memory::{Nodes, Worth};

const SMALL: u8 = 0;
const MAIN: u8 = 1;
/// Used so often in the small queue, an entry goes to main.
const TWICE: u8 = 2;
const THRICE: u8 = 3;
const STEPS: u32 = 48;
/// The ghosts' two lists.
const QUEUE: u32 = 0;
const UNUSED: u32 = 1;

/// See the module.
#[derive(Debug)]
pub struct S3Fifo {
    lists: Lists<RECENCY>,
    loads: [Load; 2],
    bound: Capacity,
    ghosts: GhostQueue,
    /// Until the first eviction newcomers that find the small queue full go to main.
    full: bool,
    /// The arrival that room is being made for, if it is a ghost: it gives its place to who leaves.
    expected: Option<u64>,
}

impl S3Fifo {
    /// Empty.
    pub fn new(bound: Capacity) -> Self {
        let ghosts = GhostQueue::new(bound.share(0.9).entries);
        S3Fifo { lists: Lists::new(2), loads: [Load::default(); 2], bound, ghosts, full: false, expected: None }
    }

    fn link(&mut self, nodes: &mut Nodes, id: u32, queue: u8, uses: u8) {
        nodes.set_mark(id, Mark::new(queue, uses, 0));
        self.lists.push_front(nodes, u32::from(queue), id);
        self.loads[usize::from(queue)].add(nodes.worth(id));
    }

    fn unlink(&mut self, nodes: &mut Nodes, id: u32) -> Mark {
        let mark = nodes.mark(id);
        self.lists.remove(nodes, id);
        self.loads[usize::from(mark.segment())].sub(nodes.worth(id));
        mark
    }

    fn main_is_over(&self) -> bool {
        let (small, bound) = (self.bound.share(0.1), self.bound);
        let main = &self.loads[usize::from(MAIN)];
        main.entries > bound.entries - small.entries.min(bound.entries)
            || (bound.weight != u64::MAX && main.weight > bound.weight - small.weight)
    }
}

impl Order for S3Fifo {
    fn insert(&mut self, nodes: &mut Nodes, id: u32, new: Arrival) {
        let small = &self.loads[usize::from(SMALL)];
        let is_ghost = self.expected.take() == Some(new.hash) || self.ghosts.take(new.hash);
        let queue = if is_ghost || (!self.full && !small.leaves_room(self.bound.share(0.1), 0)) { MAIN } else { SMALL };
        self.link(nodes, id, queue, 0);
    }

    fn hit(&mut self, nodes: &mut Nodes, id: u32, _: HashOf<'_>) {
        let mark = nodes.mark(id);
        nodes.set_mark(id, Mark::new(mark.segment(), (mark.frequency() + 1).min(THRICE), 0));
    }

    fn remove(&mut self, nodes: &mut Nodes, id: u32) {
        self.unlink(nodes, id);
    }

    fn choose(&mut self, nodes: &mut Nodes, new: &Arrival, _: &dyn Fn(&Nodes, u32) -> bool) -> Option<Choice> {
        self.full = true;
        if self.ghosts.take(new.hash) {
            self.expected = Some(new.hash);
        }
        let mut from_main = self.main_is_over();
        for step in 0.. {
            let small = self.lists.last(u32::from(SMALL));
            from_main |= small == NIL;
            let id = if from_main { self.lists.last(u32::from(MAIN)) } else { small };
            if id == NIL {
                break;
            }
            let uses = nodes.mark(id).frequency();
            let earned = if from_main { uses > 0 } else { uses >= TWICE };
            if !earned || step >= STEPS {
                return Some(Choice::Evict(id));
            }
            self.unlink(nodes, id);
            self.link(nodes, id, MAIN, if from_main { uses - 1 } else { 0 });
        }
        None
    }

    fn evicted(&mut self, nodes: &mut Nodes, id: u32, hash: u64) {
        if self.unlink(nodes, id).segment() == SMALL {
            self.ghosts.put(hash);
        }
    }

    fn changed(&mut self, nodes: &mut Nodes, id: u32, _: crate::core::clock::Millis, worth: Worth) {
        let load = &mut self.loads[usize::from(nodes.mark(id).segment())];
        load.sub(nodes.worth(id));
        load.add(worth);
    }

    fn resized(&mut self, bound: Capacity) {
        self.bound = bound;
        self.ghosts.most = bound.share(0.9).entries;
    }

    fn allocated(&self) -> usize {
        self.ghosts.ghosts.0.allocated() + self.ghosts.places.allocated()
    }

    fn validate(&self, nodes: &Nodes, load: Load) -> Result<(), String> {
        let weight = self.loads[0].weight + self.loads[1].weight;
        if weight != load.weight {
            return Err(format!("weight {weight} in the queues, {} in the region", load.weight));
        }
        validate_count(self.ids(nodes).len(), load)
    }

    fn ids(&self, nodes: &Nodes) -> Vec<u32> {
        [SMALL, MAIN].into_iter().flat_map(|queue| upward(&self.lists, nodes, u32::from(queue))).collect()
    }
}

/// Exactly the last so many hashes that were put and not taken.
#[derive(Debug)]
struct GhostQueue {
    ghosts: Ghosts,
    /// The newest first; and the places that can be used again.
    lists: Lists<RECENCY>,
    places: Index,
    live: u32,
    most: u32,
}

#[derive(Debug, Default)]
struct Ghosts(Chunks<Ghost>);

/// 16 bytes.
#[derive(Debug, Default)]
struct Ghost {
    links: Links,
    hash: u64,
}

impl Linked<RECENCY> for Ghosts {
    fn links(&self, id: u32) -> &Links {
        &self.0[id].links
    }

    fn links_mut(&mut self, id: u32) -> &mut Links {
        &mut self.0[id].links
    }
}

impl GhostQueue {
    fn new(most: u32) -> Self {
        GhostQueue { ghosts: Ghosts::default(), lists: Lists::new(2), places: Index::default(), live: 0, most }
    }

    /// Remembers one, and forgets the oldest beyond the bound: after a change of bound so many at a time.
    fn put(&mut self, hash: u64) {
        for _ in 0..STEPS {
            if self.live < self.most.max(1) {
                break;
            }
            self.forget(self.lists.last(QUEUE));
        }
        let place = match self.lists.first(UNUSED) {
            NIL => self.ghosts.0.push(Ghost::default()),
            place => place,
        };
        self.lists.remove(&mut self.ghosts, place);
        self.lists.push_front(&mut self.ghosts, QUEUE, place);
        self.ghosts.0[place].hash = hash;
        let ghosts = &self.ghosts.0;
        self.places.insert(hash, place, |other| ghosts[other].hash);
        self.live += 1;
    }

    fn forget(&mut self, place: u32) {
        self.places.remove(self.ghosts.0[place].hash, place);
        self.lists.remove(&mut self.ghosts, place);
        self.lists.push_front(&mut self.ghosts, UNUSED, place);
        self.live -= 1;
    }

    fn take(&mut self, hash: u64) -> bool {
        let ghosts = &self.ghosts.0;
        let found = self.places.find(hash, |place| ghosts[place].hash == hash);
        found.inspect(|&place| self.forget(place)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ghost_queue_holds_the_last_ones_that_were_not_taken() {
        let mut ghosts = GhostQueue::new(3);
        for n in 1..=5_u64 {
            ghosts.put(n << 8);
        }
        assert!(ghosts.take(4 << 8) && !ghosts.take(4 << 8));
        ghosts.put(6 << 8);
        assert_eq!((1..=6).filter(|n| ghosts.take(n << 8)).collect::<Vec<u64>>(), [3, 5, 6]);
        for n in 1..=1_000_u64 {
            ghosts.put(n << 8);
            assert!(n % 2 == 0 || ghosts.take(n << 8));
        }
        assert_eq!((1..=1_000).filter(|n| ghosts.take(n << 8)).collect::<Vec<u64>>(), [996, 998, 1_000]);
    }

    #[test]
    fn the_ghost_queue_keeps_its_order_when_its_bound_grows_and_shrinks_in_steps() {
        let mut ghosts = GhostQueue::new(20);
        (1..=100_u64).for_each(|n| ghosts.put(n));
        ghosts.most = 3_000;
        (101..=3_100_u64).for_each(|n| ghosts.put(n));
        assert_eq!(ghosts.live, 3_000);
        ghosts.most = 10;
        ghosts.put(3_101);
        assert_eq!(ghosts.live, 3_000 - STEPS + 1);
        (3_102..=3_200_u64).for_each(|n| ghosts.put(n));
        assert_eq!(
            (1..=3_200).filter(|&n| ghosts.take(n)).collect::<Vec<u64>>(),
            (3_191..=3_200).collect::<Vec<u64>>()
        );
    }
}
