//! What the handles of a cache share: its shards, and every operation that is one step under the lock of a shard.
//!
//! Each method hashes first, then locks the one shard the hash names, and declares what it may drop (`out`, keys, values)
//! before it locks, so that it is dropped after unlocking, also when `Eq` of a key panics. What concerns all shards visits
//! one after the other: nobody ever holds two locks of shards.

use super::background::Background;
use super::held::Held;
use super::listener::{Gone, Listener};
use super::options::{self, Weigher};
use super::remote::{Back, Tier};
use super::shard::{REGION, Shard, State};
use super::split;
use crate::core::clock::{Clock, Millis};
use crate::core::draw::Draws;
use crate::core::flight::{Explanation, Settled, Sight, Standing, Written};
use crate::core::memory::{New, Placement, Served, Steering, Worth, mix};
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
use std::time::Duration;

/// Entries freed per lock hold of the sweeper, and lock holds per visit: about a tenth of a millisecond in all.
const SWEEP: u32 = 64;
const SWEEPS: u32 = 16;

/// What a cache is made of.
pub(super) struct Parts<K, V> {
    pub name: String,
    pub memory: options::Memory,
    pub shards: usize,
    pub clock: Clock,
    pub background: Background,
    pub weigher: Option<Weigher<V>>,
    pub listener: Option<Listener<K, V>>,
    pub tier: Option<Arc<dyn Tier<K, V>>>,
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
    /// What is behind the memory, if anything is.
    back: Option<Box<Back<K, V>>>,
    appointment: Appointment,
    /// What bounds its refreshes.
    pub background: Background,
    /// For jitter and early refreshes.
    pub draws: Draws,
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

    /// As [`lock`](Self::lock), for what is then weighed, or not, as its shard demands.
    pub fn lock_for(&self, hash: u64, held: &Held<V>, weight: &mut Option<u64>) -> MutexGuard<'_, State<K, V>> {
        *weight = self.weighs.load(Relaxed).then(|| self.weigh(held));
        loop {
            let state = self.lock(hash);
            let weighs = state.weighs;
            if weighs == weight.is_some() {
                return state;
            }
            drop(state);
            *weight = weighs.then(|| self.weigh(held));
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

    /// What it weighs in bytes: a note that there is nothing next to nothing.
    pub fn weigh(&self, held: &Held<V>) -> u64 {
        let Some(value) = held.value() else { return 1 };
        self.weigher.as_ref().map_or(size_of::<V>() as u64, |weigher| weigher(value))
    }

    /// What is behind the memory.
    pub fn back(&self) -> Option<&Back<K, V>> {
        self.back.as_deref()
    }

    /// Somebody invalidated so many keys in both tiers.
    pub fn count_invalidations(&self, number: usize) {
        self.shards[0].lock().stats().invalidations += number as u64;
    }

    /// Has the sweeper come when a stored value ends, or something else is due.
    pub fn expect(&self, due: Option<Millis>) {
        if let Some(due) = due {
            self.appointment.by(due);
        }
    }

    /// A loader of many brought values that nobody had asked for.
    pub fn count_unasked(&self, number: usize) {
        if number > 0 {
            self.shards[0].lock().stats().unasked += number as u64;
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
        let Parts { name, memory, shards, clock, background, weigher, listener, tier } = parts;
        let count = split::count(shards, memory.bound());
        let shares = split::shares(memory.bound(), count).zip(Steering::shared(count));
        let shards: Box<[_]> = shares.map(|(share, steering)| Shard::new(share, memory.order(), steering)).collect();
        let back = tier.map(|tier| {
            let alerts = shards.iter().map(|shard| shard.lock().hears(!tier.terms().deaf)).collect();
            Box::new(Back::new(tier, alerts, clock.clone()))
        });
        let (hasher, appointment) = (RandomState::new(), Appointment::default());
        let (weighs, memory) = (AtomicBool::new(memory.weighs()), Mutex::new(memory));
        let draws = Draws::new(hasher.hash_one(&name));
        Shared { name, clock, hasher, shards, memory, weighs, weigher, listener, back, appointment, background, draws }
    }

    pub fn have_swept(this: &Arc<Self>) {
        let table = Arc::downgrade(this);
        work::register(table);
    }

    pub fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        mix(self.hasher.hash_one(key), 0)
    }

    pub fn hit<Q>(&self, hash: u64, key: &Q) -> Option<Arc<Held<V>>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.lock(hash).hit(hash, key, &self.clock)
    }

