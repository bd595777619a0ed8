//! One caller's wish for one key: where the entry is, who loads it if it is not there, and how the value is kept.
//!
//! The asyncio and the blocking driver share all of this; they differ only in how they wait. Nothing here decides who
//! loads: that is `core::flight`.

use super::copy::{self, Mode};
use super::errors;
use super::seat::{Outcome, Waiter};
use super::state::State;
use super::tier::{Gone, Object, PyMemory, Space, Tier, let_go};
use super::{args, lease, task};
use crate::core::clock::{Millis, deadline};
use crate::core::flight::{self, Due, Effect, Effects, Fallback, FlightId, Home, Input, Keep, Lease, Life, Located};
use crate::core::flight::{Newer, Place, Ticket, Wish};
use crate::core::memory::{Discard, New, Placement, Reason, Target, Worth};
use crate::core::policy::Policy;
use pyo3::exceptions::PyException;
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

/// How loaded values are kept.
pub struct Recipe {
    /// Everything that is plain data.
    pub policy: Policy,
    /// Says how long a value is fresh, given it and the call's arguments; without it the policy does.
    pub ttl: Option<Object>,
    /// A predicate on the value; `None` = keep everything.
    pub cache_if: Option<Object>,
    /// Classes of exceptions that are kept, and for how long.
    pub errors: Vec<(Object, Duration)>,
    /// Answers when a load has failed and nothing else can: a value, or a function of the call's arguments.
    pub fallback: Option<Object>,
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

impl Kept {
    /// True if it says that there is nothing, or why there is not.
    fn is_negative(&self) -> bool {
        matches!(self.kind, copy::RAISE | copy::NOTHING)
    }
}

impl Recipe {
    /// All objects it holds, for the collector.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        let optional = [&self.ttl, &self.cache_if, &self.fallback];
        optional.into_iter().flatten().chain(self.errors.iter().map(|(class, _)| class))
    }

    /// How long an exception of a class to be kept is.
    fn error_ttl(&self, error: &Bound<'_, PyAny>) -> Option<Duration> {
        let mut classes = self.errors.iter();
        let found = classes.find(|(class, _)| error.is_instance(class.bind(error.py())).unwrap_or(false));
        found.map(|(_, ttl)| *ttl)
    }

