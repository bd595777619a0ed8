//! The awaitables that async calls return: their protocol, and the one whose answer is there already.
//!
//! Raw types, because no other way of awaiting is as cheap (docs/decisions.md, "The hit path"). They look like
//! coroutines to asyncio, trio and anyio: `send`, `throw`, `close`, `__await__`. An answer is handed over without a loop,
//! a task or an allocation: dead replies wait in a free list, the collector never hears of them, and on 3.12 and later,
//! where the interpreter takes answers out of a `StopIteration`, one such exception is used again and again as long as
//! nobody else holds it.
//!
//! A call that has yet to find its answer is in `pending`.
//!
//! # Safety
//! The unsafe functions of this file are slots and methods that the interpreter calls, and their helpers: with objects of
//! the type they belong to, valid arguments for as long as the call lasts, and the interpreter held.

use super::anchor::Anchor;
use super::raw::{self, protect};
use super::state::State;
use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CString, c_ulong, c_void};
use std::ptr::null_mut;

/// See the module.
#[repr(C)]
pub struct Reply {
    ob_base: ffi::PyObject,
    state: *const State,
    /// The answer, until it is taken; owned.
    value: *mut ffi::PyObject,
}

/// What an awaitable type does in its own way; all else is the iterator's protocol.
pub trait Awaitable {
    /// Goes on until the next suspension, or with an exception: a cancellation, mostly. Writes what it yields or returns.
    ///
    /// # Safety
    /// `object` is one of this type, and `result` a place to write to.
    unsafe fn advance(
        object: *mut ffi::PyObject,
        thrown: Option<PyErr>,
        result: *mut *mut ffi::PyObject,
    ) -> ffi::PySendResult;

