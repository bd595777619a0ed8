//! The peers from Rust, each as its documentation says to build it, with one shard where it can be told so.
//!
//! A sharded cache splits its bound, and small caches then miss for that alone; what is compared here is the policy.

use crate::replay::{Bound, Candidate};
use foyer_memory::{CacheBuilder, EvictionConfig, FifoConfig, LfuConfig, LruConfig, S3FifoConfig, SieveConfig};

/// Moka holds up to 64 new entries beside its bound until its next maintenance, and may hit them there. Strict, it is
/// asked for maintenance after every insert and keeps the bound.
struct Moka {
    cache: moka::sync::Cache<u32, u32>,
    strict: bool,
}

/// Builds a `moka::sync::Cache` with its default policy, TinyLFU.
pub fn moka(bound: Bound, strict: bool) -> Box<dyn Candidate> {
    let builder = moka::sync::Cache::builder().max_capacity(bound.capacity).weigher(|_, size: &u32| *size);
    Box::new(Moka { cache: builder.build(), strict })
}

impl Candidate for Moka {
    fn get(&mut self, key: u32) -> bool {
        self.cache.get(&key).is_some()
    }

    fn insert(&mut self, key: u32, size: u32) {
        self.cache.insert(key, size);
        if self.strict {
            self.cache.run_pending_tasks();
        }
    }
}

#[derive(Clone)]
struct BySize;

impl quick_cache::Weighter<u32, u32> for BySize {
    fn weight(&self, _: &u32, size: &u32) -> u64 {
        u64::from(*size)
    }
}

struct QuickCache(quick_cache::unsync::Cache<u32, u32, BySize>);

/// Builds quick_cache's unsynchronised cache: one shard.
pub fn quick_cache(bound: Bound) -> Box<dyn Candidate> {
    Box::new(QuickCache(quick_cache::unsync::Cache::with_weighter(bound.entries, bound.capacity, BySize)))
}

impl Candidate for QuickCache {
    fn get(&mut self, key: u32) -> bool {
        self.0.get(&key).is_some()
    }

    fn insert(&mut self, key: u32, size: u32) {
        self.0.insert(key, size);
    }
}

/// Foyer takes a value larger than its bound and empties itself for it; here as elsewhere such a value is not stored.
struct Foyer {
    cache: foyer_memory::Cache<u32, u32>,
    bound: Bound,
}

/// Builds foyer's memory cache with one shard and the defaults of a policy.
fn foyer(bound: Bound, policy: impl Into<EvictionConfig>) -> Box<dyn Candidate> {
    let capacity = usize::try_from(bound.capacity).expect("a bound that fits this machine");
    let builder = CacheBuilder::new(capacity).with_shards(1).with_eviction_config(policy);
    let cache = builder.with_weighter(|_: &u32, size: &u32| *size as usize).build();
    Box::new(Foyer { cache, bound })
}

/// Foyer's FIFO.
pub fn foyer_fifo(bound: Bound) -> Box<dyn Candidate> {
    foyer(bound, FifoConfig::default())
}

/// Foyer's LRU with a pool of high priority, its default.
pub fn foyer_lru(bound: Bound) -> Box<dyn Candidate> {
    foyer(bound, LruConfig::default())
}

/// Foyer's W-TinyLFU with a fixed window.
pub fn foyer_lfu(bound: Bound) -> Box<dyn Candidate> {
    foyer(bound, LfuConfig::default())
}

/// Foyer's S3-FIFO.
pub fn foyer_s3fifo(bound: Bound) -> Box<dyn Candidate> {
    foyer(bound, S3FifoConfig::default())
}

/// Foyer's SIEVE.
pub fn foyer_sieve(bound: Bound) -> Box<dyn Candidate> {
    foyer(bound, SieveConfig)
}

impl Candidate for Foyer {
    fn get(&mut self, key: u32) -> bool {
        self.cache.get(&key).is_some()
    }

    fn insert(&mut self, key: u32, size: u32) {
        if u64::from(size) <= self.bound.capacity {
            drop(self.cache.insert(key, size));
        }
    }
}
