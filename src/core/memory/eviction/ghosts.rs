//! What is remembered of entries that left: how often they were used, in two bytes each.
//!
//! Buckets of eight cells, the newest first; a ninth pushes the oldest out. A cell has 12 bits of the hash and 4 of
//! frequency, so one in 500 strangers is taken for a ghost: that costs a wrong guess, never a wrong answer.

const CELLS: usize = 8;
const SAME: u16 = 0xFFF0;

/// See the module.
#[derive(Debug, Default)]
pub struct Ghosts {
    cells: Vec<u16>,
}

impl Ghosts {
    /// Makes room for about `count` of them. There is none at first; if it has to grow much, all are forgotten.
    #[inline]
    pub fn fit(&mut self, count: usize) {
        if self.cells.len() < count {
            self.grow(count);
        }
    }

    #[cold]
    fn grow(&mut self, count: usize) {
        // A quarter more, so that a population that creeps up does not come here often.
        let count = if self.cells.is_empty() { count } else { count + count / 4 };
        self.cells = vec![0; count.div_ceil(CELLS).max(2) * CELLS];
    }

    fn bucket(&mut self, hash: u64) -> (&mut [u16], u16) {
        let buckets = self.cells.len() / CELLS;
        // A share of the buckets as great as the low half's of its range.
        let first = (((hash & 0xFFFF_FFFF) as usize * buckets) >> 32) * CELLS;
        // A cell of zero is empty, so no ghost has the tag zero.
        let tag = ((hash >> 52) as u16).max(1) << 4;
        (&mut self.cells[first..first + CELLS], tag)
    }

    /// Remembers an entry that leaves; there must be room.
    pub fn put(&mut self, hash: u64, frequency: u8) {
        let (bucket, tag) = self.bucket(hash);
        let place = bucket.iter().position(|cell| cell & SAME == tag).unwrap_or(CELLS - 1);
        bucket.copy_within(0..place, 1);
        bucket[0] = tag | u16::from(frequency & 15);
    }

    /// How often it was used, and forgets it.
    pub fn take(&mut self, hash: u64) -> Option<u8> {
        if self.cells.is_empty() {
            return None;
        }
        let (bucket, tag) = self.bucket(hash);
        let place = bucket.iter().position(|cell| cell & SAME == tag)?;
        let frequency = (bucket[place] & 15) as u8;
        bucket.copy_within(place + 1..CELLS, place);
        bucket[CELLS - 1] = 0;
        Some(frequency)
    }

    /// How often it was used.
    pub fn peek(&mut self, hash: u64) -> Option<u8> {
        if self.cells.is_empty() {
            return None;
        }
        let (bucket, tag) = self.bucket(hash);
        bucket.iter().find(|&cell| cell & SAME == tag).map(|cell| (cell & 15) as u8)
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        self.cells.capacity() * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ghosts_are_remembered_until_eight_newer_ones_came_to_their_bucket() {
        let mut ghosts = Ghosts::default();
        ghosts.fit(16);
        let hash = |n: u64| n << 52;
        for n in 1..=9 {
            ghosts.put(hash(n), n as u8);
        }
        assert_eq!(ghosts.peek(hash(1)), None);
        assert_eq!(ghosts.peek(hash(2)), Some(2));
        ghosts.put(hash(2), 7);
        assert_eq!((ghosts.take(hash(2)), ghosts.take(hash(2))), (Some(7), None));
        assert_eq!((3..=9).filter(|&n| ghosts.peek(hash(n)) == Some(n as u8)).count(), 7);
    }
}
