//! From a 64-bit hash to a slot number: a directory of small hashbrown tables.
//!
//! A table that doubles as a whole would stop the world (113 ms at 917 504 entries). Here a directory points to segments
//! of at most 2^14 buckets; a full segment is split alone, so no insert ever moves more than [`SEGMENT`] numbers.
//! It is split 3 to 5: halves would stay equally full for ever, all of them half empty at a million entries (11 bytes an
//! entry, not 8). The directory uses hash bits 56 and down, hashbrown the low bits and the top seven.

use hashbrown::HashTable;

/// The most numbers one segment holds: 7/8 of 2^14 buckets.
pub const SEGMENT: usize = 14_336;
const DIRECTORY_TOP: u32 = 57;
/// 2^22 cells; beyond 10^10 entries segments simply grow.
const MAX_DEPTH: u32 = 22;

/// See the module.
#[derive(Debug)]
pub struct Index {
    /// 2^depth cells, each with the number of a segment.
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Segment>,
    /// The most numbers one insert has moved.
    moved_at_most: usize,
}

/// The numbers of an unbroken row of cells.
#[derive(Debug)]
struct Segment {
    table: HashTable<u32>,
    first: usize,
    cells: usize,
}

impl Default for Index {
    fn default() -> Self {
        let first = Segment { table: HashTable::new(), first: 0, cells: 1 };
        Index { directory: vec![0], depth: 0, segments: vec![first], moved_at_most: 0 }
    }
}

impl Index {
    #[inline(always)]
    fn cell(&self, hash: u64) -> usize {
        (hash >> (DIRECTORY_TOP - self.depth)) as usize & (self.directory.len() - 1)
    }

    #[inline(always)]
    fn segment(&self, hash: u64) -> usize {
        self.directory[self.cell(hash)] as usize
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
        if self.segments[at].table.len() >= SEGMENT && self.can_split(at) {
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

    fn can_split(&self, at: usize) -> bool {
        self.depth < MAX_DEPTH || self.segments[at].cells > 1
    }

    /// Twice as many cells, each for half as much.
    fn deepen(&mut self) {
        self.directory = self.directory.iter().flat_map(|&segment| [segment, segment]).collect();
        self.depth += 1;
        for segment in &mut self.segments {
            (segment.first, segment.cells) = (2 * segment.first, 2 * segment.cells);
        }
    }

    #[cold]
    fn split(&mut self, at: usize, hash_of: &impl Fn(u32) -> u64) {
        while self.segments[at].cells < 8 && self.depth < MAX_DEPTH {
            self.deepen();
        }
        let (first, cells) = (self.segments[at].first, self.segments[at].cells);
        let border = first + (cells * 3 / 8).max(1);
        let old = std::mem::take(&mut self.segments[at].table);
        self.moved_at_most = self.moved_at_most.max(old.len());
        let mut lower = HashTable::with_capacity(old.len() * 3 / 8 + 1);
        let mut upper = HashTable::with_capacity(old.len() * 5 / 8 + 1);
        for id in old {
            let hash = hash_of(id);
            let part = if self.cell(hash) < border { &mut lower } else { &mut upper };
            part.insert_unique(hash, id, |&other| hash_of(other));
        }
        self.segments[at] = Segment { table: lower, first, cells: border - first };
        let new = self.segments.len() as u32;
        self.segments.push(Segment { table: upper, first: border, cells: first + cells - border });
        self.directory[border..first + cells].fill(new);
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
        super::super::mix(u64::from(id), 7)
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
        assert!(index.allocated() < 9 * 200_000, "{} bytes", index.allocated());
        for id in (0..200_000).step_by(2) {
            assert!(index.remove(hash_of(id), id));
            assert!(!index.remove(hash_of(id), id));
        }
        assert_eq!(index.len(), 100_000);
    }
}
