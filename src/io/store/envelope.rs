//! What a store puts around a frame, and the two moments it reads of one.
//!
//! All integers big-endian. Only the store writes an envelope: `"SV"`, its format 1, flags, the version; with [`CLAIM`] the token and
//! the deadline (µs, the store's clock) of a claim; then the frame. Anything else is no envelope, and as good as nothing.

use crate::core::remote::cell::Framed;
use crate::core::remote::{Token, Version};

/// A claim follows the version.
pub const CLAIM: u8 = 1;
/// A frame follows.
pub const FRAME: u8 = 2;
/// What was there was invalidated at the version.
pub const TOMBSTONE: u8 = 4;
/// The bytes of an envelope.
pub const PLAIN: usize = 12;
/// The bytes of one with a claim.
pub const CLAIMED: usize = 36;
/// A frame's `fresh_until` begins here, in µs since 1970.
pub const FRESH_UNTIL: usize = 4;
/// And its `expires` here.
pub const EXPIRES: usize = 12;
/// The shortest frame: it has both.
pub const SHORTEST: usize = 20;
/// No version reaches this: a script counts in floating point.
const TOO_LARGE: u64 = 1 << 53;

/// A frame that a store has, and its version.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    version: Version,
    bytes: Vec<u8>,
    /// Where the frame begins.
    at: usize,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stored({:?}, {} bytes)", self.version, self.frame().len())
    }
}

impl Stored {
    /// This frame under this version, if it is long enough for one.
    pub fn new(version: Version, frame: Vec<u8>) -> Option<Self> {
        (frame.len() >= SHORTEST).then_some(Stored { version, bytes: frame, at: 0 })
    }

    /// The frame in what was found under a key, if there is one.
    pub fn unwrap(bytes: Vec<u8>) -> Option<Self> {
        let [b'S', b'V', 1, flags, ..] = *bytes.get(..PLAIN)? else { return None };
        let version = number(&bytes, 4)?;
        let at = if flags & CLAIM == 0 { PLAIN } else { CLAIMED };
        let whole = version < TOO_LARGE && flags & FRAME != 0 && bytes.len() >= at + SHORTEST;
        whole.then_some(Stored { version: Version(version), bytes, at })
    }

    /// The frame.
    pub fn frame(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// The frame and the version.
    pub fn into_parts(mut self) -> (Version, Vec<u8>) {
        self.bytes.drain(..self.at);
        (self.version, self.bytes)
    }

    fn moment(&self, at: usize) -> u64 {
        number(&self.bytes, self.at + at).unwrap_or(0)
    }
}

impl Framed for Stored {
    fn version(&self) -> Version {
        self.version
    }

    fn fresh_until(&self) -> u64 {
        self.moment(FRESH_UNTIL)
    }

    fn expires(&self) -> u64 {
        self.moment(EXPIRES)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// A token as its 16 bytes, and back.
pub fn token_bytes(token: Token) -> [u8; 16] {
    token.bits().to_be_bytes()
}

/// See [`token_bytes`]; `None` if these are no token.
pub fn token(bytes: &[u8]) -> Option<Token> {
    Some(Token::new(u128::from_be_bytes(bytes.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wrapped(flags: u8, frame: &[u8]) -> Vec<u8> {
        let claim: &[u8] = if flags & CLAIM == 0 { &[] } else { &[9; 24] };
        [b"SV\x01", &[flags][..], &77_u64.to_be_bytes(), claim, frame].concat()
    }

    #[test]
    fn a_frame_is_found_behind_its_envelope_with_a_claim_or_without() {
        let frame: Vec<u8> = (0..SHORTEST as u8).collect();
        for flags in [FRAME, FRAME | CLAIM] {
            let stored = Stored::unwrap(wrapped(flags, &frame)).unwrap();
            assert_eq!((stored.version(), stored.frame()), (Version(77), &frame[..]));
            assert_eq!(stored.fresh_until(), 0x0405_0607_0809_0a0b);
            assert_eq!(stored.expires(), 0x0c0d_0e0f_1011_1213);
            assert_eq!(stored.into_parts(), (Version(77), frame.clone()));
        }
        for flags in [0, CLAIM, TOMBSTONE] {
            assert_eq!(Stored::unwrap(wrapped(flags, &frame)), None);
        }
        assert_eq!(Stored::unwrap(wrapped(FRAME, &frame[1..])), None);
    }

    proptest! {
        #[test]
        fn whatever_is_found_is_a_frame_or_nothing(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), ours: bool) {
            if ours && bytes.len() > 3 {
                bytes[..3].copy_from_slice(b"SV\x01");
            }
            if let Some(stored) = Stored::unwrap(bytes.clone()) {
                prop_assert!(bytes.ends_with(stored.frame()) && stored.frame().len() >= SHORTEST);
                let _ = (stored.fresh_until(), stored.expires());
            }
        }
    }
}
