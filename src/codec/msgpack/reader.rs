//! Reading the wire token by token. Borrows all it hands out, allocates nothing, and never reads past the end.

use std::fmt;

/// Bytes that are no value, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong.
    pub problem: Problem,
    /// The byte, counted from the beginning of the value.
    pub at: usize,
}

/// What can be wrong with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// They end before the value does.
    Truncated,
    /// More elements are announced than the bytes left could hold.
    TooMany,
    /// 0xc1, which stands for nothing.
    Reserved,
    /// Nested deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
    TooDeep,
    /// The value ends before they do.
    Trailing,
    /// Text that is not UTF-8.
    Text,
    /// An extension type that this version does not know.
    UnknownExt(i8),
    /// An extension that is not spelled as its type has to be.
    BadExt(i8),
    /// A map that has a key twice, or a set a member.
    Twice,
    /// A value of another type than the reader asked for.
    Unexpected,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            Problem::Truncated => write!(f, "the value ends too soon"),
            Problem::TooMany => write!(f, "more elements announced than there are bytes"),
            Problem::Reserved => write!(f, "0xc1 is no value"),
            Problem::TooDeep => write!(f, "nested deeper than {}", super::MAX_DEPTH),
            Problem::Trailing => write!(f, "bytes behind the end of the value"),
            Problem::Text => write!(f, "text that is not UTF-8"),
            Problem::UnknownExt(code) => write!(f, "extension type {code} is unknown to this version"),
            Problem::BadExt(code) => write!(f, "malformed extension of type {code}"),
            Problem::Twice => write!(f, "a key or member that is there twice"),
            Problem::Unexpected => write!(f, "a value of another type"),
        }?;
        write!(f, " (byte {})", self.at)
    }
}

impl std::error::Error for Malformed {}

/// One step of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// Nothing.
    Nil,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number beyond those.
    UInt(u64),
    /// A float; one of 32 bits has been widened.
    Float(f64),
    /// Text, said to be UTF-8.
    Str(&'a [u8]),
    /// Bytes.
    Bin(&'a [u8]),
    /// That many values follow.
    Array(usize),
    /// That many keys with values follow.
    Map(usize),
    /// An extension: its code and what it holds.
    Ext(i8, &'a [u8]),
}

/// Reads tokens from the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the slice begins in the whole value.
    base: usize,
}

impl<'a> Reader<'a> {
    /// A reader of one value.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0, base: 0 }
    }

    /// A reader of what an extension holds: `bytes` was just handed out by this one.
    pub fn inside(&self, bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0, base: self.base + self.at - bytes.len() }
    }

    /// Where the next token begins, counted from the beginning of the whole value.
    #[inline]
    pub fn position(&self) -> usize {
        self.base + self.at
    }

    /// Bytes not yet read.
    #[inline]
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// That this is wrong, here.
    #[cold]
    pub fn malformed(&self, problem: Problem) -> Malformed {
        Malformed { problem, at: self.position() }
    }

    /// Fails unless everything has been read.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.left() == 0 { Ok(()) } else { Err(self.malformed(Problem::Trailing)) }
    }

    /// Fails unless `count` more values can follow, beside `owed` that are due already. A value takes a byte at least, so
    /// all that is ever announced together is no more than the bytes that were left. An extension that holds values is asked
    /// for 0 more, once its bytes are taken: else each level of them could announce the same bytes again.
    #[inline]
    pub fn can_hold(&self, count: usize, owed: usize) -> Result<(), Malformed> {
        match count.checked_add(owed) {
            Some(total) if total <= self.left() => Ok(()),
            _ => Err(self.malformed(Problem::TooMany)),
        }
    }

    #[inline(always)]
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        if count > self.left() {
            return Err(self.malformed(Problem::Truncated));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    #[inline(always)]
    fn number<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => Err(self.malformed(Problem::Truncated)),
        }
    }

    #[inline(always)]
    fn length<const N: usize>(&mut self) -> Result<usize, Malformed> {
        let bytes: [u8; N] = self.number()?;
        Ok(bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }

    #[inline(always)]
    fn ext(&mut self, length: usize) -> Result<Token<'a>, Malformed> {
        let [code] = self.number()?;
        Ok(Token::Ext(code as i8, self.take(length)?))
    }

    /// The next token. How many values an array or a map says will follow is not checked: see [`can_hold`](Self::can_hold).
    #[inline(always)]
    pub fn token(&mut self) -> Result<Token<'a>, Malformed> {
        let [head] = self.number()?;
        Ok(match head {
            0x00..=0x7f => Token::Int(i64::from(head)),
            0x80..=0x8f => Token::Map(usize::from(head & 0x0f)),
            0x90..=0x9f => Token::Array(usize::from(head & 0x0f)),
            0xa0..=0xbf => Token::Str(self.take(usize::from(head & 0x1f))?),
            0xc0 => Token::Nil,
            0xc1 => {
                self.at -= 1;
                return Err(self.malformed(Problem::Reserved));
            }
            0xc2 | 0xc3 => Token::Bool(head == 0xc3),
            0xc4 => Token::Bin(self.length::<1>().and_then(|length| self.take(length))?),
            0xc5 => Token::Bin(self.length::<2>().and_then(|length| self.take(length))?),
            0xc6 => Token::Bin(self.length::<4>().and_then(|length| self.take(length))?),
            0xc7 => self.length::<1>().and_then(|length| self.ext(length))?,
            0xc8 => self.length::<2>().and_then(|length| self.ext(length))?,
            0xc9 => self.length::<4>().and_then(|length| self.ext(length))?,
            0xca => Token::Float(f64::from(f32::from_be_bytes(self.number()?))),
            0xcb => Token::Float(f64::from_be_bytes(self.number()?)),
            0xcc => Token::Int(i64::from(u8::from_be_bytes(self.number()?))),
            0xcd => Token::Int(i64::from(u16::from_be_bytes(self.number()?))),
            0xce => Token::Int(i64::from(u32::from_be_bytes(self.number()?))),
            0xcf => {
                let number = u64::from_be_bytes(self.number()?);
                i64::try_from(number).map_or(Token::UInt(number), Token::Int)
            }
            0xd0 => Token::Int(i64::from(i8::from_be_bytes(self.number()?))),
            0xd1 => Token::Int(i64::from(i16::from_be_bytes(self.number()?))),
            0xd2 => Token::Int(i64::from(i32::from_be_bytes(self.number()?))),
            0xd3 => Token::Int(i64::from_be_bytes(self.number()?)),
            0xd4..=0xd8 => self.ext(1 << (head - 0xd4))?,
            0xd9 => Token::Str(self.length::<1>().and_then(|length| self.take(length))?),
            0xda => Token::Str(self.length::<2>().and_then(|length| self.take(length))?),
            0xdb => Token::Str(self.length::<4>().and_then(|length| self.take(length))?),
            0xdc => Token::Array(self.length::<2>()?),
            0xdd => Token::Array(self.length::<4>()?),
            0xde => Token::Map(self.length::<2>()?),
            0xdf => Token::Map(self.length::<4>()?),
            0xe0..=0xff => Token::Int(i64::from(head as i8)),
        })
    }
}
