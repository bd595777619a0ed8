//! Packing a value into a frame and back, once for every tier: serializer, compression, seal and limits in one place.
//!
//! A [`Framing`] belongs to a namespace and is shared. It takes what a serializer wrote and gives what a store keeps; reading, it
//! gives that again or says why not. The order is fixed: compress, then seal; check the seal, then decompress.

use super::compress::{Compression, Compressor};
#[cfg(feature = "zstd")]
use super::dictionary::Dictionaries;
use super::frame::{self, Header, Protection, Stamps, Tags};
use super::keyring::KeyRing;
use super::refusal::Refusal;
use super::seal::Sealer;
use super::serializer::{Serializer, Serializers};
use std::borrow::Cow;
#[cfg(feature = "zstd")]
use std::sync::Arc;

/// No serialized value is larger unless a framing says otherwise, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 << 20;

/// What is packed.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// The value as this serializer wrote it; `None` says that there is none ("not found").
    pub value: Option<(Serializer, &'a [u8])>,
    /// Its moments.
    pub stamps: Stamps,
    /// The names whose invalidation invalidates it.
    pub tags: &'a [&'a str],
    /// What its origin calls this state of it.
    pub etag: Option<&'a [u8]>,
    /// Where there is none: its origin gave that as its answer, and raised no error.
    pub returned: bool,
}

/// What was unpacked.
#[derive(Debug, PartialEq, Eq)]
pub struct Unpacked<'a> {
    /// All but the value.
    pub header: Header<'a>,
    /// The value for its serializer to read, borrowed where that could be; `None` says that there is none.
    pub value: Option<(Serializer, Cow<'a, [u8]>)>,
    /// It is worth writing again: it was not protected as it would be now, such as with a key that is on its way out.
    pub reseal: bool,
}

/// Why a value was not packed. Nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpackable {
    /// It is too large.
    #[error("the value has {bytes} bytes, {most} at most; raise max_value_bytes or store less")]
    TooLarge {
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        most: usize,
    },
    /// A tag or the etag is too long, or there are too many tags.
    #[error("a tag or etag has more than 65535 bytes, or there are more than 65535 tags; give fewer and shorter ones")]
    TooManyTags,
    /// Whoever reads what this serializer wrote has to know who wrote it.
    #[error("pickle runs code when it is read, so it leaves the process only authenticated; give the cache a key_ring")]
    NeedsSeal,
    /// Nobody who reads as this one does could read it.
    #[error("serializer {id} is not one that this cache reads; register it first")]
    UnknownSerializer {
        /// Its id.
        id: u8,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system has no random bytes to give; nothing can be encrypted")]
    NoRandomBytes,
}

/// How the values of a namespace become frames, and frames values.
#[derive(Debug)]
pub struct Framing {
    compression: Option<Compression>,
    #[cfg(feature = "zstd")]
    dictionaries: Arc<Dictionaries>,
    sealer: Option<Sealer>,
    /// Whether what is written is sealed, and what is read has to be.
    seals: bool,
    serializers: Serializers,
    max_value_bytes: usize,
}

impl Default for Framing {
    /// Neither compressed nor sealed; reads what was compressed in any way.
    fn default() -> Self {
        Framing {
            compression: None,
            #[cfg(feature = "zstd")]
            dictionaries: Arc::default(),
            sealer: None,
            seals: false,
            serializers: Serializers::DATA,
            max_value_bytes: MAX_VALUE_BYTES,
        }
    }
}

impl Framing {
    /// Compresses what it writes.
    pub fn compressed(mut self, how: Compression) -> Self {
        self.compression = Some(how);
        self
    }

    /// Compresses with these dictionaries, where it compresses with zstd, and reads what was.
    #[cfg(feature = "zstd")]
    pub fn with_dictionaries(mut self, dictionaries: Arc<Dictionaries>) -> Self {
        self.dictionaries = dictionaries;
        self
    }

