//! One caller's wish for one key: where the entry is, who loads it if it is not there, and how the value is kept.
//!
//! The asyncio and the blocking driver share all of this; they differ only in how they wait. Nothing here decides who
//! loads: that is `core::flight`.

use super::asyncio::Running;
use super::copy::{self, Mode};
use super::errors;
use super::seat::{Outcome, Waiter};
use super::state::State;
use super::tier::{Gone, Object, PyMemory, Space, Tier, let_go};
use super::{args, lease};
use crate::core::clock::{Millis, deadline};
use crate::core::flight::{Begin, Effect, Effects, Fill, FlightId, Home, Input, Lease, Life};
use crate::core::memory::{Discard, New, Placement, Reason, Target, Worth};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::Arc;
use std::time::Duration;

/// Where an entry is: its salted hash and its key.
pub struct Spot {
    /// The hash with the space's salt in it.
    pub hash: u64,
    /// The key as it is stored.
    pub key: Object,
    /// True if only Python can tell whether two such keys are the same.
    pub asks: bool,
}

/// A shortcut from call arguments to an entry with a name.
pub struct Alias {
    /// The hash of the arguments, salted with the function's own salt.
    pub hash: u64,
    /// The arguments.
    pub key: Object,
}

/// The function that loads, with its arguments.
pub struct Loader {
    /// What is called.
    pub callable: Object,
    /// Positional arguments, then the keyword ones.
    pub args: Vec<Object>,
    /// The names of the last arguments.
    pub names: Option<Py<PyTuple>>,
    /// The same call as a ttl callable is told of it: every parameter in order, defaults applied.
    pub bound: Told,
}

/// Positional values, then those of `**kwargs`, and the names of the latter.
pub type Told = (Vec<Object>, Option<Py<PyTuple>>);

impl Loader {
    /// Calls it.
    pub fn call<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        call_with(py, self.callable.bind(py), None, &self.args, self.names.as_ref())
    }
}

/// Calls with an optional first argument before the given ones.
fn call_with<'py>(
    py: Python<'py>,
    callable: &Bound<'py, PyAny>,
    first: Option<&Bound<'py, PyAny>>,
    args: &[Object],
    names: Option<&Py<PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut row: Vec<*mut ffi::PyObject> = Vec::with_capacity(args.len() + 1);
    row.extend(first.map(|first| first.as_ptr()));
    row.extend(args.iter().map(Py::as_ptr));
    let named = names.map_or(0, |names| names.bind(py).len());
    let names = names.map_or(std::ptr::null_mut(), Py::as_ptr);
    // SAFETY: the row holds borrowed references that outlive the call; `names` is a tuple of the last ones' names.
    unsafe {
        let result = ffi::PyObject_Vectorcall(callable.as_ptr(), row.as_ptr(), row.len() - named, names);
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// How long a value is fresh.
pub enum Ttl {
    /// For this long; `None` = for ever, zero = not stored.
    Fixed(Option<Duration>),
    /// As this callable says, given the value and the call's arguments.
    Asked(Object),
}

/// How loaded values are kept.
pub struct Recipe {
    /// Fresh for.
    pub ttl: Ttl,
    /// A predicate on the value; `None` = keep everything.
    pub cache_if: Option<Object>,
    /// Copies.
    pub copy: Mode,
    /// For messages.
    pub name: String,
}

/// A value on its way into the table.
pub struct Kept {
    /// The object to store.
    pub value: Object,
    /// How readers get it.
    pub kind: u32,
    /// Its life, `None` for one that is answered but not stored.
    pub ttl: Option<Option<Duration>>,
    /// What it weighs (see [`Tier::weigh`]).
    pub weight: u64,
}

impl Recipe {
    /// The ttl's callable, for the collector.
    pub fn asked_ttl(&self) -> Option<&Object> {
        if let Ttl::Asked(callable) = &self.ttl { Some(callable) } else { None }
    }

    /// Asks the user's callables and makes the store's own copy. Runs Python.
    pub fn keep<'py>(&self, value: &Bound<'py, PyAny>, loader: &Loader, tier: &Tier) -> PyResult<Kept> {
        let py = value.py();
        let (stored, kind) = copy::isolate(value, self.copy)?;
        let wanted = match &self.cache_if {
            Some(predicate) => predicate.bind(py).call1((value,))?.is_truthy()?,
            None => true,
        };
        let ttl = match &self.ttl {
            Ttl::Fixed(ttl) => *ttl,
            Ttl::Asked(callable) if wanted => {
                let (args, names) = &loader.bound;
                let told = call_with(py, callable.bind(py), Some(value), args, names.as_ref())?;
                super::options::ttl(&told, &format!("result of ttl= of {}", self.name), true)?
            }
            Ttl::Asked(_) => None,
        };
        let stores = wanted && ttl != Some(Duration::ZERO);
        let weight = if stores { tier.weigh(&stored)? } else { 1 };
        Ok(Kept { value: stored.unbind(), kind, ttl: stores.then_some(ttl), weight })
    }
}

