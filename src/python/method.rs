//! What `f.invalidate` gives: the builtin method of a cached function, with the function's own parameters to show.
//!
//! A builtin method has one signature for all objects of its type. This one passes everything on to it, calls too, except
//! the question for its signature, which `samovar._signatures` answers. Only looking a method up costs more by it.
//!
//! # Safety
//! The unsafe functions of this file are slots and methods that the interpreter calls, and their helpers: with objects of
//! the type they belong to, valid arguments for as long as the call lasts, and the interpreter held.

use super::raw::{self, protect};
use super::state::State;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr::{addr_of_mut, null_mut};

/// See the module.
#[repr(C)]
struct Method {
    ob_base: ffi::PyObject,
    vectorcall: Option<ffi::vectorcallfunc>,
    weakrefs: *mut ffi::PyObject,
    /// The builtin method, bound.
    builtin: *mut ffi::PyObject,
    state: *const State,
}

/// Makes the type.
pub fn make_type(py: Python<'_>) -> PyResult<*mut ffi::PyTypeObject> {
    let members = raw::members(vec![
        raw::offset(c"__vectorcalloffset__", offset_of!(Method, vectorcall)),
        raw::offset(c"__weaklistoffset__", offset_of!(Method, weakrefs)),
    ]);
    let slots = [
        raw::slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        raw::slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        raw::slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void),
        raw::slot(ffi::Py_tp_getattro, getattro as *mut c_void),
        raw::slot(ffi::Py_tp_repr, repr as *mut c_void),
        raw::slot(ffi::Py_tp_richcompare, compare as *mut c_void),
        raw::slot(ffi::Py_tp_hash, hash as *mut c_void),
        raw::slot(ffi::Py_tp_members, members),
        raw::slot(
            ffi::Py_tp_methods,
            raw::methods(vec![raw::method(
                c"__reduce__",
                raw::Function::None(reduce),
                c"Pickled by reference, as the method of its function.",
            )]),
        ),
        raw::slot(ffi::Py_tp_doc, c"A method of a cached function.".as_ptr() as *mut c_void),
    ];
    let flags = ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_HAVE_GC
        | ffi::Py_TPFLAGS_HAVE_VECTORCALL
        | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION
        | ffi::Py_TPFLAGS_IMMUTABLETYPE;
    raw::make_type(py, c"samovar._core.Method", size_of::<Method>(), flags, &slots)
}

/// What an attribute of a function is to those who asked for it: a method that takes what calls take is wrapped, anything
/// else is as it was. Steals `found`; null with an error set when there is no memory.
///
/// # Safety
/// `found` is an owned reference, an attribute of `function`, and the interpreter is held.
pub unsafe fn shown(state: &State, function: *mut ffi::PyObject, found: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: only a builtin function is asked for its flags; every field behind the new header is written.
    unsafe {
        if ffi::Py_TYPE(found) != addr_of_mut!(ffi::PyCFunction_Type)
            || ffi::PyCFunction_GetFlags(found) & ffi::METH_KEYWORDS == 0
            || ffi::PyCFunction_GetSelf(found) != function
        {
            return found;
        }
        let method: *mut Method = ffi::PyType_GenericAlloc(state.method_type, 0).cast();
        if method.is_null() {
            ffi::Py_DECREF(found);
            return null_mut();
        }
        (&raw mut (*method).vectorcall).write(Some(call));
        (&raw mut (*method).weakrefs).write(null_mut());
        (&raw mut (*method).builtin).write(found);
        (&raw mut (*method).state).write(state);
        method.cast()
    }
}

unsafe fn builtin(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called with a method.
    unsafe { (*object.cast::<Method>()).builtin }
}

unsafe extern "C" fn call(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    flagged: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a vectorcall, passed on as it is.
    unsafe { ffi::PyObject_Vectorcall(builtin(object), args, flagged, names) }
}

unsafe extern "C" fn getattro(object: *mut ffi::PyObject, name: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: attribute access with valid objects; a str that is an attribute's name is interned or compared.
    unsafe {
        let names = &(*(*object.cast::<Method>()).state).names;
        if name == names.__signature__.as_ptr() || ffi::PyUnicode_Compare(name, names.__signature__.as_ptr()) == 0 {
            return protect(null_mut(), || signature(builtin(object)));
        }
        ffi::PyObject_GetAttr(builtin(object), name)
    }
}

#[cold]
unsafe fn signature(builtin: *mut ffi::PyObject) -> *mut ffi::PyObject {
    Python::attach(|py| {
        // SAFETY: a bound builtin method.
        let builtin = unsafe { Bound::from_borrowed_ptr(py, builtin) };
        let made = py.import("samovar._signatures").and_then(|module| module.getattr("of_method")?.call1((builtin,)));
        made.map_or_else(
            |error| {
                error.restore(py);
                null_mut()
            },
            Bound::into_ptr,
        )
    })
}

unsafe extern "C" fn repr(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called with a method.
    unsafe { ffi::PyObject_Repr(builtin(object)) }
}

unsafe extern "C" fn compare(object: *mut ffi::PyObject, other: *mut ffi::PyObject, how: c_int) -> *mut ffi::PyObject {
    // SAFETY: called with a method and any other object.
    unsafe {
        let alike = ffi::Py_TYPE(object) == ffi::Py_TYPE(other);
        ffi::PyObject_RichCompare(builtin(object), if alike { builtin(other) } else { other }, how)
    }
}

unsafe extern "C" fn hash(object: *mut ffi::PyObject) -> ffi::Py_hash_t {
    // SAFETY: called with a method.
    unsafe { ffi::PyObject_Hash(builtin(object)) }
}

unsafe extern "C" fn reduce(object: *mut ffi::PyObject, _unused: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called with a method; the name ends with a null.
    unsafe {
        let reduce = ffi::PyObject_GetAttrString(builtin(object), c"__reduce__".as_ptr());
        if reduce.is_null() {
            return null_mut();
        }
        let reduced = ffi::PyObject_CallNoArgs(reduce);
        ffi::Py_DECREF(reduce);
        reduced
    }
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: the collector calls with a method; `visit` runs no Python.
    unsafe {
        match visit(ffi::Py_TYPE(object).cast(), arg) {
            0 => visit(builtin(object), arg),
            stop => stop,
        }
    }
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: at reference count zero; the collector must not see a half-dead object.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let method: *mut Method = object.cast();
        if !(*method).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        let kind = ffi::Py_TYPE(object);
        let builtin = builtin(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(builtin);
        ffi::Py_DECREF(kind.cast());
    }
}
