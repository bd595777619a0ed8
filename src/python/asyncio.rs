//! The asyncio driver of a flight: one awaitable, one future a waiter, and a task for the user's loader only.
//!
//! Nothing happens before the first await: a call that is never awaited takes no lease. The load is a task of the
//! cache's, on the first caller's loop, in a copy of the first caller's context; callers come and go.

use super::budget::Room;
use super::lease::{self, Wait};
use super::pending::{Holds, Pending, Step};
use super::request::{Lookup, Request};
use super::seat::{Outcome, Seat, Waiter, Wake};
use super::state::State;
use super::tier::Object;
use super::{alarm, budget, copy, effects, errors, task};
use crate::core::budget::Need;
use crate::core::flight::{Awaited, Due, Home, Lease, Life, Newer, Place, Refresh, Ticket};
use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr::null_mut;
use std::sync::Arc;

enum Stage {
    Fresh,
    Waiting(Waiting),
    /// Loading directly, past the cache: this coroutine is awaited in our place.
    Through(Object),
    Over,
}

struct Waiting {
    ticket: Ticket,
    seat: Waiter,
    /// When it has waited long enough.
    timer: Option<Object>,
    _wait: Option<Box<Wait>>,
}

/// One awaited call.
pub struct Call {
    request: Arc<Request>,
    state: &'static State,
    stage: Stage,
}

impl Call {
    /// A call of this request.
    pub fn new(state: &'static State, request: Request) -> Self {
        Call { request: Arc::new(request), state, stage: Stage::Fresh }
    }

    /// The first await, or a new beginning: looks up, and joins, leads or answers.
    fn begin(&mut self, py: Python<'_>) -> PyResult<Step> {
        let state = self.state;
        if self.request.space.is_disabled() {
            return self.through(py);
        }
        loop {
            state.asyncio(py)?;
            let here = state.running_loop(py);
            let (refresh, room) = self.room(here.as_ref());
            let place = self.place(here.as_ref(), refresh);
            let found = self.request.lookup(py, place)?;
            let room = room.filter(|_| matches!(found, Lookup::Hit(_, _, Newer::Lead(_))));
            let (flight, home) = match (found, &here) {
                (Lookup::Hit(value, kind, newer), here) => {
                    match (newer, here) {
                        (Newer::Lead(lease), Some(here)) => {
                            task::run(py, state, &self.request, here, (lease, room), None)
                        }
                        (Newer::Flying(flight), _) => {
                            let mine = here.as_ref().map_or(0, |here| here.as_ptr() as u64);
                            if task::supersede_if_stranded(py, state, &self.request.tier, flight, mine) {
                                continue;
                            }
                        }
                        _ => {}
                    }
                    return self.answer(py, value, kind);
                }
                (Lookup::Flying(flight, home), _) => (flight, home),
                (Lookup::Lead(lease), Some(here)) => match self.lead(py, here, lease)? {
                    Some(step) => return Ok(step),
                    None => continue,
                },
                (Lookup::Lead(_) | Lookup::Nowhere, _) => return Err(errors::no_loop(&self.request.recipe.name)),
            };
            let awaited = lease::awaited_by_load(py, state, &self.request, flight, home)?;
            if let Some(awaited) = &awaited
                && lease::is_own(py, state, awaited)?
            {
                return self.through(py);
            }
            let here = here.ok_or_else(|| errors::no_loop(&self.request.recipe.name))?;
            let mine = home_of(&here);
            if home.thread == mine.thread && home.event_loop == 0 {
                // A blocked call on this very thread: it waits for us to return.
                return self.through(py);
            }
            if task::supersede_if_stranded(py, state, &self.request.tier, flight, mine.event_loop) {
                continue;
            }
            let seat = self.seat(py, &here)?;
            let now = self.request.tier.clock.now();
            let mut memory = self.request.tier.memory.lock();
            let joined = memory.wait(&self.request.wish(place), flight, mine, now, seat.clone());
            drop(memory);
            if let Some(ticket) = joined {
                return self.wait_for(py, &here, ticket, seat, awaited.as_ref());
            }
        }
    }

    fn place(&self, here: Option<&Bound<'_, PyAny>>, refresh: Refresh) -> Place {
        Place { home: here.map(home_of), refresh, life: self.request.life }
    }

    /// Where a newer value may be loaded, and room for that behind.
    fn room(&self, here: Option<&Bound<'_, PyAny>>) -> (Refresh, Option<Room>) {
        let Request { life, refresher, recipe, tier, refresh, .. } = &*self.request;
        if *life == Life::Bound && refresher.is_none() {
            // What uses its caller's own must not outlive it.
            return (Refresh::InPerson, None);
        }
        let Some(here) = here.filter(|_| recipe.policy.refreshes_behind() && !refresh) else {
            return (Refresh::Behind, None);
        };
        let room = budget::room(self.state, tier, here, Need::Met);
        (if room.is_some() { Refresh::Behind } else { Refresh::Later }, room)
    }

