//! What leaves a table: collected under the lock, to be told of and dropped after unlocking.
//!
//! Dropping a key or a value may run foreign code, so the table itself never does.

use crate::core::clock::{Millis, NEVER};

/// Why an entry left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// To make room.
    Evicted,
    /// It was not let in: too heavy, or worth less than what it would have displaced.
    Refused,
    /// Its deadline passed.
    Expired,
    /// Its group was cleared.
    Cleared,
    /// Somebody removed it.
    Removed,
    /// Another value took its place.
    Replaced,
    /// It never was an entry.
    Unused,
}

/// An entry that left, as it was.
#[derive(Debug)]
pub struct Left<K, V> {
    /// The key; of an entry that was replaced, the one its new value came with, if any.
    pub key: Option<K>,
    /// The value; `None` for a key that was not needed.
    pub value: Option<V>,
    /// The full hash.
    pub hash: u64,
    /// When it was to leave by itself.
    pub end: Millis,
    /// What its owner noted.
    pub tag: u32,
    /// The [number](super::GroupId::number) of its group.
    pub group: u32,
    /// Why.
    pub reason: Reason,
}

/// All that left in one operation, in order. One is kept without allocating.
#[derive(Debug)]
pub struct Discard<K, V> {
    first: Option<Left<K, V>>,
    rest: Vec<Left<K, V>>,
}

impl<K, V> Default for Discard<K, V> {
    fn default() -> Self {
        Discard { first: None, rest: Vec::new() }
    }
}

impl<K, V> Discard<K, V> {
    #[inline(always)]
    pub(super) fn push(&mut self, left: Left<K, V>) {
        if self.first.is_none() {
            self.first = Some(left);
        } else {
            self.rest.push(left);
        }
    }

    /// Keeps what never was an entry.
    pub fn keep(&mut self, key: Option<K>, value: Option<V>) {
        self.push(Left { key, value, hash: 0, end: NEVER, tag: 0, group: 0, reason: Reason::Unused });
    }

    /// Gives everything away, one after the other, the last first.
    pub fn take(&mut self) -> Option<Left<K, V>> {
        self.rest.pop().or_else(|| self.first.take())
    }

    /// All of it, in the order it came.
    pub fn iter(&self) -> impl Iterator<Item = &Left<K, V>> {
        self.first.iter().chain(&self.rest)
    }

    /// How many left.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    /// True when nothing left.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}
