//! A load that runs as a task of an event loop, or is a future of it: how it is started, stopped, and what it reports.
//!
//! The task belongs to the cache. It runs in a copy of the context of whoever started it, on that caller's loop.

use super::alarm;
use super::anchor::Anchor;
use super::budget::{HeldRoom, Room};
use super::effects;
use super::lease::{self, Context};
use super::request::{Ended, Finished, Request};
use super::seat::{Outcome, Waiter, Wake};
use super::state::State;
use super::tier::{Object, PyMemory, Tier, is_below};
use crate::core::flight::{Due, FlightId, Lease};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;

/// A load that runs, or will as soon as the caller who was told to lead does.
pub struct Running {
    task: Option<(Object, Lease)>,
    /// The loop it runs on.
    pub event_loop: Object,
    /// When it takes too long.
    timer: Option<Object>,
    /// For one that runs behind, until it is over.
    room: Option<Room>,
}

impl Running {
    /// Somebody on this loop was told to load.
    fn soon(event_loop: Object) -> Self {
        Running { task: None, event_loop, timer: None, room: None }
    }

    /// Its task, once it runs.
    pub fn task(&self, py: Python<'_>) -> Option<Object> {
        self.task.as_ref().map(|(task, _)| task.clone_ref(py))
    }

    /// True if it runs, and what it brings counts no more.
    fn is_void(&self, memory: &PyMemory) -> bool {
        self.task.as_ref().is_some_and(|(_, lease)| !memory.flights.is_current(*lease))
    }

    /// Cancels the task, on whichever loop it lives.
    fn cancel(self, py: Python<'_>, state: &State, here: Option<&Bound<'_, PyAny>>) {
        let Running { task: Some((task, _)), event_loop, timer, room } = self else { return };
        let (names, task) = (&state.names, task.bind(py));
        let cancelled = if here.is_some_and(|here| here.is(&event_loop)) {
            alarm::cancel(py, state, timer);
            task.call_method0(&names.cancel)
        } else {
            task.getattr(&names.cancel)
                .and_then(|cancel| event_loop.bind(py).call_method1(&names.call_soon_threadsafe, (cancel,)))
        };
        // A closed loop runs nothing any more, cancelled or not.
        drop((cancelled, room));
    }
}

/// Cancels the load of a flight, unless a later one runs by now.
pub fn cancel(py: Python<'_>, state: &State, tier: &Tier, flight: FlightId, here: Option<&Bound<'_, PyAny>>) {
    let memory = tier.memory.lock();
    let mut tasks = tier.tasks.lock();
    let key = flight.to_bits();
    let void = tasks.get(&key).is_some_and(|running| running.is_void(&memory));
    let running = if void { tasks.remove(&key) } else { None };
    drop(tasks);
    drop(memory);
    if let Some(running) = running {
        running.cancel(py, state, here);
    }
}

/// A waiter was told to load: should its loop close or stand still, others see by this that nobody does; and whoever blocks
/// its thread, that nobody can.
pub fn expect(py: Python<'_>, state: &State, tier: &Tier, flight: FlightId, waiter: &Waiter) {
    let soon = match &waiter.wake {
        Wake::Future { event_loop, .. } => Some(Running::soon(event_loop.clone_ref(py))),
        Wake::Thread(_) => None,
    };
    let memory = tier.memory.lock();
    if !memory.flights.expects(flight, waiter.home) {
        return;
    }
    lease::moved(state, tier, flight, waiter.home.thread);
    let mut tasks = tier.tasks.lock();
    let before = match soon {
        Some(soon) => tasks.insert(flight.to_bits(), soon),
        None => tasks.remove(&flight.to_bits()),
    };
    drop(tasks);
    drop(memory);
    drop(before);
}

/// What loads for a namespace and those below it, and whether a caller waits for it.
pub fn below(py: Python<'_>, tier: &Tier, path: &str) -> Vec<(Object, bool)> {
    let memory = tier.memory.lock();
    let tasks = tier.tasks.lock();
    let there = tasks.values().filter_map(|running| {
        let (task, lease) = running.task.as_ref()?;
        let space = memory.flights.home(lease.flight).and_then(|(_, group)| tier.holder(group.number()));
        let is_there = space.map_or(path.is_empty(), |space| is_below(&space.path, path));
        is_there.then(|| (task.clone_ref(py), memory.flights.waiting(lease.flight) > 0))
    });
    there.collect()
}

/// True if a loop is closed or stands still, so that what runs on it may never end.
pub fn is_stranded(event_loop: &Bound<'_, PyAny>, state: &State) -> bool {
    let says = |name| event_loop.call_method0(name).and_then(|answer| answer.is_truthy());
    says(&state.names.is_closed).unwrap_or(true) || !says(&state.names.is_running).unwrap_or(false)
}

/// Ends a flight whose load is stranded on a dead loop; true if it was.
pub fn supersede_if_stranded(py: Python<'_>, state: &State, tier: &Tier, flight: FlightId, here: u64) -> bool {
    let event_loop = tier.tasks.lock().get(&flight.to_bits()).map(|running| running.event_loop.clone_ref(py));
    let Some(event_loop) = event_loop else { return false };
    if event_loop.as_ptr() as u64 == here || !is_stranded(event_loop.bind(py), state) {
        return false;
    }
    let effects = tier.memory.lock().flights.supersede(flight);
    let running = tier.tasks.lock().remove(&flight.to_bits());
    drop(running);
    effects::run(py, state, tier, (flight, effects, None), |_| Outcome::Again);
    true
}

