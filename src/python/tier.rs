//! One cache's memory as Python sees it: the table, its lock, its clock, and the spaces keys live in.
//!
//! The lock is held only while the interpreter is, never across anything that runs Python: what leaves the table is
//! dropped after unlocking. A [`Space`] is a key space of its own in the shared table, told apart by its salt.

mod sweep;

use super::anchor::Anchor;
use super::budget::Budget;
use super::coding::Coding;
use super::copy::{self, Mode};
use super::events::Listeners;
use super::guarded::Guarded;
use super::recipe::{Labels, Recipe};
use super::refresher::Running as Refreshing;
use super::remote::Remote;
use super::rulebook::Rulebook;
use super::sealed::Sealed;
use super::seat::Waiter;
use super::state::State;
use super::writing::Writings;
use crate::core::clock::{Clock, Millis};
use crate::core::draw::Draws;
use crate::core::flight::Due;
use crate::core::key::is_below;
use crate::core::memory::{Capacity, Discard, Eviction, GroupId, Left, Memory, RegionId, Target, mix};
use crate::core::remote::ledger::Tags;
use crate::core::stats::Stats;
use crate::work::{Appointment, Sweep};
use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// Keys and values are Python's.
pub type Object = Py<PyAny>;

/// True or False, as Python has it.
pub fn truth(py: Python<'_>, yes: bool) -> PyResult<Object> {
    Ok(yes.into_pyobject(py)?.to_owned().into_any().unbind())
}
/// The memory of a cache of Python objects.
pub type PyMemory = Memory<Object, Object, Waiter>;
/// What is to be dropped after unlocking.
pub type Gone = Discard<Object, Object>;

/// Drops what left the entries. In this thread at once: PyO3's own drop first asks where it is.
#[inline(always)]
pub fn let_go(py: Python<'_>, mut gone: Gone) {
    while let Some(Left { key, value, .. }) = gone.take() {
        let runs_python = [&key, &value].into_iter().flatten().any(may_run_python);
        let _anchor = runs_python.then(Anchor::hold);
        drop(key.map(|key| key.into_bound(py)));
        drop(value.map(|value| value.into_bound(py)));
    }
}

/// Whether freeing an object may run a finalizer, its own or that of something in it.
#[inline]
fn may_run_python(object: &Object) -> bool {
    let object = object.as_ptr();
    // SAFETY: a look at a valid object and its type.
    unsafe {
        ffi::Py_REFCNT(object) == 1
            && ffi::PyType_GetFlags(ffi::Py_TYPE(object)) & (ffi::Py_TPFLAGS_HAVE_GC | ffi::Py_TPFLAGS_HEAPTYPE) != 0
    }
}

/// The function whose calls a space holds.
pub struct Callee {
    /// Module, qualified name and version.
    pub id: String,
    /// True if its key is made of one parameter.
    pub takes_one: bool,
}

/// A key space: the names of a namespace, the calls of a function, the calls on one instance.
pub struct Space {
    salt: u64,
    /// Equals `salt`, or what nothing is stored under while the hit path is not to be used: see [`Tier::look_where`].
    read_salt: AtomicU64,
    disabled: AtomicBool,
    group: AtomicU64,
    alias_group: AtomicU64,
    /// The namespace it belongs to, for clearing.
    pub path: Arc<str>,
    /// Whose bound its entries are under.
    pub region: RegionId,
    /// Whose calls it holds, `None` for names alone.
    pub callee: Option<Arc<Callee>>,
    /// True if it holds the calls on one instance: those have no canonical key.
    pub of_instance: bool,
    /// True if its entries have names that people use.
    named: AtomicBool,
    /// What they are called behind memory begins with this.
    begins: OnceLock<String>,
}

impl Space {
    /// What the names of its namespace begin with behind memory, told once.
    pub fn begins(&self, told: impl FnOnce(&str) -> String) -> &str {
        self.begins.get_or_init(|| told(&self.path))
    }

