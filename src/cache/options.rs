//! How a cache is built, in the words of the Python face: a name, a memory tier, a clock.

use super::Cache;
use super::shared::Shared;
use crate::core::clock::Clock;
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
}

impl Memory {
    /// Holds at most `max_entries`: then the least recently used leaves. Zero holds nothing; loads are still shared.
    pub fn entries(max_entries: usize) -> Self {
        Memory { max_entries }
    }
}

impl Default for Memory {
    /// 100 000 entries.
    fn default() -> Self {
        Memory::entries(MAX_ENTRIES)
    }
}

/// What a cache is to be; made by [`Cache::builder`].
#[derive(Clone, Debug)]
pub struct CacheBuilder<K, V> {
    name: String,
    memory: Memory,
    clock: Clock,
    makes: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Default for CacheBuilder<K, V> {
    fn default() -> Self {
        let (name, memory, clock) = ("default".into(), Memory::default(), Clock::system());
        CacheBuilder { name, memory, clock, makes: PhantomData }
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

    /// Where the time comes from: a frozen clock lets a test own it. The system's if not given.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The cache. Starts no thread and needs no runtime.
    pub fn build(self) -> Cache<K, V> {
        let shared = Arc::new(Shared::new(self.name, self.memory.max_entries, self.clock));
        Shared::have_swept(&shared);
        Cache(shared)
    }
}

/// So many minutes, to write a ttl as one says it.
pub const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes.saturating_mul(60))
}
