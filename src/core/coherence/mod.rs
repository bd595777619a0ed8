//! What keeps the memories of many processes in step: tags and namespaces as stamps compared at read, the messages by which
//! processes tell each other of changes, and how it is known that none was missed.
//!
//! Pure, as all of the core. A cache has one [clock](cell) in its store: it gives stamps, counts messages and keeps a register for
//! each tag or namespace that was ever moved. Each process has a [mirror](registers) of it, [hears](hearing) what others
//! [say](message), and judges what it has by that. Nobody is ever asked for the members of a tag: there is no such list.

pub mod cell;
pub mod hearing;
pub mod heed;
pub mod message;
pub mod owed;
pub mod registers;
#[cfg(test)]
mod sim;

/// Who publishes: random, from the operating system, so that a cache knows its own messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(pub u128);

/// What becomes of what bears a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum How {
    /// It is no more.
    Gone,
    /// It has expired: of use only where something stale is.
    Stale,
}

/// A tag within a namespace and those below it; an empty tag: all of the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// The namespace's path, its parts separated by `:`; empty: the whole cache.
    pub path: Box<str>,
    /// The tag, as it is written: no character means anything in it.
    pub tag: Box<str>,
}

/// What a zero byte of a path becomes in the bytes of a name, where one separates: UTF-8 has no such byte.
const ZERO: u8 = 0xFF;

impl Name {
    /// Of these.
    pub fn new(path: &str, tag: &str) -> Self {
        Name { path: path.into(), tag: tag.into() }
    }

    /// Its bytes: `path 0x00 tag`, which no other name shares.
    pub fn to_bytes(&self) -> Vec<u8> {
        let path = self.path.bytes().map(|byte| if byte == 0 { ZERO } else { byte });
        path.chain([0]).chain(self.tag.bytes()).collect()
    }

    /// The name with these bytes, if one has them.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let at = bytes.iter().position(|&byte| byte == 0)?;
        let path = bytes[..at].iter().map(|&byte| if byte == ZERO { 0 } else { byte }).collect();
        let path = String::from_utf8(path).ok()?;
        let tag = std::str::from_utf8(&bytes[at + 1..]).ok()?;
        Some(Name { path: path.into(), tag: tag.into() })
    }
}

/// Stamps, or moments of another order, at which something was invalidated and expired last; 0: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Moved {
    /// Invalidated.
    pub gone: u64,
    /// Expired.
    pub stale: u64,
}

impl Moved {
    /// The later of both.
    pub fn last(self) -> u64 {
        self.gone.max(self.stale)
    }

    /// Both, each no earlier than that. True if that changes anything.
    pub fn raise(&mut self, to: Moved) -> bool {
        let before = *self;
        *self = Moved { gone: self.gone.max(to.gone), stale: self.stale.max(to.stale) };
        *self != before
    }

    /// Moved once.
    pub fn once(how: How, at: u64) -> Self {
        match how {
            How::Gone => Moved { gone: at, stale: 0 },
            How::Stale => Moved { gone: 0, stale: at },
        }
    }
}

/// Registers that were moved together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Move {
    /// Which.
    pub names: Vec<Name>,
    /// And how.
    pub how: How,
    /// The store's stamp.
    pub at: u64,
}

/// All registers of a cache at one moment. What has no register was not moved since the floor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// Whatever has this stamp or an earlier one is gone.
    pub floor: u64,
    /// The registers.
    pub registers: Vec<(Name, Moved)>,
}

/// What a cache's clock answers: a stamp given now, and what it has counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Told {
    /// Later than all that was moved until now: what begins to load with it was touched by none of that.
    pub stamp: u64,
    /// The stamp it began with; another one if it has lost what it knew.
    pub birth: u64,
    /// How many messages were published.
    pub messages: u64,
    /// How many times registers were moved.
    pub moves: u64,
    /// The registers, unless the asker knows them.
    pub all: Option<Snapshot>,
}

/// What somebody knows of a clock already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Known {
    /// See [`Told`].
    pub birth: u64,
    /// See [`Told`].
    pub moves: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_of_a_name_are_path_zero_tag() {
        assert_eq!(Name::new("a:b", "c").to_bytes(), b"a:b\0c");
        assert_eq!(Name::new("", "").to_bytes(), b"\0");
        assert_eq!(Name::from_bytes(b"nothing"), None);
        assert_eq!(Name::from_bytes(b"\xFE\0tag"), None);
    }

    proptest! {
        #[test]
        fn names_come_back_from_their_bytes_and_share_none(
            path in "[a:%*\\x00]{0,5}", tag in "[a:%*\\x00]{0,5}", other in "[a:%*\\x00]{0,5}", third in "[a:%*\\x00]{0,5}",
        ) {
            let (one, two) = (Name::new(&path, &tag), Name::new(&other, &third));
            prop_assert_eq!(Name::from_bytes(&one.to_bytes()), Some(one.clone()));
            prop_assert_eq!(one.to_bytes() == two.to_bytes(), one == two);
        }
    }
}
