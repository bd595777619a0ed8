//! From Python objects to MessagePack: one walk, one growing buffer.
//!
//! Only exact types have a form, so what is read is what was written. Writing an object or a member runs Python, which may
//! change the very containers on the way: each is held while it is walked, and asked whether it has changed.

use super::MessagePack;
use super::library;
use super::path::{Bad, Step, Why, type_name};
use super::text;
use crate::codec::msgpack::{MAX_DEPTH, Writer, ext};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyComplex, PyDate, PyDateTime, PyDelta, PyDict, PyIterator, PyString, PyTime};
use std::ptr::addr_of_mut;

/// See the module.
pub struct Encoder<'a, 'py> {
    codec: &'a MessagePack,
    py: Python<'py>,
    writer: Writer<'a>,
    /// The containers around what is being written, outermost first.
    around: Vec<usize>,
    /// True inside a key or a member, which have to be found again.
    hashed: bool,
}

type Done = Result<(), Box<Bad>>;

const CHANGED: &str = "changed while it was being written";

impl<'a, 'py> Encoder<'a, 'py> {
    /// An encoder that appends to `out`.
    pub fn new(codec: &'a MessagePack, py: Python<'py>, out: &'a mut Vec<u8>) -> Self {
        Encoder { codec, py, writer: Writer::new(out), around: Vec::new(), hashed: false }
    }

    /// Writes a whole value.
    pub fn whole(&mut self, value: &Bound<'_, PyAny>) -> Done {
        // SAFETY: the caller holds a reference.
        unsafe { self.any(value.as_ptr()) }
    }

    /// # Safety
    /// `object` is valid now; a part that runs Python holds it.
    unsafe fn any(&mut self, object: *mut ffi::PyObject) -> Done {
        // SAFETY: each branch reads the object as the exact type just seen.
        unsafe {
            let kind = ffi::Py_TYPE(object);
            if kind == addr_of_mut!(ffi::PyUnicode_Type) {
                text::write(&mut self.writer, object)
            } else if kind == addr_of_mut!(ffi::PyLong_Type) {
                if self.short_int(object) {
                    return Ok(());
                }
                self.wide_int(&Bound::from_borrowed_ptr(self.py, object))
            } else if kind == addr_of_mut!(ffi::PyFloat_Type) {
                self.float(ffi::PyFloat_AS_DOUBLE(object))
            } else if object == ffi::Py_None() {
                self.writer.nil();
                Ok(())
            } else if kind == addr_of_mut!(ffi::PyBool_Type) {
                self.writer.bool(object == ffi::Py_True());
                Ok(())
            } else {
                let held: Bound<'py, PyAny> = Bound::from_borrowed_ptr(self.py, object);
                if kind == addr_of_mut!(ffi::PyDict_Type) {
                    self.container(&held, |encoder, object| encoder.pairs(object, false))
                } else if kind == addr_of_mut!(ffi::PyList_Type) {
                    self.container(&held, Encoder::list)
                } else {
                    self.other(&held)
                }
            }
        }
    }

    /// Writes what can be written without anything that runs Python, a round of the collector included; true if that was all.
    ///
    /// # Safety
    /// `object` is valid.
    #[inline]
    unsafe fn leaf(&mut self, object: *mut ffi::PyObject) -> Result<bool, Box<Bad>> {
        // SAFETY: each branch reads the object as the exact type just seen.
        unsafe {
            let kind = ffi::Py_TYPE(object);
            if kind == addr_of_mut!(ffi::PyUnicode_Type) {
                text::write(&mut self.writer, object)?;
            } else if kind == addr_of_mut!(ffi::PyLong_Type) {
                return Ok(self.short_int(object));
            } else if kind == addr_of_mut!(ffi::PyFloat_Type) {
                self.float(ffi::PyFloat_AS_DOUBLE(object))?;
            } else {
                return Ok(false);
            }
            Ok(true)
        }
    }

    /// Writes an int of 64 bits; false if it is longer.
    ///
    /// # Safety
    /// `object` is an exact int.
    #[inline]
    unsafe fn short_int(&mut self, object: *mut ffi::PyObject) -> bool {
        let mut overflow = 0;
        // SAFETY: an exact int.
        let number = unsafe { ffi::PyLong_AsLongLongAndOverflow(object, &mut overflow) };
        if overflow == 0 {
            self.writer.int(number);
        }
        overflow == 0
    }

    #[cold]
    fn wide_int(&mut self, number: &Bound<'_, PyAny>) -> Done {
        let bits: usize = number.call_method0("bit_length")?.extract()?;
        let options = pyo3::types::PyDict::new(self.py);
        options.set_item("signed", true)?;
        let bytes = number.call_method("to_bytes", (bits / 8 + 1, "big"), Some(&options))?;
        self.writer.big_int(bytes.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes());
        Ok(())
    }

