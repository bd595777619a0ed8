//! Reading JSON (RFC 8259), strictly: one value, no comments, no nan, no lone surrogates, no zero in front.
//!
//! Ints are exact at any length that Python takes, floats to the last bit. Items wait on one stack until their list is
//! complete, so what is allocated is a constant times the input.

use super::super::keys::Keys;
use super::super::text;
use crate::codec::msgpack::MAX_DEPTH;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt};
use std::cell::UnsafeCell;

/// Why bytes are no value.
pub enum Wrong {
    /// This is found there.
    Is(&'static str, usize),
    /// Python says so.
    Raised(PyErr),
}

impl From<PyErr> for Wrong {
    #[cold]
    fn from(error: PyErr) -> Self {
        Wrong::Raised(error)
    }
}

type Found<'py> = Result<Bound<'py, PyAny>, Wrong>;

/// Reads the value that is exactly these bytes.
pub fn read<'py>(py: Python<'py>, keys: &UnsafeCell<Keys>, bytes: &[u8]) -> Found<'py> {
    let mut reader = Reader { py, keys, bytes, at: 0, items: Vec::new() };
    let value = reader.any(0)?;
    reader.space();
    if reader.at == bytes.len() { Ok(value) } else { Err(reader.wrong("bytes behind the end of the value")) }
}

struct Reader<'a, 'py> {
    py: Python<'py>,
    keys: &'a UnsafeCell<Keys>,
    bytes: &'a [u8],
    at: usize,
    /// Items of all lists that are not complete.
    items: Vec<Bound<'py, PyAny>>,
}

impl<'a, 'py> Reader<'a, 'py> {
    #[cold]
    fn wrong(&self, text: &'static str) -> Wrong {
        Wrong::Is(text, self.at)
    }

    #[inline]
    fn peek(&self) -> u8 {
        // No value has a zero byte in it.
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    fn any(&mut self, depth: usize) -> Found<'py> {
        self.space();
        match self.peek() {
            b'"' => self.text(),
            b'{' => self.dict(depth),
            b'[' => self.list(depth),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word(b"true", true.into_pyobject(self.py).map(|flag| flag.to_owned().into_any())),
            b'f' => self.word(b"false", false.into_pyobject(self.py).map(|flag| flag.to_owned().into_any())),
            b'n' => self.word(b"null", Ok(self.py.None().into_bound(self.py))),
            _ => Err(self.wrong("no value where one has to be")),
        }
    }

