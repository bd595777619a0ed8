//! A future in asyncio's terms, for those who wait for a store's answers.
//!
//! To a task, to `gather` and to `wait` it is what `asyncio.Future` is; what differs is how its waiters are woken. asyncio's own has
//! the loop call each one of them later, which is four frames of Python and a third of what a get costs. The waiters of these are
//! called by a [`Bridge`](super::bridge::Bridge), for all answers that came together in one call of the loop's: in the same pass,
//! in the same order, each in its own context.
//!
//! # Safety
//! The unsafe functions of this file are slots and methods that the interpreter calls: with objects of the type, valid arguments
//! for as long as the call lasts, and the interpreter held.

use super::anchor::Anchor;
use super::bridge::Few;
use super::errand::Answered;
use super::guarded::Guarded;
use super::pending::Holds;
use super::raw::{self, protect};
use super::reply::{self, Awaitable};
use super::state::State;
use super::tier::{Object, truth};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;
use std::ptr::null_mut;

/// See the module.
#[repr(C)]
struct Raw {
    ob_base: ffi::PyObject,
    state: *const State,
    /// `_asyncio_future_blocking`: true when it is yielded to a task, which then waits for it.
    blocking: Cell<c_char>,
    event_loop: Object,
    inside: Guarded<Inside>,
}

struct Inside {
    outcome: Outcome,
    /// What to call when it is done, each in its context.
    waiters: Few<(Object, Object)>,
    /// What an errand is told.
    answered: Answered,
}

enum Outcome {
    Open,
    Value(Object),
    Error(Object),
    /// With a message, or None.
    Cancelled(Object),
}

/// A reference to one.
pub struct Future(Object);

/// Makes the type.
pub fn make_type(py: Python<'_>) -> PyResult<*mut ffi::PyTypeObject> {
    let blocking = ffi::PyMemberDef {
        name: c"_asyncio_future_blocking".as_ptr(),
        type_code: ffi::Py_T_BOOL,
        offset: offset_of!(Raw, blocking) as ffi::Py_ssize_t,
        flags: 0,
        doc: std::ptr::null(),
    };
    let message = raw::getter(c"_cancel_message", cancel_message, c"Why it was cancelled, or None: for `gather`.");
    let slots = [
        raw::slot(ffi::Py_tp_getset, raw::getsets(vec![message])),
        raw::slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        raw::slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        raw::slot(ffi::Py_tp_clear, clear as *mut c_void),
        raw::slot(ffi::Py_tp_members, raw::members(vec![blocking])),
        raw::slot(
            ffi::Py_tp_doc,
            c"A future of what a store answers, as asyncio.Future is one.".as_ptr() as *mut c_void,
        ),
    ];
    let methods = vec![
        raw::method(c"get_loop", raw::Function::None(get_loop), c"get_loop($self, /)\n--\n\nThe loop it belongs to."),
        raw::method(c"done", raw::Function::None(done), c"done($self, /)\n--\n\nTrue if nothing is waited for."),
        raw::method(c"cancelled", raw::Function::None(cancelled), c"cancelled($self, /)\n--\n\nTrue if it was."),
        raw::method(c"result", raw::Function::None(result), c"result($self, /)\n--\n\nWhat came of it, or raises it."),
        raw::method(
            c"exception",
            raw::Function::None(exception),
            c"exception($self, /)\n--\n\nThe error that came of it, or None.",
        ),
        raw::method(
            c"cancel",
            raw::Function::Keywords(cancel),
            c"cancel($self, /, msg=None)\n--\n\nWait no more; False if it is done already.",
        ),
        raw::method(
            c"_make_cancelled_error",
            raw::Function::None(make_cancelled_error),
            c"_make_cancelled_error($self, /)\n--\n\nWhat its cancellation raises: for `gather`.",
        ),
        raw::method(
            c"add_done_callback",
            raw::Function::Keywords(add_done_callback),
            c"add_done_callback($self, fn, /, *, context=None)\n--\n\nHave this called when it is done.",
        ),
        raw::method(
            c"remove_done_callback",
            raw::Function::One(remove_done_callback),
            c"remove_done_callback($self, fn, /)\n--\n\nTake back what was to be called; how often it was.",
        ),
    ];
    let flags = ffi::Py_TPFLAGS_HAVE_GC;
    reply::make_awaitable::<Raw>(py, c"samovar._core.Future", size_of::<Raw>(), flags, methods, &slots)
}

