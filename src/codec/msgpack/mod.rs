//! MessagePack as Samovar writes it: the wire, without a word of Python. Both faces read and write through here.
//!
//! Plain values are plain MessagePack, which any reader agrees on; what MessagePack has no word for is an extension type, one
//! [code](ext) each, specified in `docs/msgpack.md`. One value has one spelling, the shortest.
//!
//! A reader never panics, never goes deeper than [`MAX_DEPTH`], and never announces more elements than the bytes that are left
//! could hold, so that whoever makes room for what is announced makes no more than a constant times the input.

mod moments;
mod numbers;
mod reader;
#[cfg(feature = "serde")]
mod serde;
#[cfg(test)]
mod tests;
mod value;
mod writer;

#[cfg(feature = "serde")]
pub use self::serde::{
    BigInt, Complex, Decimal, Deserializer, FrozenSet, Serializer, Set, Uuid, from_slice, to_vec, write_to,
};
pub use moments::{Date, DateTime, Delta, Time, Zone, is_zone_key};
pub use numbers::{is_decimal, is_shortest_int};
pub use reader::{Malformed, Problem, Reader, Token};
pub use value::{Member, Record, Value};
pub use writer::{Opened, Writer};

/// Containers inside containers beyond this are refused, by writers and readers.
pub const MAX_DEPTH: usize = 128;

/// The codes of extension types. Those below 0 are MessagePack's own.
pub mod ext {
    /// MessagePack's own: a moment in UTC.
    pub const TIMESTAMP: i8 = -1;
    /// A whole number beyond 64 bits: two's complement, big-endian.
    pub const INT: i8 = 1;
    /// A tuple: an array.
    pub const TUPLE: i8 = 2;
    /// A set: an array.
    pub const SET: i8 = 3;
    /// A frozenset: an array.
    pub const FROZENSET: i8 = 4;
    /// A date with a time of day, and maybe a zone.
    pub const DATETIME: i8 = 5;
    /// A date.
    pub const DATE: i8 = 6;
    /// A time of day, and maybe a zone.
    pub const TIME: i8 = 7;
    /// A span of time.
    pub const DELTA: i8 = 8;
    /// A decimal number: its text.
    pub const DECIMAL: i8 = 9;
    /// A UUID: its 16 bytes.
    pub const UUID: i8 = 10;
    /// A complex number: two floats.
    pub const COMPLEX: i8 = 11;
    /// A member of an enumeration: an array of its class and its name, or its class, nil and its value.
    pub const ENUM: i8 = 12;
    /// An object with named fields: an array of its class and a map of its fields.
    pub const RECORD: i8 = 13;
}
