//! The scripts: each step on a key in one piece, at the server. What they mean is [`core::remote::cell`](crate::core::remote::cell)'s, and
//! [`core::coherence::cell`](crate::core::coherence::cell)'s where it is a cache's clock.
//!
//! One key each, so that they run on a cluster; where all keys are on one server, those that tell others of a write have the clock as their
//! second. Versions, claims and stamps are written here and nowhere else, by the server's clock. Works from Redis 7.0 on. A value of another
//! kind, or one that is no envelope, is as good as nothing: it is written over.

use redis::Script;
use std::sync::LazyLock;

/// What time it is, for all of them.
const NOW: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
";

/// What is there.
const HELD: &str = r"
local key, CLAIM, FRAME, TOMBSTONE = KEYS[1], 1, 2, 4
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
";

/// What a cache's clock is, born if it is not there or cannot be read; and telling others.
const CLOCK: &str = r"
local BIRTH, FLOOR, LAST, MESSAGES, MOVES = 1, 2, 3, 4, 5
local function clock_at(key)
    local clock = redis.pcall('HMGET', key, 'b', 'f', 's', 'n', 'm')
    local sound = not clock.err
    for at = 1, 5 do
        local number = sound and tonumber(clock[at])
        sound = number and number >= 0 and number + 1 < 9007199254740992
        clock[at] = number
    end
    if not sound then
        clock = {now, now, now, 0, 0}
        redis.call('UNLINK', key)
        redis.call('HSET', key, 'b', now, 'f', now, 's', now, 'n', 0, 'm', 0)
    end
    return clock
end
local function publish(channel, head, number, at, tail)
    local sent = redis.pcall('PUBLISH', channel, head .. struct.pack('>I8I8', number, at) .. tail)
    return type(sent) == 'number'
end
";

/// Writing, and telling of it if the last three of ARGV say how: channel, head and tail of the message.
const WRITE: &str = r"
local function write(kind, frame, keep, channel, head, tail)
    local at = math.max(version + 1, now)
    local clock = channel and KEYS[2] and clock_at(KEYS[2])
    if clock then at = math.max(at, clock[LAST] + 1) end
    local value = envelope(kind, at, '') .. frame
    if keep == '0' then redis.call('SET', key, value) else redis.call('SET', key, value, 'PX', keep) end
    if not channel then return at, true end
    local number = 0
    if clock then
        number = clock[MESSAGES] + 1
        redis.call('HSET', KEYS[2], 's', at, 'n', number)
    end
    return at, publish(channel, head, number, at, tail)
end
local function answer(at, told)
    return told and at or {at, 'untold'}
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

// ARGV: claim and its token, version and that, nothing or something; known version, keep, frame; whom to tell.
const FILL: &str = r"
local under, holds = ARGV[1], false
if under == 'claim' then
    holds = is_held(ARGV[2])
elseif under == 'version' then
    holds = version > 0 and version == tonumber(ARGV[2])
else
    holds = has_value() == (under == 'something')
end
if holds then return answer(write(FRAME, ARGV[5], ARGV[4], ARGV[6], ARGV[7], ARGV[8])) end
if fresh(tonumber(ARGV[3])) then return held end
return false
";

// ARGV: keep, frame; whom to tell.
const PUT: &str = "return answer(write(FRAME, ARGV[2], ARGV[1], ARGV[3], ARGV[4], ARGV[5]))";

// ARGV: keep, the stamp it is late by or 0; whom to tell. Below zero if there was a fresh value, 0 if what is there began to load later.
const INVALIDATE: &str = r"
local there, by = has_value(), tonumber(ARGV[2])
if by > 0 and framed and bit.band(flags, CLAIM) == 0 and #held >= body + 51 then
    local began = struct.unpack('>I8', held, body + 20)
    if (began > 0 and began or version) > by then return 0 end
end
local at, told = write(TOMBSTONE, '', ARGV[1], ARGV[3], ARGV[4], ARGV[5])
return answer(there and -at or at, told)
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

