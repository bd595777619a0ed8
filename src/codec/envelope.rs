//! The envelope that a store puts around a frame: the order of writes under one key, and who loads it at present.
//!
//! It is outside the seal, because the store itself writes it, in its script. So nothing in it says what a value is: whoever
//! can write to the store can make a value look older or claimed, and can remove it, but not change it.

use super::bytes::Reader;
use super::refusal::Refusal;
use crate::core::remote::Version;

/// Its first bytes.
pub const MAGIC: [u8; 2] = *b"SV";
/// The version of its format.
pub const FORMAT: u8 = 1;
/// Its length, in bytes, around a value that nobody loads.
pub const LENGTH: usize = 12;

/// No version reaches this one: a store's script counts in floating point.
pub const VERSIONS: u64 = 1 << 53;

const CLAIM: u8 = 1;
const FRAME: u8 = 1 << 1;
const TOMBSTONE: u8 = 1 << 2;

/// Somebody is loading the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose claim it is: random.
    pub token: [u8; 16],
    /// Until when it holds unless it is renewed: µs since 1970, of the store's clock.
    pub deadline: u64,
}

/// All that stands before a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// When what is here was written, in the store's order.
    pub version: Version,
    /// Who loads the value at present.
    pub claim: Option<Claim>,
    /// There was a value, and it was invalidated at `version`.
    pub tombstone: bool,
}

impl Envelope {
    /// Takes apart what a store has under a key: the envelope, and the frame if there is one.
    pub fn read(stored: &[u8]) -> Result<(Self, Option<&[u8]>), Refusal> {
        let mut rest = Reader(stored);
        if rest.array()? != MAGIC {
            return Err(Refusal::NotOurs);
        }
        if rest.u8()? != FORMAT {
            return Err(Refusal::UnknownFormat);
        }
        let flags = rest.u8()?;
        if flags & !(CLAIM | FRAME | TOMBSTONE) != 0 {
            return Err(Refusal::UnknownFlags);
        }
        let version = Version(rest.u64()?);
        let claim = match flags & CLAIM != 0 {
            true => Some(Claim { token: rest.array()?, deadline: rest.u64()? }),
            false => None,
        };
        let envelope = Envelope { version, claim, tombstone: flags & TOMBSTONE != 0 };
        let frame = (flags & FRAME != 0).then_some(rest.0);
        let contradiction = frame.map_or(!rest.0.is_empty(), |frame| envelope.tombstone || frame.is_empty());
        if contradiction || version.0 >= VERSIONS { Err(Refusal::Malformed) } else { Ok((envelope, frame)) }
    }

    /// Writes the envelope, and a frame into it; a tombstone has none.
    pub fn write(&self, frame: Option<&[u8]>, out: &mut Vec<u8>) {
        debug_assert!(!(self.tombstone && frame.is_some()), "what was invalidated has no value");
        debug_assert!(self.version.0 < VERSIONS, "{:?}", self.version);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.claim.is_some(), CLAIM) | flag(frame.is_some(), FRAME) | flag(self.tombstone, TOMBSTONE);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[FORMAT, flags]);
        out.extend_from_slice(&self.version.0.to_be_bytes());
        if let Some(claim) = &self.claim {
            out.extend_from_slice(&claim.token);
            out.extend_from_slice(&claim.deadline.to_be_bytes());
        }
        out.extend_from_slice(frame.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn envelope() -> impl Strategy<Value = Envelope> {
        let claim = (any::<[u8; 16]>(), any::<u64>()).prop_map(|(token, deadline)| Claim { token, deadline });
        (0..VERSIONS, proptest::option::of(claim), any::<bool>()).prop_map(|(version, claim, tombstone)| Envelope {
            version: Version(version),
            claim,
            tombstone,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn what_was_written_is_read(envelope in envelope(), frame in proptest::collection::vec(any::<u8>(), 1..50)) {
            let frame = (!envelope.tombstone).then_some(&frame[..]);
            let mut out = Vec::new();
            envelope.write(frame, &mut out);
            prop_assert_eq!(Envelope::read(&out), Ok((envelope, frame)));
            for end in 0..out.len() - frame.map_or(0, <[u8]>::len) {
                prop_assert_eq!(Envelope::read(&out[..end]), Err(Refusal::Truncated));
            }
        }

        #[test]
        fn whatever_is_read_is_what_would_be_written(bytes in proptest::collection::vec(any::<u8>(), 0..60), flags in 0_u8..8) {
            let mut bytes = bytes;
            bytes.iter_mut().zip([b'S', b'V', FORMAT, flags, 0]).for_each(|(place, byte)| *place = byte);
            if let Ok((envelope, frame)) = Envelope::read(&bytes) {
                let mut out = Vec::new();
                envelope.write(frame, &mut out);
                prop_assert_eq!(out, bytes);
            }
        }
    }

    #[test]
    fn a_plain_value_has_twelve_bytes_of_envelope() {
        let mut out = Vec::new();
        Envelope { version: Version(7), claim: None, tombstone: false }.write(Some(b"frame"), &mut out);
        assert_eq!(out.len(), LENGTH + 5);
    }

    #[test]
    fn what_is_not_ours_not_known_or_contradicts_itself_is_refused() {
        let refused = |bytes: &[u8]| Envelope::read(bytes).unwrap_err();
        assert_eq!(refused(b"{\"json\":1}"), Refusal::NotOurs);
        assert_eq!(refused(b"SV\x02\x02________frame"), Refusal::UnknownFormat);
        assert_eq!(refused(b"SV\x01\x0a________frame"), Refusal::UnknownFlags);
        assert_eq!(refused(b"SV\x01\x02\0\x20\0\0\0\0\0\0frame"), Refusal::Malformed, "a version of 2^53");
        assert_eq!(refused(b"SV\x01\x06\0_______frame"), Refusal::Malformed, "a tombstone with a frame");
        assert_eq!(refused(b"SV\x01\x02\0_______"), Refusal::Malformed, "a frame of no bytes");
        assert_eq!(refused(b"SV\x01\x04\0_______more"), Refusal::Malformed, "bytes that nothing announced");
    }
}
