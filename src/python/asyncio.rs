//! The asyncio driver of a flight: one awaitable, one future a waiter, and a task for the user's loader only.
//!
//! Nothing happens before the first await: a call that is never awaited takes no lease. The load is a task of the
//! cache's, on the first caller's loop, in a copy of the first caller's context; callers come and go.

use super::anchor::Anchor;
use super::errors;
use super::lease::{self, Relation};
use super::pending::{Holds, Pending, Step};
use super::request::{self, Ended, Lookup, Request};
use super::seat::{Outcome, Seat, Waiter, Wake};
use super::state::State;
use super::tier::Object;
use super::{copy, lease::Context};
use crate::core::flight::{FlightId, Home, Lease, Ticket};
use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::ptr::null_mut;
use std::sync::Arc;

enum Stage {
    Fresh,
    Waiting {
        ticket: Ticket,
        seat: Waiter,
    },
    /// Loading directly, past the cache: this coroutine is awaited in our place.
    Through(Object),
    Over,
}

/// One awaited call.
pub struct Call {
    request: Arc<Request>,
    state: &'static State,
    stage: Stage,
}

/// A load that runs as a task.
pub struct Running {
    task: Object,
    /// The loop it runs on.
    pub event_loop: Object,
}

impl Running {
    /// Cancels the task, on whichever loop it lives.
    pub fn cancel(&self, py: Python<'_>, state: &State, here: Option<&Bound<'_, PyAny>>) {
        let names = &state.names;
        let task = self.task.bind(py);
        let cancelled = if here.is_some_and(|here| here.is(&self.event_loop)) {
            task.call_method0(&names.cancel)
        } else {
            task.getattr(&names.cancel)
                .and_then(|cancel| self.event_loop.bind(py).call_method1(&names.call_soon_threadsafe, (cancel,)))
        };
        // A closed loop runs nothing any more, cancelled or not.
        drop(cancelled);
    }

    /// True if its loop is closed or stands still, so that it may never end.
    pub fn is_stranded(&self, py: Python<'_>, state: &State) -> bool {
        let event_loop = self.event_loop.bind(py);
        let says = |name| event_loop.call_method0(name).and_then(|answer| answer.is_truthy());
        says(&state.names.is_closed).unwrap_or(true) || !says(&state.names.is_running).unwrap_or(false)
    }
}

