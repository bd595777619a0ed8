//! The header of a frame: plain, self-describing, authenticated if the frame is. docs/frame.md specifies it byte by byte.
//!
//! [`Header::read`] copies numbers only: tags and etag are slices of the frame, and nothing is allocated. It checks that the
//! header agrees with itself; whether this reader has the serializer, the compressor and the keys is asked by
//! [`Framing`](super::framing::Framing).

use super::bytes::Reader;
use super::refusal::Refusal;

/// The version of the format. A reader refuses every other.
pub const FORMAT: u8 = 1;
/// The length, in bytes, of a header without tags and etag.
pub const LENGTH: usize = 52;
/// No tag or etag is longer than this, in bytes, and no value has more tags.
pub const LONGEST: usize = u16::MAX as usize;
/// The moment that never comes.
pub const NEVER: u64 = u64::MAX;

const MISSING: u8 = 1;
const TAGS: u8 = 1 << 1;
const ETAG: u8 = 1 << 2;
const COMPRESSED: u8 = 1 << 3;
const SEALED: u8 = 1 << 4;
const ENCRYPTED: u8 = 1 << 5;
const RETURNED: u8 = 1 << 6;
const KNOWN: u8 = MISSING | TAGS | ETAG | COMPRESSED | SEALED | ENCRYPTED | RETURNED;

/// A value's moments, in µs since 1970 unless they say otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// Fresh before this moment; [`NEVER`] if it has no end.
    pub fresh_until: u64,
    /// Of no use any more from this moment on; [`NEVER`] if it has no end.
    pub expires: u64,
    /// When its load began, in the order of its namespace's store clock, as invalidations of tags are; 0 without a store.
    pub load_start: u64,
    /// When it was made.
    pub created: u64,
    /// How long its load took, in µs; [`u32::MAX`] for 71 minutes and more.
    pub load_time: u32,
}

/// What protects a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Nothing.
    None,
    /// Header and body are authenticated, and can be read by everybody.
    Signed,
    /// Header and body are authenticated, and the body is encrypted.
    Encrypted,
}

/// All of a frame but its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The id of the serializer that wrote the value; 0, and nothing else, says that there is no value ("not found").
    pub serializer: u8,
    /// The id of what compressed the body; 0 if nothing did.
    pub compressor: u8,
    /// What protects the frame.
    pub protection: Protection,
    /// The value's moments.
    pub stamps: Stamps,
    /// The length of the serialized value in bytes, before compression.
    pub raw_length: u32,
    /// The id of the key it is protected with; 0 if it is not.
    pub key_id: u32,
    /// The id of the dictionary it was compressed with; 0 without.
    pub dictionary: u32,
    /// The names whose invalidation invalidates the value.
    pub tags: Tags<'a>,
    /// What the origin calls this state of the value (RFC 9110, 8.8.3).
    pub etag: Option<&'a [u8]>,
    /// Where there is no value: the origin gave that as its answer, and raised no error.
    pub returned: bool,
}

impl<'a> Header<'a> {
    /// The header of a frame, which says with [`len`](Self::len) where it ends.
    #[inline(always)]
    pub fn read(frame: &'a [u8]) -> Result<Self, Refusal> {
        let mut rest = Reader(frame);
        if rest.u8()? != FORMAT {
            return Err(Refusal::UnknownFormat);
        }
        let flags = rest.u8()?;
        if flags & !KNOWN != 0 {
            return Err(Refusal::UnknownFlags);
        }
        if frame.len() < LENGTH {
            // Said once, so that it need not be asked for each of those that follow.
            return Err(Refusal::Truncated);
        }
        let (serializer, compressor) = (rest.u8()?, rest.u8()?);
        let stamps = Stamps {
            fresh_until: rest.u64()?,
            expires: rest.u64()?,
            load_start: rest.u64()?,
            created: rest.u64()?,
            load_time: rest.u32()?,
        };
        let (raw_length, key_id, dictionary) = (rest.u32()?, rest.u32()?, rest.u32()?);
        let tags = if flags & TAGS != 0 { Tags::read(&mut rest)? } else { Tags::NONE };
        let etag = if flags & ETAG != 0 { Some(piece(&mut rest)?) } else { None };
        let protection = match (flags & SEALED != 0, flags & ENCRYPTED != 0) {
            (false, false) => Protection::None,
            (true, false) => Protection::Signed,
            (true, true) => Protection::Encrypted,
            (false, true) => return Err(Refusal::Malformed),
        };
        let returned = flags & RETURNED != 0;
        let header =
            Header { serializer, compressor, protection, stamps, raw_length, key_id, dictionary, tags, etag, returned };
        // Most have a value and nothing else, and the same is said of them in fewer words.
        let is_plain = serializer != 0 && compressor == 0 && key_id == 0 && dictionary == 0;
        let is_sound = if flags == 0 { is_plain } else { header.flags() == flags && header.agrees() };
        if is_sound { Ok(header) } else { Err(Refusal::Malformed) }
    }

