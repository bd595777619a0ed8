//! How a cache is built, in the words of the Python face: a name, a memory tier, a clock; and who hears of what leaves.

use super::Cache;
use super::background::Background;
use super::listener::Listener;
use super::remote::{Remote, Tier};
use super::shared::{Parts, Shared};
use crate::codec::values::Codec;
use crate::core::clock::Clock;
use crate::core::memory::{Capacity, Eviction, Reason};
use std::fmt;
use std::hash::Hash;
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
    /// without what it points to if there is none. An entry heavier than that, or than its
    /// [shard's](CacheBuilder::shards) share of it, is refused.
    pub fn bytes(max_bytes: u64) -> Self {
        Memory { max_entries: usize::MAX, max_bytes: Some(max_bytes), eviction: Eviction::default() }
    }

    /// Which entry leaves when there is no room. [`Eviction::Adaptive`] if not given.
    pub fn eviction(self, eviction: Eviction) -> Self {
        Memory { eviction, ..self }
    }

    /// The most entries; `usize::MAX` where only bytes are bounded.
    pub fn max_entries(&self) -> usize {
        self.max_entries
    }

    /// The most bytes, if bytes are bounded.
    pub fn max_bytes(&self) -> Option<u64> {
        self.max_bytes
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

    /// True if it is bounded in bytes.
    pub(super) fn weighs(self) -> bool {
        self.bound().weight != u64::MAX
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
    shards: usize,
    clock: Clock,
    background: Background,
    weigher: Option<Weigher<V>>,
    listener: Option<Listener<K, V>>,
    remote: Option<Opening<K, V>>,
}

/// Gives what is behind the memory of the cache of this name.
type Opening<K, V> = Box<dyn FnOnce(&str) -> Arc<dyn Tier<K, V>> + Send + Sync>;

impl<K, V> Default for CacheBuilder<K, V> {
    fn default() -> Self {
        let (name, memory, clock) = ("default".into(), Memory::default(), Clock::system());
        let background = Background::default();
        CacheBuilder { name, memory, shards: 1, clock, background, weigher: None, listener: None, remote: None }
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

    /// Splits the cache into so many parts, each with a lock of its own, so that threads seldom wait for each other: four
    /// for each thread that uses it all the time is a good number. One if not given.
    ///
    /// The number is rounded up to a power of two (0 counts as 1), and down to what leaves each shard 1 024 entries, and
    /// where bytes are counted 1 MiB, of the bound; more than 256 are never made. [`Cache::shards`] tells how many there
    /// are.
    ///
    /// The bound stays one number for the whole cache, which never holds more. But each shard has an equal share of it, and
    /// each evicts for itself: a cache that is nearly full may evict while others of its shards have room, who leaves is
    /// the last in its shard's order, and **an entry heavier than a shard's share of the bytes is refused**, which
    /// [`Stats::refused`](crate::Stats::refused) counts. Which setting of an adaptive order is in force is decided once,
    /// for all shards.
    ///
    /// ```
    /// # use samovar::{Cache, Memory};
    /// let cache: Cache<u64, u64> = Cache::builder().max_entries(10_000).shards(6).build();
    /// assert_eq!(cache.shards(), 8);
    /// let small: Cache<u64, u64> = Cache::builder().max_entries(1_000).shards(6).build();
    /// assert_eq!(small.shards(), 1);
    /// ```
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// What a value weighs, in bytes; asked once for each value stored, and by a [`resize`](Cache::resize) to a bound in
    /// bytes, outside the cache's locks. Counts where the memory tier is [bounded in bytes](Memory::bytes).
    pub fn weigher(mut self, weigher: impl Fn(&V) -> u64 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Arc::new(weigher));
        self
    }

    /// Has a store behind the memory, which other processes share: one of its own, or a [`Remote`] that says how values are kept
    /// there. None if not given.
    ///
    /// Keys are text then, and values what the codec writes: for MessagePack, the default, whatever implements serde's traits. An
    /// entry is called `cache:namespace:key` in the store, the same from Rust and from Python.
    ///
    /// - A [load](Cache::get_or_load) asks the store first. What it has comes into memory for the rest of its life, and nothing is
    ///   loaded; else the store is told that somebody loads, and takes what that brings unless the key was written or deleted
    ///   meanwhile, in whatever process. [`Stats::remote_hits`](crate::Stats::remote_hits) counts what it had.
    /// - [`set`](Cache::set), [`delete`](Cache::delete), [`fetch`](Cache::fetch) and their like are about both tiers.
    /// - [`get`](Cache::get), [`peek`](Cache::peek), [`contains`](Cache::contains) and [`explain`](Cache::explain) look at memory alone. What writes
    ///   without an await (`insert`, `remove`, `clear` and their like) would leave the store as it was, and **panics**.
    /// - While the store is slow, wrong or gone, loads run all the same, and memory alone has what they bring.
    /// - Over a store with a bus, as Redis is, others are told of what is written or deleted here, and this cache hears of them. What it has
    ///   in memory is let go then, within two seconds at most. What may be out of date, since something may have been missed, is
    ///   asked for before it is served, and served while the store cannot be asked: [`Cache::bus_stats`]. [`get`](Cache::get), which
    ///   asks nobody, gives it only then. Over another store, or with [`Remote::bus`] off, it stays until it ends, or for
    ///   [`Remote::memory_ttl`].
    ///
    /// Misses need a runtime whose time is enabled.
    ///
    /// ```
    /// # use samovar::io::store::local::LocalStore;
    /// # use samovar::{Cache, Policy, minutes};
    /// # use std::convert::Infallible;
    /// # use std::sync::Arc;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// # let store = Arc::new(LocalStore::default());
    /// // let store = Arc::new(Redis::open("redis://localhost:6379/0")?);
    /// let process = || Cache::<String, u64>::builder().name("app").remote(Arc::clone(&store)).build();
    /// let (here, there) = (process(), process());
    /// let policy = Policy::ttl(minutes(5));
    /// for cache in [here, there.clone()] {
    ///     let answer = cache.get_or_load("six by seven", policy, |_| async { Ok::<_, Infallible>(42) }).await;
    ///     assert_eq!(answer.unwrap(), 42);
    /// }
    /// assert_eq!((there.stats().loads, there.stats().remote_hits), (0, 1));
    /// # });
    /// ```
    pub fn remote<C>(mut self, remote: impl Into<Remote<C>>) -> Self
    where
        K: AsRef<str> + Clone,
        C: Codec<V> + Send + Sync + 'static,
    {
        let remote = remote.into();
        self.remote = Some(Box::new(move |cache| remote.open(cache)));
        self
    }

    /// Called with each entry that leaves the cache, and why: evicted to make room, expired, removed, replaced by another
    /// value, or cleared with all others. Not called for a value that was never let in, nor for what is there when the
    /// cache is dropped.
    ///
    /// It is called after the operation that let the entry go, outside the cache's locks, on the thread of that operation:
    /// a caller's, a load's, the one on which a [store](Self::remote) answers a write, or the one of the sweeper, where it
    /// holds up all sweeping of the process. Two threads may
    /// call it at once, and what happened to a key on two threads it may hear in either order. It may use the cache: what
    /// that lets go it hears when its call is over, so one that always stores what was evicted never ends. If it panics,
    /// the panic hook tells, and nobody else: the operation ends as it would have.
    ///
    /// ```
    /// use samovar::{Cache, Policy, Reason};
    /// use std::sync::{Arc, Mutex};
    ///
    /// let gone = Arc::new(Mutex::new(Vec::new()));
    /// let told = Arc::clone(&gone);
    /// let cache = Cache::<String, u32>::builder()
    ///     .max_entries(1)
    ///     .on_evict(move |key, value, reason| told.lock().unwrap().push((key.clone(), *value, reason)))
    ///     .build();
    /// for value in 1..=2 {
    ///     cache.insert("a".into(), value, Policy::forever());
    /// }
    /// cache.insert("b".into(), 3, Policy::forever());
    /// let expected = [("a".into(), 1, Reason::Replaced), ("a".into(), 2, Reason::Evicted)];
    /// assert_eq!(*gone.lock().unwrap(), expected);
    /// ```
    pub fn on_evict(mut self, listener: impl Fn(&K, &V, Reason) + Send + Sync + 'static) -> Self {
        self.listener = Some(Listener::new(listener));
        self
    }

    /// Where the time comes from: a frozen clock lets a test own it. The system's if not given.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How many refreshes run behind at once, for all caches that are given the same. That of the process if not given: 64
    /// for all other caches together.
    pub fn background(mut self, background: &Background) -> Self {
        self.background = background.clone();
        self
    }

    /// The cache. Starts no thread and needs no runtime.
    pub fn build(self) -> Cache<K, V> {
        let CacheBuilder { name, memory, shards, clock, background, weigher, listener, remote } = self;
        let tier = remote.map(|open| open(&name));
        let shared = Arc::new(Shared::new(Parts { name, memory, shards, clock, background, weigher, listener, tier }));
        Shared::have_swept(&shared);
        Shared::have_recovered(&shared);
        Cache(shared)
    }
}

/// So many minutes, to write a ttl as one says it.
pub const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes.saturating_mul(60))
}