/// See the module.
pub struct Request {
    /// The cache.
    pub tier: Arc<Tier>,
    /// Where the entry is.
    pub spot: Spot,
    /// Whose entry it is, and whose counters count.
    pub space: Arc<Space>,
    /// The shortcut to make.
    pub alias: Option<Alias>,
    /// Who loads.
    pub loader: Loader,
    /// How the value is kept.
    pub recipe: Arc<Recipe>,
    /// How long the load lives.
    pub life: Life,
    /// True for a load that is wanted even though a value is there.
    pub refresh: bool,
}

/// What a lookup found.
pub enum Lookup {
    /// A value, already the caller's own.
    Hit(Object),
    /// Somebody loads it, there.
    Flying(FlightId, Home),
    /// Nothing; the entry that is past its time, if there is one.
    Absent(Option<Target>),
}

impl Spot {
    /// Finds the entry, whatever its state, and the flight.
    pub fn locate(&self, py: Python<'_>, tier: &Tier) -> PyResult<(Option<Target>, Option<FlightId>)> {
        if self.asks {
            return super::asking::locate(py, tier, self);
        }
        Ok(self.find(&tier.memory.lock()))
    }

    /// Finds a key that does not ask.
    fn find(&self, memory: &PyMemory) -> (Option<Target>, Option<FlightId>) {
        // SAFETY: all keys are valid objects; comparing plain ones runs no Python.
        let same = |key: &Object| unsafe { args::same_plain(key.as_ptr(), self.key.as_ptr()) };
        let entry = memory.entries.find(self.hash, same).map(|id| memory.entries.target(id));
        (entry, memory.flights.find(self.hash, same))
    }

    /// Stores a value as an explicit write: whatever loads this key now will not replace it.
    #[inline]
    pub fn put(self, py: Python<'_>, tier: &Tier, space: &Space, kept: Kept) -> PyResult<()> {
        let Kept { value, kind, ttl: Some(ttl), weight } = kept else {
            self.delete(py, tier, space)?;
            return Ok(());
        };
        let now = tier.clock.now_for(ttl);
        let worth = Worth::new(weight, Duration::ZERO);
        let placement = Placement::new(space.group(), deadline(now, ttl), kind).worth(worth);
        let gone = if self.asks {
            self.put_asking(py, tier, value, placement, now)?
        } else {
            self.put_plain(tier, value, placement, now)
        };
        let_go(py, gone);
        tier.appointment.by(placement.terms.deadline());
        Ok(())
    }

    #[inline(always)]
    fn put_plain(self, tier: &Tier, value: Object, placement: Placement, now: Millis) -> Gone {
        let (hash, wanted) = (self.hash, self.key.as_ptr());
        // SAFETY: all keys are valid objects, ours lives in the table or in `gone`; comparing plain ones runs no Python.
        let same = |key: &Object| unsafe { args::same_plain(key.as_ptr(), wanted) };
        let mut gone = Gone::default();
        let mut memory = tier.memory.lock();
        if let Some(flight) = memory.flights.find(hash, same) {
            memory.flights.detach(flight);
        }
        memory.entries.put(New { hash, key: self.key, value, placement }, same, now, &mut gone);
        gone
    }

    /// What only Python can compare is looked for before the lock is taken.
    fn put_asking(
        self,
        py: Python<'_>,
        tier: &Tier,
        value: Object,
        placement: Placement,
        now: Millis,
    ) -> PyResult<Gone> {
        let (entry, flight) = self.locate(py, tier)?;
        let mut gone = Gone::default();
        let mut memory = tier.memory.lock();
        if let Some(flight) = flight {
            memory.flights.detach(flight);
        }
        match entry.and_then(|entry| memory.entries.resolve(entry)) {
            Some(id) => {
                memory.entries.replace(id, Some(self.key), value, placement, now, &mut gone);
            }
            None => {
                memory.entries.insert(New { hash: self.hash, key: self.key, value, placement }, now, &mut gone);
            }
        }
        Ok(gone)
    }

