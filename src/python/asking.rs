//! Finding keys that only Python can compare: those with hashable objects without an encoding, in a cache of this
//! process alone.
//!
//! `__eq__` may do anything, so it never runs under the lock: candidates are copied out, compared outside, and if the
//! table has changed meanwhile the search starts anew.

use super::errors;
use super::spot::Spot;
use super::tier::{Object, Tier};
use crate::core::flight::FlightId;
use crate::core::memory::Target;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// An `__eq__` that changes the cache each time it is asked would otherwise keep us here for ever.
const PATIENCE: u32 = 32;

/// As [`Spot::locate`], for keys that ask.
pub fn locate(py: Python<'_>, tier: &Tier, spot: &Spot) -> PyResult<(Option<Target>, Option<FlightId>)> {
    for _ in 0..PATIENCE {
        let (entries, flights, version) = candidates(py, tier, spot.hash);
        let mut entry = None;
        for (target, key) in &entries {
            if same(key.bind(py), spot.key.bind(py))? {
                entry = Some(*target);
                break;
            }
        }
        let mut flight = None;
        for (id, key) in &flights {
            if same(key.bind(py), spot.key.bind(py))? {
                flight = Some(*id);
                break;
            }
        }
        drop((entries, flights));
        if version == changes(tier) {
            return Ok((entry, flight));
        }
    }
    Err(PyRuntimeError::new_err(format!(
        "cache {:?} changed {PATIENCE} times while __eq__ of a key was being asked; \
         give the argument's class a __cache_key__ method, or leave the argument out with ignore=",
        tier.name
    )))
}

type Candidates = (Vec<(Target, Object)>, Vec<(FlightId, Object)>, (u64, u64));

fn candidates(py: Python<'_>, tier: &Tier, hash: u64) -> Candidates {
    let version = changes(tier);
    let memory = tier.memory.lock();
    let entries = memory.entries.candidates(hash).map(|(target, key)| (target, key.clone_ref(py))).collect();
    let flights = memory.flights.candidates(hash).map(|(id, key)| (id, key.clone_ref(py))).collect();
    (entries, flights, version)
}

fn changes(tier: &Tier) -> (u64, u64) {
    let memory = tier.memory.lock();
    (memory.entries.changes(), memory.flights.begun())
}

/// A key is the encoding of a call, then the objects in it that have none: those are the same if their types are and
/// Python says they are equal. The encoding alone tells 1 from True.
fn same(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<bool> {
    let (a, b) = (a.cast::<pyo3::types::PyTuple>()?, b.cast::<pyo3::types::PyTuple>()?);
    if a.len() != b.len() {
        return Ok(false);
    }
    for (x, y) in a.iter().zip(b.iter()) {
        // SAFETY: both are valid objects.
        let plainly = unsafe { super::args::same_plain(x.as_ptr(), y.as_ptr()) };
        let same =
            plainly || (x.get_type().is(y.get_type()) && x.eq(&y).map_err(|error| errors::not_stop(a.py(), error))?);
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}
