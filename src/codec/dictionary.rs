//! Trained zstd dictionaries: what many short values have in common, kept once. Each namespace has its own.
//!
//! A frame names the dictionary it was compressed with by a digest of it, so that a damaged one, or another of the same name,
//! is one that is not there: zstd itself would not notice, and give other bytes. One dictionary writes; those before it
//! still read. A dictionary is no secret, but says what it was trained on.

use super::compress::zstd::LEVEL;
use crate::error::{Error, Result};
use parking_lot::RwLock;
use std::sync::Arc;
use zstd::zstd_safe::{CDict, DDict, get_dict_id_from_dict};

/// So many are kept to read: the one that writes, and those before it.
pub const KEPT: usize = 16;
/// No dictionary is larger, in bytes.
pub const LARGEST: usize = 1 << 20;
/// What zstd asks for at least, and what it would be unwise to learn from less of.
pub const FEWEST_SAMPLES: usize = 8;

/// A dictionary, prepared to compress and decompress with.
pub struct Dictionary {
    id: u32,
    compressing: CDict<'static>,
    decompressing: DDict<'static>,
}

impl Dictionary {
    /// A dictionary that was trained, here or by `zstd --train`.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        let refuse = |cure: &str| Err(Error::config("dictionary", format!("{} bytes", bytes.len()), cure));
        if bytes.len() > LARGEST {
            return refuse("give one of 1 MiB at most; 16 to 112 KiB do best");
        }
        let prepared = (get_dict_id_from_dict(bytes), CDict::try_create(bytes, LEVEL), DDict::try_create(bytes));
        let (Some(inner), Some(compressing), Some(decompressing)) = prepared else {
            return refuse("these are not the bytes of a trained zstd dictionary; train one from samples");
        };
        // Both take anything for a dictionary of plain content; one whose tables they have read knows its inner id.
        if compressing.get_dict_id() != Some(inner) || decompressing.get_dict_id() != Some(inner) {
            return refuse("this dictionary is damaged; train it anew, or fetch it again");
        }
        Ok(Dictionary { id: id(bytes), compressing, decompressing })
    }

    /// Its id in frames.
    pub fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn to_compress(&self) -> &CDict<'static> {
        &self.compressing
    }

    pub(super) fn to_decompress(&self) -> &DDict<'static> {
        &self.decompressing
    }
}

/// The first four bytes of its BLAKE3 hash; 1 for 0, which says that there is no dictionary.
fn id(bytes: &[u8]) -> u32 {
    let hash = blake3::hash(bytes);
    hash.as_bytes().first_chunk().map_or(1, |first| u32::from_be_bytes(*first).max(1))
}

impl std::fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dictionary").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Learns a dictionary of at most `size` bytes from values such as it is to compress.
///
/// A hundred times `size` of them is plenty. [`Dictionary::new`] prepares it, here and wherever its values are read.
pub fn train<S: AsRef<[u8]>>(samples: &[S], size: usize) -> Result<Vec<u8>> {
    let many = format!("{} samples", samples.len());
    if samples.len() < FEWEST_SAMPLES {
        return Err(Error::config("samples", many, "give hundreds of values such as the dictionary is to compress"));
    }
    if !(256..=LARGEST).contains(&size) {
        return Err(Error::config(
            "size",
            size.to_string(),
            "give 256 bytes to 1 MiB; 16 KiB do well for values of 1 kB",
        ));
    }
    zstd::dict::from_samples(samples, size)
        .map_err(|_| Error::config("samples", many, "too few or too short to learn from; give hundreds of real values"))
}

/// The dictionaries of a namespace: the first writes, all read. Shared by reference; changed while others use it.
#[derive(Debug, Default)]
pub struct Dictionaries(RwLock<Vec<Arc<Dictionary>>>);

impl Dictionaries {
    /// From now on this one writes. Those before it still read; the oldest beyond [`KEPT`] is forgotten, and what it has written
    /// becomes unreadable.
    pub fn rotate(&self, dictionary: Arc<Dictionary>) {
        let mut all = self.0.write();
        all.retain(|known| known.id != dictionary.id);
        all.insert(0, dictionary);
        let forgotten = if all.len() > KEPT { all.pop() } else { None };
        drop(all);
        drop(forgotten);
    }

    /// This one reads too, if it is not here yet; it does not write unless it is the only one.
    pub fn add(&self, dictionary: Arc<Dictionary>) {
        let mut all = self.0.write();
        if all.len() < KEPT && all.iter().all(|known| known.id != dictionary.id) {
            all.push(dictionary);
        }
    }