    /// Removes the entry and detaches its flight. True if a value was there that could have been served.
    pub fn delete(&self, py: Python<'_>, tier: &Tier, space: &Space) -> PyResult<bool> {
        let (entry, flight) = self.locate(py, tier)?;
        let mut gone = Gone::default();
        let mut memory = tier.memory.lock();
        if let Some(flight) = flight {
            memory.flights.detach(flight);
        }
        let found = entry.and_then(|entry| memory.entries.resolve(entry));
        let served = found.is_some_and(|id| memory.entries.is_served(id, |end| tier.clock.has_come(end)));
        if let Some(id) = found {
            memory.entries.remove(id, Reason::Removed, &mut gone);
        }
        memory.entries.stats_mut(space.group()).invalidations += 1;
        drop(memory);
        let_go(py, gone);
        Ok(served)
    }
}

impl Request {
    /// Looks the key up and counts. What is there is the caller's; what is not decides who loads.
    pub fn lookup(&self, py: Python<'_>) -> PyResult<Lookup> {
        let (entry, flight) = self.spot.locate(py, &self.tier)?;
        let mut memory = self.tier.memory.lock();
        let id = entry.and_then(|entry| memory.entries.resolve(entry));
        if let Some(id) = id.filter(|_| !self.refresh) {
            let read = memory.entries.read(id, |end| self.tier.clock.has_come(end));
            if let Some((value, kind)) = read.map(|found| (found.value.clone_ref(py), found.tag)) {
                let gone = self.alias(py, &mut memory, id);
                drop(memory);
                drop(gone);
                return Ok(Lookup::Hit(copy::hand_out(value.bind(py), kind)?.unbind()));
            }
        }
        memory.entries.stats_mut(self.space.group()).misses += u64::from(!self.refresh);
        if let Some(flight) = flight {
            match memory.flights.home(flight) {
                Some((home, group)) if !self.refresh && memory.entries.is_alive(group) => {
                    return Ok(Lookup::Flying(flight, home));
                }
                // Loading for a group that was cleared, or older than this refresh: not ours to join.
                _ => memory.flights.detach(flight),
            }
        }
        Ok(Lookup::Absent(entry))
    }

    /// Leads from this call's arguments to the entry; what it displaces is returned, to be dropped after unlocking.
    fn alias(&self, py: Python<'_>, memory: &mut PyMemory, id: u32) -> Discard<Object, Target> {
        let mut gone = Discard::default();
        let Some(alias) = &self.alias else { return gone };
        let target = memory.entries.target(id);
        let (stored, deadline) = memory.entries.life(id);
        let placement = Placement::new(self.space.alias_group(), deadline, 0);
        // SAFETY: as in `locate`; alias keys are plain.
        let same = |key: &Object| unsafe { args::same_plain(key.as_ptr(), alias.key.as_ptr()) };
        match memory.aliases.find(alias.hash, same) {
            Some(at) => memory.aliases.replace(at, None, target, placement, stored, &mut gone),
            None => {
                let key = alias.key.clone_ref(py);
                memory.aliases.insert(New { hash: alias.hash, key, value: target, placement }, stored, &mut gone);
            }
        }
        gone
    }

    /// Takes the lease of an absent key.
    pub fn begin(&self, py: Python<'_>, seen: Option<Target>, home: Home, life: Life) -> Lease {
        let key = self.spot.key.clone_ref(py);
        let mut memory = self.tier.memory.lock();
        let group = self.space.group();
        let stats = memory.entries.stats_mut(group);
        stats.loads += 1;
        stats.refreshes += u64::from(self.refresh);
        let began = self.tier.clock.now();
        memory.flights.begin(Begin { hash: self.spot.hash, key, group, seen, home, life, began })
    }

    /// Counts a load that is taken over from a caller who left: it is begun anew.
    pub fn took_over(&self) {
        self.tier.memory.lock().entries.stats_mut(self.space.group()).loads += 1;
    }

