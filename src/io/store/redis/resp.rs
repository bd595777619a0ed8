//! Where a reply ends, and what it says. Values are slices of what was read, not copies; all that is rarer than they are is the
//! `redis` crate's to parse, once it is there as a whole.

use bytes::Bytes;
use redis::{Value, parse_redis_value};
use std::ops::Range;

/// One reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A string of bytes: what most replies are.
    Bytes(Bytes),
    /// What the members of a list say.
    Many(Vec<Said>),
    /// Anything else.
    Other(Value),
}

impl Said {
    /// The same, as the crate has it.
    pub fn into_value(self) -> Value {
        match self {
            Said::Bytes(bytes) => Value::BulkString(bytes.into()),
            Said::Many(all) => Value::Array(all.into_iter().map(Said::into_value).collect()),
            Said::Other(value) => value,
        }
    }
}

/// A reply that is there as a whole.
#[derive(Debug, PartialEq)]
pub enum Reply {
    /// A string of bytes, which is here.
    Bytes(Range<usize>),
    /// Anything else, to be parsed.
    Other(Range<usize>),
    /// No reply at all, but something that the server says by itself.
    Push(Range<usize>),
}

impl Reply {
    /// Where it ends.
    pub fn end(&self) -> usize {
        match self {
            Reply::Bytes(range) => range.end + 2,
            Reply::Other(range) | Reply::Push(range) => range.end,
        }
    }
}

/// This is no Redis.
#[derive(Debug, PartialEq)]
pub struct Garbage(pub String);

/// A reply, or how many bytes there have to be at least before another look is of use.
#[derive(Debug, PartialEq)]
pub enum Look {
    Whole(Reply),
    Needs(usize),
}

/// No line but a text's is as long as this, and no error's text is.
const LONGEST_LINE: usize = 64 * 1024;
/// What a server allows at most (`proto-max-bulk-len`), in any case.
const LONGEST: u64 = 1 << 40;

/// The reply that begins here.
pub fn look(bytes: &[u8], at: usize) -> Result<Look, Garbage> {
    let Some(&kind) = bytes.get(at) else { return Ok(Look::Needs(at + 1)) };
    if kind == b'$' {
        return bulk(bytes, at);
    }
    match extent(bytes, at)? {
        Ok(end) if kind == b'>' => Ok(Look::Whole(Reply::Push(at..end))),
        Ok(end) => Ok(Look::Whole(Reply::Other(at..end))),
        Err(needs) => Ok(Look::Needs(needs)),
    }
}

/// What may be the beginning of a list.
#[derive(Debug, PartialEq)]
pub enum Head {
    /// It has so many members, the first of which begins there.
    List(usize, usize),
    /// So many bytes have to be there to tell.
    Needs(usize),
    /// It is none, or one that is not there at all.
    Other,
}

/// The list that begins here, if one does.
pub fn list(bytes: &[u8], at: usize) -> Result<Head, Garbage> {
    if bytes.get(at) != Some(&b'*') {
        return Ok(Head::Other);
    }
    let Some((line, next)) = line(bytes, at)? else { return Ok(Head::Needs(bytes.len() + 1)) };
    Ok(length(line)?.map_or(Head::Other, |count| Head::List(count, next)))
}

fn bulk(bytes: &[u8], at: usize) -> Result<Look, Garbage> {
    let (length, begin) = match short(bytes, at) {
        Some(found) => found,
        None => {
            let Some((line, begin)) = line(bytes, at)? else { return Ok(Look::Needs(bytes.len() + 1)) };
            let Some(length) = length(line)? else { return Ok(Look::Whole(Reply::Other(at..begin))) };
            (length, begin)
        }
    };
    let end = begin + length;
    match bytes.get(end..end + 2) {
        None => Ok(Look::Needs(end + 2)),
        Some(b"\r\n") => Ok(Look::Whole(Reply::Bytes(begin..end))),
        Some(_) => Err(garbage(&bytes[at..])),
    }
}

