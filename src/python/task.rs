//! A load that runs as a task of an event loop, or is a future of it: how it is started, stopped, and what it reports.
//!
//! The task belongs to the cache. It runs in a copy of the context of whoever started it, on that caller's loop.

use super::alarm;
use super::anchor::Anchor;
use super::budget::{HeldRoom, Room};
use super::effects;
use super::filling::{self, Driven as Filled};
use super::guarded::Guarded;
use super::lease::{self, Context};
use super::pending::Holds;
use super::process::is_the_end;
use super::request::{Ending, Finished, Judged, Request};
use super::seat::{Outcome, Waiter, Wake};
use super::state::State;
use super::tier::{Object, PyMemory, Tier};
use crate::core::flight::{Due, FlightId, Lease};
use crate::core::key::is_below;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;

/// A load that runs, or will as soon as the caller who was told to lead does.
pub struct Running {
    task: Option<Object>,
    /// Under which; of somebody who was only told to load, nobody knows it.
    lease: Option<Lease>,
    /// The loop it runs on.
    pub event_loop: Object,
    /// When it takes too long.
    timer: Option<Object>,
    /// For one that runs behind, until it is over.
    room: Option<Room>,
}

impl Running {
    /// Somebody on this loop was told to load, or does so without a task.
    fn soon(event_loop: Object, lease: Option<Lease>) -> Self {
        Running { task: None, lease, event_loop, timer: None, room: None }
    }

    /// Its task, once it runs.
    pub fn task(&self, py: Python<'_>) -> Option<Object> {
        self.task.as_ref().map(|task| task.clone_ref(py))
    }

    /// True if it runs, and what it brings counts no more.
    fn is_void(&self, memory: &PyMemory) -> bool {
        self.lease.is_some_and(|lease| !memory.flights.is_current(lease))
    }

    /// Cancels the task, on whichever loop it lives.
    fn cancel(self, py: Python<'_>, state: &State, here: Option<&Bound<'_, PyAny>>) {
        let Running { task: Some(task), event_loop, timer, room, .. } = self else { return };
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
        Wake::Future { event_loop, .. } => Some(Running::soon(event_loop.clone_ref(py), None)),
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
        let (task, lease) = (running.task.as_ref()?, running.lease?);
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

/// A load that is to run on an event loop, and for whom.
pub struct Load {
    /// What is loaded.
    pub request: Arc<Request>,
    /// The right to.
    pub lease: Lease,
    /// The loop.
    pub event_loop: Object,
    /// For one that runs behind.
    room: Option<Room>,
    /// The seat of whoever started it.
    starter: Option<Waiter>,
    /// True once the flight knows what became of it.
    is_told: bool,
}

/// What a request shares with others is theirs to visit too, and they are alive.
impl Holds for Load {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        visit(&self.event_loop) && (Arc::strong_count(&self.request) > 1 || self.request.visit(visit))
    }
}

/// A load, and what its end leads to.
pub enum Job {
    /// Its lease is filled with what it brings.
    Load(Load),
    /// So is the store behind the memory.
    Fill(Box<Filled>),
}

impl Job {
    fn load(&mut self) -> &mut Load {
        match self {
            Job::Load(load) => load,
            Job::Fill(filled) => filled.load(),
        }
    }

