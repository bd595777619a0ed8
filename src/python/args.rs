//! Call arguments as keys: hashed and compared in place, by type and value, without running Python.
//!
//! *Plain* are None, bool, int, str, bytes, float (by its bits), Enum members and tuples of these, all of exactly those
//! types: for them equality here is equality of their canonical encodings. Everything else is not for this file.
//!
//! # Safety
//! Every function of this file takes valid objects and needs the interpreter to be held; it borrows them for the call.

use super::state::State;
use crate::core::key::NAME_LIMIT;
use pyo3::ffi;
use std::ptr::addr_of_mut;

/// Tuples nested deeper than this go through the encoding, which reports them.
const DEPTH: u32 = 16;
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// The hash of a plain object, `None` for any other. Never fails, never runs Python.
///
/// # Safety
/// `object` is a valid object and the interpreter is held.
#[inline]
pub unsafe fn hash_plain(state: &State, object: *mut ffi::PyObject) -> Option<u64> {
    // SAFETY: the caller vouches for the object; each branch reads it as the type just checked.
    unsafe {
        let kind = ffi::Py_TYPE(object);
        if kind == addr_of_mut!(ffi::PyUnicode_Type) {
            Some(hash_str(object))
        } else if kind == addr_of_mut!(ffi::PyLong_Type) {
            Some((ffi::PyObject_Hash(object) as u64).rotate_left(32) ^ 1)
        } else {
            hash_other(state, object, kind, DEPTH)
        }
    }
}

/// A str keeps its hash once it was asked for; most keys have been.
#[inline]
pub unsafe fn hash_str(object: *mut ffi::PyObject) -> u64 {
    // SAFETY: an exact str begins with this structure; -1 means that its hash is not known yet.
    unsafe {
        let known = (*object.cast::<ffi::PyASCIIObject>()).hash;
        (if known == -1 { ffi::PyObject_Hash(object) } else { known }) as u64
    }
}

/// True for a name that is stored as it is: at most 200 bytes in UTF-8, counted from above, and no lone surrogate.
///
/// # Safety
/// `name` is a valid str.
#[inline]
pub unsafe fn is_short_name(name: *mut ffi::PyObject) -> bool {
    // SAFETY: a str's data is `length` units of its kind.
    unsafe {
        let length = ffi::PyUnicode_GET_LENGTH(name) as usize;
        let data = ffi::PyUnicode_DATA(name);
        match ffi::PyUnicode_KIND(name) {
            ffi::PyUnicode_1BYTE_KIND if ffi::PyUnicode_IS_ASCII(name) != 0 => length <= NAME_LIMIT,
            ffi::PyUnicode_1BYTE_KIND => length * 2 <= NAME_LIMIT,
            ffi::PyUnicode_2BYTE_KIND => {
                let units = std::slice::from_raw_parts(data.cast::<u16>(), length);
                length * 3 <= NAME_LIMIT && !units.iter().any(|unit| (0xD800..=0xDFFF).contains(unit))
            }
            _ => {
                let units = std::slice::from_raw_parts(data.cast::<u32>(), length);
                length * 4 <= NAME_LIMIT && !units.iter().any(|unit| (0xD800..=0xDFFF).contains(unit))
            }
        }
    }
}

#[inline(never)]
unsafe fn hash_other(
    state: &State,
    object: *mut ffi::PyObject,
    kind: *mut ffi::PyTypeObject,
    depth: u32,
) -> Option<u64> {
    // SAFETY: as in `hash_plain`; a tuple's items are valid as long as the tuple is.
    unsafe {
        if kind == addr_of_mut!(ffi::PyUnicode_Type) {
            Some(hash_str(object))
        } else if kind == addr_of_mut!(ffi::PyLong_Type) {
            Some((ffi::PyObject_Hash(object) as u64).rotate_left(32) ^ 1)
        } else if kind == addr_of_mut!(ffi::PyBytes_Type) {
            Some((ffi::PyObject_Hash(object) as u64).rotate_left(32) ^ 2)
        } else if kind == addr_of_mut!(ffi::PyFloat_Type) {
            Some(ffi::PyFloat_AS_DOUBLE(object).to_bits().rotate_left(17) ^ 3)
        } else if kind == addr_of_mut!(ffi::PyBool_Type) || object == ffi::Py_None() || state.is_enum_class(kind) {
            Some((object as u64 >> 4).wrapping_mul(SPREAD) ^ 4)
        } else if kind == addr_of_mut!(ffi::PyTuple_Type) && depth > 0 {
            let mut hash = 5;
            for at in 0..ffi::PyTuple_GET_SIZE(object) {
                let item = ffi::PyTuple_GET_ITEM(object, at);
                hash = chain(hash, hash_other(state, item, ffi::Py_TYPE(item), depth - 1)?);
            }
            Some(chain(hash, ffi::PyTuple_GET_SIZE(object) as u64))
        } else {
            None
        }
    }
}