impl Future {
    /// One of this loop's, that nobody waits for yet.
    pub fn new(state: &State, event_loop: &Bound<'_, PyAny>) -> PyResult<Future> {
        let inside = Inside { outcome: Outcome::Open, waiters: Few::new(), answered: Answered::NotYet };
        // SAFETY: the type is ours; its fields are written before anybody sees them, and nothing runs in between.
        unsafe {
            let object: *mut Raw = ffi::PyType_GenericAlloc(state.future_type, 0).cast();
            if object.is_null() {
                return Err(PyErr::fetch(event_loop.py()));
            }
            (&raw mut (*object).state).write(state);
            (&raw mut (*object).blocking).write(Cell::new(0));
            (&raw mut (*object).event_loop).write(event_loop.clone().unbind());
            (&raw mut (*object).inside).write(Guarded::new(inside));
            Ok(Future(Bound::from_owned_ptr(event_loop.py(), object.cast()).unbind()))
        }
    }

    fn raw(&self) -> &Raw {
        // SAFETY: it refers to one, which lives as long as the reference.
        unsafe { &*self.0.as_ptr().cast() }
    }

    /// Another reference.
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Future(self.0.clone_ref(py))
    }

    /// As Python has it.
    pub fn object(&self) -> &Object {
        &self.0
    }

    /// The same.
    pub fn into_object(self) -> Object {
        self.0
    }

    /// As `await` yields it: the task that gets it waits for it.
    pub fn to_be_awaited(&self, py: Python<'_>) -> Object {
        self.raw().blocking.set(1);
        self.0.clone_ref(py)
    }

    /// What an errand is told there; something else is laid in its place.
    pub fn replace(&self, answered: Answered) -> Answered {
        std::mem::replace(&mut self.raw().inside.lock().answered, answered)
    }

    /// Lays down what came, unless it is done already. Wakes nobody.
    pub fn settle(&self, py: Python<'_>, came: PyResult<Object>) {
        let mut outcome = match came {
            Ok(value) => Outcome::Value(value),
            Err(error) => Outcome::Error(error.into_value(py).into_any()),
        };
        let mut inside = self.raw().inside.lock();
        if matches!(inside.outcome, Outcome::Open) {
            std::mem::swap(&mut inside.outcome, &mut outcome);
        }
        drop(inside);
    }

    /// True if somebody waits for it.
    pub fn is_awaited(&self) -> bool {
        !self.raw().inside.lock().waiters.is_empty()
    }

    /// Calls who waits for it, in this moment: for a callback of the loop's that nobody else's code is below.
    ///
    /// # Errors
    ///
    /// What it raised.
    pub fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let waiters = std::mem::take(&mut self.raw().inside.lock().waiters);
        let Ok([(callback, context)]) =
            waiters.into_inner().map_err(|many| self.raw().call_soon(py, self.0.bind(py), many))
        else {
            return Ok(());
        };
        // SAFETY: valid objects; what was entered is left again, also after an exception, which lies aside meanwhile.
        unsafe {
            if ffi::PyContext_Enter(context.as_ptr()) != 0 {
                return Err(PyErr::fetch(py));
            }
            let called = Bound::from_owned_ptr_or_err(py, ffi::PyObject_CallOneArg(callback.as_ptr(), self.0.as_ptr()));
            let left = ffi::PyContext_Exit(context.as_ptr());
            called?;
            if left == 0 { Ok(()) } else { Err(PyErr::fetch(py)) }
        }
    }

    /// Has the loop call who waits for it, each by itself, as it does for futures of its own.
    pub fn wake_later(&self, py: Python<'_>) {
        let waiters = std::mem::take(&mut self.raw().inside.lock().waiters);
        self.raw().call_soon(py, self.0.bind(py), waiters);
    }
}

