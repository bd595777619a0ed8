//! The types of the wire that Rust's own library has none for, and what serde makes of dates and times.

use super::{EXT, FROZENSET, SET};
use crate::codec::msgpack::moments::{Date, DateTime, Delta, Time};
use crate::codec::msgpack::numbers::{is_decimal, shortest_int, small};
use crate::codec::msgpack::{Writer, ext};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// A decimal number: its text, as Python's `str(Decimal(...))` writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal(pub String);

/// A UUID: its 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

/// A complex number: its real and its imaginary part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Complex(pub f64, pub f64);

/// A whole number beyond 64 bits: two's complement, big-endian, as short as it can be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BigInt(pub Vec<u8>);

/// Members that Python is to read as a set, of any sequence: a `Vec`, a `HashSet`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set<C>(pub C);

/// Members that Python is to read as a frozenset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrozenSet<C>(pub C);

/// An extension on its way through serde.
struct Ext<B>(i8, B);

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct Pair<'a>(i8, &'a [u8]);

impl Serialize for Pair<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pair = serializer.serialize_tuple(2)?;
        pair.serialize_element(&self.0)?;
        pair.serialize_element(&Bytes(self.1))?;
        pair.end()
    }
}

fn write_ext<S: Serializer>(serializer: S, code: i8, bytes: &[u8]) -> Result<S::Ok, S::Error> {
    serializer.serialize_newtype_struct(EXT, &Pair(code, bytes))
}

struct ByteVisitor;

impl Visitor<'_> for ByteVisitor {
    type Value = Vec<u8>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }
    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}

struct OwnedBytes(Vec<u8>);

impl<'de> Deserialize<'de> for OwnedBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(ByteVisitor).map(OwnedBytes)
    }
}

struct ExtVisitor;

impl<'de> Visitor<'de> for ExtVisitor {
    type Value = Ext<Vec<u8>>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an extension of MessagePack")
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_tuple(2, self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Self::Value, A::Error> {
        let code = pair.next_element()?.ok_or_else(|| A::Error::custom("an extension without a code"))?;
        let OwnedBytes(bytes) = pair.next_element()?.ok_or_else(|| A::Error::custom("an extension without bytes"))?;
        Ok(Ext(code, bytes))
    }
}

fn read_ext<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ext<Vec<u8>>, D::Error> {
    deserializer.deserialize_newtype_struct(EXT, ExtVisitor)
}

fn wrong<T, E: serde::de::Error>(what: &str, code: i8) -> Result<T, E> {
    Err(E::custom(format_args!("expected {what}, found an extension of type {code} or a malformed one")))
}

/// Writes a type as its extension, and reads it from `parse` of its code and bytes.
macro_rules! as_extension {
    ($type:ty, $what:literal, |$value:ident, $writer:ident| $write:expr, |$code:ident, $bytes:ident| $parse:expr) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let $value = self;
                let (code, bytes) = spelled(|$writer| $write);
                write_ext(serializer, code, &bytes)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let Ext($code, $bytes) = read_ext(deserializer)?;
                let found: Option<Self> = $parse;
                found.map_or_else(|| wrong($what, $code), Ok)
            }
        }
    };
}

/// The code and the bytes of the extension that `write` writes.
fn spelled(write: impl FnOnce(&mut Writer<'_>)) -> (i8, Vec<u8>) {
    let mut out = Vec::new();
    write(&mut Writer::new(&mut out));
    match crate::codec::msgpack::Reader::new(&out).token() {
        Ok(crate::codec::msgpack::Token::Ext(code, bytes)) => (code, bytes.to_vec()),
        _ => (0, Vec::new()),
    }
}

as_extension!(Decimal, "a decimal", |value, writer| writer.ext(ext::DECIMAL, value.0.as_bytes()), |code, bytes| {
    let fits = code == ext::DECIMAL && is_decimal(&bytes);
    fits.then(|| String::from_utf8(bytes).ok().map(Decimal)).flatten()
});
as_extension!(Uuid, "a UUID", |value, writer| writer.ext(ext::UUID, &value.0), |code, bytes| {
    (code == ext::UUID).then(|| bytes.try_into().ok().map(Uuid)).flatten()
});
as_extension!(Complex, "a complex number", |value, writer| writer.complex(value.0, value.1), |code, bytes| {
    let both: Option<[u8; 16]> = bytes.try_into().ok();
    both.filter(|_| code == ext::COMPLEX).map(|both| {
        let both = u128::from_be_bytes(both);
        Complex(f64::from_bits((both >> 64) as u64), f64::from_bits(both as u64))
    })
});
as_extension!(Date, "a date", |value, writer| writer.date(*value), |code, bytes| {
    (code == ext::DATE).then(|| Date::read(&bytes)).flatten()
});
as_extension!(Delta, "a span of time", |value, writer| writer.delta(*value), |code, bytes| {
    (code == ext::DELTA).then(|| Delta::read(&bytes)).flatten()
});
as_extension!(Time<'static>, "a time of day", |value, writer| writer.time(value), |code, bytes| {
    (code == ext::TIME).then(|| Time::read(&bytes).map(Time::into_owned)).flatten()
});
as_extension!(DateTime<'static>, "a date and time", |value, writer| writer.datetime(value), |code, bytes| {
    match code {
        ext::TIMESTAMP => DateTime::read_timestamp(&bytes),
        ext::DATETIME => DateTime::read(&bytes).map(DateTime::into_owned),
        _ => None,
    }
});

impl Serialize for BigInt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match small(&self.0) {
            Some(crate::codec::msgpack::numbers::Small::Signed(number)) => serializer.serialize_i64(number),
            Some(crate::codec::msgpack::numbers::Small::Unsigned(number)) => serializer.serialize_u64(number),
            None => write_ext(serializer, ext::INT, shortest_int(&self.0)),
        }
    }
}

struct BigIntVisitor;

impl<'de> Visitor<'de> for BigIntVisitor {
    type Value = BigInt;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }
    fn visit_i64<E>(self, number: i64) -> Result<BigInt, E> {
        Ok(BigInt(shortest_int(&number.to_be_bytes()).to_vec()))
    }
    fn visit_u64<E>(self, number: u64) -> Result<BigInt, E> {
        Ok(BigInt(shortest_int(&i128::from(number).to_be_bytes()).to_vec()))
    }
    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<BigInt, E> {
        Ok(BigInt(bytes.to_vec()))
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<BigInt, D::Error> {
        let Ext(code, bytes) = deserializer.deserialize_tuple(2, ExtVisitor)?;
        let fits = code == ext::INT && crate::codec::msgpack::is_shortest_int(&bytes);
        if fits { Ok(BigInt(bytes)) } else { wrong("a whole number", code) }
    }
}

impl<'de> Deserialize<'de> for BigInt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(EXT, BigIntVisitor)
    }
}

struct Inner<C>(PhantomData<C>);

impl<'de, C: Deserialize<'de>> Visitor<'de> for Inner<C> {
    type Value = C;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a set")
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<C, D::Error> {
        C::deserialize(deserializer)
    }
}

impl<C: Serialize> Serialize for Set<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(SET, &self.0)
    }
}

impl<'de, C: Deserialize<'de>> Deserialize<'de> for Set<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(SET, Inner(PhantomData)).map(Set)
    }
}

impl<C: Serialize> Serialize for FrozenSet<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(FROZENSET, &self.0)
    }
}

impl<'de, C: Deserialize<'de>> Deserialize<'de> for FrozenSet<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(FROZENSET, Inner(PhantomData)).map(FrozenSet)
    }
}
