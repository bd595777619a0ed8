//! From MessagePack to Python objects. Bytes that somebody else wrote: see the wire's reader for what is promised of them.

use super::MessagePack;
use super::codec_error;
use super::library;
use super::text;
use crate::codec::msgpack::{Date, DateTime, Delta, MAX_DEPTH, Malformed, Problem, Reader, Time, Token, ext};
use crate::codec::msgpack::{is_decimal, is_shortest_int};
use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyComplex, PyDict, PyInt, PyString, PyTuple};

/// Why bytes are no value.
pub enum Failed {
    /// The wire says so.
    Malformed(Malformed),
    /// A class or Python itself does.
    Raised(PyErr),
}

type Found<'py> = Result<Bound<'py, PyAny>, Box<Failed>>;

impl Failed {
    /// The `CodecError`. What is no `Exception`, such as a `KeyboardInterrupt`, goes its own way.
    pub fn into_error(self, py: Python<'_>) -> PyErr {
        match self {
            Failed::Malformed(malformed) => codec_error(py, format!("no MessagePack of ours: {malformed}"), None),
            Failed::Raised(error) if !error.is_instance_of::<PyException>(py) => error,
            Failed::Raised(error) => {
                let text = format!("a value that cannot be made here: {}", error.value(py));
                codec_error(py, text, Some(error))
            }
        }
    }
}

impl From<Malformed> for Box<Failed> {
    #[cold]
    fn from(malformed: Malformed) -> Self {
        Box::new(Failed::Malformed(malformed))
    }
}

impl From<PyErr> for Box<Failed> {
    #[cold]
    fn from(error: PyErr) -> Self {
        Box::new(Failed::Raised(error))
    }
}

/// See the module.
pub struct Decoder<'a, 'py> {
    codec: &'a MessagePack,
    py: Python<'py>,
    reader: Reader<'a>,
}

impl<'a, 'py> Decoder<'a, 'py> {
    /// A decoder of one value.
    pub fn new(codec: &'a MessagePack, py: Python<'py>, bytes: &'a [u8]) -> Self {
        Decoder { codec, py, reader: Reader::new(bytes) }
    }

