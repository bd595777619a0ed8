//! What one interpreter's copy of the module owns: the raw types, the free list, names and callables used on misses.
//!
//! It hangs on the module's objects, never on a static: the module may be initialised again in another interpreter. It
//! is made once per initialisation and lives as long as the process.

use super::bridge::Bridge;
use super::budget::Budget;
use super::function::Function;
use super::guarded::Guarded;
use super::knots;
use super::reply::{self, Reply};
use crate::core::budget::ROOMS;
use crate::core::flight::Waits;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple, PyType};
use std::cell::{Cell, UnsafeCell};
use std::ptr::null_mut;
use std::sync::{Arc, Weak};

/// How many idle replies are kept.
const IDLE: usize = 64;

/// See the module.
pub struct State {
    /// The type of answers that are there.
    pub reply_type: *mut ffi::PyTypeObject,
    /// The type of answers that are yet to be found.
    pub pending_type: *mut ffi::PyTypeObject,
    /// The type of what those wait for who ask a store.
    pub future_type: *mut ffi::PyTypeObject,
    /// The type of decorated functions.
    pub function_type: *mut ffi::PyTypeObject,
    /// The type of their methods.
    pub method_type: *mut ffi::PyTypeObject,
    /// The one `StopIteration` used for answers on 3.12 and later.
    pub stop: Cell<*mut ffi::PyObject>,
    idle: UnsafeCell<[*mut Reply; IDLE]>,
    idle_len: Cell<usize>,
    enum_meta: *mut ffi::PyTypeObject,
    /// The context variable that says which load runs here.
    pub lease_var: Py<PyAny>,
    /// Names looked up on misses.
    pub names: Names,
    asyncio: PyOnceLock<Asyncio>,
    /// Which loads wait for which.
    pub waits: Guarded<Waits>,
    /// What bounds the loads behind of all caches that were given no other budget.
    pub budget: Arc<Budget>,
    not_found: PyOnceLock<Py<PyAny>>,
    views: PyOnceLock<Views>,
    bridges: PyOnceLock<Py<PyAny>>,
    /// The one that was used last. A forked child has none.
    pub bridge: Guarded<Option<Py<Bridge>>>,
    /// The loop whose waiters are being woken, and what says to its thread that it runs there. A forked child has none.
    pub waking: Guarded<Option<(Py<PyAny>, Py<PyAny>)>>,
    /// The functions that know instances; `None` until there is one.
    functions: Guarded<Option<Vec<Weak<Function>>>>,
    /// How many of their instances `knots` has looked at.
    pub knots_from: Cell<usize>,
}

// SAFETY: every field is used by threads that hold the interpreter only, and State is reached only through its objects.
unsafe impl Send for State {}
// SAFETY: as above; the cells are never borrowed across a call that could release the interpreter.
unsafe impl Sync for State {}

