//! Many keys in one call: the hits of all at once, and the blocking driver of the rest.
//!
//! Whoever waits for another holds no lease. First all leases are taken that are free, then those are loaded in one call
//! and given back, and only then others' loads are waited for. So two threads with keys in common never block each
//! other, in whatever order they ask. The asyncio side needs no such driver: `samovar/_batch.py` begins one call a key,
//! and these meet in a batch.

use super::blocking::{self, Found};
use super::copy;
use super::errors;
use super::filling::{self, Blocked};
use super::lease;
use super::options::shown;
use super::request::Request;
use super::state::State;
use super::tier::Object;
use crate::core::flight::Lease;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// What a lookup of many gives: by id, in the order asked, with a place held for those that are missing.
pub struct Hits<'py> {
    /// The values; None where there is none.
    pub values: Bound<'py, PyDict>,
    /// The ids of those.
    pub missing: Vec<Bound<'py, PyAny>>,
}

impl<'py> Hits<'py> {
    /// Looks all ids up, each once. `hit` gives a reference of its own, or nothing.
    pub fn of(
        ids: &Bound<'py, PyAny>,
        mut hit: impl FnMut(&Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>>,
    ) -> PyResult<Self> {
        let py = ids.py();
        let (values, mut missing) = (PyDict::new(py), Vec::new());
        for id in ids.try_iter()? {
            let id = id?;
            if values.contains(&id).map_err(|error| unhashable(&id, error))? {
                continue;
            }
            match hit(&id)? {
                Some(value) => values.set_item(&id, value)?,
                None => {
                    values.set_item(&id, py.None())?;
                    missing.push(id);
                }
            }
        }
        Ok(Hits { values, missing })
    }

    /// For Python: the values, and the missing ids.
    pub fn into_pair(self) -> PyResult<Object> {
        let py = self.values.py();
        let missing = PyList::new(py, self.missing)?.into_any();
        Ok(PyTuple::new(py, [self.values.into_any(), missing])?.into_any().unbind())
    }

    /// Loads what is missing, on this thread, and gives all values. The first error in the order asked is raised when
    /// everything else is done.
    pub fn complete(
        self,
        state: &'static State,
        bulk: &Bulk<'py>,
        request: impl FnMut(&Bound<'py, PyAny>) -> PyResult<Request>,
    ) -> PyResult<Object> {
        let Hits { values, missing } = self;
        let py = values.py();
        let requests = missing.iter().map(request).collect::<PyResult<Vec<_>>>()?;
        let mut failed = None;
        for (id, answer) in missing.iter().zip(answer_all(py, state, &missing, &requests, bulk)?) {
            match answer {
                Ok(value) if is_absent(state, value.bind(py))? => values.del_item(id)?,
                Ok(value) => values.set_item(id, value)?,
                Err(error) if is_absent(state, error.value(py))? => values.del_item(id)?,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or_else(|| Ok(values.into_any().unbind()), Err)
    }
}

fn unhashable(id: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let refused = errors::key_type(
        id.py(),
        format!(
            "{} cannot be one of several ids: results are kept in a dict by id; give ids that can be hashed",
            shown(id)
        ),
    );
    refused.set_cause(id.py(), Some(error));
    refused
}

/// True for what says that there is nothing.
fn is_absent(state: &State, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let not_found = state.not_found(value.py())?;
    Ok(value.is(not_found) || value.is_instance(not_found)?)
}

/// The user's function, which loads many at once: called with a list of ids, it gives what it found, by id, and the error
/// that answers for the others, if they are not simply absent.
pub struct Bulk<'py> {
    /// What is called.
    pub load: Bound<'py, PyAny>,
    /// The most ids that one call takes.
    pub limit: usize,
}

/// An answer for each request, in order.
fn answer_all<'py>(
    py: Python<'py>,
    state: &'static State,
    ids: &[Bound<'py, PyAny>],
    requests: &[Request],
    bulk: &Bulk<'py>,
) -> PyResult<Vec<PyResult<Object>>> {
    let mut answers: Vec<Option<PyResult<Object>>> = requests.iter().map(|_| None).collect();
    let mut open: Vec<usize> = (0..requests.len()).collect();
    while !open.is_empty() {
        let (mut own, mut theirs) = (Vec::new(), Vec::new());
        for at in open.drain(..) {
            let request = &requests[at];
            let lease = match blocking::look(py, state, request) {
                Ok(Found::Lead(lease)) => Some(lease),
                Ok(Found::Direct) => None,
                Ok(Found::Answer(value, kind)) => {
                    answers[at] = Some(blocking::settle(py, state, request, value, kind));
                    continue;
                }
                Ok(Found::Flying(awaited)) => {
                    theirs.push((at, awaited));
                    continue;
                }
                Err(error) => {
                    answers[at] = Some(Err(error));
                    continue;
                }
            };
            match request.pending(py, state) {
                Some(written) => answers[at] = Some(conclude(py, state, request, lease, written.map(Bound::unbind))),
                None => own.push((at, lease)),
            }
        }
        load_all(py, state, ids, requests, own, bulk, &mut answers)?;
        for (at, awaited) in theirs {
            match blocking::wait(py, state, &requests[at], &awaited) {
                Ok(Some(value)) => answers[at] = Some(Ok(value)),
                Ok(None) => open.push(at),
                Err(error) if !error.is_instance_of::<PyException>(py) => return Err(error),
                Err(error) => answers[at] = Some(Err(error)),
            }
        }
    }
    let none = || Err(errors::load_ended(py, "many"));
    Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(none)).collect())
}

/// Fills all these leases: by the store behind the memory, which is asked for all at once, and by as few calls as may be for the rest.
fn load_all<'py>(
    py: Python<'py>,
    state: &'static State,
    ids: &[Bound<'py, PyAny>],
    requests: &[Request],
    mut own: Vec<(usize, Option<Lease>)>,
    bulk: &Bulk<'py>,
    answers: &mut [Option<PyResult<Object>>],
) -> PyResult<()> {
    // By their places, in ascending order.
    let (mut places, mut behind) = (Vec::new(), Vec::new());
    own.retain(|&(at, lease)| {
        let begun = lease.and_then(|lease| Blocked::begin(py, state, &requests[at], lease));
        let alone = begun.is_none();
        places.extend((!alone).then_some((at, lease)));
        behind.extend(begun);
        alone
    });
    let mut stop = None;
    loop {
        filling::advance(py, state, &mut behind);
        own.extend(places.iter().zip(&behind).filter(|(_, filling)| filling.loads()).map(|(place, _)| *place));
        own.sort_unstable_by_key(|(at, _)| *at);
        for part in own.chunks(bulk.limit) {
            let called = match &stop {
                None => call(py, state, ids, requests, part, bulk),
                Some(stop) => Err(PyErr::clone_ref(stop, py)),
            };
            for &(at, lease) in part {
                let loaded = outcome(py, state, &ids[at], &called);
                match places.binary_search_by_key(&at, |(place, _)| *place) {
                    Ok(filled) => behind[filled].loaded(py, state, loaded),
                    Err(_) => answers[at] = Some(conclude(py, state, &requests[at], lease, loaded)),
                }
            }
            stop = stop.or(called.err().filter(|error| !error.is_instance_of::<PyException>(py)));
        }
        // Other processes' loads are waited for with none of one's own to do: those may be waited for there.
        if own.is_empty() && !filling::rest(py, &mut behind) {
            break;
        }
        own.clear();
    }
    for ((at, _), filling) in places.into_iter().zip(behind) {
        answers[at] = Some(filling.conclude(py, state));
    }
    stop.map_or(Ok(()), Err)
}

/// What a caller gets of a load, which is the cache's if it has a lease.
fn conclude(
    py: Python<'_>,
    state: &State,
    request: &Request,
    lease: Option<Lease>,
    loaded: PyResult<Object>,
) -> PyResult<Object> {
    match lease {
        Some(lease) => blocking::conclude(py, state, request, lease, loaded),
        None => loaded,
    }
}

/// What one call found, and the error that answers for what it did not.
type Called<'py> = PyResult<(Bound<'py, PyDict>, Option<Bound<'py, PyAny>>)>;

/// Loads some of the ids in one call.
fn call<'py>(
    py: Python<'py>,
    state: &State,
    ids: &[Bound<'py, PyAny>],
    requests: &[Request],
    part: &[(usize, Option<Lease>)],
    bulk: &Bulk<'py>,
) -> Called<'py> {
    let asked = PyList::new(py, part.iter().map(|&(at, _)| &ids[at]))?;
    let flights = part.iter().filter_map(|(_, lease)| lease.map(|lease| lease.flight));
    let Some(first) = part.first().map(|&(at, _)| &requests[at]) else {
        return Ok((PyDict::new(py), None));
    };
    let context = lease::context(py, state, first, flights)?;
    context.within(|| bulk.load.call1((asked,)))??.extract()
}

/// What became of one id.
fn outcome<'py>(py: Python<'py>, state: &State, id: &Bound<'py, PyAny>, called: &Called<'py>) -> PyResult<Object> {
    let (found, error) = called.as_ref().map_err(|error| error.clone_ref(py))?;
    match (found.get_item(id)?, error) {
        (Some(value), _) => Ok(value.unbind()),
        (None, Some(error)) => Err(PyErr::from_value(error.clone())),
        (None, None) => Ok(state.not_found(py)?.clone().unbind()),
    }
}

/// A value that the hit path has taken a reference to, and how it is handed out; nothing for null.
///
/// # Safety
/// `value` is an owned reference or null.
pub unsafe fn handed_out<'py>(
    py: Python<'py>,
    value: *mut pyo3::ffi::PyObject,
    kind: u32,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if value.is_null() {
        return PyErr::take(py).map_or(Ok(None), Err);
    }
    // SAFETY: the caller gives us its reference.
    copy::hand_out(&unsafe { Bound::from_owned_ptr(py, value) }, kind).map(Some)
}
