//! A frame as a store has it: with its version, and the two moments a store reads of it. The envelope around it is
//! [`codec::envelope`](crate::codec::envelope)'s; anything else is no frame, and as good as nothing.

use crate::codec::envelope::Envelope;
use crate::core::remote::cell::Framed;
use crate::core::remote::{Token, Version};
use bytes::{Buf, Bytes};

/// A frame's flags are here; bit 0 says that there is no value.
const FLAGS: usize = 1;
/// Its `fresh_until` begins here, in µs since 1970.
const FRESH_UNTIL: usize = 4;
/// And its `expires` here.
const EXPIRES: usize = 12;
/// The shortest frame: it has both.
pub const SHORTEST: usize = 20;

/// A frame that a store has, and its version.
#[derive(Clone)]
pub struct Stored {
    version: Version,
    /// Perhaps a slice of what was read at once with it, which is kept as long as this is.
    frame: Bytes,
}

impl PartialEq for Stored {
    fn eq(&self, other: &Self) -> bool {
        (self.version, self.frame()) == (other.version, other.frame())
    }
}

impl Eq for Stored {}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stored({:?}, {} bytes)", self.version, self.frame().len())
    }
}

impl Stored {
    /// This frame under this version, if it is long enough for one.
    pub fn new(version: Version, frame: impl Into<Bytes>) -> Option<Self> {
        let frame = frame.into();
        (frame.len() >= SHORTEST).then_some(Stored { version, frame })
    }

    /// The frame in what was found under a key, if there is one.
    #[inline]
    pub fn unwrap(bytes: impl Into<Bytes>) -> Option<Self> {
        let mut bytes = bytes.into();
        let (envelope, frame) = Envelope::read(&bytes).ok()?;
        bytes.advance(bytes.len() - frame?.len());
        Stored::new(envelope.version, bytes)
    }

    /// The frame.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// The frame and the version.
    pub fn into_parts(self) -> (Version, Vec<u8>) {
        // A copy of its own: else what was read at once with it would stay for as long.
        (self.version, self.frame.to_vec())
    }

    fn moment(&self, at: usize) -> u64 {
        number(&self.frame, at).unwrap_or(0)
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

    fn has_value(&self) -> bool {
        self.frame.get(FLAGS).is_some_and(|flags| flags & 1 == 0)
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
    use crate::codec::envelope::Claim;
    use proptest::prelude::*;

    fn wrapped(claim: Option<Claim>, frame: Option<&[u8]>) -> Vec<u8> {
        let mut bytes = Vec::new();
        Envelope { version: Version(77), claim, tombstone: false }.write(frame, &mut bytes);
        bytes
    }

    #[test]
    fn a_frame_is_found_behind_its_envelope_with_a_claim_or_without() {
        let frame: Vec<u8> = (0..SHORTEST as u8).collect();
        let claim = Some(Claim { token: [9; 16], deadline: 9 });
        for claim in [None, claim] {
            let stored = Stored::unwrap(wrapped(claim, Some(&frame))).unwrap();
            assert_eq!((stored.version(), stored.frame()), (Version(77), &frame[..]));
            assert_eq!(stored.fresh_until(), 0x0405_0607_0809_0a0b);
            assert_eq!(stored.expires(), 0x0c0d_0e0f_1011_1213);
            assert_eq!(stored.into_parts(), (Version(77), frame.clone()));
            assert_eq!(Stored::unwrap(wrapped(claim, None)), None);
        }
        assert_eq!(Stored::unwrap(wrapped(None, Some(&frame[1..]))), None);
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
