//! From what went wrong to the exception a user sees. The classes live in `samovar._exceptions`.

use crate::error::{Error, StoreError, StoreFailure};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use std::time::Duration;

fn raise(py: Python<'_>, class: &str, text: String) -> PyErr {
    let made = py.import("samovar._exceptions").and_then(|module| module.getattr(class)?.call1((text.clone(),)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// A bad option.
pub fn config(py: Python<'_>, text: String) -> PyErr {
    raise(py, "ConfigError", text)
}

/// A value that cannot be written or read.
pub fn codec(py: Python<'_>, text: String) -> PyErr {
    raise(py, "CodecError", text)
}

/// An argument or key that cannot be one.
pub fn key_type(py: Python<'_>, text: String) -> PyErr {
    raise(py, "KeyTypeError", text)
}

/// A store behind the memory.
fn store_failed(py: Python<'_>, error: &StoreError) -> PyErr {
    let class = match error.kind {
        StoreFailure::Timeout => "StoreTimeout",
        StoreFailure::Unreachable => "StoreUnavailable",
        StoreFailure::Misconfigured | StoreFailure::Refused => "StoreError",
    };
    raise(py, class, error.to_string())
}

/// A loader that was not called, because of its `CircuitOpen` or `RateLimited`; `again` is when it may be worth asking anew.
pub fn not_called(py: Python<'_>, class: &str, text: String, again: Option<Duration>) -> PyErr {
    let seconds = again.map(|again| again.as_secs_f64());
    let made = py.import("samovar._exceptions").and_then(|module| module.getattr(class)?.call1((text, seconds)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// A load that was ended from outside.
pub fn load_ended(py: Python<'_>, name: &str) -> PyErr {
    let text = format!(
        "the load of {name} was cancelled from outside (its event loop or its cache was closed, or something cancelled its \
         task); nothing is stored, call again to load it anew"
    );
    raise(py, "LoadError", text)
}

/// A load that took too long.
pub fn load_timeout(py: Python<'_>, name: &str, timeout: Option<Duration>) -> PyErr {
    let limit = timeout.map(|timeout| format!(" {} s", timeout.as_secs_f64())).unwrap_or_default();
    let text = format!(
        "the load of {name} took longer than its timeout{limit} and was stopped; give it more time with timeout=, or \
         have the old value answer with stale_if_error="
    );
    raise(py, "LoadTimeout", text)
}

/// Loads that wait for each other.
pub fn load_cycle(py: Python<'_>, path: &[String]) -> PyErr {
    let around = path.iter().chain(path.first()).map(String::as_str).collect::<Vec<_>>().join(" -> ");
    raise(py, "LoadCycle", format!("{around} wait for each other; break the cycle by calling .uncached(...)"))
}

/// A call that waits for a permit which only its own end can free.
pub fn waits_for_itself(py: Python<'_>, text: String) -> PyErr {
    raise(py, "LoadCycle", text)
}

/// A miss where no asyncio loop runs.
pub fn no_loop(name: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "{name} is not in the cache, and loading it needs a running asyncio event loop; \
         on trio only hits are answered: use asyncio (or anyio on asyncio), or a sync function"
    ))
}

/// A StopIteration out of a callable of the user's would silently end whoever iterates or awaits around it: as in a
/// generator (PEP 479), it becomes a RuntimeError.
pub fn not_stop(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyStopIteration>(py) {
        return error;
    }
    let raised = PyRuntimeError::new_err("a function that the cache called raised StopIteration");
    raised.set_cause(py, Some(error));
    raised
}

/// What a waiter gets of the exception the starter gets: a shallow copy with the same traceback and cause, so that
/// raising it in many places does not grow one traceback; the same object if it cannot be copied.
pub fn copy_for_waiter<'py>(error: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    let copied = || -> PyResult<Bound<'py, PyAny>> {
        let py = error.py();
        let copy = py.import("copy")?.call_method1("copy", (error,))?;
        if !copy.get_type().is(error.get_type()) {
            return Err(PyRuntimeError::new_err("not a copy"));
        }
        copy.setattr("__traceback__", error.getattr("__traceback__")?)?;
        copy.setattr("__cause__", error.getattr("__cause__")?)?;
        copy.setattr("__suppress_context__", error.getattr("__suppress_context__")?)?;
        Ok(copy)
    };
    copied().unwrap_or_else(|_| error.clone())
}

/// The same for `samovar/_batch.py`, where one error answers many.
#[pyfunction]
pub fn _copy_error<'py>(error: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    copy_for_waiter(error)
}

/// A copy of an exception that holds on to nothing: no traceback, no context. The same object, stripped, if it cannot be
/// copied.
pub fn bare_copy<'py>(error: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let bare = copy_for_waiter(error);
    let none = error.py().None();
    for name in ["__traceback__", "__cause__", "__context__"] {
        bare.setattr(name, &none)?;
    }
    Ok(bare)
}

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        Python::attach(|py| match &error {
            Error::Config { .. } => config(py, error.to_string()),
            Error::Load { .. } => raise(py, "LoadError", error.to_string()),
            Error::LoadTimeout { .. } => raise(py, "LoadTimeout", error.to_string()),
            Error::LoadCycle { .. } => raise(py, "LoadCycle", error.to_string()),
            Error::Codec { .. } => raise(py, "CodecError", error.to_string()),
            Error::Store(store) => store_failed(py, store),
        })
    }
}