    /// Reports what became of a load: stores the value if it may be stored, and tells everyone who waits. The error, if
    /// any, is that of one of the user's callables, which ends the load as its own would.
    pub fn finish<'py>(&self, py: Python<'py>, state: &State, ended: Ended<'_, 'py>) -> PyResult<()> {
        let Ended { lease, result, starter } = ended;
        let failed = result.as_ref().err().cloned();
        let kept = result.and_then(|value| {
            let kept = self.recipe.keep(value, &self.loader, &self.tier);
            let kept = kept.map_err(|error| errors::not_stop(py, error));
            kept.map(|kept| (value, kept)).map_err(|error| error.into_value(py).into_bound(py).into_any())
        });
        let input = match &kept {
            Ok(_) => Input::Loaded,
            Err(error) if lease::is_cancellation(py, state, error) => Input::Aborted,
            Err(_) => Input::Failed,
        };
        let mut gone = Gone::default();
        let mut memory = self.tier.memory.lock();
        let mut effects = memory.flights.step(lease, input);
        if input != Input::Loaded && !effects.is_empty() {
            memory.entries.stats_mut(self.space.group()).load_errors += 1;
        }
        if let (Ok((_, kept)), Some(Effect::Store(_))) = (&kept, effects.first())
            && let Effect::Store(fill) = effects.remove(0)
        {
            self.store(py, &mut memory, fill, kept, &mut gone);
        }
        drop(memory);
        let_go(py, gone);
        if let Ok((_, Kept { ttl: Some(ttl), .. })) = &kept {
            self.tier.appointment.by(deadline(self.tier.clock.now(), *ttl));
        }
        run(py, state, &self.tier, lease.flight, effects, |waiter| match &kept {
            Ok((value, _)) if starter.is_some_and(|starter| Arc::ptr_eq(starter, waiter)) => self.starters_own(value),
            Ok((_, kept)) => Outcome::Value(kept.value.clone_ref(py), kept.kind),
            Err(error) if starter.is_some_and(|starter| Arc::ptr_eq(starter, waiter)) => {
                Outcome::Error(error.clone().unbind())
            }
            Err(error) => Outcome::Error(errors::copy_for_waiter(error).unbind()),
        });
        match kept {
            Err(error) if failed.is_none() => Err(PyErr::from_value(error)),
            _ => Ok(()),
        }
    }

    /// Whoever started the load gets the loaded object itself, except where readers are promised a copy of it.
    fn starters_own(&self, value: &Bound<'_, PyAny>) -> Outcome {
        let kind = if matches!(self.recipe.copy, Mode::Deep) { copy::DEEP } else { copy::SHARE };
        Outcome::Value(value.clone().unbind(), kind)
    }

    fn store(&self, py: Python<'_>, memory: &mut PyMemory, fill: Fill<Object>, kept: &Kept, gone: &mut Gone) {
        let now = self.tier.clock.now();
        let Some(ttl) = kept.ttl.filter(|_| !self.space.is_disabled()) else {
            // Answered, not kept; a value that is past its time must not come back either.
            if let Some(id) = fill.seen.and_then(|seen| memory.entries.resolve(seen)) {
                memory.entries.remove(id, Reason::Removed, gone);
            }
            gone.keep_key(fill.key);
            return;
        };
        let deadline = deadline(now, ttl);
        let worth = Worth::new(kept.weight, Duration::from_millis(now.saturating_sub(fill.began)));
        let placement = Placement::new(fill.group, deadline, kept.kind).worth(worth);
        memory.fill(fill, kept.value.clone_ref(py), placement, now, gone);
    }
}

/// A load that is over.
pub struct Ended<'a, 'py> {
    /// Its lease.
    pub lease: Lease,
    /// The value, or the exception.
    pub result: Result<&'a Bound<'py, PyAny>, Bound<'py, PyAny>>,
    /// The seat of whoever started it.
    pub starter: Option<&'a Waiter>,
}

/// The outcome that all of them get, if it does not differ.
type Common = Option<fn() -> Outcome>;

/// Runs the effects that reach beyond memory. `outcome` tells each waiter's.
pub fn run(
    py: Python<'_>,
    state: &State,
    tier: &Tier,
    flight: FlightId,
    effects: Effects<Object, Waiter>,
    outcome: impl Fn(&Waiter) -> Outcome,
) {
    let here = if effects.is_empty() { None } else { state.running_loop(py) };
    for effect in effects {
        let (waiters, common): (Vec<Waiter>, Common) = match effect {
            Effect::Wake(waiters) => (waiters, None),
            Effect::Fail(waiters) => (waiters, Some(|| Outcome::Ended)),
            Effect::Again(waiters) => (waiters, Some(|| Outcome::Again)),
            Effect::Lead(waiter) => (vec![waiter], Some(|| Outcome::Lead)),
            Effect::CancelLoad => {
                let running = tier.tasks.lock().remove(&flight.to_bits());
                if let Some(running) = running {
                    Running::cancel(&running, py, state, here.as_ref());
                }
                continue;
            }
            Effect::Store(_) | Effect::Release(_) => continue,
        };
        for waiter in waiters {
            let told = common.map_or_else(|| outcome(&waiter), |common| common());
            waiter.tell(py, state, told, here.as_ref());
        }
    }
}
