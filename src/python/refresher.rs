//! The refresher of a cache on its event loop: one timer, and the calls by which hot keys are loaded without their callers.
//!
//! `core::refresher` decides which key is loaded and when; here it is asked at the moments it names, and its loads go the way
//! of all others. What it keeps of a call holds neither the caller's own parameters nor the instance of a method.

use super::anchor::Anchor;
use super::guarded::Guarded;
use super::options::{refuse, time};
use super::recipe::Loader;
use super::request::Request;
use super::spot::Spot;
use super::state::State;
use super::tier::{Object, Tier};
use super::{alarm, asyncio, budget, effects, errors, task};
use crate::core::budget::Need;
use crate::core::clock::{Millis, NEVER};
use crate::core::flight::{Life, Place, Refresh};
use crate::core::key::is_below;
use crate::core::refresher::{Counters, Options, Refresher, Turn};
use crate::core::resilience::{Rate, parse_rate};
use hashbrown::HashMap;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// What a loop calls when something is due; what `samovar.Refresher` looks at and ends.
#[pyclass(frozen, module = "samovar._core")]
pub struct RefresherCore {
    tier: Weak<Tier>,
    state: &'static State,
    /// What it had counted when it ended.
    last: Guarded<Counters>,
}

/// What a tier holds of its refresher.
pub struct Running {
    core: Py<RefresherCore>,
    event_loop: Object,
    /// That of whoever started it: loads see what he saw.
    context: Object,
    /// The namespace it was started in.
    path: String,
    timer: Option<Object>,
    /// True from a call that is due at once until that comes.
    called: bool,
    jobs: HashMap<u64, Job>,
}

impl Running {
    /// For the collector.
    pub fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        [self.core.as_any(), &self.event_loop, &self.context].into_iter().chain(&self.timer).all(&mut *visit)
            && self.jobs.values().all(|job| job.visit(visit))
    }
}

/// How a key is loaded without the caller who read it.
struct Job {
    request: Arc<Request>,
    /// Stands where the instance of a method was: a weak reference, for its entries do not keep it alive.
    instance: Option<Object>,
}

impl Job {
    /// `None` where it cannot be.
    fn of(py: Python<'_>, request: &Request) -> PyResult<Option<Job>> {
        if !request.space.of_instance {
            let same = |object: &Object| object.clone_ref(py);
            return Ok(Some(Job { request: Arc::new(repeated(py, request, same)), instance: None }));
        }
        let Loader { args, names, .. } = &request.loader;
        let named = names.as_ref().map_or(0, |names| names.bind(py).len());
        let Some(instance) = args.first().filter(|_| named < args.len()) else { return Ok(None) };
        let weak = py.import("weakref")?.call_method1("ref", (instance,))?.unbind();
        let put = |object: &Object| if object.is(instance) { weak.clone_ref(py) } else { object.clone_ref(py) };
        Ok(Some(Job { request: Arc::new(repeated(py, request, put)), instance: Some(weak) }))
    }

    /// The request to be loaded; `None` if the instance is gone.
    fn request(&self, py: Python<'_>) -> PyResult<Option<Arc<Request>>> {
        let Some(weak) = &self.instance else { return Ok(Some(self.request.clone())) };
        let instance = weak.bind(py).call0()?;
        if instance.is_none() {
            return Ok(None);
        }
        let put = |object: &Object| if object.is(weak) { instance.clone().unbind() } else { object.clone_ref(py) };
        Ok(Some(Arc::new(repeated(py, &self.request, put))))
    }

    fn clone_ref(&self, py: Python<'_>) -> Job {
        Job { request: self.request.clone(), instance: self.instance.as_ref().map(|weak| weak.clone_ref(py)) }
    }

    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        use super::pending::Holds;
        // What is shared with a load that runs is its own.
        self.instance.iter().all(&mut *visit) && (Arc::strong_count(&self.request) > 1 || self.request.visit(visit))
    }
}