    /// Seals what it writes with the primary key of a ring, and reads nothing but what was sealed with one of its keys.
    pub fn sealed(mut self, ring: &KeyRing, namespace: &[u8]) -> Self {
        self.sealer = Some(Sealer::new(ring, namespace));
        self.seals = true;
        self
    }

    /// Seals nothing, and still reads what was sealed: the way back for a cache that used to seal.
    pub fn unsealing(self, ring: &KeyRing, namespace: &[u8]) -> Self {
        Framing { seals: false, ..self.sealed(ring, namespace) }
    }

    /// Takes these serializers in the place of [`Serializers::DATA`].
    pub fn with_serializers(mut self, serializers: Serializers) -> Self {
        self.serializers = serializers;
        self
    }

    /// Neither packs nor unpacks a larger value. Bytes, after serializing and before compression; a frame can say 4 GiB.
    pub fn with_max_value_bytes(mut self, most: usize) -> Self {
        self.max_value_bytes = most.min(u32::MAX as usize);
        self
    }

    /// The frame of a value, to be stored under this key and no other.
    pub fn pack(&self, key: &[u8], content: &Content<'_>) -> Result<Vec<u8>, Unpackable> {
        self.check(content)?;
        let encoded = Tags::encode(content.tags).ok_or(Unpackable::TooManyTags)?;
        let (key_id, protection) = self.writer().map_or((0, Protection::None), Sealer::primary);
        let raw = content.value.map_or(&[][..], |(_, raw)| raw);
        let mut header = Header {
            serializer: content.value.map_or(0, |(serializer, _)| serializer.id()),
            compressor: 0,
            protection,
            stamps: content.stamps,
            raw_length: raw.len() as u32,
            key_id,
            dictionary: 0,
            tags: Tags::over(content.tags.len(), &encoded),
            etag: content.etag,
            returned: content.value.is_none() && content.returned,
        };
        let mut out = Vec::new();
        if !self.pack_smaller(&mut header, raw, &mut out) {
            self.begin(&header, raw.len(), &mut out);
            out.extend_from_slice(raw);
        }
        match self.writer() {
            Some(sealer) if !sealer.seal(&mut out, header.len(), key) => Err(Unpackable::NoRandomBytes),
            _ => Ok(out),
        }
    }

    fn check(&self, content: &Content<'_>) -> Result<(), Unpackable> {
        if content.etag.is_some_and(|etag| etag.len() > frame::LONGEST) {
            return Err(Unpackable::TooManyTags);
        }
        let Some((serializer, raw)) = content.value else { return Ok(()) };
        if raw.len() > self.max_value_bytes {
            return Err(Unpackable::TooLarge { bytes: raw.len(), most: self.max_value_bytes });
        }
        if !self.serializers.contains(serializer) {
            return Err(Unpackable::UnknownSerializer { id: serializer.id() });
        }
        if serializer.needs_seal() && !self.seals { Err(Unpackable::NeedsSeal) } else { Ok(()) }
    }

    /// Who seals what is written.
    fn writer(&self) -> Option<&Sealer> {
        self.sealer.as_ref().filter(|_| self.seals)
    }

    /// All that stands before a body of this length, with room for it.
    fn begin(&self, header: &Header<'_>, body: usize, out: &mut Vec<u8>) {
        let (nonce, tag) = self.writer().map_or((0, 0), Sealer::around);
        out.reserve(header.len() + nonce + body + tag);
        header.write(out);
        out.resize(out.len() + nonce, 0);
    }

    /// Header and compressed body; nothing, and the header as it was, if it is not to be compressed or gets no smaller.
    fn pack_smaller(&self, header: &mut Header<'_>, raw: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(how) = self.compression.filter(|_| !raw.is_empty()) else { return false };
        let before = *header;
        header.compressor = how.compressor.id();
        let smaller = self.compress(how, header, raw, out);
        if !smaller {
            *header = before;
            out.clear();
        }
        smaller
    }

