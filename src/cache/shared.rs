//! What the handles of a cache share: the memory tier under its lock, and every operation that is one step under it.
//!
//! Each method hashes first, then locks, and declares what it may drop (`out`, keys, values) before it locks, so that
//! it is dropped after unlocking, also when `Eq` of a key panics. All keys live in one group of one table; `clear`
//! renews the group and detaches the loads under way.

use super::options::{self, Weigher};
use super::waiting::{Cancel, Waiter};
use crate::core::clock::{Clock, Millis};
use crate::core::flight::{Fill, FlightId, Flights};
use crate::core::memory::{self, Discard, GroupId, New, Placement, Reason, RegionId, Worth, mix};
use crate::core::policy::Policy;
use crate::core::stats::Stats;
use crate::work::{self, Appointment, Sweep};
use parking_lot::{Mutex, MutexGuard};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Entries freed per lock hold of the sweeper, and lock holds per visit: about a tenth of a millisecond in all.
const SWEEP: u32 = 64;
const SWEEPS: u32 = 16;

type Memory<K, V> = memory::Memory<K, Arc<V>, Waiter<V>>;

/// What the lock guards.
pub(super) struct State<K, V> {
    pub memory: Memory<K, V>,
    pub group: GroupId,
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
}

impl<K, V> State<K, V>
where
    K: Eq + Hash,
{
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

/// A value that arrives: when it does, and when it ends, `None` if it is not to be stored.
pub(super) struct Arrival<V> {
    pub value: Arc<V>,
    pub now: Millis,
    pub deadline: Option<Millis>,
    /// In bytes, or 1 where entries are counted.
    pub weight: u64,
}

type Gone<K, V> = Discard<K, Arc<V>>;

impl<K, V> State<K, V> {
    fn placement(&self, deadline: Millis, worth: Worth) -> Placement {
        Placement::new(self.group, deadline, 0).worth(worth)
    }

    /// An explicit write. `found` is the slot of the key, served or not.
    fn put(&mut self, found: Option<u32>, hash: u64, key: K, arrival: Arrival<V>, out: &mut Gone<K, V>) {
        let Arrival { value, now, deadline, weight } = arrival;
        let worth = Worth::new(weight, Duration::ZERO);
        let placement = deadline.map(|deadline| self.placement(deadline, worth));
        let entries = &mut self.memory.entries;
        match (found, placement) {
            (Some(id), Some(placement)) => {
                entries.replace(id, value, placement, now, out);
                out.keep(Some(key), None);
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
    pub fn fill(&mut self, fill: Fill<K>, arrival: Arrival<V>, out: &mut Gone<K, V>) {
        let Arrival { value, now, deadline, weight } = arrival;
        let worth = Worth::new(weight, Duration::from_millis(now.saturating_sub(fill.began)));
        match deadline {
            Some(deadline) => {
                let placement = self.placement(deadline, worth);
                self.memory.fill(fill, value, placement, now, out);
            }
            None => out.keep(Some(fill.key), Some(value)),
        }
    }
}

/// See the module.
pub(super) struct Shared<K, V> {
    name: String,
    clock: Clock,
    hasher: RandomState,
    /// False for a cache of no entries.
    holds: bool,
    /// True if it is bounded in bytes.
    weighs: bool,
    weigher: Option<Weigher<V>>,
    state: Mutex<State<K, V>>,
    appointment: Appointment,
}

impl<K, V> Shared<K, V> {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock()
    }

    pub fn len(&self) -> usize {
        self.lock().memory.entries.len()
    }

    pub fn stats(&self) -> Stats {
        let mut state = self.lock();
        let group = state.group;
        state.memory.entries.stats(group)
    }

    /// A value to be stored now.
    pub fn arrival(&self, value: Arc<V>, policy: Policy) -> Arrival<V> {
        let (now, weight) = (self.clock.now(), self.weigh(&value));
        Arrival { value, now, deadline: (self.holds && policy.stores()).then(|| policy.deadline(now)), weight }
    }

    fn weigh(&self, value: &V) -> u64 {
        match &self.weigher {
            _ if !self.weighs => 1,
            Some(weigher) => weigher(value),
            None => size_of::<V>() as u64,
        }
    }

    /// Has the sweeper come when a stored value ends.
    pub fn expect(&self, deadline: Option<Millis>) {
        if let Some(deadline) = deadline {
            self.appointment.by(deadline);
        }
    }

    pub fn clear(&self) {
        {
            let State { memory, group, loads } = &mut *self.lock();
            *group = memory.entries.renew_group(*group);
            memory.entries.stats_mut(*group).invalidations += 1;
            for &flight in loads.keys() {
                memory.flights.detach(flight);
            }
        }
        self.appointment.now();
    }

    pub fn validate(&self) -> Result<(), String> {
        let state = self.lock();
        let (flights, loads) = (state.memory.flights.len(), state.loads.len());
        if flights != loads {
            return Err(format!("{flights} flights, {loads} of them can be stopped"));
        }
        state.memory.entries.validate()
    }
}

impl<K, V> Shared<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub fn new(name: String, options: options::Memory, weigher: Option<Weigher<V>>, clock: Clock) -> Self {
        let bound = options.bound();
        let mut memory = Memory::new(bound, options.order());
        let group = memory.entries.add_group(RegionId(0));
        let state = Mutex::new(State { memory, group, loads: HashMap::new() });
        let (hasher, appointment) = (RandomState::new(), Appointment::default());
        let (holds, weighs) = (bound.entries > 0, bound.weight != u64::MAX);
        Shared { name, clock, hasher, holds, weighs, weigher, state, appointment }
    }

    pub fn have_swept(this: &Arc<Self>) {
        let table = Arc::downgrade(this);
        work::register(table);
    }

    pub fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        mix(self.hasher.hash_one(key), 0)
    }

    pub fn hit<Q>(&self, hash: u64, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.lock().read(hash, key, &self.clock)
    }

    pub fn get<Q>(&self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        let mut state = self.lock();
        let value = state.read(hash, key, &self.clock);
        state.stats().misses += u64::from(value.is_none());
        value
    }

    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        let state = self.lock();
        state.find(hash, key).is_some_and(|id| state.memory.entries.is_served(id, |end| self.clock.has_come(end)))
    }

    pub fn insert(&self, key: K, value: V, policy: Policy) {
        self.write(key, value, policy, false);
    }

    pub fn add(&self, key: K, value: V, policy: Policy) -> bool {
        self.write(key, value, policy, true)
    }

    /// Stores a pair, unless it is to be `new` and the key has a value.
    fn write(&self, key: K, value: V, policy: Policy, new: bool) -> bool {
        let hash = self.hash(&key);
        let arrival = self.arrival(Arc::new(value), policy);
        let (now, deadline) = (arrival.now, arrival.deadline);
        let mut out = Discard::default();
        {
            let mut state = self.lock();
            let (found, flight) = (state.find(hash, &key), state.flight(hash, &key));
            if new && found.is_some_and(|id| state.memory.entries.is_served(id, |end| now >= end)) {
                return false;
            }
            if let Some(flight) = flight {
                state.flights().detach(flight);
            }
            state.put(found, hash, key, arrival, &mut out);
        }
        self.expect(deadline);
        true
    }

    pub fn remove<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        let mut out = Discard::default();
        let mut state = self.lock();
        let (found, flight) = (state.find(hash, key), state.flight(hash, key));
        if let Some(flight) = flight {
            state.flights().detach(flight);
        }
        state.stats().invalidations += 1;
        let entries = &mut state.memory.entries;
        let served = found.is_some_and(|id| entries.is_served(id, |end| self.clock.has_come(end)));
        if let Some(id) = found {
            entries.remove(id, Reason::Removed, &mut out);
        }
        served
    }
}

impl<K, V> Sweep for Shared<K, V>
where
    K: Send + Sync,
    V: Send + Sync,
{
    fn sweep(&self) -> Option<Millis> {
        // From here on whoever stores something calls, whatever was agreed before.
        self.appointment.set(None);
        let mut due = Some(0);
        for _ in 0..SWEEPS {
            let mut out = Discard::default();
            let more = {
                let entries = &mut self.lock().memory.entries;
                let more = entries.tidy(self.clock.now(), SWEEP, &mut out);
                due = if more { Some(0) } else { entries.next_due() };
                more
            };
            // A value that panics when it is dropped has been reported by the panic hook; the sweeper sweeps on.
            drop(catch_unwind(AssertUnwindSafe(|| drop(out))));
            if !more {
                break;
            }
        }
        self.appointment.set(due);
        due
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}
