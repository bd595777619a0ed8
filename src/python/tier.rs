//! One cache's memory as Python sees it: the table, its lock, its clock, and the spaces keys live in.
//!
//! The lock is held only while the interpreter is, never across anything that runs Python: what leaves the table is
//! dropped after unlocking. A [`Space`] is a key space of its own in the shared table, told apart by its salt.

use super::anchor::Anchor;
use super::guarded::Guarded;
use super::seat::Waiter;
use crate::core::clock::{Clock, Millis};
use crate::core::memory::{Capacity, Discard, Eviction, GroupId, Memory, RegionId, mix};
use crate::core::stats::Stats;
use crate::work::{Appointment, Sweep};
use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::ffi;
use pyo3::prelude::*;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Keys and values are Python's.
pub type Object = Py<PyAny>;
/// The memory of a cache of Python objects.
pub type PyMemory = Memory<Object, Object, Waiter>;
/// What is to be dropped after unlocking.
pub type Gone = Discard<Object, Object>;

/// Drops what left the entries. In this thread at once: PyO3's own drop first asks where it is.
pub fn let_go(py: Python<'_>, mut gone: Gone) {
    while let Some((key, value)) = gone.take() {
        let anchors = [&key, &value].map(|object| object.as_ref().is_some_and(may_run_python).then(Anchor::hold));
        drop(key.map(|key| key.into_bound(py)));
        drop(value.map(|value| value.into_bound(py)));
        drop(anchors);
    }
}

/// Whether freeing an object may run a finalizer, its own or that of something in it.
fn may_run_python(object: &Object) -> bool {
    let object = object.as_ptr();
    // SAFETY: a look at a valid object and its type.
    unsafe {
        ffi::Py_REFCNT(object) == 1
            && ffi::PyType_GetFlags(ffi::Py_TYPE(object)) & (ffi::Py_TPFLAGS_HAVE_GC | ffi::Py_TPFLAGS_HEAPTYPE) != 0
    }
}

/// A key space: the names of a namespace, the calls of a function, the calls on one instance.
pub struct Space {
    salt: u64,
    /// Equals `salt`, or what nothing is stored under while the cache is disabled.
    read_salt: AtomicU64,
    group: AtomicU64,
    alias_group: AtomicU64,
    /// The namespace it belongs to, for clearing.
    pub path: String,
    region: RegionId,
    /// True if its entries have names that people use.
    named: AtomicBool,
}

impl Space {
    /// Says that its entries have names.
    pub fn holds_names(&self) {
        self.named.store(true, Relaxed);
    }

    /// True if its entries have names that people use.
    pub fn has_names(&self) -> bool {
        self.named.load(Relaxed)
    }

    /// The salt for lookups on the hit path.
    #[inline]
    pub fn read_salt(&self) -> u64 {
        self.read_salt.load(Relaxed)
    }

    /// True while [`Tier::disable`] is in force for its namespace.
    #[inline]
    pub fn is_disabled(&self) -> bool {
        self.read_salt() != self.salt
    }

    /// The salt under which entries really are.
    pub fn salt(&self) -> u64 {
        self.salt
    }

    /// The present group of its entries.
    #[inline]
    pub fn group(&self) -> GroupId {
        GroupId::from_bits(self.group.load(Relaxed))
    }

    /// The present group of its aliases.
    pub fn alias_group(&self) -> GroupId {
        GroupId::from_bits(self.alias_group.load(Relaxed))
    }
}

/// Who tells what a value weighs.
pub enum Weigher {
    /// `weigh`.
    Native,
    /// A function of the user's.
    Own(Object),
}

/// What an entry takes beside its value: its records, and a short key.
const OVERHEAD: u64 = 140;

/// See the module.
pub struct Tier {
    /// The cache's name, for messages.
    pub name: String,
    /// Entries, aliases and flights.
    pub memory: Guarded<PyMemory>,
    /// The time.
    pub clock: Clock,
    /// When the sweeper comes.
    pub appointment: Appointment,
    /// Loads that run as tasks.
    pub tasks: Guarded<HashMap<u64, super::asyncio::Running>>,
    spaces: Guarded<Vec<Weak<Space>>>,
    names: Guarded<HashMap<String, Arc<Space>>>,
    /// Spaces of functions that are gone and whose entries live on under their names.
    adopted: Guarded<Vec<Arc<Space>>>,
    /// The namespaces that are disabled, as often as they were.
    disabled: Guarded<Vec<String>>,
    weigher: Guarded<Weigher>,
    weighs: AtomicBool,
    /// Whether the last slice of the sweep left something over.
    behind: AtomicBool,
    salts: AtomicU64,
    disabled_salt: u64,
}

