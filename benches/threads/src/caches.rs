//! The caches under test behind one face, each as its documentation says to build it.

use crate::{SHARDS, Size, Value};
use quick_cache::UnitWeighter;
use quick_cache::sync::DefaultLifecycle;
use samovar::{Eviction, Memory, Policy};
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;

/// A cache that many threads use.
pub trait Candidate: Send + Sync {
    /// Asks for a key; true is a hit.
    fn get(&self, key: u64) -> bool;

    /// Stores a key; where there is no room, another leaves.
    fn insert(&self, key: u64);
}

/// Every candidate by name, with the keys that are asked for.
pub fn all<V: Value>(size: Size) -> Vec<(String, Box<dyn Candidate>)> {
    let mut all: Vec<(String, Box<dyn Candidate>)> = Vec::new();
    for eviction in [Eviction::Adaptive, Eviction::Lru] {
        for shards in [1, SHARDS] {
            let name = format!("samovar, {eviction}, {shards} shard{}", if shards == 1 { "" } else { "s" });
            all.push((name, Box::new(ours::<V>(size, eviction, shards))));
        }
    }
    let (entries, room) = (size.entries as usize, size.entries);
    all.push(("moka".into(), Box::new(moka::sync::Cache::<u64, V>::new(room))));
    all.push(("quick_cache".into(), Box::new(quick_cache::sync::Cache::<u64, V>::new(entries))));
    // With the standard library's hasher, as ours and moka have it; its own is faster.
    let (hasher, lifecycle) = (RandomState::new(), DefaultLifecycle::default());
    let slower = quick_cache::sync::Cache::<u64, V, _, _>::with(entries, room, UnitWeighter, hasher, lifecycle);
    all.push(("quick_cache, hashed as the others".into(), Box::new(slower)));
    for (_, candidate) in &all {
        (0..size.asked).for_each(|key| candidate.insert(key));
    }
    all
}

fn ours<V: Value>(size: Size, eviction: Eviction, shards: usize) -> samovar::Cache<u64, V> {
    let memory = Memory::entries(size.entries as usize).eviction(eviction);
    let cache = samovar::Cache::builder().memory(memory).shards(shards).build();
    assert_eq!(cache.shards(), shards);
    cache
}

impl<V: Value> Candidate for samovar::Cache<u64, V> {
    fn get(&self, key: u64) -> bool {
        samovar::Cache::get(self, &key).map(black_box).is_some()
    }

    fn insert(&self, key: u64) {
        samovar::Cache::insert(self, key, V::of(key), Policy::default());
    }
}

impl<V: Value> Candidate for moka::sync::Cache<u64, V> {
    fn get(&self, key: u64) -> bool {
        moka::sync::Cache::get(self, &key).map(black_box).is_some()
    }

    fn insert(&self, key: u64) {
        moka::sync::Cache::insert(self, key, V::of(key));
    }
}

impl<V: Value, B: BuildHasher + Clone + Send + Sync> Candidate for quick_cache::sync::Cache<u64, V, UnitWeighter, B> {
    fn get(&self, key: u64) -> bool {
        quick_cache::sync::Cache::get(self, &key).map(black_box).is_some()
    }

    fn insert(&self, key: u64) {
        quick_cache::sync::Cache::insert(self, key, V::of(key));
    }
}
