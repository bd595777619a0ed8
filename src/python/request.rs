//! One caller's wish for one key: where the entry is, who loads it if it is not there, and how the value is kept.
//!
//! The asyncio and the blocking driver share all of this; they differ only in how they wait. Nothing here decides who
//! loads: that is `core::flight`.

use super::copy::{self, Mode};
use super::errors;
use super::events::{Details, Kind, Stored};
use super::recipe::{Kept, Recipe};
use super::seat::{Outcome, Waiter};
use super::state::State;
use super::task::Running;
use super::tier::{Gone, Object, PyMemory, Space, Tier, let_go};
use super::{adaptive, args, lease};
use crate::core::clock::{Millis, NEVER, deadline, later};
use crate::core::flight::{self, Answer, Begin, Bounds, Due, Effect, Effects, Fallback, Fill, FlightId};
use crate::core::flight::{Home, Input, Lease, Life, Refresh};
use crate::core::memory::{Discard, New, Placement, Reason, Served, Span, Target, Worth};
use crate::core::policy::OnRefreshError;
use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
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
pub fn call_with<'py>(
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
    /// When its load began.
    pub began: AtomicU64,
    /// True once the load runs behind.
    pub behind: AtomicBool,
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

/// What is done about a newer value than the one that answers.
pub enum Newer {
    /// Nothing.
    No,
    /// This caller has it loaded, behind.
    Lead(Lease),
    /// Somebody loads it.
    Flying(FlightId),
}

/// Where a caller asks from, and what it can do about a load.
#[derive(Clone, Copy)]
pub struct Place {
    /// `None` where no loop runs.
    pub home: Option<Home>,
    /// Whether a refresh may run without the caller.
    pub refresh: Refresh,
    /// How long a load lives that the caller waits for.
    pub life: Life,
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
        let negative = kept.is_negative();
        let Kept { value, kind, ttl: Some(ttl), weight, .. } = kept else {
            self.delete(py, tier, space)?;
            return Ok(());
        };
        let now = tier.clock.now_for(ttl);
        let worth = Worth::new(weight, Duration::ZERO);
        let placement = Placement::new(space.group(), deadline(now, ttl), kind).worth(worth);
        let (hash, mut gone) = (self.hash, Gone::default());
        let entered = if self.asks {
            self.put_asking(py, tier, value, placement, now, &mut gone)?
        } else {
            self.put_plain(tier, value, placement, now, (negative, &mut gone))
        };
        tier.appointment.by(placement.terms.deadline());
        if tier.listeners.any() {
            let stored = entered.and_then(|id| Stored::at(py, tier, space, hash, id));
            tier.release(py, gone, stored);
        } else {
            let_go(py, gone);
        }
        Ok(())
    }

    /// The slot it is in, `None` if it was not let in.
    #[inline(always)]
    fn put_plain(
        self,
        tier: &Tier,
        value: Object,
        placement: Placement,
        now: Millis,
        (negative, gone): (bool, &mut Gone),
    ) -> Option<u32> {
        let (hash, wanted) = (self.hash, self.key.as_ptr());
        // SAFETY: all keys are valid objects, ours lives in the table or in `gone`; comparing plain ones runs no Python.
        let same = |key: &Object| unsafe { args::same_plain(key.as_ptr(), wanted) };
        let mut memory = tier.memory.lock();
        if let Some(flight) = memory.flights.find(hash, same) {
            memory.flights.detach(flight);
        }
        let stored = memory.entries.put(New { hash, key: self.key, value, placement }, same, now, gone);
        if let Some(id) = stored.filter(|_| negative) {
            memory.entries.set_span(id, Span::until(placement.terms.deadline()), 0, Served::Negative);
        }
        stored
    }

    /// What only Python can compare is looked for before the lock is taken.
    fn put_asking(
        self,
        py: Python<'_>,
        tier: &Tier,
        value: Object,
        placement: Placement,
        now: Millis,
        gone: &mut Gone,
    ) -> PyResult<Option<u32>> {
        let (entry, flight) = self.locate(py, tier)?;
        let mut memory = tier.memory.lock();
        if let Some(flight) = flight {
            memory.flights.detach(flight);
        }
        Ok(match entry.and_then(|entry| memory.entries.resolve(entry)) {
            Some(id) => {
                gone.keep(Some(self.key), None);
                memory.entries.replace(id, value, placement, now, gone);
                Some(id)
            }
            None => memory.entries.insert(New { hash: self.hash, key: self.key, value, placement }, now, gone),
        })
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
        if tier.listeners.any() {
            tier.tell_deleted(py, space, self, gone)
        } else {
            let_go(py, gone)
        }
        Ok(served)
    }
}

