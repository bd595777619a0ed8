//! Between event loops and stores: requests gather during a pass of the loop and go out together; however many answers come, the
//! loop is woken once for them.
//!
//! One a loop, made at its first request and gone with it. The connections belong to the process: loops and threads come and go,
//! and a second `asyncio.run` finds them as they are. The stores' thread takes no interpreter: it puts answers into an inbox. A
//! caller who was cancelled leaves a future behind that nobody resolves, and no trace in the order of the replies.

use super::anchor::Anchor;
use super::guarded::Guarded;
use super::state::State;
use super::tier::Object;
use crate::error::{Error, StoreError};
use crate::io::inbox::Inbox;
use crate::io::store::{Answer, Answers, Cursor, Reply, Request, Store, scan_for};
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Makes of all replies to one call what its caller gets.
pub type Convert = fn(Python<'_>, &[Object], Vec<Reply>) -> PyResult<Object>;

/// What a caller waits for.
struct Waiting {
    future: Object,
    gathering: Gathering,
    /// What `convert` needs of the call.
    given: Vec<Object>,
    convert: Convert,
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

    fn replies(self) -> Result<Vec<Reply>, StoreError> {
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
    /// True if the last answers were more than one call's: then more than one goes on in this pass, and asks again.
    many: bool,
    waiting: HashMap<u64, Waiting>,
    calls: u64,
}

/// See the module.
#[pyclass(frozen, module = "samovar._core")]
pub struct Bridge {
    state: &'static State,
    /// A forked child has a loop's memory and not its file descriptors.
    pid: u32,
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
        done.into_iter().for_each(|waiting| self.settle(py, waiting));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let inside = self.inside.lock();
        inside.waiting.values().try_for_each(|waiting| {
            visit.call(&waiting.future)?;
            waiting.given.iter().try_for_each(|given| visit.call(given))
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
        let bridge = Bridge { state, pid: std::process::id(), inbox: Arc::new(inbox), inside: Guarded::default() };
        let bridge = Bound::new(py, bridge)?;
        here.call_method1("add_reader", (bridge.get().inbox.fd(), bridge.getattr("_answered")?))?;
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
    fn expect(&self, waiting: Waiting) -> Answers {
        let mut inside = self.inside.lock();
        let call = inside.calls;
        inside.calls += 1;
        inside.waiting.insert(call, waiting);
        drop(inside);
        self.answers(vec![(call, 0)])
    }

    /// Notes a call, and sends what it asks at once or with the rest of this pass. True if the pass has to be told of its end.
    fn ask(&self, store: &Arc<dyn Store>, requests: Vec<Request>, waiting: Waiting) -> bool {
        let mut inside = self.inside.lock();
        let call = inside.calls;
        inside.calls += 1;
        // Alone, it need not wait for others.
        let alone = inside.waiting.is_empty() && !inside.many;
        inside.waiting.insert(call, waiting);
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

    fn settle(&self, py: Python<'_>, waiting: Waiting) {
        let Waiting { future, gathering, given, convert } = waiting;
        let replies = gathering.replies().map_err(|error| PyErr::from(Error::Store(error)));
        let future = future.bind(py);
        let set = match replies.and_then(|replies| convert(py, &given, replies)) {
            Ok(value) => future.call_method1(&self.state.names.set_result, (value,)),
            Err(error) => future.call_method1(&self.state.names.set_exception, (error,)),
        };
        if let Err(error) = set {
            // Whoever waited was cancelled, or the loop is closed.
            drop(error);
        }
    }
}

/// The loop that runs here, and a future of it.
fn here<'py>(py: Python<'py>, state: &State) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    state.asyncio(py)?;
    let here = state.running_loop(py).ok_or_else(|| {
        PyRuntimeError::new_err(
            "asking a store needs a running asyncio event loop; in a thread without one use the blocking face",
        )
    })?;
    let future = here.call_method0(&state.names.create_future)?;
    Ok((here, future))
}

/// Asks a store from the loop that runs here: a future of that loop's, with what `convert` makes of the replies.
pub fn ask<'py>(
    py: Python<'py>,
    state: &'static State,
    store: &Arc<dyn Store>,
    requests: Vec<Request>,
    given: Vec<Object>,
    convert: Convert,
) -> PyResult<Bound<'py, PyAny>> {
    let (here, future) = here(py, state)?;
    if requests.is_empty() {
        future.call_method1(&state.names.set_result, (convert(py, &given, Vec::new())?,))?;
        return Ok(future);
    }
    let bridge = Bridge::here(py, state, &here)?;
    let gathering = Gathering::new(requests.len());
    let waiting = Waiting { future: future.clone().unbind(), gathering, given, convert };
    if bridge.get().ask(store, requests, waiting) {
        here.call_method1(&state.names.call_soon, (bridge.getattr("_flush")?,))?;
    }
    Ok(future)
}

/// Has a page of keys scanned, as [`ask`] does with requests.
pub fn scan<'py>(
    py: Python<'py>,
    state: &'static State,
    store: &Arc<dyn Store>,
    prefix: &[u8],
    from: Cursor,
    convert: Convert,
) -> PyResult<Bound<'py, PyAny>> {
    let (here, future) = here(py, state)?;
    let bridge = Bridge::here(py, state, &here)?;
    let waiting = Waiting { future: future.clone().unbind(), gathering: Gathering::new(1), given: Vec::new(), convert };
    scan_for(&**store, prefix, from, bridge.get().expect(waiting))?;
    Ok(future)
}

/// How long a blocked thread sleeps before it looks for a signal of Python's.
const NAP: Duration = Duration::from_millis(50);

/// Asks a store and waits for the answers, without the interpreter.
pub fn ask_blocking(py: Python<'_>, store: &Arc<dyn Store>, requests: Vec<Request>) -> PyResult<Vec<Reply>> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let desk = Arc::new((Mutex::new(Gathering::new(requests.len())), Condvar::new()));
    let there = Arc::clone(&desk);
    let answers = Answers::new(move |answers| {
        let mut gathering = there.0.lock();
        answers.into_iter().for_each(|(at, answer)| _ = gathering.add(at, answer));
        if gathering.left == 0 {
            there.1.notify_one();
        }
    });
    let _anchor = Anchor::hold();
    py.detach(|| store.submit(requests, answers));
    loop {
        let done = py.detach(|| {
            let mut gathering = desk.0.lock();
            let until = Instant::now() + NAP;
            while gathering.left > 0 && !desk.1.wait_until(&mut gathering, until).timed_out() {}
            (gathering.left == 0).then(|| std::mem::replace(&mut *gathering, Gathering::new(0)))
        });
        if let Some(gathering) = done {
            return gathering.replies().map_err(|error| PyErr::from(Error::Store(error)));
        }
        py.check_signals()?;
    }
}
