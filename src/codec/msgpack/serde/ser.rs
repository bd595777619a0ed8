//! From serde to the wire.

use super::{EXT, FROZENSET, SET, is_python_class};
use crate::codec::msgpack::{MAX_DEPTH, Opened, Writer, ext};
use crate::codec::values::CodecError;
use serde::ser::{self, Serialize};

/// The value as MessagePack.
///
/// # Errors
/// [`CodecError`] for what nests deeper than [`MAX_DEPTH`] or has a part of more than 4 GiB.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    write_to(&mut out, value)?;
    Ok(out)
}

/// Appends the value to `out`. After an error its end is undefined.
///
/// # Errors
/// As [`to_vec`].
pub fn write_to<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), CodecError> {
    value.serialize(&mut Serializer { writer: Writer::new(out), depth: 0 })
}

/// Writes serde's data model.
pub struct Serializer<'a> {
    writer: Writer<'a>,
    depth: usize,
}

type Done = Result<(), CodecError>;

fn too_long() -> CodecError {
    CodecError::new("a part of more than 4 GiB or 2^32 elements; MessagePack has no length for it")
}

fn length(count: usize) -> Result<u32, CodecError> {
    u32::try_from(count).map_err(|_| too_long())
}

impl Serializer<'_> {
    fn deeper(&mut self) -> Done {
        self.depth += 1;
        if self.depth <= MAX_DEPTH {
            return Ok(());
        }
        Err(CodecError::new(format!("a value nested deeper than {MAX_DEPTH}")))
    }

    fn map(&mut self, pairs: usize) -> Result<&mut Self, CodecError> {
        self.deeper()?;
        self.writer.map_header(length(pairs)?);
        Ok(self)
    }

    fn array(&mut self, count: usize) -> Result<&mut Self, CodecError> {
        self.deeper()?;
        self.writer.array_header(length(count)?);
        Ok(self)
    }

    fn text(&mut self, text: &str) -> Done {
        if self.writer.str(text.as_bytes()) { Ok(()) } else { Err(too_long()) }
    }

    fn close(&mut self, opened: Opened, code: i8) -> Done {
        if self.writer.close(opened, code) { Ok(()) } else { Err(too_long()) }
    }
}

/// A sequence, whose length may not be known before its end.
pub struct Sequence<'a, 'b> {
    serializer: &'a mut Serializer<'b>,
    /// Where it began, and how many elements it has had so far.
    unknown: Option<(usize, usize)>,
}

/// A map, or a struct, and the extension it is in.
pub struct Fields<'a, 'b> {
    serializer: &'a mut Serializer<'b>,
    opened: Option<(Opened, i8)>,
    /// Of a map whose length is not known: where it began, and how many pairs it has had.
    unknown: Option<(usize, usize)>,
}

impl<'a, 'b> ser::Serializer for &'a mut Serializer<'b> {
    type Ok = ();
    type Error = CodecError;
    type SerializeSeq = Sequence<'a, 'b>;
    type SerializeTuple = Fields<'a, 'b>;
    type SerializeTupleStruct = Fields<'a, 'b>;
    type SerializeTupleVariant = Fields<'a, 'b>;
    type SerializeMap = Fields<'a, 'b>;
    type SerializeStruct = Fields<'a, 'b>;
    type SerializeStructVariant = Fields<'a, 'b>;

