//! MessagePack of Python objects, over the C API: one object that reads and writes, and what it keeps between calls.
//!
//! Tiers call [`MessagePack::write`] and [`MessagePack::read`]; Python's `samovar.codecs` calls `encode` and `decode`. The wire itself is
//! `crate::codec::msgpack`. Reading makes values of builtin and standard types alone. Members of enumerations and objects are
//! made by `samovar/codecs/_classes.py`, of classes that this process has shown it knows: nothing is imported, nothing unpickled.

mod decode;
mod encode;
mod json;
mod keys;
mod library;
mod path;
mod text;

pub use json::JsonText;

use super::anchor::Anchor;
use super::errors;
use decode::Decoder;
use encode::Encoder;
use keys::Keys;
use library::Library;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyMemoryView};
use std::cell::{Cell, UnsafeCell};

/// A buffer that has grown beyond this is not kept for the next value.
const SPARE: usize = 1 << 20;

/// See the module.
#[pyclass(frozen, module = "samovar._core")]
pub struct MessagePack {
    /// `samovar.codecs._classes`: takes members and objects apart, and puts them together.
    classes: Py<PyAny>,
    library: PyOnceLock<Library>,
    keys: UnsafeCell<Keys>,
    spare: Cell<Vec<u8>>,
}

// SAFETY: the cells are used by threads that hold the interpreter only, and never across a call that could release it.
unsafe impl Sync for MessagePack {}

impl MessagePack {
    /// Appends a value to `out`; `name` is what an error calls it.
    ///
    /// # Errors
    /// `CodecError` with the path to what has no form, after which the end of `out` is undefined.
    pub fn write(&self, value: &Bound<'_, PyAny>, name: &str, out: &mut Vec<u8>) -> PyResult<()> {
        Encoder::new(self, value.py(), out).whole(value).map_err(|bad| bad.into_error(value.py(), name))
    }

    /// Reads the value that is exactly these bytes.
    ///
    /// # Errors
    /// `CodecError` for any other bytes.
    pub fn read<'py>(&self, py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        Decoder::new(self, py, bytes).whole().map_err(|failed| failed.into_error(py))
    }

    fn library<'a>(&'a self, py: Python<'_>) -> PyResult<&'a Library> {
        self.library.get_or_try_init(py, || Library::new(py))
    }

    /// The string of these bytes, which stand where a name of a field often does.
    fn key<'py>(&self, py: Python<'py>, bytes: &[u8]) -> Option<PyResult<Bound<'py, PyAny>>> {
        // SAFETY: the interpreter is held, and neither making nor dropping an exact str runs Python.
        unsafe { (*self.keys.get()).find(py, bytes) }
    }
}

#[pymethods]
impl MessagePack {
    #[new]
    fn new(classes: Py<PyAny>) -> Self {
        MessagePack { classes, library: PyOnceLock::new(), keys: UnsafeCell::default(), spare: Cell::default() }
    }

    /// The value as MessagePack. `name` is what a CodecError calls it.
    #[pyo3(signature = (value, name = "value"))]
    fn encode<'py>(&self, value: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyBytes>> {
        let _anchor = Anchor::hold();
        let mut out = self.spare.take();
        out.clear();
        let done = self.write(value, name, &mut out).map(|()| PyBytes::new(value.py(), &out));
        if out.capacity() <= SPARE {
            self.spare.set(out);
        }
        done
    }

    /// The value that is exactly these bytes.
    fn decode<'py>(&self, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let _anchor = Anchor::hold();
        if let Ok(bytes) = data.cast::<PyBytes>() {
            return self.read(data.py(), bytes.as_bytes());
        }
        self.read(data.py(), copied(data)?.as_bytes())
    }
}

/// The bytes of an object that is none: somebody else's memory may change under us.
fn copied<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let view = data.py().get_type::<PyMemoryView>().call1((data,))?;
    Ok(data.py().get_type::<PyBytes>().call1((view,))?.cast_into()?)
}

/// A `CodecError` of this text, because of `cause`.
fn codec_error(py: Python<'_>, text: String, cause: Option<PyErr>) -> PyErr {
    let error = errors::codec(py, text);
    error.set_cause(py, cause);
    error
}
