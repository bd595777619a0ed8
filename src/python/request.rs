//! One caller's wish for one key: what is there for it, who loads it if nothing is, and what becomes of the load.
//!
//! The asyncio and the blocking driver share all of this; they differ only in how they wait. Nothing here decides who
//! loads: that is `core::flight`.

use super::coding::Fetched;
use super::copy::{self, Mode};
use super::effects::{self, Old};
use super::errors;
use super::events::{Details, Kind, Stored};
use super::pending::Holds;
use super::recipe::{HeldRecipe, Kept, Loader, call_with};
use super::remote::Behind;
use super::seat::{Outcome, Waiter};
use super::spot::{Alias, Spot};
use super::state::State;
use super::tier::{Gone, Object, PyMemory, Space, Tier, let_go};
use super::{adaptive, args, hearing, lease, refresher};
use crate::core::clock::NEVER;
use crate::core::flight::{self, FlightId, Home, Input, Keep, Lasting, Lease, Life, Newer, Place, Since, Ticket, Wish};
use crate::core::memory::{Discard, New, Placement, Target};
use crate::core::policy::Lifetime;
use crate::core::remote::ledger::Note;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

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
    pub refresher: Option<Box<Loader>>,
    /// How the value is kept.
    pub recipe: HeldRecipe,
    /// How long the load lives.
    pub life: Life,
    /// True for a load that is wanted even though a value is there.
    pub refresh: bool,
    /// And since when.
    pub since: Since,
    /// True if the call may be made again later, by itself, but for what was injected.
    pub repeatable: bool,
    /// When its load began.
    pub began: AtomicU64,
    /// True once the load runs behind.
    pub is_behind: AtomicBool,
    /// The store behind the memory, if its entry may be there.
    pub behind: Option<Behind>,
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

impl Holds for Request {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        visit(&self.spot.key)
            && self.alias.as_ref().is_none_or(|alias| visit(&alias.key))
            && self.loader.visit(visit)
            && self.refresher.as_ref().is_none_or(|refresher| refresher.visit(visit))
            && self.recipe.visit(visit)
    }
}

impl Request {
    /// Looks the key up and counts: what is there answers, what is not decides who loads. Who listens is told when that is
    /// decided: whatever a listener does, nobody else leads.
    pub fn lookup(&self, py: Python<'_>, place: Place) -> PyResult<Lookup> {
        hearing::heed(py, &self.tier);
        let located = self.spot.locate(py, &self.tier)?;
        let now = self.tier.clock.now();
        let key = || self.spot.key.clone_ref(py);
        let mut memory = self.tier.memory.lock();
        let found = memory.look_up(&self.wish(place), (self.spot.hash, key), located, now, || self.tier.draw_of_life());
        let (lookup, kind) = match found {
            flight::Lookup::Hit(id, newer) => {
                if let Newer::Lead(_) = newer {
                    self.began.store(now, Relaxed);
                    self.is_behind.store(true, Relaxed);
                }
                let stale = now >= memory.entries.span(id).fresh_until;
                let seen = memory.note_read(&self.wish(place), id, self.is_repeatable(), now);
                let gone = self.alias(py, &mut memory, id);
                let found = memory.entries.peek(id).map(|found| (found.value.clone_ref(py), found.tag));
                drop(memory);
                drop(gone);
                if seen.tracked {
                    refresher::remember(py, self, seen.due)?;
                }
                let hit = found.map_or(Lookup::Nowhere, |(value, kind)| Lookup::Hit(value, kind, newer));
                (hit, if stale { Kind::Stale } else { Kind::Hit })
            }
            other => {
                drop(memory);
                let lookup = match other {
                    flight::Lookup::Flying(flight, home) => Lookup::Flying(flight, home),
                    flight::Lookup::Lead(lease) => {
                        self.began.store(now, Relaxed);
                        Lookup::Lead(lease)
                    }
                    _ => Lookup::Nowhere,
                };
                (lookup, Kind::Miss)
            }
        };
        if !self.refresh {
            self.tell(py, kind);
        }
        Ok(lookup)
    }

    /// What memory has, where only the store could vouch for it and cannot be asked.
    pub fn suspect(&self, py: Python<'_>) -> PyResult<Option<Fetched>> {
        if self.refresh { Ok(None) } else { self.spot.suspect(py, &self.tier, &self.space) }
    }

