//! Between event loops and stores: requests gather during a pass of the loop and go out together; however many answers come, the
//! loop is woken once for them.
//!
//! One a loop, made at its first request and gone with it. The connections belong to the process: loops and threads come and go,
//! and a second `asyncio.run` finds them as they are. The stores' thread takes no interpreter: it puts answers into an inbox. A
//! caller who was cancelled leaves a future behind that nobody resolves, and no trace in the order of the replies.

use super::StateHandle;
use super::anchor::Anchor;
use super::guarded::Guarded;
use super::pending::Holds;
use super::state::State;
use super::tier::Object;
use crate::error::{StoreError, StoreFailure};
use crate::io::inbox::Inbox;
use crate::io::store::{Answer, Answers, Cursor, Request, Store, scan_for};
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whoever waits for the answers to one call.
pub trait Caller: Holds + Send {
    /// They are there, in the order of the requests. Called in the loop that asked.
    fn answered(self: Box<Self>, py: Python<'_>, answers: Vec<Answer>);
}

/// What a caller waits for.
struct Waiting {
    gathering: Gathering,
    caller: Box<dyn Caller>,
}

/// The answers to one call, as they come.
struct Gathering {
    answers: Vec<Option<Answer>>,
    left: usize,
}

impl Gathering {
    fn new(count: usize) -> Self {
        Gathering { answers: (0..count).map(|_| None).collect(), left: count }
    }

    /// True with the last one.
    fn add(&mut self, at: usize, answer: Answer) -> bool {
        self.left -= usize::from(self.answers[at].replace(answer).is_none());
        self.left == 0
    }

    fn whole(self) -> Vec<Answer> {
        self.answers.into_iter().flatten().collect()
    }
}

/// Which answer of which call.
type Place = (u64, usize);

/// Requests of a pass to one store.
struct Leaving {
    store: Arc<dyn Store>,
    requests: Vec<Request>,
    places: Vec<Place>,
}

#[derive(Default)]
struct Inside {
    leaving: Vec<Leaving>,
    /// True from a request that waits for the end of the pass until then.
    flushing: bool,
    /// True if the last answers were more than one call's: then more than one goes on in this pass, and asks again. So it is at
    /// the first of all, and where somebody says so.
    many: bool,
    waiting: HashMap<u64, Waiting>,
    calls: u64,
}

/// See the module.
#[pyclass(frozen, module = "samovar._core")]
pub struct Bridge {
    /// A forked child has a loop's memory and not its file descriptors.
    pid: u32,
    /// A weak reference.
    event_loop: Object,
    inbox: Arc<Inbox<(Place, Answer)>>,
    inside: Guarded<Inside>,
}

#[pymethods]
impl Bridge {
    /// What the loop calls at the end of a pass in which something was asked.
    fn _flush(&self) {
        let leaving = {
            let mut inside = self.inside.lock();
            inside.flushing = false;
            std::mem::take(&mut inside.leaving)
        };
        leaving.into_iter().for_each(|leaving| self.send(leaving));
    }

    /// What the loop calls when answers have come.
    fn _answered(&self, py: Python<'_>) {
        let _anchor = Anchor::hold();
        let mut done = Vec::new();
        let answers = self.inbox.take();
        {
            let mut inside = self.inside.lock();
            for ((call, at), answer) in answers {
                if let Some(waiting) = inside.waiting.get_mut(&call)
                    && waiting.gathering.add(at, answer)
                {
                    done.extend(inside.waiting.remove(&call));
                }
            }
            inside.many = done.len() > 1;
        }
        done.into_iter().for_each(|Waiting { gathering, caller }| caller.answered(py, gathering.whole()));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let inside = self.inside.lock();
        inside.waiting.values().try_for_each(|waiting| {
            let mut result = Ok(());
            waiting.caller.visit(&mut |object| {
                result = visit.call(object);
                result.is_ok()
            });
            result
        })
    }

    fn __clear__(&self) {
        let waiting = std::mem::take(&mut self.inside.lock().waiting);
        drop(waiting);
    }
}

impl Bridge {
    /// That of the loop that runs here.
    fn here<'py>(py: Python<'py>, state: &'static State, here: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Bridge>> {
        let last = state.bridge.lock().as_ref().map(|last| last.clone_ref(py));
        if let Some(bridge) = last.filter(|last| last.get().is_of(here)) {
            return Ok(bridge.into_bound(py));
        }
        let bridge = Bridge::find(py, state, here)?;
        let before = state.bridge.lock().replace(bridge.clone().unbind());
        drop(before);
        Ok(bridge)
    }