    fn word(&mut self, word: &[u8], value: Result<Bound<'py, PyAny>, std::convert::Infallible>) -> Found<'py> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.wrong("no value where one has to be"));
        }
        self.at += word.len();
        let Ok(value) = value;
        Ok(value)
    }

    fn deeper(&self, depth: usize) -> Result<usize, Wrong> {
        if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(self.wrong("nested deeper than 128")) }
    }

    /// After an item: true if another follows, false at the end.
    #[inline]
    fn another(&mut self, end: u8) -> Result<bool, Wrong> {
        self.space();
        let next = self.peek();
        if next != b',' && next != end {
            return Err(self.wrong("neither a comma nor the end of a list or object"));
        }
        self.at += 1;
        Ok(next == b',')
    }

    /// Past an opening bracket: true if there is nothing before the closing one.
    #[inline]
    fn is_empty(&mut self, end: u8) -> bool {
        self.at += 1;
        self.space();
        let empty = self.peek() == end;
        self.at += usize::from(empty);
        empty
    }

    fn list(&mut self, depth: usize) -> Found<'py> {
        let depth = self.deeper(depth)?;
        let first = self.items.len();
        if !self.is_empty(b']') {
            loop {
                let item = self.any(depth)?;
                self.items.push(item);
                if !self.another(b']')? {
                    break;
                }
            }
        }
        let items = self.items.drain(first..);
        // SAFETY: a new list of as many empty places, each of which is filled once with a reference of its own.
        unsafe {
            let list = Bound::from_owned_ptr_or_err(self.py, ffi::PyList_New(items.len() as ffi::Py_ssize_t))?;
            for (at, item) in items.enumerate() {
                ffi::PyList_SET_ITEM(list.as_ptr(), at as ffi::Py_ssize_t, item.into_ptr());
            }
            Ok(list)
        }
    }

    fn dict(&mut self, depth: usize) -> Found<'py> {
        let depth = self.deeper(depth)?;
        let dict = PyDict::new(self.py);
        if self.is_empty(b'}') {
            return Ok(dict.into_any());
        }
        loop {
            self.space();
            if self.peek() != b'"' {
                return Err(self.wrong("no text where a key has to be"));
            }
            let key = self.key()?;
            self.space();
            if self.peek() != b':' {
                return Err(self.wrong("no colon behind a key"));
            }
            self.at += 1;
            let value = self.any(depth)?;
            // SAFETY: all three are valid; the dict takes references of its own. Hashing text runs no code of anybody's.
            if unsafe { ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), value.as_ptr()) } < 0 {
                return Err(PyErr::fetch(self.py).into());
            }
            if !self.another(b'}')? {
                return Ok(dict.into_any());
            }
        }
    }

    fn key(&mut self) -> Found<'py> {
        let (bytes, escaped) = self.quoted()?;
        if !escaped {
            // SAFETY: the interpreter is held, and neither making nor dropping an exact str runs Python.
            if let Some(key) = unsafe { (*self.keys.get()).find(self.py, bytes) } {
                return Ok(key?);
            }
        }
        self.string(bytes, escaped)
    }

    fn text(&mut self) -> Found<'py> {
        let (bytes, escaped) = self.quoted()?;
        self.string(bytes, escaped)
    }

    fn string(&self, bytes: &[u8], escaped: bool) -> Found<'py> {
        if !escaped {
            return Ok(text::read(self.py, bytes)?);
        }
        match unescaped(bytes) {
            Some(plain) => Ok(text::read(self.py, &plain)?),
            None => Err(self.wrong("text with an escape that there is not, or half of a pair of surrogates")),
        }
    }

    /// What stands between two quotes, and whether it has escapes.
    #[inline]
    fn quoted(&mut self) -> Result<(&'a [u8], bool), Wrong> {
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            at += plain_length(&self.bytes[at..]);
            match self.bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok((&self.bytes[start..at], escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    at += 2;
                    if at > self.bytes.len() {
                        return Err(self.wrong("text without an end"));
                    }
                }
                Some(_) => return Err(self.wrong("a control character in text")),
                None => return Err(self.wrong("text without an end")),
            }
        }
    }

    fn number(&mut self) -> Found<'py> {
        let start = self.at;
        let negative = self.peek() == b'-';
        self.at += usize::from(negative);
        let digits = self.digits();
        if digits == 0 || (digits > 1 && self.bytes[self.at - digits] == b'0') {
            return Err(self.wrong("a number without digits, or with a zero in front"));
        }
        if !matches!(self.peek(), b'.' | b'e' | b'E') {
            return self.int(start, negative, digits);
        }
        let point = self.peek() == b'.';
        self.at += usize::from(point);
        if point && self.digits() == 0 {
            return Err(self.wrong("no digits behind a point"));
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), b'+' | b'-'));
            if self.digits() == 0 {
                return Err(self.wrong("an exponent without digits"));
            }
        }
        let float = std::str::from_utf8(&self.bytes[start..self.at]).ok().and_then(|text| text.parse::<f64>().ok());
        match float.filter(|float| float.is_finite()) {
            // SAFETY: a new reference, or null with an error set.
            Some(float) => Ok(unsafe { Bound::from_owned_ptr_or_err(self.py, ffi::PyFloat_FromDouble(float))? }),
            None => Err(self.wrong("a number beyond all floats")),
        }
    }

    /// Passes digits; how many.
    #[inline]
    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        self.at - start
    }

    fn int(&self, start: usize, negative: bool, digits: usize) -> Found<'py> {
        let text = &self.bytes[start..self.at];
        if digits > 18 {
            // As Python reads it: any length up to its own limit.
            return Ok(self.py.get_type::<PyInt>().call1((text::read(self.py, text)?,))?);
        }
        let number =
            text[usize::from(negative)..].iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
        let number = if negative { -number } else { number };
        // SAFETY: a new reference, or null with an error set.
        Ok(unsafe { Bound::from_owned_ptr_or_err(self.py, ffi::PyLong_FromLongLong(number))? })
    }
}

/// How many bytes stand before the first quote, backslash or control character.
#[inline]
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // Mycroft's test: the high bit of each byte that is zero, and of none below the first such byte.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found = controls | zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\')).unwrap_or(rest.len())
}

/// Text with its escapes replaced by what they stand for.
fn unescaped(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    while let Some(at) = bytes.iter().position(|byte| *byte == b'\\') {
        out.extend_from_slice(&bytes[..at]);
        bytes = &bytes[at + 1..];
        let (letter, rest) = bytes.split_first()?;
        bytes = rest;
        out.push(match letter {
            b'"' | b'\\' | b'/' => *letter,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 0x08,
            b'f' => 0x0c,
            b'u' => {
                let char = unicode(&mut bytes)?;
                out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return None,
        });
    }
    out.extend_from_slice(bytes);
    Some(out)
}

/// The character of one `\u` escape, or of two that are a pair of surrogates.
fn unicode(bytes: &mut &[u8]) -> Option<char> {
    let first = hex(bytes)?;
    if !(0xd800..0xe000).contains(&first) {
        return char::from_u32(first);
    }
    *bytes = bytes.strip_prefix(b"\\u")?;
    let second = hex(bytes)?;
    if first >= 0xdc00 || !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
}

fn hex(bytes: &mut &[u8]) -> Option<u32> {
    let (digits, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
}
