//! What a user's store is asked at a time, while it works on it: requests that were submitted together, or a page of a scan.
//!
//! The thread of the store (`samovar/_user_store.py`) awaits the user's methods and tells here what they gave; what that means is decided in
//! [`io::store::plain`](crate::io::store::plain). Each request is answered once, by its reply, by an error, or by the end of the call's time,
//! which comes from another thread: a store that blocks its own keeps nobody waiting. After that nothing is begun any more.

use super::options::shown;
use super::user_store::{Shared, Worker};
use crate::error::{StoreError, StoreFailure};
use crate::io::store::bytes::Change;
use crate::io::store::plain::Plain;
use crate::io::store::{Answer, Answers, Cursor, Reply};
use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use std::sync::Arc;
use std::time::Duration;

/// What is asked.
pub enum Work {
    /// These requests.
    Requests(Plain),
    /// Keys that begin so, from there on.
    Page(String, Cursor),
}

/// See the module.
pub struct Call {
    pub id: u64,
    pub shared: Arc<Shared>,
    worker: Arc<Worker>,
    work: Work,
    answers: Answers,
    inside: Mutex<Inside>,
}

struct Inside {
    /// Which of the requests have no answer yet.
    open: Vec<bool>,
    /// Answers that are true once their key is written; with `true` by a swap of its own.
    pending: HashMap<usize, (bool, Vec<(usize, Answer)>)>,
    /// True once something may have been written.
    writing: bool,
    /// True once its time is up.
    over: bool,
    /// How often somebody else was faster, by key.
    conflicts: HashMap<usize, u32>,
}

/// So often somebody else may be faster at a key.
const CONFLICTS: u32 = 100;

/// Of one key: its place, its name, what has to be there, what is to be there, and for how many seconds.
type Swap<'py> = (usize, String, Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>, Option<f64>);

impl Call {
    pub fn new(id: u64, shared: &Arc<Shared>, worker: &Arc<Worker>, work: Work, answers: Answers) -> Self {
        let count = if let Work::Requests(plain) = &work { plain.len() } else { 1 };
        let open = vec![true; count];
        let inside = Inside { open, pending: HashMap::new(), writing: false, over: false, conflicts: HashMap::new() };
        let (shared, worker) = (Arc::clone(shared), Arc::clone(worker));
        Call { id, shared, worker, work, answers, inside: Mutex::new(inside) }
    }

    /// The keys on which nobody else may work meanwhile.
    pub fn changing(&self) -> Vec<Vec<u8>> {
        match &self.work {
            Work::Requests(plain) if !self.shared.swaps => plain.changing().map(<[u8]>::to_vec).collect(),
            _ => Vec::new(),
        }
    }

    /// Gives the answers to those that have none yet.
    fn give(&self, mut answers: Vec<(usize, Answer)>) {
        {
            let open = &mut self.inside.lock().open;
            answers.retain(|(place, _)| std::mem::take(&mut open[*place]));
        }
        if !answers.is_empty() {
            self.worker.count(&answers);
            self.answers.give(answers);
        }
    }

    /// Gives this error to all that have no answer yet, or to those on one key.
    fn give_error(&self, key: Option<usize>, kind: StoreFailure, what: &str, cure: &str) {
        let undone = !self.inside.lock().writing;
        let error = StoreError { kind, undone, ..self.shared.error(what, cure) };
        let places = match (&self.work, key) {
            (Work::Requests(plain), Some(key)) => plain.places(key).to_vec(),
            (Work::Requests(plain), None) => (0..plain.len()).collect(),
            (Work::Page(..), _) => vec![0],
        };
        self.give(places.into_iter().map(|place| (place, Err(error.clone()))).collect());
    }

    /// Its time is up.
    pub fn time_out(&self) {
        let waits = {
            let mut inside = self.inside.lock();
            inside.over = true;
            inside.open.contains(&true)
        };
        if waits {
            let what = format!("no answer within the {:?} a call has", self.shared.timeout);
            let cure = "see what the store waits for, or give calls more time: timeout";
            self.give_error(None, StoreFailure::Timeout, &what, cure);
            self.worker.cancel(self.id);
        }
    }

    /// True if nobody waits for it any more.
    pub fn is_over(&self) -> bool {
        self.inside.lock().over
    }

    /// It cannot be begun.
    pub fn fail(&self, what: &str, cure: &str) {
        self.inside.lock().over = true;
        self.give_error(None, StoreFailure::Unreachable, what, cure);
    }

    /// Refuses the requests on keys that are no text, which is what stores of the user's have.
    pub fn refuse_no_text(&self) {
        let Some(plain) = self.plain() else { return };
        for (at, key) in plain.keys().enumerate() {
            if std::str::from_utf8(key).is_err() {
                self.give_error(Some(at), StoreFailure::Refused, "a key that is no text", "give keys in UTF-8");
            }
        }
    }