/// The same wish once more, by nobody in particular, with other objects in its calls.
fn repeated(py: Python<'_>, request: &Request, put: impl Fn(&Object) -> Object) -> Request {
    let by = request.refresher.as_deref().unwrap_or(&request.loader);
    let names = |names: &Option<_>| names.as_ref().map(|names: &Py<pyo3::types::PyTuple>| names.clone_ref(py));
    let (told, told_names) = &request.loader.bound;
    let loader = Loader {
        callable: by.callable.clone_ref(py),
        args: by.args.iter().map(&put).collect(),
        names: names(&by.names),
        bound: (told.iter().map(&put).collect(), names(told_names)),
    };
    let Spot { hash, key, asks } = &request.spot;
    Request {
        tier: request.tier.clone(),
        spot: Spot { hash: *hash, key: key.clone_ref(py), asks: *asks },
        space: request.space.clone(),
        alias: None,
        loader,
        refresher: None,
        recipe: request.recipe.clone_ref(py),
        life: Life::Steady,
        refresh: false,
        since: Default::default(),
        began: Default::default(),
        is_behind: true.into(),
        behind: request.behind.as_ref().map(|behind| behind.clone_ref(py)),
        repeatable: true,
    }
}

/// A reader's way to load a key that is tracked is the one to be used from now on.
pub fn remember(py: Python<'_>, request: &Request, due: bool) -> PyResult<()> {
    let (tier, hash) = (&request.tier, request.spot.hash);
    let Some(job) = Job::of(py, request)? else {
        forget(tier, hash);
        return Ok(());
    };
    let _anchor = Anchor::hold();
    let before = tier.refresher.lock().as_mut().and_then(|running| running.jobs.insert(hash, job));
    drop(before);
    if due {
        wake(py, tier.state, tier);
    }
    Ok(())
}

/// It is time for a turn of the refresher, on its own loop.
pub fn wake(py: Python<'_>, state: &State, tier: &Tier) {
    let mut slot = tier.refresher.lock();
    let Some(running) = slot.as_mut().filter(|running| !running.called) else { return };
    running.called = true;
    let [event_loop, core, context] = [&running.event_loop, running.core.as_any(), &running.context];
    let (event_loop, core, context) = (event_loop.bind(py).clone(), core.clone_ref(py), context.clone_ref(py));
    drop(slot);
    let is_here = state.running_loop(py).is_some_and(|here| here.is(&event_loop));
    let how = if is_here { &state.names.call_soon } else { &state.names.call_soon_threadsafe };
    let options = PyDict::new(py);
    let called = options
        .set_item(&state.names.context, context)
        .and_then(|()| event_loop.call_method(how, (core,), Some(&options)));
    // A closed loop runs nothing any more.
    drop(called);
}

fn forget(tier: &Tier, hash: u64) {
    if let Some(refresher) = &mut tier.memory.lock().refresher {
        refresher.forget(hash);
    }
}

/// The most loads in a time: a number of them a second, or a text.
fn budget(rate: &Bound<'_, PyAny>, burst: Option<u32>) -> PyResult<Rate> {
    let cure = "give loads a second, above zero, or loads and time, such as '100/m'";
    if let Ok(text) = rate.extract::<String>() {
        let (count, period) = parse_rate(&text, "rate")?;
        return Ok(Rate::new(count, period, burst)?);
    }
    let a_second = rate.extract::<f64>().ok().filter(|&rate| (1e-6..=1e6).contains(&rate));
    let a_second = a_second.filter(|_| !rate.is_instance_of::<pyo3::types::PyBool>());
    let Some(a_second) = a_second else { return Err(refuse(rate, "rate", cure)) };
    let whole = a_second.fract() == 0.0;
    let (count, seconds) = if whole { (a_second as u32, 1.0) } else { (1, 1.0 / a_second) };
    Ok(Rate::new(count, Duration::from_secs_f64(seconds), burst)?)
}

/// What `cache.refresher()` is given.
pub struct Given<'py> {
    /// The most keys.
    pub top: usize,
    /// The budget: a number a second, or a text.
    pub rate: Bound<'py, PyAny>,
    /// How much of it may be used at once.
    pub burst: Option<u32>,
    /// For how long an unread key is kept.
    pub idle: Bound<'py, PyAny>,
    /// The share of a life in which a value is loaded anew.
    pub ahead: f64,
}

