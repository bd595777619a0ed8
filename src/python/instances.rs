//! Entries of methods: each instance has a space of its own, told by its identity, and the entries die with it.
//!
//! An instance is known by its address. That is safe because a weak reference's callback forgets the address, and drops
//! the entries, before the memory can be used for another object; but of an instance that a finalizer brings back after the
//! collector has ended its weak references, and of which none tells any more. So the reference is asked, too. The instance is
//! never hashed or compared, and kept alive by nothing but results that refer to it; `knots` sees to those.

use super::anchor::Anchor;
use super::errors;
use super::function::Function;
use super::guarded::Guarded;
use super::options::shown;
use super::state::State;
use super::tier::{Object, Space, Tier};
use crate::core::memory::mix;
use hashbrown::HashTable;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyCFunction;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The instances of one function.
#[derive(Default)]
pub struct Instances {
    known: Guarded<HashTable<Known>>,
    /// Whether `knots` looks after them.
    watched: AtomicBool,
}

struct Known {
    address: usize,
    space: Arc<Space>,
    /// The weak reference that tells of its end.
    reference: Object,
}

impl Known {
    /// True if it is of this instance, and not of one that was there before.
    #[inline]
    fn is_of(&self, instance: *mut ffi::PyObject) -> bool {
        // SAFETY: a weak reference, and what it gives is only compared.
        unsafe { ffi::PyWeakref_GetObject(self.reference.as_ptr()) == instance }
    }
}

fn hash(address: usize) -> u64 {
    mix(address as u64, 0)
}

impl Instances {
    /// The salt of an instance that has been seen before.
    #[inline]
    pub fn find(&self, instance: *mut ffi::PyObject) -> Option<u64> {
        let known = self.known.lock();
        let address = instance as usize;
        let known = known.find(hash(address), |known| known.address == address)?;
        known.is_of(instance).then(|| known.space.read_salt())
    }

    /// The space of an instance, made if need be; `None` if its class says how it is encoded.
    pub fn space(
        function: &Arc<Function>,
        py: Python<'_>,
        state: &'static State,
        instance: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Arc<Space>>> {
        let class = instance.get_type();
        if class.hasattr(&state.names.__cache_key__)? {
            return Ok(None);
        }
        let address = instance.as_ptr() as usize;
        if let Some(known) = function.instances.known.lock().find(hash(address), |known| known.address == address)
            && known.is_of(instance.as_ptr())
        {
            return Ok(Some(known.space.clone()));
        }
        function.instances.forget(py, function, address);
        let weak = Arc::downgrade(function);
        let forget = PyCFunction::new_closure(py, None, None, move |args, _| {
            let (Some(function), py) = (weak.upgrade(), args.py()) else { return };
            let _anchor = Anchor::hold();
            function.instances.forget(py, &function, address);
        })?;
        let made = py.import("weakref")?.call_method1("ref", (instance, forget));
        let reference = made.map_err(|_| {
            errors::config(
                py,
                format!(
                    "cannot cache {} per instance: {} allows no weak references; add '__weakref__' to its __slots__, \
                 give it a __cache_key__ method, or use ignore=['self']",
                    function.naming.id,
                    shown(class.as_any())
                ),
            )
        })?;
        if !function.instances.watched.swap(true, Relaxed) {
            state.has_instances(py, function)?;
        }
        let space = function.tier.add_space_like(&function.space, true);
        let known = Known { address, space: space.clone(), reference: reference.unbind() };
        function.instances.known.lock().insert_unique(hash(address), known, |known| hash(known.address));
        Ok(Some(space))
    }

    /// An instance is gone: so are its entries, now.
    fn forget(&self, py: Python<'_>, function: &Function, address: usize) {
        let found = self
            .known
            .lock()
            .find_entry(hash(address), |known| known.address == address)
            .ok()
            .map(|found| found.remove().0);
        if let Some(known) = found {
            function.tier.end_space(&known.space, Some(&function.space));
            drop(known.reference.into_bound(py));
        }
    }

    /// Forgets all instances; for a function that goes away.
    pub fn clear(&self, function: &Function) {
        let all = std::mem::take(&mut *self.known.lock());
        for known in all.iter() {
            function.tier.end_space(&known.space, Some(&function.space));
        }
    }

    /// The spaces of all living instances.
    pub fn spaces(&self) -> Vec<Arc<Space>> {
        self.known.lock().iter().map(|known| known.space.clone()).collect()
    }

    /// How many instances live that have been seen.
    pub fn count(&self) -> usize {
        self.known.lock().len()
    }

    /// Some of them, with their spaces, from a place in the order of the table on.
    pub fn some(&self, start: usize, most: usize, mut found: impl FnMut(*mut ffi::PyObject, &Arc<Space>)) {
        let known = self.known.lock();
        known.iter().skip(start).take(most).for_each(|known| found(known.address as *mut ffi::PyObject, &known.space));
    }

    /// For the collector.
    pub fn visit(&self, tier: &Tier, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        let known = self.known.lock();
        known.iter().all(|known| visit(&known.reference) && tier.visit_space(&known.space, visit))
    }
}
