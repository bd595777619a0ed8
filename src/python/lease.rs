//! Which load runs here: a context variable that follows the loader through its tasks and threads.
//!
//! A nested get of the key that is being loaded must not wait for itself: it loads directly. A key further up the chain
//! is a cycle that no wait can end, and says so. A lease that is over is ignored.

use super::errors;
use super::state::State;
use super::tier::Tier;
use crate::core::flight::FlightId;
use pyo3::exceptions::{PyException, PyGeneratorExit, PyKeyboardInterrupt, PySystemExit};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr::null_mut;

/// One load in the chain of loads that led here.
#[pyclass(frozen, module = "samovar._core")]
pub struct Loading {
    tier: usize,
    flight: FlightId,
    name: String,
    parent: Option<Py<Loading>>,
}

/// How a flight that was found relates to the loads that led here.
pub enum Relation {
    /// It is none of them: wait for it.
    Stranger,
    /// It is the load that runs here: load directly.
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
    let address = std::ptr::from_ref(tier) as usize;
    let is_it = |loading: &Loading| loading.tier == address && loading.flight == flight;
    if is_it(innermost.get()) {
        return Ok(Relation::Own);
    }
    let mut path = vec![innermost.get().name.clone()];
    let mut at = innermost.get().parent.as_ref();
    while let Some(loading) = at {
        path.push(loading.get().name.clone());
        if is_it(loading.get()) {
            path.reverse();
            path.push(loading.get().name.clone());
            return Err(errors::load_cycle(py, state, &path));
        }
        at = loading.get().parent.as_ref();
    }
    Ok(Relation::Stranger)
}

/// A context like the present one, in which this flight is the load that runs. For a task.
pub fn context<'py>(
    py: Python<'py>,
    state: &State,
    tier: &Tier,
    flight: FlightId,
    name: &str,
) -> PyResult<Context<'py>> {
    // SAFETY: a new reference, or null with an error set.
    let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
    let parent = current(py, state)?.map(Bound::unbind);
    let tier = std::ptr::from_ref(tier) as usize;
    let loading = Bound::new(py, Loading { tier, flight, name: name.to_owned(), parent })?;
    let context = Context(context);
    context.within(|| set(py, state, loading.as_any()).map(drop))??;
    Ok(context)
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
