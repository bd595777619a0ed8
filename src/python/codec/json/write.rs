//! Writing JSON: what it takes is what it would bring back.

use super::super::path::{Bad, Step};
use super::super::text;
use super::check::{deeper, hold, no_form, no_key, not_finite, of_key};
use pyo3::ffi;
use pyo3::prelude::*;
use std::io::Write;
use std::ptr::addr_of_mut;

type Done = Result<(), Box<Bad>>;

/// Appends a value, or fails with the path to the first part that JSON has no form for.
pub fn write(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Done {
    let mut writer = Writer { py: value.py(), out, around: Vec::new() };
    // SAFETY: the caller holds a reference, and nothing below runs Python.
    unsafe { writer.any(value.as_ptr()) }
}

struct Writer<'a, 'py> {
    py: Python<'py>,
    out: &'a mut Vec<u8>,
    around: Vec<usize>,
}

impl Writer<'_, '_> {
    /// # Safety
    /// `object` is valid, and nothing runs Python until this returns.
    unsafe fn any(&mut self, object: *mut ffi::PyObject) -> Done {
        // SAFETY: each branch reads the object as the exact type just seen.
        unsafe {
            let kind = ffi::Py_TYPE(object);
            if kind == addr_of_mut!(ffi::PyUnicode_Type) {
                self.text(object)
            } else if kind == addr_of_mut!(ffi::PyLong_Type) {
                self.int(object)
            } else if kind == addr_of_mut!(ffi::PyFloat_Type) {
                self.float(ffi::PyFloat_AS_DOUBLE(object))
            } else if kind == addr_of_mut!(ffi::PyDict_Type) {
                deeper(&mut self.around, object)?;
                self.dict(object)
            } else if kind == addr_of_mut!(ffi::PyList_Type) {
                deeper(&mut self.around, object)?;
                self.list(object)
            } else {
                let word: &[u8] = if object == ffi::Py_None() {
                    b"null"
                } else if object == ffi::Py_True() {
                    b"true"
                } else if object == ffi::Py_False() {
                    b"false"
                } else {
                    return Err(no_form(&Bound::from_borrowed_ptr(self.py, object)));
                };
                self.out.extend_from_slice(word);
                Ok(())
            }
        }
    }

    /// # Safety
    /// `object` is an exact str.
    #[inline]
    unsafe fn text(&mut self, object: *mut ffi::PyObject) -> Done {
        self.out.push(b'"');
        let start = self.out.len();
        // SAFETY: as the caller says.
        unsafe { text::append(self.out, object)? };
        if needs_escape(&self.out[start..]) {
            let plain = self.out.split_off(start);
            escape(&plain, self.out);
        }
        self.out.push(b'"');
        Ok(())
    }

    /// # Safety
    /// `object` is an exact int.
    #[inline]
    unsafe fn int(&mut self, object: *mut ffi::PyObject) -> Done {
        let mut overflow = 0;
        // SAFETY: an exact int.
        let number = unsafe { ffi::PyLong_AsLongLongAndOverflow(object, &mut overflow) };
        let mut digits = itoa::Buffer::new();
        if overflow == 0 {
            self.out.extend_from_slice(digits.format(number).as_bytes());
            return Ok(());
        }
        // SAFETY: as above.
        match unsafe { unsigned(self.py, object) } {
            Some(number) => self.out.extend_from_slice(digits.format(number).as_bytes()),
            None => return Err(Bad::is("an int beyond 64 bits, which readers of JSON make a float of; use msgpack")),
        }
        Ok(())
    }

    fn float(&mut self, number: f64) -> Done {
        if !number.is_finite() {
            return Err(not_finite());
        }
        // The shortest text that reads as the same bits, with a point or an exponent.
        write!(self.out, "{number:?}").map_err(|error| Bad::is(error.to_string()))
    }

    /// # Safety
    /// As [`any`](Self::any), for a list.
    unsafe fn list(&mut self, list: *mut ffi::PyObject) -> Done {
        self.out.push(b'[');
        // SAFETY: nothing changes the list meanwhile.
        unsafe {
            for at in 0..ffi::PyList_GET_SIZE(list) {
                if at > 0 {
                    self.out.push(b',');
                }
                self.any(ffi::PyList_GET_ITEM(list, at)).map_err(|bad| bad.within(Step::At(at as usize)))?;
            }
        }
        self.out.push(b']');
        self.around.pop();
        Ok(())
    }

    /// # Safety
    /// As [`any`](Self::any), for a dict.
    unsafe fn dict(&mut self, dict: *mut ffi::PyObject) -> Done {
        let (mut at, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        let mut before = b'{';
        // SAFETY: nothing changes the dict meanwhile.
        unsafe {
            while ffi::PyDict_Next(dict, &raw mut at, &raw mut key, &raw mut value) != 0 {
                if ffi::Py_TYPE(key) != addr_of_mut!(ffi::PyUnicode_Type) {
                    return Err(no_key(&Bound::from_borrowed_ptr(self.py, key)));
                }
                self.out.push(before);
                before = b',';
                self.text(key).map_err(|bad| bad.within(Step::Key))?;
                self.out.push(b':');
                let held = hold(self.py, key, value);
                self.any(value).map_err(|bad| bad.within(of_key(held, self.py, key)))?;
            }
        }
        if before == b'{' {
            self.out.push(before);
        }
        self.out.push(b'}');
        self.around.pop();
        Ok(())
    }
}

/// The int, if 64 bits without a sign hold it. Raises nothing, so that the collector has no reason to run.
///
/// # Safety
/// `object` is an exact int.
#[cold]
unsafe fn unsigned(py: Python<'_>, object: *mut ffi::PyObject) -> Option<u64> {
    // SAFETY: as the caller says; comparing ints runs no Python.
    unsafe {
        let low = ffi::PyLong_AsUnsignedLongLongMask(object);
        let same = Bound::from_owned_ptr_or_opt(py, ffi::PyLong_FromUnsignedLongLong(low))?;
        (ffi::PyObject_RichCompareBool(object, same.as_ptr(), ffi::Py_EQ) == 1).then_some(low)
    }
}

#[inline]
fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Looks at 16 bytes at a time, which the compiler makes one comparison of.
#[inline]
fn needs_escape(bytes: &[u8]) -> bool {
    let mut chunks = bytes.chunks_exact(16);
    let found = chunks.by_ref().any(|chunk| chunk.iter().fold(false, |found, byte| found | is_special(*byte)));
    found || chunks.remainder().iter().fold(false, |found, byte| found | is_special(*byte))
}

#[cold]
fn escape(plain: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in plain {
        let letter = match byte {
            b'"' | b'\\' => *byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            0..0x20 => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
                continue;
            }
            _ => {
                out.push(*byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}
