//! A call as C gives it, with the arguments where they lie.

use super::tier::Object;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// A call as C gives it: positional arguments, then the values of the keywords in `names`.
#[derive(Clone, Copy)]
pub struct Given {
    /// All values.
    pub args: *const *mut ffi::PyObject,
    /// How many of them are positional.
    pub positional: usize,
    /// A tuple of the names of the others, or null.
    pub names: *mut ffi::PyObject,
}

impl Given {
    /// A vectorcall's or fast call's arguments; `positional` without flags.
    pub fn new(args: *const *mut ffi::PyObject, positional: usize, names: *mut ffi::PyObject) -> Self {
        Given { args, positional, names }
    }

    /// How many are given by name.
    #[inline]
    pub fn named(&self) -> usize {
        // SAFETY: `names` is null or a tuple of keyword names.
        if self.names.is_null() { 0 } else { unsafe { ffi::PyTuple_GET_SIZE(self.names) as usize } }
    }

    /// All values.
    #[inline]
    pub fn all(&self) -> &[*mut ffi::PyObject] {
        let count = self.positional + self.named();
        // SAFETY: a caller gives as many arguments as it says; a null pointer comes with none.
        if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(self.args, count) } }
    }

    /// The same call with another argument in one place.
    ///
    /// # Safety
    /// `row` holds as many arguments as the call has and outlives the result.
    pub unsafe fn with_row(&self, row: &[*mut ffi::PyObject]) -> Given {
        Given { args: row.as_ptr(), ..*self }
    }

    /// The arguments, borrowed.
    pub fn row(&self) -> Vec<*mut ffi::PyObject> {
        self.all().to_vec()
    }

    /// Calls something with these very arguments.
    ///
    /// # Safety
    /// The call they were given in still lasts.
    pub unsafe fn call(&self, py: Python<'_>, callable: &Object) -> PyResult<Object> {
        // SAFETY: passed on to the caller.
        unsafe {
            let made = ffi::PyObject_Vectorcall(callable.as_ptr(), self.args, self.positional, self.names);
            Ok(Bound::from_owned_ptr_or_err(py, made)?.unbind())
        }
    }

    /// The arguments as references of our own.
    pub fn owned<'py>(&self, py: Python<'py>) -> (Vec<Bound<'py, PyAny>>, Option<Bound<'py, PyTuple>>) {
        // SAFETY: arguments are valid objects for as long as the call lasts, and the names are a tuple.
        unsafe {
            let all = self.all().iter().map(|&arg| Bound::from_borrowed_ptr(py, arg)).collect();
            let names = Bound::from_borrowed_ptr_or_opt(py, self.names).map(|names| names.cast_into_unchecked());
            (all, names)
        }
    }
}
