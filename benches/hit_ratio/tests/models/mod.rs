//! LRU, FIFO and S3-FIFO once more, slow and plain, to hold the fast ones against. They share no code with Samovar.
//!
//! S3-FIFO has the parameters and the habits of the reference figures (`data/README.md`): small queue 10 %, ghost 90 %,
//! to main after two hits; until the first eviction a full small queue passes new entries on to main.

use hit_ratio::replay::Candidate;
use std::collections::{BTreeMap, HashMap};

/// Keys in order, each with a count.
#[derive(Default)]
struct Queue {
    clock: u64,
    order: BTreeMap<u64, u32>,
    entries: HashMap<u32, (u64, u32)>,
}

impl Queue {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn push(&mut self, key: u32, count: u32) {
        self.clock += 1;
        self.order.insert(self.clock, key);
        assert!(self.entries.insert(key, (self.clock, count)).is_none(), "key {key} is there already");
    }

    fn pop(&mut self) -> Option<(u32, u32)> {
        let (_, key) = self.order.pop_first()?;
        self.entries.remove(&key).map(|(_, count)| (key, count))
    }

    fn remove(&mut self, key: u32) -> bool {
        let found = self.entries.remove(&key);
        found.is_some_and(|(place, _)| self.order.remove(&place).is_some())
    }

    fn count(&mut self, key: u32) -> bool {
        self.entries.get_mut(&key).map(|(_, count)| *count += 1).is_some()
    }
}

/// The least recently used leaves.
pub struct Lru {
    capacity: usize,
    queue: Queue,
}

/// The oldest leaves.
pub struct Fifo {
    capacity: usize,
    queue: Queue,
}

impl Lru {
    pub fn new(capacity: usize) -> Self {
        Lru { capacity, queue: Queue::default() }
    }
}

impl Candidate for Lru {
    fn get(&mut self, key: u32) -> bool {
        let found = self.queue.remove(key);
        if found {
            self.queue.push(key, 0);
        }
        found
    }

    fn insert(&mut self, key: u32, _: u32) {
        if self.queue.len() == self.capacity {
            self.queue.pop();
        }
        self.queue.push(key, 0);
    }
}

impl Fifo {
    pub fn new(capacity: usize) -> Self {
        Fifo { capacity, queue: Queue::default() }
    }
}

impl Candidate for Fifo {
    fn get(&mut self, key: u32) -> bool {
        self.queue.count(key)
    }

    fn insert(&mut self, key: u32, _: u32) {
        if self.queue.len() == self.capacity {
            self.queue.pop();
        }
        self.queue.push(key, 0);
    }
}

/// Three queues: new entries, entries that proved themselves, and the keys of those that did not.
pub struct S3Fifo {
    capacity: usize,
    small_size: usize,
    ghost_size: usize,
    small: Queue,
    main: Queue,
    ghost: Queue,
    has_evicted: bool,
}

/// Hits in the small queue that lead to main.
const TO_MAIN: u32 = 2;
/// Further hits in main are not remembered.
const MOST_HITS: u32 = 3;

impl S3Fifo {
    pub fn new(capacity: usize) -> Self {
        S3Fifo {
            capacity,
            small_size: (capacity as f64 * 0.1) as usize,
            ghost_size: (capacity as f64 * 0.9) as usize,
            small: Queue::default(),
            main: Queue::default(),
            ghost: Queue::default(),
            has_evicted: false,
        }
    }

    fn evict(&mut self) {
        self.has_evicted = true;
        if self.main.len() > self.capacity - self.small_size || self.small.len() == 0 {
            self.evict_from_main();
        } else {
            self.evict_from_small();
        }
    }

    /// Entries with hits go around again with a hit less, until one without leaves for good.
    fn evict_from_main(&mut self) {
        while let Some((key, hits)) = self.main.pop() {
            match hits.min(MOST_HITS) {
                0 => return,
                hits => self.main.push(key, hits - 1),
            }
        }
    }

    /// Entries with enough hits move to main and begin at none, until one without leaves its key to the ghosts.
    fn evict_from_small(&mut self) {
        while let Some((key, hits)) = self.small.pop() {
            if hits < TO_MAIN {
                if self.ghost.len() == self.ghost_size {
                    self.ghost.pop();
                }
                self.ghost.push(key, 0);
                return;
            }
            self.main.push(key, 0);
        }
    }
}

impl Candidate for S3Fifo {
    fn get(&mut self, key: u32) -> bool {
        self.small.count(key) || self.main.count(key)
    }

    /// A ghost is taken away before the eviction, which therefore has its place.
    fn insert(&mut self, key: u32, _: u32) {
        let was_here = self.ghost.remove(key);
        while self.small.len() + self.main.len() >= self.capacity {
            self.evict();
        }
        if was_here || (!self.has_evicted && self.small.len() >= self.small_size) {
            self.main.push(key, 0);
        } else {
            self.small.push(key, 0);
        }
    }
}
