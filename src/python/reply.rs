//! The awaitable every async call returns: an answer that is there already, or a call that has yet to find one.
//!
//! A raw type, because no other way of awaiting is as cheap (docs/decisions.md, "The hit path"). It looks like a
//! coroutine to asyncio, trio and anyio: `send`, `throw`, `close`, `__await__`. An answer is handed over without a loop,
//! a task or an allocation: dead replies wait in a free list, and on 3.12 and later, where the interpreter takes answers
//! out of a `StopIteration`, one such exception is used again and again as long as nobody else holds it.
//!
//! What a pending reply does is [`Pending`]'s business; this file only speaks the iterator's protocol.
//!
//! # Safety
//! The unsafe functions of this file are slots and methods that the interpreter calls, and their helpers: with objects of
//! the type they belong to, valid arguments for as long as the call lasts, and the interpreter held.

use super::errors;
use super::raw::{self, protect};
use super::state::State;
use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CString, c_void};
use std::ptr::null_mut;

/// See the module.
#[repr(C)]
pub struct Reply {
    ob_base: ffi::PyObject,
    state: *const State,
    /// The answer, until it is taken; owned.
    value: *mut ffi::PyObject,
    call: Option<Box<dyn Pending>>,
}

/// How far one resumption got.
pub enum Step {
    /// Suspended on this future.
    Yield(Py<PyAny>),
    /// Ended with this value.
    Return(Py<PyAny>),
}