// KEYS: the clock. ARGV: 0 gone or 1 stale, channel, head and tail of the message, the stamp it is late by or 0, names.
const MOVE: &str = r"
local key, gone_too, MOST = KEYS[1], ARGV[1] == '0', 20000
local function stamps(text)
    local gone, stale = string.match(text or '', '^(%d+):(%d+)$')
    return tonumber(gone) or 0, tonumber(stale) or 0
end
local function forget(floor)
    local all, names, last, sorted = redis.call('HGETALL', key), {}, {}, {}
    for at = 1, #all, 2 do
        if string.sub(all[at], 1, 1) == 'r' then
            local stamp = math.max(stamps(all[at + 1]))
            names[#names + 1], last[#last + 1], sorted[#sorted + 1] = all[at], stamp, stamp
        end
    end
    table.sort(sorted)
    floor = math.max(floor, sorted[math.floor(#sorted / 2) + 1])
    local going = {}
    for at = 1, #names do
        if last[at] <= floor then going[#going + 1] = names[at] end
    end
    for at = 1, #going, 1000 do
        redis.call('HDEL', key, unpack(going, at, math.min(at + 999, #going)))
    end
    redis.call('HSET', key, 'f', floor)
end
local clock, by = clock_at(key), tonumber(ARGV[5])
local at, number = by > 0 and by or math.max(clock[LAST] + 1, now), clock[MESSAGES] + 1
redis.call('HSET', key, 's', math.max(at, clock[LAST]), 'n', number, 'm', clock[MOVES] + 1)
for name = 6, #ARGV do
    local register = 'r' .. ARGV[name]
    local gone, stale = stamps(redis.call('HGET', key, register))
    if gone_too then gone = math.max(gone, at) else stale = math.max(stale, at) end
    redis.call('HSET', key, register, string.format('%.0f:%.0f', gone, stale))
end
if redis.call('HLEN', key) > MOST + 5 then forget(clock[FLOOR]) end
local told = publish(ARGV[2], ARGV[3], number, at, ARGV[4])
return told and at or {at, 'untold'}
";

// KEYS: the clock. ARGV: the birth and the moves that are known.
const REGISTERS: &str = r"
local key = KEYS[1]
local clock = clock_at(key)
local at = math.max(clock[LAST] + 1, now)
redis.call('HSET', key, 's', at)
local said = {at, clock[BIRTH], clock[MESSAGES], clock[MOVES]}
if clock[BIRTH] ~= tonumber(ARGV[1]) or clock[MOVES] ~= tonumber(ARGV[2]) then
    said[5], said[6] = clock[FLOOR], redis.call('HGETALL', key)
end
return said
";

/// One script, by its text and its hash.
pub struct Source {
    pub text: String,
    pub hash: String,
}

fn source(parts: &[&str]) -> Source {
    let text = parts.concat();
    let hash = Script::new(&text).get_hash().to_owned();
    Source { text, hash }
}

/// All of them.
pub struct Sources {
    pub claim: Source,
    pub fill: Source,
    pub put: Source,
    pub invalidate: Source,
    pub renew: Source,
    pub release: Source,
    pub moving: Source,
    pub registers: Source,
}

pub static SOURCES: LazyLock<Sources> = LazyLock::new(|| Sources {
    claim: source(&[NOW, HELD, CLAIM]),
    fill: source(&[NOW, HELD, CLOCK, WRITE, FILL]),
    put: source(&[NOW, HELD, CLOCK, WRITE, PUT]),
    invalidate: source(&[NOW, HELD, CLOCK, WRITE, INVALIDATE]),
    renew: source(&[NOW, HELD, RENEW]),
    release: source(&[NOW, HELD, RELEASE]),
    moving: source(&[NOW, CLOCK, MOVE]),
    registers: source(&[NOW, CLOCK, REGISTERS]),
});

/// Makes what all calls share, before any thread could be doing so while another forks.
pub fn prepare() {
    LazyLock::force(&SOURCES);
}