    /// Whether the fields fit each other.
    #[inline(always)]
    fn agrees(&self) -> bool {
        (self.serializer != 0 || (self.raw_length == 0 && self.compressor == 0))
            && (self.key_id != 0) == (self.protection != Protection::None)
            && (self.dictionary == 0 || self.compressor != 0)
            && (self.serializer == 0 || !self.returned)
    }

    #[inline(always)]
    fn flags(&self) -> u8 {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        flag(self.serializer == 0, MISSING)
            | flag(!self.tags.is_empty(), TAGS)
            | flag(self.etag.is_some(), ETAG)
            | flag(self.compressor != 0, COMPRESSED)
            | flag(self.protection != Protection::None, SEALED)
            | flag(self.protection == Protection::Encrypted, ENCRYPTED)
            | flag(self.returned, RETURNED)
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        let tags = if self.tags.is_empty() { 0 } else { 2 + self.tags.encoded.len() };
        LENGTH + tags + self.etag.map_or(0, |etag| 2 + etag.len())
    }

    /// Never: a header has [`LENGTH`] bytes or more.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Appends its bytes. Its etag has [`LONGEST`] bytes at most.
    pub fn write(&self, out: &mut Vec<u8>) {
        debug_assert!(self.agrees() && self.etag.is_none_or(|etag| etag.len() <= LONGEST));
        let stamps = &self.stamps;
        out.extend_from_slice(&[FORMAT, self.flags(), self.serializer, self.compressor]);
        for moment in [stamps.fresh_until, stamps.expires, stamps.load_start, stamps.created] {
            out.extend_from_slice(&moment.to_be_bytes());
        }
        for number in [stamps.load_time, self.raw_length, self.key_id, self.dictionary] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        if !self.tags.is_empty() {
            out.extend_from_slice(&self.tags.count.to_be_bytes());
            out.extend_from_slice(self.tags.encoded);
        }
        if let Some(etag) = self.etag {
            out.extend_from_slice(&(etag.len() as u16).to_be_bytes());
            out.extend_from_slice(etag);
        }
    }
}

/// A piece with its length before it.
fn piece<'a>(rest: &mut Reader<'a>) -> Result<&'a [u8], Refusal> {
    let length = rest.u16()?;
    rest.bytes(length.into())
}

/// The tags of a frame, where they stand: an iterator of `&str`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tags<'a> {
    count: u16,
    /// Each tag with its length before it, checked.
    encoded: &'a [u8],
}

impl<'a> Tags<'a> {
    /// No tags.
    pub const NONE: Tags<'static> = Tags { count: 0, encoded: &[] };

    /// The bytes that [`over`](Self::over) takes; `None` if a tag is longer than [`LONGEST`], or there are more of them.
    pub fn encode(tags: &[&str]) -> Option<Vec<u8>> {
        if tags.len() > LONGEST || tags.iter().any(|tag| tag.len() > LONGEST) {
            return None;
        }
        let mut encoded = Vec::with_capacity(tags.iter().map(|tag| 2 + tag.len()).sum());
        for tag in tags {
            encoded.extend_from_slice(&(tag.len() as u16).to_be_bytes());
            encoded.extend_from_slice(tag.as_bytes());
        }
        Some(encoded)
    }

    /// The tags in what [`encode`](Self::encode) gave for `count` of them.
    pub fn over(count: usize, encoded: &'a [u8]) -> Self {
        Tags { count: count as u16, encoded }
    }

    fn read(rest: &mut Reader<'a>) -> Result<Self, Refusal> {
        let count = rest.u16()?;
        let start = rest.0;
        for _ in 0..count {
            str::from_utf8(piece(rest)?).map_err(|_| Refusal::Malformed)?;
        }
        Ok(Tags { count, encoded: &start[..start.len() - rest.0.len()] })
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.count = self.count.checked_sub(1)?;
        let mut rest = Reader(self.encoded);
        let tag = piece(&mut rest).ok().and_then(|tag| str::from_utf8(tag).ok());
        self.encoded = rest.0;
        tag
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count.into(), Some(self.count.into()))
    }
}