    pub fn get<Q>(&self, key: &Q) -> Option<Arc<Held<V>>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        let mut state = self.lock(hash);
        let Some(id) = state.find(hash, key) else {
            state.stats().misses += 1;
            return None;
        };
        if let Some(found) = state.memory.entries.read_fresh(id, |end| self.clock.has_come(end)) {
            return Some(Arc::clone(found.value));
        }
        self.look_again(state, id, (hash, key))
    }

    /// What answers a [`get`](Self::get) that needs a second thought, in this slot as far as nobody is to be heard before.
    #[cold]
    fn look_again<Q>(
        &self,
        mut state: MutexGuard<'_, State<K, V>>,
        id: u32,
        (hash, key): (u64, &Q),
    ) -> Option<Arc<Held<V>>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let Some(back) = self.back() else { return state.look_at(Some(id), self.clock.now()) };
        drop(state);
        self.heed(hash);
        let (mut state, now) = (self.lock(hash), self.clock.now());
        let found = state.find(hash, key);
        if back.is_alone()
            && let Some(id) = found
            && let Some((held, ..)) = state.suspect(id, now)
        {
            back.heard().note_unasked();
            state.memory.entries.serve(id, Served::Fresh);
            return Some(held);
        }
        state.look_at(found, now)
    }

    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        self.heed(hash);
        let mut state = self.lock(hash);
        let found = state.find(hash, key);
        if let Some((back, id)) = self.back().zip(found)
            && state.memory.settle(id, self.clock.now()) == Settled::Suspect
        {
            return back.is_alone() && state.suspect(id, self.clock.now()).is_some();
        }
        state.serves(found, &self.clock)
    }

    /// Stores what somebody writes, if what is there is as it should be; tells whether it was. What must not be stored
    /// removes what is there, so that no older value comes back.
    pub fn write(&self, key: K, held: Held<V>, policy: &Policy, over: Over) -> bool {
        let negative = held.value().is_none();
        let ttl = if negative { policy.negative_ttl } else { policy.ttl };
        if ttl == Some(Duration::ZERO) {
            return over != Over::Nothing && (self.remove(&key) || over == Over::Anything);
        }
        let (hash, now, held) = (self.hash(&key), self.clock.now_for(ttl), Arc::new(held));
        let lifetime = policy.lifetime(ttl, negative, (now, now), 0.0);
        let (mut out, mut weight) = (self.gone(), None);
        {
            let mut state = self.lock_for(hash, &held, &mut weight);
            let located = state.locate(hash, &key);
            let is_there = || state.serves(located.0.map(|target| target.id), &self.clock);
            if over != Over::Anything && is_there() != (over == Over::Value) {
                return false;
            }
            let worth = Worth::new(weight.unwrap_or(1), Duration::ZERO);
            let placement = Placement::new(state.group, lifetime.span.expires, 0).worth(worth).negative(negative);
            let new = New { hash, key, value: held, placement };
            state.memory.write(Written { new, lifetime }, located, now, &mut out.left);
        }
        self.appointment.by(lifetime.span.expires);
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
        let (located, group) = (state.locate(hash, key), state.group);
        state.memory.forget(group, located, |end| self.clock.has_come(end), &mut out.left)
    }

    pub fn peek<Q>(&self, key: &Q) -> Option<(Standing, Sight, Arc<Held<V>>)>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        self.heed(hash);
        let state = self.lock(hash);
        let id = state.find(hash, key)?;
        let (state_of_it, sight) = state.memory.inspect(id, self.clock.now())?;
        Some((state_of_it, sight, Arc::clone(state.memory.entries.peek(id)?.value)))
    }

    pub fn explain<Q>(&self, key: &Q, policy: &Policy) -> Explanation
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let hash = self.hash(key);
        self.heed(hash);
        let state = self.lock(hash);
        state.memory.explain(policy, state.locate(hash, key), self.background.refresh(), self.clock.now())
    }
}

/// What an explicit write may take the place of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Of whatever is there.
    Anything,
    /// Of nothing that could be served.
    Nothing,
    /// Of a value that could be served.
    Value,
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
        let recovery = self.back().and_then(|back| back.recovery.sweep(self.clock.now()));
        let due = self.shards.iter().filter_map(|shard| self.tidy(shard, slices)).chain(recovery).min();
        self.appointment.set(due);
        due
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}