    /// The store is closed, or nobody has it any more.
    pub fn close(&self) {
        self.fail("the store was closed", "ask before it is closed");
    }

    /// Its thread ends. At the end of the process that is no news for those who still wait: their time will be up.
    pub fn leave_behind(call: Arc<Call>) {
        if call.worker.is_last() { std::mem::forget(call) } else { call.close() }
    }

    fn plain(&self) -> Option<&Plain> {
        if let Work::Requests(plain) = &self.work { Some(plain) } else { None }
    }

    fn wrong(&self, key: Option<usize>, what: &str) {
        self.give_error(
            key,
            StoreFailure::Misconfigured,
            what,
            "mend the store; samovar.Store says what its methods give",
        );
    }

    /// Decides about one key: what to do, and the answers that are true already.
    fn decide(&self, plain: &Plain, key: usize, held: Option<&[u8]>) -> (Change, Vec<(usize, Answer)>) {
        let (answers, change) = plain.decide(key, held, &self.worker.clock);
        if change == Change::None {
            return (change, answers);
        }
        let mut inside = self.inside.lock();
        if inside.over {
            return (Change::None, Vec::new());
        }
        let alone = self.shared.swaps && (matches!(change, Change::Write(..)) || inside.conflicts.contains_key(&key));
        inside.writing = true;
        inside.pending.insert(key, (alone, answers));
        (change, Vec::new())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Nobody is left without an answer, whatever has happened to the call.
        if self.inside.get_mut().open.contains(&true) {
            self.fail("it was lost before it was answered", "see the log for what happened to the store's thread");
        }
    }
}

/// The call as the store's thread sees it.
#[pyclass(frozen, module = "samovar._core")]
pub struct StoreCall(pub Arc<Call>, pub Py<PyAny>);

#[pymethods]
impl StoreCall {
    /// Which one it is.
    #[getter]
    fn id(&self) -> u64 {
        self.0.id
    }

    /// The user's store.
    #[getter]
    fn store(&self, py: Python<'_>) -> Py<PyAny> {
        self.1.clone_ref(py)
    }

    /// True when its time is up: nothing may be begun any more.
    #[getter]
    fn is_over(&self) -> bool {
        self.0.is_over()
    }

    /// Seconds that it may take.
    #[getter]
    fn budget(&self) -> f64 {
        self.0.shared.timeout.as_secs_f64()
    }

    /// What has to be read; `None` for a page.
    #[getter]
    fn keys(&self) -> Option<Vec<&str>> {
        // One that is no text was refused already.
        self.0.plain().map(|plain| plain.keys().filter_map(|key| std::str::from_utf8(key).ok()).collect())
    }

    /// Of a page: with what its keys begin, and where it begins; 0 is the first.
    #[getter]
    fn page(&self) -> Option<(&str, u64)> {
        if let Work::Page(prefix, from) = &self.0.work { Some((prefix, from.at)) } else { None }
    }

