//! An array that grows without moving what it holds: 1024 elements a chunk, addressed by `u32`.
//!
//! Only the first chunk grows by doubling, so a cache of ten entries stays small and one of a million never copies.

use std::ops::{Index, IndexMut};

const BITS: u32 = 10;
const SIZE: usize = 1 << BITS;

/// See the module.
#[derive(Debug)]
pub struct Chunks<T>(Vec<Vec<T>>);

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Chunks(vec![Vec::new()])
    }
}

impl<T> Chunks<T> {
    /// Appends, and tells where.
    pub fn push(&mut self, value: T) -> u32 {
        if self.0.last().is_some_and(|chunk| chunk.len() == SIZE) {
            self.0.push(Vec::with_capacity(SIZE));
        }
        let chunk = self.0.len() - 1;
        self.0[chunk].push(value);
        (chunk * SIZE + self.0[chunk].len() - 1) as u32
    }

    /// Elements held.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> u32 {
        ((self.0.len() - 1) * SIZE + self.0[self.0.len() - 1].len()) as u32
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        self.0.iter().map(|chunk| chunk.capacity() * size_of::<T>()).sum()
    }
}

impl<T> Index<u32> for Chunks<T> {
    type Output = T;
    #[inline]
    fn index(&self, id: u32) -> &T {
        &self.0[(id >> BITS) as usize][id as usize & (SIZE - 1)]
    }
}

impl<T> IndexMut<u32> for Chunks<T> {
    #[inline]
    fn index_mut(&mut self, id: u32) -> &mut T {
        &mut self.0[(id >> BITS) as usize][id as usize & (SIZE - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_place_while_it_grows() {
        let mut chunks = Chunks::default();
        for n in 0..5000_u32 {
            assert_eq!(chunks.push(n), n);
        }
        assert!((0..5000).all(|n| chunks[n] == n));
        assert_eq!(chunks.len(), 5000);
    }
}