    /// The one that writes.
    pub fn to_write(&self) -> Option<Arc<Dictionary>> {
        self.0.read().first().cloned()
    }

    /// The one with this id.
    pub fn to_read(&self, id: u32) -> Option<Arc<Dictionary>> {
        self.0.read().iter().find(|known| known.id == id).cloned()
    }

    /// The ids of all, the one that writes first.
    pub fn ids(&self) -> Vec<u32> {
        self.0.read().iter().map(|known| known.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::compress::zstd;

    /// Records that have much in common; another `kind` has other words.
    fn records(kind: &str, count: usize) -> Vec<Vec<u8>> {
        let record =
            |n: usize| format!("{{\"{kind}\": {n}, \"name\": \"{kind} number {n}\", \"size\": {}}}", n * n % 97);
        (0..count).map(|n| record(n).into_bytes()).collect()
    }

    fn trained(kind: &str) -> Arc<Dictionary> {
        Arc::new(Dictionary::new(&train(&records(kind, 1000), 2048).unwrap()).unwrap())
    }

    #[test]
    fn a_dictionary_makes_short_values_shorter_and_only_it_reads_them() {
        let (users, products) = (trained("user"), trained("product"));
        assert_ne!(users.id(), products.id());
        let raw = &records("user", 1200)[1100];
        let (mut with, mut without) = (Vec::new(), Vec::new());
        assert!(zstd::compress_with(&users, raw, &mut with) && zstd::compress(raw, &mut without));
        assert!(with.len() * 3 < raw.len() * 2 && without.len() > raw.len(), "{}, {}", with.len(), without.len());
        assert_eq!(zstd::decompress_with(&users, &with, raw.len()).as_ref(), Some(raw));
        assert_eq!(zstd::decompress_with(&products, &with, raw.len()), None);
        assert_eq!(zstd::decompress(&with, raw.len()), None);
        // A context that has used one is as good as new.
        assert_eq!(zstd::decompress(&without, raw.len()).as_ref(), Some(raw));
    }

    #[test]
    fn the_last_one_rotated_in_writes_and_those_before_it_read() {
        let all = Dictionaries::default();
        assert!(all.to_write().is_none());
        let (first, second) = (trained("user"), trained("product"));
        all.rotate(Arc::clone(&first));
        all.rotate(Arc::clone(&second));
        assert_eq!(all.ids(), [second.id(), first.id()]);
        assert_eq!(all.to_read(first.id()).unwrap().id(), first.id());
        all.add(Arc::clone(&first));
        all.rotate(Arc::clone(&first));
        assert_eq!(all.ids(), [first.id(), second.id()]);
        for n in 0..KEPT - 1 {
            all.rotate(trained(&format!("thing {n}")));
        }
        assert_eq!(all.ids().len(), KEPT);
        assert!(all.to_read(second.id()).is_none(), "the oldest is forgotten");
        all.add(second.clone());
        assert!(all.to_read(second.id()).is_none(), "there is no room for it");
    }

    #[test]
    fn what_is_no_dictionary_and_what_nothing_can_be_learned_from_is_refused() {
        for bytes in [&b""[..], b"plain content", &[0x37, 0xA4, 0x30, 0xEC, 1, 0, 0, 0, 9, 9, 9], &vec![0; LARGEST + 1]]
        {
            let error = Dictionary::new(bytes).unwrap_err().to_string();
            assert!(error.contains("dictionary") && error.contains(&format!("{} bytes", bytes.len())), "{error}");
        }
        for (samples, size) in [(records("user", 7), 2048), (records("user", 100), 16), (vec![vec![]; 100], 2048)] {
            let error = train(&samples, size).unwrap_err().to_string();
            assert!(error.contains("samples") || error.contains("size"), "{error}");
        }
    }

    #[test]
    fn a_dictionary_with_any_byte_changed_is_refused_or_another_one() {
        let bytes = train(&records("user", 1000), 1024).unwrap();
        let own = Dictionary::new(&bytes).unwrap().id();
        let raw = &records("user", 1)[0];
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 0x55;
            let Ok(dictionary) = Dictionary::new(&other) else { continue };
            assert_ne!(dictionary.id(), own);
            let mut packed = Vec::new();
            if zstd::compress_with(&dictionary, raw, &mut packed) {
                assert_eq!(zstd::decompress_with(&dictionary, &packed, raw.len()).as_ref(), Some(raw));
            }
        }
    }
}
