//! Lookups by name in a cache's memory: a hit on the shortest way, and the second look at what is none.

use super::*;
use crate::python::args;

impl CacheCore {
    /// A hit by name: an owned reference, or null. Nothing is counted then: it is a miss, or a hit that somebody listens to.
    #[inline(always)]
    pub fn hit(&self, key: *mut ffi::PyObject) -> (*mut ffi::PyObject, u32) {
        // SAFETY: `key` is an exact str and the interpreter is held; comparing two of them runs no Python.
        unsafe {
            let hash = mix(args::hash_str(key), self.space.read_salt());
            let mut memory = self.tier.memory.lock();
            let same = |held: &Object| args::same_plain(held.as_ptr(), key);
            let Some(found) = memory.entries.hit_fresh(hash, same, |end| self.tier.clock.has_come(end)) else {
                return (null_mut(), 0);
            };
            let (value, kind) = (found.value.as_ptr(), found.tag);
            ffi::Py_INCREF(value);
            (value, kind)
        }
    }

    /// What is there of several names.
    pub fn hits<'py>(&self, py: Python<'py>, keys: &Bound<'py, PyAny>) -> PyResult<Hits<'py>> {
        Hits::of(keys, |key| {
            let key = key_name(key)?.into_any();
            let (value, kind) = self.hit(key.as_ptr());
            // SAFETY: the hit gave us a reference, or null.
            unsafe { handed_out(py, value, kind) }
        })
    }

    /// What [`hit`](Self::hit) has not found at the first look, counted: a value about which lookups that load have to think
    /// twice, nothing at all, or a note that there is nothing. An owned reference, or null.
    #[cold]
    pub fn second_look(&self, key: *mut ffi::PyObject, salt: u64) -> (*mut ffi::PyObject, u32) {
        // SAFETY: the interpreter is held.
        hearing::heed(unsafe { Python::assume_attached() }, &self.tier);
        // SAFETY: as in `hit`.
        let hash = unsafe { mix(args::hash_str(key), salt) };
        // SAFETY: as in `hit`.
        let same = |held: &Object| unsafe { args::same_plain(held.as_ptr(), key) };
        let mut memory = self.tier.memory.lock();
        let found = memory.entries.find(hash, same);
        // Where nothing is the time does not matter.
        let now = found.map_or(0, |_| self.tier.clock.now());
        let found = memory.look_only(self.space.group(), found, now).and_then(|id| memory.entries.peek(id));
        let Some(found) = found else { return (null_mut(), 0) };
        let (value, kind) = (found.value.as_ptr(), found.tag);
        // SAFETY: the table holds the value, and the interpreter is held.
        unsafe { ffi::Py_INCREF(value) };
        (value, kind)
    }

    /// True if memory has something under a name that is no older than that.
    pub fn has_at_least(&self, key: &Bound<'_, PyString>, least: Stamp) -> PyResult<bool> {
        let (found, _) = self.spot(key.as_any())?.locate(key.py(), &self.tier)?;
        let memory = self.tier.memory.lock();
        let version = found.and_then(|found| memory.version(memory.entries.resolve(found)?));
        Ok(version.is_some_and(|version| version >= least.version()))
    }

    /// True if nothing is in memory and nobody hears of misses: then whoever looks several names up need only count them.
    pub fn misses_all(&self, py: Python<'_>) -> bool {
        hearing::heed(py, &self.tier);
        !self.tier.listeners.hear(Kind::Miss) && self.tier.entries_in(&self.space) == 0
    }

    /// So many lookups found nothing.
    pub fn count_misses(&self, count: usize) {
        self.tier.memory.lock().entries.stats_mut(self.space.group()).misses += count as u64;
    }

    /// Hit or miss by name, counted and told; a value is the caller's own.
    pub fn look<'py>(&self, key: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = key.py();
        // SAFETY: exact str objects; comparing two of them runs no Python.
        let (hash, same) = unsafe {
            let hash = mix(args::hash_str(key.as_ptr()), self.space.salt());
            (hash, |held: &Object| args::same_plain(held.as_ptr(), key.as_ptr()))
        };
        let mut memory = self.tier.memory.lock();
        let on = !self.space.is_disabled();
        let found = if on { memory.entries.hit_fresh(hash, same, |end| self.tier.clock.has_come(end)) } else { None };
        let found = found.map(|found| (found.value.clone_ref(py), found.tag));
        drop(memory);
        let value = match found {
            Some((value, kind)) => Some(copy::hand_out(value.bind(py), kind)?),
            None => {
                let salt = if on { self.space.salt() } else { self.space.read_salt() };
                let (value, kind) = self.second_look(key.as_ptr(), salt);
                // SAFETY: the look gave us a reference, or null.
                unsafe { handed_out(py, value, kind)? }
            }
        };
        let kind = if value.is_some() { Kind::Hit } else { Kind::Miss };
        if self.tier.listeners.hear(kind) {
            self.tier.tell(py, kind, &self.space, Some((hash, key.as_any().as_unbound())), Details::default());
        }
        Ok(value)
    }
}
