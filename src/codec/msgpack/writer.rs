//! Writing the primitives of the wire into one growing buffer, each in its shortest form.

use super::moments::{Date, DateTime, Delta, Time, Zone};
use super::{ext, numbers};

/// Appends values to a buffer. What belongs together, a header and its elements, is the caller's to write in order.
pub struct Writer<'a> {
    /// What is written to.
    pub out: &'a mut Vec<u8>,
}

/// Where an extension began whose length is not known yet.
#[must_use = "close it with Writer::close"]
pub struct Opened(usize);

/// What is kept free for the header of an extension that was opened: code and length in one byte each.
const KEPT: usize = 3;

impl<'a> Writer<'a> {
    /// A writer at the end of `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Writer { out }
    }

    /// One byte that says how to read the next ones, and these.
    #[inline]
    fn put<const N: usize>(&mut self, head: u8, rest: [u8; N]) {
        self.out.reserve(N + 1);
        self.out.push(head);
        self.out.extend_from_slice(&rest);
    }

    /// None, null, nothing.
    #[inline]
    pub fn nil(&mut self) {
        self.out.push(0xc0);
    }

    /// True or false.
    #[inline]
    pub fn bool(&mut self, flag: bool) {
        self.out.push(0xc2 | u8::from(flag));
    }

    /// A whole number of 64 bits.
    #[inline]
    pub fn int(&mut self, number: i64) {
        if number >= 0 {
            self.uint(number as u64);
        } else if number >= -32 {
            self.out.push(number as u8);
        } else if let Ok(short) = i8::try_from(number) {
            self.put(0xd0, short.to_be_bytes());
        } else if let Ok(short) = i16::try_from(number) {
            self.put(0xd1, short.to_be_bytes());
        } else if let Ok(short) = i32::try_from(number) {
            self.put(0xd2, short.to_be_bytes());
        } else {
            self.put(0xd3, number.to_be_bytes());
        }
    }

    /// A whole number from 0 on.
    #[inline]
    pub fn uint(&mut self, number: u64) {
        if number < 128 {
            self.out.push(number as u8);
        } else if let Ok(short) = u8::try_from(number) {
            self.put(0xcc, short.to_be_bytes());
        } else if let Ok(short) = u16::try_from(number) {
            self.put(0xcd, short.to_be_bytes());
        } else if let Ok(short) = u32::try_from(number) {
            self.put(0xce, short.to_be_bytes());
        } else {
            self.put(0xcf, number.to_be_bytes());
        }
    }

    /// A whole number of any size, as two's complement, big-endian.
    pub fn big_int(&mut self, bytes: &[u8]) {
        match numbers::small(bytes) {
            Some(numbers::Small::Signed(number)) => self.int(number),
            Some(numbers::Small::Unsigned(number)) => self.uint(number),
            None => self.ext(ext::INT, numbers::shortest_int(bytes)),
        }
    }

    /// A float, bit by bit: nan and -0.0 as well.
    #[inline]
    pub fn float(&mut self, number: f64) {
        self.put(0xcb, number.to_bits().to_be_bytes());
    }

    /// Text: the header. Its UTF-8 follows.
    #[inline]
    pub fn str_header(&mut self, length: u32) {
        if length < 32 {
            self.out.push(0xa0 | length as u8);
        } else if let Ok(short) = u8::try_from(length) {
            self.put(0xd9, short.to_be_bytes());
        } else if let Ok(short) = u16::try_from(length) {
            self.put(0xda, short.to_be_bytes());
        } else {
            self.put(0xdb, length.to_be_bytes());
        }
    }

    /// Text. False, and nothing written, if it is too long for MessagePack.
    #[inline]
    #[must_use]
    pub fn str(&mut self, utf8: &[u8]) -> bool {
        let Ok(length) = u32::try_from(utf8.len()) else { return false };
        if length < 32 {
            // What nearly every key is: one reservation for both parts.
            self.out.reserve(32);
        }
        self.str_header(length);
        self.out.extend_from_slice(utf8);
        true
    }

    /// Bytes. False, and nothing written, if they are too many for MessagePack.
    #[must_use]
    pub fn bin(&mut self, bytes: &[u8]) -> bool {
        let Ok(length) = u32::try_from(bytes.len()) else { return false };
        if let Ok(short) = u8::try_from(length) {
            self.put(0xc4, short.to_be_bytes());
        } else if let Ok(short) = u16::try_from(length) {
            self.put(0xc5, short.to_be_bytes());
        } else {
            self.put(0xc6, length.to_be_bytes());
        }
        self.out.extend_from_slice(bytes);
        true
    }

    /// The header of an array; its elements follow.
    #[inline]
    pub fn array_header(&mut self, length: u32) {
        self.container(length, 0x90, 0xdc);
    }

    /// The header of a map; its keys and values follow in turn.
    #[inline]
    pub fn map_header(&mut self, pairs: u32) {
        self.container(pairs, 0x80, 0xde);
    }

    #[inline]
    fn container(&mut self, length: u32, short: u8, long: u8) {
        if length < 16 {
            self.out.push(short | length as u8);
        } else if let Ok(length) = u16::try_from(length) {
            self.put(long, length.to_be_bytes());
        } else {
            self.put(long + 1, length.to_be_bytes());
        }
    }

    /// An extension whose bytes are at hand. More than 4 GiB of them cannot be: they are numbers, names and moments.
    pub fn ext(&mut self, code: i8, bytes: &[u8]) {
        let opened = self.open();
        self.out.extend_from_slice(bytes);
        let closed = self.close(opened, code);
        debug_assert!(closed, "a number of more than 4 GiB");
    }

    /// Begins an extension whose bytes the caller writes now.
    pub fn open(&mut self) -> Opened {
        self.out.extend_from_slice(&[0; KEPT]);
        Opened(self.out.len())
    }

    /// Ends the extension: all that was written since it was opened is in it. False if that is too long for MessagePack.
    #[must_use]
    pub fn close(&mut self, opened: Opened, code: i8) -> bool {
        let Opened(start) = opened;
        let Ok(length) = u32::try_from(self.out.len() - start) else { return false };
        let mut head = [0; 6];
        let size = ext_header(&mut head, length, code);
        let (head, kept) = (&head[..size], start - KEPT..start);
        if size == KEPT {
            self.out[kept].copy_from_slice(head);
        } else {
            self.out.splice(kept, head.iter().copied());
        }
        true
    }

    /// A moment: in UTC as MessagePack's own timestamp, any other with its fold and zone.
    pub fn datetime(&mut self, moment: &DateTime<'_>) {
        match moment.timestamp() {
            Some((seconds, nanos)) => self.timestamp(seconds, nanos),
            None => {
                let opened = self.open();
                moment.date.write(self.out);
                moment.time.write(self.out);
                let closed = self.close(opened, ext::DATETIME);
                debug_assert!(closed, "a zone's name of more than 4 GiB");
            }
        }
    }

    /// Seconds since 1970 in UTC, and nanoseconds below a second.
    pub fn timestamp(&mut self, seconds: i64, nanos: u32) {
        match (u64::try_from(seconds), nanos) {
            (Ok(seconds), 0) if seconds <= u64::from(u32::MAX) => {
                self.ext(ext::TIMESTAMP, &(seconds as u32).to_be_bytes());
            }
            (Ok(seconds), nanos) if seconds < 1 << 34 => {
                self.ext(ext::TIMESTAMP, &(u64::from(nanos) << 34 | seconds).to_be_bytes());
            }
            _ => {
                let mut bytes = [0; 12];
                bytes[..4].copy_from_slice(&nanos.to_be_bytes());
                bytes[4..].copy_from_slice(&seconds.to_be_bytes());
                self.ext(ext::TIMESTAMP, &bytes);
            }
        }
    }

    /// A date.
    pub fn date(&mut self, date: Date) {
        let mut bytes = Vec::with_capacity(4);
        date.write(&mut bytes);
        self.ext(ext::DATE, &bytes);
    }

    /// A time of day.
    pub fn time(&mut self, time: &Time<'_>) {
        let mut bytes = Vec::with_capacity(16);
        time.write(&mut bytes);
        self.ext(ext::TIME, &bytes);
    }

    /// A span of time.
    pub fn delta(&mut self, delta: Delta) {
        self.ext(ext::DELTA, &delta.to_bytes());
    }

    /// A complex number.
    pub fn complex(&mut self, real: f64, imaginary: f64) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&real.to_bits().to_be_bytes());
        bytes[8..].copy_from_slice(&imaginary.to_bits().to_be_bytes());
        self.ext(ext::COMPLEX, &bytes);
    }
}

/// The shortest header; returns its length.
fn ext_header(head: &mut [u8; 6], length: u32, code: i8) -> usize {
    let (first, size) = match length {
        1 | 2 | 4 | 8 | 16 => (0xd4 + length.trailing_zeros() as u8, 0),
        0..=0xff => (0xc7, 1),
        0x100..=0xffff => (0xc8, 2),
        _ => (0xc9, 4),
    };
    head[0] = first;
    head[1..=size].copy_from_slice(&length.to_be_bytes()[4 - size..]);
    head[size + 1] = code as u8;
    size + 2
}

impl Zone<'_> {
    /// What follows the fold of a time, nothing for none.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Zone::None => {}
            Zone::Utc => out.push(0),
            Zone::Fixed { micros, name } => {
                out.push(if name.is_some() { 2 } else { 1 });
                out.extend_from_slice(&micros.to_be_bytes());
                out.extend_from_slice(name.as_deref().unwrap_or_default().as_bytes());
            }
            Zone::Named(key) => {
                out.push(3);
                out.extend_from_slice(key.as_bytes());
            }
        }
    }
}
