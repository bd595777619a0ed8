//! A shard: what one lock guards, and what is done to it under that lock.
//!
//! All its keys live in one group of one table; clearing renews the group.

use super::waiting::{Cancel, Waiter};
use crate::core::clock::{Clock, Millis};
use crate::core::flight::{Fill, FlightId, Flights};
use crate::core::memory::{
    self, Capacity, Discard, Eviction, GroupId, New, Placement, Reason, RegionId, Steering, Worth,
};
use crate::core::stats::Stats;
use parking_lot::{Mutex, MutexGuard};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

type Memory<K, V> = memory::Memory<K, Arc<V>, Waiter<V>>;

/// The one region of a shard's table.
pub(super) const REGION: RegionId = RegionId(0);

/// See the module. Two shards never share a cache line, nor a pair of them that is fetched as one.
#[repr(align(128))]
pub(super) struct Shard<K, V>(Mutex<State<K, V>>);

impl<K, V> Shard<K, V> {
    pub fn new(bound: Capacity, eviction: Eviction, steering: Steering) -> Self {
        let mut memory = Memory::new(bound, eviction);
        let group = memory.entries.add_group(REGION);
        memory.entries.steer(REGION, steering);
        Shard(Mutex::new(State { memory, group, weighs: bound.weight != u64::MAX, loads: HashMap::new() }))
    }

    /// What tells it from all others as long as it lives.
    pub fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.0.lock()
    }
}

/// What the lock guards.
pub(super) struct State<K, V> {
    pub memory: Memory<K, V>,
    pub group: GroupId,
    /// True if it is bounded in bytes, so that its entries have to be weighed.
    pub weighs: bool,
    /// What stops the load of each flight: from its begin until it has answered everyone.
    pub loads: HashMap<FlightId, Cancel>,
}

/// A value that arrives: when it does, and when it ends, `None` if it is not to be stored.
pub(super) struct Arrival<V> {
    pub value: Arc<V>,
    pub now: Millis,
    pub deadline: Option<Millis>,
    /// In bytes; `None` where entries are counted.
    pub weight: Option<u64>,
}

impl<V> Arrival<V> {
    fn worth(&self, load: Duration) -> Worth {
        Worth::new(self.weight.unwrap_or(1), load)
    }
}

impl<K, V> State<K, V> {
    pub fn stats(&mut self) -> &mut Stats {
        self.memory.entries.stats_mut(self.group)
    }

    pub fn flights(&mut self) -> &mut Flights<K, Waiter<V>> {
        &mut self.memory.flights
    }

    /// Forgets everything in one step, and every load under way.
    pub fn clear(&mut self) {
        let State { memory, group, loads, .. } = self;
        *group = memory.entries.renew_group(*group);
        for &flight in loads.keys() {
            memory.flights.detach(flight);
        }
    }

    /// An explicit write. `found` is the slot of the key, served or not.
    pub fn put(&mut self, found: Option<u32>, hash: u64, key: K, arrival: Arrival<V>, out: &mut Discard<K, Arc<V>>) {
        let worth = arrival.worth(Duration::ZERO);
        let Arrival { value, now, deadline, .. } = arrival;
        let placement = deadline.map(|deadline| Placement::new(self.group, deadline, 0).worth(worth));
        let entries = &mut self.memory.entries;
        match (found, placement) {
            (Some(id), Some(placement)) => {
                entries.replace(id, Some(key), value, placement, now, out);
            }
            (None, Some(placement)) => {
                entries.insert(New { hash, key, value, placement }, now, out);
            }
            (found, None) => {
                if let Some(id) = found {
                    entries.remove(id, Reason::Removed, out);
                }
                out.keep(Some(key), Some(value));
            }
        }
    }

    /// What a load has brought.
    pub fn fill(&mut self, fill: Fill<K>, arrival: Arrival<V>, out: &mut Discard<K, Arc<V>>) {
        let worth = arrival.worth(Duration::from_millis(arrival.now.saturating_sub(fill.began)));
        let Arrival { value, now, deadline, .. } = arrival;
        match deadline {
            Some(deadline) => {
                let placement = Placement::new(self.group, deadline, 0).worth(worth);
                self.memory.fill(fill, value, placement, now, out);
            }
            None => out.keep(Some(fill.key), Some(value)),
        }
    }

    pub fn validate(&self) -> Result<(), String> {
        let (flights, loads) = (self.memory.flights.len(), self.loads.len());
        if flights != loads {
            return Err(format!("{flights} flights, {loads} of them can be stopped"));
        }
        self.memory.entries.validate()
    }
}

impl<K: Eq, V> State<K, V> {
    pub fn find<Q: Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
    {
        self.memory.entries.find(hash, |other| other.borrow() == key)
    }

    /// The value of a key if it may be served, counted as a hit.
    pub fn read<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q, clock: &Clock) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        let id = self.find(hash, key)?;
        Some(Arc::clone(self.memory.entries.read(id, |end| clock.has_come(end))?.value))
    }

    pub fn flight<Q: Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<FlightId>
    where
        K: Borrow<Q>,
    {
        self.memory.flights.find(hash, |other| other.borrow() == key)
    }
}