macro_rules! names {
    ($($name:ident),*) => {
        /// Interned attribute names.
        pub struct Names { $(#[doc = stringify!($name)] pub $name: Py<PyString>),* }
        impl Names {
            fn new(py: Python<'_>) -> Self {
                Names { $($name: PyString::intern(py, stringify!($name)).unbind()),* }
            }
        }
    };
}

names!(
    _asyncio_future_blocking,
    add_done_callback,
    call_later,
    call_soon,
    call_soon_threadsafe,
    cancel,
    cancelled,
    context,
    create_future,
    create_task,
    done,
    exception,
    get_debug,
    get_loop,
    is_closed,
    is_running,
    result,
    room_for,
    set_exception,
    set_result,
    __asyncio_running_event_loop__,
    __cache_key__,
    __doc__,
    __module__,
    __signature__,
    __weakref__,
    name
);

/// What a miss needs of asyncio, imported with the first miss: importing Samovar must stay cheap.
pub struct Asyncio {
    /// `samovar._bridge.wake`: sets a future's result unless it is done.
    pub wake: Py<PyAny>,
    /// `samovar._bridge.refresh_failed`: says so in the log.
    pub refresh_failed: Py<PyAny>,
    /// `samovar._bridge.unstorable`: says so, once for each function.
    pub unstorable: Py<PyAny>,
    /// `samovar._bridge.awaited`: a coroutine that awaits any awaitable.
    pub awaited: Py<PyAny>,
    /// `asyncio._get_running_loop`.
    pub running_loop: Py<PyAny>,
    /// `asyncio.CancelledError`.
    pub cancelled_error: Py<PyAny>,
    /// `asyncio.Future`, and what it takes by name.
    future: (Py<PyAny>, Py<PyTuple>),
    /// `asyncio.BaseEventLoop.create_future`, which makes one of those.
    create_future: Py<PyAny>,
    /// Classes of event loops whose futures are those, and which are not: the last one of each that was met.
    plain: Cell<*mut ffi::PyTypeObject>,
    other: Cell<*mut ffi::PyTypeObject>,
}

impl Asyncio {
    /// True for an event loop that makes futures as asyncio's own do.
    fn is_plain(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
        let class = event_loop.get_type();
        let kind = class.as_type_ptr();
        if kind == self.plain.get() || kind == self.other.get() {
            return Ok(kind == self.plain.get());
        }
        let plain = class.getattr("create_future")?.is(&self.create_future);
        // The class is kept, so that no other ever has its place.
        let before = if plain { self.plain.replace(kind) } else { self.other.replace(kind) };
        let _kept = class.into_ptr();
        // SAFETY: null, or a class that was kept so.
        unsafe { ffi::Py_XDECREF(before.cast()) };
        Ok(plain)
    }
}

/// The classes of `samovar._views`, imported with their first use.
pub struct Views {
    /// An entry as it is now.
    pub entry: Py<PyAny>,
    /// Counters.
    pub stats: Py<PyAny>,
    /// What an order of eviction knows about itself.
    pub insight: Py<PyAny>,
    /// What listeners are told.
    pub event: Py<PyAny>,
    /// Counters in the words of `functools`.
    pub cache_info: Py<PyAny>,
}

impl State {
    /// Makes the state and its raw types.
    pub fn new(py: Python<'_>) -> PyResult<&'static State> {
        let meta = py.import("enum")?.getattr("EnumMeta")?.cast_into::<PyType>()?;
        let variable = py.import("contextvars")?.getattr("ContextVar")?;
        let state = Box::leak(Box::new(State {
            reply_type: null_mut(),
            pending_type: null_mut(),
            future_type: null_mut(),
            function_type: null_mut(),
            method_type: null_mut(),
            stop: Cell::new(null_mut()),
            idle: UnsafeCell::new([null_mut(); IDLE]),
            idle_len: Cell::new(0),
            enum_meta: meta.into_ptr().cast(),
            lease_var: variable.call1(("samovar.lease",))?.unbind(),
            names: Names::new(py),
            asyncio: PyOnceLock::new(),
            waits: Guarded::default(),
            budget: Budget::new(ROOMS),
            not_found: PyOnceLock::new(),
            views: PyOnceLock::new(),
            bridges: PyOnceLock::new(),
            bridge: Guarded::new(None),
            waking: Guarded::new(None),
            functions: Guarded::new(None),
            knots_from: Cell::new(0),
        }));
        state.reply_type = reply::make_type(py)?;
        state.pending_type = super::pending::make_type(py)?;
        state.future_type = super::future::make_type(py)?;
        state.function_type = super::function::make_type(py)?;
        state.method_type = super::method::make_type(py)?;
        Ok(state)
    }

    /// `samovar.NotFound`.
    pub fn not_found<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        let class = || py.import("samovar._exceptions")?.getattr("NotFound").map(Bound::unbind);
        Ok(self.not_found.get_or_try_init(py, class)?.bind(py))
    }

    /// True for classes whose members are singletons.
    ///
    /// # Safety
    /// `class` is a valid type object.
    #[inline]
    pub unsafe fn is_enum_class(&self, class: *mut ffi::PyTypeObject) -> bool {
        // SAFETY: a type object is an object.
        unsafe { ffi::Py_TYPE(class.cast()) == self.enum_meta }
    }

    /// Notes that a function knows instances, before the first of them.
    pub fn has_instances(&'static self, py: Python<'_>, function: &Arc<Function>) -> PyResult<()> {
        if self.functions.lock().is_none() {
            knots::watch(py, self)?;
        }
        let mut functions = self.functions.lock();
        let functions = functions.get_or_insert_default();
        functions.retain(|known| known.strong_count() > 0);
        functions.push(Arc::downgrade(function));
        Ok(())
    }

    /// The functions that know instances.
    pub fn functions_of_instances(&self) -> Vec<Arc<Function>> {
        self.functions.lock().iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// An idle reply, still holding its type reference, or null.
    #[inline]
    pub fn take_idle(&self) -> *mut Reply {
        let len = self.idle_len.get();
        if len == 0 {
            return null_mut();
        }
        self.idle_len.set(len - 1);
        // SAFETY: the interpreter is held, nobody else borrows the cell, and `len - 1` is within it.
        unsafe { (*self.idle.get())[len - 1] }
    }

    /// Keeps a dead reply for later; false when there are enough.
    #[inline]
    pub fn keep_idle(&self, reply: *mut Reply) -> bool {
        let len = self.idle_len.get();
        if len == IDLE {
            return false;
        }
        // SAFETY: as in `take_idle`.
        unsafe { (*self.idle.get())[len] = reply };
        self.idle_len.set(len + 1);
        true
    }

    /// What misses need of asyncio.
    pub fn asyncio(&self, py: Python<'_>) -> PyResult<&Asyncio> {
        self.asyncio.get_or_try_init(py, || {
            let asyncio = py.import("asyncio")?;
            let bridge = py.import("samovar._bridge")?;
            Ok(Asyncio {
                wake: bridge.getattr("wake")?.unbind(),
                refresh_failed: bridge.getattr("refresh_failed")?.unbind(),
                unstorable: bridge.getattr("unstorable")?.unbind(),
                awaited: bridge.getattr("awaited")?.unbind(),
                running_loop: asyncio.getattr("_get_running_loop")?.unbind(),
                cancelled_error: asyncio.getattr("CancelledError")?.unbind(),
                future: (asyncio.getattr("Future")?.unbind(), PyTuple::new(py, ["loop"])?.unbind()),
                create_future: asyncio.getattr("BaseEventLoop")?.getattr("create_future")?.unbind(),
                plain: Cell::new(null_mut()),
                other: Cell::new(null_mut()),
            })
        })
    }

    /// A future of this event loop. Asyncio's own loops need not be asked for it: theirs is a line of Python.
    pub fn new_future<'py>(&self, event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = event_loop.py();
        let used = self.asyncio(py)?;
        if !used.is_plain(event_loop)? {
            return event_loop.call_method0(&self.names.create_future);
        }
        let (class, names) = &used.future;
        // SAFETY: one argument, by its name; the result is a new reference, or null with an error set.
        unsafe {
            let made = ffi::PyObject_Vectorcall(class.as_ptr(), &event_loop.as_ptr(), 0, names.as_ptr());
            Bound::from_owned_ptr_or_err(py, made)
        }
    }

    /// The bridge of each event loop that has asked a store, for as long as the loop lives.
    pub fn bridges<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        let make = || py.import("weakref")?.call_method0("WeakKeyDictionary").map(Bound::unbind);
        Ok(self.bridges.get_or_try_init(py, make)?.bind(py))
    }

    /// The same, if any was made.
    pub fn bridges_made<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        self.bridges.get(py).map(|bridges| bridges.bind(py))
    }

    /// What users look at.
    pub fn views(&self, py: Python<'_>) -> PyResult<&Views> {
        self.views.get_or_try_init(py, || {
            let views = py.import("samovar._views")?;
            Ok(Views {
                entry: views.getattr("Entry")?.unbind(),
                stats: views.getattr("Stats")?.unbind(),
                insight: views.getattr("Insight")?.unbind(),
                event: views.getattr("Event")?.unbind(),
                cache_info: views.getattr("CacheInfo")?.unbind(),
            })
        })
    }

    /// As [`asyncio`](Self::asyncio), but only if a miss has used it.
    pub fn asyncio_if_used(&self, py: Python<'_>) -> Option<&Asyncio> {
        self.asyncio.get(py)
    }

    /// What says to this thread which loop runs there: asyncio makes another with each that begins or ends. `None` where it keeps
    /// that elsewhere.
    pub fn mark_of_loop(&self, _py: Python<'_>) -> *mut ffi::PyObject {
        // SAFETY: the interpreter is held. The dict and what it has are borrowed, and only compared or held at once.
        unsafe {
            let dict = ffi::PyThreadState_GetDict();
            let key = self.names.__asyncio_running_event_loop__.as_ptr();
            if dict.is_null() { null_mut() } else { ffi::PyDict_GetItemWithError(dict, key) }
        }
    }

    /// The loop that runs on this thread, if a miss has ever had to do with loops.
    pub fn running_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        if let Some((mark, here)) = &*self.waking.lock()
            && mark.as_ptr() == self.mark_of_loop(py)
        {
            // asyncio asks the system for the process's number each time.
            return Some(here.bind(py).clone());
        }
        let running = self.asyncio.get(py)?.running_loop.bind(py).call0().ok()?;
        (!running.is_none()).then_some(running)
    }

    /// The function that wakes a future on its own loop.
    pub fn wake_future<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        Ok(self.asyncio(py)?.wake.bind(py))
    }

    /// The coroutine that `made` is or that awaits it; `None` for a plain value.
    pub fn as_coroutine<'py>(&self, made: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = made.py();
        // SAFETY: a type check, then a look at the type of a valid object.
        let (coroutine, awaitable) = unsafe {
            let methods = (*ffi::Py_TYPE(made.as_ptr())).tp_as_async;
            let awaitable = !methods.is_null() && (*methods).am_await.is_some();
            (ffi::PyCoro_CheckExact(made.as_ptr()) != 0, awaitable)
        };
        if coroutine {
            return Ok(Some(made.clone()));
        }
        if awaitable {
            return Ok(Some(self.asyncio(py)?.awaited.bind(py).call1((made,))?));
        }
        Ok(None)
    }
}