    /// Reads all there is.
    pub fn whole(&mut self) -> Found<'py> {
        let value = self.any(0, 0)?;
        self.reader.end()?;
        Ok(value)
    }

    /// Reads a value inside `depth` containers, after which `owed` more are due.
    fn any(&mut self, depth: usize, owed: usize) -> Found<'py> {
        let py = self.py;
        match self.reader.token()? {
            Token::Str(bytes) => Ok(self.text(bytes)?),
            // SAFETY: a new reference, or null with an error set.
            Token::Int(number) => Ok(unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromLongLong(number))? }),
            // SAFETY: as above.
            Token::Float(number) => Ok(unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyFloat_FromDouble(number))? }),
            Token::Nil => Ok(py.None().into_bound(py)),
            // SAFETY: the two booleans are there for ever.
            Token::Bool(true) => Ok(unsafe { Bound::from_borrowed_ptr(py, ffi::Py_True()) }),
            // SAFETY: as above.
            Token::Bool(false) => Ok(unsafe { Bound::from_borrowed_ptr(py, ffi::Py_False()) }),
            Token::Map(pairs) => self.dict(pairs, depth, owed),
            Token::Array(count) => self.list(count, depth, owed),
            Token::Bin(bytes) => Ok(PyBytes::new(py, bytes).into_any()),
            Token::UInt(number) => Ok(PyInt::new(py, number).into_any()),
            Token::Ext(code, bytes) => {
                self.reader.can_hold(0, owed)?;
                self.ext(code, bytes, depth)
            }
        }
    }

    #[inline]
    fn text(&self, bytes: &[u8]) -> Found<'py> {
        match text::read(self.py, bytes) {
            Ok(text) => Ok(text),
            Err(error) if error.is_instance_of::<pyo3::exceptions::PyUnicodeDecodeError>(self.py) => {
                Err(self.reader.malformed(Problem::Text).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    #[inline]
    fn deeper(&self, depth: usize) -> Result<usize, Malformed> {
        if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(self.reader.malformed(Problem::TooDeep)) }
    }

    fn list(&mut self, count: usize, depth: usize, owed: usize) -> Found<'py> {
        self.reader.can_hold(count, owed)?;
        let depth = self.deeper(depth)?;
        // SAFETY: a new list of `count` empty places, each of which is filled once with a reference of its own.
        unsafe {
            let list = Bound::from_owned_ptr_or_err(self.py, ffi::PyList_New(count as ffi::Py_ssize_t))?;
            for at in 0..count {
                let item = self.any(depth, owed + (count - at - 1))?;
                ffi::PyList_SET_ITEM(list.as_ptr(), at as ffi::Py_ssize_t, item.into_ptr());
            }
            Ok(list)
        }
    }

    fn tuple(&mut self, count: usize, depth: usize) -> Result<Bound<'py, PyTuple>, Box<Failed>> {
        // SAFETY: a new tuple of `count` empty places, each of which is filled once with a reference of its own.
        unsafe {
            let tuple = Bound::from_owned_ptr_or_err(self.py, ffi::PyTuple_New(count as ffi::Py_ssize_t))?;
            for at in 0..count {
                let item = self.any(depth, count - at - 1)?;
                ffi::PyTuple_SET_ITEM(tuple.as_ptr(), at as ffi::Py_ssize_t, item.into_ptr());
            }
            Ok(tuple.cast_into_unchecked())
        }
    }

    fn dict(&mut self, pairs: usize, depth: usize, owed: usize) -> Found<'py> {
        self.reader.can_hold(pairs.saturating_mul(2), owed)?;
        let depth = self.deeper(depth)?;
        let dict = PyDict::new(self.py);
        for left in (0..pairs).rev() {
            let key = self.key(depth, owed + 2 * left + 1)?;
            let value = self.any(depth, owed + 2 * left)?;
            // SAFETY: all three are valid; the dict takes references of its own.
            if unsafe { ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), value.as_ptr()) } < 0 {
                return Err(PyErr::fetch(self.py).into());
            }
        }
        if dict.len() != pairs {
            return Err(self.reader.malformed(Problem::Twice).into());
        }
        Ok(dict.into_any())
    }

    #[inline]
    fn key(&mut self, depth: usize, owed: usize) -> Found<'py> {
        let mut ahead = self.reader.clone();
        if let Token::Str(bytes) = ahead.token()?
            && let Some(key) = self.codec.key(self.py, bytes)
        {
            self.reader = ahead;
            return Ok(key?);
        }
        self.any(depth, owed)
    }

    fn ext(&mut self, code: i8, bytes: &'a [u8], depth: usize) -> Found<'py> {
        match code {
            ext::TUPLE | ext::SET | ext::FROZENSET | ext::ENUM | ext::RECORD => self.composed(code, bytes, depth),
            ext::INT | ext::DECIMAL | ext::UUID | ext::COMPLEX => self.number(code, bytes),
            _ => self.moment(code, bytes),
        }
    }

    /// Fails with what the wire says of an extension that is not spelled as it has to be.
    fn spelled<T>(&self, code: i8, found: Option<T>) -> Result<T, Malformed> {
        found.ok_or_else(|| self.reader.malformed(Problem::BadExt(code)))
    }

    fn moment(&self, code: i8, bytes: &[u8]) -> Found<'py> {
        let (py, library) = (self.py, self.codec.library(self.py)?);
        Ok(match code {
            ext::TIMESTAMP => library.make_datetime(py, &self.spelled(code, DateTime::read_timestamp(bytes))?)?,
            ext::DATETIME => library.make_datetime(py, &self.spelled(code, DateTime::read(bytes))?)?,
            ext::DATE => library::make_date(py, self.spelled(code, Date::read(bytes))?)?,
            ext::TIME => library.make_time(py, &self.spelled(code, Time::read(bytes))?)?,
            ext::DELTA => library::make_delta(py, self.spelled(code, Delta::read(bytes))?)?,
            _ => return Err(self.reader.malformed(Problem::UnknownExt(code)).into()),
        })
    }

    fn number(&self, code: i8, bytes: &[u8]) -> Found<'py> {
        let (py, library) = (self.py, self.codec.library(self.py)?);
        let spelled = match code {
            ext::INT => is_shortest_int(bytes),
            ext::DECIMAL => is_decimal(bytes),
            _ => bytes.len() == 16,
        };
        self.spelled(code, spelled.then_some(()))?;
        match code {
            ext::INT => {
                let options = PyDict::new(py);
                options.set_item("signed", true)?;
                Ok(py.get_type::<PyInt>().call_method(
                    "from_bytes",
                    (PyBytes::new(py, bytes), "big"),
                    Some(&options),
                )?)
            }
            ext::DECIMAL => Ok(library.decimal.bind(py).call1((text::read(py, bytes)?,))?),
            ext::UUID => {
                let options = PyDict::new(py);
                options.set_item("bytes", PyBytes::new(py, bytes))?;
                Ok(library.uuid.bind(py).call((), Some(&options))?)
            }
            _ => {
                let both = bytes.iter().fold(0u128, |both, byte| both << 8 | u128::from(*byte));
                let (real, imaginary) = (f64::from_bits((both >> 64) as u64), f64::from_bits(both as u64));
                Ok(PyComplex::from_doubles(py, real, imaginary).into_any())
            }
        }
    }

    /// An extension that holds an array of values.
    fn composed(&mut self, code: i8, bytes: &'a [u8], depth: usize) -> Found<'py> {
        let depth = self.deeper(depth)?;
        let mut inner = Decoder { codec: self.codec, py: self.py, reader: self.reader.inside(bytes) };
        let Token::Array(count) = inner.reader.token()? else {
            return Err(self.reader.malformed(Problem::BadExt(code)).into());
        };
        inner.reader.can_hold(count, 0)?;
        let value = match code {
            ext::TUPLE => inner.tuple(count, depth)?.into_any(),
            ext::SET | ext::FROZENSET => inner.members(code, count, depth)?,
            _ => inner.made(code, count, depth)?,
        };
        inner.reader.end()?;
        Ok(value)
    }

    fn members(&mut self, code: i8, count: usize, depth: usize) -> Found<'py> {
        // SAFETY: a new set or frozenset, which members may be added to while nobody else has it.
        unsafe {
            let none = std::ptr::null_mut();
            let made = if code == ext::SET { ffi::PySet_New(none) } else { ffi::PyFrozenSet_New(none) };
            let set = Bound::from_owned_ptr_or_err(self.py, made)?;
            for left in (0..count).rev() {
                let member = self.any(depth, left)?;
                if ffi::PySet_Add(set.as_ptr(), member.as_ptr()) < 0 {
                    return Err(PyErr::fetch(self.py).into());
                }
            }
            if ffi::PySet_Size(set.as_ptr()) as usize != count {
                return Err(self.reader.malformed(Problem::Twice).into());
            }
            Ok(set)
        }
    }

    /// A member of an enumeration, or an object: of a class that `samovar/codecs/_classes.py` knows under the name given.
    fn made(&mut self, code: i8, count: usize, depth: usize) -> Found<'py> {
        let parts = self.tuple(count, depth)?;
        let named = |at| parts.get_item(at).is_ok_and(|part| part.is_exact_instance_of::<PyString>());
        let fits = named(0)
            && match (code, count) {
                (ext::ENUM, 2) => named(1),
                (ext::ENUM, 3) => parts.get_item(1)?.is_none(),
                (ext::RECORD, 2 | 3) => parts.get_item(1)?.is_exact_instance_of::<PyDict>(),
                _ => false,
            };
        self.spelled(code, fits.then_some(()))?;
        let method = if code == ext::ENUM { "member" } else { "record" };
        Ok(self.codec.classes.bind(self.py).call_method1(method, parts)?)
    }
}