    /// True if it is this loop's: the loop is asked for, since another may have its place by now.
    fn is_of(&self, here: &Bound<'_, PyAny>) -> bool {
        // SAFETY: a weak reference, and what it gives is only compared.
        unsafe { ffi::PyWeakref_GetObject(self.event_loop.as_ptr()) == here.as_ptr() }
    }

    fn find<'py>(py: Python<'py>, state: &'static State, here: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Bridge>> {
        let bridges = state.bridges(py)?;
        if let Ok(bridge) = bridges.call_method1("get", (here,))?.cast_into::<Bridge>() {
            if bridge.get().pid == std::process::id() {
                return Ok(bridge);
            }
            // A fork within a loop: what it watches wakes the parent too.
            here.call_method1("remove_reader", (bridge.get().inbox.fd(),))?;
        }
        let inbox = Inbox::new().map_err(|error| {
            PyRuntimeError::new_err(format!(
                "no file descriptor to be woken by: {error}; let the process have more of them"
            ))
        })?;
        let event_loop = PyWeakrefReference::new(here)?.into_any().unbind();
        let (pid, inbox) = (std::process::id(), Arc::new(inbox));
        let inside = Guarded::new(Inside { many: true, ..Inside::default() });
        let bridge = Bridge { pid, event_loop, inbox, inside };
        let bridge = Bound::new(py, bridge)?;
        here.call_method1("add_reader", (bridge.get().inbox.fd(), bridge.getattr("_answered")?))?;
        forget_closed(state, bridges)?;
        bridges.set_item(here, &bridge)?;
        Ok(bridge)
    }

    fn answers(&self, places: Vec<Place>) -> Answers {
        let inbox = Arc::clone(&self.inbox);
        Answers::new(move |answers| inbox.put(answers.into_iter().map(|(at, answer)| (places[at], answer))))
    }

    fn send(&self, Leaving { store, requests, places }: Leaving) {
        store.submit(requests, self.answers(places));
    }

    /// Notes a call whose only answer comes by another way than [`Store::submit`].
    fn expect(&self, caller: Box<dyn Caller>) -> Answers {
        let call = self.inside.lock().note(1, caller);
        self.answers(vec![(call, 0)])
    }

    /// Notes a call, and sends what it asks at once or with the rest of this pass. True if the pass has to be told of its end.
    fn ask(&self, store: &Arc<dyn Store>, requests: Vec<Request>, caller: Box<dyn Caller>) -> bool {
        let mut inside = self.inside.lock();
        // Alone, it need not wait for others.
        let alone = inside.waiting.is_empty() && !inside.many;
        let call = inside.note(requests.len(), caller);
        let places = (0..requests.len()).map(|at| (call, at));
        if alone {
            let places = places.collect();
            drop(inside);
            self.send(Leaving { store: Arc::clone(store), requests, places });
            return false;
        }
        let known = inside.leaving.iter().position(|leaving| Arc::ptr_eq(&leaving.store, store));
        match known {
            Some(known) => {
                let leaving = &mut inside.leaving[known];
                leaving.requests.extend(requests);
                leaving.places.extend(places);
            }
            None => {
                let places = places.collect();
                inside.leaving.push(Leaving { store: Arc::clone(store), requests, places });
            }
        }
        !std::mem::replace(&mut inside.flushing, true)
    }
}

/// A loop that was closed with callers who wait never comes back; what they hold holds it.
fn forget_closed(state: &State, bridges: &Bound<'_, PyAny>) -> PyResult<()> {
    for known in bridges.call_method0("keys")?.try_iter()?.collect::<PyResult<Vec<_>>>()? {
        if known.call_method0(&state.names.is_closed)?.is_truthy()? {
            bridges.call_method1("pop", (known, Option::<()>::None))?;
        }
    }
    Ok(())
}

impl Inside {
    /// The number of a call that waits for so many answers.
    fn note(&mut self, count: usize, caller: Box<dyn Caller>) -> u64 {
        self.calls += 1;
        self.waiting.insert(self.calls, Waiting { gathering: Gathering::new(count), caller });
        self.calls
    }
}

/// The loop that runs here.
pub fn here<'py>(py: Python<'py>, state: &State) -> PyResult<Bound<'py, PyAny>> {
    state.asyncio(py)?;
    state.running_loop(py).ok_or_else(|| {
        PyRuntimeError::new_err(
            "asking a store needs a running asyncio event loop; in a thread without one use the blocking face",
        )
    })
}