impl Raw {
    fn call_soon(&self, py: Python<'_>, own: &Bound<'_, PyAny>, waiters: Few<(Object, Object)>) {
        // SAFETY: state lives as long as the process.
        let names = unsafe { &(*self.state).names };
        for (callback, context) in waiters {
            let named = PyDict::new(py);
            let called = named.set_item(&names.context, context).and_then(|()| {
                self.event_loop.bind(py).call_method(&names.call_soon, (callback, own), Some(&named)).map(drop)
            });
            // A closed loop runs nothing any more.
            drop(called);
        }
    }

    /// What `result()` gives; an error if it is not done.
    fn result(&self, py: Python<'_>) -> PyResult<Object> {
        enum Gives {
            Value(Object),
            Error(Object),
            Cancelled(Object),
            Nothing,
        }
        let gives = match &self.inside.lock().outcome {
            Outcome::Open => Gives::Nothing,
            Outcome::Value(value) => Gives::Value(value.clone_ref(py)),
            Outcome::Error(error) => Gives::Error(error.clone_ref(py)),
            Outcome::Cancelled(message) => Gives::Cancelled(message.clone_ref(py)),
        };
        match gives {
            Gives::Value(value) => Ok(value),
            Gives::Error(error) => Err(PyErr::from_value(error.into_bound(py))),
            Gives::Cancelled(message) => Err(self.cancelled_error(py, message)),
            Gives::Nothing => {
                let class = py.import("asyncio")?.getattr("InvalidStateError")?;
                Err(PyErr::from_value(class.call1(("Result is not set.",))?))
            }
        }
    }

    fn cancel_message(&self, py: Python<'_>) -> Object {
        let message = if let Outcome::Cancelled(message) = &self.inside.lock().outcome {
            Some(message.clone_ref(py))
        } else {
            None
        };
        message.unwrap_or_else(|| py.None())
    }

    fn cancelled_error(&self, py: Python<'_>, message: Object) -> PyErr {
        // SAFETY: state lives as long as the process.
        let made = unsafe { &*self.state }.asyncio(py).and_then(|asyncio| {
            let class = asyncio.cancelled_error.bind(py);
            if message.is_none(py) { class.call0() } else { class.call1((message,)) }
        });
        made.map_or_else(|error| error, PyErr::from_value)
    }
}

impl Awaitable for Raw {
    unsafe fn advance(
        object: *mut ffi::PyObject,
        thrown: Option<PyErr>,
        result: *mut *mut ffi::PyObject,
    ) -> ffi::PySendResult {
        let _anchor = Anchor::hold();
        protect(ffi::PySendResult::PYGEN_ERROR, || {
            Python::attach(|py| {
                // SAFETY: an object of the type, and the caller's place for the result.
                let (raw, result) = unsafe { (&*object.cast::<Raw>(), &mut *result) };
                let open = matches!(raw.inside.lock().outcome, Outcome::Open);
                if open && thrown.is_none() {
                    raw.blocking.set(1);
                    // SAFETY: a valid object.
                    unsafe { ffi::Py_INCREF(object) };
                    *result = object;
                    return ffi::PySendResult::PYGEN_NEXT;
                }
                match thrown.map_or_else(|| raw.result(py), Err) {
                    Ok(value) => {
                        *result = value.into_ptr();
                        ffi::PySendResult::PYGEN_RETURN
                    }
                    Err(error) => {
                        error.restore(py);
                        ffi::PySendResult::PYGEN_ERROR
                    }
                }
            })
        })
    }

