//! Making raw types: the few C structures that PyO3 has no safe words for, and the guard around every entry.

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_int, c_uint, c_ulong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

/// Runs `body`; a panic becomes a RuntimeError in the caller's hands instead of the end of the process.
#[inline]
pub fn protect<R>(fallback: R, body: impl FnOnce() -> R) -> R {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result,
        Err(panic) => {
            report(panic.as_ref());
            fallback
        }
    }
}

#[cold]
fn report(panic: &(dyn std::any::Any + Send)) {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    Python::attach(|py| {
        PyRuntimeError::new_err(format!("internal error in samovar, please report it: {text}")).restore(py);
    });
}

/// Runs `body` while the exception that is set, if any, lies aside: whoever is raising it must not notice.
///
/// # Safety
/// The interpreter is held.
pub unsafe fn aside<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: what is taken is given back; either may be null.
    #[cfg(Py_3_12)]
    unsafe {
        let error = ffi::PyErr_GetRaisedException();
        let result = body();
        ffi::PyErr_SetRaisedException(error);
        result
    }
    // SAFETY: as above.
    #[cfg(not(Py_3_12))]
    unsafe {
        let (mut kind, mut error, mut trace) = (null_mut(), null_mut(), null_mut());
        ffi::PyErr_Fetch(&mut kind, &mut error, &mut trace);
        let result = body();
        ffi::PyErr_Restore(kind, error, trace);
        result
    }
}

/// One method's C function, by its calling convention.
pub enum Function {
    /// No arguments.
    None(unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject),
    /// One positional argument.
    One(unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject),
    /// Positional arguments in an array.
    Fast(unsafe extern "C" fn(*mut ffi::PyObject, *mut *mut ffi::PyObject, ffi::Py_ssize_t) -> *mut ffi::PyObject),
    /// Positional and keyword arguments in an array.
    Keywords(ffi::PyCFunctionFastWithKeywords),
}

/// A method's definition.
pub fn method(name: &'static CStr, function: Function, doc: &'static CStr) -> ffi::PyMethodDef {
    let (meth, flags) = match function {
        Function::None(f) => (ffi::PyMethodDefPointer { PyCFunction: f }, ffi::METH_NOARGS),
        Function::One(f) => (ffi::PyMethodDefPointer { PyCFunction: f }, ffi::METH_O),
        Function::Fast(f) => (ffi::PyMethodDefPointer { PyCFunctionFast: f }, ffi::METH_FASTCALL),
        Function::Keywords(f) => {
            (ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: f }, ffi::METH_FASTCALL | ffi::METH_KEYWORDS)
        }
    };
    ffi::PyMethodDef { ml_name: name.as_ptr(), ml_meth: meth, ml_flags: flags, ml_doc: doc.as_ptr() }
}

/// The table of a type's methods. The interpreter keeps pointing at it, so it is never freed.
pub fn methods(mut all: Vec<ffi::PyMethodDef>) -> *mut c_void {
    all.push(ffi::PyMethodDef::zeroed());
    Box::leak(all.into_boxed_slice()).as_mut_ptr().cast()
}

/// The table of a type's computed attributes, never freed.
pub fn getsets(mut all: Vec<ffi::PyGetSetDef>) -> *mut c_void {
    all.push(ffi::PyGetSetDef::default());
    Box::leak(all.into_boxed_slice()).as_mut_ptr().cast()
}

/// The table of a type's plain members, never freed.
pub fn members(mut all: Vec<ffi::PyMemberDef>) -> *mut c_void {
    all.push(ffi::PyMemberDef::default());
    Box::leak(all.into_boxed_slice()).as_mut_ptr().cast()
}

/// A hidden member that tells the interpreter an offset.
pub fn offset(name: &'static CStr, at: usize) -> ffi::PyMemberDef {
    ffi::PyMemberDef {
        name: name.as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: at as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: std::ptr::null(),
    }
}

/// A read-only computed attribute.
pub fn getter(name: &'static CStr, get: ffi::getter, doc: &'static CStr) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef { name: name.as_ptr(), get: Some(get), set: None, doc: doc.as_ptr(), closure: null_mut() }
}

/// A type's slot.
pub fn slot(slot: c_int, pfunc: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot, pfunc }
}

/// Makes a heap type.
pub fn make_type(
    py: Python<'_>,
    name: &'static CStr,
    size: usize,
    flags: c_ulong,
    slots: &[ffi::PyType_Slot],
) -> PyResult<*mut ffi::PyTypeObject> {
    let mut slots: Vec<ffi::PyType_Slot> = slots.iter().map(|slot| ffi::PyType_Slot { ..*slot }).collect();
    slots.push(ffi::PyType_Slot { slot: 0, pfunc: null_mut() });
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        basicsize: size as c_int,
        itemsize: 0,
        flags: flags as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the interpreter is held and the spec outlives the call; what it points to that outlives it is leaked.
    let made = unsafe { ffi::PyType_FromSpec(&raw mut spec) };
    if made.is_null() { Err(PyErr::fetch(py)) } else { Ok(made.cast()) }
}