/// Locked for moments by threads that hold the interpreter, so never across a fork by another.
static TIERS: Mutex<Vec<Weak<Tier>>> = Mutex::new(Vec::new());

impl Tier {
    /// A tier bounded so; known to the sweeper and the fork hooks from now on.
    pub fn new(name: String, bound: Capacity, eviction: Eviction, weigher: Weigher, clock: Clock) -> Arc<Tier> {
        let seed = std::hash::RandomState::new().hash_one(0);
        let tier = Arc::new(Tier {
            name,
            memory: Guarded::new(PyMemory::new(bound, eviction)),
            clock,
            appointment: Appointment::default(),
            tasks: Guarded::default(),
            spaces: Guarded::default(),
            names: Guarded::default(),
            adopted: Guarded::default(),
            disabled: Guarded::default(),
            weigher: Guarded::new(weigher),
            weighs: AtomicBool::new(bound.weight != u64::MAX),
            behind: AtomicBool::new(false),
            salts: AtomicU64::new(seed),
            disabled_salt: mix(seed, 0x5EED),
        });
        let mut tiers = TIERS.lock();
        tiers.retain(|tier| tier.strong_count() > 0);
        tiers.push(Arc::downgrade(&tier));
        let swept: Weak<Tier> = Arc::downgrade(&tier);
        crate::work::register(swept);
        tier
    }

    /// What a value on its way in weighs: bytes, or 1 where only entries are counted. May run Python.
    #[inline]
    pub fn weigh(&self, value: &Bound<'_, PyAny>) -> PyResult<u64> {
        if self.weighs.load(Relaxed) { self.weigh_bytes(value) } else { Ok(1) }
    }

    fn weigh_bytes(&self, value: &Bound<'_, PyAny>) -> PyResult<u64> {
        let py = value.py();
        let own = match &*self.weigher.lock() {
            Weigher::Own(weigher) => Some(weigher.clone_ref(py)),
            // SAFETY: a valid object, and the interpreter is held; the native weigher runs no Python.
            Weigher::Native => return Ok(unsafe { super::weigh::weigh(value.as_ptr()) } + OVERHEAD),
        };
        let Some(weigher) = own else { return Ok(1) };
        let _anchor = Anchor::hold();
        let weigher = weigher.into_bound(py);
        let told = weigher.call1((value,))?;
        told.extract::<u64>().map_err(|_| {
            let text = format!(
                "invalid weight from weigher of cache {:?}: {}; return a whole number of bytes, 0 or more",
                self.name,
                super::options::shown(&told)
            );
            super::errors::config(py, text)
        })
    }

    /// Changes the bound, now; what is beyond it leaves a few entries at a time.
    pub fn resize(&self, bound: Capacity) {
        self.weighs.store(bound.weight != u64::MAX, Relaxed);
        self.memory.lock().entries.resize(RegionId::default(), bound);
        self.appointment.now();
    }

    /// Changes who leaves; nothing does for that.
    pub fn reorder(&self, eviction: Eviction) {
        self.memory.lock().entries.reorder(RegionId::default(), eviction);
    }

    /// A new space in `path`, with a bound of its own if one is given.
    pub fn add_space(&self, path: &str, bound: Option<u32>) -> Arc<Space> {
        let region = match bound {
            None => RegionId::default(),
            Some(max) => {
                let mut memory = self.memory.lock();
                let bound = Capacity::entries(max);
                let eviction = memory.entries.insight(RegionId::default()).0;
                memory.aliases.add_region(bound, Eviction::Lru);
                memory.entries.add_region(bound, eviction)
            }
        };
        self.add_space_in(path, region)
    }

    /// A new space that shares the bound of another.
    pub fn add_space_like(&self, like: &Space) -> Arc<Space> {
        self.add_space_in(&like.path, like.region)
    }

    fn add_space_in(&self, path: &str, region: RegionId) -> Arc<Space> {
        // Distinct inputs of a bijection: no two spaces of a tier share a salt.
        let salt = mix(self.salts.fetch_add(1, Relaxed), 0);
        let mut memory = self.memory.lock();
        let space = Arc::new(Space {
            salt,
            read_salt: AtomicU64::new(if self.disables(path) { self.disabled_salt ^ salt } else { salt }),
            group: AtomicU64::new(memory.entries.add_group(region).to_bits()),
            alias_group: AtomicU64::new(memory.aliases.add_group(region).to_bits()),
            path: path.to_owned(),
            region,
            named: AtomicBool::new(false),
        });
        drop(memory);
        let mut spaces = self.spaces.lock();
        if spaces.len() == spaces.capacity() {
            spaces.retain(|space| space.strong_count() > 0);
        }
        spaces.push(Arc::downgrade(&space));
        space
    }

