//! What the handles of a cache share: its shards, and every operation that is one step under the lock of a shard.
//!
//! Each method hashes first, then locks the one shard the hash names, and declares what it may drop (`out`, keys, values)
//! before it locks, so that it is dropped after unlocking, also when `Eq` of a key panics. What concerns all shards visits
//! one after the other: nobody ever holds two locks of shards.

use super::listener::{Gone, Listener};
use super::options::{self, Weigher};
use super::shard::{Arrival, REGION, Shard, State};
use super::split;
use crate::core::clock::{Clock, Millis};
use crate::core::memory::{Reason, Steering, mix};
use crate::core::policy::Policy;
use crate::core::stats::Stats;
use crate::work::{self, Appointment, Sweep};
use parking_lot::{Mutex, MutexGuard};
use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Entries freed per lock hold of the sweeper, and lock holds per visit: about a tenth of a millisecond in all.
const SWEEP: u32 = 64;
const SWEEPS: u32 = 16;

/// What a cache is made of.
pub(super) struct Parts<K, V> {
    pub name: String,
    pub memory: options::Memory,
    pub shards: usize,
    pub clock: Clock,
    pub weigher: Option<Weigher<V>>,
    pub listener: Option<Listener<K, V>>,
}

/// See the module.
pub(super) struct Shared<K, V> {
    name: String,
    clock: Clock,
    hasher: RandomState,
    /// A power of two of them.
    shards: Box<[Shard<K, V>]>,
    /// What is in force; locked by who changes it, before any shard.
    pub memory: Mutex<options::Memory>,
    /// Whether shards weigh, as far as is known without locking one.
    pub weighs: AtomicBool,
    weigher: Option<Weigher<V>>,
    listener: Option<Listener<K, V>>,
    appointment: Appointment,
}

impl<K, V> Shared<K, V> {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn shards(&self) -> &[Shard<K, V>] {
        &self.shards
    }

    /// The shard of a key.
    #[inline]
    pub fn shard(&self, hash: u64) -> &Shard<K, V> {
        &self.shards[split::shard_of(hash, self.shards.len())]
    }

    #[inline]
    pub fn lock(&self, hash: u64) -> MutexGuard<'_, State<K, V>> {
        self.shard(hash).lock()
    }

    /// As [`lock`](Self::lock), for a value that is then weighed, or not, as its shard demands.
    pub fn lock_for(&self, hash: u64, arrival: &mut Arrival<V>) -> MutexGuard<'_, State<K, V>> {
        loop {
            let state = self.lock(hash);
            let weighs = state.weighs;
            if weighs == arrival.weight.is_some() {
                return state;
            }
            drop(state);
            arrival.weight = weighs.then(|| self.weigh(&arrival.value));
        }
    }

    /// Where an operation puts what leaves; to be declared before it locks.
    pub fn gone(&self) -> Gone<'_, K, V> {
        Gone::new(self.listener.as_ref())
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().memory.entries.len()).sum()
    }

    pub fn stats(&self) -> Stats {
        self.shards.iter().fold(Stats::default(), |mut sum, shard| {
            let State { memory, group, .. } = &mut *shard.lock();
            sum.add(&memory.entries.stats(*group));
            sum
        })
    }

    /// A value to be stored now.
    pub fn arrival(&self, value: Arc<V>, policy: Policy) -> Arrival<V> {
        let (now, weight) = (self.clock.now(), self.weighs.load(Relaxed).then(|| self.weigh(&value)));
        Arrival { value, now, deadline: policy.stores().then(|| policy.deadline(now)), weight }
    }

    pub fn weigh(&self, value: &V) -> u64 {
        self.weigher.as_ref().map_or(size_of::<V>() as u64, |weigher| weigher(value))
    }

    /// Has the sweeper come when a stored value ends, or something else is due.
    pub fn expect(&self, due: Option<Millis>) {
        if let Some(due) = due {
            self.appointment.by(due);
        }
    }

    pub fn clear(&self) {
        for (number, shard) in self.shards.iter().enumerate() {
            let mut state = shard.lock();
            state.clear();
            state.stats().invalidations += u64::from(number == 0);
        }
        self.appointment.now();
    }

    pub fn validate(&self) -> Result<(), String> {
        // Kept locked, so that nobody resizes meanwhile.
        let memory = self.memory.lock();
        let shares = split::shares(memory.bound(), self.shards.len());
        self.shards.iter().zip(shares).try_for_each(|(shard, share)| {
            let state = shard.lock();
            let bound = state.memory.entries.bound(REGION);
            if bound != share {
                return Err(format!("a shard is bounded by {bound:?}, its share is {share:?}"));
            }
            state.validate()
        })
    }

    /// Frees what has ended or is too much in a shard, a slice per lock hold. When to come again; 0 if there is more.
    pub fn tidy(&self, shard: &Shard<K, V>, slices: u32) -> Option<Millis> {
        for _ in 0..slices {
            let mut out = self.gone();
            let (more, due) = {
                let entries = &mut shard.lock().memory.entries;
                (entries.tidy(self.clock.now(), SWEEP, &mut out.left), entries.next_due())
            };
            // A value that panics when it is dropped has been reported by the panic hook; the others go on leaving.
            drop(catch_unwind(AssertUnwindSafe(|| drop(out))));
            if !more {
                return due;
            }
        }
        Some(0)
    }
}

impl<K, V> Shared<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub fn new(parts: Parts<K, V>) -> Self {
        let Parts { name, memory, shards, clock, weigher, listener } = parts;
        let count = split::count(shards, memory.bound());
        let shares = split::shares(memory.bound(), count).zip(Steering::shared(count));
        let shards = shares.map(|(share, steering)| Shard::new(share, memory.order(), steering)).collect();
        let (hasher, appointment) = (RandomState::new(), Appointment::default());
        let (weighs, memory) = (AtomicBool::new(memory.weighs()), Mutex::new(memory));
        Shared { name, clock, hasher, shards, memory, weighs, weigher, listener, appointment }
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
        self.lock(hash).read(hash, key, &self.clock)
    }

    pub fn get<Q>(&self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        let mut state = self.lock(hash);
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
        let state = self.lock(hash);
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
        let mut arrival = self.arrival(Arc::new(value), policy);
        let (now, deadline) = (arrival.now, arrival.deadline);
        let mut out = self.gone();
        {
            let mut state = self.lock_for(hash, &mut arrival);
            let (found, flight) = (state.find(hash, &key), state.flight(hash, &key));
            if new && found.is_some_and(|id| state.memory.entries.is_served(id, |end| now >= end)) {
                return false;
            }
            if let Some(flight) = flight {
                state.flights().detach(flight);
            }
            state.put(found, hash, key, arrival, &mut out.left);
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
        let mut out = self.gone();
        let mut state = self.lock(hash);
        let (found, flight) = (state.find(hash, key), state.flight(hash, key));
        if let Some(flight) = flight {
            state.flights().detach(flight);
        }
        state.stats().invalidations += 1;
        let entries = &mut state.memory.entries;
        let served = found.is_some_and(|id| entries.is_served(id, |end| self.clock.has_come(end)));
        if let Some(id) = found {
            entries.remove(id, Reason::Removed, &mut out.left);
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
        let slices = (SWEEPS / self.shards.len() as u32).max(1);
        let due = self.shards.iter().filter_map(|shard| self.tidy(shard, slices)).min();
        self.appointment.set(due);
        due
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}
