//! Which load runs here: a context variable that follows the loader through its tasks and threads.
//!
//! A nested get of a key that is being loaded here must not wait for itself: it loads directly. A key further up is a
//! cycle that no wait can end, and says so. A lease that is over is ignored.

use super::StateHandle;
use super::errors;
use super::state::State;
use super::tier::Tier;
use crate::core::flight::FlightId;
use pyo3::exceptions::{PyException, PyGeneratorExit, PyKeyboardInterrupt, PySystemExit};
use pyo3::ffi;
use pyo3::prelude::*;
use std::collections::HashSet;
use std::ptr::null_mut;

/// One call of a loader, and the calls that led here.
#[pyclass(frozen, module = "samovar._core")]
pub struct Loading {
    /// What it fills: one flight, or those of a batch. The number is their cache's address.
    flights: Vec<(usize, FlightId)>,
    name: String,
    /// The load that asked for it, or those that asked for the members of a batch.
    parents: Vec<Py<Loading>>,
}

/// How a flight that was found relates to the loads that led here.
pub enum Relation {
    /// It is none of them: wait for it.
    Stranger,
    /// It is filled by the load that runs here: load directly.
    Own,
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

/// Whether waiting for `flight` here would be waiting for oneself.
pub fn relation(py: Python<'_>, state: &State, tier: &Tier, flight: FlightId) -> PyResult<Relation> {
    let Some(innermost) = current(py, state)? else { return Ok(Relation::Stranger) };
    let wanted = (std::ptr::from_ref(tier) as usize, flight);
    if innermost.get().flights.contains(&wanted) {
        return Ok(Relation::Own);
    }
    match innermost.get().way_up(wanted) {
        Some(path) => Err(errors::load_cycle(py, state, &path)),
        None => Ok(Relation::Stranger),
    }
}

impl Loading {
    /// The names from the load above that fills `wanted` down to this one, and that load's once more; `None` if there is
    /// no such load. Those above a batch may have loads above them in common.
    fn way_up(&self, wanted: (usize, FlightId)) -> Option<Vec<String>> {
        let mut seen = HashSet::new();
        let mut line = vec![(self, usize::MAX)];
        let mut at = 0;
        while let Some(&(loading, _)) = line.get(at) {
            if loading.flights.contains(&wanted) {
                let below = |&at: &usize| line.get(line[at].1).map(|_| line[at].1);
                let names = std::iter::successors(Some(at), below).map(|at| line[at].0.name.clone());
                return Some(names.chain([loading.name.clone()]).collect());
            }
            let parents = loading.parents.iter().filter(|parent| seen.insert(parent.as_ptr()));
            line.extend(parents.map(|parent| (parent.get(), at)));
            at += 1;
        }
        None
    }
}

/// A context like the present one, in which these flights of a cache are what is loaded here. For a task.
pub fn context<'py>(
    py: Python<'py>,
    state: &State,
    tier: &Tier,
    flights: impl IntoIterator<Item = FlightId>,
    name: &str,
) -> PyResult<Context<'py>> {
    // SAFETY: a new reference, or null with an error set.
    let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
    let parents = current(py, state)?.map(Bound::unbind).into_iter().collect();
    let tier = std::ptr::from_ref(tier) as usize;
    let flights = flights.into_iter().map(|flight| (tier, flight)).collect();
    let loading = Bound::new(py, Loading { flights, name: name.to_owned(), parents })?;
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
    let Some(first) = loads.first() else { return Ok(()) };
    let mut seen = HashSet::new();
    let mut together = Loading { flights: Vec::new(), name: first.get().name.clone(), parents: Vec::new() };
    for load in loads.iter().map(Py::get) {
        together.flights.extend_from_slice(&load.flights);
        let parents = load.parents.iter().filter(|parent| seen.insert(parent.as_ptr()));
        together.parents.extend(parents.map(|parent| parent.clone_ref(py)));
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