    /// Asks the user's callables and makes the store's own copy. Runs Python.
    pub fn keep<'py>(&self, value: &Bound<'py, PyAny>, loader: &Loader, tier: &Tier, state: &State) -> PyResult<Kept> {
        let py = value.py();
        let not_found = state.not_found(py)?;
        if value.is(not_found) || value.get_type().is(not_found) {
            let ttl = self.policy.negative_ttl.map(Some);
            return Ok(Kept { value: value.clone().unbind(), kind: copy::NOTHING, ttl, weight: 1 });
        }
        let (stored, kind) = copy::isolate(value, self.copy)?;
        let wanted = match &self.cache_if {
            Some(predicate) => predicate.bind(py).call1((value,))?.is_truthy()?,
            None => true,
        };
        let ttl = match &self.ttl {
            None => self.policy.ttl,
            Some(callable) if wanted => {
                let (args, names) = &loader.bound;
                let told = call_with(py, callable.bind(py), Some(value), args, names.as_ref())?;
                super::options::ttl(&told, &format!("result of ttl= of {}", self.name), true)?
            }
            Some(_) => None,
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
    /// Who refreshes behind, if not the loader.
    pub refresher: Option<Loader>,
    /// How the value is kept.
    pub recipe: Arc<Recipe>,
    /// How long the load lives.
    pub life: Life,
    /// True for a load that is wanted even though a value is there.
    pub refresh: bool,
}

/// What a lookup found.
pub enum Lookup {
    /// A value, how readers get it, and what is done about a newer one.
    Hit(Object, u32, Newer),
    /// Somebody loads it, there.
    Flying(FlightId, Home),
    /// This caller loads it.
    Lead(Lease),
    /// This caller would have to load it, and there is no place to load it on.
    Nowhere,
}

impl Spot {
    /// Finds the entry, whatever its state, and the flight.
    pub fn locate(&self, py: Python<'_>, tier: &Tier) -> PyResult<Located> {
        if self.asks {
            return super::asking::locate(py, tier, self);
        }
        Ok(self.find(&tier.memory.lock()))
    }

    /// Finds a key that does not ask.
    fn find(&self, memory: &PyMemory) -> Located {
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
                gone.keep_key(self.key);
                memory.entries.replace(id, value, placement, now, &mut gone);
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
    /// Looks the key up and counts: what is there answers, what is not decides who loads.
    pub fn lookup(&self, py: Python<'_>, place: Place) -> PyResult<Lookup> {
        let located = self.spot.locate(py, &self.tier)?;
        let now = self.tier.clock.now();
        let key = || self.spot.key.clone_ref(py);
        let mut memory = self.tier.memory.lock();
        let found = memory.look_up(&self.wish(place), (self.spot.hash, key), located, now, || self.tier.draw());
        Ok(match found {
            flight::Lookup::Hit(id, newer) => {
                let gone = self.alias(py, &mut memory, id);
                let found = memory.entries.peek(id).map(|found| (found.value.clone_ref(py), found.tag));
                drop(memory);
                drop(gone);
                found.map_or(Lookup::Nowhere, |(value, kind)| Lookup::Hit(value, kind, newer))
            }
            flight::Lookup::Flying(flight, home) => Lookup::Flying(flight, home),
            flight::Lookup::Lead(lease) => Lookup::Lead(lease),
            flight::Lookup::Nowhere => Lookup::Nowhere,
        })
    }

    /// What a caller here wants, as the core knows it. Under the lock: a clear changes the group.
    pub fn wish(&self, place: Place) -> Wish<'_> {
        Wish { policy: &self.recipe.policy, group: self.space.group(), place, anew: self.refresh }
    }

    /// Leads from this call's arguments to the entry; what it displaces is returned, to be dropped after unlocking.
    fn alias(&self, py: Python<'_>, memory: &mut PyMemory, id: u32) -> Discard<Object, Target> {
        let mut gone = Discard::default();
        let Some(alias) = &self.alias else { return gone };
        let target = memory.entries.target(id);
        let (stored, end) = (memory.entries.created(id), memory.entries.span(id).expires);
        let placement = Placement::new(self.space.alias_group(), end, 0);
        // SAFETY: as in `locate`; alias keys are plain.
        let same = |key: &Object| unsafe { args::same_plain(key.as_ptr(), alias.key.as_ptr()) };
        match memory.aliases.find(alias.hash, same) {
            Some(at) => {
                memory.aliases.replace(at, target, placement, stored, &mut gone);
            }
            None => {
                let key = alias.key.clone_ref(py);
                memory.aliases.insert(New { hash: alias.hash, key, value: target, placement }, stored, &mut gone);
            }
        }
        gone
    }

    /// Loads in the place of a caller who left, from a new seat; `None` if the flight is over by now.
    pub fn take_over(&self, place: Place, ticket: Ticket, seat: &Waiter) -> Option<Lease> {
        let now = self.tier.clock.now();
        let mut memory = self.tier.memory.lock();
        memory.take_over(&self.wish(place), ticket, seat.home, seat.clone(), now)
    }

    /// What becomes of a load's result: the value or the exception to be kept, or the exception that nobody keeps.
    fn kept<'py>(
        &self,
        state: &State,
        lease: Lease,
        result: Result<&Bound<'py, PyAny>, Bound<'py, PyAny>>,
    ) -> Result<Kept, Bound<'py, PyAny>> {
        let (py, kept) = match &result {
            Ok(value) => (value.py(), self.recipe.keep(value, &self.loader, &self.tier, state).map(Some)),
            Err(error) if lease::is_cancellation(error.py(), state, error) => (error.py(), Ok(None)),
            Err(error) => (error.py(), self.keep_error(lease, error, state)),
        };
        let raised = |error| errors::not_stop(py, error).into_value(py).into_bound(py).into_any();
        match (kept.map_err(raised)?, result) {
            (Some(kept), _) => Ok(kept),
            (None, Err(error)) => Err(error),
            (None, Ok(value)) => Err(value.clone()),
        }
    }

    /// What becomes of an exception: kept as an answer, if it says that there is nothing, or is of a class to be kept and
    /// no old value answers instead.
    fn keep_error(&self, lease: Lease, error: &Bound<'_, PyAny>, state: &State) -> PyResult<Option<Kept>> {
        let py = error.py();
        let ttl = if error.is_instance(state.not_found(py)?)? {
            self.recipe.policy.negative_ttl.map(Some)
        } else {
            let Some(ttl) = self.recipe.error_ttl(error).filter(|_| !self.has_old(lease)) else { return Ok(None) };
            Some(Some(ttl))
        };
        let bare = errors::bare_copy(error)?.unbind();
        Ok(Some(Kept { value: bare, kind: copy::RAISE, ttl, weight: 1 }))
    }

    fn has_old(&self, lease: Lease) -> bool {
        self.tier.memory.lock().has_old(lease, self.tier.clock.now())
    }

    /// Reports what became of a load: stores the value if it may be stored, and tells everyone who waits. Gives what the
    /// starter gets instead of an answer of its own: the old value, or the error of one of the user's callables.
    pub fn finish<'py>(&self, py: Python<'py>, state: &State, ended: Ended<'_, 'py>) -> PyResult<Option<Old>> {
        let Ended { lease, result, starter } = ended;
        let (value, failed) = (result.as_ref().ok().copied(), result.as_ref().err().cloned());
        let kept = self.kept(state, lease, result);
        let input = match &kept {
            Ok(_) => Input::Loaded,
            Err(error) if lease::is_cancellation(py, state, error) => Input::Aborted,
            Err(_) => Input::Failed,
        };
        let now = self.tier.clock.now();
        let keep = kept.as_ref().ok().and_then(|kept| self.to_keep(py, kept));
        let mut gone = Gone::default();
        let mut memory = self.tier.memory.lock();
        let ended = flight::Ended { lease, input, keep, policy: &self.recipe.policy, group: self.space.group() };
        let (effects, ends) = memory.finish(ended, now, || self.tier.draw(), &mut gone);
        drop(memory);
        let_go(py, gone);
        self.tier.appointment.by(ends);
        let is_starter = |waiter: &Waiter| starter.is_some_and(|starter| Arc::ptr_eq(starter, waiter));
        let old = run(py, state, &self.tier, lease.flight, effects, |waiter| match (&kept, &failed) {
            (Ok(_), Some(error)) | (Err(error), _) if is_starter(waiter) => Outcome::Error(error.clone().unbind()),
            (Ok(_), Some(error)) | (Err(error), _) => Outcome::Error(errors::copy_for_waiter(error).unbind()),
            (Ok(kept), None) => match value.filter(|_| is_starter(waiter)) {
                Some(value) => self.starters_own(value),
                None => Outcome::Value(kept.value.clone_ref(py), kept.kind),
            },
        });
        match kept {
            Err(error) if failed.is_none() && old.is_none() => Err(PyErr::from_value(error)),
            _ => Ok(old),
        }
    }

    /// Whoever started the load gets the loaded object itself, except where readers are promised a copy of it.
    fn starters_own(&self, value: &Bound<'_, PyAny>) -> Outcome {
        let kind = if matches!(self.recipe.copy, Mode::Deep) { copy::DEEP } else { copy::SHARE };
        Outcome::Value(value.clone().unbind(), kind)
    }

    /// What is kept of a result, if anything is.
    fn to_keep<'a>(&self, py: Python<'a>, kept: &'a Kept) -> Option<Keep<impl FnOnce() -> Object + 'a>> {
        let ttl = kept.ttl.filter(|_| !self.space.is_disabled())?;
        let value = move || kept.value.clone_ref(py);
        Some(Keep { value, tag: kept.kind, negative: kept.is_negative(), ttl, weight: kept.weight })
    }

    /// What answers when a load has failed and no old value does; the error itself, if nothing was given for that. "Not
    /// found" is an answer.
    pub fn fall_back<'py>(&self, py: Python<'py>, state: &State, error: PyErr) -> PyResult<Bound<'py, PyAny>> {
        let Some(fallback) = self.recipe.fallback.as_ref().filter(|_| !self.refresh) else { return Err(error) };
        let failed = error.value(py);
        if !failed.is_instance_of::<PyException>() || failed.is_instance(state.not_found(py)?)? {
            return Err(error);
        }
        let fallback = fallback.bind(py);
        if fallback.is_callable() {
            return call_with(py, fallback, None, &self.loader.args, self.loader.names.as_ref());
        }
        Ok(copy::isolate(fallback, self.recipe.copy)?.0)
    }

    /// The error of a load that took too long.
    pub fn timed_out(&self, py: Python<'_>) -> PyErr {
        errors::load_timeout(py, &self.recipe.name, self.recipe.policy.timeout)
    }
}

