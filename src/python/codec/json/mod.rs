//! JSON of Python objects: by orjson, once it is certain that it brings the value back as it was, or by our own writer and
//! reader where it is not installed.

mod check;
mod read;
mod write;

use super::super::anchor::Anchor;
use super::codec_error;
use super::keys::Keys;
use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::cell::UnsafeCell;

/// See the module.
#[pyclass(frozen, module = "samovar._core")]
pub struct JsonText {
    /// `orjson.dumps` and `orjson.loads`.
    orjson: Option<(Py<PyAny>, Py<PyAny>)>,
    keys: UnsafeCell<Keys>,
}

// SAFETY: the cell is used by threads that hold the interpreter only, and never across a call that could release it.
unsafe impl Sync for JsonText {}

#[pymethods]
impl JsonText {
    /// `orjson` is that module, or None.
    #[new]
    fn new(orjson: &Bound<'_, PyAny>) -> PyResult<Self> {
        let orjson = match orjson.is_none() {
            true => None,
            false => Some((orjson.getattr("dumps")?.unbind(), orjson.getattr("loads")?.unbind())),
        };
        Ok(JsonText { orjson, keys: UnsafeCell::default() })
    }

    /// The value as JSON.
    fn encode<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (py, _anchor) = (value.py(), Anchor::hold());
        let Some((dumps, _)) = &self.orjson else {
            let mut out = Vec::new();
            write::write(value, &mut out).map_err(|bad| bad.into_error(py, "value"))?;
            return Ok(PyBytes::new(py, &out).into_any());
        };
        check::check(value).map_err(|bad| bad.into_error(py, "value"))?;
        dumps.bind(py).call1((value,)).map_err(|error| {
            if !error.is_instance_of::<PyTypeError>(py) {
                return error;
            }
            // It asks texts and ints itself, and does not say where.
            match write::write(value, &mut Vec::new()) {
                Err(bad) => bad.into_error(py, "value"),
                Ok(()) => codec_error(py, format!("value: {}", error.value(py)), Some(error)),
            }
        })
    }

    /// The value that is exactly this JSON.
    fn decode<'py>(&self, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (py, _anchor) = (data.py(), Anchor::hold());
        let failed = |error: PyErr| match error.is_instance_of::<PyException>(py) {
            true => codec_error(py, format!("no JSON: {}", error.value(py)), Some(error)),
            false => error,
        };
        if let Some((_, loads)) = &self.orjson {
            return loads.bind(py).call1((data,)).map_err(failed);
        }
        let copy;
        let bytes = match data.cast::<PyBytes>() {
            Ok(bytes) => bytes,
            Err(_) => {
                copy = super::copied(data)?;
                &copy
            }
        };
        read::read(py, &self.keys, bytes.as_bytes()).map_err(|wrong| match wrong {
            read::Wrong::Is(text, at) => codec_error(py, format!("no JSON: {text} (byte {at})"), None),
            read::Wrong::Raised(error) => failed(error),
        })
    }
}
