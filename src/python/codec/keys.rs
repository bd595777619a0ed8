//! Strings that were keys of dicts lately. The same few names come again with every record, and a string that is there
//! already has its hash and needs no memory.

use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr::null_mut;

/// How many are kept: 16 kB of pointers, to strings of 80 bytes at most.
const PLACES: usize = 2048;
/// Longer keys are data, not names.
const LONGEST: usize = 32;

/// See the module.
pub struct Keys {
    /// Owned references to exact, compact ASCII strings, or null.
    places: Box<[*mut ffi::PyObject; PLACES]>,
}

impl Default for Keys {
    fn default() -> Self {
        Keys { places: Box::new([null_mut(); PLACES]) }
    }
}

// SAFETY: the strings are used and dropped by threads that hold the interpreter.
unsafe impl Send for Keys {}

impl Keys {
    /// The string of these bytes, if they are short ASCII.
    #[inline]
    pub fn find<'py>(&mut self, py: Python<'py>, bytes: &[u8]) -> Option<PyResult<Bound<'py, PyAny>>> {
        if bytes.is_empty() || bytes.len() > LONGEST {
            return None;
        }
        let place = &mut self.places[place_of(bytes)];
        // SAFETY: a place is null or holds a compact ASCII string of our own.
        if !place.is_null() && unsafe { ascii(*place) } == bytes {
            // SAFETY: as above.
            return Some(Ok(unsafe { Bound::from_borrowed_ptr(py, *place) }));
        }
        if !bytes.is_ascii() {
            return None;
        }
        // SAFETY: a new string, filled before anybody sees it; dropping the one before runs no Python.
        unsafe {
            let made = super::text::ascii(py, bytes);
            if let Ok(made) = &made {
                let before = std::mem::replace(place, made.clone().into_ptr());
                ffi::Py_XDECREF(before);
            }
            Some(made)
        }
    }
}

/// # Safety
/// `string` is a compact ASCII string.
#[inline]
unsafe fn ascii<'a>(string: *mut ffi::PyObject) -> &'a [u8] {
    // SAFETY: as the caller says; its bytes do not change.
    unsafe {
        let length = ffi::PyUnicode_GET_LENGTH(string) as usize;
        std::slice::from_raw_parts(ffi::PyUnicode_DATA(string).cast::<u8>(), length)
    }
}

/// Multiplies words of eight bytes, the last of which overlaps.
#[inline]
fn place_of(bytes: &[u8]) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let length = bytes.len();
    let mut hash = length as u64;
    if let (Some(_), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        for word in bytes.chunks_exact(8) {
            let word = u64::from_ne_bytes(word.try_into().unwrap_or_default());
            hash = (hash ^ word).wrapping_mul(ODD).rotate_left(29);
        }
        hash ^= u64::from_ne_bytes(*last);
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        hash ^= u64::from(u32::from_ne_bytes(*first)) << 32 | u64::from(u32::from_ne_bytes(*last));
    } else {
        hash ^= u64::from(bytes[0]) << 32 | u64::from(bytes[length / 2]) << 16 | u64::from(bytes[length - 1]) << 8;
    }
    (hash.wrapping_mul(ODD) >> 53) as usize & (PLACES - 1)
}
