//! Writes that a source has not got yet, as Python hands them in and takes them out, and turns at keys.
//!
//! What is decided is decided by `core::writing` and `core::turns`; who calls the writer is `samovar/_write_behind.py`. A load
//! of a name asks here first: a pending write is its key's source. Nothing of this is met by a hit.

use super::cache::{CacheCore, exact_key, key_name};
use super::copy;
use super::guarded::Guarded;
use super::options;
use super::owner::TierOwner;
use super::resilience::RetryCore;
use super::spot::Spot;
use super::state::State;
use super::tier::{Object, Tier};
use crate::core::clock::NEVER;
use crate::core::memory::mix;
use crate::core::resilience::Retry;
use crate::core::turns::Turns as Lines;
use crate::core::writing::{Failure, Kind, Left, Next, Outcome, Queue, Terms};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// A value on its way to the source.
struct Held {
    /// The key as it was given: what is stored is shorter if it is long.
    name: Object,
    value: Object,
    /// How readers get it.
    copies: u32,
}

impl Held {
    /// The value as a reader gets it; what cannot be copied is shared.
    fn own<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let value = self.value.bind(py);
        copy::hand_out(value, self.copies).unwrap_or_else(|_| value.clone())
    }
}

/// The pending writes of one namespace.
struct Writing {
    queue: Guarded<Queue<Held>>,
    /// What the namespace's names are hashed with.
    salt: u64,
}

/// The pending writes of all namespaces of a cache.
#[derive(Default)]
pub struct Writings {
    all: Guarded<Vec<Arc<Writing>>>,
    any: AtomicBool,
}

impl Writings {
    /// True if there can be any.
    pub fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// What is on its way to the source from here: the value, or that there will be nothing; `None` if nothing is.
    pub fn answer<'py>(&self, py: Python<'py>, state: &State, spot: &Spot) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.find(py, spot)? {
            Some((Kind::Set, held)) => Ok(Some(held.own(py))),
            Some((Kind::Delete, held)) => {
                let text = format!("{} was deleted; its source has yet to be told", options::shown(held.name.bind(py)));
                Err(PyErr::from_value(state.not_found(py)?.call1((text,))?))
            }
            None => Ok(None),
        }
    }

    /// What a lookup would do that finds no copy; `None` if nothing is on its way.
    pub fn would(&self, py: Python<'_>, spot: &Spot) -> PyResult<Option<&'static str>> {
        Ok(self.find(py, spot)?.map(|(kind, _)| match kind {
            Kind::Set => "answer with what its source has yet to get",
            Kind::Delete => "answer that there is nothing, which its source has yet to hear",
        }))
    }

    fn find(&self, py: Python<'_>, spot: &Spot) -> PyResult<Option<(Kind, Held)>> {
        let Ok(key) = spot.key.bind(py).cast_exact::<PyString>() else { return Ok(None) };
        let hash = key.hash()? as u64;
        let all: Vec<Arc<Writing>> = self.all.lock().clone();
        let Some(writing) = all.iter().find(|writing| mix(hash, writing.salt) == spot.hash) else { return Ok(None) };
        Ok(writing.get(py, key.to_str()?))
    }

    /// Calls `visit` with every object that is held, until it says false.
    pub fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        let all = self.all.lock();
        all.iter().all(|writing| writing.queue.lock().visit(|held| visit(&held.name) && visit(&held.value)))
    }

    /// Forgets everything that is pending: for a forked child, and for the collector.
    pub fn forget(&self) {
        let all: Vec<Arc<Writing>> = self.all.lock().clone();
        for writing in all {
            let gone = writing.queue.lock().give_up();
            drop(gone);
        }
    }

    fn add(&self, writing: &Arc<Writing>) {
        self.all.lock().push(writing.clone());
        self.any.store(true, Relaxed);
    }
}

impl Writing {
    fn get(&self, py: Python<'_>, key: &str) -> Option<(Kind, Held)> {
        let queue = self.queue.lock();
        let (kind, Held { name, value, copies }) = queue.get(key)?;
        Some((kind, Held { name: name.clone_ref(py), value: value.clone_ref(py), copies: *copies }))
    }
}

/// A write that came to nothing: key, value, whether it was a delete, how often it was tried.
type Lost<'py> = (Object, Bound<'py, PyAny>, bool, u32);

fn lost<'py>(py: Python<'py>, left: &Left<Held>) -> Lost<'py> {
    (left.value.name.clone_ref(py), left.value.own(py), left.kind == Kind::Delete, left.tries)
}

/// The queue of a namespace whose source is written behind.
#[pyclass(frozen, module = "samovar._core")]
pub struct WriteQueue {
    tier: Arc<Tier>,
    /// Answers to the collector for what is pending.
    owner: Py<TierOwner>,
    writing: Arc<Writing>,
}

/// What is to be done: a batch, or nothing before a moment of `_clock_millis`; without end while a batch is under way.
#[derive(IntoPyObject)]
enum ToDo<'py> {
    /// Its number, whether it deletes, and the keys with their values.
    Batch(u64, bool, Bound<'py, PyDict>),
    #[pyo3(transparent)]
    At(u64),
}

/// A `samovar.WriteBehind`, checked there.
#[derive(FromPyObject)]
struct Behind<'py> {
    delay: Bound<'py, PyAny>,
    max_batch: usize,
    max_pending: usize,
    #[pyo3(attribute("_retry"))]
    retry: Option<PyRef<'py, RetryCore>>,
}

/// Without a word about retries: again and again, with pauses of up to half a minute.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

