//! Any value of the wire as one Rust type, for programs that do not know what they read.

use super::moments::{Date, DateTime, Delta, Time};
use super::numbers::{is_decimal, is_shortest_int};
use super::reader::{Malformed, Problem, Reader, Token};
use super::writer::Writer;
use super::{MAX_DEPTH, ext};

/// What a value can be.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Python's None.
    Nil,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number beyond those.
    UInt(u64),
    /// A whole number beyond those: two's complement, big-endian.
    BigInt(Vec<u8>),
    /// A float.
    Float(f64),
    /// Text.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// A dict: keys and values in order. That no key is there twice is not checked.
    Map(Vec<(Value, Value)>),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A set, in no order.
    Set(Vec<Value>),
    /// A frozenset, in no order.
    FrozenSet(Vec<Value>),
    /// A date with a time of day.
    DateTime(DateTime<'static>),
    /// A date.
    Date(Date),
    /// A time of day.
    Time(Time<'static>),
    /// A span of time.
    Delta(Delta),
    /// A decimal number, as text.
    Decimal(String),
    /// A UUID.
    Uuid([u8; 16]),
    /// A complex number.
    Complex(f64, f64),
    /// A member of an enumeration.
    Member(Box<Member>),
    /// An object with named fields.
    Record(Record),
}

/// A member of an enumeration.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its class: module and qualified name.
    pub class: String,
    /// Its name; flags that have been joined have none.
    pub name: Option<String>,
    /// Its value, if it has no name.
    pub value: Value,
}

/// An object with named fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its class: module and qualified name.
    pub class: String,
    /// Its fields in order: their names are text.
    pub fields: Vec<(Value, Value)>,
    /// What its class keeps beside them, if any.
    pub rest: Option<Box<Value>>,
}

impl Value {
    /// Reads exactly one value.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are none. What is allocated is a constant times the bytes.
    pub fn read(bytes: &[u8]) -> Result<Value, Malformed> {
        let mut reader = Reader::new(bytes);
        let value = read(&mut reader, 0, 0)?;
        reader.end()?;
        Ok(value)
    }

    /// Appends the value. False, with the buffer in an undefined state, if a part has more than 4 GiB or elements.
    #[must_use]
    pub fn write(&self, out: &mut Vec<u8>) -> bool {
        let mut writer = Writer::new(out);
        match self {
            Value::Nil => writer.nil(),
            Value::Bool(flag) => writer.bool(*flag),
            Value::Int(number) => writer.int(*number),
            Value::UInt(number) => writer.uint(*number),
            Value::BigInt(bytes) => writer.big_int(bytes),
            Value::Float(number) => writer.float(*number),
            Value::Str(text) => return writer.str(text.as_bytes()),
            Value::Bytes(bytes) => return writer.bin(bytes),
            Value::List(items) => return write_array(items, out),
            Value::Map(pairs) => return write_map(pairs, out),
            Value::Tuple(items) => return within(out, ext::TUPLE, |out| write_array(items, out)),
            Value::Set(items) => return within(out, ext::SET, |out| write_array(items, out)),
            Value::FrozenSet(items) => return within(out, ext::FROZENSET, |out| write_array(items, out)),
            Value::DateTime(moment) => writer.datetime(moment),
            Value::Date(date) => writer.date(*date),
            Value::Time(time) => writer.time(time),
            Value::Delta(delta) => writer.delta(*delta),
            Value::Decimal(text) => writer.ext(ext::DECIMAL, text.as_bytes()),
            Value::Uuid(bytes) => writer.ext(ext::UUID, bytes),
            Value::Complex(real, imaginary) => writer.complex(*real, *imaginary),
            Value::Member(member) => return member.write(out),
            Value::Record(record) => return record.write(out),
        }
        true
    }
}

impl Member {
    fn write(&self, out: &mut Vec<u8>) -> bool {
        within(out, ext::ENUM, |out| {
            let mut writer = Writer::new(out);
            writer.array_header(if self.name.is_some() { 2 } else { 3 });
            let named = writer.str(self.class.as_bytes());
            match &self.name {
                Some(name) => named && writer.str(name.as_bytes()),
                None => {
                    writer.nil();
                    named && self.value.write(out)
                }
            }
        })
    }
}

impl Record {
    fn write(&self, out: &mut Vec<u8>) -> bool {
        within(out, ext::RECORD, |out| {
            let mut writer = Writer::new(out);
            writer.array_header(if self.rest.is_some() { 3 } else { 2 });
            let named = writer.str(self.class.as_bytes());
            named && write_map(&self.fields, out) && self.rest.as_ref().is_none_or(|rest| rest.write(out))
        })
    }
}

fn within(out: &mut Vec<u8>, code: i8, body: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
    let opened = Writer::new(out).open();
    body(out) && Writer::new(out).close(opened, code)
}

fn write_array(items: &[Value], out: &mut Vec<u8>) -> bool {
    let Ok(length) = u32::try_from(items.len()) else { return false };
    Writer::new(out).array_header(length);
    items.iter().all(|item| item.write(out))
}

fn write_map(pairs: &[(Value, Value)], out: &mut Vec<u8>) -> bool {
    let Ok(length) = u32::try_from(pairs.len()) else { return false };
    Writer::new(out).map_header(length);
    pairs.iter().all(|(key, value)| key.write(out) && value.write(out))
}