    /// Tags of one of its entries.
    pub fn tags(&self, labels: Option<&Labels>) -> Option<Arc<Tags>> {
        labels.map(|labels| Arc::new(Tags { path: Arc::clone(&self.path), names: labels.clone() }))
    }

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
        self.disabled.load(Relaxed)
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

/// What an entry takes beside its value: its records, and a short key.
const OVERHEAD: u64 = 140;
/// Entries weighed between two looks at the table, where it is weighed after it was counted.
const WEIGHED: usize = 64;

/// See the module.
pub struct Tier {
    /// The cache's name, for messages.
    pub name: String,
    /// Entries, aliases and flights.
    pub memory: Guarded<PyMemory>,
    /// The time.
    pub clock: Clock,
    /// Who is told what happens.
    pub listeners: Listeners,
    /// Writes that the source has not got yet.
    pub writings: Writings,
    /// The module's state.
    pub state: &'static State,
    /// When the sweeper comes.
    pub appointment: Appointment,
    /// Who loads hot keys ahead of time, where somebody asked for that.
    pub refresher: Guarded<Option<Refreshing>>,
    /// A weak reference to its owner.
    owner: OnceLock<Py<PyWeakrefReference>>,
    /// What seals values before memory has them, if something does.
    sealing: OnceLock<Py<Coding>>,
    /// The store behind its memory, if there is one.
    remote: OnceLock<Arc<Remote>>,
    /// Loads that run as tasks.
    pub tasks: Guarded<HashMap<u64, super::task::Running>>,
    budget: Guarded<Arc<Budget>>,
    spaces: Guarded<Vec<Weak<Space>>>,
    /// The spaces by the number of their group, that of a cleared one included.
    holders: Guarded<Vec<Weak<Space>>>,
    names: Guarded<HashMap<String, Arc<Space>>>,
    /// Spaces of functions that are gone and whose entries live on under their names.
    adopted: Guarded<Vec<Arc<Space>>>,
    /// The namespaces that are disabled, as often as they were.
    disabled: Guarded<Vec<String>>,
    recipe: Guarded<Arc<Recipe>>,
    rules: Guarded<Option<Arc<Rulebook>>>,
    has_rules: AtomicBool,
    /// Tells what a value weighs; `None`: `weigh` does.
    weigher: Guarded<Option<Object>>,
    weighs: AtomicBool,
    /// Whether the last slice of the sweep left something over.
    behind: AtomicBool,
    /// From a resize that left too many entries until they are gone.
    shrinking: AtomicBool,
    salts: AtomicU64,
    void_salt: u64,
    draws: Draws,
    /// Within a test: how long a value is fresh is not left to chance.
    steady: AtomicBool,
}

fn new_seed() -> u64 {
    std::hash::RandomState::new().hash_one(std::process::id())
}

/// Locked for moments by threads that hold the interpreter, so never across a fork by another.
static TIERS: Mutex<Vec<Weak<Tier>>> = Mutex::new(Vec::new());

impl Tier {
    /// A tier bounded so, and negative entries `apart` if that is given; known to the sweeper and the fork hooks from now on.
    pub fn new(
        state: &'static State,
        recipe: Recipe,
        (bound, eviction, apart): (Capacity, Eviction, Option<(Capacity, Eviction)>),
        weigher: Option<Object>,
        clock: Clock,
    ) -> Arc<Tier> {
        let seed = new_seed();
        let mut memory = PyMemory::new(bound, eviction);
        if let Some((bound, eviction)) = apart {
            memory.entries.set_apart(RegionId::default(), bound, eviction);
        }
        let tier = Arc::new(Tier {
            name: recipe.name.clone(),
            memory: Guarded::new(memory),
            clock,
            listeners: Listeners::default(),
            writings: Writings::default(),
            state,
            appointment: Appointment::default(),
            refresher: Guarded::default(),
            owner: OnceLock::new(),
            sealing: OnceLock::new(),
            remote: OnceLock::new(),
            tasks: Guarded::default(),
            budget: Guarded::new(state.budget.clone()),
            spaces: Guarded::default(),
            holders: Guarded::default(),
            names: Guarded::default(),
            adopted: Guarded::default(),
            disabled: Guarded::default(),
            recipe: Guarded::new(Arc::new(recipe)),
            rules: Guarded::default(),
            has_rules: AtomicBool::new(false),
            weigher: Guarded::new(weigher),
            weighs: AtomicBool::new(bound.weight != u64::MAX),
            behind: AtomicBool::new(false),
            shrinking: AtomicBool::new(false),
            salts: AtomicU64::new(seed),
            void_salt: mix(seed, 0x5EED),
            draws: Draws::new(new_seed()),
            steady: AtomicBool::new(false),
        });
        let mut tiers = TIERS.lock();
        tiers.retain(|tier| tier.strong_count() > 0);
        tiers.push(Arc::downgrade(&tier));
        let swept: Weak<Tier> = Arc::downgrade(&tier);
        crate::work::register(swept);
        tier
    }

