//! Another bound or another order while the cache works. One at a time; each shard is changed under its own lock.
//!
//! Nothing is dropped but what no longer fits. Where entries were counted and now are weighed, those that are there are
//! weighed now, outside the locks, a few at a time: whoever arrives after its shard was changed is weighed already.

use super::held::Held;
use super::options::Memory;
use super::shard::{REGION, Shard};
use super::shared::Shared;
use super::split::shares;
use crate::core::memory::{Steering, Target};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Entries weighed between two holds of a lock.
const SLICE: usize = 64;
/// A slice of tidying evicts at least so many while there are too many.
const EVICTED: u32 = 16;

impl<K, V> Shared<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub fn resize(&self, memory: Memory) {
        let unit_changes = self.change(memory);
        for shard in self.shards() {
            if unit_changes {
                self.reweigh(shard);
            }
            let slots = shard.lock().memory.entries.slots();
            self.expect(self.tidy(shard, slots / EVICTED + 1));
        }
    }

    /// True if what is there has to be weighed anew.
    fn change(&self, memory: Memory) -> bool {
        let mut in_force = self.memory.lock();
        let bound = memory.bound();
        let reorders = memory.order() != in_force.order();
        let count = self.shards().len();
        for ((shard, share), steering) in self.shards().iter().zip(shares(bound, count)).zip(Steering::shared(count)) {
            let mut state = shard.lock();
            state.weighs = memory.weighs();
            state.memory.entries.resize(REGION, share);
            if reorders {
                state.memory.entries.reorder(REGION, memory.order());
                state.memory.entries.steer(REGION, steering);
            }
        }
        self.weighs.store(memory.weighs(), Relaxed);
        std::mem::replace(&mut *in_force, memory).weighs() != memory.weighs()
    }

    /// Weighs all entries as the bound in force demands.
    fn reweigh(&self, shard: &Shard<K, V>) {
        let slots = shard.lock().memory.entries.slots();
        for first in (0..slots).step_by(SLICE) {
            let (weighs, held) = {
                let state = shard.lock();
                let entries = &state.memory.entries;
                let ids = first..slots.min(first + SLICE as u32);
                let held = ids.filter_map(|id| Some((entries.target(id), Arc::clone(entries.peek(id)?.value))));
                (state.weighs, held.collect::<Vec<(Target, Arc<Held<V>>)>>())
            };
            let weights: Vec<u64> = held.iter().map(|(_, held)| if weighs { self.weigh(held) } else { 1 }).collect();
            let mut state = shard.lock();
            if state.weighs != weighs {
                // Somebody resizes anew, and weighs all of them again.
                return;
            }
            for ((target, _), weight) in held.iter().zip(weights) {
                if let Some(id) = state.memory.entries.resolve(*target) {
                    state.memory.entries.reweigh(id, weight);
                }
            }
        }
    }
}