/// The length of a string of less than 100 kB and where it begins, which is what most lines say; `None` to read it with more care.
fn short(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut length = 0;
    for (digits, &byte) in bytes.get(at + 1..at + 7)?.iter().enumerate() {
        match byte {
            b'0'..=b'9' => length = length * 10 + usize::from(byte - b'0'),
            b'\r' if digits > 0 && bytes.get(at + digits + 2) == Some(&b'\n') => {
                return Some((length, at + digits + 3));
            }
            _ => return None,
        }
    }
    None
}

/// Where the whole of what begins here ends, or how many bytes that needs at least.
fn extent(bytes: &[u8], mut at: usize) -> Result<Result<usize, usize>, Garbage> {
    let mut left: u64 = 1;
    while left > 0 {
        let Some((line, next)) = line(bytes, at)? else { return Ok(Err(bytes.len() + 1)) };
        left -= 1;
        let count = |line| length(line).map(|length| length.map_or(0, |length| length as u64));
        match bytes[at] {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => at = next,
            b'$' | b'!' | b'=' => {
                at = match length(line)? {
                    Some(length) => next + length + 2,
                    None => next,
                };
                if at > bytes.len() {
                    return Ok(Err(at));
                }
            }
            b'*' | b'~' | b'>' => (left, at) = (left + count(line)?, next),
            b'%' => (left, at) = (left + 2 * count(line)?, next),
            // And what it is about.
            b'|' => (left, at) = (left + 2 * count(line)? + 1, next),
            _ => return Err(garbage(&bytes[at..])),
        }
    }
    Ok(Ok(at))
}

/// The line that begins here, without the byte that says what it is, and where the next one begins.
fn line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, Garbage> {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest.first() {
        None => return Ok(None),
        Some(
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' | b'$' | b'!' | b'=' | b'*' | b'~' | b'>' | b'%' | b'|',
        ) => {}
        Some(_) => return Err(garbage(rest)),
    }
    match rest.iter().take(LONGEST_LINE).position(|&byte| byte == b'\n') {
        Some(end) if rest[end - 1] == b'\r' => Ok(Some((&rest[1..end - 1], at + end + 1))),
        None if rest.len() < LONGEST_LINE => Ok(None),
        _ => Err(garbage(rest)),
    }
}

/// A length; `None` for the absence of anything.
fn length(line: &[u8]) -> Result<Option<usize>, Garbage> {
    if line == b"-1" {
        return Ok(None);
    }
    let digit = |sum: u64, &byte: &u8| {
        let digit = u64::from(byte.wrapping_sub(b'0'));
        (digit < 10 && sum < LONGEST).then_some(sum * 10 + digit)
    };
    let length = line.iter().try_fold(0, digit).filter(|_| !line.is_empty());
    let length = length.and_then(|length| usize::try_from(length).ok());
    length.map(Some).ok_or_else(|| garbage(line))
}

fn garbage(bytes: &[u8]) -> Garbage {
    let shown = &bytes[..bytes.len().min(40)];
    Garbage(format!("{:?}", String::from_utf8_lossy(shown)))
}

