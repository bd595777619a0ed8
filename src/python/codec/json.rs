//! Whether a value is one that JSON brings back as it was: whoever writes JSON would write others too, and bring back something
//! else, a list for a tuple or null for nan.

use super::path::{Bad, Step, Why, type_name};
use crate::codec::msgpack::MAX_DEPTH;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::ptr::addr_of_mut;

type Done = Result<(), Box<Bad>>;

/// Fails with the path to the first part that JSON has no form for: what is neither None, bool, int of 64 bits, finite float, str
/// without surrogates, list, nor dict with str for keys. `thorough` asks texts and ints too, which orjson asks by itself.
#[pyfunction]
pub fn _check_json(value: &Bound<'_, PyAny>, name: &str, thorough: bool) -> PyResult<()> {
    let mut check = Check { py: value.py(), around: Vec::new(), thorough };
    // SAFETY: the caller holds a reference, and nothing below runs Python.
    unsafe { check.any(value.as_ptr()) }.map_err(|bad| bad.into_error(value.py(), name))
}

struct Check<'py> {
    py: Python<'py>,
    around: Vec<usize>,
    thorough: bool,
}

impl Check<'_> {
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
                match ffi::PyFloat_AS_DOUBLE(object).is_finite() {
                    true => Ok(()),
                    false => Err(Bad::is("a float that is not finite, for which JSON has no form; use msgpack")),
                }
            } else if object == ffi::Py_None() || kind == addr_of_mut!(ffi::PyBool_Type) {
                Ok(())
            } else if kind == addr_of_mut!(ffi::PyDict_Type) {
                self.container(object, Check::dict)
            } else if kind == addr_of_mut!(ffi::PyList_Type) {
                self.container(object, Check::list)
            } else {
                let name = type_name(&Bound::from_borrowed_ptr(self.py, object));
                Err(Bad::is(format!(
                    "object of type {name}, which JSON would not bring back; give type= (or annotate what the function \
                     returns), or use msgpack"
                )))
            }
        }
    }

    /// # Safety
    /// As [`any`](Self::any), for a str.
    unsafe fn text(&self, object: *mut ffi::PyObject) -> Done {
        if !self.thorough {
            return Ok(());
        }
        let mut scratch = Vec::new();
        // SAFETY: as the caller says.
        unsafe { super::text::write(&mut crate::codec::msgpack::Writer::new(&mut scratch), object) }
    }

    /// # Safety
    /// As [`any`](Self::any), for an int.
    unsafe fn int(&self, object: *mut ffi::PyObject) -> Done {
        if !self.thorough {
            return Ok(());
        }
        // SAFETY: as the caller says.
        let number: Bound<'_, PyAny> = unsafe { Bound::from_borrowed_ptr(self.py, object) };
        match number.extract::<i64>().is_ok() || number.extract::<u64>().is_ok() {
            true => Ok(()),
            false => Err(Bad::is("an int beyond 64 bits, which readers of JSON make a float of; use msgpack")),
        }
    }

    /// # Safety
    /// As [`any`](Self::any).
    unsafe fn container(
        &mut self,
        object: *mut ffi::PyObject,
        body: unsafe fn(&mut Self, *mut ffi::PyObject) -> Done,
    ) -> Done {
        self.around.push(object as usize);
        if self.around.len() > MAX_DEPTH {
            return Err(Bad::new(Why::TooDeep(self.around.clone())));
        }
        // SAFETY: as the caller says.
        unsafe { body(self, object)? };
        self.around.pop();
        Ok(())
    }

    /// # Safety
    /// As [`any`](Self::any), for a list.
    unsafe fn list(&mut self, list: *mut ffi::PyObject) -> Done {
        // SAFETY: nothing changes the list meanwhile.
        unsafe {
            (0..ffi::PyList_GET_SIZE(list)).try_for_each(|at| {
                self.any(ffi::PyList_GET_ITEM(list, at)).map_err(|bad| bad.within(Step::At(at as usize)))
            })
        }
    }

    /// # Safety
    /// As [`any`](Self::any), for a dict.
    unsafe fn dict(&mut self, dict: *mut ffi::PyObject) -> Done {
        let (mut at, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: nothing changes the dict meanwhile.
        unsafe {
            while ffi::PyDict_Next(dict, &raw mut at, &raw mut key, &raw mut value) != 0 {
                if ffi::Py_TYPE(key) != addr_of_mut!(ffi::PyUnicode_Type) {
                    let name = type_name(&Bound::from_borrowed_ptr(self.py, key));
                    let bad = Bad::is(format!("object of type {name}, where JSON has only text; use msgpack"));
                    return Err(bad.within(Step::Key));
                }
                self.text(key).map_err(|bad| bad.within(Step::Key))?;
                self.any(value).map_err(|bad| {
                    let key: Bound<'_, PyString> = Bound::from_borrowed_ptr(self.py, key).cast_into_unchecked();
                    bad.within(Step::Of(key.into_any().unbind()))
                })?;
            }
        }
        Ok(())
    }
}