/// Ends a flight whose load is stranded on a dead loop; true if it was.
pub fn supersede_if_stranded(py: Python<'_>, state: &State, request: &Request, flight: FlightId, here: u64) -> bool {
    let tier = &request.tier;
    let running = tier
        .tasks
        .lock()
        .get(&flight.to_bits())
        .map(|running| (running.event_loop.clone_ref(py), running.task.clone_ref(py)));
    let Some((event_loop, task)) = running else { return false };
    if event_loop.as_ptr() as u64 == here || !(Running { task, event_loop }).is_stranded(py, state) {
        return false;
    }
    let effects = tier.memory.lock().flights.supersede(flight);
    let running = tier.tasks.lock().remove(&flight.to_bits());
    drop(running);
    request::run(py, state, tier, flight, effects, |_| Outcome::Again);
    true
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
            let (flight, home) = match self.request.lookup(py)? {
                Lookup::Hit(value) => return Ok(Step::Return(value)),
                Lookup::Flying(flight, home) => (flight, home),
                Lookup::Absent(seen) => {
                    let here = self.here(py)?;
                    let lease = self.request.begin(py, seen, home_of(&here), self.request.life);
                    let seat = self.seat(py, &here)?;
                    let mut memory = self.request.tier.memory.lock();
                    let ticket = memory.flights.join(lease.flight, seat.home, seat.clone());
                    let led = ticket.and_then(|ticket| Some((ticket, memory.flights.lead(ticket, seat.home, None)?)));
                    drop(memory);
                    let Some((ticket, lease)) = led else { continue };
                    return self.load(py, &here, ticket, lease, seat);
                }
            };
            if let Relation::Own = lease::relation(py, state, &self.request.tier, flight)? {
                return self.through(py);
            }
            let here = self.here(py)?;
            let mine = home_of(&here);
            if home.thread == mine.thread && home.event_loop == 0 {
                // A blocked call on this very thread: it waits for us to return.
                return self.through(py);
            }
            if supersede_if_stranded(py, state, &self.request, flight, mine.event_loop) {
                continue;
            }
            let seat = self.seat(py, &here)?;
            let mut memory = self.request.tier.memory.lock();
            let joined = memory.flights.join(flight, mine, seat.clone());
            if joined.is_some() {
                memory.entries.stats_mut(self.request.space.group()).coalesced += 1;
            }
            drop(memory);
            if let Some(ticket) = joined {
                return self.wait(py, ticket, seat);
            }
        }
    }

    fn here<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.state.asyncio(py)?;
        self.state.running_loop(py).ok_or_else(|| errors::no_loop(&self.request.recipe.name))
    }

    fn seat(&self, py: Python<'_>, here: &Bound<'_, PyAny>) -> PyResult<Waiter> {
        let future = here.call_method0(&self.state.names.create_future)?.unbind();
        let _ = py;
        Ok(Seat::new(Wake::Future { future, event_loop: here.clone().unbind() }, home_of(here)))
    }

    /// Suspends on the seat's future.
    fn wait(&mut self, py: Python<'_>, ticket: Ticket, seat: Waiter) -> PyResult<Step> {
        let Wake::Future { future, .. } = &seat.wake else {
            return Err(errors::load_ended(py, &self.request.recipe.name));
        };
        let future = future.clone_ref(py);
        // What `await future` does first: the task checks this flag on whatever is yielded to it.
        future.bind(py).setattr(&self.state.names._asyncio_future_blocking, true)?;
        self.stage = Stage::Waiting { ticket, seat };
        Ok(Step::Yield(future))
    }

    fn settle(&mut self, py: Python<'_>, ticket: Ticket, outcome: Outcome) -> PyResult<Step> {
        match outcome {
            Outcome::Value(value, kind) => Ok(Step::Return(copy::hand_out(value.bind(py), kind)?.unbind())),
            Outcome::Error(error) => Err(PyErr::from_value(error.into_bound(py))),
            Outcome::Ended => Err(errors::load_ended(py, &self.request.recipe.name)),
            Outcome::Again => self.begin(py),
            Outcome::Lead => {
                let here = self.here(py)?;
                let seat = self.seat(py, &here)?;
                let led = self.request.tier.memory.lock().flights.lead(ticket, seat.home, Some(seat.clone()));
                match led {
                    Some(lease) => {
                        self.request.took_over();
                        self.load(py, &here, ticket, lease, seat)
                    }
                    None => self.begin(py),
                }
            }
        }
    }

    /// Calls the loader and lets its coroutine run as a task.
    fn load(
        &mut self,
        py: Python<'_>,
        here: &Bound<'_, PyAny>,
        ticket: Ticket,
        lease: Lease,
        seat: Waiter,
    ) -> PyResult<Step> {
        let started = self.start(py, here, lease, &seat);
        let over = match &started {
            Ok(over) => over.as_ref().map(Ok),
            Err(error) => Some(Err(error.value(py).clone().into_any())),
        };
        if let Some(result) = over {
            finish(py, self.state, &self.request, Ended { lease, result, starter: Some(&seat) });
        }
        match seat.take() {
            Some(outcome) => self.settle(py, ticket, outcome),
            None => self.wait(py, ticket, seat),
        }
    }

    /// Starts the load; a loader that answers at once gives its value.
    fn start<'py>(
        &self,
        py: Python<'py>,
        here: &Bound<'py, PyAny>,
        lease: Lease,
        seat: &Waiter,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (state, request) = (self.state, &self.request);
        let context = lease::context(py, state, &request.tier, lease.flight, &request.recipe.name)?;
        let made = context.within(|| request.loader.call(py))??;
        let Some(coroutine) = state.as_coroutine(&made)? else { return Ok(Some(made)) };
        let task = create_task(state, here, &coroutine, &context, &request.recipe.name)?;
        let running = Running { task: task.clone().unbind(), event_loop: here.clone().unbind() };
        let replaced = request.tier.tasks.lock().insert(lease.flight.to_bits(), running);
        drop(replaced);
        let done = LoadDone { request: request.clone(), state, lease, starter: seat.clone() };
        task.call_method1(&state.names.add_done_callback, (Bound::new(py, done)?,))?;
        Ok(None)
    }

    /// Past the cache: the loader's own coroutine is awaited in our place.
    fn through(&mut self, py: Python<'_>) -> PyResult<Step> {
        let made = self.request.loader.call(py)?;
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
            Stage::Waiting { seat, .. } => Arc::strong_count(seat) > 1 || seat.visit(visit),
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
            Stage::Waiting { ticket, seat } => match seat.take() {
                Some(outcome) => self.settle(py, ticket, outcome),
                None => self.wait(py, ticket, seat),
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
            Stage::Waiting { ticket, .. } => {
                let effects = self.request.tier.memory.lock().flights.leave(ticket);
                request::run(py, self.state, &self.request.tier, ticket.flight, effects, |_| Outcome::Ended);
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

fn create_task<'py>(
    state: &State,
    here: &Bound<'py, PyAny>,
    coroutine: &Bound<'py, PyAny>,
    context: &Context<'py>,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let options = PyDict::new(here.py());
    options.set_item(&state.names.context, &context.0)?;
    options.set_item(&state.names.name, name)?;
    let made = here.call_method(&state.names.create_task, (coroutine,), Some(&options));
    if made.is_err() {
        // A loop that is closing takes no task; the coroutine must not complain that nobody awaited it.
        coroutine.call_method0("close")?;
    }
    made
}

/// This thread and the loop on it.
pub fn home_of(here: &Bound<'_, PyAny>) -> Home {
    // SAFETY: always callable.
    let thread = unsafe { ffi::PyThread_get_thread_ident() };
    Home { thread, event_loop: here.as_ptr() as u64 }
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

/// Reports the end of a load. An error of the user's callables has been laid into the starter's seat with it.
fn finish<'py>(py: Python<'py>, state: &State, request: &Request, ended: Ended<'_, 'py>) {
    drop(request.finish(py, state, ended));
}

/// What a load's task calls when it is done.
#[pyclass(frozen, module = "samovar._core")]
pub struct LoadDone {
    request: Arc<Request>,
    state: &'static State,
    lease: Lease,
    starter: Waiter,
}

#[pymethods]
impl LoadDone {
    fn __call__(&self, py: Python<'_>, task: &Bound<'_, PyAny>) {
        let _anchor = Anchor::hold();
        let key = self.lease.flight.to_bits();
        let mut tasks = self.request.tier.tasks.lock();
        let ours = tasks.get(&key).is_some_and(|running| running.task.is(task));
        let running = if ours { tasks.remove(&key) } else { None };
        drop(tasks);
        drop(running);
        let result = match task.call_method0(&self.state.names.result) {
            Ok(value) => Ok(value),
            Err(error) => Err(error.into_value(py).into_bound(py).into_any()),
        };
        let result = result.as_ref().map_err(Clone::clone);
        finish(py, self.state, &self.request, Ended { lease: self.lease, result, starter: Some(&self.starter) });
    }
}