    #[cfg(feature = "zstd")]
    fn compress(&self, how: Compression, header: &mut Header<'_>, raw: &[u8], out: &mut Vec<u8>) -> bool {
        use super::compress::{keep_if_smaller, zstd};
        let dictionary = self.dictionaries.to_write().filter(|_| how.compressor == Compressor::Zstd);
        let Some(dictionary) = dictionary.filter(|_| raw.len() >= how.from_with_dictionary) else {
            return self.compress_alone(how, header, raw, out);
        };
        header.dictionary = dictionary.id();
        self.begin(header, raw.len(), out);
        let start = out.len();
        let done = zstd::compress_with(&dictionary, raw, out);
        keep_if_smaller(done, raw, out, start)
    }

    #[cfg(not(feature = "zstd"))]
    fn compress(&self, how: Compression, header: &mut Header<'_>, raw: &[u8], out: &mut Vec<u8>) -> bool {
        self.compress_alone(how, header, raw, out)
    }

    fn compress_alone(&self, how: Compression, header: &Header<'_>, raw: &[u8], out: &mut Vec<u8>) -> bool {
        if raw.len() < how.from {
            return false;
        }
        self.begin(header, raw.len(), out);
        how.compressor.compress(raw, out)
    }

    /// What a frame that was stored under this key says.
    #[inline(always)]
    pub fn unpack<'a>(&self, key: &[u8], frame: &'a [u8]) -> Result<Unpacked<'a>, Refusal> {
        let header = Header::read(frame)?;
        let serializer = Serializer::new(header.serializer);
        if serializer.is_some_and(|serializer| !self.serializers.contains(serializer)) {
            return Err(Refusal::UnknownSerializer);
        }
        let length = header.raw_length as usize;
        if length > self.max_value_bytes {
            return Err(Refusal::TooLarge);
        }
        let body = self.opened(&header, key, frame, serializer.is_some_and(Serializer::needs_seal))?;
        let body = match header.compressor {
            0 if body.len() == length => body,
            0 if body.len() < length => return Err(Refusal::Truncated),
            0 => return Err(Refusal::Malformed),
            _ => Cow::Owned(self.decompress(&header, &body, length)?),
        };
        let reseal = (header.key_id, header.protection) != self.writer().map_or((0, Protection::None), Sealer::primary);
        Ok(Unpacked { header, value: serializer.map(|serializer| (serializer, body)), reseal })
    }

    /// The body, once it is certain that it may be looked at.
    #[inline(always)]
    fn opened<'a>(
        &self,
        header: &Header<'_>,
        key: &[u8],
        frame: &'a [u8],
        must_be_sealed: bool,
    ) -> Result<Cow<'a, [u8]>, Refusal> {
        if header.protection == Protection::None {
            let refused = self.seals || must_be_sealed;
            return if refused { Err(Refusal::Unsealed) } else { Ok(Cow::Borrowed(&frame[header.len()..])) };
        }
        let sealer = self.sealer.as_ref().ok_or(Refusal::UnknownKey)?;
        sealer.open(header.key_id, header.protection, frame, header.len(), key)
    }

    fn decompress(&self, header: &Header<'_>, body: &[u8], length: usize) -> Result<Vec<u8>, Refusal> {
        let compressor = Compressor::new(header.compressor).filter(|compressor| compressor.is_built());
        let compressor = compressor.ok_or(Refusal::UnknownCompressor)?;
        if header.dictionary == 0 {
            return compressor.decompress(body, length);
        }
        #[cfg(feature = "zstd")]
        if compressor == Compressor::Zstd {
            let dictionary = self.dictionaries.to_read(header.dictionary).ok_or(Refusal::UnknownDictionary)?;
            return super::compress::decompress_with(&dictionary, body, length);
        }
        Err(Refusal::Malformed)
    }
}

#[cfg(test)]
mod tests;