/// Folds one more hash into a row of them; order matters.
#[inline]
pub fn chain(hash: u64, next: u64) -> u64 {
    (hash.rotate_left(5) ^ next).wrapping_mul(SPREAD)
}

/// The hash of a whole call: that of its only argument, or of all in order. `None` if one is not plain.
///
/// # Safety
/// As [`hash_plain`], for each argument.
#[inline(always)]
pub unsafe fn hash_call(
    state: &State,
    mut arguments: impl ExactSizeIterator<Item = *mut ffi::PyObject>,
) -> Option<u64> {
    // SAFETY: passed on to the caller.
    unsafe { if arguments.len() == 1 { hash_plain(state, arguments.next()?) } else { hash_row(state, arguments) } }
}

#[inline(never)]
unsafe fn hash_row(state: &State, arguments: impl ExactSizeIterator<Item = *mut ffi::PyObject>) -> Option<u64> {
    let (mut hash, count) = (5, arguments.len());
    for argument in arguments {
        // SAFETY: as in `hash_call`.
        hash = chain(hash, unsafe { hash_plain(state, argument) }?);
    }
    Some(chain(hash, count as u64))
}

/// Whether two plain objects have the same type and value. Neither need be plain: then only identity counts.
///
/// # Safety
/// Both are valid objects and the interpreter is held.
#[inline(always)]
pub unsafe fn same_plain(a: *mut ffi::PyObject, b: *mut ffi::PyObject) -> bool {
    // SAFETY: passed on to the caller.
    a == b || unsafe { same_value(a, b) }
}

/// Apart from the hit path, which needs its registers: most keys that are asked for are the very objects stored.
#[inline(never)]
unsafe fn same_value(a: *mut ffi::PyObject, b: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller vouches for both; each branch reads them as the type just checked.
    unsafe {
        let kind = ffi::Py_TYPE(a);
        if kind != ffi::Py_TYPE(b) {
            false
        } else if kind == addr_of_mut!(ffi::PyUnicode_Type) {
            same_str(a, b)
        } else {
            same_other(a, b, kind)
        }
    }
}

#[inline]
unsafe fn same_str(a: *mut ffi::PyObject, b: *mut ffi::PyObject) -> bool {
    // SAFETY: both are exact str objects; a str's data is `length × kind` bytes long.
    unsafe {
        let (length, kind) = (ffi::PyUnicode_GET_LENGTH(a), ffi::PyUnicode_KIND(a));
        if length != ffi::PyUnicode_GET_LENGTH(b) || kind != ffi::PyUnicode_KIND(b) {
            return false;
        }
        let bytes = length as usize * kind as usize;
        let left = std::slice::from_raw_parts(ffi::PyUnicode_DATA(a).cast::<u8>(), bytes);
        left == std::slice::from_raw_parts(ffi::PyUnicode_DATA(b).cast::<u8>(), bytes)
    }
}

#[inline(never)]
unsafe fn same_other(a: *mut ffi::PyObject, b: *mut ffi::PyObject, kind: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: both are of `kind`, exactly; comparing two exact ints or bytes runs no Python and cannot fail.
    unsafe {
        if kind == addr_of_mut!(ffi::PyLong_Type) || kind == addr_of_mut!(ffi::PyBytes_Type) {
            ffi::PyObject_RichCompareBool(a, b, ffi::Py_EQ) == 1
        } else if kind == addr_of_mut!(ffi::PyFloat_Type) {
            ffi::PyFloat_AS_DOUBLE(a).to_bits() == ffi::PyFloat_AS_DOUBLE(b).to_bits()
        } else if kind == addr_of_mut!(ffi::PyTuple_Type) {
            let size = ffi::PyTuple_GET_SIZE(a);
            size == ffi::PyTuple_GET_SIZE(b)
                && (0..size).all(|at| same_plain(ffi::PyTuple_GET_ITEM(a, at), ffi::PyTuple_GET_ITEM(b, at)))
        } else {
            false
        }
    }
}

/// Whether a stored key is this call: the argument itself if there is one, else a tuple of all.
///
/// # Safety
/// `key` and the arguments are valid objects and the interpreter is held.
#[inline]
pub unsafe fn same_call(key: *mut ffi::PyObject, arguments: &[*mut ffi::PyObject]) -> bool {
    // SAFETY: a key of a function with other than one parameter is a tuple of exactly as many items.
    unsafe {
        if let [only] = arguments {
            return same_plain(key, *only);
        }
        arguments
            .iter()
            .enumerate()
            .all(|(at, &argument)| same_plain(ffi::PyTuple_GET_ITEM(key, at as ffi::Py_ssize_t), argument))
    }
}
