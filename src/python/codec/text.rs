//! Python's strings and UTF-8, both ways, without leaving a copy of the UTF-8 in the user's string.

use super::path::Bad;
use crate::codec::msgpack::Writer;
use pyo3::ffi;
use pyo3::prelude::*;

/// Appends an exact str.
///
/// # Safety
/// `string` is one, and the interpreter is held.
#[inline]
pub unsafe fn write(writer: &mut Writer<'_>, string: *mut ffi::PyObject) -> Result<(), Box<Bad>> {
    // SAFETY: the layout is asked for before it is used; nothing runs Python meanwhile.
    unsafe {
        if ffi::PyUnicode_IS_COMPACT_ASCII(string) == 0 {
            return write_wide(writer, string);
        }
        let length = ffi::PyUnicode_GET_LENGTH(string) as usize;
        done(writer.str(std::slice::from_raw_parts(ffi::PyUnicode_DATA(string).cast(), length)))
    }
}

#[inline]
fn done(fits: bool) -> Result<(), Box<Bad>> {
    if fits { Ok(()) } else { Err(Bad::is("text of more than 4 GiB; MessagePack has no length for it")) }
}

/// # Safety
/// As [`write()`].
unsafe fn write_wide(writer: &mut Writer<'_>, string: *mut ffi::PyObject) -> Result<(), Box<Bad>> {
    // SAFETY: as the caller says; each kind's characters are read as what they are, and none of them is changed.
    unsafe {
        if ffi::PyUnicode_IS_COMPACT(string) == 0 {
            // A form of before 3.12 that only extension modules made.
            let mut length = 0;
            let utf8 = ffi::PyUnicode_AsUTF8AndSize(string, &mut length);
            if utf8.is_null() {
                return Err(Python::attach(PyErr::fetch).into());
            }
            return done(writer.str(std::slice::from_raw_parts(utf8.cast(), length as usize)));
        }
        let compact = &*string.cast::<ffi::PyCompactUnicodeObject>();
        if !compact.utf8.is_null() {
            // Somebody else has left a copy there.
            return done(writer.str(std::slice::from_raw_parts(compact.utf8.cast(), compact.utf8_length as usize)));
        }
        let length = ffi::PyUnicode_GET_LENGTH(string) as usize;
        let data = ffi::PyUnicode_DATA(string);
        match ffi::PyUnicode_KIND(string) {
            ffi::PyUnicode_1BYTE_KIND => transcode(writer, std::slice::from_raw_parts(data.cast::<u8>(), length)),
            ffi::PyUnicode_2BYTE_KIND => transcode(writer, std::slice::from_raw_parts(data.cast::<u16>(), length)),
            _ => transcode(writer, std::slice::from_raw_parts(data.cast::<u32>(), length)),
        }
    }
}

/// Appends the UTF-8 of an exact str, and nothing else.
///
/// # Safety
/// As [`write()`].
#[inline]
pub unsafe fn append(out: &mut Vec<u8>, string: *mut ffi::PyObject) -> Result<(), Box<Bad>> {
    // SAFETY: as the caller says.
    unsafe {
        if ffi::PyUnicode_IS_COMPACT_ASCII(string) != 0 {
            let length = ffi::PyUnicode_GET_LENGTH(string) as usize;
            out.extend_from_slice(std::slice::from_raw_parts(ffi::PyUnicode_DATA(string).cast(), length));
            return Ok(());
        }
        let start = out.len();
        write_wide(&mut Writer::new(out), string)?;
        // Without the header that MessagePack has.
        let header = match out[start] {
            0xd9 => 2,
            0xda => 3,
            0xdb => 5,
            _ => 1,
        };
        out.drain(start..start + header);
        Ok(())
    }
}

fn transcode<C: Copy + Into<u32>>(writer: &mut Writer<'_>, chars: &[C]) -> Result<(), Box<Bad>> {
    let mut length = 0usize;
    let mut surrogates = 0usize;
    for char in chars {
        let char: u32 = (*char).into();
        length += 1 + usize::from(char >= 0x80) + usize::from(char >= 0x800) + usize::from(char >= 0x1_0000);
        surrogates += usize::from(char & 0xffff_f800 == 0xd800);
    }
    if surrogates > 0 {
        let first = chars.iter().position(|char| (*char).into() & 0xffff_f800 == 0xd800).unwrap_or_default();
        return Err(Bad::is(format!(
            "text with a lone surrogate at {first}, for which UTF-8 has no form; encode it with errors='surrogatepass' and \
             store bytes"
        )));
    }
    let Ok(short) = u32::try_from(length) else { return done(false) };
    writer.str_header(short);
    writer.out.reserve(length);
    // SAFETY: `length` bytes are reserved, and exactly as many are written: the loop above counted them.
    unsafe {
        let mut to = writer.out.as_mut_ptr().add(writer.out.len());
        for char in chars {
            let char: u32 = (*char).into();
            if char < 0x80 {
                *to = char as u8;
                to = to.add(1);
            } else if char < 0x800 {
                *to = 0xc0 | (char >> 6) as u8;
                *to.add(1) = 0x80 | (char & 0x3f) as u8;
                to = to.add(2);
            } else if char < 0x1_0000 {
                *to = 0xe0 | (char >> 12) as u8;
                *to.add(1) = 0x80 | (char >> 6 & 0x3f) as u8;
                *to.add(2) = 0x80 | (char & 0x3f) as u8;
                to = to.add(3);
            } else {
                *to = 0xf0 | (char >> 18) as u8;
                *to.add(1) = 0x80 | (char >> 12 & 0x3f) as u8;
                *to.add(2) = 0x80 | (char >> 6 & 0x3f) as u8;
                *to.add(3) = 0x80 | (char & 0x3f) as u8;
                to = to.add(4);
            }
        }
        writer.out.set_len(writer.out.len() + length);
    }
    Ok(())
}

