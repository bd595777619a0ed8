//! Making bodies smaller: zstd, lz4, gzip and snappy, each a Cargo feature, each with what it can use again kept per thread.
//!
//! A body never grows: what does not get smaller by a tenth is left as it is. Decompressing is told how long the result is to
//! be; it refuses a length that so many bytes cannot give before it allocates, and whatever comes out longer or shorter.

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
pub(super) mod zstd;

#[cfg(feature = "zstd")]
use super::dictionary::Dictionary;
use super::refusal::Refusal;
use crate::error::{Error, Result};

/// A way to compress, by its id in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Compressor {
    /// Zstandard at level 1 (RFC 8878), with a dictionary if there is one.
    Zstd = 1,
    /// LZ4, one block without a frame of its own.
    Lz4 = 2,
    /// Gzip at level 6 (RFC 1952).
    Gzip = 3,
    /// Snappy, one block without a frame of its own.
    Snappy = 4,
}

impl Compressor {
    /// All there are.
    pub const ALL: [Compressor; 4] = [Compressor::Zstd, Compressor::Lz4, Compressor::Gzip, Compressor::Snappy];

    /// The one with this id.
    pub fn new(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|compressor| compressor.id() == id)
    }

    /// Its id.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Its name, as users spell it.
    pub fn name(self) -> &'static str {
        match self {
            Compressor::Zstd => "zstd",
            Compressor::Lz4 => "lz4",
            Compressor::Gzip => "gzip",
            Compressor::Snappy => "snappy",
        }
    }

    /// True if this build has it: each is a Cargo feature of its own.
    pub fn is_built(self) -> bool {
        match self {
            Compressor::Zstd => cfg!(feature = "zstd"),
            Compressor::Lz4 => cfg!(feature = "lz4"),
            Compressor::Gzip => cfg!(feature = "gzip"),
            Compressor::Snappy => cfg!(feature = "snappy"),
        }
    }

    /// Appends a shorter form of `raw`. False, with nothing appended, if it would not be shorter by a tenth.
    pub fn compress(self, raw: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let done = match self {
            #[cfg(feature = "zstd")]
            Compressor::Zstd => zstd::compress(raw, out),
            #[cfg(feature = "lz4")]
            Compressor::Lz4 => lz4::compress(raw, out),
            #[cfg(feature = "gzip")]
            Compressor::Gzip => gzip::compress(raw, out),
            #[cfg(feature = "snappy")]
            Compressor::Snappy => snappy::compress(raw, out),
            #[cfg(not(all(feature = "zstd", feature = "lz4", feature = "gzip", feature = "snappy")))]
            _ => false,
        };
        keep_if_smaller(done, raw, out, start)
    }

    /// The `length` bytes that `packed` was made of.
    pub fn decompress(self, packed: &[u8], length: usize) -> Result<Vec<u8>, Refusal> {
        if !self.is_built() {
            return Err(Refusal::UnknownCompressor);
        }
        if length as u64 > self.longest(packed.len()) {
            return Err(Refusal::Corrupt);
        }
        let raw: Option<Vec<u8>> = match self {
            #[cfg(feature = "zstd")]
            Compressor::Zstd => zstd::decompress(packed, length),
            #[cfg(feature = "lz4")]
            Compressor::Lz4 => lz4::decompress(packed, length),
            #[cfg(feature = "gzip")]
            Compressor::Gzip => gzip::decompress(packed, length),
            #[cfg(feature = "snappy")]
            Compressor::Snappy => snappy::decompress(packed, length),
            #[cfg(not(all(feature = "zstd", feature = "lz4", feature = "gzip", feature = "snappy")))]
            _ => None,
        };
        raw.filter(|raw| raw.len() == length).ok_or(Refusal::Corrupt)
    }

    /// More than this cannot come out of so many bytes, whatever they are.
    fn longest(self, packed: usize) -> u64 {
        let packed = packed as u64;
        match self {
            // A block of 128 KiB that repeats one byte takes 4.
            Compressor::Zstd => (packed / 4 + 1).saturating_mul(128 << 10),
            // A byte of length adds 255.
            Compressor::Lz4 => packed.saturating_mul(255),
            // Two bits copy 258 bytes.
            Compressor::Gzip => packed.saturating_mul(1032),
            // Three bytes copy 64.
            Compressor::Snappy => packed.saturating_mul(22),
        }
    }
}

/// The `length` bytes that were compressed to `packed` with this dictionary.
#[cfg(feature = "zstd")]
pub(super) fn decompress_with(dictionary: &Dictionary, packed: &[u8], length: usize) -> Result<Vec<u8>, Refusal> {
    if length as u64 > Compressor::Zstd.longest(packed.len()) {
        return Err(Refusal::Corrupt);
    }
    zstd::decompress_with(dictionary, packed, length).filter(|raw| raw.len() == length).ok_or(Refusal::Corrupt)
}

/// Takes back what was appended unless it is shorter than `raw` by a tenth: what saves less costs each reader more than it saves.
pub(super) fn keep_if_smaller(done: bool, raw: &[u8], out: &mut Vec<u8>, start: usize) -> bool {
    let keep = done && out.len() - start + raw.len() / 10 < raw.len();
    if !keep {
        out.truncate(start);
    }
    keep
}