    unsafe fn give_up(_py: Python<'_>, _object: *mut ffi::PyObject) {}

    unsafe fn state<'a>(object: *mut ffi::PyObject) -> &'a State {
        // SAFETY: state lives as long as the process.
        unsafe { &*(*object.cast::<Raw>()).state }
    }
}

/// A method's body: what it gives, or the error that is set.
unsafe fn body(
    object: *mut ffi::PyObject,
    run: impl FnOnce(Python<'_>, &Raw) -> PyResult<Object>,
) -> *mut ffi::PyObject {
    let _anchor = Anchor::hold();
    protect(null_mut(), || {
        Python::attach(|py| {
            // SAFETY: a method is called with an object of the type.
            match run(py, unsafe { &*object.cast::<Raw>() }) {
                Ok(value) => value.into_ptr(),
                Err(error) => {
                    error.restore(py);
                    null_mut()
                }
            }
        })
    })
}

unsafe extern "C" fn get_loop(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: an object of the type, whose loop is a valid object.
    unsafe { ffi::Py_NewRef((*object.cast::<Raw>()).event_loop.as_ptr()) }
}

unsafe extern "C" fn done(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as the caller says.
    unsafe { body(object, |py, raw| truth(py, !matches!(raw.inside.lock().outcome, Outcome::Open))) }
}

unsafe extern "C" fn cancelled(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as the caller says.
    unsafe { body(object, |py, raw| truth(py, matches!(raw.inside.lock().outcome, Outcome::Cancelled(_)))) }
}

unsafe extern "C" fn cancel_message(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: as the caller says.
    unsafe { body(object, |py, raw| Ok(raw.cancel_message(py))) }
}

unsafe extern "C" fn make_cancelled_error(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as the caller says.
    unsafe { body(object, |py, raw| Ok(raw.cancelled_error(py, raw.cancel_message(py)).into_value(py).into_any())) }
}

unsafe extern "C" fn result(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as the caller says.
    unsafe { body(object, |py, raw| raw.result(py)) }
}

unsafe extern "C" fn exception(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let get = |py: Python<'_>, raw: &Raw| {
        let error =
            if let Outcome::Error(error) = &raw.inside.lock().outcome { Some(error.clone_ref(py)) } else { None };
        error.map_or_else(|| raw.result(py).map(|_| py.None()), Ok)
    };
    // SAFETY: as the caller says.
    unsafe { body(object, get) }
}

unsafe extern "C" fn cancel(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let cancel = |py: Python<'_>, raw: &Raw| {
        // SAFETY: these arguments, and this object.
        let (given, own) = unsafe { (given(py, args, count, names), Bound::from_borrowed_ptr(py, object)) };
        let message = match (given.0.into_iter().next(), given.1) {
            (Some(message), None) => message.unbind(),
            (None, Some((name, message))) if name == "msg" => message.unbind(),
            (None, None) => py.None(),
            _ => return Err(PyTypeError::new_err("cancel() takes msg")),
        };
        let mut inside = raw.inside.lock();
        if !matches!(inside.outcome, Outcome::Open) {
            drop(inside);
            return truth(py, false);
        }
        inside.outcome = Outcome::Cancelled(message);
        let waiters = std::mem::take(&mut inside.waiters);
        drop(inside);
        raw.call_soon(py, &own, waiters);
        truth(py, true)
    };
    // SAFETY: as the caller says.
    unsafe { body(object, cancel) }
}

unsafe extern "C" fn add_done_callback(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let add = |py: Python<'_>, raw: &Raw| {
        // SAFETY: these arguments, and this object.
        let (given, own) = unsafe { (given(py, args, count, names), Bound::from_borrowed_ptr(py, object)) };
        let context = match given.1 {
            None => None,
            Some((name, context)) if name == "context" => Some(context).filter(|context| !context.is_none()),
            Some(_) => return Err(PyTypeError::new_err("add_done_callback() takes a callback and context=")),
        };
        let (Some(callback), 1) = (given.0.first().cloned(), given.0.len()) else {
            return Err(PyTypeError::new_err("add_done_callback() takes a callback and context="));
        };
        let context = match context {
            Some(context) => context.unbind(),
            // SAFETY: a new reference, or null with an error set.
            None => unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? }.unbind(),
        };
        let waiter = (callback.unbind(), context);
        let mut inside = raw.inside.lock();
        if matches!(inside.outcome, Outcome::Open) {
            inside.waiters.push(waiter);
            return Ok(py.None());
        }
        drop(inside);
        raw.call_soon(py, &own, std::iter::once(waiter).collect());
        Ok(py.None())
    };
    // SAFETY: as the caller says.
    unsafe { body(object, add) }
}

