//! Which keys had large values when they were last seen: a guess, so that reading them does not hold up the others.
//!
//! One bit for each of a few thousand hashes. A wrong guess costs nothing but the order of two replies.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};

/// Values from this size on go on a connection of their own.
pub const LARGE: usize = 64 * 1024;
const WORDS: usize = 64;

/// See the module.
pub struct Sizes {
    large: [AtomicU64; WORDS],
    /// How many bits are set: usually none, and then no key is hashed.
    set: AtomicUsize,
    hasher: RandomState,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes { large: [const { AtomicU64::new(0) }; WORDS], set: AtomicUsize::new(0), hasher: RandomState::new() }
    }
}

impl Sizes {
    fn place(&self, key: &[u8]) -> (&AtomicU64, u64) {
        let hash = self.hasher.hash_one(key);
        (&self.large[hash as usize % WORDS], 1 << (hash >> 58))
    }

    /// True if its value was large.
    pub fn is_large(&self, key: &[u8]) -> bool {
        if self.set.load(Relaxed) == 0 {
            return false;
        }
        let (word, bit) = self.place(key);
        word.load(Relaxed) & bit != 0
    }

    /// Its value has so many bytes.
    pub fn note(&self, key: &[u8], size: usize) {
        let large = size >= LARGE;
        if !large && self.set.load(Relaxed) == 0 {
            return;
        }
        let (word, bit) = self.place(key);
        // Of several threads one has changed it.
        match (large, word.load(Relaxed) & bit != 0) {
            (true, false) if word.fetch_or(bit, Relaxed) & bit == 0 => _ = self.set.fetch_add(1, Relaxed),
            (false, true) if word.fetch_and(!bit, Relaxed) & bit != 0 => _ = self.set.fetch_sub(1, Relaxed),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_as_large_as_it_was_last_seen() {
        let sizes = Sizes::default();
        assert!(!sizes.is_large(b"k"));
        sizes.note(b"k", LARGE);
        assert!(sizes.is_large(b"k"));
        sizes.note(b"k", LARGE - 1);
        assert!(!sizes.is_large(b"k"));
    }
}