    /// What is there, as this caller gets it.
    fn answer(&mut self, py: Python<'_>, value: Object, kind: u32) -> PyResult<Step> {
        match copy::hand_out(value.bind(py), kind) {
            Ok(own) => Ok(Step::Return(own.unbind())),
            Err(error) => self.fall_back(py, error),
        }
    }

    /// What answers a failed load in the last resort.
    fn fall_back(&mut self, py: Python<'_>, error: PyErr) -> PyResult<Step> {
        let made = self.request.fall_back(py, self.state, error)?;
        match self.state.as_coroutine(&made)? {
            Some(coroutine) => self.pass(py, coroutine.unbind(), send),
            None => Ok(Step::Return(made.unbind())),
        }
    }

    /// Takes a seat in the flight whose lease this caller has taken, and starts the load; `None` if it is over already.
    fn lead(&mut self, py: Python<'_>, here: &Bound<'_, PyAny>, lease: Lease) -> PyResult<Option<Step>> {
        let seat = self.seat(py, here)?;
        let now = self.request.tier.clock.now();
        let policy = &self.request.recipe.policy;
        let led = self.request.tier.memory.lock().wait_for_own(policy, lease, seat.home, now, seat.clone());
        let Some((ticket, lease)) = led else { return Ok(None) };
        self.load(py, here, ticket, lease, seat).map(Some)
    }

    fn here<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.state.running_loop(py).ok_or_else(|| errors::no_loop(&self.request.recipe.name))
    }

    fn seat(&self, py: Python<'_>, here: &Bound<'_, PyAny>) -> PyResult<Waiter> {
        let future = self.state.new_future(here)?.unbind();
        let _ = py;
        Ok(Seat::new(Wake::Future { future, event_loop: here.clone().unbind() }, home_of(here)))
    }

    /// Suspends, but not for longer than this caller's patience, and known to whoever looks for circles.
    fn wait_for(
        &mut self,
        py: Python<'_>,
        here: &Bound<'_, PyAny>,
        ticket: Ticket,
        seat: Waiter,
        awaited: Option<&Awaited>,
    ) -> PyResult<Step> {
        let timer = alarm::set(self.state, &self.request.tier, here, Due::Waiter(ticket))?;
        let wait = awaited.map(|awaited| Wait::of_load(py, self.state, awaited)).transpose()?.flatten();
        self.wait(py, Waiting { ticket, seat, timer, _wait: wait.map(Box::new) })
    }

    /// Suspends on the seat's future.
    fn wait(&mut self, py: Python<'_>, waiting: Waiting) -> PyResult<Step> {
        let Wake::Future { future, .. } = &waiting.seat.wake else {
            return Err(errors::load_ended(py, &self.request.recipe.name));
        };
        let future = future.clone_ref(py);
        // What `await future` does first: the task checks this flag on whatever is yielded to it.
        future.bind(py).setattr(&self.state.names._asyncio_future_blocking, true)?;
        self.stage = Stage::Waiting(waiting);
        Ok(Step::Yield(future))
    }

    fn settle(&mut self, py: Python<'_>, ticket: Ticket, outcome: Outcome) -> PyResult<Step> {
        match outcome {
            Outcome::Value(value, kind) => self.answer(py, value, kind),
            Outcome::Error(error) => self.fall_back(py, PyErr::from_value(error.into_bound(py))),
            Outcome::Ended => self.fall_back(py, errors::load_ended(py, &self.request.recipe.name)),
            Outcome::TimedOut => self.fall_back(py, self.request.timed_out(py)),
            Outcome::Again => self.begin(py),
            Outcome::Lead => {
                let here = self.here(py)?;
                let seat = self.seat(py, &here)?;
                match self.request.take_over(self.place(Some(&here), Refresh::InPerson), ticket, &seat) {
                    Some(lease) => self.load(py, &here, ticket, lease, seat),
                    None => self.begin(py),
                }
            }
        }
    }

    /// Starts the load and waits for it, if it has to be waited for.
    fn load(
        &mut self,
        py: Python<'_>,
        here: &Bound<'_, PyAny>,
        ticket: Ticket,
        lease: Lease,
        seat: Waiter,
    ) -> PyResult<Step> {
        task::run(py, self.state, &self.request, here, (lease, None), Some(&seat));
        match seat.take() {
            Some(outcome) => self.settle(py, ticket, outcome),
            None => {
                let awaited = lease::awaited_by_load(py, self.state, &self.request, ticket.flight, seat.home)?;
                self.wait_for(py, here, ticket, seat, awaited.as_ref())
            }
        }
    }

    /// Past the cache: the loader's own coroutine is awaited in our place.
    fn through(&mut self, py: Python<'_>) -> PyResult<Step> {
        let made = self.request.ask(py, self.state, &self.request.loader)?;
        match self.state.as_coroutine(&made)? {
            Some(coroutine) => self.pass(py, coroutine.unbind(), send),
            None => Ok(Step::Return(made.unbind())),
        }
    }

    fn pass(
        &mut self,
        py: Python<'_>,
        coroutine: Object,
        go_on: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<Step>,
    ) -> PyResult<Step> {
        let step = go_on(coroutine.bind(py))?;
        if let Step::Yield(_) = step {
            self.stage = Stage::Through(coroutine);
        }
        Ok(step)
    }
}

