//! What `samovar/_cache.py` and `samovar/_two_tiers.py` have checked and hand over: a memory's bounds, and the store behind it.

use super::clock;
use super::remote::{Remote, Terms};
use super::store::StoreCore;
use crate::core::memory::{Capacity, Eviction};
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// A `samovar.Memory`, checked there.
#[derive(FromPyObject)]
pub struct MemoryOptions<'py> {
    max_entries: u32,
    max_bytes: Option<u64>,
    /// Who leaves.
    pub eviction: String,
    /// What tells how heavy a value is.
    pub weigher: Option<Bound<'py, PyAny>>,
    max_missing: Option<u32>,
    missing_eviction: String,
}

impl MemoryOptions<'_> {
    /// The bound of the memory.
    pub fn bound(&self) -> Capacity {
        Capacity { entries: self.max_entries, weight: self.max_bytes.unwrap_or(u64::MAX) }
    }

    /// The bound of negative entries, if they have one of their own.
    pub fn apart(&self) -> PyResult<Option<(Capacity, Eviction)>> {
        let eviction = self.missing_eviction.parse()?;
        Ok(self.max_missing.map(|most| (Capacity::entries(most), eviction)))
    }
}

/// A store behind the memory, checked in `samovar/_two_tiers.py`: whether its errors are raised, whether memory keeps anything, and for
/// how many seconds at most.
#[derive(FromPyObject)]
pub struct RemoteOptions<'py> {
    store: PyRef<'py, StoreCore>,
    raises: bool,
    keeps: bool,
    most: Option<f64>,
    listens: bool,
    external: bool,
}

impl RemoteOptions<'_> {
    /// That of a cache of this name.
    pub fn open(&self, cache: &str) -> Arc<Remote> {
        let most = self.most.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let RemoteOptions { raises, keeps, listens, external, .. } = *self;
        let terms = Terms { raises, keeps, most, listens, external };
        Remote::new(Arc::clone(self.store.store()), self.store.name().to_owned(), cache, &terms, clock::shared())
    }
}
