//! How a cache is built, in the words of the Python face: a name, a memory tier, a clock.

use super::Cache;
use super::shared::Shared;
use crate::core::clock::Clock;
use crate::core::memory::{Capacity, Eviction};
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// The memory tier's bound where none is given.
const MAX_ENTRIES: usize = 100_000;

/// The memory tier's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    max_entries: usize,
    max_bytes: Option<u64>,
    eviction: Eviction,
}

impl Memory {
    /// Holds at most `max_entries`. Zero holds nothing; loads are still shared.
    pub fn entries(max_entries: usize) -> Self {
        Memory { max_entries, max_bytes: None, eviction: Eviction::default() }
    }

    /// Holds at most `max_bytes`, as the [weigher](CacheBuilder::weigher) counts them; each value counts as its own size
    /// without what it points to if there is none.
    pub fn bytes(max_bytes: u64) -> Self {
        Memory { max_entries: usize::MAX, max_bytes: Some(max_bytes), eviction: Eviction::default() }
    }

    /// Which entry leaves when there is no room. [`Eviction::Adaptive`] if not given.
    pub fn eviction(self, eviction: Eviction) -> Self {
        Memory { eviction, ..self }
    }

    /// The bound in words of the table.
    pub(super) fn bound(self) -> Capacity {
        // The largest number stands for "no slot".
        let entries = u32::try_from(self.max_entries).unwrap_or(u32::MAX).min((u32::MAX >> 1) - 1);
        Capacity { entries, weight: self.max_bytes.unwrap_or(u64::MAX) }
    }

    pub(super) fn order(self) -> Eviction {
        self.eviction
    }
}

impl Default for Memory {
    /// 100 000 entries.
    fn default() -> Self {
        Memory::entries(MAX_ENTRIES)
    }
}

/// What a value weighs, in bytes.
pub(super) type Weigher<V> = Arc<dyn Fn(&V) -> u64 + Send + Sync>;

/// What a cache is to be; made by [`Cache::builder`].
pub struct CacheBuilder<K, V> {
    name: String,
    memory: Memory,
    clock: Clock,
    weigher: Option<Weigher<V>>,
    makes: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Default for CacheBuilder<K, V> {
    fn default() -> Self {
        let (name, memory, clock) = ("default".into(), Memory::default(), Clock::system());
        CacheBuilder { name, memory, clock, weigher: None, makes: PhantomData }
    }
}

impl<K, V> fmt::Debug for CacheBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CacheBuilder { name, memory, .. } = self;
        f.debug_struct("CacheBuilder").field("name", name).field("memory", memory).finish_non_exhaustive()
    }
}

impl<K, V> CacheBuilder<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The name, which errors and statistics show. "default" if not given.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The memory tier. 100 000 entries if not given.
    pub fn memory(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }

    /// Short for `.memory(Memory::entries(max_entries))`.
    pub fn max_entries(self, max_entries: usize) -> Self {
        self.memory(Memory::entries(max_entries))
    }

    /// What a value weighs, in bytes; asked once for each value stored, outside the cache's lock. Counts where the memory
    /// tier is [bounded in bytes](Memory::bytes).
    pub fn weigher(mut self, weigher: impl Fn(&V) -> u64 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Arc::new(weigher));
        self
    }

    /// Where the time comes from: a frozen clock lets a test own it. The system's if not given.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The cache. Starts no thread and needs no runtime.
    pub fn build(self) -> Cache<K, V> {
        let shared = Arc::new(Shared::new(self.name, self.memory, self.weigher, self.clock));
        Shared::have_swept(&shared);
        Cache(shared)
    }
}

/// So many minutes, to write a ttl as one says it.
pub const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes.saturating_mul(60))
}