/// Somebody's time may be up: a waiter's, or a load's own.
pub fn expire(py: Python<'_>, state: &State, tier: &Tier, due: Due) {
    let now = tier.clock.now();
    let flight = match due {
        Due::Load(lease) => lease.flight,
        Due::Waiter(ticket) => ticket.flight,
    };
    let effects = tier.memory.lock().expire(due, now);
    run(py, state, tier, flight, effects, |_| Outcome::TimedOut);
}

/// An old value that answers in the place of a load, and how readers get it.
pub type Old = (Object, u32);

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

/// Runs the effects that reach beyond memory. `outcome` tells each waiter's. Gives the old value, if that answers.
pub fn run(
    py: Python<'_>,
    state: &State,
    tier: &Tier,
    flight: FlightId,
    effects: Effects<Object, Waiter>,
    outcome: impl Fn(&Waiter) -> Outcome,
) -> Option<Old> {
    let here = if effects.is_empty() { None } else { state.running_loop(py) };
    let mut old: Option<Old> = None;
    for effect in effects {
        let (waiters, common): (Vec<Waiter>, Common) = match effect {
            Effect::Wake(waiters) => (waiters, None),
            Effect::TimeOut(waiters) => (waiters, Some(|| Outcome::TimedOut)),
            Effect::Fail(waiters) => (waiters, Some(|| Outcome::Ended)),
            Effect::Again(waiters) => (waiters, Some(|| Outcome::Again)),
            Effect::Lead(waiter) => {
                task::expect(py, tier, flight, &waiter);
                (vec![waiter], Some(|| Outcome::Lead))
            }
            Effect::CancelLoad => {
                task::cancel(py, state, tier, flight, here.as_ref());
                continue;
            }
            Effect::Relent(fallback) => {
                old = relent(py, tier, &fallback);
                continue;
            }
            Effect::Give(fallback, waiter) => {
                let given =
                    give(py, tier, &fallback).map_or(Outcome::TimedOut, |(value, kind)| Outcome::Value(value, kind));
                waiter.tell(py, state, given, here.as_ref());
                continue;
            }
            Effect::Release(_) => {
                let expected = tier.tasks.lock().remove(&flight.to_bits());
                drop(expected);
                continue;
            }
            Effect::Store(_) => continue,
        };
        for waiter in waiters {
            let told = match (&old, common) {
                (Some((value, kind)), _) => Outcome::Value(value.clone_ref(py), *kind),
                (None, Some(common)) => common(),
                (None, None) => outcome(&waiter),
            };
            waiter.tell(py, state, told, here.as_ref());
        }
    }
    old
}

/// The old value stays in use after a load that failed.
fn relent(py: Python<'_>, tier: &Tier, fallback: &Fallback) -> Option<Old> {
    let mut memory = tier.memory.lock();
    let found = memory.relent_and_serve(fallback, tier.clock.now())?;
    Some((found.value.clone_ref(py), found.tag))
}

/// The old value answers one who has waited long enough.
fn give(py: Python<'_>, tier: &Tier, fallback: &Fallback) -> Option<Old> {
    let mut memory = tier.memory.lock();
    let found = memory.give(fallback, tier.clock.now())?;
    Some((found.value.clone_ref(py), found.tag))
}