    fn is_human_readable(&self) -> bool {
        false
    }
    fn serialize_bool(self, flag: bool) -> Done {
        self.writer.bool(flag);
        Ok(())
    }
    fn serialize_i8(self, number: i8) -> Done {
        self.serialize_i64(i64::from(number))
    }
    fn serialize_i16(self, number: i16) -> Done {
        self.serialize_i64(i64::from(number))
    }
    fn serialize_i32(self, number: i32) -> Done {
        self.serialize_i64(i64::from(number))
    }
    fn serialize_i64(self, number: i64) -> Done {
        self.writer.int(number);
        Ok(())
    }
    fn serialize_i128(self, number: i128) -> Done {
        self.writer.big_int(&number.to_be_bytes());
        Ok(())
    }
    fn serialize_u8(self, number: u8) -> Done {
        self.serialize_u64(u64::from(number))
    }
    fn serialize_u16(self, number: u16) -> Done {
        self.serialize_u64(u64::from(number))
    }
    fn serialize_u32(self, number: u32) -> Done {
        self.serialize_u64(u64::from(number))
    }
    fn serialize_u64(self, number: u64) -> Done {
        self.writer.uint(number);
        Ok(())
    }
    fn serialize_u128(self, number: u128) -> Done {
        // One byte in front, for the sign.
        let mut bytes = [0; 17];
        bytes[1..].copy_from_slice(&number.to_be_bytes());
        self.writer.big_int(&bytes);
        Ok(())
    }
    fn serialize_f32(self, number: f32) -> Done {
        self.serialize_f64(f64::from(number))
    }
    fn serialize_f64(self, number: f64) -> Done {
        self.writer.float(number);
        Ok(())
    }
    fn serialize_char(self, char: char) -> Done {
        self.text(char.encode_utf8(&mut [0; 4]))
    }
    fn serialize_str(self, text: &str) -> Done {
        self.text(text)
    }
    fn serialize_bytes(self, bytes: &[u8]) -> Done {
        if self.writer.bin(bytes) { Ok(()) } else { Err(too_long()) }
    }
    fn serialize_none(self) -> Done {
        self.serialize_unit()
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Done {
        self.writer.nil();
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Done {
        self.serialize_unit()
    }
    fn serialize_unit_variant(self, name: &'static str, _: u32, variant: &'static str) -> Done {
        if !is_python_class(name) {
            return self.text(variant);
        }
        let opened = self.writer.open();
        self.writer.array_header(2);
        self.text(name)?;
        self.text(variant)?;
        self.close(opened, ext::ENUM)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Done {
        let code = match name {
            EXT => return value.serialize(ExtSerializer { writer: &mut self.writer, code: None }),
            SET => ext::SET,
            FROZENSET => ext::FROZENSET,
            _ => return value.serialize(self),
        };
        let opened = self.writer.open();
        value.serialize(&mut *self)?;
        self.close(opened, code)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Done {
        let inner = self.map(1)?;
        inner.text(variant)?;
        value.serialize(&mut *inner)?;
        inner.depth -= 1;
        Ok(())
    }
    fn serialize_seq(self, count: Option<usize>) -> Result<Sequence<'a, 'b>, CodecError> {
        let start = self.writer.out.len();
        let serializer = self.array(count.unwrap_or(0))?;
        Ok(Sequence { serializer, unknown: count.is_none().then_some((start, 0)) })
    }
    fn serialize_tuple(self, count: usize) -> Result<Fields<'a, 'b>, CodecError> {
        let opened = self.writer.open();
        let serializer = self.array(count)?;
        Ok(Fields { serializer, opened: Some((opened, ext::TUPLE)), unknown: None })
    }
    fn serialize_tuple_struct(self, _: &'static str, count: usize) -> Result<Fields<'a, 'b>, CodecError> {
        self.serialize_tuple(count)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        count: usize,
    ) -> Result<Fields<'a, 'b>, CodecError> {
        self.writer.map_header(1);
        self.text(variant)?;
        self.serialize_tuple(count)
    }
    fn serialize_map(self, pairs: Option<usize>) -> Result<Fields<'a, 'b>, CodecError> {
        let start = self.writer.out.len();
        let serializer = self.map(pairs.unwrap_or(0))?;
        Ok(Fields { serializer, opened: None, unknown: pairs.is_none().then_some((start, 0)) })
    }
    fn serialize_struct(self, name: &'static str, count: usize) -> Result<Fields<'a, 'b>, CodecError> {
        let opened = if is_python_class(name) {
            let opened = self.writer.open();
            self.writer.array_header(2);
            self.text(name)?;
            Some((opened, ext::RECORD))
        } else {
            None
        };
        Ok(Fields { serializer: self.map(count)?, opened, unknown: None })
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        count: usize,
    ) -> Result<Fields<'a, 'b>, CodecError> {
        self.writer.map_header(1);
        self.text(variant)?;
        Ok(Fields { serializer: self.map(count)?, opened: None, unknown: None })
    }
}

impl ser::SerializeSeq for Sequence<'_, '_> {
    type Ok = ();
    type Error = CodecError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        if let Some((_, count)) = &mut self.unknown {
            *count += 1;
        }
        value.serialize(&mut *self.serializer)
    }
    fn end(self) -> Done {
        self.serializer.depth -= 1;
        settle(self.serializer, self.unknown, |writer, count| writer.array_header(count))
    }
}

/// Writes the header of a container that could not tell its length, now that it is known.
fn settle(serializer: &mut Serializer<'_>, unknown: Option<(usize, usize)>, head: fn(&mut Writer<'_>, u32)) -> Done {
    let Some((start, count)) = unknown else { return Ok(()) };
    let mut header = Vec::with_capacity(5);
    head(&mut Writer::new(&mut header), length(count)?);
    serializer.writer.out.splice(start..=start, header);
    Ok(())
}

impl Fields<'_, '_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        value.serialize(&mut *self.serializer)
    }
    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Done {
        self.serializer.text(name)?;
        self.element(value)
    }
    fn finish(self) -> Done {
        self.serializer.depth -= 1;
        settle(self.serializer, self.unknown, |writer, count| writer.map_header(count))?;
        match self.opened {
            Some((opened, code)) => self.serializer.close(opened, code),
            None => Ok(()),
        }
    }
}