/// Room for `length` bytes, or nothing if there is not so much memory.
#[cfg(any(feature = "zstd", feature = "lz4", feature = "gzip", feature = "snappy"))]
fn room(length: usize) -> Option<Vec<u8>> {
    let mut room = Vec::new();
    room.try_reserve_exact(length).ok().map(|()| room)
}

/// What is compressed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// How.
    pub compressor: Compressor,
    /// Values of fewer bytes are left as they are.
    pub from: usize,
    /// The same, where there is a dictionary for them.
    pub from_with_dictionary: usize,
}

impl Compression {
    /// All values, if they get smaller by it.
    pub fn with(compressor: Compressor) -> Self {
        Compression { compressor, from: 0, from_with_dictionary: 0 }
    }

    /// Zstd from 1 KiB on, and from 128 bytes on where there is a dictionary.
    pub fn auto() -> Self {
        Compression { compressor: Compressor::Zstd, from: 1024, from_with_dictionary: 128 }
    }

    /// As users name it: `auto`, `zstd`, `lz4`, `gzip`, `snappy`.
    pub fn named(name: &str) -> Result<Self> {
        let named = Compressor::ALL.into_iter().find(|compressor| compressor.name() == name).map(Self::with);
        let refuse = |cure: String| Err(Error::config("compress", format!("{name:?}"), cure));
        match named.or_else(|| (name == "auto").then(Self::auto)) {
            None => refuse("use 'auto', 'zstd', 'lz4', 'gzip' or 'snappy', or leave it out for none".into()),
            Some(found) if !found.compressor.is_built() => {
                refuse(format!("build samovar with its feature {:?}", found.compressor.name()))
            }
            Some(found) => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn built() -> impl Iterator<Item = Compressor> {
        Compressor::ALL.into_iter().filter(|compressor| compressor.is_built())
    }

    /// Bytes that repeat themselves more or less.
    fn texts() -> impl Strategy<Value = Vec<u8>> {
        (proptest::collection::vec(any::<u8>(), 0..600), 1_usize..40).prop_map(|(piece, times)| piece.repeat(times))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn what_was_compressed_comes_back_and_is_smaller(raw in texts()) {
            for compressor in built() {
                let mut out = b"before".to_vec();
                if compressor.compress(&raw, &mut out) {
                    let packed = out.strip_prefix(b"before").unwrap();
                    prop_assert!(packed.len() < raw.len());
                    prop_assert_eq!(&compressor.decompress(packed, raw.len()).unwrap(), &raw);
                    for length in [0, 1, raw.len() - 1, raw.len() + 1, raw.len() * 2] {
                        prop_assert_eq!(compressor.decompress(packed, length), Err(Refusal::Corrupt), "{:?}", compressor);
                    }
                    let cut = &packed[..packed.len() - 1];
                    prop_assert_eq!(compressor.decompress(cut, raw.len()), Err(Refusal::Corrupt), "{:?}", compressor);
                } else {
                    prop_assert_eq!(out, b"before");
                }
            }
        }

        #[test]
        fn arbitrary_bytes_give_what_was_asked_for_or_nothing(packed in proptest::collection::vec(any::<u8>(), 0..300), length in 0_usize..5000) {
            for compressor in built() {
                if let Ok(raw) = compressor.decompress(&packed, length) {
                    prop_assert_eq!(raw.len(), length);
                }
            }
        }

        #[test]
        fn a_changed_bit_gives_bytes_of_the_right_length_or_nothing(raw in texts(), at in any::<proptest::sample::Index>(), bit in 0..8) {
            for compressor in built() {
                let mut packed = Vec::new();
                if compressor.compress(&raw, &mut packed) {
                    *at.get_mut(&mut packed) ^= 1_u8 << bit;
                    if let Ok(other) = compressor.decompress(&packed, raw.len()) {
                        prop_assert_eq!(other.len(), raw.len());
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_long_and_the_same_throughout_is_within_what_can_come_out() {
        let raw = vec![7; 20 << 20];
        for compressor in built() {
            let mut packed = Vec::new();
            assert!(compressor.compress(&raw, &mut packed));
            assert!(compressor.longest(packed.len()) >= raw.len() as u64, "{compressor:?}: {}", packed.len());
            assert_eq!(compressor.decompress(&packed, raw.len()).unwrap(), raw);
        }
    }

    #[test]
    fn noise_is_left_as_it_is() {
        let mut noise = vec![0; 10_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        for compressor in built() {
            assert!(!compressor.compress(&noise, &mut Vec::new()), "{compressor:?}");
            assert!(!compressor.compress(b"", &mut Vec::new()), "{compressor:?}");
        }
    }

    #[test]
    fn names_are_those_of_the_compressors_that_were_built() {
        for compressor in Compressor::ALL {
            assert_eq!(Compressor::new(compressor.id()), Some(compressor));
            assert_eq!(Compression::named(compressor.name()).is_ok(), compressor.is_built());
        }
        let error = Compression::named("zip").unwrap_err().to_string();
        assert!(error.contains("compress") && error.contains("\"zip\"") && error.contains("'zstd'"), "{error}");
    }
}
