//! What memory has under the names of a namespace, a few at a time: nobody is blocked by a long walk.

use super::cache::CacheCore;
use super::copy;
use super::tier::{Object, Space};
use crate::core::memory::Target;
use crate::core::policy::Glob;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use std::sync::Arc;

/// Where a walk goes on: in which space, and after what.
pub type At = (usize, Option<Py<Cursor>>);

/// Where a scan stopped.
#[pyclass(frozen, module = "samovar._core")]
pub struct Cursor(Target);

impl CacheCore {
    /// The names of this namespace that memory has, and that fit.
    pub fn names(&self, py: Python<'_>, glob: &Glob) -> Vec<String> {
        const BATCH: usize = 1_024;
        let (spaces, mut names) = (self.tier.all_spaces(), Vec::new());
        for space in spaces.iter().filter(|space| space.path == self.space.path && space.has_names()) {
            let mut from = None;
            loop {
                let memory = self.tier.memory.lock();
                let members = memory.entries.members(space.group(), from, BATCH);
                let keys = members.iter().filter_map(|&id| Some(memory.entries.key(id)?.clone_ref(py)));
                let keys: Vec<Object> = keys.collect();
                from = members.last().map(|&id| memory.entries.target(id)).filter(|_| members.len() == BATCH);
                drop(memory);
                names.extend(keys.iter().filter_map(|key| key.bind(py).extract().ok()));
                if from.is_none() {
                    break;
                }
            }
        }
        names.retain(|name: &String| glob.fits(name));
        names
    }

    /// Some (name, value) pairs, and where to go on; `None` at the end.
    pub fn some<'py>(&self, py: Python<'py>, from: Option<At>) -> PyResult<(Bound<'py, PyList>, Option<At>)> {
        const BATCH: usize = 64;
        let spaces: Vec<Arc<Space>> =
            self.tier.all_spaces().into_iter().filter(|s| s.path == self.space.path).collect();
        let (number, cursor) = from.unwrap_or((0, None));
        let Some(space) = spaces.get(number) else { return Ok((PyList::empty(py), None)) };
        let (mut memory, now) = (self.tier.memory.lock(), self.tier.clock.now());
        let members = memory.entries.members(space.group(), cursor.map(|cursor| cursor.get().0), BATCH);
        let mut pairs = Vec::with_capacity(members.len());
        for &id in &members {
            memory.settle(id, now);
            if !memory.entries.is_served(id, |end| self.tier.clock.has_come(end)) {
                continue;
            }
            if let (Some(key), Some(found)) = (memory.entries.key(id), memory.entries.peek(id)) {
                pairs.push((key.clone_ref(py), found.value.clone_ref(py), found.tag));
            }
        }
        let last = members.last().filter(|_| members.len() == BATCH).map(|&id| memory.entries.target(id));
        drop(memory);
        let list = PyList::empty(py);
        for (key, value, kind) in pairs {
            // Calls of functions without key= live beside names, but have none.
            if key.bind(py).is_exact_instance_of::<PyString>() && space.has_names() {
                list.append((key, copy::hand_out(value.bind(py), kind)?))?;
            }
        }
        let next = match last {
            Some(target) => Some((number, Some(Py::new(py, Cursor(target))?))),
            None => Some((number + 1, None)),
        };
        Ok((list, next))
    }
}