/// The string of ASCII bytes.
///
/// # Safety
/// They are ASCII.
#[inline]
pub unsafe fn ascii<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let length = bytes.len() as ffi::Py_ssize_t;
    // SAFETY: the string is new, has room for as many bytes, and is one byte a character; those of one character are shared.
    unsafe {
        if length < 2 {
            return Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_FromStringAndSize(bytes.as_ptr().cast(), length));
        }
        let made = Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_New(length, 127))?;
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), ffi::PyUnicode_DATA(made.as_ptr()).cast(), bytes.len());
        Ok(made)
    }
}

/// The string of UTF-8, or a `UnicodeDecodeError`.
#[inline]
pub fn read<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // With no look at the length of each piece, which is what `is_ascii` spends most of its time on where they are short.
    if bytes.iter().fold(0, |all, byte| all | byte) < 0x80 {
        // SAFETY: they are ASCII.
        return unsafe { ascii(py, bytes) };
    }
    // SAFETY: the interpreter is held.
    if let Some(string) = unsafe { wide(py, bytes)? } {
        return Ok(string);
    }
    // It says what is wrong.
    let length = bytes.len() as ffi::Py_ssize_t;
    // SAFETY: the bytes are as many as said.
    unsafe {
        Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_DecodeUTF8(bytes.as_ptr().cast(), length, std::ptr::null()))
    }
}

/// The string of UTF-8 that is not all ASCII; `None` if the bytes are no UTF-8, or one character.
///
/// Twice as fast as CPython's decoder, which finds out on the way how wide the string has to be: the largest byte says so.
///
/// # Safety
/// The interpreter is held.
unsafe fn wide<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    let largest = bytes.iter().fold(0, |largest: u8, byte| largest.max(*byte));
    let count = bytes.iter().filter(|byte| is_first(**byte)).count();
    if count < 2 {
        // Of one character there may be one string for all.
        return Ok(None);
    }
    let top = match largest {
        0..0xc4 => 0xff,
        0xc4..0xf0 => 0xffff,
        _ => 0x10_ffff,
    };
    // SAFETY: the string is new, nobody sees it before it is full, and `fill` writes below `count`. Valid UTF-8 with such a
    // largest byte has a character that needs this width, as CPython wants it.
    unsafe {
        let string = Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_New(count as ffi::Py_ssize_t, top))?;
        let data = ffi::PyUnicode_DATA(string.as_ptr());
        let valid = match top {
            0xff => fill(bytes, |at, char| *data.cast::<u8>().add(at) = char as u8),
            0xffff => fill(bytes, |at, char| *data.cast::<u16>().add(at) = char as u16),
            _ => fill(bytes, |at, char| *data.cast::<u32>().add(at) = char),
        };
        Ok(valid.map(|()| string))
    }
}

/// True for a byte that begins a character.
#[inline(always)]
fn is_first(byte: u8) -> bool {
    byte as i8 >= -0x40
}

/// Hands each character on with its index, which is below the number of bytes that begin one; `None` if the bytes are no UTF-8.
#[inline(always)]
fn fill(bytes: &[u8], mut put: impl FnMut(usize, u32)) -> Option<()> {
    let (mut at, mut index) = (0, 0);
    while let Some(first) = bytes.get(at) {
        let next =
            |offset: usize| bytes.get(at + offset).filter(|byte| !is_first(**byte)).map(|byte| u32::from(*byte & 0x3f));
        let first = u32::from(*first);
        let (char, size) = match first {
            0..0x80 => (first, 1),
            0xc2..0xe0 => ((first & 0x1f) << 6 | next(1)?, 2),
            0xe0..0xf0 => {
                let char = (first & 0xf) << 12 | next(1)? << 6 | next(2)?;
                if char < 0x800 || char & 0xf800 == 0xd800 {
                    return None;
                }
                (char, 3)
            }
            0xf0..0xf5 => {
                let char = (first & 0x7) << 18 | next(1)? << 12 | next(2)? << 6 | next(3)?;
                if !(0x1_0000..0x11_0000).contains(&char) {
                    return None;
                }
                (char, 4)
            }
            _ => return None,
        };
        put(index, char);
        at += size;
        index += 1;
    }
    Some(())
}
