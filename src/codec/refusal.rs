//! Why stored bytes were not read. To a cache each of these is a miss and a count, never an exception.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why an envelope or a frame was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Refusal {
    /// It ends before its own lengths say.
    Truncated,
    /// It does not begin as one of ours.
    NotOurs,
    /// Its format is of another version.
    UnknownFormat,
    /// It has flags that this version does not know.
    UnknownFlags,
    /// It was written by a serializer that this reader does not read.
    UnknownSerializer,
    /// It was compressed in a way that this reader does not know.
    UnknownCompressor,
    /// It was compressed with a dictionary that this reader does not have.
    UnknownDictionary,
    /// It was sealed with a key that this reader does not have.
    UnknownKey,
    /// It is not sealed, and this reader, or its serializer, asks for a seal.
    Unsealed,
    /// Its seal is broken: it was changed, or belongs to another key.
    NotAuthentic,
    /// Its value would be larger than this reader allows.
    TooLarge,
    /// It contradicts itself.
    Malformed,
    /// Its body is not what it says it is, once decompressed.
    Corrupt,
}

impl Refusal {
    /// All there are, each at its own index.
    pub const ALL: [Refusal; 13] = [
        Refusal::Truncated,
        Refusal::NotOurs,
        Refusal::UnknownFormat,
        Refusal::UnknownFlags,
        Refusal::UnknownSerializer,
        Refusal::UnknownCompressor,
        Refusal::UnknownDictionary,
        Refusal::UnknownKey,
        Refusal::Unsealed,
        Refusal::NotAuthentic,
        Refusal::TooLarge,
        Refusal::Malformed,
        Refusal::Corrupt,
    ];

    /// The name under which it is counted.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Truncated => "truncated",
            Refusal::NotOurs => "not_ours",
            Refusal::UnknownFormat => "unknown_format",
            Refusal::UnknownFlags => "unknown_flags",
            Refusal::UnknownSerializer => "unknown_serializer",
            Refusal::UnknownCompressor => "unknown_compressor",
            Refusal::UnknownDictionary => "unknown_dictionary",
            Refusal::UnknownKey => "unknown_key",
            Refusal::Unsealed => "unsealed",
            Refusal::NotAuthentic => "not_authentic",
            Refusal::TooLarge => "too_large",
            Refusal::Malformed => "malformed",
            Refusal::Corrupt => "corrupt",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Refusal::Truncated => "it ends before its own lengths say",
            Refusal::NotOurs => "it was not written by Samovar",
            Refusal::UnknownFormat => "it was written in a format of another version",
            Refusal::UnknownFlags => "it has flags of another version",
            Refusal::UnknownSerializer => "its serializer is not one that is read here",
            Refusal::UnknownCompressor => "its compression is not one that is read here",
            Refusal::UnknownDictionary => "its dictionary is not here",
            Refusal::UnknownKey => "its key is not in the key ring",
            Refusal::Unsealed => "it is not authenticated, and has to be",
            Refusal::NotAuthentic => "its seal is broken: it was changed, or belongs to another key",
            Refusal::TooLarge => "its value is larger than max_value_bytes",
            Refusal::Malformed => "it contradicts itself",
            Refusal::Corrupt => "its body is not what its header says",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; treated as a miss", self.reason())
    }
}

impl std::error::Error for Refusal {}

/// How often each refusal was met. Shared by reference, counted without a lock.
#[derive(Debug, Default)]
pub struct Refusals([AtomicU64; Refusal::ALL.len()]);

impl Refusals {
    /// One more.
    pub fn count(&self, refusal: Refusal) {
        self.0[refusal as usize].fetch_add(1, Relaxed);
    }

    /// How many of each there were, zeros included.
    pub fn counts(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.into_iter().zip(self.0.iter().map(|count| count.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_counted_at_a_place_of_its_own() {
        let refusals = Refusals::default();
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
            (0..=index).for_each(|_| refusals.count(refusal));
        }
        for (refusal, count) in refusals.counts() {
            assert_eq!(count, refusal as u64 + 1, "{refusal}");
        }
        let names: std::collections::HashSet<_> = Refusal::ALL.into_iter().map(Refusal::name).collect();
        assert_eq!(names.len(), Refusal::ALL.len());
    }
}
