//! From a 64-bit hash to a slot number: extendible hashing over small hashbrown tables.
//!
//! A table that doubles as a whole would stop the world (113 ms at 917 504 entries). Here a directory points to segments
//! of at most 2^14 buckets; a full segment is split alone, so no insert ever moves more than [`SEGMENT`] numbers.
//! The directory uses hash bits 32 and up, hashbrown the low bits and the top seven: the three don't overlap.

use hashbrown::HashTable;

/// The most numbers one segment holds: 7/8 of 2^14 buckets.
pub const SEGMENT: usize = 14_336;
const DIRECTORY_SHIFT: u32 = 32;
/// 2^20 segments hold 10^10 entries; beyond, segments simply grow.
const MAX_DEPTH: u32 = 20;

/// See the module.
#[derive(Debug)]
pub struct Index {
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Segment>,
    /// The most numbers one insert has moved.
    moved_at_most: usize,
}

#[derive(Debug)]
struct Segment {
    table: HashTable<u32>,
    depth: u32,
}

impl Default for Index {
    fn default() -> Self {
        let first = Segment { table: HashTable::new(), depth: 0 };
        Index { directory: vec![0], depth: 0, segments: vec![first], moved_at_most: 0 }
    }
}

impl Index {
    #[inline(always)]
    fn segment(&self, hash: u64) -> usize {
        let at = (hash >> DIRECTORY_SHIFT) as usize & (self.directory.len() - 1);
        self.directory[at] as usize
    }

    /// The first number under `hash` that `is_it` accepts. `is_it` also sees numbers whose hash merely resembles it.
    #[inline(always)]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.segments[self.segment(hash)].table.find(hash, |&id| is_it(id)).copied()
    }

    /// All numbers whose hash may be `hash`.
    pub fn similar(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        self.segments[self.segment(hash)].table.iter_hash(hash).copied()
    }

    /// Adds a number that is not in the index. `hash_of` gives the hash of any number held.
    #[inline]
    pub fn insert(&mut self, hash: u64, id: u32, hash_of: impl Fn(u32) -> u64) {
        let mut at = self.segment(hash);
        if self.segments[at].table.len() >= SEGMENT && self.segments[at].depth < MAX_DEPTH {
            self.split(at, &hash_of);
            at = self.segment(hash);
        }
        let table = &mut self.segments[at].table;
        if table.len() == table.capacity() {
            self.moved_at_most = self.moved_at_most.max(table.len());
        }
        table.insert_unique(hash, id, |&other| hash_of(other));
    }

    /// Takes a number out; true if it was there. Out of line: in a store it would take the registers of everything else.
    #[inline(never)]
    pub fn remove(&mut self, hash: u64, id: u32) -> bool {
        let at = self.segment(hash);
        match self.segments[at].table.find_entry(hash, |&other| other == id) {
            Ok(entry) => {
                entry.remove();
                true
            }
            Err(_) => false,
        }
    }

    fn split(&mut self, at: usize, hash_of: &impl Fn(u32) -> u64) {
        let depth = self.segments[at].depth;
        if depth == self.depth {
            self.directory.extend_from_within(..);
            self.depth += 1;
        }
        let bit = 1_usize << depth;
        let belongs_up = |hash: u64| (hash >> DIRECTORY_SHIFT) as usize & bit != 0;
        let old = std::mem::take(&mut self.segments[at].table);
        self.moved_at_most = self.moved_at_most.max(old.len());
        let mut upper = HashTable::with_capacity(old.len() / 2 + 1);
        let lower = &mut self.segments[at].table;
        lower.reserve(old.len() / 2 + 1, |&id| hash_of(id));
        for id in old {
            let hash = hash_of(id);
            let half = if belongs_up(hash) { &mut upper } else { &mut *lower };
            half.insert_unique(hash, id, |&other| hash_of(other));
        }
        self.segments[at].depth = depth + 1;
        let new = self.segments.len() as u32;
        self.segments.push(Segment { table: upper, depth: depth + 1 });
        for (slot, segment) in self.directory.iter_mut().enumerate() {
            if *segment as usize == at && slot & bit != 0 {
                *segment = new;
            }
        }
    }

    /// The most numbers a single insert has moved so far.
    pub fn moved_at_most(&self) -> usize {
        self.moved_at_most
    }

    /// Numbers held.
    pub fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.table.len()).sum()
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        let tables: usize = self.segments.iter().map(|segment| segment.table.allocation_size()).sum();
        tables + self.directory.capacity() * 4 + self.segments.capacity() * size_of::<Segment>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(id: u32) -> u64 {
        u64::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[test]
    fn every_number_is_found_and_no_insert_moves_more_than_a_segment() {
        let mut index = Index::default();
        for id in 0..200_000 {
            index.insert(hash_of(id), id, hash_of);
        }
        assert!((0..200_000).all(|id| index.find(hash_of(id), |other| other == id) == Some(id)));
        assert!(index.segments.len() >= 14, "split {} times", index.segments.len());
        assert!(index.moved_at_most() <= SEGMENT, "moved {}", index.moved_at_most());
        for id in (0..200_000).step_by(2) {
            assert!(index.remove(hash_of(id), id));
            assert!(!index.remove(hash_of(id), id));
        }
        assert_eq!(index.len(), 100_000);
    }
}