impl std::fmt::Debug for Tags<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Everything a header can say, apart from what it borrows.
    fn facts() -> impl Strategy<Value = Header<'static>> {
        let stamps = (any::<[u64; 4]>(), any::<u32>()).prop_map(|(moments, load_time)| {
            let [fresh_until, expires, load_start, created] = moments;
            Stamps { fresh_until, expires, load_start, created, load_time }
        });
        (stamps, any::<(u8, u8, u8)>(), any::<(u32, u32, u32)>()).prop_map(|(stamps, ids, numbers)| {
            let (serializer, compressor, protection) = ids;
            let protection = [Protection::None, Protection::Signed, Protection::Encrypted][usize::from(protection % 3)];
            let compressor = if serializer == 0 { 0 } else { compressor % 3 };
            Header {
                serializer,
                compressor,
                protection,
                stamps,
                raw_length: if serializer == 0 { 0 } else { numbers.0 },
                key_id: if protection == Protection::None { 0 } else { numbers.1.max(1) },
                dictionary: if compressor == 0 { 0 } else { numbers.2 },
                tags: Tags::NONE,
                etag: None,
                returned: serializer == 0 && numbers.0 % 2 == 1,
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn what_was_written_is_read_and_no_shorter_piece_of_it(
            facts in facts(), tags in vec(".{0,9}", 0..4), etag in proptest::option::of(vec(any::<u8>(), 0..9)),
        ) {
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            let encoded = Tags::encode(&tags).unwrap();
            let header = Header { tags: Tags::over(tags.len(), &encoded), etag: etag.as_deref(), ..facts };
            let mut out = Vec::new();
            header.write(&mut out);
            prop_assert_eq!(out.len(), header.len());
            for end in 0..out.len() {
                prop_assert_eq!(Header::read(&out[..end]), Err(Refusal::Truncated));
            }
            out.extend_from_slice(b"body");
            let read = Header::read(&out).unwrap();
            prop_assert_eq!(read, header);
            prop_assert_eq!(read.tags.collect::<Vec<_>>(), tags);
        }

        #[test]
        fn whatever_is_read_is_what_would_be_written(bytes in vec(any::<u8>(), 0..90), flags in 0..=KNOWN, ids in 0_u8..4) {
            let mut bytes = bytes;
            // Mostly zeros where a wrong bit refuses it all, so that many of these are headers.
            bytes.iter_mut().zip([FORMAT, flags, ids & 1, ids >> 1]).for_each(|(place, byte)| *place = byte);
            bytes.iter_mut().take(LENGTH + 1).skip(40).for_each(|byte| *byte &= ids);
            if let Ok(header) = Header::read(&bytes) {
                let mut out = Vec::new();
                header.write(&mut out);
                prop_assert_eq!(&out[..], &bytes[..header.len()]);
            }
        }
    }

    fn plain() -> Vec<u8> {
        let mut out = Vec::new();
        let header = Header {
            serializer: 3,
            compressor: 0,
            protection: Protection::None,
            stamps: Stamps::default(),
            raw_length: 0,
            key_id: 0,
            dictionary: 0,
            tags: Tags::NONE,
            etag: None,
            returned: false,
        };
        header.write(&mut out);
        out
    }

    #[test]
    fn the_overhead_of_a_plain_value_is_at_most_72_bytes_with_its_envelope() {
        assert_eq!(plain().len(), LENGTH);
        assert!(super::super::envelope::LENGTH + plain().len() <= 72);
    }

    #[test]
    fn what_the_stores_script_compares_is_where_the_script_looks() {
        let mut out = plain();
        out[4..12].copy_from_slice(&7_u64.to_be_bytes());
        assert_eq!(Header::read(&out).unwrap().stamps.fresh_until, 7);
    }

    #[test]
    fn a_header_of_another_version_or_one_that_contradicts_itself_is_refused() {
        let changed = |at: usize, byte: u8| {
            let mut out = plain();
            out[at] = byte;
            Header::read(&out).map(|_| ()).unwrap_err()
        };
        assert_eq!(changed(0, 2), Refusal::UnknownFormat);
        assert_eq!(changed(1, 1 << 7), Refusal::UnknownFlags);
        let flags = [MISSING, COMPRESSED, SEALED, ENCRYPTED, RETURNED, RETURNED | MISSING].map(|flags| (1, flags));
        for (at, byte) in flags.into_iter().chain([(2, 0), (3, 1), (47, 1), (51, 1)]) {
            assert_eq!(changed(at, byte), Refusal::Malformed, "byte {at} is {byte}");
        }
        for flag in [TAGS, ETAG] {
            assert_eq!(changed(1, flag), Refusal::Truncated);
        }
        let mut no_tags = plain();
        no_tags[1] = TAGS;
        no_tags.extend_from_slice(&[0, 0]);
        assert_eq!(Header::read(&no_tags), Err(Refusal::Malformed), "a list of no tags");
        no_tags.splice(LENGTH.., [0, 1, 0, 1, 0xff]);
        assert_eq!(Header::read(&no_tags), Err(Refusal::Malformed), "a tag that is not UTF-8");
    }
}
