//! The awaitable of a call that has yet to find its answer.
//!
//! Nothing happens before the first await. What happens then is [`Pending`]'s business; here are the Python object
//! around it and the collector's view of it: an answer that nobody awaits may be in a cycle with its own arguments.
//! Answers that are there already are in `reply`, and the collector hears nothing of them.
//!
//! # Safety
//! The unsafe functions of this file are slots that the interpreter calls: with objects of the type, valid arguments for
//! as long as the call lasts, and the interpreter held.

use super::anchor::Anchor;
use super::asyncio::Call;
use super::errors;
use super::raw::{self, protect};
use super::recipe::Recipe;
use super::reply::{self, Awaitable};
use super::state::State;
use super::tier::Object;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{c_int, c_void};
use std::sync::Arc;

/// Tells the collector of objects that are owned, each exactly once, until `visit` says to stop.
pub trait Holds {
    /// False if it was stopped.
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool;
}

impl Holds for Object {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        visit(self)
    }
}

impl<A: Holds, B: Holds> Holds for (A, B) {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        self.0.visit(visit) && self.1.visit(visit)
    }
}

/// How far one resumption got.
pub enum Step {
    /// Suspended on this future.
    Yield(Object),
    /// Ended with this value.
    Return(Object),
}

/// What is still to be done for an answer.
pub trait Pending: Holds {
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

/// Something that is done in one go, at the first await and not before, with what it needs for it.
pub struct Deed<T> {
    recipe: Arc<Recipe>,
    what: &'static str,
    needs: Option<T>,
    run: fn(Python<'_>, T) -> PyResult<Object>,
}

impl<T: Holds> Deed<T> {
    /// Does `run` when awaited; the function's recipe and the method's name are for the warning if nobody does.
    pub fn new(recipe: Arc<Recipe>, what: &'static str, needs: T, run: fn(Python<'_>, T) -> PyResult<Object>) -> Self {
        Deed { recipe, what, needs: Some(needs), run }
    }
}

impl<T: Holds> Holds for Deed<T> {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        self.needs.as_ref().is_none_or(|needs| needs.visit(visit))
    }
}

impl<T: Holds> Pending for Deed<T> {
    fn resume(&mut self, py: Python<'_>) -> PyResult<Step> {
        match self.needs.take() {
            Some(needs) => (self.run)(py, needs).map(Step::Return),
            None => Err(PyRuntimeError::new_err("already awaited")),
        }
    }

    fn throw(&mut self, _py: Python<'_>, error: PyErr) -> PyResult<Step> {
        self.needs = None;
        Err(error)
    }

    fn abandon(&mut self, _py: Python<'_>) {
        self.needs = None;
    }

    fn is_untouched(&self) -> bool {
        self.needs.is_some()
    }

    fn name(&self) -> String {
        format!("{}.{}()", self.recipe.name, self.what)
    }
}

/// What a reply will do. A call lies within it: there may be thousands that wait for one load.
pub enum Todo {
    /// Finds the answer, and waits for it if need be.
    Call(Call),
    /// Something else.
    Deed(Box<dyn Pending>),
}

impl Todo {
    fn as_pending(&mut self) -> &mut dyn Pending {
        match self {
            Todo::Call(call) => call,
            Todo::Deed(deed) => &mut **deed,
        }
    }
}

impl Holds for Todo {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        match self {
            Todo::Call(call) => call.visit(visit),
            Todo::Deed(deed) => deed.visit(visit),
        }
    }
}

/// See the module.
#[repr(C)]
struct PendingReply {
    ob_base: ffi::PyObject,
    state: *const State,
    /// None while it runs, and once it is over.
    todo: Option<Todo>,
}

/// Makes the type.
pub fn make_type(py: Python<'_>) -> PyResult<*mut ffi::PyTypeObject> {
    let slots = [
        raw::slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        raw::slot(ffi::Py_tp_finalize, finalize as *mut c_void),
        raw::slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        raw::slot(ffi::Py_tp_clear, clear as *mut c_void),
        raw::slot(
            ffi::Py_tp_doc,
            c"An awaitable call of a cache that is not answered yet. Await it once.".as_ptr() as *mut c_void,
        ),
    ];
    let flags = ffi::Py_TPFLAGS_HAVE_GC;
    let (name, size) = (c"samovar._core.PendingReply", size_of::<PendingReply>());
    reply::make_awaitable::<PendingReply>(py, name, size, flags, reply::coroutine_methods::<PendingReply>(), &slots)
}