/// Reads a value inside `depth` containers, after which `owed` more are due.
fn read(reader: &mut Reader<'_>, depth: usize, owed: usize) -> Result<Value, Malformed> {
    Ok(match reader.token()? {
        Token::Nil => Value::Nil,
        Token::Bool(flag) => Value::Bool(flag),
        Token::Int(number) => Value::Int(number),
        Token::UInt(number) => Value::UInt(number),
        Token::Float(number) => Value::Float(number),
        Token::Str(bytes) => Value::Str(text(reader, bytes)?),
        Token::Bin(bytes) => Value::Bytes(bytes.to_vec()),
        Token::Array(count) => Value::List(read_items(reader, count, depth, owed)?),
        Token::Map(count) => Value::Map(read_pairs(reader, count, depth, owed)?),
        Token::Ext(code, bytes) => {
            reader.can_hold(0, owed)?;
            read_ext(reader, code, bytes, depth)?
        }
    })
}

fn text(reader: &Reader<'_>, bytes: &[u8]) -> Result<String, Malformed> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| reader.malformed(Problem::Text))
}

fn deeper(reader: &Reader<'_>, depth: usize) -> Result<usize, Malformed> {
    if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(reader.malformed(Problem::TooDeep)) }
}

fn read_items(reader: &mut Reader<'_>, count: usize, depth: usize, owed: usize) -> Result<Vec<Value>, Malformed> {
    reader.can_hold(count, owed)?;
    let depth = deeper(reader, depth)?;
    let mut items = Vec::with_capacity(count);
    for left in (0..count).rev() {
        items.push(read(reader, depth, owed + left)?);
    }
    Ok(items)
}

type Pairs = Vec<(Value, Value)>;

fn read_pairs(reader: &mut Reader<'_>, count: usize, depth: usize, owed: usize) -> Result<Pairs, Malformed> {
    reader.can_hold(count.saturating_mul(2), owed)?;
    let depth = deeper(reader, depth)?;
    let mut pairs = Vec::with_capacity(count);
    for left in (0..count).rev() {
        let key = read(reader, depth, owed + 2 * left + 1)?;
        pairs.push((key, read(reader, depth, owed + 2 * left)?));
    }
    Ok(pairs)
}

fn read_ext(outer: &Reader<'_>, code: i8, bytes: &[u8], depth: usize) -> Result<Value, Malformed> {
    let bad = || outer.malformed(Problem::BadExt(code));
    Ok(match code {
        ext::TIMESTAMP => Value::DateTime(DateTime::read_timestamp(bytes).ok_or_else(bad)?),
        ext::DATETIME => Value::DateTime(DateTime::read(bytes).ok_or_else(bad)?.into_owned()),
        ext::DATE => Value::Date(Date::read(bytes).ok_or_else(bad)?),
        ext::TIME => Value::Time(Time::read(bytes).ok_or_else(bad)?.into_owned()),
        ext::DELTA => Value::Delta(Delta::read(bytes).ok_or_else(bad)?),
        ext::INT if is_shortest_int(bytes) => Value::BigInt(bytes.to_vec()),
        ext::DECIMAL if is_decimal(bytes) => Value::Decimal(text(outer, bytes)?),
        ext::UUID => Value::Uuid(bytes.try_into().map_err(|_| bad())?),
        ext::COMPLEX => {
            let (real, imaginary) = bytes.split_first_chunk::<8>().ok_or_else(bad)?;
            let imaginary: [u8; 8] = imaginary.try_into().map_err(|_| bad())?;
            Value::Complex(f64::from_be_bytes(*real), f64::from_be_bytes(imaginary))
        }
        ext::TUPLE | ext::SET | ext::FROZENSET | ext::ENUM | ext::RECORD => {
            let mut reader = outer.inside(bytes);
            let Token::Array(count) = reader.token()? else { return Err(bad()) };
            let items = read_items(&mut reader, count, depth, 0)?;
            reader.end()?;
            of_items(code, items).ok_or_else(bad)?
        }
        ext::INT | ext::DECIMAL => return Err(bad()),
        _ => return Err(outer.malformed(Problem::UnknownExt(code))),
    })
}

fn of_items(code: i8, items: Vec<Value>) -> Option<Value> {
    Some(match code {
        ext::TUPLE => Value::Tuple(items),
        ext::SET => Value::Set(items),
        ext::FROZENSET => Value::FrozenSet(items),
        ext::ENUM => Value::Member(Box::new(match <[Value; 2]>::try_from(items) {
            Ok([Value::Str(class), Value::Str(name)]) => Member { class, name: Some(name), value: Value::Nil },
            Ok(_) => return None,
            Err(items) => match <[Value; 3]>::try_from(items) {
                Ok([Value::Str(class), Value::Nil, value]) => Member { class, name: None, value },
                _ => return None,
            },
        })),
        _ => {
            let mut items = items.into_iter();
            let (Some(Value::Str(class)), Some(Value::Map(fields))) = (items.next(), items.next()) else {
                return None;
            };
            let named = fields.iter().all(|(name, _)| matches!(name, Value::Str(_)));
            let rest = items.next().map(Box::new);
            (named && items.next().is_none()).then_some(())?;
            Value::Record(Record { class, fields, rest })
        }
    })
}
