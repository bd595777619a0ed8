//! What processes tell each other, as bytes: that a key was changed, or registers moved.
//!
//! ```text
//! "SVB" 0x01 | kind: 1 changed, 2 moved | origin: 16 bytes | number: 8 | stamp: 8 | changed: length 2, key
//!                                                                                 | moved: how (0 gone, 1 stale), count 2, each: length 2, name
//! ```
//!
//! Numbers are big-endian. The script of a store puts number and stamp between [`head`](Message::head) and [`tail`](Message::tail). A message may come
//! twice, late or from a liar: whoever hears one lets go of things, and never takes anything from it.

use super::{How, Name, Origin};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who tells it.
    pub origin: Origin,
    /// How many were told until this one; 0: nobody counts.
    pub number: u64,
    /// When it happened: the version of what was written, or the stamp of the move.
    pub stamp: u64,
    /// What happened.
    pub what: What,
}

/// What a message tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Something was written under this key, or it was invalidated.
    Changed {
        /// As stores have it, without what all keys of that store begin with.
        key: Vec<u8>,
    },
    /// Registers were moved.
    Moved {
        /// Which.
        names: Vec<Name>,
        /// And how.
        how: How,
    },
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// They do not begin as one: somebody else's.
    Foreign,
    /// They do, and cannot be read: one of ours may be lost.
    Malformed,
}

const OURS: &[u8] = b"SVB";
const FORM: u8 = 1;
const CHANGED: u8 = 1;
const MOVED: u8 = 2;

impl What {
    fn kind(&self) -> u8 {
        match self {
            What::Changed { .. } => CHANGED,
            What::Moved { .. } => MOVED,
        }
    }
}

impl Message {
    /// What stands before number and stamp.
    pub fn head(origin: Origin, what: &What) -> Vec<u8> {
        let mut bytes = OURS.to_vec();
        bytes.extend([FORM, what.kind()]);
        bytes.extend(origin.0.to_be_bytes());
        bytes
    }

    /// What stands behind number and stamp; `None` if there are 65 536 names or more, or one has as many bytes.
    pub fn tail(what: &What) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        match what {
            What::Changed { key } => put(&mut bytes, key)?,
            What::Moved { names, how } => {
                bytes.push(match how {
                    How::Gone => 0,
                    How::Stale => 1,
                });
                bytes.extend(u16::try_from(names.len()).ok()?.to_be_bytes());
                for name in names {
                    put(&mut bytes, &name.to_bytes())?;
                }
            }
        }
        Some(bytes)
    }

    /// All of it; `None` as with [`tail`](Self::tail).
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut bytes = Message::head(self.origin, &self.what);
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(self.stamp.to_be_bytes());
        bytes.extend(Message::tail(&self.what)?);
        Some(bytes)
    }

    /// The message with these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        let rest = bytes.strip_prefix(OURS).ok_or(Refusal::Foreign)?;
        read(rest).ok_or(Refusal::Malformed)
    }
}

fn read(mut rest: &[u8]) -> Option<Message> {
    let [form, kind] = take(&mut rest)?;
    let origin = Origin(u128::from_be_bytes(take(&mut rest)?));
    let (number, stamp) = (u64::from_be_bytes(take(&mut rest)?), u64::from_be_bytes(take(&mut rest)?));
    let what = match kind {
        CHANGED => What::Changed { key: part(&mut rest)?.to_vec() },
        MOVED => {
            let how = match take(&mut rest)? {
                [0] => How::Gone,
                [1] => How::Stale,
                [_] => return None,
            };
            let count = u16::from_be_bytes(take(&mut rest)?);
            let names = (0..count).map(|_| Name::from_bytes(part(&mut rest)?)).collect::<Option<_>>()?;
            What::Moved { names, how }
        }
        _ => return None,
    };
    (form == FORM && rest.is_empty()).then_some(Message { origin, number, stamp, what })
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) -> Option<()> {
    bytes.extend(u16::try_from(part.len()).ok()?.to_be_bytes());
    bytes.extend(part);
    Some(())
}

fn part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u16::from_be_bytes(take(bytes)?);
    let (part, rest) = bytes.split_at_checked(usize::from(length))?;
    *bytes = rest;
    Some(part)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn messages() -> impl Strategy<Value = Message> {
        let changed = prop::collection::vec(any::<u8>(), 0..20).prop_map(|key| What::Changed { key });
        let names = prop::collection::vec((".{0,4}", ".{0,4}").prop_map(|(path, tag)| Name::new(&path, &tag)), 0..4);
        let how = prop_oneof![Just(How::Gone), Just(How::Stale)];
        let moved = (names, how).prop_map(|(names, how)| What::Moved { names, how });
        (any::<u128>(), any::<u64>(), any::<u64>(), prop_oneof![changed, moved])
            .prop_map(|(origin, number, stamp, what)| Message { origin: Origin(origin), number, stamp, what })
    }

    proptest! {
        #[test]
        fn a_message_comes_back_from_its_bytes(message in messages()) {
            prop_assert_eq!(Message::from_bytes(&message.to_bytes().unwrap()), Ok(message));
        }

        #[test]
        fn no_beginning_and_no_continuation_of_a_message_is_one(message in messages(), more in any::<u8>()) {
            let mut bytes = message.to_bytes().unwrap();
            for end in 0..bytes.len() {
                let refusal = if end < OURS.len() { Refusal::Foreign } else { Refusal::Malformed };
                prop_assert_eq!(Message::from_bytes(&bytes[..end]), Err(refusal));
            }
            bytes.push(more);
            prop_assert_eq!(Message::from_bytes(&bytes), Err(Refusal::Malformed));
        }

        #[test]
        fn anything_else_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..60), ours in any::<bool>()) {
            let bytes = if ours { [b"SVB\x01", &bytes[..]].concat() } else { bytes };
            if let Ok(message) = Message::from_bytes(&bytes) {
                prop_assert_eq!(message.to_bytes(), Some(bytes));
            }
        }
    }

    #[test]
    fn the_bytes_are_as_written_down() {
        let what = What::Moved { names: vec![Name::new("a", "b")], how: How::Stale };
        let bytes = Message { origin: Origin(7), number: 2, stamp: 3, what }.to_bytes().unwrap();
        let expected =
            b"SVB\x01\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\x01\0\x01\0\x03a\0b";
        assert_eq!(bytes, expected);
        let bytes =
            Message { origin: Origin(7), number: 2, stamp: 3, what: What::Changed { key: b"k".to_vec() } }.to_bytes();
        assert_eq!(bytes.unwrap()[37..], *b"\0\x01k");
    }

    #[test]
    fn what_does_not_fit_is_not_told_in_part() {
        let long = "t".repeat(70_000);
        let message = |what| Message { origin: Origin(7), number: 2, stamp: 3, what };
        assert_eq!(message(What::Changed { key: long.clone().into() }).to_bytes(), None);
        assert_eq!(message(What::Moved { names: vec![Name::new("", &long)], how: How::Gone }).to_bytes(), None);
        assert_eq!(message(What::Moved { names: vec![Name::new("", "t"); 70_000], how: How::Gone }).to_bytes(), None);
    }
}