/// Starts the refresher of a cache on the loop that runs here.
pub fn start<'py>(
    state: &'static State,
    tier: &Arc<Tier>,
    path: &str,
    given: &Given<'py>,
) -> PyResult<Bound<'py, RefresherCore>> {
    let py = given.rate.py();
    state.asyncio(py)?;
    let Some(here) = state.running_loop(py) else {
        let text = "a refresher runs on an event loop, and none runs here; call cache.refresher() in async code";
        return Err(PyRuntimeError::new_err(text));
    };
    let idle = time(&given.idle, "idle", "give seconds above zero, a timedelta, or a text such as '10m'")?;
    let (home, budget) = (asyncio::home_of(&here), budget(&given.rate, given.burst)?);
    let options = Options { top: given.top, budget, idle, ahead: given.ahead, home }.check()?;
    let other = tier.refresher.lock().as_ref().map(|running| running.event_loop.clone_ref(py));
    if let Some(other) = other {
        if !other.bind(py).call_method0(&state.names.is_closed)?.is_truthy()? {
            let text = format!("cache {:?} has a refresher already, one is enough; close() that one first", tier.name);
            return Err(errors::config(py, text));
        }
        stop(py, state, tier, "");
    }
    let core = RefresherCore { tier: Arc::downgrade(tier), state, last: Guarded::new(Counters::default()) };
    let core = Bound::new(py, core)?;
    let running = Running {
        core: core.clone().unbind(),
        event_loop: here.unbind(),
        context: py.import("contextvars")?.call_method0("copy_context")?.unbind(),
        path: path.to_owned(),
        timer: None,
        called: false,
        jobs: HashMap::new(),
    };
    // One that was begun meanwhile goes when nothing is locked.
    let before = tier.refresher.lock().replace(running);
    drop(before);
    tier.memory.lock().refresher = Some(Box::new(Refresher::new(options)));
    Ok(core)
}

/// Ends a tier's refresher, if it was started in this namespace or below. Its loads end, but for those that somebody waits
/// for by now; gives the tasks that were cancelled.
pub fn stop(py: Python<'_>, state: &'static State, tier: &Arc<Tier>, path: &str) -> Vec<Object> {
    let mut slot = tier.refresher.lock();
    let ours = slot.as_ref().is_some_and(|running| is_below(&running.path, path));
    let running = if ours { slot.take() } else { None };
    drop(slot);
    let Some(running) = running else { return Vec::new() };
    let _anchor = Anchor::hold();
    let refresher = tier.memory.lock().refresher.take();
    let is_here = state.running_loop(py).is_some_and(|here| here.is(&running.event_loop));
    let mut tasks = Vec::new();
    for lease in refresher.iter().flat_map(|refresher| refresher.loads()) {
        let task = tier.tasks.lock().get(&lease.flight.to_bits()).and_then(|running| running.task(py));
        let effects = tier.memory.lock().flights.abandon(lease);
        let ends = !effects.is_empty();
        effects::run(py, state, tier, (lease.flight, effects, None), |_| super::seat::Outcome::Ended);
        tasks.extend(task.filter(|_| ends));
    }
    if let Some(refresher) = refresher {
        *running.core.get().last.lock() = Counters { tracked: 0, ..refresher.counters() };
    }
    end_timer(py, state, &running, is_here);
    drop(running);
    tasks
}

fn end_timer(py: Python<'_>, state: &State, running: &Running, is_here: bool) {
    let Some(timer) = &running.timer else { return };
    if is_here {
        return alarm::cancel(py, state, Some(timer.clone_ref(py)));
    }
    let cancel = timer.bind(py).getattr(&state.names.cancel);
    let event_loop = running.event_loop.bind(py);
    // A closed loop runs nothing any more.
    cancel.and_then(|cancel| event_loop.call_method1(&state.names.call_soon_threadsafe, (cancel,))).ok();
}

#[pymethods]
impl RefresherCore {
    /// Begins what is due, and has itself called again when something is.
    fn __call__(this: &Bound<'_, Self>) -> PyResult<()> {
        let _anchor = Anchor::hold();
        let (py, RefresherCore { tier, state, .. }) = (this.py(), this.get());
        let (Some(tier), Some(here)) = (tier.upgrade(), state.running_loop(py)) else { return Ok(()) };
        let Some(_owner) = tier.owner(py) else { return Ok(()) };
        if let Some(running) = tier.refresher.lock().as_mut() {
            running.called = false;
        }
        while this.get().is_running(&tier, this) {
            let turn = tier.memory.lock().refresher.as_mut().map(|refresher| refresher.turn(tier.clock.now()));
            match turn {
                Some(Turn::Load(hash)) => load(py, state, &tier, &here, hash)?,
                Some(Turn::Wait(until)) => return wait(this, state, &tier, &here, until),
                None => break,
            }
        }
        Ok(())
    }