    /// What `get_many` gave: what to set, what to swap and what to delete.
    fn found<'py>(
        &self,
        found: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyList>, Bound<'py, PyList>)> {
        let py = found.py();
        let (sets, swaps, gone) = (PyDict::new(py), PyList::empty(py), PyList::empty(py));
        let (Some(plain), Ok(found)) = (self.0.plain(), found.cast::<PyDict>()) else {
            self.0.wrong(None, &format!("get_many gave a {}, not a dict", type_name(found)));
            return Ok((sets, swaps, gone));
        };
        let mut known = Vec::new();
        for (at, key) in plain.keys().enumerate() {
            let Ok(name) = std::str::from_utf8(key) else { continue };
            let held = match found.get_item(name)?.map(|value| bytes_of(&value)).transpose() {
                Ok(held) => held.flatten(),
                Err(what) => {
                    self.0.wrong(Some(at), &format!("get_many gave {what} for {name:?}"));
                    continue;
                }
            };
            let (change, answers) = self.0.decide(plain, at, held.as_deref());
            known.extend(answers);
            match change {
                Change::None => {}
                Change::Remove => gone.append(name)?,
                Change::Write(bytes, life) if self.0.shared.swaps => {
                    let expected = held.map(|held| PyBytes::new(py, &held));
                    swaps.append((at, name, expected, PyBytes::new(py, &bytes), seconds(life)))?;
                }
                Change::Write(bytes, life) => sets.set_item(name, (PyBytes::new(py, &bytes), seconds(life)))?,
            }
        }
        self.0.give(known);
        Ok((sets, swaps, gone))
    }

    /// What `swap` gave for the key at this place: `None` if that is done, else with what to go on; no data means to delete.
    fn swapped<'py>(&self, key: usize, gave: &Bound<'py, PyAny>) -> PyResult<Option<Swap<'py>>> {
        let (py, Some(plain)) = (gave.py(), self.0.plain()) else { return Ok(None) };
        let held = match bytes_of(gave) {
            Ok(None) => {
                self.written(Some(key));
                return Ok(None);
            }
            Ok(held) => held.filter(|held| !held.is_empty()),
            Err(what) => {
                self.0.wrong(Some(key), &format!("swap gave {what}"));
                return Ok(None);
            }
        };
        let conflicts = {
            let mut inside = self.0.inside.lock();
            inside.pending.remove(&key);
            let conflicts = inside.conflicts.entry(key).or_insert(0);
            *conflicts += 1;
            *conflicts
        };
        self.0.worker.tally.lock().retries += 1;
        if conflicts > CONFLICTS {
            let what = format!("swap said {CONFLICTS} times that something else is there than was read");
            self.0.give_error(Some(key), StoreFailure::Refused, &what, "see whether it compares what it is given");
            return Ok(None);
        }
        let again = |data: Option<Vec<u8>>, life| {
            let name = plain.keys().nth(key).map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
            let expected = held.as_deref().map(|held| PyBytes::new(py, held));
            Some((key, name, expected, data.map(|data| PyBytes::new(py, &data)), seconds(life)))
        };
        let (change, known) = self.0.decide(plain, key, held.as_deref());
        self.0.give(known);
        Ok(match change {
            Change::None => None,
            Change::Remove => again(None, None),
            Change::Write(bytes, life) => again(Some(bytes), life),
        })
    }

    /// What was to be written or deleted is: of one key, or of all that were written together.
    #[pyo3(signature = (key=None))]
    fn written(&self, key: Option<usize>) {
        let done: Vec<_> = {
            let pending = &mut self.0.inside.lock().pending;
            match key {
                Some(key) => pending.remove(&key).map(|(_, answers)| answers).unwrap_or_default(),
                None => pending.extract_if(|_, (alone, _)| !*alone).flat_map(|(_, (_, answers))| answers).collect(),
            }
        };
        self.0.give(done);
    }

    /// Keys of a page, and whether there may be more.
    fn scanned(&self, keys: &Bound<'_, PyList>, more: bool) {
        let Work::Page(prefix, from) = &self.0.work else { return };
        let mut page = Vec::new();
        for key in keys.iter() {
            match key.cast::<PyString>().map(|key| key.to_str().map(str::to_owned)) {
                // What the user's store gives beyond what it was asked for is nobody's.
                Ok(Ok(key)) if key.starts_with(prefix.as_str()) => page.push(key.into_bytes()),
                Ok(Ok(_)) => {}
                _ => return self.0.wrong(None, &format!("scan gave {} for a key, not a text", shown(&key))),
            }
        }
        let at = if from.at == 0 { self.0.id } else { from.at };
        self.0.give(vec![(0, Ok(Reply::Scanned((page, more.then_some(Cursor { server: 0, at })))))]);
    }

    /// A method of the user's raised this; with `key`, it was about that one alone.
    #[pyo3(signature = (method, error, key=None))]
    fn failed(&self, method: &str, error: &Bound<'_, PyAny>, key: Option<usize>) {
        let text = error.str().map(|text| text.to_string()).unwrap_or_default();
        let text = text.char_indices().nth(300).map_or(&text[..], |(end, _)| &text[..end]);
        let what = format!("{method} raised {}: {text}", type_name(error));
        let what = what.strip_suffix(": ").unwrap_or(&what);
        self.0.give_error(key, StoreFailure::Unreachable, what, "see in the store why it failed");
    }

    /// A method of the user's gave what it should not; with `key`, for that one alone.
    #[pyo3(signature = (what, key=None))]
    fn wrong(&self, what: &str, key: Option<usize>) {
        self.0.wrong(key, what);
    }

    /// The thread ends.
    fn closed(&self) {
        Call::leave_behind(Arc::clone(&self.0));
    }
}

/// The bytes that a method of the user's gave; or what it gave instead.
fn bytes_of(value: &Bound<'_, PyAny>) -> Result<Option<Vec<u8>>, String> {
    if value.is_none() {
        return Ok(None);
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Some(bytes.as_bytes().to_vec()));
    }
    // bytearray and memoryview are as good.
    let given = || format!("a {}, not bytes", type_name(value));
    let buffer = pyo3::buffer::PyBuffer::<u8>::get(value).map_err(|_| given())?;
    buffer.to_vec(value.py()).map(Some).map_err(|_| given())
}

fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().fully_qualified_name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

fn seconds(life: Option<Duration>) -> Option<f64> {
    life.map(|life| life.as_secs_f64())
}
