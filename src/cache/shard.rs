//! A shard: what one lock guards, and what is done to it under that lock.
//!
//! All its keys live in one group of one table; clearing renews the group.

use super::held::Held;
use super::remote::Looked;
use super::waiting::{Cancel, Waiter};
use crate::core::clock::{Clock, Millis};
use crate::core::flight::{FlightId, Flights, Located, Settled};
use crate::core::memory::{self, Alert, Capacity, Eviction, GroupId, RegionId, Steering};
use crate::core::remote::ledger::Ledger;
use crate::core::stats::Stats;
use parking_lot::{Mutex, MutexGuard};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::Arc;

type Memory<K, V> = memory::Memory<K, Arc<Held<V>>, Waiter<V>>;

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

impl<K, V> State<K, V> {
    pub fn stats(&mut self) -> &mut Stats {
        self.memory.entries.stats_mut(self.group)
    }

    pub fn flights(&mut self) -> &mut Flights<K, Waiter<V>> {
        &mut self.memory.flights
    }

    /// There is a store behind, whose news are heard or not; gives what is rung when there are some.
    pub fn hears(&mut self, hears: bool) -> Arc<Alert> {
        self.memory.ledger.get_or_insert_with(Box::<Ledger>::default).hears = hears;
        Arc::clone(self.memory.entries.alert())
    }

    /// Forgets everything in one step, and every load under way.
    pub fn clear(&mut self) {
        let State { memory, group, loads, .. } = self;
        *group = memory.entries.renew_group(*group);
        for &flight in loads.keys() {
            memory.flights.detach(flight);
        }
        if let Some(ledger) = &mut memory.ledger {
            ledger.note_all();
        }
    }

    /// True if the entry in a slot is a value that could be served.
    pub fn serves(&self, slot: Option<u32>, clock: &Clock) -> bool {
        slot.is_some_and(|id| self.memory.entries.is_served(id, |end| clock.has_come(end)))
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

    /// The entry and the flight of a key.
    pub fn locate<Q: Eq + ?Sized>(&self, hash: u64, key: &Q) -> Located
    where
        K: Borrow<Q>,
    {
        let entry = self.find(hash, key).map(|id| self.memory.entries.target(id));
        (entry, self.memory.flights.find(hash, |other| other.borrow() == key))
    }

    /// What answers whoever would have a newer value loaded, if that needs no second thought.
    pub fn hit<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q, clock: &Clock) -> Option<Arc<Held<V>>>
    where
        K: Borrow<Q>,
    {
        let id = self.find(hash, key)?;
        Some(Arc::clone(self.memory.entries.read(id, |end| clock.has_come(end))?.value))
    }

    /// What memory has to say to whoever has nothing loaded, and would ask the tier behind. Counted.
    pub fn look<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q, clock: &Clock) -> Looked<V>
    where
        K: Borrow<Q>,
    {
        let now = clock.now();
        let id = self.find(hash, key);
        let plain = id.filter(|&id| self.memory.settle(id, now) == Settled::Plain);
        let negative = plain.and_then(|id| self.memory.entries.sight(id));
        let negative = negative.is_some_and(|sight| sight.negative && now < sight.span.fresh_until);
        match self.look_at(id, now) {
            Some(held) => Looked::Found(held),
            None if negative => Looked::Nothing,
            None => Looked::Ask,
        }
    }

    /// What answers him after a second thought. Counted.
    pub fn look_at(&mut self, id: Option<u32>, now: Millis) -> Option<Arc<Held<V>>> {
        let id = self.memory.look_only(self.group, id, now)?;
        self.memory.entries.peek(id).map(|found| Arc::clone(found.value))
    }
}
