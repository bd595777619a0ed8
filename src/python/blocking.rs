//! The blocking driver of a flight: the first caller's thread runs the loader, the others wait without the interpreter.
//!
//! A thread never waits for itself: what is being loaded on this very thread, blocked or by its event loop, is loaded
//! directly, and the conditional store decides whose value stays. At the end of the interpreter no other thread can end a
//! load any more, so then nobody waits.

use super::anchor::Anchor;
use super::copy::{self, Mode};
use super::effects;
use super::errors;
use super::filling::{self, Blocked};
use super::lease::{self, Wait};
use super::process::is_the_end;
use super::request::{Ending, Finished, Judged, Lookup, Request};
use super::seat::{Outcome, Seat, Waiter, Wake};
use super::state::State;
use super::task::supersede_if_stranded;
use super::tier::Object;
use crate::core::flight::{Awaited, Due, Home, Lease, Life, Newer, Place, Refresh, Ticket};
use parking_lot::Condvar;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::time::Duration;

/// How long a blocked thread goes without looking at signals and at whether the load it waits for can still end.
const PATIENCE: Duration = Duration::from_millis(50);

/// Answers a request on this thread.
pub fn answer(py: Python<'_>, state: &'static State, request: &Request) -> PyResult<Object> {
    let _anchor = Anchor::hold();
    loop {
        match look(py, state, request)? {
            Found::Answer(value, kind) => return settle(py, state, request, value, kind),
            Found::Lead(lease) => return load(py, state, request, lease),
            Found::Direct => return plain_value(request.ask(py, state, &request.loader)?, request),
            Found::Flying(awaited) => {
                if let Some(answer) = wait(py, state, request, &awaited)? {
                    return Ok(answer);
                }
            }
        }
    }
}

/// What a blocked caller does about a key.
pub enum Found {
    /// Answer with this; the second is how it is handed out.
    Answer(Object, u32),
    /// Load it: the lease is taken.
    Lead(Lease),
    /// Load it past the cache: waiting would be waiting for oneself.
    Direct,
    /// Wait for somebody else's load.
    Flying(Awaited),
}

/// Looks a key up, and takes its lease if nobody has it.
pub fn look(py: Python<'_>, state: &'static State, request: &Request) -> PyResult<Found> {
    if request.space.is_disabled() {
        return Ok(Found::Direct);
    }
    loop {
        let (flight, home) = match request.lookup(py, place())? {
            Lookup::Hit(_, _, Newer::Flying(flight)) if supersede_if_stranded(py, state, &request.tier, flight, 0) => {
                continue;
            }
            Lookup::Hit(value, kind, _) => return Ok(Found::Answer(value, kind)),
            Lookup::Flying(flight, home) => (flight, home),
            Lookup::Lead(lease) => return Ok(Found::Lead(lease)),
            Lookup::Nowhere => continue,
        };
        let awaited = lease::awaited(request, flight, home);
        if lease::is_own(py, state, &awaited)? || state.waits.lock().needs(&awaited, here().thread) || is_the_end() {
            return Ok(Found::Direct);
        }
        if !supersede_if_stranded(py, state, &request.tier, flight, 0) {
            return Ok(Found::Flying(awaited));
        }
    }
}

fn place() -> Place {
    Place { home: Some(here()), refresh: Refresh::InPerson, life: Life::Steady }
}

fn here() -> Home {
    // SAFETY: always callable.
    Home { thread: unsafe { ffi::PyThread_get_thread_ident() }, event_loop: 0 }
}

/// Runs the loader on this thread.
fn load(py: Python<'_>, state: &'static State, request: &Request, lease: Lease) -> PyResult<Object> {
    let call = || {
        lease::context(py, state, request, [lease.flight])
            .and_then(|context| context.within(|| request.ask(py, state, &request.loader)))
            .and_then(|result| plain_value(result?, request))
    };
    let Some(filling) = Blocked::begin(py, state, request, lease) else {
        return conclude(py, state, request, lease, call());
    };
    let mut one = [filling];
    loop {
        filling::advance(py, state, &mut one);
        if one[0].loads() {
            one[0].loaded(py, state, call());
        } else if !filling::rest(py, &mut one) {
            break;
        }
    }
    let [one] = one;
    one.conclude(py, state)
}

/// Reports what became of a load on this thread, and gives what its caller gets of it.
pub fn conclude(
    py: Python<'_>,
    state: &State,
    request: &Request,
    lease: Lease,
    called: PyResult<Object>,
) -> PyResult<Object> {
    answer_with(py, state, request, lease, (judge(py, state, request, lease, called), Ending::Loaded))
}

/// What becomes of what a loader on this thread gave.
pub fn judge(py: Python<'_>, state: &State, request: &Request, lease: Lease, called: PyResult<Object>) -> Judged {
    let result = match &called {
        Ok(value) => Ok(value.bind(py)),
        Err(error) => Err(error.value(py).clone().into_any()),
    };
    request.judge(py, state, lease, result)
}

