//! The scripts: each step on a key in one piece, at the server. What they mean is [`core::remote::cell`](crate::core::remote::cell)'s.
//!
//! One key each, so that they run on a cluster. Versions and claims are written here and nowhere else, by the server's clock. Works
//! from Redis 7.0 on. A value of another kind, or one that is no envelope, is as good as nothing: it is written over.

use super::resp::Said;
use crate::core::remote::cell::Under;
use crate::core::remote::{Filled, Found, Version, Wanted};
use crate::io::store::stored::{self, Stored};
use crate::io::store::{Action, Reply, Request};
use redis::{Script, Value};
use std::sync::LazyLock;
use std::time::Duration;

/// What is there and what time it is, for all of them.
const PRELUDE: &str = r"
local key, CLAIM, FRAME, TOMBSTONE = KEYS[1], 1, 2, 4
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local held = redis.pcall('GET', key)
local version, flags, token, deadline, body = 0, 0, '', 0, 0
if type(held) == 'string' and #held >= 12 and string.sub(held, 1, 3) == 'SV\1' then
    local at, kind = struct.unpack('>I8', held, 5), string.byte(held, 4)
    local claimed = bit.band(kind, CLAIM) ~= 0
    local known = kind < 8 and bit.band(kind, FRAME + TOMBSTONE) ~= FRAME + TOMBSTONE
    if known and at < 9007199254740992 and (not claimed or #held >= 36) then
        version, flags, body = at, kind, 13
        if claimed then
            token, deadline, body = string.sub(held, 13, 28), struct.unpack('>I8', held, 29), 37
        end
    end
end
local framed = bit.band(flags, FRAME) ~= 0 and #held >= body + 19
local function fresh(known)
    return framed and version > known and struct.unpack('>I8', held, body + 4) > now
end
local function has_value()
    return fresh(0) and string.byte(held, body + 1) % 2 == 0
end
local function is_held(by)
    return bit.band(flags, CLAIM) ~= 0 and token == by
end
local function envelope(kind, at, claim)
    return 'SV\1' .. string.char(kind) .. struct.pack('>I8', at) .. claim
end
local function write(kind, frame, keep)
    local at = math.max(version + 1, now)
    local value = envelope(kind, at, '') .. frame
    if keep == '0' then redis.call('SET', key, value) else redis.call('SET', key, value, 'PX', keep) end
    return at
end
";

// ARGV: token, life, known version, 1 if wanted anew.
const CLAIM: &str = r"
local known, life, anew = tonumber(ARGV[3]), tonumber(ARGV[2]), ARGV[4] == '1'
if not anew and fresh(known) then return held end
local live = token
if anew or bit.band(flags, CLAIM) == 0 or deadline <= now then
    live = ARGV[1]
    local left = redis.call('PTTL', key)
    local claim = live .. struct.pack('>I8', now + life * 1000)
    local value = envelope(bit.bor(flags, CLAIM), version, claim) .. (body > 0 and string.sub(held, body) or '')
    if body > 0 and left == -1 then
        redis.call('SET', key, value)
    else
        redis.call('SET', key, value, 'PX', math.max(body > 0 and left or 0, life))
    end
end
return {live, framed and held}
";

// ARGV: claim and its token, version and that, nothing or something; known version, keep, frame.
const FILL: &str = r"
local under, holds = ARGV[1], false
if under == 'claim' then
    holds = is_held(ARGV[2])
elseif under == 'version' then
    holds = version > 0 and version == tonumber(ARGV[2])
else
    holds = has_value() == (under == 'something')
end
if holds then return write(FRAME, ARGV[5], ARGV[4]) end
if fresh(tonumber(ARGV[3])) then return held end
return false
";

// ARGV: keep, frame.
const PUT: &str = "return write(FRAME, ARGV[2], ARGV[1])";

// ARGV: keep. Below zero if there was a fresh value.
const INVALIDATE: &str = r"
local there = has_value()
local at = write(TOMBSTONE, '', ARGV[1])
return there and -at or at
";

// ARGV: token, life.
const RENEW: &str = r"
if not is_held(ARGV[1]) then return 0 end
local life, left = tonumber(ARGV[2]), redis.call('PTTL', key)
redis.call('SETRANGE', key, 28, struct.pack('>I8', now + life * 1000))
if left >= 0 and left < life then redis.call('PEXPIRE', key, life) end
return 1
";

// ARGV: token.
const RELEASE: &str = r"
if not is_held(ARGV[1]) then return 0 end
if version == 0 then
    redis.call('DEL', key)
else
    redis.call('SET', key, envelope(flags - CLAIM, version, '') .. string.sub(held, body), 'KEEPTTL')
end
return 1
";

/// One script, by its text and its hash.
struct Source {
    text: String,
    hash: String,
}

fn source(body: &str) -> Source {
    let text = format!("{PRELUDE}{body}");
    let hash = Script::new(&text).get_hash().to_owned();
    Source { text, hash }
}

struct Sources {
    claim: Source,
    fill: Source,
    put: Source,
    invalidate: Source,
    renew: Source,
    release: Source,
}

static SOURCES: LazyLock<Sources> = LazyLock::new(|| Sources {
    claim: source(CLAIM),
    fill: source(FILL),
    put: source(PUT),
    invalidate: source(INVALIDATE),
    renew: source(RENEW),
    release: source(RELEASE),
});

/// Makes what all calls share, before any thread could be doing so while another forks.
pub fn prepare() {
    LazyLock::force(&SOURCES);
}

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

/// Writes the command that does this with a key, as it goes to the server. `whole`: the server does not know the script, so its text
/// goes along.
pub fn write(out: &mut Vec<u8>, key: &[u8], action: &Action, whole: bool) {
    let all = &*SOURCES;
    let mut run = |source: &Source, count: usize| {
        array(out, 4 + count);
        word(out, if whole { b"EVAL" } else { b"EVALSHA" });
        word(out, if whole { source.text.as_bytes() } else { source.hash.as_bytes() });
        word(out, b"1");
        word(out, key);
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
        Action::Fill { under, newer_than, frame, keep: life } => {
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
        Action::Put { frame, keep: life } => {
            run(&all.put, 2);
            digits(out, keep(*life));
            word(out, frame);
        }
        Action::Invalidate { keep } => {
            run(&all.invalidate, 1);
            digits(out, millis(*keep));
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
    }
}

/// About as many bytes as that takes, for the most frequent of them.
pub fn size(request: &Request) -> usize {
    const SCRIPT: usize = 160;
    request.key.len() + 32 + request.action.frame().map_or(0, |frame| SCRIPT + frame.len())
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
        Said::Other(value) => value,
    };
    Some(match (action, value) {
        (Action::Read, Value::Nil) => Reply::Read(None),
        (Action::Claim { .. }, Value::Array(parts)) => Reply::Claimed(claimed(parts)?),
        (Action::Fill { .. }, Value::Int(version)) => Reply::Filled(Filled::Written(at(version)?)),
        (Action::Fill { .. }, Value::Nil) => Reply::Filled(Filled::Gone),
        (Action::Put { .. }, Value::Int(version)) => Reply::Written(at(version)?),
        (Action::Invalidate { .. }, Value::Int(version)) => Reply::Buried(Version(version.unsigned_abs()), version < 0),
        (Action::Delete | Action::Renew { .. } | Action::Release { .. }, Value::Int(done)) => Reply::Done(done == 1),
        _ => return None,
    })
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