unsafe extern "C" fn remove_done_callback(
    object: *mut ffi::PyObject,
    wanted: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let remove = |py: Python<'_>, raw: &Raw| {
        // SAFETY: a valid argument.
        let wanted = unsafe { Bound::from_borrowed_ptr(py, wanted) };
        let (mut kept, mut gone, mut failed) = (Few::new(), Few::<(Object, Object)>::new(), None);
        // Not while it is locked: they are compared by Python.
        let waiters = std::mem::take(&mut raw.inside.lock().waiters);
        for waiter in waiters {
            let same = waiter.0.bind(py).eq(&wanted).unwrap_or_else(|error| {
                failed = Some(error);
                false
            });
            if same { gone.push(waiter) } else { kept.push(waiter) }
        }
        raw.inside.lock().waiters.extend(kept);
        failed.map_or(Ok(()), Err)?;
        Ok(gone.len().into_pyobject(py)?.into_any().unbind())
    };
    // SAFETY: as the caller says.
    unsafe { body(object, remove) }
}

/// Positional arguments, and the one by name if there is one.
type Given<'py> = (Few<Bound<'py, PyAny>>, Option<(Bound<'py, PyString>, Bound<'py, PyAny>)>);

/// What a method was given.
unsafe fn given<'py>(
    py: Python<'py>,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> Given<'py> {
    // SAFETY: `count` arguments without a name, then those with one: as many as `names`, a tuple of str or null, says.
    unsafe {
        let one = |at: usize| Bound::from_borrowed_ptr(py, *args.add(at));
        let count = count as usize;
        let named = !names.is_null() && ffi::PyTuple_GET_SIZE(names) > 0;
        let name = || Bound::from_borrowed_ptr(py, ffi::PyTuple_GET_ITEM(names, 0)).cast_into_unchecked();
        ((0..count).map(one).collect(), named.then(|| (name(), one(count))))
    }
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: the collector calls with an object of the type; `visit` runs no Python.
    unsafe {
        let raw = &*object.cast::<Raw>();
        let mut result = visit(ffi::Py_TYPE(object).cast(), arg);
        let mut see = |object: &Object| {
            if result == 0 {
                result = visit(object.as_ptr(), arg);
            }
            result == 0
        };
        let inside = raw.inside.lock();
        let waiters = inside.waiters.iter().all(|(callback, context)| see(callback) && see(context));
        let outcome = match &inside.outcome {
            Outcome::Open => true,
            Outcome::Value(held) | Outcome::Error(held) | Outcome::Cancelled(held) => see(held),
        };
        let _ = see(&raw.event_loop) && waiters && outcome && inside.answered.visit(&mut see);
        result
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    let _anchor = Anchor::hold();
    // SAFETY: an object of the type.
    let raw = unsafe { &*object.cast::<Raw>() };
    protect((), || {
        Python::attach(|_| {
            let inside = &raw.inside;
            let waiters = std::mem::take(&mut inside.lock().waiters);
            let outcome = std::mem::replace(&mut inside.lock().outcome, Outcome::Open);
            let answered = std::mem::replace(&mut inside.lock().answered, Answered::NotYet);
            drop((waiters, outcome, answered));
        });
    });
    0
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: at reference count zero; the collector must not see a half-dead object. The fields are dropped once, here.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let _anchor = Anchor::hold();
        protect((), || {
            Python::attach(|_| {
                let raw: *mut Raw = object.cast();
                (&raw mut (*raw).inside).drop_in_place();
                (&raw mut (*raw).event_loop).drop_in_place();
            });
        });
        let kind = ffi::Py_TYPE(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}