/// Tells everybody how a load has ended, and gives what the caller on this thread gets of it.
pub fn answer_with(
    py: Python<'_>,
    state: &State,
    request: &Request,
    lease: Lease,
    (judged, ending): (Judged, Ending),
) -> PyResult<Object> {
    if matches!(ending, Ending::Found(..) | Ending::Suspect(..)) && !request.refresh {
        // This thread has no seat in the flight, where those are counted who are told.
        request.tier.memory.lock().entries.stats_mut(request.space.group()).note_remote_hits(1);
    }
    let Finished { old, error } = request.settle(py, state, (lease, None), &judged, ending);
    let raised = |error: Object| PyErr::from_value(error.into_bound(py));
    let called = judged.failed.map(raised).or(error).map_or_else(|| Ok(judged.value), Err);
    match (called, old) {
        (Ok(Some(value)), _) => {
            // Where readers are promised copies, whoever started the load is a reader too.
            let kind = if request.recipe.copy == Mode::Deep { copy::DEEP } else { copy::SHARE };
            Ok(copy::hand_out(value.bind(py), kind)?.unbind())
        }
        (_, Some((value, kind))) => settle(py, state, request, value, kind),
        (Err(error), None) => fall_back(py, state, request, error),
        (Ok(None), None) => fall_back(py, state, request, errors::load_ended(py, &request.recipe.name)),
    }
}

/// What is there, as this caller gets it.
pub fn settle(py: Python<'_>, state: &State, request: &Request, value: Object, kind: u32) -> PyResult<Object> {
    match copy::hand_out(value.bind(py), kind) {
        Ok(own) => Ok(own.unbind()),
        Err(error) => fall_back(py, state, request, error),
    }
}

/// What answers a failed load in the last resort.
fn fall_back(py: Python<'_>, state: &State, request: &Request, error: PyErr) -> PyResult<Object> {
    plain_value(request.fall_back(py, state, error)?, request)
}

/// A coroutine is no value for a blocking caller.
fn plain_value(made: Bound<'_, PyAny>, request: &Request) -> PyResult<Object> {
    // SAFETY: a type check on a valid object.
    if unsafe { ffi::PyCoro_CheckExact(made.as_ptr()) } == 0 {
        return Ok(made.unbind());
    }
    made.call_method0("close")?;
    Err(PyTypeError::new_err(format!(
        "{} was asked for without await but its loader is async; await it, or give a sync loader",
        request.recipe.name
    )))
}

/// Waits for somebody else's load; `None` means look again.
pub fn wait(py: Python<'_>, state: &'static State, request: &Request, awaited: &Awaited) -> PyResult<Option<Object>> {
    let flight = awaited.load.flight;
    let tier = &request.tier;
    let seat = Seat::new(Wake::Thread(Condvar::new()), here());
    let now = tier.clock.now();
    let mut memory = tier.memory.lock();
    let joined = memory.wait(&request.wish(place()), flight, seat.home, now, seat.clone());
    drop(memory);
    let Some(ticket) = joined else { return Ok(None) };
    let _nested = Wait::of_load(py, state, awaited)?;
    let blocked = Wait::of_thread(state, seat.home.thread, awaited);
    match rest(py, state, request, (ticket, awaited), &seat)? {
        Outcome::Value(value, kind) => settle(py, state, request, value, kind).map(Some),
        Outcome::Error(error) => fall_back(py, state, request, PyErr::from_value(error.into_bound(py))).map(Some),
        Outcome::Ended => fall_back(py, state, request, errors::load_ended(py, &request.recipe.name)).map(Some),
        Outcome::TimedOut => fall_back(py, state, request, request.timed_out(py)).map(Some),
        Outcome::Again => Ok(None),
        Outcome::Lead => {
            drop(blocked);
            let seat = Seat::new(Wake::Thread(Condvar::new()), here());
            let Some(lease) = request.take_over(place(), ticket, &seat) else { return Ok(None) };
            load(py, state, request, lease).map(Some)
        }
    }
}

/// Blocks until there is an outcome, a signal, or a load that can no longer end.
fn rest(
    py: Python<'_>,
    state: &State,
    request: &Request,
    (ticket, awaited): (Ticket, &Awaited),
    seat: &Waiter,
) -> PyResult<Outcome> {
    let leave = || {
        let effects = request.tier.memory.lock().flights.leave(ticket);
        effects::run(py, state, &request.tier, (ticket.flight, effects, None), |_| Outcome::Ended);
    };
    let mut awaited = awaited.clone();
    loop {
        let memory = request.tier.memory.lock();
        let due = memory.flights.patience(ticket);
        // It may have been handed over: to this caller, who will be told.
        let home = memory.flights.home(ticket.flight).map_or(seat.home, |(home, _)| home);
        drop(memory);
        awaited.thread = home.thread;
        let left = Duration::from_millis(due.saturating_sub(request.tier.clock.now()));
        if left.is_zero() {
            effects::expire(py, state, &request.tier, Due::Waiter(ticket));
        }
        // Who has nothing to be relieved by goes on waiting.
        seat.wait(py, if left.is_zero() { PATIENCE } else { left.min(PATIENCE) });
        if let Some(outcome) = seat.take() {
            return Ok(outcome);
        }
        if let Err(interrupt) = py.check_signals() {
            leave();
            return Err(interrupt);
        }
        if home != seat.home && state.waits.lock().needs(&awaited, seat.home.thread) {
            // Somebody it waits for waits for this thread by now: whoever looks again sees it.
            leave();
            return Ok(Outcome::Again);
        }
        supersede_if_stranded(py, state, &request.tier, ticket.flight, 0);
    }
}
