//! Values that memory holds sealed: a frame in the place of the object, opened for each reader.
//!
//! For caches of what must not lie about in a process's memory, or its core dump, longer than somebody uses it.

use super::coding::{Coding, What};
use super::tier::Object;
use crate::core::clock::Clock;
use crate::core::clock::NEVER;
use crate::core::policy::Lifetime;
use crate::core::remote::Version;
use crate::io::store::stored::Stored;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::pyclass::CompareOp;

/// What a frame in memory is sealed for: it has no name of its own.
const NAME: &[u8] = b"memory";

/// See the module.
#[pyclass(frozen, module = "samovar._core")]
pub struct Sealed {
    frame: Stored,
    coding: Py<Coding>,
}

impl Sealed {
    /// Seals a value.
    ///
    /// # Errors
    ///
    /// CodecError: it has no form.
    pub fn seal<'py>(value: &Bound<'py, PyAny>, coding: &Py<Coding>, clock: &Clock) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        let life = (&Lifetime::plain(NEVER), clock.now());
        let packed = coding.get().pack(py, NAME, What::Value(value), life, (None, 0), clock)?;
        let frame = packed.and_then(|(frame, _)| Stored::new(Version(0), frame));
        let frame = frame.ok_or_else(|| super::errors::codec(py, "the value is too large to be kept".into()))?;
        Ok(Bound::new(py, Sealed { frame, coding: coding.clone_ref(py) })?.into_any())
    }

    /// The value.
    pub fn open(&self, py: Python<'_>) -> PyResult<Object> {
        let fetched = self.coding.get().read(py, NAME, &self.frame, super::clock::shared().both());
        let value = fetched.and_then(|fetched| fetched.value);
        value.ok_or_else(|| PyRuntimeError::new_err("a value that was sealed in memory cannot be opened any more"))
    }
}

#[pymethods]
impl Sealed {
    /// As the values are.
    fn __richcmp__(&self, py: Python<'_>, other: &Bound<'_, PyAny>, how: CompareOp) -> PyResult<Object> {
        let Ok(other) = other.cast::<Sealed>() else { return Ok(py.NotImplemented()) };
        let (own, other) = (self.open(py)?.into_bound(py), other.get().open(py)?);
        Ok(own.rich_compare(other, how)?.unbind())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.coding)
    }
}