/// What is shared with a load that runs, or with a flight, is theirs too, and they are alive.
impl Holds for Call {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        let stage = match &self.stage {
            Stage::Waiting(Waiting { seat, .. }) => Arc::strong_count(seat) > 1 || seat.visit(visit),
            Stage::Through(coroutine) => visit(coroutine),
            Stage::Fresh | Stage::Over => true,
        };
        stage && (Arc::strong_count(&self.request) > 1 || self.request.visit(visit))
    }
}

impl Pending for Call {
    fn is_untouched(&self) -> bool {
        matches!(self.stage, Stage::Fresh)
    }

    fn name(&self) -> String {
        self.request.recipe.name.clone()
    }

    fn resume(&mut self, py: Python<'_>) -> PyResult<Step> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Fresh => self.begin(py),
            Stage::Waiting(mut waiting) => match waiting.seat.take() {
                Some(outcome) => {
                    alarm::cancel(py, self.state, waiting.timer.take());
                    let ticket = waiting.ticket;
                    drop(waiting);
                    self.settle(py, ticket, outcome)
                }
                None => self.wait(py, waiting),
            },
            Stage::Through(coroutine) => self.pass(py, coroutine, send),
            Stage::Over => Err(errors::load_ended(py, &self.request.recipe.name)),
        }
    }

    fn throw(&mut self, py: Python<'_>, error: PyErr) -> PyResult<Step> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Through(coroutine) => {
                let error = error.into_value(py);
                self.pass(py, coroutine, |coroutine| match coroutine.call_method1("throw", (error,)) {
                    Ok(yielded) => Ok(Step::Yield(yielded.unbind())),
                    Err(error) => returned(py, error),
                })
            }
            stage => {
                self.stage = stage;
                self.abandon(py);
                Err(error)
            }
        }
    }

    fn abandon(&mut self, py: Python<'_>) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Waiting(Waiting { ticket, timer, .. }) => {
                alarm::cancel(py, self.state, timer);
                let effects = self.request.tier.memory.lock().flights.leave(ticket);
                effects::run(py, self.state, &self.request.tier, (ticket.flight, effects, None), |_| Outcome::Ended);
            }
            Stage::Through(coroutine) => {
                if let Err(error) = coroutine.bind(py).call_method0("close") {
                    error.write_unraisable(py, Some(coroutine.bind(py)));
                }
            }
            Stage::Fresh | Stage::Over => {}
        }
    }
}

/// This thread and the loop on it.
pub fn home_of(here: &Bound<'_, PyAny>) -> Home {
    // SAFETY: always callable.
    let thread = unsafe { ffi::PyThread_get_thread_ident() };
    Home { thread, event_loop: here.as_ptr() as u64 }
}

/// Lets what is being awaited go on: what it waits for now, or that it is done, and with what. For `samovar/_batch.py`.
#[pyfunction]
pub fn _go_on<'py>(awaited: &Bound<'py, PyAny>) -> PyResult<(bool, Bound<'py, PyAny>)> {
    Ok(match send(awaited)? {
        Step::Yield(future) => (false, future.into_bound(awaited.py())),
        Step::Return(value) => (true, value.into_bound(awaited.py())),
    })
}

fn send(coroutine: &Bound<'_, PyAny>) -> PyResult<Step> {
    let py = coroutine.py();
    let mut result = null_mut();
    // SAFETY: any object may be sent to; the result is a new reference unless there was an error.
    unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &mut result) {
            ffi::PySendResult::PYGEN_NEXT => Ok(Step::Yield(Bound::from_owned_ptr(py, result).unbind())),
            ffi::PySendResult::PYGEN_RETURN => Ok(Step::Return(Bound::from_owned_ptr(py, result).unbind())),
            ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        }
    }
}

fn returned(py: Python<'_>, error: PyErr) -> PyResult<Step> {
    if error.is_instance_of::<PyStopIteration>(py) {
        return Ok(Step::Return(error.value(py).getattr("value")?.unbind()));
    }
    Err(error)
}