    /// Has values sealed before memory has them, before anything else is done with it.
    pub fn set_sealing(&self, sealing: Py<Coding>) {
        drop(self.sealing.set(sealing));
    }

    /// True if memory holds values sealed.
    #[inline]
    pub fn seals(&self) -> bool {
        self.sealing.get().is_some()
    }

    /// The object to store for a value, and how readers get it.
    #[inline]
    pub fn isolate<'py>(&self, value: &Bound<'py, PyAny>, mode: Mode) -> PyResult<(Bound<'py, PyAny>, u32)> {
        match self.sealing.get() {
            None => copy::isolate(value, mode),
            Some(sealing) => Ok((Sealed::seal(value, sealing, &self.clock)?, copy::SEALED)),
        }
    }

    /// Puts a store behind the memory, before anything else is done with it.
    pub fn set_remote(&self, remote: Arc<Remote>) {
        let mut memory = self.memory.lock();
        let hears = remote.rings(memory.entries.alert());
        memory.ledger.get_or_insert_default().hears = hears;
        drop(memory);
        drop(self.remote.set(remote));
    }

    /// The store behind its memory, if there is one.
    #[inline]
    pub fn remote(&self) -> Option<&Arc<Remote>> {
        self.remote.get()
    }

    /// Something has changed behind, and nobody knows under which keys.
    pub fn note_all_changed(&self) {
        if let Some(ledger) = &mut self.memory.lock().ledger {
            ledger.note_all();
        }
    }

    /// What is in memory of a namespace and those below it is no more, behind.
    pub fn forget_behind(&self, path: &str) {
        self.note_all_changed();
        self.clear(path);
    }

    /// A random draw in `[0, 1)`. Not for secrets.
    pub fn draw(&self) -> f64 {
        self.draws.draw()
    }

    /// The draw that decides how long a value is fresh and whether it is loaded early. Where nothing is left to chance it is
    /// zero, which takes nothing off a ttl and is never early.
    pub fn draw_of_life(&self) -> f64 {
        if self.steady.load(Relaxed) { 0.0 } else { self.draw() }
    }

    /// Its owner from now on.
    pub fn set_owner(&self, owner: Bound<'_, PyWeakrefReference>) {
        drop(self.owner.set(owner.unbind()));
    }

