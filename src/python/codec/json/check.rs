//! Whether a value is one that JSON brings back as it was. orjson would write others too, and bring back something else: a list
//! for a tuple, null for nan, text for a UUID. Texts and ints it asks itself.

use super::super::path::{Bad, Step, Why, type_name};
use crate::codec::msgpack::MAX_DEPTH;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr::addr_of_mut;

type Done = Result<(), Box<Bad>>;

/// Fails with the path to the first part that is neither None, bool, int, finite float, str, list, nor dict with str for keys.
pub fn check(value: &Bound<'_, PyAny>) -> Done {
    let mut check = Check { py: value.py(), around: Vec::new() };
    // SAFETY: the caller holds a reference, and nothing below runs Python.
    unsafe { check.any(value.as_ptr()) }
}

/// What to say of a value that JSON would not bring back.
pub fn no_form(object: &Bound<'_, PyAny>) -> Box<Bad> {
    Bad::is(format!(
        "object of type {}, which JSON would not bring back; give type= (or annotate what the function returns), or use \
         msgpack",
        type_name(object)
    ))
}

/// What to say of a key that is not text.
pub fn no_key(key: &Bound<'_, PyAny>) -> Box<Bad> {
    let text = format!("object of type {}, where JSON has only text; use msgpack", type_name(key));
    Bad::is(text).within(Step::Key)
}

/// What to say of a float that is not finite.
pub fn not_finite() -> Box<Bad> {
    Bad::is("a float that is not finite, for which JSON has no form; use msgpack")
}

struct Check<'py> {
    py: Python<'py>,
    around: Vec<usize>,
}

impl Check<'_> {
    /// # Safety
    /// `object` is valid, and nothing runs Python until this returns.
    unsafe fn any(&mut self, object: *mut ffi::PyObject) -> Done {
        // SAFETY: each branch reads the object as the exact type just seen.
        unsafe {
            let kind = ffi::Py_TYPE(object);
            if kind == addr_of_mut!(ffi::PyUnicode_Type) || kind == addr_of_mut!(ffi::PyLong_Type) {
                Ok(())
            } else if kind == addr_of_mut!(ffi::PyFloat_Type) {
                if ffi::PyFloat_AS_DOUBLE(object).is_finite() { Ok(()) } else { Err(not_finite()) }
            } else if object == ffi::Py_None() || kind == addr_of_mut!(ffi::PyBool_Type) {
                Ok(())
            } else if kind == addr_of_mut!(ffi::PyDict_Type) {
                self.container(object, Check::dict)
            } else if kind == addr_of_mut!(ffi::PyList_Type) {
                self.container(object, Check::list)
            } else {
                Err(no_form(&Bound::from_borrowed_ptr(self.py, object)))
            }
        }
    }

    /// # Safety
    /// As [`any`](Self::any).
    unsafe fn container(
        &mut self,
        object: *mut ffi::PyObject,
        body: unsafe fn(&mut Self, *mut ffi::PyObject) -> Done,
    ) -> Done {
        deeper(&mut self.around, object)?;
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
                    return Err(no_key(&Bound::from_borrowed_ptr(self.py, key)));
                }
                let held = hold(self.py, key, value);
                self.any(value).map_err(|bad| bad.within(of_key(held, self.py, key)))?;
            }
        }
        Ok(())
    }
}

/// Notes a container around what follows.
pub fn deeper(around: &mut Vec<usize>, container: *mut ffi::PyObject) -> Done {
    around.push(container as usize);
    if around.len() > MAX_DEPTH {
        return Err(Bad::new(Why::TooDeep(around.clone())));
    }
    Ok(())
}

/// A reference to a key, unless what is said of its value runs no Python: the name of a type may.
///
/// # Safety
/// Both are valid.
#[inline]
pub unsafe fn hold<'py>(
    py: Python<'py>,
    key: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> Option<Bound<'py, PyAny>> {
    // SAFETY: as the caller says.
    unsafe {
        let kind = ffi::Py_TYPE(value);
        let plain = kind == addr_of_mut!(ffi::PyUnicode_Type)
            || kind == addr_of_mut!(ffi::PyLong_Type)
            || kind == addr_of_mut!(ffi::PyFloat_Type);
        if plain { None } else { Some(Bound::from_borrowed_ptr(py, key)) }
    }
}

/// The step to the value of a key, which is held if [`hold`] said so.
///
/// # Safety
/// `key` is valid if it is not held.
#[cold]
pub unsafe fn of_key<'py>(held: Option<Bound<'py, PyAny>>, py: Python<'py>, key: *mut ffi::PyObject) -> Step {
    // SAFETY: as the caller says.
    Step::Of(held.unwrap_or_else(|| unsafe { Bound::from_borrowed_ptr(py, key) }).unbind())
}
