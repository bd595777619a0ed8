//! The one Python object that answers to the cycle collector for what a cache holds under names.
//!
//! Every face of a cache and every function of it holds this object; the collector must hear of an entry exactly once.

use super::tier::Tier;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::sync::Arc;

/// See the module.
#[pyclass(frozen, module = "samovar._core")]
pub struct TierOwner {
    /// The cache.
    pub tier: Arc<Tier>,
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
