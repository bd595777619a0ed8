//! Which load runs here, with which permits, and for which others it waits: a context variable follows the loader through
//! its tasks and threads.
//!
//! A nested get of the key that is being loaded must not wait for itself: it loads directly. Loads that would wait for each
//! other in a circle are told so, whichever caches they are of. A lease that is over is waited for by nobody, so it is in
//! no circle.

use super::StateHandle;
use super::errors;
use super::request::Request;
use super::state::State;
use super::tier::Tier;
use crate::core::flight::{Awaited, FlightId, Hold, Home, Load, Who};
use pyo3::exceptions::{PyException, PyGeneratorExit, PyKeyboardInterrupt, PySystemExit};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr::null_mut;

/// The load that code runs for, or those that one call fills; and the calls it is part of that hold permits.
#[pyclass(frozen, module = "samovar._core")]
#[derive(Default)]
pub struct Loading {
    loads: Vec<Load>,
    holds: Vec<Hold>,
}

impl Loading {
    /// Who waits where this code does.
    fn who(&self) -> Vec<Who> {
        self.loads.iter().copied().map(Who::Load).chain(self.holds.iter().copied().map(Who::Hold)).collect()
    }
}

/// Who waits where the code that runs here does: nobody, if it is no part of a load or of a call that holds a permit.
pub fn who_is_here(py: Python<'_>, state: &State) -> PyResult<Vec<Who>> {
    Ok(current(py, state)?.map_or(Vec::new(), |here| here.get().who()))
}

/// The code that runs here is from now on part of a call that holds this permit. Gives the token that ends it.
pub fn holds<'py>(py: Python<'py>, state: &State, hold: Hold) -> PyResult<Bound<'py, PyAny>> {
    let mut loading = Loading::default();
    if let Some(here) = current(py, state)? {
        let here = here.get();
        (loading.loads, loading.holds) = (here.loads.clone(), here.holds.clone());
    }
    loading.holds.push(hold);
    set(py, state, Bound::new(py, loading)?.as_any())
}

fn current<'py>(py: Python<'py>, state: &State) -> PyResult<Option<Bound<'py, Loading>>> {
    let mut value = null_mut();
    // SAFETY: `lease_var` is a context variable; the value is a new reference or null if there is none.
    unsafe {
        if ffi::PyContextVar_Get(state.lease_var.as_ptr(), null_mut(), &mut value) < 0 {
            return Err(PyErr::fetch(py));
        }
        let value = Bound::from_owned_ptr_or_opt(py, value);
        Ok(value.and_then(|value| value.cast_into::<Loading>().ok()))
    }
}

fn number_of(tier: &Tier) -> u64 {
    std::ptr::from_ref(tier) as u64
}

/// A load was handed over to somebody on this thread.
pub fn moved(state: &State, tier: &Tier, flight: FlightId, thread: u64) {
    state.waits.lock().moved(Load { cache: number_of(tier), flight }, thread);
}

/// A load that somebody is about to wait for.
pub fn awaited(request: &Request, flight: FlightId, home: Home) -> Awaited {
    let load = Load { cache: number_of(&request.tier), flight };
    Awaited { load, thread: home.thread, name: request.recipe.name.clone() }
}

/// The same, if a load runs here: nobody waits for other callers, so they are in no circle.
pub fn awaited_by_load(
    py: Python<'_>,
    state: &State,
    request: &Request,
    flight: FlightId,
    home: Home,
) -> PyResult<Option<Awaited>> {
    Ok(current(py, state)?.map(|_| awaited(request, flight, home)))
}

/// True if this is the load that runs here: waiting for it would be waiting for oneself. A load further off that waits for
/// this one in turn is an error.
pub fn is_own(py: Python<'_>, state: &State, awaited: &Awaited) -> PyResult<bool> {
    let Some(here) = current(py, state)? else { return Ok(false) };
    let here = here.get();
    if here.loads.contains(&awaited.load) {
        return Ok(true);
    }
    let circle = state.waits.lock().circle(&here.who(), awaited);
    circle.map_or(Ok(false), |path| Err(errors::load_cycle(py, &path)))
}