/// What is still to be done for an answer.
pub trait Pending {
    /// Goes on until the next suspension.
    fn resume(&mut self, py: Python<'_>) -> PyResult<Step>;
    /// Goes on with an exception: a cancellation, mostly.
    fn throw(&mut self, py: Python<'_>, error: PyErr) -> PyResult<Step>;
    /// The caller goes away.
    fn abandon(&mut self, py: Python<'_>);
    /// True before the first await.
    fn is_untouched(&self) -> bool;
    /// What to call it in a warning.
    fn name(&self) -> String;
}

/// Something that is done in one go, at the first await and not before.
pub struct Deed<F> {
    name: String,
    run: Option<F>,
}

impl<F: FnOnce(Python<'_>) -> PyResult<Py<PyAny>>> Deed<F> {
    /// Does `run` when awaited; `name` is for the warning if nobody does.
    pub fn new(name: impl Into<String>, run: F) -> Self {
        Deed { name: name.into(), run: Some(run) }
    }
}

impl<F: FnOnce(Python<'_>) -> PyResult<Py<PyAny>>> Pending for Deed<F> {
    fn resume(&mut self, py: Python<'_>) -> PyResult<Step> {
        match self.run.take() {
            Some(run) => run(py).map(Step::Return),
            None => Err(PyRuntimeError::new_err("already awaited")),
        }
    }

    fn throw(&mut self, _py: Python<'_>, error: PyErr) -> PyResult<Step> {
        self.run = None;
        Err(error)
    }

    fn abandon(&mut self, _py: Python<'_>) {
        self.run = None;
    }

    fn is_untouched(&self) -> bool {
        self.run.is_some()
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// Makes the type.
pub fn make_type(py: Python<'_>) -> PyResult<*mut ffi::PyTypeObject> {
    let slots = [
        raw::slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        raw::slot(ffi::Py_tp_iter, itself as *mut c_void),
        raw::slot(ffi::Py_tp_iternext, next as *mut c_void),
        raw::slot(ffi::Py_am_await, itself as *mut c_void),
        raw::slot(ffi::Py_am_send, am_send as *mut c_void),
        raw::slot(
            ffi::Py_tp_methods,
            raw::methods(vec![
                raw::method(
                    c"send",
                    raw::Function::One(send),
                    c"send($self, value, /)\n--\n\nRun until the next suspension, as a coroutine does.",
                ),
                raw::method(
                    c"throw",
                    raw::Function::Fast(throw),
                    c"throw($self, kind, value=None, traceback=None, /)\n--\n\nRaise inside the waiting call.",
                ),
                raw::method(c"close", raw::Function::None(close), c"close($self, /)\n--\n\nGive up waiting."),
            ]),
        ),
        raw::slot(ffi::Py_tp_doc, c"An awaitable answer of a cache. Await it once.".as_ptr() as *mut c_void),
    ];
    let flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION | ffi::Py_TPFLAGS_IMMUTABLETYPE;
    raw::make_type(py, c"samovar._core.Reply", size_of::<Reply>(), flags, &slots)
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

/// A reply that will look for its answer when it is first awaited.
pub fn pending(py: Python<'_>, state: &State, call: impl Pending + 'static) -> PyResult<Py<PyAny>> {
    // SAFETY: the interpreter is held; a null reply has set the error.
    unsafe {
        let mut reply = state.take_idle();
        if reply.is_null() {
            reply = allocate(state);
        }
        if reply.is_null() {
            return Err(PyErr::fetch(py));
        }
        (*reply).call = Some(Box::new(call));
        Ok(Bound::from_owned_ptr(py, reply.cast()).unbind())
    }
}

#[cold]
unsafe fn allocate(state: &State) -> *mut Reply {
    // SAFETY: the type is ours and its basicsize is Reply's; the fields behind the header are written before use.
    unsafe {
        let reply: *mut Reply = ffi::PyType_GenericAlloc(state.reply_type, 0).cast();
        if !reply.is_null() {
            (&raw mut (*reply).state).write(state);
            (&raw mut (*reply).value).write(null_mut());
            (&raw mut (*reply).call).write(None);
        }
        reply
    }
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: only replies get here, at reference count zero.
    unsafe {
        let reply: *mut Reply = object.cast();
        let state = &*(*reply).state;
        if !(*reply).value.is_null() || (*reply).call.is_some() {
            protect((), || abandon(reply));
        }
        #[cfg(Py_3_12)]
        forget_stopped(state);
        // From zero to one: what waits in the free list owns itself, and its reference to the type.
        if state.keep_idle(reply) {
            ffi::Py_INCREF(object);
            return;
        }
        let kind = ffi::Py_TYPE(object);
        std::ptr::drop_in_place(&raw mut (*reply).call);
        ffi::PyObject_Free(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// Nobody took the answer: warn as for a coroutine that was never awaited, and leave a flight that is waited for.
#[cold]
unsafe fn abandon(reply: *mut Reply) {
    Python::attach(|py| {
        // SAFETY: the reply is still whole.
        let (value, call) = unsafe { (std::mem::replace(&mut (*reply).value, null_mut()), (*reply).call.take()) };
        // SAFETY: the interpreter is held; the value was the reply's own reference.
        unsafe {
            raw::aside(|| {
                if !value.is_null() {
                    ffi::Py_DECREF(value);
                    warn(py, "a cached call");
                }
                if let Some(mut call) = call {
                    if call.is_untouched() {
                        warn(py, &call.name());
                    }
                    call.abandon(py);
                }
            });
        }
    });
}

fn warn(py: Python<'_>, name: &str) {
    let text = CString::new(format!("{name} was never awaited")).unwrap_or_default();
    if let Err(error) = PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1) {
        error.write_unraisable(py, None);
    }
}

unsafe extern "C" fn itself(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a slot is called with a valid object.
    unsafe { ffi::Py_INCREF(object) };
    object
}

unsafe extern "C" fn am_send(
    object: *mut ffi::PyObject,
    _sent: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: called with a reply and a place for the result.
    unsafe {
        let reply: *mut Reply = object.cast();
        let value = (*reply).value;
        if !value.is_null() {
            (*reply).value = null_mut();
            *result = value;
            return ffi::PySendResult::PYGEN_RETURN;
        }
        protect(ffi::PySendResult::PYGEN_ERROR, || advance(reply, None, result))
    }
}

unsafe extern "C" fn next(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called with a reply.
    unsafe {
        let reply: *mut Reply = object.cast();
        let value = (*reply).value;
        if !value.is_null() {
            (*reply).value = null_mut();
            stop_with(&*(*reply).state, value);
            return null_mut();
        }
        let mut result = null_mut();
        protect(null_mut(), || match advance(reply, None, &mut result) {
            ffi::PySendResult::PYGEN_NEXT => result,
            ffi::PySendResult::PYGEN_RETURN => {
                stop_with(&*(*reply).state, result);
                null_mut()
            }
            ffi::PySendResult::PYGEN_ERROR => null_mut(),
        })
    }
}

unsafe extern "C" fn send(object: *mut ffi::PyObject, _value: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as `next`.
    unsafe { stopped_if_silent(next(object)) }
}

unsafe extern "C" fn throw(
    object: *mut ffi::PyObject,
    args: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called with a reply and `count` arguments.
    unsafe {
        protect(null_mut(), || {
            let thrown = Python::attach(|py| thrown(py, std::slice::from_raw_parts(args, count as usize)));
            let reply: *mut Reply = object.cast();
            let value = std::mem::replace(&mut (*reply).value, null_mut());
            if !value.is_null() {
                ffi::Py_DECREF(value);
            }
            let mut result = null_mut();
            match advance(reply, Some(thrown), &mut result) {
                ffi::PySendResult::PYGEN_NEXT => result,
                ffi::PySendResult::PYGEN_RETURN => {
                    stop_with(&*(*reply).state, result);
                    null_mut()
                }
                ffi::PySendResult::PYGEN_ERROR => null_mut(),
            }
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

unsafe extern "C" fn close(object: *mut ffi::PyObject, _unused: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called with a reply.
    unsafe {
        protect(null_mut(), || {
            Python::attach(|py| {
                let reply: *mut Reply = object.cast();
                let value = std::mem::replace(&mut (*reply).value, null_mut());
                if !value.is_null() {
                    ffi::Py_DECREF(value);
                }
                if let Some(mut call) = (*reply).call.take() {
                    call.abandon(py);
                }
                py.None().into_ptr()
            })
        })
    }
}

/// Runs a pending call until it suspends or ends.
unsafe fn advance(reply: *mut Reply, thrown: Option<PyErr>, result: *mut *mut ffi::PyObject) -> ffi::PySendResult {
    Python::attach(|py| {
        // SAFETY: the reply is alive; its call is taken out while it runs, so a re-entrant use finds it empty.
        let Some(mut call) = (unsafe { (*reply).call.take() }) else {
            let error = thrown
                .unwrap_or_else(|| PyRuntimeError::new_err("cannot await the answer of a cached call a second time"));
            error.restore(py);
            return ffi::PySendResult::PYGEN_ERROR;
        };
        let step = match thrown {
            None => call.resume(py),
            Some(error) => call.throw(py, error),
        };
        match step {
            // SAFETY: `result` is the caller's place for the result.
            Ok(Step::Yield(future)) => unsafe {
                (*reply).call = Some(call);
                *result = future.into_ptr();
                ffi::PySendResult::PYGEN_NEXT
            },
            // SAFETY: as above.
            Ok(Step::Return(value)) => unsafe {
                *result = value.into_ptr();
                ffi::PySendResult::PYGEN_RETURN
            },
            Err(error) => {
                errors::not_stop(py, error).restore(py);
                ffi::PySendResult::PYGEN_ERROR
            }
        }
    })
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
#[cfg(Py_3_12)]
#[inline]
unsafe fn forget_stopped(state: &State) {
    // SAFETY: as in `stop_with`; `value` may be null.
    unsafe {
        let stop: *mut ffi::PyStopIterationObject = state.stop.get().cast();
        if !stop.is_null() && ffi::Py_REFCNT(stop.cast()) == 1 {
            let old = std::mem::replace(&mut (*stop).value, null_mut());
            ffi::Py_XDECREF(old);
        }
    }
}

/// Whether this build hands answers over without creating an exception; a test asserts it on 3.12 and later.
pub const REUSES_STOP_ITERATION: bool = cfg!(Py_3_12);
