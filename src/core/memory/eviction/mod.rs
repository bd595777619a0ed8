//! Which entry leaves when there is no room. An order ranks slot numbers; it never holds keys or values.
//!
//! One file an order, behind the trait [`Order`]. The table calls it under its lock, so every method does bounded work and
//! runs no foreign code. `segmented` is what `tinylfu` and `adaptive` are made of.

mod adaptive;
mod fifo;
mod ghosts;
mod lfu;
mod lru;
mod s3fifo;
mod segmented;
mod shadow;
mod soonest;
mod steering;
#[cfg(test)]
mod tests;
mod tinylfu;

use super::Nodes;
use super::lists::{Linked, RECENCY};
use super::worth::Worth;
use crate::core::clock::Millis;
use crate::error::Error;
use std::fmt;
use std::str::FromStr;

pub use steering::Steering;

/// The orders by name: which entry leaves when there is no room for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Eviction {
    /// The least recently used.
    Lru,
    /// The least frequently used, with ageing.
    Lfu,
    /// The oldest.
    Fifo,
    /// S3-FIFO: the oldest that was used no more than once.
    S3Fifo,
    /// W-TinyLFU: newcomers contest with the least recently used by frequency; the window is steered by hit density.
    TinyLfu,
    /// The soonest to expire.
    Ttl,
    /// Whichever of five settings would hit most, as small shadows of the cache show.
    #[default]
    Adaptive,
}

impl Eviction {
    /// All of them.
    pub const ALL: [Eviction; 7] = [
        Eviction::Adaptive,
        Eviction::Lru,
        Eviction::Lfu,
        Eviction::Fifo,
        Eviction::S3Fifo,
        Eviction::TinyLfu,
        Eviction::Ttl,
    ];

    /// The name users write.
    pub const fn name(self) -> &'static str {
        match self {
            Eviction::Lru => "lru",
            Eviction::Lfu => "lfu",
            Eviction::Fifo => "fifo",
            Eviction::S3Fifo => "s3fifo",
            Eviction::TinyLfu => "tinylfu",
            Eviction::Ttl => "ttl",
            Eviction::Adaptive => "adaptive",
        }
    }

    /// Whether hits of one entry one after the other are more than one to it. Where frequency is weighed against other
    /// things they had better not be: they are one use (O'Neil et al., "The LRU-K page replacement algorithm", 1993).
    pub(super) const fn counts_repeats(self) -> bool {
        matches!(self, Eviction::Lfu | Eviction::S3Fifo)
    }

    /// An empty order of this kind.
    pub fn order(self, bound: Capacity) -> Box<dyn Order> {
        match self {
            Eviction::Lru => Box::new(lru::Lru::default()),
            Eviction::Lfu => Box::new(lfu::Lfu::default()),
            Eviction::Fifo => Box::new(fifo::Fifo::default()),
            Eviction::S3Fifo => Box::new(s3fifo::S3Fifo::new(bound)),
            Eviction::TinyLfu => Box::new(tinylfu::TinyLfu::new(bound)),
            Eviction::Ttl => Box::new(soonest::Soonest::default()),
            Eviction::Adaptive => Box::new(adaptive::Adaptive::new(bound)),
        }
    }
}

impl fmt::Display for Eviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Eviction {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|order| order.name() == name).ok_or_else(|| {
            let names: Vec<String> = Self::ALL.iter().map(|order| format!("'{order}'")).collect();
            Error::config("eviction", format!("{name:?}"), format!("give one of {}", names.join(", ")))
        })
    }
}

/// What a region holds at most: entries, and the sum of their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Entries.
    pub entries: u32,
    /// Weight; the largest number for none.
    pub weight: u64,
}

impl Capacity {
    /// So many entries of any weight.
    pub const fn entries(entries: u32) -> Self {
        Capacity { entries, weight: u64::MAX }
    }

    /// A share of it, at least one entry.
    fn share(self, share: f64) -> Capacity {
        let entries = ((f64::from(self.entries) * share) as u32).clamp(1, self.entries.max(1));
        let weight = if self.weight == u64::MAX { u64::MAX } else { ((self.weight as f64 * share) as u64).max(1) };
        Capacity { entries, weight }
    }
}

/// What entries take of a [`Capacity`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Entries.
    pub entries: u32,
    /// The sum of their weights.
    pub weight: u64,
}

impl Load {
    /// With one more entry.
    #[inline]
    pub fn add(&mut self, worth: Worth) {
        self.entries += 1;
        self.weight += worth.weight();
    }

    /// With one entry less.
    #[inline]
    pub fn sub(&mut self, worth: Worth) {
        self.entries -= 1;
        self.weight -= worth.weight();
    }

    /// What it is without one of its entries.
    #[inline]
    pub fn without(mut self, worth: Worth) -> Self {
        self.sub(worth);
        self
    }

    /// True if there is room for an entry of this weight beside it.
    #[inline]
    pub fn leaves_room(&self, bound: Capacity, weight: u64) -> bool {
        self.entries < bound.entries && self.weight.saturating_add(weight) <= bound.weight
    }
}

/// An entry on its way in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its hash.
    pub hash: u64,
    /// When it ends.
    pub deadline: Millis,
    /// What it is worth.
    pub worth: Worth,
}