    /// The space of the names of a namespace, the same for every caller.
    pub fn names(&self, path: &str) -> Arc<Space> {
        if let Some(space) = self.names.lock().get(path) {
            return space.clone();
        }
        let space = self.add_space(path, None);
        space.holds_names();
        self.names.lock().entry(path.to_owned()).or_insert(space).clone()
    }

    /// Ends a space whose owner goes away: its entries are dropped, all at once, after unlocking. Its counters go to
    /// `heir`, if there is one.
    pub fn end_space(&self, space: &Space, heir: Option<&Space>) {
        let _anchor = Anchor::hold();
        let mut gone = Gone::default();
        let mut gone_aliases = Discard::default();
        let mut memory = self.memory.lock();
        memory.entries.drain(space.group(), &mut gone);
        memory.aliases.drain(space.alias_group(), &mut gone_aliases);
        let stats = memory.entries.end_group(space.group());
        memory.aliases.end_group(space.alias_group());
        if let Some(heir) = heir {
            memory.entries.stats_mut(heir.group()).add(&stats);
        }
        drop(memory);
        drop((gone, gone_aliases));
    }

    /// Keeps the entries of a function that goes away, since they can be reached by name; drops what only it could use.
    pub fn adopt(&self, space: &Arc<Space>) {
        let mut gone = Discard::default();
        let mut memory = self.memory.lock();
        memory.aliases.drain(space.alias_group(), &mut gone);
        let empty = memory.entries.stats(space.group()).entries == 0;
        drop(memory);
        drop(gone);
        if empty {
            self.end_space(space, Some(&self.names("")));
        } else {
            self.adopted.lock().push(space.clone());
        }
    }

    /// Forgets all entries of a namespace and those below it, in O(spaces).
    pub fn clear(&self, path: &str) {
        let spaces: Vec<Arc<Space>> = self.spaces.lock().iter().filter_map(Weak::upgrade).collect();
        for space in spaces.iter().filter(|space| is_below(&space.path, path)) {
            self.clear_space(space);
        }
    }

    /// Forgets all entries of a space in O(1); their memory follows.
    pub fn clear_space(&self, space: &Space) {
        let mut memory = self.memory.lock();
        let group = memory.entries.renew_group(space.group());
        memory.entries.stats_mut(group).invalidations += 1;
        let alias_group = memory.aliases.renew_group(space.alias_group());
        space.group.store(group.to_bits(), Relaxed);
        space.alias_group.store(alias_group.to_bits(), Relaxed);
        drop(memory);
        self.appointment.now();
    }

    /// Sets the counters of a namespace and those below it to zero.
    pub fn reset_stats(&self, path: &str) {
        let spaces = self.all_spaces();
        let mut memory = self.memory.lock();
        for space in spaces.iter().filter(|space| is_below(&space.path, path)) {
            *memory.entries.stats_mut(space.group()) = Stats::default();
        }
    }

    /// The counters of a namespace and those below it.
    pub fn stats(&self, path: &str) -> Stats {
        let spaces: Vec<Arc<Space>> = self.spaces.lock().iter().filter_map(Weak::upgrade).collect();
        let mut memory = self.memory.lock();
        let mut stats = Stats::default();
        for space in spaces.iter().filter(|space| is_below(&space.path, path)) {
            stats.add(&memory.entries.stats(space.group()));
        }
        stats
    }

    /// The spaces whose entries have names: those of a path and of functions that are gone.
    pub fn all_spaces(&self) -> Vec<Arc<Space>> {
        self.spaces.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// The bound of a space's entries.
    pub fn max_entries(&self, space: &Space) -> u32 {
        self.memory.lock().entries.bound(space.region).entries
    }

    fn disables(&self, path: &str) -> bool {
        self.disabled.lock().iter().any(|disabled| is_below(path, disabled))
    }

    /// Turns lookups in a namespace and those below it off, or on again, as often as they were turned off. Costs a hit
    /// nothing: the hit path looks under a salt that nothing is stored under.
    pub fn disable(&self, path: &str, on: bool) {
        let mut disabled = self.disabled.lock();
        if on {
            disabled.push(path.to_owned());
        } else if let Some(at) = disabled.iter().position(|disabled| disabled == path) {
            disabled.swap_remove(at);
        }
        drop(disabled);
        for space in self.all_spaces() {
            let off = self.disables(&space.path);
            space.read_salt.store(if off { self.disabled_salt ^ space.salt } else { space.salt }, Relaxed);
        }
    }

    /// Calls `visit` with every object the tier itself owns: entries with names that no living function owns.
    pub fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        if let Weigher::Own(weigher) = &*self.weigher.lock()
            && !visit(weigher)
        {
            return false;
        }
        let memory = self.memory.lock();
        let names = self.names.lock();
        let adopted = self.adopted.lock();
        names.values().chain(adopted.iter()).all(|space| visit_space(&memory, space, visit))
    }