impl Request {
    /// Looks the key up and counts: what is there answers, what is not decides who loads. A lease is taken here, under
    /// the same lock, so that nobody comes between.
    pub fn lookup(&self, py: Python<'_>, place: Place) -> PyResult<Lookup> {
        let (entry, flight) = self.spot.locate(py, &self.tier)?;
        let now = self.tier.clock.now();
        let policy = &self.recipe.policy;
        let mut memory = self.tier.memory.lock();
        let flight = flight.filter(|&flight| memory.flights.home(flight).is_some());
        let id = entry.and_then(|entry| memory.entries.resolve(entry));
        let sight = id.and_then(|id| Some((id, memory.entries.sight(id)?)));
        if let Some((id, mut sight)) = sight.filter(|_| !self.refresh) {
            sight.flying = flight.is_some();
            let draw = || self.tier.draw();
            if let Answer::Serve { how, refresh, plain_until } =
                flight::answer(policy, &sight, place.refresh, now, draw)
            {
                let newer = match (place.home.filter(|_| refresh), flight) {
                    (Some(home), _) => {
                        self.behind.store(true, Relaxed);
                        Newer::Lead(self.begin(py, &mut memory, Some(id), home, Life::Steady, now))
                    }
                    (None, Some(flight)) => Newer::Flying(flight),
                    (None, None) => Newer::No,
                };
                if plain_until > 0 {
                    memory.entries.set_span(id, sight.span, plain_until, how);
                }
                let gone = self.alias(py, &mut memory, id);
                let found = memory.entries.serve(id, how).map(|found| (found.value.clone_ref(py), found.tag));
                drop(memory);
                drop(gone);
                self.tell(py, if how == Served::Stale { Kind::Stale } else { Kind::Hit });
                if let Some((value, kind)) = found {
                    return Ok(Lookup::Hit(value, kind, newer));
                }
                return Ok(Lookup::Nowhere);
            }
        }
        memory.entries.stats_mut(self.space.group()).misses += u64::from(!self.refresh);
        if let Some(flight) = flight {
            match memory.flights.home(flight) {
                Some((home, group)) if !self.refresh && memory.entries.is_alive(group) => {
                    drop(memory);
                    self.tell(py, Kind::Miss);
                    return Ok(Lookup::Flying(flight, home));
                }
                // Loading for a group that was cleared, or older than this refresh: not ours to join.
                _ => memory.flights.detach(flight),
            }
        }
        let led = place.home.map(|home| self.begin(py, &mut memory, id, home, place.life, now));
        drop(memory);
        // A miss is told of when the lease is taken: whatever a listener does, nobody else leads.
        if !self.refresh {
            self.tell(py, Kind::Miss);
        }
        Ok(led.map_or(Lookup::Nowhere, Lookup::Lead))
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

    fn tell(&self, py: Python<'_>, kind: Kind) {
        if self.tier.listeners.hear(kind) {
            self.tier.tell(py, kind, &self.space, Some((self.spot.hash, &self.spot.key)), Details::default());
        }
    }

    /// Takes the lease of a key that nobody loads.
    fn begin(
        &self,
        py: Python<'_>,
        memory: &mut PyMemory,
        id: Option<u32>,
        home: Home,
        life: Life,
        began: Millis,
    ) -> Lease {
        let (hash, key, group) = (self.spot.hash, self.spot.key.clone_ref(py), self.space.group());
        let stats = memory.entries.stats_mut(group);
        stats.loads += 1;
        let fallback = id.and_then(|id| self.fallback(memory, id, began));
        memory.entries.stats_mut(group).refreshes += u64::from(self.refresh || fallback.is_some());
        let seen = id.map(|id| memory.entries.target(id));
        let forget = seen.filter(|_| self.recipe.policy.on_refresh_error == OnRefreshError::Drop && !self.refresh);
        let bounds = Bounds { timeout: self.recipe.policy.timeout, fallback, forget };
        self.began.store(began, Relaxed);
        memory.flights.begin(Begin { hash, key, group, seen, home, life, bounds, began })
    }

    /// What the old value is still good for if its load fails. Whoever asks for a refresh wants to hear of its error.
    fn fallback(&self, memory: &PyMemory, id: u32, now: Millis) -> Option<Fallback> {
        let (policy, sight) = (&self.recipe.policy, memory.entries.sight(id)?);
        let until = policy.useful_until(sight.span.fresh_until).min(sight.span.expires);
        let keeps = policy.on_refresh_error == OnRefreshError::Keep && !sight.negative && !self.refresh;
        let target = memory.entries.target(id);
        (keeps && now < until).then_some(Fallback { target, until, retry_after: policy.retry_after })
    }

    /// When a caller who joins now would rather have the old value.
    pub fn patience(&self, memory: &PyMemory, flight: FlightId) -> Millis {
        let Some(soft) = self.recipe.policy.soft_timeout else { return NEVER };
        let now = self.tier.clock.now();
        memory.flights.fallback(flight, now).map_or(NEVER, |_| later(now, soft))
    }

    /// Counts a load that is taken over from a caller who left: it is begun anew.
    pub fn took_over(&self) {
        self.tier.memory.lock().entries.stats_mut(self.space.group()).loads += 1;
        self.began.store(self.tier.clock.now(), Relaxed);
    }

    /// What becomes of a load's result: the value or the exception to be kept, or the exception that nobody keeps.
    fn kept<'py>(
        &self,
        state: &State,
        lease: Lease,
        result: Result<&Bound<'py, PyAny>, Bound<'py, PyAny>>,
    ) -> Result<Kept, Bound<'py, PyAny>> {
        let (py, kept) = match &result {
            Ok(value) => (value.py(), self.keep(value, state).map(Some)),
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

    fn keep(&self, value: &Bound<'_, PyAny>, state: &State) -> PyResult<Kept> {
        let mut kept = self.recipe.keep(value, &self.loader, &self.tier, state)?;
        if let (Some(rule), Some(_), false) = (&self.recipe.adaptive, kept.ttl, kept.is_negative()) {
            adaptive::adapt(value.py(), rule, &self.tier, &self.spot, &mut kept)?;
        }
        Ok(kept)
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
        Ok(Some(Kept { value: bare, kind: copy::RAISE, ttl, weight: 1, since: 0 }))
    }

    fn has_old(&self, lease: Lease) -> bool {
        let memory = self.tier.memory.lock();
        let fallback = memory.flights.fallback(lease.flight, self.tier.clock.now());
        fallback.is_some_and(|fallback| memory.entries.resolve(fallback.target).is_some())
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
        let (mut gone, mut stored, mut ends) = (Gone::default(), false, NEVER);
        let now = self.tier.clock.now();
        let mut memory = self.tier.memory.lock();
        let mut effects = memory.flights.step(lease, input, now);
        let counts = !effects.is_empty();
        if input != Input::Loaded && counts {
            memory.entries.stats_mut(self.space.group()).load_errors += 1;
        }
        if let (Ok(kept), Some(Effect::Store(_))) = (&kept, effects.first())
            && let Effect::Store(fill) = effects.remove(0)
        {
            (stored, ends) = self.store(py, &mut memory, fill, kept, now, &mut gone);
        }
        drop(memory);
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
        if self.tier.listeners.any() {
            let (kept, error) = (kept.as_ref().ok(), kept.as_ref().err());
            self.tell_end(py, kept.filter(|_| stored), error, counts, gone);
        } else {
            let_go(py, gone);
        }
        match kept {
            Err(error) if failed.is_none() && old.is_none() => Err(PyErr::from_value(error)),
            _ => Ok(old),
        }
    }

    /// Tells of a load that is over, if it `counts`, of what was stored, and of what that displaced.
    #[cold]
    fn tell_end(
        &self,
        py: Python<'_>,
        stored: Option<&Kept>,
        error: Option<&Bound<'_, PyAny>>,
        counts: bool,
        gone: Gone,
    ) {
        let Spot { hash, key, .. } = &self.spot;
        if counts {
            let kind = if error.is_some() { Kind::LoadError } else { Kind::Load };
            let took = self.tier.clock.now().saturating_sub(self.began.load(Relaxed));
            let details = Details {
                reason: Some(if self.refresh || self.behind.load(Relaxed) { "refresh" } else { "miss" }),
                seconds: Some(took as f64 / 1000.0),
                error: error.map(|error| error.clone().unbind()),
                value: None,
            };
            self.tier.tell(py, kind, &self.space, Some((*hash, key)), details);
        }
        let stored = stored.map(|kept| Stored {
            space: &self.space,
            hash: *hash,
            key: key.clone_ref(py),
            value: kept.value.clone_ref(py),
            kind: kept.kind,
        });
        self.tier.release(py, gone, stored);
    }

    /// Whoever started the load gets the loaded object itself, except where readers are promised a copy of it.
    fn starters_own(&self, value: &Bound<'_, PyAny>) -> Outcome {
        let kind = if matches!(self.recipe.copy, Mode::Deep) { copy::DEEP } else { copy::SHARE };
        Outcome::Value(value.clone().unbind(), kind)
    }

    /// Puts what was loaded into the table; tells whether it was let in, and when it ends there.
    fn store(
        &self,
        py: Python<'_>,
        memory: &mut PyMemory,
        fill: Fill<Object>,
        kept: &Kept,
        now: Millis,
        gone: &mut Gone,
    ) -> (bool, Millis) {
        let Some(ttl) = kept.ttl.filter(|_| !self.space.is_disabled()) else {
            // Answered, not kept; a value that is past its time must not come back either.
            if let Some(id) = fill.seen.and_then(|seen| memory.entries.resolve(seen)) {
                memory.entries.remove(id, Reason::Removed, gone);
            }
            gone.keep(Some(fill.key), None);
            return (false, NEVER);
        };
        let policy = &self.recipe.policy;
        let draw = if policy.jitter > 0.0 { self.tier.draw() } else { 0.0 };
        let (span, plain_until, how) = if kept.is_negative() {
            (Span::until(deadline(now, ttl)), 0, Served::Negative)
        } else {
            let (mut span, plain_until) = policy.span(ttl, fill.began, now, draw);
            if let Some(rule) = &self.recipe.adaptive {
                adaptive::remember(rule, kept.since, now, &mut span);
            }
            (span, plain_until, Served::Fresh)
        };
        let worth = Worth::new(kept.weight, Duration::from_millis(now.saturating_sub(fill.began)));
        let placement = Placement::new(fill.group, span.expires, kept.kind).worth(worth);
        let stored = memory.fill(fill, kept.value.clone_ref(py), placement, now, gone);
        if let Some(id) = stored.filter(|_| plain_until != span.expires || span.since > 0) {
            memory.entries.set_span(id, span, plain_until, how);
        }
        (stored.is_some(), span.expires)
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
    let mut memory = tier.memory.lock();
    let fallback = memory.flights.fallback(flight, now);
    if let (Due::Waiter(_), Some(fallback)) = (due, fallback)
        && memory.entries.resolve(fallback.target).is_none()
    {
        // The old value is gone: there is nothing to give but patience.
        return;
    }
    let effects = memory.flights.expire(due, now);
    drop(memory);
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
    let mut effects = VecDeque::from(effects);
    while let Some(effect) = effects.pop_front() {
        let (waiters, common): (Vec<Waiter>, Common) = match effect {
            Effect::Wake(waiters) => (waiters, None),
            Effect::TimeOut(waiters) => (waiters, Some(|| Outcome::TimedOut)),
            Effect::Fail(waiters) => (waiters, Some(|| Outcome::Ended)),
            Effect::Again(waiters) => (waiters, Some(|| Outcome::Again)),
            Effect::Lead(waiter) if waiter.is_stranded(py, state, here.as_ref()) => {
                // It would never begin: everybody looks again.
                effects.extend(tier.memory.lock().flights.supersede(flight));
                continue;
            }
            Effect::Lead(waiter) => (vec![waiter], Some(|| Outcome::Lead)),
            Effect::CancelLoad => {
                let running = tier.tasks.lock().remove(&flight.to_bits());
                if let Some(running) = running {
                    Running::cancel(running, py, state, here.as_ref());
                }
                continue;
            }
            Effect::Relent(fallback) => {
                old = relent(py, tier, &fallback);
                continue;
            }
            Effect::Forget(target) => {
                let mut gone = Gone::default();
                let mut memory = tier.memory.lock();
                if let Some(id) = memory.entries.resolve(target) {
                    memory.entries.remove(id, Reason::Removed, &mut gone);
                }
                drop(memory);
                let_go(py, gone);
                continue;
            }
            Effect::Give(fallback, waiter) => {
                let given =
                    give(py, tier, &fallback).map_or(Outcome::TimedOut, |(value, kind)| Outcome::Value(value, kind));
                waiter.tell(py, state, given, here.as_ref());
                continue;
            }
            Effect::Store(_) | Effect::Release(_) => continue,
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
    let id = memory.relent(fallback, tier.clock.now())?;
    memory.entries.serve(id, Served::Stale).map(|found| (found.value.clone_ref(py), found.tag))
}

/// The old value answers one who has waited long enough.
fn give(py: Python<'_>, tier: &Tier, fallback: &Fallback) -> Option<Old> {
    let mut memory = tier.memory.lock();
    let id = memory.entries.resolve(fallback.target)?;
    memory.entries.serve(id, Served::Stale).map(|found| (found.value.clone_ref(py), found.tag))
}