macro_rules! elements {
    ($trait:ident, $method:ident) => {
        impl ser::$trait for Fields<'_, '_> {
            type Ok = ();
            type Error = CodecError;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
                self.element(value)
            }
            fn end(self) -> Done {
                self.finish()
            }
        }
    };
}
elements!(SerializeTuple, serialize_element);
elements!(SerializeTupleStruct, serialize_field);
elements!(SerializeTupleVariant, serialize_field);

macro_rules! fields {
    ($trait:ident) => {
        impl ser::$trait for Fields<'_, '_> {
            type Ok = ();
            type Error = CodecError;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Done {
                self.field(name, value)
            }
            fn end(self) -> Done {
                self.finish()
            }
        }
    };
}
fields!(SerializeStruct);
fields!(SerializeStructVariant);

impl ser::SerializeMap for Fields<'_, '_> {
    type Ok = ();
    type Error = CodecError;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        if let Some((_, count)) = &mut self.unknown {
            *count += 1;
        }
        self.element(key)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        self.element(value)
    }
    fn end(self) -> Done {
        self.finish()
    }
}

/// Takes the pair of code and bytes that an extension is inside its newtype.
struct ExtSerializer<'a, 'b> {
    writer: &'a mut Writer<'b>,
    code: Option<i8>,
}

fn no_ext<T>() -> Result<T, CodecError> {
    Err(CodecError::new("an extension is a code and its bytes"))
}

macro_rules! refuse {
    ($($method:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        $(fn $method(self, $(_: $argument),*) -> refuse!(@ $($result)?) { no_ext() })*
    };
    (@) => { Done };
    (@ $result:ty) => { Result<$result, CodecError> };
}

type Never = ser::Impossible<(), CodecError>;

impl<'b> ser::Serializer for ExtSerializer<'_, 'b> {
    type Ok = ();
    type Error = CodecError;
    type SerializeSeq = Never;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Never;

    fn serialize_tuple(self, _: usize) -> Result<Self, CodecError> {
        Ok(self)
    }
    refuse! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
        serialize_seq(Option<usize>) -> Never;
        serialize_tuple_struct(&'static str, usize) -> Never;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never;
        serialize_map(Option<usize>) -> Never;
        serialize_struct(&'static str, usize) -> Never;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never;
    }
    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Done {
        no_ext()
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Done {
        no_ext()
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(self, _: &'static str, _: u32, _: &'static str, _: &T) -> Done {
        no_ext()
    }
}

impl ser::SerializeTuple for ExtSerializer<'_, '_> {
    type Ok = ();
    type Error = CodecError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        let mut part = Vec::new();
        write_to(&mut part, value)?;
        use crate::codec::msgpack::{Reader, Token};
        match (Reader::new(&part).token(), self.code) {
            (Ok(Token::Int(code)), None) => self.code = i8::try_from(code).ok(),
            (Ok(Token::Bin(bytes)), Some(code)) => self.writer.ext(code, bytes),
            _ => return no_ext(),
        }
        Ok(())
    }
    fn end(self) -> Done {
        Ok(())
    }
}
