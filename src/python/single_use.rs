//! Values that their first reader uses up: generators and other builtin iterators, and what can be awaited but once. A
//! cache that kept one would give every later reader nothing, or an error.
//!
//! Iterators of other types, open files say, may be meant to be shared: they are left alone.

use super::state::State;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::CStr;

/// Refuses to keep such a value; `source` is where it comes from. What would complain that nobody awaited it is closed.
#[inline]
pub fn refuse(state: &State, value: &Bound<'_, PyAny>, source: impl FnOnce() -> String) -> PyResult<()> {
    // SAFETY: the type of a valid object; its slots are read only.
    let suspect = unsafe {
        let kind = ffi::Py_TYPE(value.as_ptr());
        (*kind).tp_iternext.is_some() || !(*kind).tp_as_async.is_null()
    };
    if suspect { examine(state, value, source) } else { Ok(()) }
}

#[cold]
fn examine(state: &State, value: &Bound<'_, PyAny>, source: impl FnOnce() -> String) -> PyResult<()> {
    let (object, kind) = (value.as_ptr(), value.get_type_ptr());
    // SAFETY: type checks on a valid object.
    let (awaited, iterated) = unsafe {
        let ours = kind == state.reply_type || kind == state.pending_type;
        (ours || ffi::PyCoro_CheckExact(object) != 0, ffi::PyAsyncGen_CheckExact(object) != 0 || is_iterator(kind))
    };
    let (what, cure) = match (awaited, iterated) {
        (true, _) => ("something to be awaited", "await it first"),
        (_, true) => ("an iterator", "make it a list"),
        _ => return Ok(()),
    };
    let named = value.get_type().name()?;
    if awaited {
        value.call_method0("close")?;
    }
    let source = source();
    Err(PyTypeError::new_err(format!(
        "{source} is {what} ({named}), which its first reader would use up: it cannot be cached; {cure}"
    )))
}

/// True for the iterators of builtin types. Their types are static and named without a module.
///
/// # Safety
/// `kind` is a type.
unsafe fn is_iterator(kind: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: the caller passes a type, whose name is a C string.
    unsafe {
        let builtin = (*kind).tp_flags & ffi::Py_TPFLAGS_HEAPTYPE == 0 && (*kind).tp_iternext.is_some();
        builtin && !CStr::from_ptr((*kind).tp_name).to_bytes().contains(&b'.')
    }
}
