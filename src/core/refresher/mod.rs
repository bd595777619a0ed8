//! Which keys are hot, and which of them is loaded anew next, before its value ends and without anybody waiting for it.
//!
//! A plain hit tells nobody, so that it costs nothing. What the refresher knows it knows from hits that need a second
//! thought, and it says which those are: the first ones in the last part of a value's life, and the first one of a value
//! whose key it tracks. A tracked key's rate is how many reads were seen in how much time in which one would have been
//! seen; plain times count for neither. A key is tracked once two reads fell into one last part, which is rare for a key
//! that is read once in ten of its lives. It is kept until a read finds it left unread for a whole life for the second time
//! in a row, or the first time after it was tracked, and until it was left unread for `idle`: a pause of the traffic is
//! survived, a key that is read now and then is not kept. Of those that are due the one with the highest rate is loaded
//! first, as the budget allows.
//!
//! Pure: it holds no key and no loader. Keys are known by their hash; two with the same one would share a place.

#[cfg(test)]
mod tests;

use super::clock::{Millis, NEVER, later};
use super::flight::{Home, Lease};
use super::memory::{Span, Target};
use super::resilience::Rate;
use crate::error::{Error, Result};
use hashbrown::HashMap;
use std::time::Duration;

const SECOND: Millis = 1000;
/// What earlier lives of a value count for, each against the one after it.
const MEMORY: f64 = 0.7;
/// Two reads this share of the last part from each other are two; nearer, they may be one page that asks twice.
const APART: Millis = 10;
/// Between two looks whether there is room for a load that is due.
const CROWDED: Millis = 100;
/// Between two looks at a key that cannot be loaded now.
const PAUSE: Duration = Duration::from_secs(1);

/// How much is kept hot, and at what cost.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most keys tracked.
    pub top: usize,
    /// Loads, all keys together.
    pub budget: Rate,
    /// A key left unread for so long is tracked no more.
    pub idle: Duration,
    /// The share of a value's life, at its end, in which it is loaded anew; 0 to 1, both excluded.
    pub ahead: f64,
    /// Where loads run, and whose reads make a key tracked.
    pub home: Home,
}

impl Options {
    /// Refuses what cannot be.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with the option, its value and the cure.
    pub fn check(self) -> Result<Options> {
        let refuse = |option: &str, value: String, cure: &str| Err(Error::config(option, value, cure));
        if self.top == 0 {
            return refuse("top", "0".into(), "give the most keys to keep hot, 1 or more");
        }
        if !(self.ahead > 0.0 && self.ahead < 1.0) {
            let cure = "give the share of the ttl in which to refresh, above 0 and below 1, such as 0.2";
            return refuse("ahead", self.ahead.to_string(), cure);
        }
        if self.idle.is_zero() {
            return refuse("idle", "0 s".into(), "give how long a key is kept hot unread, above zero, such as '10m'");
        }
        Ok(self)
    }
}

/// What was done since the start; `tracked` is of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Keys that are kept hot.
    pub tracked: u64,
    /// Values loaded and stored: what was spent.
    pub refreshed: u64,
    /// Loads that ended without a value.
    pub failed: u64,
    /// Refreshes that were due and had to wait, for the budget or for room behind.
    pub put_off: u64,
    /// Values loaded that somebody has read: what was saved.
    pub saved: u64,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The key of this hash is loaded.
    Load(u64),
    /// Nothing before this moment, or before a key is tracked.
    Wait(Millis),
}

/// A hit that was not plain.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// The key's.
    pub hash: u64,
    /// The value.
    pub target: Target,
    /// Its life.
    pub span: Span,
    /// When it was stored.
    pub created: Millis,
    /// Until when its hits were plain.
    pub plain_until: Millis,
    /// Until when they may be, for others have to see them too.
    pub plain_at_most: Millis,
    /// True if the key may be loaded without this reader, by the refresher.
    pub repeatable: bool,
}

/// How a load of ours ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a value that was stored.
    Stored,
    /// With one that is not kept, or came after the key was invalidated.
    Refused,
    /// With an error, or not in time.
    Failed {
        /// No other load before that, and for a second at least.
        pause: Duration,
    },
}

/// What a read leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Hits are plain until then; `None` if that is none of its business.
    pub plain_until: Option<Millis>,
    /// The key is tracked, and this reader's way to load it the one to be used.
    pub tracked: bool,
    /// It was not before this read: it is time for a [`Refresher::turn`].
    pub due: bool,
}

/// How often a key is read.
#[derive(Clone, Copy, Debug)]
struct Heat {
    reads: f64,
    /// In which they were seen, in milliseconds.
    time: f64,
}

impl Heat {
    fn note(&mut self, unread: Millis) {
        self.reads = self.reads * MEMORY + 1.0;
        self.time = self.time * MEMORY + unread.max(1) as f64;
    }

    /// Reads in a time, if none has been seen for so long.
    fn reads_in(&self, time: Millis, unread: Millis) -> f64 {
        self.reads * time as f64 / (self.time + unread as f64)
    }
}

