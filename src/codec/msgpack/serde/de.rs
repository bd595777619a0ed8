//! From the wire to serde.

use super::{EXT, FROZENSET, SET};
use crate::codec::msgpack::numbers::{is_decimal, is_shortest_int};
use crate::codec::msgpack::{MAX_DEPTH, Problem, Reader, Token, ext};
use crate::codec::values::CodecError;
use serde::Deserialize;
use serde::de::value::{BytesDeserializer, I8Deserializer, StrDeserializer};
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

/// Reads a value that is exactly these bytes.
///
/// # Errors
/// [`CodecError`] if they are no value, or not of this type.
pub fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CodecError> {
    let mut deserializer = Deserializer::new(bytes);
    let value = T::deserialize(&mut deserializer)?;
    deserializer.reader.end()?;
    Ok(value)
}

/// Reads serde's data model.
pub struct Deserializer<'de> {
    reader: Reader<'de>,
    depth: usize,
    /// Values that are announced and not yet read.
    owed: usize,
}

type Found<'de, V> = Result<<V as Visitor<'de>>::Value, CodecError>;

impl<'de> Deserializer<'de> {
    /// Reads one value from the front of `bytes`.
    pub fn new(bytes: &'de [u8]) -> Self {
        Deserializer { reader: Reader::new(bytes), depth: 0, owed: 0 }
    }

    fn peek(&self) -> Result<Token<'de>, CodecError> {
        Ok(self.reader.clone().token()?)
    }

    fn text(&self, bytes: &'de [u8]) -> Result<&'de str, CodecError> {
        std::str::from_utf8(bytes).map_err(|_| self.reader.malformed(Problem::Text).into())
    }

    fn bad(&self, problem: Problem) -> CodecError {
        self.reader.malformed(problem).into()
    }

    /// Runs `body` on the elements of a container that was just announced, all of which it has to read.
    fn inside<R>(
        &mut self,
        count: usize,
        each: usize,
        body: impl FnOnce(&mut Elements<'_, 'de>) -> Result<R, CodecError>,
    ) -> Result<R, CodecError> {
        if self.depth == MAX_DEPTH {
            return Err(self.bad(Problem::TooDeep));
        }
        let values = count.saturating_mul(each);
        self.reader.can_hold(values, self.owed)?;
        self.depth += 1;
        self.owed += values;
        let mut elements = Elements { left: count, from: self };
        let result = body(&mut elements)?;
        if elements.left > 0 {
            return Err(de::Error::custom(format_args!("{} elements more than expected", elements.left)));
        }
        self.depth -= 1;
        Ok(result)
    }

    fn array<V: Visitor<'de>>(&mut self, count: usize, visitor: V) -> Found<'de, V> {
        self.inside(count, 1, |elements| visitor.visit_seq(elements))
    }

    fn map<V: Visitor<'de>>(&mut self, pairs: usize, visitor: V) -> Found<'de, V> {
        self.inside(pairs, 2, |elements| visitor.visit_map(elements))
    }

    /// A reader of what an extension holds, at the depth of this one.
    fn within(&self, bytes: &'de [u8]) -> Result<Self, CodecError> {
        self.reader.can_hold(0, self.owed)?;
        Ok(Deserializer { reader: self.reader.inside(bytes), depth: self.depth, owed: 0 })
    }

    /// The array that an extension is, from which `body` has to read all elements.
    fn ext_array<R>(
        &self,
        (code, bytes): (i8, &'de [u8]),
        body: impl FnOnce(&mut Elements<'_, 'de>) -> Result<R, CodecError>,
    ) -> Result<R, CodecError> {
        let mut inner = self.within(bytes)?;
        let Token::Array(count) = inner.reader.token()? else { return Err(self.bad(Problem::BadExt(code))) };
        let result = inner.inside(count, 1, body)?;
        inner.reader.end()?;
        Ok(result)
    }

    fn ext<V: Visitor<'de>>(&mut self, code: i8, bytes: &'de [u8], visitor: V) -> Found<'de, V> {
        match code {
            ext::TUPLE | ext::SET | ext::FROZENSET => self.ext_array((code, bytes), |items| visitor.visit_seq(items)),
            ext::INT if is_shortest_int(bytes) => self.wide_int(bytes, visitor),
            ext::DECIMAL if is_decimal(bytes) => visitor.visit_borrowed_str(self.text(bytes)?),
            ext::UUID if bytes.len() == 16 => visitor.visit_borrowed_bytes(bytes),
            ext::ENUM => visitor.visit_borrowed_str(self.member(bytes)?),
            ext::RECORD => self.record(bytes, visitor),
            _ => Err(self.bad(Problem::Unexpected)),
        }
    }

    fn wide_int<V: Visitor<'de>>(&self, bytes: &[u8], visitor: V) -> Found<'de, V> {
        let negative = bytes[0] & 0x80 != 0;
        let mut wide = [if negative { 0xff } else { 0 }; 17];
        let Some(place) = 17usize.checked_sub(bytes.len()) else {
            return Err(de::Error::custom("a whole number beyond 128 bits; ask for a BigInt"));
        };
        wide[place..].copy_from_slice(bytes);
        let [sign, low @ ..] = wide;
        let signed = i128::from_be_bytes(low);
        match (sign, signed < 0) {
            (0, false) | (0xff, true) => visitor.visit_i128(signed),
            (0, true) => visitor.visit_u128(u128::from_be_bytes(low)),
            _ => Err(de::Error::custom("a whole number beyond 128 bits; ask for a BigInt")),
        }
    }

    /// The name of a member of an enumeration.
    fn member(&self, bytes: &'de [u8]) -> Result<&'de str, CodecError> {
        self.ext_array((ext::ENUM, bytes), |parts| {
            let _class: &str = parts.required()?;
            parts.required()
        })
    }

    fn record<V: Visitor<'de>>(&self, bytes: &'de [u8], visitor: V) -> Found<'de, V> {
        self.ext_array((ext::RECORD, bytes), |parts| {
            let _class: &str = parts.required()?;
            let fields = de::SeqAccess::next_element_seed(parts, Fields(visitor))?;
            while de::SeqAccess::next_element::<de::IgnoredAny>(parts)?.is_some() {}
            fields.ok_or_else(|| de::Error::custom("an object without fields"))
        })
    }
}