#[pymethods]
impl WriteQueue {
    #[new]
    fn new(py: Python<'_>, core: &Bound<'_, CacheCore>, behind: Behind<'_>) -> PyResult<Self> {
        let core = core.get();
        let retry = match behind.retry {
            Some(retry) => retry.retry(),
            None => Retry::new(u32::MAX, PAUSES.0, PAUSES.1)?,
        };
        let delay = options::ttl(&behind.delay, "delay", true)?.map_or(0, |delay| delay.as_millis() as u64);
        let terms = Terms { delay, max_batch: behind.max_batch, max_pending: behind.max_pending, retry };
        let queue = Guarded::new(Queue::new(terms));
        let writing = Arc::new(Writing { queue, salt: core.space.salt() });
        core.tier.writings.add(&writing);
        Ok(WriteQueue { tier: core.tier.clone(), owner: core.owner.clone_ref(py), writing })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.owner)
    }

    fn __len__(&self) -> usize {
        self.writing.queue.lock().len()
    }

    /// Takes a write in: None if there is no room, else whether whoever writes should be told.
    fn put(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, deletes: bool) -> PyResult<Option<bool>> {
        let name = key_name(key)?;
        let (stored, copies) = copy::isolate(value, self.tier.keeps().1)?;
        let held = Held { name: exact_key(key)?.into_any().unbind(), value: stored.unbind(), copies };
        let kind = if deletes { Kind::Delete } else { Kind::Set };
        let now = self.tier.clock.now();
        let put = self.writing.queue.lock().put(name.to_str()?, kind, held, now);
        // What was displaced, or had no room, is dropped after unlocking.
        Ok(put.map(|accepted| accepted.ring).ok())
    }

    /// Whether the pending write of a key is a delete, and its value; None if there is none.
    fn get<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Option<(bool, Bound<'py, PyAny>)>> {
        let found = self.writing.get(py, key_name(key)?.to_str()?);
        Ok(found.map(|(kind, held)| (kind == Kind::Delete, held.own(py))))
    }

    /// The next batch, or when to ask again; None if nothing is pending. A batch must be ended with `finish`.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<ToDo<'py>>> {
        let next = self.writing.queue.lock().next(self.tier.clock.now());
        let batch = match next {
            Next::Idle => return Ok(None),
            Next::Flying => return Ok(Some(ToDo::At(NEVER))),
            Next::At(moment) => return Ok(Some(ToDo::At(moment))),
            Next::Batch(batch) => batch,
        };
        let items = PyDict::new(py);
        for key in &batch.keys {
            if let Some((_, held)) = self.writing.get(py, key) {
                items.set_item(held.name.bind(py), held.own(py))?;
            }
        }
        Ok(Some(ToDo::Batch(batch.id, batch.kind == Kind::Delete, items)))
    }

    /// A batch has ended: how is "written", "failed", "refused", "not asked" or "unknown". Gives the keys that are written, and
    /// the writes that are given up.
    fn finish<'py>(&self, py: Python<'py>, batch: u64, how: &str) -> PyResult<(Bound<'py, PyList>, Vec<Lost<'py>>)> {
        let failed = |why| Ok(Outcome::Failed(why, self.tier.draw()));
        let outcome = match how {
            "written" => Ok(Outcome::Written),
            "failed" => failed(Failure::Passing),
            "refused" => failed(Failure::Final),
            "not asked" => failed(Failure::NotAsked),
            "unknown" => Ok(Outcome::Unknown),
            _ => Err(PyRuntimeError::new_err(format!("no batch ends {how:?}"))),
        };
        let finished = self.writing.queue.lock().finish(batch, outcome?, self.tier.clock.now());
        let written = PyList::new(py, finished.written.iter().map(|left| left.value.name.bind(py)))?;
        Ok((written, finished.lost.iter().map(|left| lost(py, left)).collect()))
    }

    /// What is pending waits for nothing any more. Gives a mark to ask `is_settled` about.
    fn hurry(&self) -> u64 {
        self.writing.queue.lock().hurry()
    }

    /// True if everything is written or given up that was pending at the mark.
    fn is_settled(&self, mark: u64) -> bool {
        self.writing.queue.lock().is_settled(mark)
    }

    /// Gives up everything that is pending.
    fn give_up<'py>(&self, py: Python<'py>) -> Vec<Lost<'py>> {
        let left = self.writing.queue.lock().give_up();
        left.iter().map(|left| lost(py, left)).collect()
    }
}

/// Turns at keys.
#[pyclass(frozen, module = "samovar._core")]
#[derive(Default)]
pub struct Turns(Guarded<Lines<Object>>);

#[pymethods]
impl Turns {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        self.0.lock().visit(|waiter| {
            result = visit.call(waiter);
            result.is_ok()
        });
        result
    }

    fn __len__(&self) -> usize {
        self.0.lock().len()
    }

    /// Takes the turn if nobody has it; true if so.
    fn take(&self, key: &str) -> bool {
        self.0.lock().take(key)
    }

    /// Joins the line; None if it is the waiter's turn at once.
    fn join(&self, key: &str, waiter: Object) -> Option<u64> {
        let joined = self.0.lock().join(key, waiter);
        joined.ok()
    }

    /// Leaves the line; false if the turn had come already.
    fn leave(&self, key: &str, ticket: u64) -> bool {
        let waiter = self.0.lock().leave(key, ticket);
        waiter.is_some()
    }

    /// Ends a turn; gives whoever has it next.
    #[pyo3(name = "pass_on")]
    fn pass(&self, key: &str) -> Option<Object> {
        self.0.lock().pass(key)
    }
}