    /// The caller goes away.
    ///
    /// # Safety
    /// `object` is one of this type.
    unsafe fn give_up(py: Python<'_>, object: *mut ffi::PyObject);

    /// The module's state.
    ///
    /// # Safety
    /// `object` is one of this type.
    unsafe fn state<'a>(object: *mut ffi::PyObject) -> &'a State;
}

/// Makes the type of an answer that is there.
pub fn make_type(py: Python<'_>) -> PyResult<*mut ffi::PyTypeObject> {
    let slots = [
        raw::slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        raw::slot(ffi::Py_tp_doc, c"An awaitable answer of a cache. Await it once.".as_ptr() as *mut c_void),
    ];
    make_awaitable::<Reply>(py, c"samovar._core.Reply", size_of::<Reply>(), 0, coroutine_methods::<Reply>(), &slots)
}

/// The methods by which an awaitable passes for a coroutine.
pub fn coroutine_methods<T: Awaitable>() -> Vec<ffi::PyMethodDef> {
    vec![
        raw::method(
            c"send",
            raw::Function::One(send::<T>),
            c"send($self, value, /)\n--\n\nRun until the next suspension, as a coroutine does.",
        ),
        raw::method(
            c"throw",
            raw::Function::Fast(throw::<T>),
            c"throw($self, kind, value=None, traceback=None, /)\n--\n\nRaise inside the waiting call.",
        ),
        raw::method(c"close", raw::Function::None(close::<T>), c"close($self, /)\n--\n\nGive up waiting."),
    ]
}

/// Makes an awaitable type with methods and slots of its own.
pub fn make_awaitable<T: Awaitable>(
    py: Python<'_>,
    name: &'static std::ffi::CStr,
    size: usize,
    flags: c_ulong,
    methods: Vec<ffi::PyMethodDef>,
    own: &[ffi::PyType_Slot],
) -> PyResult<*mut ffi::PyTypeObject> {
    let mut slots = vec![
        raw::slot(ffi::Py_tp_iter, itself as *mut c_void),
        raw::slot(ffi::Py_tp_iternext, next::<T> as *mut c_void),
        raw::slot(ffi::Py_am_await, itself as *mut c_void),
        raw::slot(ffi::Py_am_send, am_send::<T> as *mut c_void),
        raw::slot(ffi::Py_tp_methods, raw::methods(methods)),
    ];
    slots.extend(own.iter().map(|slot| ffi::PyType_Slot { ..*slot }));
    let common = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION | ffi::Py_TPFLAGS_IMMUTABLETYPE;
    raw::make_type(py, name, size, common | flags, &slots)
}

/// A reply that has its answer. Steals `value`; null with an error set when there is no memory.
///
/// # Safety
/// `value` is an owned reference and the interpreter is held.
#[inline]
pub unsafe fn ready(state: &State, value: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let mut reply = state.take_idle();
    if reply.is_null() {
        // SAFETY: the interpreter is held.
        reply = unsafe { allocate(state) };
        if reply.is_null() {
            // SAFETY: the caller gave us the reference.
            unsafe { ffi::Py_DECREF(value) };
            return null_mut();
        }
    }
    // SAFETY: `reply` is a live reply of ours that nobody else knows yet; its value is null.
    unsafe { (*reply).value = value };
    reply.cast()
}

#[cold]
unsafe fn allocate(state: &State) -> *mut Reply {
    // SAFETY: the type is ours and its basicsize is Reply's; the fields behind the header are written before use.
    unsafe {
        let reply: *mut Reply = ffi::PyType_GenericAlloc(state.reply_type, 0).cast();
        if !reply.is_null() {
            (&raw mut (*reply).state).write(state);
            (&raw mut (*reply).value).write(null_mut());
        }
        reply
    }
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: only replies get here, at reference count zero.
    unsafe {
        let reply: *mut Reply = object.cast();
        let state = &*(*reply).state;
        if !(*reply).value.is_null() {
            protect((), || abandon(reply));
        }
        forget_stopped(state);
        // From zero to one: what waits in the free list owns itself, and its reference to the type.
        if state.keep_idle(reply) {
            ffi::Py_INCREF(object);
            return;
        }
        let kind = ffi::Py_TYPE(object);
        ffi::PyObject_Free(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// Nobody took the answer: warn as for a coroutine that was never awaited.
#[cold]
unsafe fn abandon(reply: *mut Reply) {
    let _anchor = Anchor::hold();
    Python::attach(|py| {
        // SAFETY: the reply is still whole, and the interpreter is held.
        unsafe {
            raw::aside(|| {
                Reply::give_up(py, reply.cast());
                warn(py, "a cached call");
            });
        }
    });
}

/// Says that an answer was not awaited.
pub fn warn(py: Python<'_>, name: &str) {
    let text = CString::new(format!("{name} was never awaited")).unwrap_or_default();
    if let Err(error) = PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1) {
        error.write_unraisable(py, None);
    }
}

impl Awaitable for Reply {
    #[inline]
    unsafe fn advance(
        object: *mut ffi::PyObject,
        thrown: Option<PyErr>,
        result: *mut *mut ffi::PyObject,
    ) -> ffi::PySendResult {
        // SAFETY: the value is the reply's own reference, and goes to the caller.
        unsafe {
            let reply: *mut Reply = object.cast();
            let value = (*reply).value;
            if thrown.is_none() && !value.is_null() {
                (*reply).value = null_mut();
                *result = value;
                return ffi::PySendResult::PYGEN_RETURN;
            }
            refuse(reply, thrown)
        }
    }

    unsafe fn give_up(_py: Python<'_>, object: *mut ffi::PyObject) {
        // SAFETY: the value is the reply's own reference, or null.
        unsafe {
            let reply: *mut Reply = object.cast();
            let value = std::mem::replace(&mut (*reply).value, null_mut());
            ffi::Py_XDECREF(value);
        }
    }

    #[inline]
    unsafe fn state<'a>(object: *mut ffi::PyObject) -> &'a State {
        // SAFETY: state lives as long as the process.
        unsafe { &*(*object.cast::<Reply>()).state }
    }
}

/// An answer that something is thrown into, or that was taken already.
#[cold]
unsafe fn refuse(reply: *mut Reply, thrown: Option<PyErr>) -> ffi::PySendResult {
    protect((), || {
        Python::attach(|py| {
            // SAFETY: a reply.
            unsafe { Reply::give_up(py, reply.cast()) };
            thrown.unwrap_or_else(second_time).restore(py);
        });
    });
    ffi::PySendResult::PYGEN_ERROR
}

/// The error of whoever awaits an answer again.
pub fn second_time() -> PyErr {
    PyRuntimeError::new_err("cannot await the answer of a cached call a second time")
}

unsafe extern "C" fn itself(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a slot is called with a valid object.
    unsafe { ffi::Py_INCREF(object) };
    object
}

unsafe extern "C" fn am_send<T: Awaitable>(
    object: *mut ffi::PyObject,
    _sent: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: called with an object of the type and a place for the result.
    unsafe { T::advance(object, None, result) }
}

unsafe extern "C" fn next<T: Awaitable>(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let mut result = null_mut();
    // SAFETY: called with an object of the type.
    unsafe {
        let step = T::advance(object, None, &mut result);
        yielded::<T>(object, step, result)
    }
}

/// What an iterator gives for a step: what it suspended on, or null with the exception that says how it ended.
#[inline]
unsafe fn yielded<T: Awaitable>(
    object: *mut ffi::PyObject,
    step: ffi::PySendResult,
    result: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    match step {
        ffi::PySendResult::PYGEN_NEXT => result,
        ffi::PySendResult::PYGEN_RETURN => {
            // SAFETY: the result is an owned reference.
            unsafe { stop_with(T::state(object), result) };
            null_mut()
        }
        ffi::PySendResult::PYGEN_ERROR => null_mut(),
    }
}

unsafe extern "C" fn send<T: Awaitable>(object: *mut ffi::PyObject, _value: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as `next`.
    unsafe { stopped_if_silent(next::<T>(object)) }
}

unsafe extern "C" fn throw<T: Awaitable>(
    object: *mut ffi::PyObject,
    args: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    let _anchor = Anchor::hold();
    // SAFETY: called with an object of the type and `count` arguments.
    unsafe {
        protect(null_mut(), || {
            let thrown = Python::attach(|py| thrown(py, std::slice::from_raw_parts(args, count as usize)));
            let mut result = null_mut();
            let step = T::advance(object, Some(thrown), &mut result);
            yielded::<T>(object, step, result)
        })
    }
}

/// The exception meant by `throw(type, value, traceback)`, or the TypeError that it is none.
unsafe fn thrown(py: Python<'_>, args: &[*mut ffi::PyObject]) -> PyErr {
    // SAFETY: the arguments are valid objects.
    let args: Vec<Bound<'_, PyAny>> = unsafe { args.iter().map(|&arg| Bound::from_borrowed_ptr(py, arg)).collect() };
    let given = match args.as_slice() {
        [kind, value, ..] if !value.is_none() && !value.is_instance(kind).unwrap_or(false) => kind.call1((value,)),
        [_, value, ..] if !value.is_none() => Ok(value.clone()),
        [first, ..] if first.is_instance_of::<pyo3::types::PyType>() => first.call0(),
        [first, ..] => Ok(first.clone()),
        [] => Err(PyTypeError::new_err("throw() needs an exception")),
    };
    match given {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

unsafe extern "C" fn close<T: Awaitable>(
    object: *mut ffi::PyObject,
    _unused: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called with an object of the type.
    unsafe {
        protect(null_mut(), || {
            Python::attach(|py| {
                T::give_up(py, object);
                py.None().into_ptr()
            })
        })
    }
}

/// `send` must raise where `__next__` may return null in silence.
unsafe fn stopped_if_silent(result: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter is held.
    unsafe {
        if result.is_null() && ffi::PyErr_Occurred().is_null() {
            ffi::PyErr_SetNone(ffi::PyExc_StopIteration);
        }
    }
    result
}

/// Ends an iteration with a value. Steals it.
#[cfg(not(Py_3_12))]
#[inline]
unsafe fn stop_with(_state: &State, value: *mut ffi::PyObject) {
    // SAFETY: `value` is owned; the exception takes a reference of its own.
    unsafe {
        let stop = ffi::PyObject_CallFunctionObjArgs(ffi::PyExc_StopIteration, value, null_mut::<ffi::PyObject>());
        ffi::Py_DECREF(value);
        if !stop.is_null() {
            ffi::PyErr_SetObject(ffi::PyExc_StopIteration, stop);
            ffi::Py_DECREF(stop);
        }
    }
}

/// Ends an iteration with a value. Steals it. Creating the exception would cost more than the whole hit, so one is kept;
/// if anything else holds it or has written to it, a new one takes its place.
#[cfg(Py_3_12)]
#[inline]
unsafe fn stop_with(state: &State, value: *mut ffi::PyObject) {
    // SAFETY: an exact StopIteration has this layout; at reference count one nobody else can see the change.
    unsafe {
        // What is let go may run Python, which may come here: so nothing is before the exception is raised.
        let mut retired = null_mut();
        let mut stop: *mut ffi::PyStopIterationObject = state.stop.get().cast();
        if stop.is_null() || ffi::Py_REFCNT(stop.cast()) != 1 || is_used(stop) {
            let fresh = ffi::PyObject_CallNoArgs(ffi::PyExc_StopIteration);
            if fresh.is_null() {
                ffi::Py_DECREF(value);
                return;
            }
            retired = state.stop.replace(fresh);
            stop = fresh.cast();
        }
        let old = std::mem::replace(&mut (*stop).value, value);
        ffi::Py_INCREF(stop.cast());
        ffi::PyErr_SetRaisedException(stop.cast());
        ffi::Py_XDECREF(old);
        ffi::Py_XDECREF(retired);
    }
}

#[cfg(Py_3_12)]
#[inline]
unsafe fn is_used(stop: *mut ffi::PyStopIterationObject) -> bool {
    // SAFETY: as in `stop_with`.
    unsafe {
        !(*stop).traceback.is_null()
            || !(*stop).context.is_null()
            || !(*stop).cause.is_null()
            || !(*stop).dict.is_null()
            || !(*stop).notes.is_null()
    }
}

/// The kept exception must not keep a value alive after the await that took it.
///
/// # Safety
/// The interpreter is held.
#[inline]
pub unsafe fn forget_stopped(state: &State) {
    // SAFETY: as in `stop_with`; `value` may be null.
    #[cfg(Py_3_12)]
    unsafe {
        let stop: *mut ffi::PyStopIterationObject = state.stop.get().cast();
        if !stop.is_null() && ffi::Py_REFCNT(stop.cast()) == 1 {
            let old = std::mem::replace(&mut (*stop).value, null_mut());
            ffi::Py_XDECREF(old);
        }
    }
    #[cfg(not(Py_3_12))]
    let _ = state;
}

/// Whether this build hands answers over without creating an exception; a test asserts it on 3.12 and later.
pub const REUSES_STOP_ITERATION: bool = cfg!(Py_3_12);
