//! What a write gives whoever wants to read it back elsewhere.

use crate::core::remote::Version;
use pyo3::prelude::*;

/// When something was written or invalidated, in the order of the cache's store. Later ones are greater.
///
/// ``cache.get(key, at_least=stamp)`` answers with nothing older, in whichever process.
#[pyclass(frozen, eq, ord, hash, from_py_object, module = "samovar")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The moment, in the store's order; 0 where it is not there yet.
    #[pyo3(get)]
    version: u64,
    /// True if the store has it; False if it will be told once it can be reached.
    #[pyo3(get)]
    applied: bool,
}

impl Stamp {
    /// Of what has this version; None: the store has yet to hear of it.
    pub fn of(version: Option<Version>) -> Self {
        Stamp { version: version.map_or(0, |version| version.0), applied: version.is_some() }
    }

    /// The version that has to be there.
    pub fn version(&self) -> Version {
        Version(self.version)
    }
}

#[pymethods]
impl Stamp {
    #[new]
    #[pyo3(signature = (version, applied = true))]
    fn new(version: u64, applied: bool) -> Self {
        Stamp { version, applied }
    }

    fn __repr__(&self) -> String {
        let Stamp { version, applied } = self;
        format!("Stamp(version={version}, applied={})", if *applied { "True" } else { "False" })
    }

    /// Pickled by what it says.
    fn __getnewargs__(&self) -> (u64, bool) {
        (self.version, self.applied)
    }
}