/// Calls the loader and lets its coroutine run as a task; a future needs none. A loader that answers at once, or fails to
/// start, has reported when this returns. One that runs behind has room.
pub fn run(
    py: Python<'_>,
    state: &'static State,
    request: &Arc<Request>,
    here: &Bound<'_, PyAny>,
    (lease, room): (Lease, Option<Room>),
    starter: Option<&Waiter>,
) {
    let expected = request.tier.tasks.lock().remove(&lease.flight.to_bits());
    drop(expected);
    let result = match start(py, state, request, here, (lease, room), starter) {
        Ok(None) => return,
        Ok(Some(value)) => Ok(value),
        Err(error) => Err(error.value(py).clone().into_any()),
    };
    report(py, state, request, lease, result, starter);
}

/// Starts the load; a loader that answers at once gives its value.
fn start<'py>(
    py: Python<'py>,
    state: &'static State,
    request: &Arc<Request>,
    here: &Bound<'py, PyAny>,
    (lease, mut room): (Lease, Option<Room>),
    starter: Option<&Waiter>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let context = lease::context(py, state, request, [lease.flight])?;
    let loader = if starter.is_none() { request.refresher.as_deref() } else { None };
    let made = context.within(|| request.ask(py, state, loader.unwrap_or(&request.loader)))??;
    let task = if is_future_of(state, &made, here)? {
        if room.is_some()
            && made.hasattr(&state.names.room_for)?
            && let Some(room) = room.take()
        {
            // One of many that are loaded in one call: that needs room, not each of them.
            made.call_method1(&state.names.room_for, (HeldRoom::new(room),))?;
        }
        // It is waited for as it is: a task that does nothing but await it would cost more than it.
        made
    } else {
        let Some(coroutine) = state.as_coroutine(&made)? else { return Ok(Some(made)) };
        create_task(state, here, &coroutine, &context, &request.recipe.name)?
    };
    let timer = alarm::set(state, &request.tier, here, Due::Load(lease))?;
    let running =
        Running { task: Some((task.clone().unbind(), lease)), event_loop: here.clone().unbind(), timer, room };
    let replaced = request.tier.tasks.lock().insert(lease.flight.to_bits(), running);
    drop(replaced);
    let done = LoadDone { request: request.clone(), state, lease, starter: starter.cloned() };
    task.call_method1(&state.names.add_done_callback, (Bound::new(py, done)?,))?;
    Ok(None)
}

fn is_future_of(state: &State, made: &Bound<'_, PyAny>, here: &Bound<'_, PyAny>) -> PyResult<bool> {
    // SAFETY: a type check on a valid object.
    let coroutine = unsafe { ffi::PyCoro_CheckExact(made.as_ptr()) } != 0;
    let names = &state.names;
    Ok(!coroutine
        && made.get_type().hasattr(&names._asyncio_future_blocking)?
        && made.call_method0(&names.get_loop)?.is(here))
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

/// Tells the flight what became of its load. What nobody waits for is said in the log.
fn report<'py>(
    py: Python<'py>,
    state: &State,
    request: &Request,
    lease: Lease,
    result: Result<Bound<'py, PyAny>, Bound<'py, PyAny>>,
    starter: Option<&Waiter>,
) {
    let behind = request.tier.memory.lock().flights.is_unattended(lease);
    let result = result.as_ref().map_err(Clone::clone);
    let is_answer = |error: &Bound<'py, PyAny>| state.not_found(py).and_then(|class| error.is_instance(class));
    let failed = result.clone().err().filter(|error| !lease::is_cancellation(py, state, error));
    let failed = failed.filter(|error| !is_answer(error).unwrap_or(false));
    // An error of the user's callables has been laid into the starter's seat.
    let Finished { error, .. } = request.finish(py, state, Ended { lease, result, starter });
    let failed = failed.or_else(|| error.map(|error| error.into_value(py).into_bound(py).into_any()));
    if let Some(error) = failed.filter(|_| behind) {
        let reported = state
            .asyncio(py)
            .and_then(|used| used.refresh_failed.bind(py).call1((&request.recipe.name, &error)).map(drop));
        if let Err(error) = reported {
            error.write_unraisable(py, None);
        }
    }
}

/// What a load's task calls when it is done.
#[pyclass(frozen, module = "samovar._core")]
pub struct LoadDone {
    request: Arc<Request>,
    state: &'static State,
    lease: Lease,
    starter: Option<Waiter>,
}

#[pymethods]
impl LoadDone {
    fn __call__(&self, py: Python<'_>, task: &Bound<'_, PyAny>) {
        let _anchor = Anchor::hold();
        let key = self.lease.flight.to_bits();
        let mut tasks = self.request.tier.tasks.lock();
        let ours = tasks.get(&key).and_then(|running| running.task.as_ref()).is_some_and(|(ours, _)| ours.is(task));
        let running = if ours { tasks.remove(&key) } else { None };
        drop(tasks);
        if let Some(Running { timer, room, .. }) = running {
            drop(room);
            alarm::cancel(py, self.state, timer);
        }
        let result = match task.call_method0(&self.state.names.result) {
            Ok(value) => Ok(value),
            Err(error) => Err(error.into_value(py).into_bound(py).into_any()),
        };
        report(py, self.state, &self.request, self.lease, result, self.starter.as_ref());
    }
}