    /// Calls `visit` with every object in one space.
    pub fn visit_space(&self, space: &Space, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        visit_space(&self.memory.lock(), space, visit)
    }

    /// How many entries a space has.
    pub fn entries_in(&self, space: &Space) -> usize {
        self.memory.lock().entries.stats(space.group()).entries as usize
    }

    /// Drops everything in one space; for the collector.
    pub fn drain_space(&self, space: &Space) {
        let _anchor = Anchor::hold();
        let mut gone = Gone::default();
        let mut gone_aliases = Discard::default();
        let mut memory = self.memory.lock();
        memory.entries.drain(space.group(), &mut gone);
        memory.aliases.drain(space.alias_group(), &mut gone_aliases);
        drop(memory);
        drop((gone, gone_aliases));
    }

    /// Drops everything the tier itself owns; for the collector.
    pub fn drain(&self) {
        let weigher = std::mem::replace(&mut *self.weigher.lock(), Weigher::Native);
        drop(weigher);
        let spaces: Vec<Arc<Space>> = self.names.lock().values().chain(self.adopted.lock().iter()).cloned().collect();
        for space in spaces {
            self.drain_space(&space);
        }
    }
}

fn visit_space(memory: &PyMemory, space: &Space, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
    memory.entries.visit(space.group(), |key, value| visit(key) && visit(value))
        && memory.aliases.visit(space.alias_group(), |key, _| visit(key))
}

/// True for the namespace itself and those below it; a name that merely begins alike is another.
fn is_below(path: &str, namespace: &str) -> bool {
    namespace.is_empty() || path.strip_prefix(namespace).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// The interpreter is held for this long at a stretch; longer while the sweep is behind, since getting it back from a busy
/// thread costs 5 ms each time.
const SLICE: Duration = Duration::from_micros(1000);
const SLICE_WHEN_BEHIND: Duration = Duration::from_micros(3000);

impl Sweep for Tier {
    fn sweep(&self) -> Option<Millis> {
        // Decided without the table's lock: it is only ever taken by threads that hold the interpreter.
        let now = self.clock.now();
        let due = self.appointment.due();
        if due.is_none_or(|due| due > now) {
            return due;
        }
        // What is inserted from now on makes an appointment of its own.
        self.appointment.set(None);
        // At the end of the interpreter there is nothing left to free.
        let due = Python::try_attach(|_| self.sweep_slice(now)).flatten();
        if let Some(due) = due {
            self.appointment.note(due);
        }
        self.appointment.due()
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl Tier {
    fn sweep_slice(&self, now: Millis) -> Option<Millis> {
        let slice = if self.behind.load(Relaxed) { SLICE_WHEN_BEHIND } else { SLICE };
        let until = Instant::now() + slice;
        loop {
            let (mut gone, mut gone_aliases) = (Gone::default(), Discard::default());
            let mut memory = self.memory.lock();
            let more = memory.entries.tidy(now, 64, &mut gone) | memory.aliases.tidy(now, 64, &mut gone_aliases);
            let due = memory.next_due();
            drop(memory);
            drop((gone, gone_aliases));
            if !more {
                self.behind.store(false, Relaxed);
                return due;
            }
            if Instant::now() >= until {
                self.behind.store(true, Relaxed);
                return Some(0);
            }
        }
    }
}

trait NextDue {
    fn next_due(&self) -> Option<Millis>;
}

impl NextDue for PyMemory {
    fn next_due(&self) -> Option<Millis> {
        match (self.entries.next_due(), self.aliases.next_due()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// In a forked child: everything that was in motion is forgotten, it belongs to the parent's loops. The tables are whole:
/// only a thread that holds the interpreter changes them, and the thread that forks held it.
pub fn forget_motion() {
    let tiers: Vec<Arc<Tier>> = TIERS.lock().iter().filter_map(Weak::upgrade).collect();
    for tier in &tiers {
        std::mem::forget(std::mem::take(&mut tier.memory.lock().flights));
        std::mem::forget(std::mem::take(&mut *tier.tasks.lock()));
    }
}
