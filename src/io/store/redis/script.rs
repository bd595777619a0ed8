//! Requests as commands, and what is answered to them. Most are one of the [scripts](super::lua).

use super::lua::{SOURCES, Source};
use super::resp::Said;
use crate::core::coherence::message::{Message, What};
use crate::core::coherence::{How, Moved, Name, Snapshot, Told};
use crate::core::remote::cell::Under;
use crate::core::remote::{Filled, Found, Version, Wanted};
use crate::io::store::stored::{self, Stored};
use crate::io::store::{Action, Reply, Request, Tell};
use redis::Value;
use std::time::Duration;

/// A server's milliseconds; nothing lives for less than one.
fn millis(life: Duration) -> u64 {
    // Redis adds the time of day to it, in 63 bits.
    u64::try_from(life.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 53)
}

fn keep(keep: Option<Duration>) -> u64 {
    keep.map_or(0, millis)
}

fn number(version: Option<Version>) -> u64 {
    version.map_or(0, |version| version.0)
}

/// Where keys are: what the commands have to know of it.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// In front of every key.
    pub prefix: &'a [u8],
    /// Its number.
    pub database: u32,
    /// True if all keys are on one server, so that a script may have a cache's clock beside another key.
    pub is_one: bool,
}

impl Place<'_> {
    /// The channel on which those who listen to a cache are told. No key is called so: a `%` in the name of a cache is followed by `3A` or `25`.
    pub fn channel(&self, cache: &[u8]) -> Vec<u8> {
        [self.prefix, cache, format!("%bus{}", self.database).as_bytes()].concat()
    }
}

/// Writes the command that does this with a key, as it goes to the server. `whole`: the server does not know the script, so its text
/// goes along.
pub fn write(out: &mut Vec<u8>, key: &[u8], action: &Action, whole: bool, place: Place<'_>) {
    let all = &*SOURCES;
    let tell = action.tell();
    let clock = tell.filter(|_| place.is_one).map(|tell| [place.prefix, &tell.cache].concat());
    let mut run = |source: &Source, count: usize| {
        array(out, 4 + usize::from(clock.is_some()) + count + if tell.is_some() { TELLING } else { 0 });
        word(out, if whole { b"EVAL" } else { b"EVALSHA" });
        word(out, if whole { source.text.as_bytes() } else { source.hash.as_bytes() });
        word(out, if clock.is_some() { b"2" } else { b"1" });
        word(out, key);
        clock.iter().for_each(|clock| word(out, clock));
    };
    match action {
        Action::Read => {
            out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
            word(out, key);
        }
        Action::Delete => {
            out.extend_from_slice(b"*2\r\n$6\r\nUNLINK\r\n");
            word(out, key);
        }
        Action::Claim { token, wanted, life } => {
            run(&all.claim, 4);
            word(out, &stored::token_bytes(*token));
            digits(out, millis(*life));
            digits(out, number(wanted.known()));
            digits(out, u64::from(*wanted == Wanted::Anew));
        }
        Action::Fill { under, newer_than, frame, keep: life, .. } => {
            run(&all.fill, 5);
            match under {
                Under::Claim(token) => {
                    word(out, b"claim");
                    word(out, &stored::token_bytes(*token));
                }
                Under::Version(version) => {
                    word(out, b"version");
                    digits(out, version.0);
                }
                Under::Nothing => words(out, [b"nothing", b""]),
                Under::Something => words(out, [b"something", b""]),
            }
            digits(out, number(*newer_than));
            digits(out, keep(*life));
            word(out, frame);
        }
        Action::Put { frame, keep: life, .. } => {
            run(&all.put, 2);
            digits(out, keep(*life));
            word(out, frame);
        }
        Action::Invalidate { keep, by, .. } => {
            run(&all.invalidate, 2);
            digits(out, millis(*keep));
            digits(out, by.unwrap_or(0));
        }
        Action::Renew { token, life } => {
            run(&all.renew, 2);
            word(out, &stored::token_bytes(*token));
            digits(out, millis(*life));
        }
        Action::Release { token } => {
            run(&all.release, 1);
            word(out, &stored::token_bytes(*token));
        }
        Action::Move { names, how, by, origin } => {
            run(&all.moving, 2 + TELLING + names.len());
            word(out, if *how == How::Gone { b"0" } else { b"1" });
            let cache = key.strip_prefix(place.prefix).unwrap_or(key);
            let what = What::Moved { names: names.clone(), how: *how };
            telling(out, &Tell { cache: cache.to_vec(), origin: *origin }, &what, place);
            digits(out, by.unwrap_or(0));
            names.iter().for_each(|name| word(out, &name.to_bytes()));
        }
        Action::Registers { known } => {
            run(&all.registers, 2);
            digits(out, known.birth);
            digits(out, known.moves);
        }
    }
    if let Some(tell) = tell {
        let key = key.strip_prefix(place.prefix).unwrap_or(key).to_vec();
        telling(out, tell, &What::Changed { key }, place);
    }
}

/// Writes the command that reads these keys together, and is answered by a list.
pub fn write_reads<'a>(out: &mut Vec<u8>, keys: impl ExactSizeIterator<Item = &'a [u8]>) {
    array(out, 1 + keys.len());
    word(out, b"MGET");
    keys.for_each(|key| word(out, key));
}

/// How many words it takes to tell.
const TELLING: usize = 3;

/// Whom to tell what. What does not fit into a message is told as one that cannot be read: then nobody relies on what they have.
fn telling(out: &mut Vec<u8>, tell: &Tell, what: &What, place: Place<'_>) {
    word(out, &place.channel(&tell.cache));
    word(out, &Message::head(tell.origin, what));
    word(out, &Message::tail(what).unwrap_or_default());
}