/// More than one call of this loop's pass will ask: they go out together, and their answers come together.
#[pyfunction]
pub fn _ask_together(py: Python<'_>, state: &StateHandle) -> PyResult<()> {
    // Where no loop runs nobody asks.
    let (Some(bridges), Some(here)) = (state.0.bridges_made(py), state.0.running_loop(py)) else { return Ok(()) };
    if let Ok(bridge) = bridges.call_method1("get", (here,))?.cast_into::<Bridge>() {
        bridge.get().inside.lock().many = true;
    }
    Ok(())
}

/// Asks a store from the loop that runs here. Something has to be asked. Where there is no way to it, that is the answer.
pub fn ask(
    state: &'static State,
    here: &Bound<'_, PyAny>,
    store: &Arc<dyn Store>,
    requests: Vec<Request>,
    caller: Box<dyn Caller>,
) {
    let py = here.py();
    let bridge = match Bridge::here(py, state, here) {
        Ok(bridge) => bridge,
        Err(error) => return caller.answered(py, requests.iter().map(|_| Err(no_way(py, &error))).collect()),
    };
    if bridge.get().ask(store, requests, caller) {
        let flush = bridge.getattr("_flush").and_then(|flush| here.call_method1(&state.names.call_soon, (flush,)));
        // A closed loop runs nothing any more.
        drop(flush);
    }
}

fn no_way(py: Python<'_>, error: &PyErr) -> StoreError {
    let (kind, store, cure) = (StoreFailure::Unreachable, "the store".into(), "see there".into());
    StoreError { kind, store, what: error.value(py).to_string(), cure, undone: true }
}

/// Has a page of keys scanned, as [`ask`] does with requests.
pub fn scan(
    state: &'static State,
    here: &Bound<'_, PyAny>,
    store: &Arc<dyn Store>,
    (prefix, from): (&[u8], Cursor),
    caller: Box<dyn Caller>,
) -> PyResult<()> {
    let bridge = Bridge::here(here.py(), state, here)?;
    Ok(scan_for(&**store, prefix, from, bridge.get().expect(caller))?)
}

/// How long a blocked thread sleeps before it looks for a signal of Python's.
const NAP: Duration = Duration::from_millis(50);

/// Asks a store and waits for the answers, without the interpreter.
///
/// # Errors
///
/// What a signal raised meanwhile.
pub fn ask_blocking(py: Python<'_>, store: &Arc<dyn Store>, requests: Vec<Request>) -> PyResult<Vec<Answer>> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let _anchor = Anchor::hold();
    let desk = Desk::new(requests.len());
    let answers = desk.answers();
    py.detach(|| store.submit(requests, answers));
    desk.wait(py)
}

/// Has a page of keys scanned, and waits for it so.
pub fn scan_blocking(py: Python<'_>, store: &Arc<dyn Store>, (prefix, from): (&[u8], Cursor)) -> PyResult<Vec<Answer>> {
    let _anchor = Anchor::hold();
    let desk = Desk::new(1);
    scan_for(&**store, prefix, from, desk.answers())?;
    desk.wait(py)
}

/// Where a blocked thread gets its answers.
struct Desk(Arc<(Mutex<Gathering>, Condvar)>);

impl Desk {
    fn new(count: usize) -> Self {
        Desk(Arc::new((Mutex::new(Gathering::new(count)), Condvar::new())))
    }

    fn answers(&self) -> Answers {
        let there = Arc::clone(&self.0);
        Answers::new(move |answers| {
            let mut gathering = there.0.lock();
            answers.into_iter().for_each(|(at, answer)| _ = gathering.add(at, answer));
            if gathering.left == 0 {
                there.1.notify_one();
            }
        })
    }

    fn wait(self, py: Python<'_>) -> PyResult<Vec<Answer>> {
        let (gathering, bell) = &*self.0;
        loop {
            let done = py.detach(|| {
                let mut gathering = gathering.lock();
                let until = Instant::now() + NAP;
                while gathering.left > 0 && !bell.wait_until(&mut gathering, until).timed_out() {}
                (gathering.left == 0).then(|| std::mem::replace(&mut *gathering, Gathering::new(0)))
            });
            if let Some(gathering) = done {
                return Ok(gathering.whole());
            }
            py.check_signals()?;
        }
    }
}