/// The value of a key, as it was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// Where it is.
    pub target: Target,
    /// It is fresh before this moment, unless somebody says otherwise by hand.
    pub fresh_until: Millis,
    /// It leaves by itself then.
    pub expires: Millis,
}

impl Value {
    /// A value with this life.
    pub fn new(target: Target, span: &Span) -> Self {
        Value { target, fresh_until: span.fresh_until, expires: span.expires }
    }
}

#[derive(Debug)]
struct Key {
    heat: Heat,
    value: Value,
    /// How long it was to be fresh.
    life: Millis,
    /// It is loaded anew from then on.
    due: Millis,
    /// A read since then would have been seen.
    unread_since: Millis,
    /// At the last read seen it had not been left unread for a whole life; false for one that was just tracked.
    was_read_in_time: bool,
    loading: bool,
    /// It was loaded by the refresher, and nobody has read it.
    unsaved: bool,
    /// The budget's refusal has been counted.
    put_off: bool,
}

impl Key {
    fn unread(&self, now: Millis) -> Millis {
        now.saturating_sub(self.unread_since)
    }

    fn is_due(&self, now: Millis) -> bool {
        !self.loading && self.due <= now
    }

    /// Expected reads a second.
    fn score(&self, now: Millis) -> f64 {
        self.heat.reads_in(SECOND, self.unread(now))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Refresher {
    options: Options,
    idle: Millis,
    keys: HashMap<u64, Key>,
    /// Those of our loads that are under way.
    loads: Vec<(Lease, u64)>,
    counters: Counters,
}

impl Refresher {
    /// Tracks nothing yet.
    pub fn new(options: Options) -> Self {
        let idle = later(0, options.idle);
        Refresher { options, idle, keys: HashMap::new(), loads: Vec::new(), counters: Counters::default() }
    }

    /// Where its loads run.
    pub fn home(&self) -> Home {
        self.options.home
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        Counters { tracked: self.keys.len() as u64, ..self.counters }
    }

    /// True while a key is kept hot.
    pub fn tracks(&self, hash: u64) -> bool {
        self.keys.contains_key(&hash)
    }

    /// Its loads that are under way.
    pub fn loads(&self) -> impl Iterator<Item = Lease> {
        self.loads.iter().map(|&(lease, _)| lease)
    }

    /// The moment at which the last part of a life begins: sooner than `ahead` says where a load takes longer than that.
    fn last_part(&self, created: Millis, span: &Span) -> Millis {
        let life = span.fresh_until.saturating_sub(created);
        let lead = (life as f64 * self.options.ahead) as Millis;
        span.fresh_until - lead.max(2 * Millis::from(span.load)).min(lead.max(life / 2))
    }

    /// A hit that was not plain, of a fresh value.
    pub fn read(&mut self, read: &Read, now: Millis) -> Seen {
        if read.span.fresh_until >= NEVER {
            return Seen::default();
        }
        if self.keys.contains_key(&read.hash) { self.read_tracked(read, now) } else { self.read_other(read, now) }
    }

    fn read_tracked(&mut self, read: &Read, now: Millis) -> Seen {
        let end = read.span.fresh_until.min(read.plain_at_most);
        let value = Value::new(read.target, &read.span);
        let Some(key) = self.keys.get_mut(&read.hash).filter(|key| key.value == value) else {
            return Seen { plain_until: Some(end), ..Seen::default() };
        };
        let unread = key.unread(now);
        key.heat.note(unread.min(key.life));
        self.counters.saved += u64::from(std::mem::take(&mut key.unsaved));
        let cold = unread > key.life && !key.was_read_in_time;
        key.was_read_in_time = unread <= key.life;
        if cold {
            self.keys.remove(&read.hash);
            return Seen { plain_until: Some(end), ..Seen::default() };
        }
        // Seen again before it may be taken for idle.
        let plain_until = if now < key.due { key.due.min(now + (self.idle / 2).max(1)) } else { end };
        let plain_until = plain_until.min(read.plain_at_most);
        key.unread_since = plain_until;
        Seen { plain_until: Some(plain_until), tracked: read.repeatable, due: false }
    }

    /// The first read in the last part has the next one seen too. That one tells how often reads come.
    fn read_other(&mut self, read: &Read, now: Millis) -> Seen {
        let Read { hash, target, span, created, plain_until, plain_at_most, repeatable } = *read;
        let from = self.last_part(created, &span);
        if now < from {
            return Seen::default();
        }
        let left_alone = Seen { plain_until: Some(span.fresh_until.min(plain_at_most)), ..Seen::default() };
        if plain_until <= from || !repeatable {
            let apart = ((span.fresh_until - from) / APART).max(1);
            let plain_until = (now + apart).min(span.fresh_until).min(plain_at_most);
            return Seen { plain_until: Some(plain_until), ..Seen::default() };
        }
        // Two reads end two gaps. The rate that explains them best is too high: the second one had to come in time.
        let heat = Heat { reads: 1.0, time: now.saturating_sub(from).max(1) as f64 };
        if !self.make_room(heat, now) {
            return left_alone;
        }
        let key = Key {
            heat,
            value: Value::new(target, &span),
            life: span.fresh_until.saturating_sub(created),
            due: from,
            unread_since: span.fresh_until.min(plain_at_most),
            was_read_in_time: false,
            loading: false,
            unsaved: false,
            put_off: false,
        };
        self.keys.insert(hash, key);
        Seen { tracked: true, due: true, ..left_alone }
    }

    /// True if a key of this heat may be tracked; the coldest one leaves for it.
    fn make_room(&mut self, heat: Heat, now: Millis) -> bool {
        if self.keys.len() < self.options.top {
            return true;
        }
        let scores = self.keys.iter().map(|(&hash, key)| (hash, key.score(now)));
        let coldest = scores.min_by(|a, b| a.1.total_cmp(&b.1));
        let Some((hash, _)) = coldest.filter(|&(_, score)| score < heat.reads_in(SECOND, 0)) else { return false };
        self.keys.remove(&hash);
        true
    }

    /// Somebody's load has stored a value, just now. Its hits are plain until then at most.
    pub fn stored(&mut self, hash: u64, target: Target, span: &Span, now: Millis) -> Millis {
        if span.fresh_until >= NEVER {
            self.keys.remove(&hash);
            return NEVER;
        }
        let due = self.last_part(now, span);
        let Some(key) = self.keys.get_mut(&hash) else { return due };
        // Whoever loads it because he needs it reads it.
        key.unread_since = if key.loading { key.unread_since.min(now) } else { now };
        (key.value, key.due) = (Value::new(target, span), due);
        key.life = span.fresh_until.saturating_sub(now);
        (key.unsaved, key.put_off) = (false, false);
        0
    }

    /// What to do now: to be asked when it said, when a key is due that was not tracked, and after each load it named.
    pub fn turn(&mut self, now: Millis) -> Turn {
        let idle = self.idle;
        self.keys.retain(|_, key| key.loading || key.unread(now) < idle);
        let due = self.keys.iter().filter(|(_, key)| key.is_due(now)).map(|(&hash, key)| (hash, key.score(now)));
        let Some((hottest, _)) = due.max_by(|a, b| a.1.total_cmp(&b.1)) else {
            let resting = self.keys.values().filter(|key| !key.loading);
            return Turn::Wait(resting.map(|key| key.due.min(key.unread_since + idle)).min().unwrap_or(NEVER));
        };
        match self.options.budget.clone().take(now, Duration::ZERO) {
            Ok(_) => Turn::Load(hottest),
            Err(wait) => {
                self.put_off(now, 0);
                Turn::Wait(later(now, wait).max(now + 1))
            }
        }
    }

    /// What is due cannot be loaded now: it is due then, and that is counted.
    fn put_off(&mut self, now: Millis, until: Millis) {
        for key in self.keys.values_mut().filter(|key| key.is_due(now)) {
            self.counters.put_off += u64::from(!std::mem::replace(&mut key.put_off, true));
            key.due = key.due.max(until);
        }
    }

    /// There is no room for a load beside all others that run behind: what is due is asked for again in a moment.
    pub fn crowded(&mut self, now: Millis) {
        self.put_off(now, now + CROWDED);
    }

    /// The value that a key to be loaded had; `None` if it is not tracked.
    pub fn value(&self, hash: u64) -> Option<Value> {
        self.keys.get(&hash).map(|key| key.value)
    }

    /// The load of a key has begun.
    pub fn begun(&mut self, hash: u64, lease: Lease, now: Millis) {
        // Granted by the turn that named the key.
        self.options.budget.take(now, Duration::ZERO).ok();
        self.loads.push((lease, hash));
        if let Some(key) = self.keys.get_mut(&hash) {
            key.loading = true;
        }
    }

    /// A key cannot be loaded before this moment, or for a while.
    pub fn postpone(&mut self, hash: u64, until: Option<Millis>, now: Millis) {
        if let Some(key) = self.keys.get_mut(&hash) {
            key.due = until.unwrap_or(later(now, PAUSE)).max(now + 1);
        }
    }

    /// A key is not to be kept hot: somebody removed it or wrote it by hand, or it cannot be stored.
    pub fn forget(&mut self, hash: u64) {
        self.keys.remove(&hash);
    }

    /// A load is over; false, and nothing happens, if it was none of ours.
    pub fn ended(&mut self, lease: Lease, end: End, now: Millis) -> bool {
        let Some(at) = self.loads.iter().position(|&(ours, _)| ours == lease) else { return false };
        let (_, hash) = self.loads.swap_remove(at);
        self.counters.refreshed += u64::from(end == End::Stored);
        self.counters.failed += u64::from(matches!(end, End::Failed { .. }));
        let Some(key) = self.keys.get_mut(&hash) else { return true };
        key.loading = false;
        match end {
            End::Stored => key.unsaved = true,
            End::Failed { pause } => self.postpone(hash, Some(later(now, pause.max(PAUSE))), now),
            End::Refused => self.forget(hash),
        }
        true
    }
}