/// Somebody's wait, as long as it lasts.
pub struct Wait {
    state: &'static State,
    /// A load, or those of a batch, and the calls it is part of; or a thread.
    who: Vec<Who>,
    load: Load,
}

impl Wait {
    /// The code of the load or the call that runs here waits; nothing to note if none does.
    pub fn of_load(py: Python<'_>, state: &'static State, awaited: &Awaited) -> PyResult<Option<Wait>> {
        let here = current(py, state)?;
        Ok(here.map(|here| Wait::begin(state, here.get().who(), awaited)))
    }

    /// This thread blocks.
    pub fn of_thread(state: &'static State, thread: u64, awaited: &Awaited) -> Wait {
        Wait::begin(state, vec![Who::Thread(thread)], awaited)
    }

    fn begin(state: &'static State, who: Vec<Who>, awaited: &Awaited) -> Wait {
        who.iter().for_each(|&who| state.waits.lock().begin(who, awaited.clone()));
        Wait { state, who, load: awaited.load }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.who.iter().for_each(|&who| self.state.waits.lock().end(who, self.load));
    }
}

/// A context like the present one, in which these flights are what is loaded here. For a task.
pub fn context<'py>(
    py: Python<'py>,
    state: &State,
    request: &Request,
    flights: impl IntoIterator<Item = FlightId>,
) -> PyResult<Context<'py>> {
    // SAFETY: a new reference, or null with an error set.
    let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
    let cache = number_of(&request.tier);
    let loads = flights.into_iter().map(|flight| Load { cache, flight }).collect();
    let loading = Bound::new(py, Loading { loads, holds: Vec::new() })?;
    let context = Context(context);
    context.within(|| set(py, state, loading.as_any()).map(drop))??;
    Ok(context)
}

/// The load that runs here, if any: for `samovar/_many.py`, which lets one call fill what several were asked for.
#[pyfunction]
pub fn _loading<'py>(py: Python<'py>, state: &StateHandle) -> PyResult<Option<Bound<'py, Loading>>> {
    current(py, state.0)
}

/// Says that the code which runs here does the work of all these loads.
#[pyfunction]
pub fn _load_together(py: Python<'_>, state: &StateHandle, loads: Vec<Py<Loading>>) -> PyResult<()> {
    let mut together = Loading::default();
    for load in loads.iter().map(|load| load.get()) {
        together.loads.extend(&load.loads);
        together.holds.extend(&load.holds);
    }
    set(py, state.0, Bound::new(py, together)?.as_any()).map(drop)
}

/// A `contextvars.Context`.
pub struct Context<'py>(pub Bound<'py, PyAny>);

impl Context<'_> {
    /// Runs `body` inside the context.
    pub fn within<R>(&self, body: impl FnOnce() -> R) -> PyResult<R> {
        let py = self.0.py();
        // SAFETY: the object is a context; it is left again whatever `body` does, short of a panic.
        unsafe {
            if ffi::PyContext_Enter(self.0.as_ptr()) < 0 {
                return Err(PyErr::fetch(py));
            }
            let result = body();
            if ffi::PyContext_Exit(self.0.as_ptr()) < 0 {
                return Err(PyErr::fetch(py));
            }
            Ok(result)
        }
    }
}

fn set<'py>(py: Python<'py>, state: &State, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: `lease_var` is a context variable; the token is a new reference or null with an error set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContextVar_Set(state.lease_var.as_ptr(), value.as_ptr())) }
}

/// True for what ends a load from outside rather than being its answer: cancellation, interruption, exit.
pub fn is_cancellation(py: Python<'_>, state: &State, error: &Bound<'_, PyAny>) -> bool {
    if error.is_instance_of::<PyException>() {
        return false;
    }
    error.is_instance_of::<PyKeyboardInterrupt>()
        || error.is_instance_of::<PySystemExit>()
        || error.is_instance_of::<PyGeneratorExit>()
        || state
            .asyncio_if_used(py)
            .is_some_and(|used| error.is_instance(used.cancelled_error.bind(py)).unwrap_or(false))
}
