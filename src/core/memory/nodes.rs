//! What a table knows of a slot beside key and value, 38 bytes by slot number: its place in three lists, whose it is, how
//! its eviction order marks it, what it is worth, and its identity.
//!
//! Each in an array of its own, so that an operation finds what it needs of many slots in few cache lines.

use super::chunks::Chunks;
use super::eviction::{Mark, Ranked};
use super::lists::{Linked, Links};
use super::worth::Worth;
use crate::core::clock::{Millis, NEVER};

/// See the module.
#[derive(Debug, Default)]
pub struct Nodes {
    links: [Chunks<Links>; 3],
    /// The group's slot in 23 bits, which is not used again as long as an entry is in it, whether the entry is apart (see
    /// [`Nodes::is_apart`]), and the mark in 8.
    owner: Chunks<u32>,
    worth: Chunks<Worth>,
    stamp: Chunks<Stamp>,
}

/// The most groups a table can have at once.
pub const GROUPS: u32 = 1 << 23;
/// Beside the group.
const APART: u32 = GROUPS;
const OWNER: u32 = (GROUPS - 1) | APART;

impl Nodes {
    /// One more, in no list.
    pub fn push(&mut self) {
        for links in &mut self.links {
            links.push(Links::default());
        }
        self.owner.push(0);
        self.worth.push(Worth::default());
        self.stamp.push(Stamp::default());
    }

    /// The slot of the group it belongs to.
    #[inline]
    pub fn group(&self, id: u32) -> u32 {
        self.owner[id] & (GROUPS - 1)
    }

    /// True if it is under the bound that its group's region has for negative entries.
    #[inline]
    pub fn is_apart(&self, id: u32) -> bool {
        self.owner[id] & APART != 0
    }

    /// Gives it to a group, unmarked.
    #[inline]
    pub fn set_group(&mut self, id: u32, group: u32, apart: bool) {
        self.owner[id] = if apart { group | APART } else { group };
    }

    /// Sets what it is worth.
    #[inline]
    pub fn set_worth(&mut self, id: u32, worth: Worth) {
        self.worth[id] = worth;
    }

    /// What tells this use of the slot from others.
    #[inline]
    pub fn stamp(&self, id: u32) -> Stamp {
        self.stamp[id]
    }

    /// A new use of the slot begins.
    #[inline]
    pub fn set_stamp(&mut self, id: u32, stamp: Stamp) {
        self.stamp[id] = stamp;
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        let links: usize = self.links.iter().map(Chunks::allocated).sum();
        links + self.owner.allocated() + self.worth.allocated() + self.stamp.allocated()
    }
}

impl<const LINK: usize> Linked<LINK> for Nodes {
    #[inline(always)]
    fn links(&self, id: u32) -> &Links {
        &self.links[LINK][id]
    }

    #[inline(always)]
    fn links_mut(&mut self, id: u32) -> &mut Links {
        &mut self.links[LINK][id]
    }
}

impl Ranked for Nodes {
    #[inline]
    fn count(&self) -> u32 {
        self.owner.len()
    }

    #[inline]
    fn mark(&self, id: u32) -> Mark {
        Mark((self.owner[id] >> 24) as u8)
    }

    #[inline]
    fn set_mark(&mut self, id: u32, mark: Mark) {
        let owner = &mut self.owner[id];
        *owner = *owner & OWNER | u32::from(mark.0) << 24;
    }

    #[inline]
    fn worth(&self, id: u32) -> Worth {
        self.worth[id]
    }
}

/// What tells one use of a slot from the next: its creation time and 20 bits of a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

impl Stamp {
    /// The next one, for an entry made now.
    #[inline]
    pub fn new(created: Millis, counter: u64) -> Self {
        Stamp(created.min(NEVER) << 20 | (counter & 0xF_FFFF))
    }

    /// That of nothing: for tests of what only passes it on.
    #[cfg(test)]
    pub const fn at_zero() -> Self {
        Stamp(0)
    }

    /// When the entry was made.
    pub fn created(self) -> Millis {
        self.0 >> 20
    }
}