/// A reply that will look for its answer when it is first awaited.
pub fn pending(py: Python<'_>, state: &State, todo: Todo) -> PyResult<Object> {
    // SAFETY: the type is ours; the collector is told of the object while it has nothing to do, and runs nothing in between.
    unsafe {
        let object: *mut PendingReply = ffi::PyType_GenericAlloc(state.pending_type, 0).cast();
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        (&raw mut (*object).state).write(state);
        (&raw mut (*object).todo).write(Some(todo));
        Ok(Bound::from_owned_ptr(py, object.cast()).unbind())
    }
}

impl Awaitable for PendingReply {
    unsafe fn advance(
        object: *mut ffi::PyObject,
        thrown: Option<PyErr>,
        result: *mut *mut ffi::PyObject,
    ) -> ffi::PySendResult {
        let _anchor = Anchor::hold();
        protect(ffi::PySendResult::PYGEN_ERROR, || {
            Python::attach(|py| {
                // SAFETY: the reply is alive; what it does is taken out while it runs, so a re-entrant use finds it empty.
                let step = match unsafe { (*object.cast::<Self>()).todo.take() } {
                    None => Err(thrown.unwrap_or_else(reply::second_time)),
                    Some(mut todo) => {
                        let pending = todo.as_pending();
                        let step = match thrown {
                            None => pending.resume(py),
                            Some(error) => pending.throw(py, error),
                        };
                        if let Ok(Step::Yield(_)) = step {
                            // SAFETY: as above.
                            unsafe { (*object.cast::<Self>()).todo = Some(todo) };
                        }
                        step.map_err(|error| errors::not_stop(py, error))
                    }
                };
                let (object, how) = match step {
                    Ok(Step::Yield(future)) => (future.into_ptr(), ffi::PySendResult::PYGEN_NEXT),
                    Ok(Step::Return(value)) => (value.into_ptr(), ffi::PySendResult::PYGEN_RETURN),
                    Err(error) => {
                        error.restore(py);
                        return ffi::PySendResult::PYGEN_ERROR;
                    }
                };
                // SAFETY: the caller's place for the result.
                unsafe { *result = object };
                how
            })
        })
    }

    unsafe fn give_up(py: Python<'_>, object: *mut ffi::PyObject) {
        // SAFETY: a pending reply.
        if let Some(mut todo) = unsafe { (*object.cast::<Self>()).todo.take() } {
            let _anchor = Anchor::hold();
            todo.as_pending().abandon(py);
        }
    }

    unsafe fn state<'a>(object: *mut ffi::PyObject) -> &'a State {
        // SAFETY: state lives as long as the process.
        unsafe { &*(*object.cast::<Self>()).state }
    }
}

/// Nobody waits for the answer any more: warn if nobody ever did, as for a coroutine, and leave a flight that is waited for.
unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    let _anchor = Anchor::hold();
    protect((), || {
        Python::attach(|py| {
            // SAFETY: the reply is still whole, and the interpreter is held.
            unsafe {
                raw::aside(|| {
                    let Some(mut todo) = (*object.cast::<PendingReply>()).todo.take() else { return };
                    let pending = todo.as_pending();
                    if pending.is_untouched() {
                        reply::warn(py, &pending.name());
                    }
                    pending.abandon(py);
                });
            }
        });
    });
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: the collector calls with a pending reply; `visit` runs no Python.
    unsafe {
        let mut result = visit(ffi::Py_TYPE(object).cast(), arg);
        if let (0, Some(todo)) = (result, &(*object.cast::<PendingReply>()).todo) {
            todo.visit(&mut |object| {
                result = visit(object.as_ptr(), arg);
                result == 0
            });
        }
        result
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: the collector calls with a pending reply that nobody can reach any more.
    if let Some(todo) = unsafe { (*object.cast::<PendingReply>()).todo.take() } {
        let _anchor = Anchor::hold();
        protect((), || Python::attach(|_| drop(todo)));
    }
    0
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: at reference count zero; the collector must not see a half-dead object.
    unsafe {
        // An object that its own finalizer brought back to life stays.
        if (*object.cast::<PendingReply>()).todo.is_some() && ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        clear(object);
        reply::forget_stopped(PendingReply::state(object));
        let kind = ffi::Py_TYPE(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}
