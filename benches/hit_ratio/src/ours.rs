//! Samovar's own policies, through the cache a Rust user gets.
//!
//! `ttl` is not among the columns: no trace here carries a ttl, and without one it has nothing to choose by.

use crate::replay::{Bound, Candidate};
use samovar::{Cache, Eviction, Memory, Policy};

struct Ours(Cache<u32, u32>);

/// A cache of ours under the policy of this name, if there is one. Its hashes are seeded anew.
pub fn build(policy: &str, bound: Bound) -> Option<Box<dyn Candidate>> {
    let eviction: Eviction = policy.parse().ok()?;
    let memory = match bound.sized {
        false => Memory::entries(usize::try_from(bound.capacity).ok()?),
        true => Memory::bytes(bound.capacity),
    };
    let builder = Cache::builder().memory(memory.eviction(eviction)).weigher(|size: &u32| u64::from(*size));
    Some(Box::new(Ours(builder.build())))
}

impl Candidate for Ours {
    fn get(&mut self, key: u32) -> bool {
        self.0.get(&key).is_some()
    }

    fn insert(&mut self, key: u32, size: u32) {
        self.0.insert(key, size, Policy::default());
    }
}