/// The elements of a container that are left.
struct Elements<'a, 'de> {
    from: &'a mut Deserializer<'de>,
    left: usize,
}

impl<'de> Elements<'_, 'de> {
    fn required<T: Deserialize<'de>>(&mut self) -> Result<T, CodecError> {
        de::SeqAccess::next_element(self)?.ok_or_else(|| self.from.bad(Problem::Truncated))
    }

    fn next<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, CodecError> {
        self.from.owed -= 1;
        seed.deserialize(&mut *self.from)
    }
}

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de> {
    type Error = CodecError;
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, CodecError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.next(seed).map(Some)
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> de::MapAccess<'de> for Elements<'_, 'de> {
    type Error = CodecError;
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, CodecError> {
        de::SeqAccess::next_element_seed(self, seed)
    }
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, CodecError> {
        self.next(seed)
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// The fields of an object: a map.
struct Fields<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Fields<V> {
    type Value = V::Value;
    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        deserializer.deserialize_map(self.0)
    }
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = CodecError;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Found<'de, V> {
        match self.reader.token()? {
            Token::Nil => visitor.visit_unit(),
            Token::Bool(flag) => visitor.visit_bool(flag),
            Token::Int(number) => match u64::try_from(number) {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_i64(number),
            },
            Token::UInt(number) => visitor.visit_u64(number),
            Token::Float(number) => visitor.visit_f64(number),
            Token::Str(bytes) => visitor.visit_borrowed_str(self.text(bytes)?),
            Token::Bin(bytes) => visitor.visit_borrowed_bytes(bytes),
            Token::Array(count) => self.array(count, visitor),
            Token::Map(pairs) => self.map(pairs, visitor),
            Token::Ext(code, bytes) => self.ext(code, bytes, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Found<'de, V> {
        if self.peek()? == Token::Nil {
            self.reader.token()?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Found<'de, V> {
        let wanted = match name {
            EXT => {
                let Token::Ext(code, bytes) = self.peek()? else { return self.deserialize_any(visitor) };
                self.reader.token()?;
                return visitor.visit_newtype_struct(ExtDeserializer { code, bytes });
            }
            SET => ext::SET,
            FROZENSET => ext::FROZENSET,
            _ => return visitor.visit_newtype_struct(self),
        };
        match self.peek()? {
            Token::Ext(code, _) if code == wanted => visitor.visit_newtype_struct(self),
            _ => Err(self.bad(Problem::Unexpected)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Found<'de, V> {
        match self.reader.token()? {
            Token::Str(name) => visitor.visit_enum(StrDeserializer::<CodecError>::new(self.text(name)?)),
            Token::Ext(ext::ENUM, bytes) => visitor.visit_enum(StrDeserializer::<CodecError>::new(self.member(bytes)?)),
            Token::Map(1) => self.inside(1, 2, |pair| {
                let name: &str = pair.required()?;
                visitor.visit_enum(Variant { name, pair })
            }),
            _ => Err(self.bad(Problem::Unexpected)),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Found<'de, V> {
        match self.peek()? {
            // What is in an extension that nobody wants is not looked at.
            Token::Ext(..) => {
                self.reader.token()?;
                visitor.visit_unit()
            }
            _ => self.deserialize_any(visitor),
        }
    }
}

/// The one pair of a map that is a variant with its content.
struct Variant<'a, 'b, 'de> {
    name: &'de str,
    pair: &'a mut Elements<'b, 'de>,
}

impl<'a, 'b, 'de> de::EnumAccess<'de> for Variant<'a, 'b, 'de> {
    type Error = CodecError;
    type Variant = Self;
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), CodecError> {
        Ok((seed.deserialize(StrDeserializer::<CodecError>::new(self.name))?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, '_, 'de> {
    type Error = CodecError;
    fn unit_variant(self) -> Result<(), CodecError> {
        self.newtype_variant_seed(std::marker::PhantomData)
    }
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, CodecError> {
        self.pair.next(seed)
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Found<'de, V> {
        self.newtype_variant_seed(Whole(visitor))
    }
    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Found<'de, V> {
        self.newtype_variant_seed(Whole(visitor))
    }
}

struct Whole<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Whole<V> {
    type Value = V::Value;
    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        deserializer.deserialize_any(self.0)
    }
}

/// An extension as the pair of its code and its bytes.
struct ExtDeserializer<'de> {
    code: i8,
    bytes: &'de [u8],
}

impl<'de> de::Deserializer<'de> for ExtDeserializer<'de> {
    type Error = CodecError;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Found<'de, V> {
        visitor.visit_seq(ExtParts { code: Some(self.code), bytes: Some(self.bytes) })
    }
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct option
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct ExtParts<'de> {
    code: Option<i8>,
    bytes: Option<&'de [u8]>,
}

impl<'de> de::SeqAccess<'de> for ExtParts<'de> {
    type Error = CodecError;
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, CodecError> {
        if let Some(code) = self.code.take() {
            let code: I8Deserializer<CodecError> = code.into_deserializer();
            return seed.deserialize(code).map(Some);
        }
        match self.bytes.take() {
            Some(bytes) => seed.deserialize(BytesDeserializer::<CodecError>::new(bytes)).map(Some),
            None => Ok(None),
        }
    }
}
