//! The one Python object that answers to the cycle collector for what a cache holds under names.
//!
//! Every face of a cache and every function of it holds this object; the collector must hear of an entry exactly once. Who uses what a
//! tier holds, and has come by no face of it, holds the owner meanwhile: see [`Tier::owner`].

use super::tier::Tier;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;
use pyo3::{PyTraverseError, PyVisit};
use std::sync::Arc;

/// See the module.
#[pyclass(frozen, weakref, module = "samovar._core")]
pub struct TierOwner {
    /// The cache.
    pub tier: Arc<Tier>,
}

impl TierOwner {
    /// That of a new tier.
    pub fn of(py: Python<'_>, tier: Arc<Tier>) -> PyResult<Py<TierOwner>> {
        let owner = Bound::new(py, TierOwner { tier })?;
        owner.get().tier.set_owner(PyWeakrefReference::new(&owner)?);
        Ok(owner.unbind())
    }
}

impl Drop for TierOwner {
    fn drop(&mut self) {
        // What it keeps of calls leads back to the tier.
        self.tier.end_refresher();
    }
}

#[pymethods]
impl TierOwner {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        self.tier.visit(&mut |object| {
            result = visit.call(object);
            result.is_ok()
        });
        result
    }

    fn __clear__(&self) {
        self.tier.drain();
    }
}