    /// Its owner, to be held by who calls what the tier holds and has come by no face of it: the sweeper, a load, a loop. Without that the
    /// collector may be clearing all of it, object by object, while its finalizers let others run; it ends weak references before.
    pub fn owner<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.owner.get()?.bind(py).upgrade()
    }

    /// What a value on its way in weighs: bytes, or 1 where only entries are counted. May run Python.
    #[inline]
    pub fn weigh(&self, value: &Bound<'_, PyAny>) -> PyResult<u64> {
        if self.weighs.load(Relaxed) { self.weigh_bytes(value) } else { Ok(1) }
    }

    fn weigh_bytes(&self, value: &Bound<'_, PyAny>) -> PyResult<u64> {
        let py = value.py();
        let Some(weigher) = self.weigher.lock().as_ref().map(|own| own.clone_ref(py)) else {
            // SAFETY: a valid object, and the interpreter is held; the native weigher runs no Python.
            return Ok(unsafe { super::weigh::weigh(value.as_ptr()) } + OVERHEAD);
        };
        let Some(_owner) = self.owner(py) else { return Ok(1) };
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

    /// How values are kept where a function or a call says nothing else.
    pub fn recipe(&self) -> Arc<Recipe> {
        self.recipe.lock().clone()
    }

    /// What bounds its loads behind, beside those of other caches.
    pub fn budget(&self) -> Arc<Budget> {
        self.budget.lock().clone()
    }

    /// Another budget, for loads that begin from now on.
    pub fn set_budget(&self, budget: Arc<Budget>) {
        let before = std::mem::replace(&mut *self.budget.lock(), budget);
        drop(before);
    }

    /// The ttl and the isolation of the same.
    #[inline]
    pub fn keeps(&self) -> (Option<Duration>, Mode) {
        let recipe = self.recipe.lock();
        (recipe.policy.ttl, recipe.copy)
    }

    /// Another recipe, in force from now on.
    pub fn set_recipe(&self, recipe: Recipe) {
        let before = std::mem::replace(&mut *self.recipe.lock(), Arc::new(recipe));
        drop(before);
    }

    /// True if policies may differ by key.
    #[inline]
    pub fn has_rules(&self) -> bool {
        self.has_rules.load(Relaxed)
    }

    /// The rules in force.
    pub fn rules(&self) -> Option<Arc<Rulebook>> {
        if self.has_rules() { self.rules.lock().clone() } else { None }
    }

    /// Other rules, in force from now on.
    pub fn set_rules(&self, rules: Option<Arc<Rulebook>>) {
        self.has_rules.store(rules.is_some(), Relaxed);
        let before = std::mem::replace(&mut *self.rules.lock(), rules);
        drop(before);
    }

    /// Changes the bound, now; what is beyond it leaves a few entries at a time.
    pub fn resize(&self, py: Python<'_>, bound: Capacity, apart: Option<(Capacity, Eviction)>) {
        let weighs = bound.weight != u64::MAX;
        let weighed = self.weighs.swap(weighs, Relaxed);
        self.memory.lock().entries.resize(RegionId::default(), bound);
        if weighs != weighed {
            self.reweigh(py);
        }
        let mut memory = self.memory.lock();
        let apart = apart.map(|(bound, eviction)| memory.entries.set_apart(RegionId::default(), bound, eviction));
        let mut regions = [Some(RegionId::default()), apart].into_iter().flatten();
        let is_over = regions.any(|region| memory.entries.is_over(region));
        drop(memory);
        self.shrinking.store(is_over, Relaxed);
        if is_over {
            self.appointment.now();
        }
    }

    /// Weighs all that is there as the bound in force demands, a few at a time and not under the lock: a weigher may be the
    /// user's. What that cannot weigh keeps its weight, and Python is told why.
    fn reweigh(&self, py: Python<'_>) {
        let slots = self.memory.lock().entries.slots();
        for first in (0..slots).step_by(WEIGHED) {
            let memory = self.memory.lock();
            let ids = first..slots.min(first + WEIGHED as u32);
            let there = ids.filter_map(|id| {
                let found = memory.entries.peek(id).filter(|found| !copy::is_negative(found.tag));
                Some((memory.entries.target(id), found?.value.clone_ref(py)))
            });
            let there: Vec<(Target, Object)> = there.collect();
            drop(memory);
            let weigh = |(target, value): &(Target, Object)| match self.weigh(value.bind(py)) {
                Ok(weight) => Some((*target, weight)),
                Err(error) => {
                    error.write_unraisable(py, Some(value.bind(py)));
                    None
                }
            };
            let weights: Vec<(Target, u64)> = there.iter().filter_map(weigh).collect();
            let mut memory = self.memory.lock();
            for (target, weight) in weights {
                if let Some(id) = memory.entries.resolve(target) {
                    memory.entries.reweigh(id, weight);
                }
            }
            drop(memory);
            drop(there);
        }
    }

    /// True while what leaves a space leaves it because the cache was made smaller.
    pub fn is_shrinking(&self, space: &Space) -> bool {
        space.region == RegionId::default() && self.shrinking.load(Relaxed)
    }

    /// Changes who leaves; nothing does for that.
    pub fn reorder(&self, eviction: Eviction) {
        self.memory.lock().entries.reorder(RegionId::default(), eviction);
    }

    /// A new space in `path`, with a bound of its own if one is given.
    pub fn add_space(&self, path: &str, bound: Option<u32>, callee: Option<Callee>) -> Arc<Space> {
        let region = match bound {
            None => RegionId::default(),
            Some(max) => {
                let mut memory = self.memory.lock();
                let bound = Capacity::entries(max);
                let eviction = memory.entries.eviction(RegionId::default());
                memory.aliases.add_region(bound, Eviction::Lru);
                memory.entries.add_region(bound, eviction)
            }
        };
        self.add_space_in(path, region, callee.map(Arc::new), false)
    }

    /// A new space that shares function and bound with another, for calls on one instance perhaps.
    pub fn add_space_like(&self, like: &Space, of_instance: bool) -> Arc<Space> {
        self.add_space_in(&like.path, like.region, like.callee.clone(), of_instance)
    }

    fn add_space_in(&self, path: &str, region: RegionId, callee: Option<Arc<Callee>>, of_instance: bool) -> Arc<Space> {
        // Distinct inputs of a bijection: no two spaces of a tier share a salt.
        let salt = mix(self.salts.fetch_add(1, Relaxed), 0);
        let mut memory = self.memory.lock();
        let space = Arc::new(Space {
            salt,
            read_salt: AtomicU64::new(self.salt_to_read(path, salt)),
            disabled: AtomicBool::new(self.disables(path)),
            group: AtomicU64::new(memory.entries.add_group(region).to_bits()),
            alias_group: AtomicU64::new(memory.aliases.add_group(region).to_bits()),
            path: path.into(),
            region,
            callee,
            of_instance,
            named: AtomicBool::new(false),
            begins: OnceLock::new(),
        });
        drop(memory);
        self.hold(&space);
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
        let space = self.add_space(path, None, None);
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
        for space in self.all_spaces().iter().filter(|space| is_below(&space.path, path)) {
            self.clear_space(space);
        }
    }

    /// Notes whose group a space's present one is.
    fn hold(&self, space: &Arc<Space>) {
        let (number, mut holders) = (space.group().number() as usize, self.holders.lock());
        if holders.len() <= number {
            holders.resize(number + 1, Weak::new());
        }
        holders[number] = Arc::downgrade(space);
    }

    /// Whose group this number is.
    pub fn holder(&self, number: u32) -> Option<Arc<Space>> {
        self.holders.lock().get(number as usize).and_then(Weak::upgrade)
    }

    /// Forgets all entries of a space in O(1); their memory follows.
    pub fn clear_space(&self, space: &Arc<Space>) {
        let mut memory = self.memory.lock();
        let group = memory.entries.renew_group(space.group());
        memory.entries.stats_mut(group).invalidations += 1;
        let alias_group = memory.aliases.renew_group(space.alias_group());
        space.group.store(group.to_bits(), Relaxed);
        space.alias_group.store(alias_group.to_bits(), Relaxed);
        drop(memory);
        self.hold(space);
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

    /// Counts ids that a loader of many returned though nobody had asked for them.
    pub fn count_unasked(&self, space: &Space, number: u64) {
        self.memory.lock().entries.stats_mut(space.group()).unasked += number;
    }

    /// The counters of a namespace and those below it.
    pub fn stats(&self, path: &str) -> Stats {
        let spaces = self.all_spaces();
        let mut memory = self.memory.lock();
        let mut stats = Stats::default();
        for space in spaces.iter().filter(|space| is_below(&space.path, path)) {
            stats.add(&memory.entries.stats(space.group()));
        }
        stats
    }

    /// Every space that is in use.
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

    /// Turns lookups in a namespace and those below it off, or on again, as often as they were turned off.
    pub fn disable(&self, path: &str, on: bool) {
        let mut disabled = self.disabled.lock();
        if on {
            disabled.push(path.to_owned());
        } else if let Some(at) = disabled.iter().position(|disabled| disabled == path) {
            disabled.swap_remove(at);
        }
        drop(disabled);
        self.look_where();
    }

    /// Tells the hit paths where to look: where the entries are, or where nothing is, so that they find nothing and leave
    /// the call to the slow way, which sees to what is disabled and to who listens to hits. Costs a hit nothing.
    pub fn look_where(&self) {
        for space in self.all_spaces() {
            space.disabled.store(self.disables(&space.path), Relaxed);
            space.read_salt.store(self.salt_to_read(&space.path, space.salt), Relaxed);
        }
    }

    fn salt_to_read(&self, path: &str, salt: u64) -> u64 {
        if self.disables(path) || self.listeners.hear_hits(path) { self.void_salt ^ salt } else { salt }
    }

    /// Calls `visit` with every object the tier itself owns: entries with names that no living function owns.
    pub fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        let refresher =
            |visit: &mut dyn FnMut(&Object) -> bool| self.refresher.lock().iter().all(|one| one.visit(visit));
        if !self.weigher.lock().iter().all(&mut *visit)
            || !self.recipe.lock().visit(visit)
            || !self.writings.visit(visit)
            || !refresher(visit)
        {
            return false;
        }
        if !self.listeners.visit(visit) || self.rules().is_some_and(|book| !book.objects().all(&mut *visit)) {
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

    /// Drops the refresher and what it keeps, for it has nobody to load for any more.
    pub fn end_refresher(&self) {
        let _anchor = Anchor::hold();
        let core = self.memory.lock().refresher.take();
        let running = self.refresher.lock().take();
        drop((core, running));
    }

    /// Drops everything the tier itself owns; for the collector.
    pub fn drain(&self) {
        let weigher = self.weigher.lock().take();
        drop(weigher);
        self.end_refresher();
        self.listeners.clear();
        self.writings.forget();
        self.set_rules(None);
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

/// All tiers of the process.
pub fn all() -> Vec<Arc<Tier>> {
    TIERS.lock().iter().filter_map(Weak::upgrade).collect()
}

/// Leaves nothing of the ttls of all present caches to chance, for a test; or all of it again.
#[pyfunction]
pub fn _set_steady(steady: bool) {
    all().iter().for_each(|tier| tier.steady.store(steady, Relaxed));
}

/// Everybody whose time is up by now, for a clock that was moved.
pub fn overdue() -> Vec<(Arc<Tier>, Due)> {
    let due = |tier: Arc<Tier>| {
        let overdue = tier.memory.lock().flights.overdue(tier.clock.now());
        overdue.into_iter().map(move |due| (tier.clone(), due)).collect::<Vec<_>>()
    };
    all().into_iter().flat_map(due).collect()
}

/// In a forked child: everything that was in motion is forgotten, it belongs to the parent's loops. The tables are whole:
/// only a thread that holds the interpreter changes them, and the thread that forks held it.
pub fn forget_motion() {
    for tier in &all() {
        // Parent and child must not draw the same jitter.
        tier.draws.disturb(mix(new_seed(), 0));
        std::mem::forget(std::mem::take(&mut tier.memory.lock().flights));
        tier.memory.lock().refresher = None;
        std::mem::forget(tier.refresher.lock().take());
        std::mem::forget(std::mem::take(&mut *tier.tasks.lock()));
        tier.writings.forget();
        if let Some(remote) = tier.remote() {
            remote.forget();
        }
        if let Some(ledger) = &mut tier.memory.lock().ledger {
            ledger.forget_loads();
        }
    }
}