/// About as many bytes as that takes, for the most frequent of them.
pub fn size(request: &Request) -> usize {
    const SCRIPT: usize = 160;
    let telling = request.action.tell().map_or(0, |tell| 96 + 2 * tell.cache.len() + request.key.len());
    request.key.len() + 32 + telling + request.action.frame().map_or(0, |frame| SCRIPT + frame.len())
}

/// A command of one word.
pub const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

fn array(out: &mut Vec<u8>, count: usize) {
    line(out, b'*', count as u64);
}

fn word(out: &mut Vec<u8>, bytes: &[u8]) {
    line(out, b'$', bytes.len() as u64);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn words<const N: usize>(out: &mut Vec<u8>, all: [&[u8]; N]) {
    all.into_iter().for_each(|one| word(out, one));
}

/// A number, which is a word as well.
fn digits(out: &mut Vec<u8>, number: u64) {
    let mut text = [0; DIGITS];
    word(out, decimal(number, &mut text));
}

fn line(out: &mut Vec<u8>, kind: u8, number: u64) {
    if number < 10 {
        return out.extend_from_slice(&[kind, b'0' + number as u8, b'\r', b'\n']);
    }
    if number < 100 {
        return out.extend_from_slice(&[kind, b'0' + (number / 10) as u8, b'0' + (number % 10) as u8, b'\r', b'\n']);
    }
    let mut text = [0; DIGITS];
    out.push(kind);
    out.extend_from_slice(decimal(number, &mut text));
    out.extend_from_slice(b"\r\n");
}

/// The longest number has so many.
const DIGITS: usize = 20;

fn decimal(mut number: u64, text: &mut [u8; DIGITS]) -> &[u8] {
    let mut at = DIGITS;
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &text[at..];
        }
    }
}

/// What a server's answer says; `None` if it is no answer to this.
pub fn reply(action: &Action, said: Said) -> Option<Reply> {
    let value = match said {
        Said::Bytes(bytes) => {
            return Some(match action {
                Action::Read => Reply::Read(Stored::unwrap(bytes)),
                Action::Claim { .. } => Reply::Claimed(Found::Fresh(Stored::unwrap(bytes)?)),
                Action::Fill { .. } => Reply::Filled(Filled::Lost(Stored::unwrap(bytes)?)),
                _ => return None,
            });
        }
        other => other.into_value(),
    };
    Some(match (action, value) {
        (Action::Read, Value::Nil) => Reply::Read(None),
        (Action::Claim { .. }, Value::Array(parts)) => Reply::Claimed(claimed(parts)?),
        (Action::Fill { .. }, Value::Int(version)) => Reply::Filled(Filled::Written(at(version)?)),
        (Action::Fill { .. }, Value::Nil) => Reply::Filled(Filled::Gone),
        (Action::Put { .. }, Value::Int(version)) => Reply::Written(at(version)?),
        (Action::Invalidate { .. }, Value::Int(version)) => Reply::Buried(Version(version.unsigned_abs()), version < 0),
        (Action::Delete | Action::Renew { .. } | Action::Release { .. }, Value::Int(done)) => Reply::Done(done == 1),
        (Action::Move { .. }, Value::Int(stamp)) => Reply::Moved(stamp.try_into().ok()?),
        (Action::Registers { .. }, Value::Array(parts)) => Reply::Told(told(&parts)?),
        _ => return None,
    })
}

/// True if the server did what it was asked, and would not tell others of it. Then this is said no more.
pub fn is_untold(said: &mut Said) -> bool {
    let Said::Many(parts) = said else { return false };
    let [Said::Other(Value::Int(done)), Said::Bytes(why)] = &parts[..] else { return false };
    let (done, untold) = (*done, **why == *b"untold");
    if untold {
        *said = Said::Other(Value::Int(done));
    }
    untold
}

/// What a clock says. What cannot be read in it may have been anything that was moved: then nothing from before now is good.
fn told(parts: &[Value]) -> Option<Told> {
    let number = |at: usize| if let Value::Int(number) = parts.get(at)? { u64::try_from(*number).ok() } else { None };
    let (stamp, birth, messages, moves) = (number(0)?, number(1)?, number(2)?, number(3)?);
    let mut all = None;
    if let Some(Value::Array(fields)) = parts.get(5) {
        let mut snapshot = Snapshot { floor: number(4)?, registers: Vec::with_capacity(fields.len() / 2) };
        for pair in fields.chunks(2) {
            let [Value::BulkString(field), Value::BulkString(held)] = pair else { return None };
            let Some(name) = field.strip_prefix(b"r") else { continue };
            match Name::from_bytes(name).zip(moved(held)) {
                Some(register) => snapshot.registers.push(register),
                None => snapshot.floor = stamp - 1,
            }
        }
        all = Some(snapshot);
    }
    Some(Told { stamp, birth, messages, moves, all })
}

fn moved(held: &[u8]) -> Option<Moved> {
    let (gone, stale) = std::str::from_utf8(held).ok()?.split_once(':')?;
    Some(Moved { gone: gone.parse().ok()?, stale: stale.parse().ok()? })
}

fn claimed(parts: Vec<Value>) -> Option<Found<Stored>> {
    let mut parts = parts.into_iter();
    let Value::BulkString(token) = parts.next()? else { return None };
    let old = match parts.next() {
        Some(Value::BulkString(bytes)) => Stored::unwrap(bytes),
        _ => None,
    };
    Some(Found::Claimed(stored::token(&token)?, old))
}

fn at(version: i64) -> Option<Version> {
    u64::try_from(version).ok().map(Version)
}
