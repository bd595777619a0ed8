//! A miniature of a cache: what another setting or size would hit, tried on a sample of the keys (mini-simulation,
//! Waldspurger et al., USENIX ATC '17). It holds no keys and no values, 20 bytes an entry.

use super::segmented::{Segmented, Setting};
use super::{Arrival, Capacity, Choice, Load, Mark, Ranked};
use crate::core::clock::NEVER;
use crate::core::memory::lists::{Linked, Links, RECENCY};
use crate::core::memory::{Worth, mix};
use hashbrown::HashTable;

/// An insert evicts at most so many.
const STEPS: u32 = 16;

/// See the module.
#[derive(Debug)]
pub struct Shadow {
    parts: Segmented,
    bound: Capacity,
    records: Records,
    index: HashTable<u16>,
    free: Vec<u16>,
    hits: Load,
}

#[derive(Debug, Default)]
struct Records(Vec<Record>);

#[derive(Debug, Default)]
struct Record {
    links: Links,
    hash: u32,
    worth: Worth,
    mark: Mark,
}

impl Linked<RECENCY> for Records {
    fn links(&self, id: u32) -> &Links {
        &self.0[id as usize].links
    }

    fn links_mut(&mut self, id: u32) -> &mut Links {
        &mut self.0[id as usize].links
    }
}

impl Ranked for Records {
    fn count(&self) -> u32 {
        self.0.len() as u32
    }

    fn mark(&self, id: u32) -> Mark {
        self.0[id as usize].mark
    }

    fn set_mark(&mut self, id: u32, mark: Mark) {
        self.0[id as usize].mark = mark;
    }

    fn worth(&self, id: u32) -> Worth {
        self.0[id as usize].worth
    }
}

/// Its own spread of the bits that were not used for sampling.
fn spread(hash: u32) -> u64 {
    mix(u64::from(hash), 0x5AAD_0E5A)
}

impl Shadow {
    /// Empty.
    pub fn new(bound: Capacity, setting: Setting) -> Self {
        let (parts, records) = (Segmented::new(bound, setting), Records::default());
        Shadow { parts, bound, records, index: HashTable::new(), free: Vec::new(), hits: Load::default() }
    }

    /// Another setting; nothing leaves.
    pub fn set(&mut self, setting: Setting) {
        self.parts.set(setting);
    }

    /// Hits, and what they weighed, since they were taken last.
    pub fn hits(&self) -> Load {
        self.hits
    }

    /// The same, taken.
    pub fn take_hits(&mut self) -> Load {
        std::mem::take(&mut self.hits)
    }

    /// A key was asked for: a hit, or it is let in as after a miss.
    pub fn access(&mut self, hash: u32, worth: Worth) {
        let (spread, records) = (spread(hash), &self.records.0);
        if let Some(&id) = self.index.find(spread, |&id| records[usize::from(id)].hash == hash) {
            self.hits.add(worth);
            self.parts.hit(&mut self.records, u32::from(id));
            return;
        }
        let new = Arrival { hash: spread, deadline: NEVER, worth };
        if self.make_room(&new) {
            self.insert(hash, new);
        }
    }

    fn make_room(&mut self, new: &Arrival) -> bool {
        if new.worth.weight() > self.bound.weight {
            return false;
        }
        for _ in 0..STEPS {
            if self.parts.load().leaves_room(self.bound, new.worth.weight()) {
                return true;
            }
            match self.parts.choose(&mut self.records, new, &|_, _| true) {
                Some(Choice::Evict(id)) => self.evict(id),
                Some(Choice::Refuse) | None => return false,
            }
        }
        false
    }

    fn evict(&mut self, id: u32) {
        let hash = spread(self.records.0[id as usize].hash);
        self.parts.evicted(&mut self.records, id, hash);
        if let Ok(entry) = self.index.find_entry(hash, |&other| u32::from(other) == id) {
            entry.remove();
        }
        self.free.push(id as u16);
    }

    fn insert(&mut self, hash: u32, new: Arrival) {
        let record = Record { hash, worth: new.worth, ..Record::default() };
        let id = match self.free.pop() {
            Some(id) => {
                self.records.0[usize::from(id)] = record;
                id
            }
            None if self.records.0.len() > usize::from(u16::MAX) => return,
            None => {
                let records = &mut self.records.0;
                if records.len() == records.capacity() {
                    // Doubling would leave up to half of it unused.
                    records.reserve_exact(records.len() / 16 + 8);
                }
                records.push(record);
                (self.records.0.len() - 1) as u16
            }
        };
        let records = &self.records.0;
        self.index.insert_unique(new.hash, id, |&other| spread(records[usize::from(other)].hash));
        self.parts.insert(&mut self.records, u32::from(id), new);
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        let lists = self.records.0.capacity() * size_of::<Record>() + self.free.capacity() * 2;
        lists + self.index.allocation_size() + self.parts.allocated()
    }
}