    fn loaded(self, py: Python<'_>, state: &'static State, judged: Judged) {
        match self {
            Job::Load(load) => load.settle(py, state, &judged, Ending::Loaded),
            Job::Fill(filled) => filled.loaded(py, judged),
        }
    }
}

/// Fills a lease: by the store behind the memory if there is one, else by the loader. One that runs behind has room. What is
/// there at once has been reported when this returns.
pub fn run(
    py: Python<'_>,
    state: &'static State,
    request: &Arc<Request>,
    here: &Bound<'_, PyAny>,
    (lease, room): (Lease, Option<Room>),
    starter: Option<&Waiter>,
) {
    let (request, event_loop, starter) = (Arc::clone(request), here.clone().unbind(), starter.cloned());
    let load = Load { request, lease, event_loop, room, starter, is_told: false };
    let load = if load.request.behind.is_some() { filling::run(py, state, load) } else { Some(load) };
    if let Some((job, judged)) = load.and_then(|load| start(py, state, Job::Load(load))) {
        job.loaded(py, state, judged);
    }
}

/// Somebody on this loop will load, or tell what a load has brought: should the loop stand still, others see by this that nobody does.
pub fn is_under_way(py: Python<'_>, load: &Load) {
    let running = Running::soon(load.event_loop.clone_ref(py), Some(load.lease));
    let memory = load.request.tier.memory.lock();
    // Of one that counts no more nobody waits to be told.
    if memory.flights.is_current(load.lease) {
        let before = load.request.tier.tasks.lock().insert(load.lease.flight.to_bits(), running);
        drop(memory);
        drop(before);
    }
}

/// It is over, or nobody wants it.
fn is_over(load: &Load) {
    let mut tasks = load.request.tier.tasks.lock();
    let key = load.lease.flight.to_bits();
    let ours = tasks.get(&key).is_some_and(|running| running.lease == Some(load.lease));
    let over = if ours { tasks.remove(&key) } else { None };
    drop(tasks);
    drop(over);
}

/// Calls the loader and lets its coroutine run as a task; a future needs none. Gives back what is over at once: a loader that
/// answers, or fails to start.
pub fn start(py: Python<'_>, state: &'static State, mut job: Job) -> Option<(Job, Judged)> {
    let load = job.load();
    let (request, lease) = (Arc::clone(&load.request), load.lease);
    let expected = request.tier.tasks.lock().remove(&lease.flight.to_bits());
    drop(expected);
    let result = match call(py, state, load) {
        Ok(Called::Task(task)) => match watch(py, state, job, &task) {
            Ok(()) => return None,
            Err((given_back, error)) => {
                job = given_back;
                Err(error)
            }
        },
        Ok(Called::Value(value)) => Ok(value),
        Err(error) => Err(error),
    };
    let result = result.as_ref().map_err(|error| error.value(py).clone().into_any());
    let judged = request.judge(py, state, lease, result);
    Some((job, judged))
}

/// What calling a loader gives.
enum Called<'py> {
    Task(Bound<'py, PyAny>),
    Value(Bound<'py, PyAny>),
}

fn call<'py>(py: Python<'py>, state: &'static State, load: &mut Load) -> PyResult<Called<'py>> {
    let Load { request, lease, event_loop, room, starter, .. } = load;
    let here = event_loop.bind(py);
    let context = lease::context(py, state, request, [lease.flight])?;
    let loader = if starter.is_none() { request.refresher.as_deref() } else { None };
    let made = context.within(|| request.ask(py, state, loader.unwrap_or(&request.loader)))??;
    if !is_future_of(state, &made, here)? {
        let Some(coroutine) = state.as_coroutine(&made)? else { return Ok(Called::Value(made)) };
        return create_task(state, here, &coroutine, &context, &request.recipe.name).map(Called::Task);
    }
    if room.is_some()
        && made.hasattr(&state.names.room_for)?
        && let Some(room) = room.take()
    {
        // One of many that are loaded in one call: that needs room, not each of them.
        made.call_method1(&state.names.room_for, (HeldRoom::new(room),))?;
    }
    // It is waited for as it is: a task that does nothing but await it would cost more than it.
    Ok(Called::Task(made))
}

/// Has the end of a task told.
fn watch(py: Python<'_>, state: &'static State, mut job: Job, task: &Bound<'_, PyAny>) -> Result<(), (Job, PyErr)> {
    let load = job.load();
    let (request, lease) = (Arc::clone(&load.request), load.lease);
    let timer = match alarm::set(state, &request.tier, load.event_loop.bind(py), Due::Load(lease)) {
        Ok(timer) => timer,
        Err(error) => return Err((job, error)),
    };
    let (event_loop, room) = (load.event_loop.clone_ref(py), load.room.take());
    let running = Running { task: Some(task.clone().unbind()), lease: Some(lease), event_loop, timer, room };
    let replaced = request.tier.tasks.lock().insert(lease.flight.to_bits(), running);
    drop(replaced);
    let done = LoadDone { request, state, lease, job: Guarded::new(Some(job)) };
    let told = Bound::new(py, done).and_then(|done| {
        let added = task.call_method1(&state.names.add_done_callback, (&done,));
        added
            .map(drop)
            .map_err(|error| (done, error))
            .map_or_else(|(done, error)| Ok(done.get().job.lock().take().map(|job| (job, error))), |()| Ok(None))
    });
    match told {
        Ok(Some(refused)) => Err(refused),
        // Without memory for the callback nobody is told.
        Ok(None) | Err(_) => Ok(()),
    }
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

/// A loaded value has no form in which others could have it: said once for each function, and it stays in this process.
pub fn unstorable(tier: &Tier, name: &str, error: &PyErr) {
    Python::attach(|py| {
        let used = tier.state.asyncio(py);
        let told = used.and_then(|used| used.unstorable.bind(py).call1((name, error.value(py))).map(drop));
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
    });
}

impl Load {
    /// Tells the flight what became of its load. What nobody waits for is said in the log.
    pub fn settle(mut self, py: Python<'_>, state: &State, judged: &Judged, ending: Ending) {
        self.is_told = true;
        is_over(&self);
        let Load { request, lease, starter, .. } = &self;
        let behind = request.tier.memory.lock().flights.is_unattended(*lease);
        let is_answer = |error: &Object| state.not_found(py).and_then(|class| error.bind(py).is_instance(class));
        let failed = judged.failed.as_ref().filter(|error| !lease::is_cancellation(py, state, error.bind(py)));
        let failed = failed.filter(|error| !is_answer(error).unwrap_or(false)).map(|error| error.clone_ref(py));
        // An error of the user's callables has been laid into the starter's seat.
        let Finished { error, .. } = request.settle(py, state, (*lease, starter.as_ref()), judged, ending);
        let failed = failed.or_else(|| error.map(|error| error.into_value(py).into_any()));
        if let Some(error) = failed.filter(|_| behind) {
            let reported = state
                .asyncio(py)
                .and_then(|used| used.refresh_failed.bind(py).call1((&request.recipe.name, &error)).map(drop));
            if let Err(error) = reported {
                error.write_unraisable(py, None);
            }
        }
    }
}

impl Drop for Load {
    /// A loop that was closed goes on with nothing: who waits elsewhere looks again, and nobody else would look after the flight.
    fn drop(&mut self) {
        if self.is_told || is_the_end() {
            return;
        }
        is_over(self);
        let Load { request, lease, .. } = self;
        let tier = &request.tier;
        Python::try_attach(|py| {
            let mut memory = tier.memory.lock();
            let is_current = memory.flights.is_current(*lease);
            let effects = if is_current { memory.flights.supersede(lease.flight) } else { Vec::new() };
            drop(memory);
            effects::run(py, tier.state, tier, (lease.flight, effects, None), |_| Outcome::Again);
        });
    }
}

/// What a load's task calls when it is done.
#[pyclass(frozen, module = "samovar._core")]
pub struct LoadDone {
    request: Arc<Request>,
    state: &'static State,
    lease: Lease,
    /// Until it has been called.
    job: Guarded<Option<Job>>,
}

#[pymethods]
impl LoadDone {
    fn __call__(&self, py: Python<'_>, task: &Bound<'_, PyAny>) {
        let _anchor = Anchor::hold();
        let key = self.lease.flight.to_bits();
        let mut tasks = self.request.tier.tasks.lock();
        let ours = tasks.get(&key).and_then(|running| running.task.as_ref()).is_some_and(|ours| ours.is(task));
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
        let job = self.job.lock().take();
        if let Some(job) = job {
            let judged = self.request.judge(py, self.state, self.lease, result.as_ref().map_err(Clone::clone));
            job.loaded(py, self.state, judged);
        }
    }
}