    #[inline]
    fn float(&mut self, number: f64) -> Done {
        if self.hashed && number.is_nan() {
            return Err(nan());
        }
        self.writer.float(number);
        Ok(())
    }

    /// Runs `body` one level deeper.
    #[inline]
    fn container(
        &mut self,
        held: &Bound<'py, PyAny>,
        body: impl FnOnce(&mut Self, &Bound<'py, PyAny>) -> Done,
    ) -> Done {
        if self.around.len() == MAX_DEPTH {
            let mut around = self.around.clone();
            around.push(held.as_ptr() as usize);
            return Err(Bad::new(Why::TooDeep(around)));
        }
        self.around.push(held.as_ptr() as usize);
        body(self, held)?;
        self.around.pop();
        Ok(())
    }

    /// Runs `body` inside an extension.
    fn ext(&mut self, code: i8, body: impl FnOnce(&mut Self) -> Done) -> Done {
        let opened = self.writer.open();
        body(self)?;
        if self.writer.close(opened, code) { Ok(()) } else { Err(too_long()) }
    }

    /// Runs `body` on what has to be hashable.
    fn hashed(&mut self, body: impl FnOnce(&mut Self) -> Done) -> Done {
        let before = std::mem::replace(&mut self.hashed, true);
        body(self)?;
        self.hashed = before;
        Ok(())
    }

    fn length(count: isize) -> Result<u32, Box<Bad>> {
        u32::try_from(count).map_err(|_| too_long())
    }

    fn list(&mut self, list: &Bound<'py, PyAny>) -> Done {
        let list = list.as_ptr();
        // SAFETY: an exact list that the caller holds; its size is asked before each of its elements.
        unsafe {
            let count = ffi::PyList_GET_SIZE(list);
            self.writer.array_header(Self::length(count)?);
            for at in 0..count {
                if at >= ffi::PyList_GET_SIZE(list) {
                    break;
                }
                self.any(ffi::PyList_GET_ITEM(list, at)).map_err(|bad| bad.within(Step::At(at as usize)))?;
            }
            if ffi::PyList_GET_SIZE(list) == count { Ok(()) } else { Err(Bad::is(CHANGED)) }
        }
    }

    fn tuple(&mut self, tuple: &Bound<'py, PyAny>) -> Done {
        let tuple = tuple.as_ptr();
        // SAFETY: a tuple that the caller holds, which nothing changes.
        unsafe {
            let count = ffi::PyTuple_GET_SIZE(tuple);
            self.writer.array_header(Self::length(count)?);
            (0..count).try_for_each(|at| {
                self.any(ffi::PyTuple_GET_ITEM(tuple, at)).map_err(|bad| bad.within(Step::At(at as usize)))
            })
        }
    }

    /// A dict, or the fields of an object.
    fn pairs(&mut self, dict: &Bound<'py, PyAny>, fields: bool) -> Done {
        let dict = dict.as_ptr();
        // SAFETY: an exact dict that the caller holds. `PyDict_Next` finds its way in one that was changed meanwhile; key and
        // value are held whenever writing one of them could run Python while the other is needed.
        unsafe {
            let count = ffi::PyDict_Size(dict);
            self.writer.map_header(Self::length(count)?);
            let (mut at, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
            let mut seen = 0;
            while seen < count && ffi::PyDict_Next(dict, &raw mut at, &raw mut key, &raw mut value) != 0 {
                seen += 1;
                if ffi::Py_TYPE(key) == addr_of_mut!(ffi::PyUnicode_Type) {
                    if let Err(bad) = text::write(&mut self.writer, key) {
                        return Err(bad.within(Step::Key));
                    }
                    if self.leaf(value).map_err(|bad| bad.within(self.step(key, fields)))? {
                        continue;
                    }
                }
                self.pair(Bound::from_borrowed_ptr(self.py, key), Bound::from_borrowed_ptr(self.py, value), fields)?;
            }
            if seen == count && ffi::PyDict_Size(dict) == count { Ok(()) } else { Err(Bad::is(CHANGED)) }
        }
    }

    /// One pair of which both parts are held. A key that is text has been written.
    fn pair(&mut self, key: Bound<'py, PyAny>, value: Bound<'py, PyAny>, fields: bool) -> Done {
        if !key.is_exact_instance_of::<PyString>() {
            self.hashed(|encoder| encoder.whole(&key)).map_err(|bad| bad.within(Step::Key))?;
        }
        // A key is found by its hash, the value behind it is not.
        let before = std::mem::replace(&mut self.hashed, false);
        self.whole(&value).map_err(|bad| bad.within(self.step(key.as_ptr(), fields)))?;
        self.hashed = before;
        Ok(())
    }

    #[cold]
    fn step(&self, key: *mut ffi::PyObject, fields: bool) -> Step {
        // SAFETY: a key that the dict or its caller still holds: a leaf has run no Python.
        let key = unsafe { Bound::from_borrowed_ptr(self.py, key) }.unbind();
        if fields { Step::Field(key) } else { Step::Of(key) }
    }

    fn members(&mut self, set: &Bound<'py, PyAny>) -> Done {
        let count = set.len()?;
        self.writer.array_header(Self::length(count as isize)?);
        let mut seen = 0;
        for member in PyIterator::from_object(set)? {
            let member = member?;
            seen += 1;
            self.hashed(|encoder| encoder.whole(&member)).map_err(|bad| bad.within(Step::Member))?;
        }
        if seen == count { Ok(()) } else { Err(Bad::is(CHANGED)) }
    }

    fn other(&mut self, object: &Bound<'py, PyAny>) -> Done {
        let kind = object.get_type_ptr();
        if kind == addr_of_mut!(ffi::PyTuple_Type) {
            self.container(object, |encoder, tuple| encoder.ext(ext::TUPLE, |encoder| encoder.tuple(tuple)))
        } else if kind == addr_of_mut!(ffi::PyBytes_Type) {
            let bytes = object.cast::<PyBytes>().map_err(PyErr::from)?;
            if self.writer.bin(bytes.as_bytes()) { Ok(()) } else { Err(too_long()) }
        } else if kind == addr_of_mut!(ffi::PySet_Type) {
            self.container(object, |encoder, set| encoder.ext(ext::SET, |encoder| encoder.members(set)))
        } else if kind == addr_of_mut!(ffi::PyFrozenSet_Type) {
            self.container(object, |encoder, set| encoder.ext(ext::FROZENSET, |encoder| encoder.members(set)))
        } else {
            self.standard(object)
        }
    }

    /// Value types of the standard library.
    fn standard(&mut self, object: &Bound<'py, PyAny>) -> Done {
        let library = self.codec.library(self.py)?;
        if let Ok(moment) = object.cast_exact::<PyDateTime>() {
            self.writer.datetime(&library.datetime(moment)?);
        } else if let Ok(date) = object.cast_exact::<PyDate>() {
            self.writer.date(library::date(date));
        } else if let Ok(delta) = object.cast_exact::<PyDelta>() {
            self.writer.delta(library::delta(delta));
        } else if let Ok(time) = object.cast_exact::<PyTime>() {
            self.writer.time(&library.time(time)?);
        } else if let Ok(number) = object.cast_exact::<PyComplex>() {
            let (real, imaginary) = (number.getattr("real")?.extract()?, number.getattr("imag")?.extract()?);
            if self.hashed && (f64::is_nan(real) || f64::is_nan(imaginary)) {
                return Err(nan());
            }
            self.writer.complex(real, imaginary);
        } else if object.get_type().is(&library.decimal) {
            if self.hashed && object.call_method0("is_nan")?.is_truthy()? {
                return Err(nan());
            }
            self.writer.ext(ext::DECIMAL, library.decimal_text(object)?.as_bytes());
        } else if object.get_type().is(&library.uuid) {
            let bytes = object.getattr("bytes")?.cast_into::<PyBytes>().map_err(PyErr::from)?;
            self.writer.ext(ext::UUID, bytes.as_bytes());
        } else if library.is_member(object) {
            return self.container(object, Encoder::member);
        } else {
            return self.container(object, Encoder::record);
        }
        Ok(())
    }

    /// A member of an enumeration: its class and its name, or nil and its value.
    fn member(&mut self, object: &Bound<'py, PyAny>) -> Done {
        let parts = self.codec.classes.bind(self.py).call_method1("member_parts", (object,))?;
        self.ext(ext::ENUM, |encoder| encoder.tuple(&parts))
    }

    /// An object with named fields: its class, its fields, and what its class keeps beside them.
    fn record(&mut self, object: &Bound<'py, PyAny>) -> Done {
        let parts = self.codec.classes.bind(self.py).call_method1("record_parts", (object,))?;
        let Ok((class, fields, rest)) =
            parts.extract::<(Bound<'py, PyString>, Bound<'py, PyDict>, Bound<'py, PyAny>)>()
        else {
            return Err(Bad::is(format!(
                "object of type {}, for which MessagePack has no form; make it a dataclass, return plain values, or use \
                 another codec",
                type_name(object)
            )));
        };
        self.ext(ext::RECORD, |encoder| {
            encoder.writer.array_header(if rest.is_none() { 2 } else { 3 });
            encoder.whole(&class)?;
            encoder.pairs(&fields, true)?;
            if rest.is_none() { Ok(()) } else { encoder.whole(&rest) }
        })
    }
}

#[cold]
fn nan() -> Box<Bad> {
    Bad::is("nan where a key or member has to be; nan equals nothing, so nobody could find it again")
}

#[cold]
fn too_long() -> Box<Bad> {
    Bad::is(
        "more than 4 GiB or 2^32 elements, for which MessagePack has no length; store its parts under keys of their own",
    )
}