/// Who makes room for an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This one leaves.
    Evict(u32),
    /// All who would have to leave are worth more: the arrival is not let in.
    Refuse,
}

/// What an order knows about itself, for statistics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Insight {
    /// The setting in force; empty for an order that has none.
    pub setting: &'static str,
    /// How often the setting has changed.
    pub switches: u64,
    /// Estimated hit ratio of each setting.
    pub settings: Vec<(&'static str, f64)>,
    /// Estimated hit ratio at a multiple of the present capacity.
    pub curve: Vec<(f64, f64)>,
}

/// Tells an entry's hash to an order that wants to know.
pub type HashOf<'a> = &'a dyn Fn(u32) -> u64;

/// The order in which the entries of one region leave.
pub trait Order: Send + fmt::Debug {
    /// An entry has come.
    fn insert(&mut self, nodes: &mut Nodes, id: u32, new: Arrival);

    /// An entry was read, or its value replaced.
    fn hit(&mut self, nodes: &mut Nodes, id: u32, hash_of: HashOf<'_>);

    /// Entries were read, in this order.
    fn hits(&mut self, nodes: &mut Nodes, ids: &[u32], hash_of: HashOf<'_>) {
        ids.iter().for_each(|&id| self.hit(nodes, id, hash_of));
    }

    /// So many hits, not shown, were of the entry that was hit before them.
    fn repeated(&mut self, _count: u64) {}

    /// An entry is gone that nobody chose: removed, expired, or moved to another region.
    fn remove(&mut self, nodes: &mut Nodes, id: u32);

    /// Who leaves for `new`; `None` if there is nobody. May rearrange the order. `is_mine` tells the region's own slots.
    fn choose(&mut self, nodes: &mut Nodes, new: &Arrival, is_mine: &dyn Fn(&Nodes, u32) -> bool) -> Option<Choice>;

    /// The chosen one is gone.
    fn evicted(&mut self, nodes: &mut Nodes, id: u32, _hash: u64) {
        self.remove(nodes, id);
    }

    /// An entry's deadline or worth changed; its worth is still the old one.
    fn changed(&mut self, _nodes: &mut Nodes, _id: u32, _deadline: Millis, _worth: Worth) {}

    /// The region's bound changed.
    fn resized(&mut self, _bound: Capacity) {}

    /// It decides about itself as one of several.
    fn steer(&mut self, _steering: Steering) {}

    /// What it knows about itself.
    fn insight(&self) -> Insight {
        Insight::default()
    }

    /// Bytes allocated beside the nodes.
    fn allocated(&self) -> usize {
        0
    }

    /// Whether all entries of `load` are in the order; for tests.
    fn validate(&self, nodes: &Nodes, load: Load) -> Result<(), String> {
        validate_count(self.ids(nodes).len(), load)
    }

    /// All entries, the next to leave first as far as that is decided; for tests and for a change of order.
    fn ids(&self, nodes: &Nodes) -> Vec<u32>;
}

/// Records that an order can list and mark: a table's, or a shadow's.
pub trait Ranked: Linked<RECENCY> {
    /// Records there are, used or not.
    fn count(&self) -> u32;
    /// The order's own mark.
    fn mark(&self, id: u32) -> Mark;
    /// Sets the mark.
    fn set_mark(&mut self, id: u32, mark: Mark);
    /// What the entry is worth.
    fn worth(&self, id: u32) -> Worth;
}

/// What an order notes about an entry: a segment (2 bits), a frequency (4 bits), and the age it was counted in (2 bits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(pub u8);

impl Mark {
    /// Of a slot that is in no order.
    pub const FREE: Mark = Mark(3);
    /// The highest frequency.
    pub const MOST: u8 = 15;

    /// In a segment, used so often, as of an age.
    #[inline]
    pub fn new(segment: u8, frequency: u8, age: u8) -> Self {
        Mark(segment | frequency.min(Self::MOST) << 2 | age << 6)
    }

    /// The segment, 0 to 3.
    #[inline]
    pub fn segment(self) -> u8 {
        self.0 & 3
    }

    /// How often it was used.
    #[inline]
    pub fn frequency(self) -> u8 {
        self.0 >> 2 & Self::MOST
    }

    /// The age of that number: it halves with each age that has passed since.
    #[inline]
    pub fn age(self) -> u8 {
        self.0 >> 6
    }

    /// The frequency as of a later age.
    #[inline]
    pub fn frequency_at(self, age: u8) -> u8 {
        self.frequency() >> (age.wrapping_sub(self.age()) & 3)
    }
}

/// A list from its last node to its first.
fn upward(lists: &super::lists::Lists<RECENCY>, nodes: &Nodes, list: u32) -> Vec<u32> {
    let mut out = Vec::new();
    let mut at = lists.last(list);
    while at != super::lists::NIL {
        out.push(at);
        at = lists.previous(nodes, at);
    }
    out
}

/// For orders that keep all entries in lists.
fn validate_count(found: usize, load: Load) -> Result<(), String> {
    if found == load.entries as usize {
        Ok(())
    } else {
        Err(format!("{found} in order, {} in the region", load.entries))
    }
}