    /// What a caller here wants, as the core knows it. Under the lock: a clear changes the group.
    pub fn wish(&self, place: Place) -> Wish<'_> {
        Wish {
            policy: &self.recipe.policy,
            group: self.space.group(),
            place,
            anew: self.refresh.then_some(&self.since),
        }
    }

    /// Whether the call may be made again later. What was injected is its caller's; a ttl callable is told of it.
    fn is_repeatable(&self) -> bool {
        let alone = self.life == Life::Shared || (self.refresher.is_some() && !self.recipe.is_told());
        self.repeatable && alone
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
                memory.aliases.replace(at, None, target, placement, stored, &mut gone);
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

    /// Loads in the place of a caller who left, from a new seat; `None` if the flight is over by now.
    pub fn take_over(&self, place: Place, ticket: Ticket, seat: &Waiter) -> Option<Lease> {
        let now = self.tier.clock.now();
        self.began.store(now, Relaxed);
        let mut memory = self.tier.memory.lock();
        memory.take_over(&self.wish(place), ticket, seat.home, seat.clone(), now)
    }

    /// Asks the source: a write that is on its way there answers in the place of the loader.
    pub fn ask<'py>(&self, py: Python<'py>, state: &State, loader: &Loader) -> PyResult<Bound<'py, PyAny>> {
        self.pending(py, state).unwrap_or_else(|| loader.call(py))
    }

    /// What a write on its way to the source answers, the error that there is nothing included; `None` if there is no such.
    pub fn pending<'py>(&self, py: Python<'py>, state: &State) -> Option<PyResult<Bound<'py, PyAny>>> {
        if !self.tier.writings.any() {
            return None;
        }
        self.tier.writings.answer(py, state, &self.spot).transpose()
    }

    /// What becomes of a load's result: the value or the exception to be kept, or the exception that nobody keeps.
    pub fn judge<'py>(
        &self,
        py: Python<'py>,
        state: &State,
        lease: Lease,
        result: Result<&Bound<'py, PyAny>, Bound<'py, PyAny>>,
    ) -> Judged {
        let (value, failed) = (result.as_ref().ok().copied().cloned(), result.as_ref().err().cloned());
        let kept = match &result {
            Ok(value) => self.keep(value, state).map(Some),
            Err(error) if lease::is_cancellation(py, state, error) => Ok(None),
            Err(error) => self.keep_error(lease, error, state),
        };
        let raised = |error| errors::not_stop(py, error).into_value(py).into_any();
        let kept = match (kept.map_err(raised), result) {
            (Err(error), _) => Err(error),
            (Ok(Some(kept)), _) => Ok(kept),
            (Ok(None), Err(error)) => Err(error.unbind()),
            (Ok(None), Ok(value)) => Err(value.clone().unbind()),
        };
        Judged { value: value.map(Bound::unbind), failed: failed.map(Bound::unbind), kept }
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
        let tags = self.recipe.tags_of(state.not_found(py)?, &self.loader)?;
        Ok(Some(Kept { value: bare, kind: copy::RAISE, ttl, weight: 1, since: 0, tags }))
    }

    fn has_old(&self, lease: Lease) -> bool {
        self.tier.memory.lock().has_old(lease, self.tier.clock.now())
    }

    /// Tells everyone who waits what became of a load, by what was made of its result and what a tier behind has to do with it; stores
    /// the value if it may be stored.
    pub fn settle(
        &self,
        py: Python<'_>,
        state: &State,
        (lease, starter): (Lease, Option<&Waiter>),
        judged: &Judged,
        ending: Ending,
    ) -> Finished {
        let Judged { value, failed, kept } = judged;
        let was_there = matches!(ending, Ending::Found(..) | Ending::Suspect(..));
        let input = match kept {
            Ok(_) if was_there => Input::Found,
            Ok(_) => Input::Loaded,
            Err(error) if lease::is_cancellation(py, state, error.bind(py)) => Input::Aborted,
            Err(_) => Input::Failed,
        };
        let now = self.tier.clock.now();
        let keep = kept.as_ref().ok().and_then(|kept| self.to_keep(py, kept, &ending));
        let mut gone = Gone::default();
        let mut memory = self.tier.memory.lock();
        let ended = flight::Ended { lease, input, keep, policy: &self.recipe.policy, group: self.space.group() };
        let done = memory.finish(ended, now, || self.tier.draw_of_life(), &mut gone);
        let flight::Done { effects, counts, stored, turn, old: slot } = done;
        let old = effects::old(py, &memory, slot);
        drop(memory);
        let old = match (old, ending) {
            (None, Ending::Old(old)) => Some(old),
            (old, _) => old,
        };
        self.tier.appointment.by(stored.unwrap_or(NEVER));
        if turn {
            refresher::wake(py, state, &self.tier);
        }
        let is_starter = |waiter: &Waiter| starter.is_some_and(|starter| Arc::ptr_eq(starter, waiter));
        let given = old.as_ref().map(|(value, kind)| (value.clone_ref(py), *kind));
        effects::run(py, state, &self.tier, (lease.flight, effects, given), |waiter| match (kept, failed) {
            (Ok(_), Some(error)) | (Err(error), _) if is_starter(waiter) => Outcome::Error(error.clone_ref(py)),
            (Ok(_), Some(error)) | (Err(error), _) => Outcome::Error(errors::copy_for_waiter(error.bind(py)).unbind()),
            (Ok(kept), None) => match value.as_ref().filter(|_| is_starter(waiter)) {
                Some(value) => self.starters_own(value.bind(py)),
                None => Outcome::Value(kept.value.clone_ref(py), kept.kind),
            },
        });
        if self.tier.listeners.any() {
            let (kept, error) = (kept.as_ref().ok(), kept.as_ref().err().map(|error| error.bind(py)));
            self.tell_end(py, kept.filter(|_| stored.is_some()), error, counts && !was_there, gone);
        } else {
            let_go(py, gone);
        }
        let error = kept.as_ref().err().filter(|_| failed.is_none());
        Finished { old, error: error.map(|error| PyErr::from_value(error.bind(py).clone())) }
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
                reason: Some(if self.refresh || self.is_behind.load(Relaxed) { "refresh" } else { "miss" }),
                seconds: Some(took as f64 / 1000.0),
                error: error.map(|error| error.clone().unbind()),
                ..Details::default()
            };
            self.tier.tell(py, kind, &self.space, Some((*hash, key)), details);
        }
        self.tier.release(py, gone, || {
            let kept = stored?;
            let (key, value) = (key.clone_ref(py), kept.value.clone_ref(py));
            Some(Stored { space: &self.space, hash: *hash, key, value, kind: kept.kind })
        });
    }

    /// Whoever started the load gets the loaded object itself, except where readers are promised a copy of it.
    fn starters_own(&self, value: &Bound<'_, PyAny>) -> Outcome {
        let kind = if matches!(self.recipe.copy, Mode::Deep) { copy::DEEP } else { copy::SHARE };
        Outcome::Value(value.clone().unbind(), kind)
    }

    /// What is kept of a result, if anything is.
    fn to_keep<'a>(
        &self,
        py: Python<'a>,
        kept: &'a Kept,
        ending: &Ending,
    ) -> Option<Keep<impl FnOnce() -> Object + 'a>> {
        let keeps = self.behind.as_ref().is_none_or(|behind| behind.remote.keeps);
        let ttl = kept.ttl.filter(|_| keeps && !self.space.is_disabled())?;
        let lasting = match ending {
            Ending::Loaded => Lasting::For(ttl),
            Ending::Written(lifetime, note) | Ending::Found(lifetime, note) => Lasting::As(*lifetime, note.version),
            Ending::Suspect(lifetime, note) => Lasting::Suspect(*lifetime, note.version),
            Ending::Unasked(_) if !kept.is_negative() => Lasting::Unasked(ttl),
            Ending::Alone(_) | Ending::Unasked(_) => Lasting::For(ttl),
            Ending::Forgone | Ending::Old(_) => return None,
        };
        let value = move || kept.value.clone_ref(py);
        let (tag, negative, weight, adapted) = (kept.kind, kept.is_negative(), kept.weight, self.adapted(kept));
        let known = match ending {
            Ending::Written(_, note) | Ending::Found(_, note) | Ending::Suspect(_, note) => note.clone(),
            Ending::Alone(note) | Ending::Unasked(note) => note.clone(),
            _ => Note::default(),
        };
        let note = Note { tags: self.space.tags(kept.tags.as_ref()), ..known };
        Some(Keep { value, tag, negative, lasting, weight, adapted, note })
    }

    /// What the next value is compared with, where the ttl follows the data.
    pub fn adapted(&self, kept: &Kept) -> Option<flight::Adapted> {
        let rule = self.recipe.adaptive.as_ref()?;
        Some(flight::Adapted { since: kept.since, until_compared: rule.max() })
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

/// What became of a load's result: the value or error of the loader, and what is kept of it or raised.
pub struct Judged {
    /// The value.
    pub value: Option<Object>,
    /// The error.
    pub failed: Option<Object>,
    /// What is to be kept, or the error that nobody keeps.
    pub kept: Result<Kept, Object>,
}

/// What a tier behind has to do with the end of a load.
pub enum Ending {
    /// Nothing.
    Loaded,
    /// It was to have it, and does under this version, or could not be asked.
    Written(Lifetime, Note),
    /// Nothing was loaded: it had it, or what is old answers while another process loads.
    Found(Lifetime, Note),
    /// The same, of what memory has and nobody could vouch for.
    Suspect(Lifetime, Note),
    /// It does not have it.
    Alone(Note),
    /// The same, since it could not be reached: it may know something newer.
    Unasked(Note),
    /// Something happened to the key meanwhile, or may have: nobody keeps it.
    Forgone,
    /// The load failed, and what it still has answers.
    Old(Old),
}

/// What the end of a load means for whoever ran it.
pub struct Finished {
    /// The old value, if that answers.
    pub old: Option<Old>,
    /// What one of the user's callables raised about a value that was loaded.
    pub error: Option<PyErr>,
}
