//! The blocking driver of a flight: the first caller's thread runs the loader, the others wait without the interpreter.
//!
//! A thread never waits for itself: what is being loaded on this very thread, blocked or by its event loop, is loaded
//! directly, and the conditional store decides whose value stays. At the end of the interpreter no other thread can end a
//! load any more, so then nobody waits.

use super::anchor::Anchor;
use super::asyncio::supersede_if_stranded;
use super::copy::{self, Mode};
use super::errors;
use super::lease::{self, Relation};
use super::process::is_the_end;
use super::request::{self, Ended, Lookup, Request};
use super::seat::{Outcome, Seat, Waiter, Wake};
use super::state::State;
use super::tier::Object;
use crate::core::flight::{FlightId, Home, Lease, Life, Ticket};
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
    if request.space.is_disabled() {
        return plain_value(request.loader.call(py)?, request);
    }
    loop {
        let (flight, home) = match request.lookup(py)? {
            Lookup::Hit(value) => return Ok(value),
            Lookup::Flying(flight, home) => (flight, home),
            Lookup::Absent(seen) => {
                let lease = request.begin(py, seen, here(), Life::Steady);
                return load(py, state, request, lease);
            }
        };
        let own = matches!(lease::relation(py, state, &request.tier, flight)?, Relation::Own);
        if own || home.thread == here().thread || is_the_end() {
            return plain_value(request.loader.call(py)?, request);
        }
        if supersede_if_stranded(py, state, request, flight, 0) {
            continue;
        }
        if let Some(answer) = wait(py, state, request, flight)? {
            return Ok(answer);
        }
    }
}

fn here() -> Home {
    // SAFETY: always callable.
    Home { thread: unsafe { ffi::PyThread_get_thread_ident() }, event_loop: 0 }
}

/// Runs the loader on this thread.
fn load(py: Python<'_>, state: &'static State, request: &Request, lease: Lease) -> PyResult<Object> {
    let called = lease::context(py, state, &request.tier, lease.flight, &request.recipe.name)
        .and_then(|context| context.within(|| request.loader.call(py)))
        .and_then(|result| plain_value(result?, request));
    let result = match &called {
        Ok(value) => Ok(value.bind(py)),
        Err(error) => Err(error.value(py).clone().into_any()),
    };
    request.finish(py, state, Ended { lease, result, starter: None })?;
    let value = called?;
    // Where readers are promised copies, whoever started the load is a reader too.
    let kind = if request.recipe.copy == Mode::Deep { copy::DEEP } else { copy::SHARE };
    Ok(copy::hand_out(value.bind(py), kind)?.unbind())
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
fn wait(py: Python<'_>, state: &'static State, request: &Request, flight: FlightId) -> PyResult<Option<Object>> {
    let tier = &request.tier;
    let seat = Seat::new(Wake::Thread(Condvar::new()), here());
    let mut memory = tier.memory.lock();
    let Some(ticket) = memory.flights.join(flight, seat.home, seat.clone()) else { return Ok(None) };
    memory.entries.stats_mut(request.space.group()).coalesced += 1;
    drop(memory);
    match rest(py, state, request, ticket, &seat)? {
        Outcome::Value(value, kind) => Ok(Some(copy::hand_out(value.bind(py), kind)?.unbind())),
        Outcome::Error(error) => Err(PyErr::from_value(error.into_bound(py))),
        Outcome::Ended => Err(errors::load_ended(py, &request.recipe.name)),
        Outcome::Again => Ok(None),
        Outcome::Lead => {
            let seat = Seat::new(Wake::Thread(Condvar::new()), here());
            let led = tier.memory.lock().flights.lead(ticket, seat.home, Some(seat));
            let Some(lease) = led else { return Ok(None) };
            request.took_over();
            load(py, state, request, lease).map(Some)
        }
    }
}

/// Blocks until there is an outcome, a signal, or a load that can no longer end.
fn rest(py: Python<'_>, state: &State, request: &Request, ticket: Ticket, seat: &Waiter) -> PyResult<Outcome> {
    loop {
        seat.wait(py, PATIENCE);
        if let Some(outcome) = seat.take() {
            return Ok(outcome);
        }
        if let Err(interrupt) = py.check_signals() {
            let effects = request.tier.memory.lock().flights.leave(ticket);
            request::run(py, state, &request.tier, ticket.flight, effects, |_| Outcome::Ended);
            return Err(interrupt);
        }
        supersede_if_stranded(py, state, request, ticket.flight, 0);
    }
}