    /// Ends it; the tasks to be awaited.
    fn stop(this: &Bound<'_, Self>) -> Vec<Object> {
        let (py, RefresherCore { tier, state, .. }) = (this.py(), this.get());
        let Some(tier) = tier.upgrade().filter(|tier| this.get().is_running(tier, this)) else { return Vec::new() };
        stop(py, state, &tier, "")
    }

    /// Keys tracked, values refreshed, loads failed, refreshes put off and values saved; whether it runs.
    fn counted(this: &Bound<'_, Self>) -> (u64, u64, u64, u64, u64, bool) {
        let tier = this.get().tier.upgrade().filter(|tier| this.get().is_running(tier, this));
        let running = tier.and_then(|tier| Some(tier.memory.lock().refresher.as_ref()?.counters()));
        let Counters { tracked, refreshed, failed, put_off, saved } = running.unwrap_or(*this.get().last.lock());
        (tracked, refreshed, failed, put_off, saved, running.is_some())
    }
}

impl RefresherCore {
    fn is_running(&self, tier: &Tier, this: &Bound<'_, Self>) -> bool {
        tier.refresher.lock().as_ref().is_some_and(|running| running.core.is(this))
    }
}

/// Begins the load of a key, if it is to be loaded.
fn load(py: Python<'_>, state: &'static State, tier: &Arc<Tier>, here: &Bound<'_, PyAny>, hash: u64) -> PyResult<()> {
    let job = tier.refresher.lock().as_ref().and_then(|running| running.jobs.get(&hash).map(|job| job.clone_ref(py)));
    let request = job.as_ref().map(|job| job.request(py)).transpose()?.flatten();
    let Some(request) = request.filter(|request| !request.space.is_disabled()) else {
        forget(tier, hash);
        return Ok(());
    };
    let Ok(located) = request.spot.locate(py, tier) else {
        // A key that cannot be compared any more is nobody's.
        forget(tier, hash);
        return Ok(());
    };
    let now = tier.clock.now();
    let Some(room) = budget::room(state, tier, here, Need::CanWait) else {
        if let Some(refresher) = &mut tier.memory.lock().refresher {
            refresher.crowded(now);
        }
        return Ok(());
    };
    let place = Place { home: Some(asyncio::home_of(here)), refresh: Refresh::Behind, life: Life::Steady };
    let key = || request.spot.key.clone_ref(py);
    let lease = tier.memory.lock().refresh(&request.wish(place), (hash, key), located, now);
    if let Some(lease) = lease {
        request.began.store(now, Relaxed);
        task::run(py, state, &request, here, (lease, Some(room)), None);
    }
    Ok(())
}

/// Sets the timer, and drops what was kept of keys that are tracked no more.
fn wait(
    this: &Bound<'_, RefresherCore>,
    state: &State,
    tier: &Tier,
    here: &Bound<'_, PyAny>,
    until: Millis,
) -> PyResult<()> {
    let py = this.py();
    let mut memory = tier.memory.lock();
    let mut slot = tier.refresher.lock();
    let (Some(refresher), Some(running)) = (&mut memory.refresher, slot.as_mut()) else { return Ok(()) };
    let gone: Vec<(u64, Job)> = running.jobs.extract_if(|hash, _| !refresher.tracks(*hash)).collect();
    let (timer, context) = (running.timer.take(), running.context.clone_ref(py));
    drop((slot, memory));
    drop(gone);
    alarm::cancel(py, state, timer);
    if until >= NEVER {
        return Ok(());
    }
    let options = PyDict::new(py);
    options.set_item(&state.names.context, context)?;
    let seconds = (until.saturating_sub(tier.clock.now()) as f64 + 0.5) / 1000.0;
    let timer = here.call_method(&state.names.call_later, (seconds, this), Some(&options))?;
    if let Some(running) = tier.refresher.lock().as_mut() {
        running.timer = Some(timer.unbind());
    }
    Ok(())
}