/// Parses what is no string of bytes.
pub fn parse(bytes: &[u8]) -> Result<Value, Garbage> {
    match bytes {
        b"$-1\r\n" | b"_\r\n" | b"*-1\r\n" => Ok(Value::Nil),
        _ => parse_redis_value(bytes).map_err(|error| Garbage(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(bytes: &[u8]) -> Result<Option<(Said, usize)>, Garbage> {
        Ok(match look(bytes, 0)? {
            Look::Whole(reply) => {
                let said = match &reply {
                    Reply::Bytes(range) => Said::Bytes(Bytes::copy_from_slice(&bytes[range.clone()])),
                    Reply::Other(range) | Reply::Push(range) => Said::Other(parse(&bytes[range.clone()])?),
                };
                Some((said, reply.end()))
            }
            Look::Needs(needs) => {
                assert!(needs > bytes.len(), "{needs} bytes are there");
                None
            }
        })
    }

    /// Replies of all kinds, as a server writes them.
    fn reply() -> impl Strategy<Value = Vec<u8>> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..40);
        let bulk = |kind: &'static str| {
            move |bytes: Vec<u8>| [format!("{kind}{}\r\n", bytes.len()).into_bytes(), bytes, b"\r\n".to_vec()].concat()
        };
        let leaf = prop_oneof![
            bytes.prop_map(bulk("$")),
            "[a-z0-9 ]{0,20}".prop_map(move |text| bulk("!")(text.into_bytes())),
            "[a-z0-9 ]{0,20}".prop_map(move |text| bulk("=")(format!("txt:{text}").into_bytes())),
            "[A-Za-z ]{0,30}".prop_map(|text| format!("+{text}\r\n").into_bytes()),
            "[A-Z]{1,9} [a-z ]{0,30}".prop_map(|text| format!("-{text}\r\n").into_bytes()),
            any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
            any::<bool>().prop_map(|yes| if yes { b"#t\r\n".to_vec() } else { b"#f\r\n".to_vec() }),
            prop_oneof![Just(b"$-1\r\n".to_vec()), Just(b"*-1\r\n".to_vec()), Just(b"_\r\n".to_vec())],
            (-1e9..1e9).prop_map(|number: f64| format!(",{number}\r\n").into_bytes()),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            let many = proptest::collection::vec(inner.clone(), 0..5);
            let pairs = proptest::collection::vec((inner.clone(), inner), 0..3);
            prop_oneof![
                many.clone().prop_map(|all| [format!("*{}\r\n", all.len()).into_bytes(), all.concat()].concat()),
                many.prop_map(|all| [format!("~{}\r\n", all.len()).into_bytes(), all.concat()].concat()),
                pairs.prop_map(|all| {
                    let pairs: Vec<u8> = all.iter().flat_map(|(a, b)| [a.clone(), b.clone()].concat()).collect();
                    [format!("%{}\r\n", all.len()).into_bytes(), pairs].concat()
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn a_reply_is_found_when_it_is_there_and_says_what_the_crate_reads_in_it(bytes in reply(), after in reply()) {
            let both = [&bytes[..], &after].concat();
            let (found, end) = said(&both).unwrap().unwrap();
            prop_assert_eq!(end, bytes.len());
            prop_assert_eq!(found.into_value(), parse_redis_value(&bytes).unwrap());
            for short in 0..bytes.len() {
                prop_assert_eq!(said(&bytes[..short]), Ok(None));
            }
        }

        #[test]
        fn whatever_a_server_says_is_a_reply_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..60), kind in "[-+:$*%~>|=!_#,(]") {
            let _ = said(&bytes);
            let _ = said(&[kind.as_bytes(), &bytes].concat());
            let _ = said(&[kind.as_bytes(), b"3\r\n", &bytes].concat());
        }
    }

    #[test]
    fn a_list_begins_with_how_many_follow() {
        for (bytes, found) in [
            (&b"*2\r\n:1\r\n"[..], Head::List(2, 4)),
            (b"*0\r\n", Head::List(0, 4)),
            (b"*-1\r\n", Head::Other),
            (b"$1\r\na\r\n", Head::Other),
            (b"*12\r", Head::Needs(5)),
            (b"*", Head::Needs(2)),
            (b"", Head::Other),
        ] {
            assert_eq!(list(bytes, 0), Ok(found));
        }
        assert!(list(b"*x\r\n", 0).is_err() && list(b"*-2\r\n", 0).is_err());
    }

    #[test]
    fn what_no_redis_says_is_told_at_once() {
        for bytes in
            [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"$x\r\n", b"$-2\r\n", b"$\r\n", b"*1\r\nx", b"$1\r\nabc", b"+a\n"]
        {
            assert!(said(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(said(&[b'+'; LONGEST_LINE]).is_err());
        assert!(said(b"$99999999999999999999\r\n").is_err());
        assert_eq!(said(b"*99999999\r\n:1\r\n"), Ok(None));
    }
}
