//! An array that grows without moving what it holds: 1024 elements a chunk, addressed by `u32`.
//!
//! A chunk has a fixed size, so an access checks one bound, not two; it is filled with defaults when it is made.

use std::ops::{Index, IndexMut};

/// Tests make a great many small tables, and want to see where chunks meet.
const BITS: u32 = if cfg!(test) { 8 } else { 10 };
const SIZE: usize = 1 << BITS;

/// See the module.
#[derive(Debug)]
pub struct Chunks<T> {
    chunks: Vec<Box<[T; SIZE]>>,
    len: u32,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Chunks { chunks: Vec::new(), len: 0 }
    }
}

impl<T: Default> Chunks<T> {
    /// Appends, and tells where.
    pub fn push(&mut self, value: T) -> u32 {
        let id = self.len;
        if id as usize == self.chunks.len() * SIZE {
            let defaults: Vec<T> = (0..SIZE).map(|_| T::default()).collect();
            self.chunks.extend(<Box<[T; SIZE]>>::try_from(defaults.into_boxed_slice()).ok());
        }
        self.len += 1;
        self[id] = value;
        id
    }

    /// Takes the last one out. Its place is kept.
    pub fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        let last = self.len;
        Some(std::mem::take(&mut self[last]))
    }
}

impl<T> Chunks<T> {
    /// Elements held.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        self.chunks.len() * size_of::<[T; SIZE]>() + self.chunks.capacity() * size_of::<usize>()
    }
}

impl<T> Index<u32> for Chunks<T> {
    type Output = T;
    #[inline]
    fn index(&self, id: u32) -> &T {
        &self.chunks[(id >> BITS) as usize][id as usize & (SIZE - 1)]
    }
}

impl<T> IndexMut<u32> for Chunks<T> {
    #[inline]
    fn index_mut(&mut self, id: u32) -> &mut T {
        &mut self.chunks[(id >> BITS) as usize][id as usize & (SIZE - 1)]
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
        let allocated = chunks.allocated();
        assert!((0..5000).rev().all(|n| chunks.pop() == Some(n)));
        assert_eq!((chunks.pop(), chunks.len()), (None, 0));
        assert_eq!((chunks.push(7), chunks[0], chunks.allocated()), (0, 7, allocated));
    }
}
