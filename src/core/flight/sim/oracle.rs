//! What must be true, told from what happened, and never from what the machine remembers of it.
//!
//! The table may forget a value, but what it serves is what was last stored under the key, within the life it was given
//! then. Loads, waiters and counters are compared with a record of the driver's own.

use super::plan::{KEYS, SPACES};
use crate::core::clock::{Millis, deadline, later};
use crate::core::memory::Span;
use crate::core::policy::Policy;
use crate::core::stats::Stats;
use std::fmt;
use std::time::Duration;

/// The promises that are kept watch over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Nothing is stored that is older than an invalidation, or than what is there.
    NothingOldIsStored,
    /// Nothing is served that is older than an invalidation before the question, or that somebody has replaced.
    NothingOldIsServed,
    /// A key has at most one attached flight, and one entry.
    OneFlight,
    /// A flight has at most one running load that counts, and nobody loads past the cache who need not.
    OneLoad,
    /// Nobody is told twice.
    ToldOnce,
    /// Whoever waits will be told.
    NobodyIsLeftBehind,
    /// A load that ends after it was stopped, or replaced, changes nothing; any other does.
    LateLoadsAreVoid,
    /// A load that counts is stopped only if its time is over or nobody wants it, and then it is.
    LoadsEndWithTheirUse,
    /// A load that uses its caller's own ends with that caller.
    BoundLoadsEndWithTheirCaller,
    /// The life a value was given when it was stored stays as it was.
    LivesStay,
    /// Nothing is served past its end.
    HardExpiry,
    /// Nothing is served stale but in the time for it.
    StaleInItsTime,
    /// After a failure nobody tries again before it is time, or twice as often as wanted.
    RetriesWait,
    /// Somebody loads a stale value anew.
    StaleIsRefreshed,
    /// Nothing is started behind where there is no room for it.
    NothingRunsWithoutRoom,
    /// What is there and fresh is not loaded.
    FreshIsNotLoaded,
    /// What says that there is nothing is no value.
    NegativeIsNoValue,
    /// What may be stored is stored, for as long as the policy says.
    LoadedIsStored,
    /// Where an old value can answer, nobody gets an error, or waits for too long.
    OldValueAnswers,
    /// Where an old value is to go with a failure, it goes.
    DroppedIsGone,
    /// Nobody waits for a load beyond its time, and no load is stopped before.
    Timeouts,
    /// Waiters elsewhere carry on with a load that was ended from outside.
    LoadsAreHandedOver,
    /// Counters count what happened.
    CountersCount,
    /// The table is whole.
    TableIsWhole,
    /// What is to be done at a moment comes to an end.
    WorkEnds,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Fault {
    pub promise: Promise,
    pub story: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.story)
    }
}

pub type Verdict = Result<(), Fault>;

/// A fault unless it `holds`.
pub fn check(holds: bool, promise: Promise, story: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Fault { promise, story: story() }) }
}

/// A value, by its number; a value is never stored twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Value {
    pub key: u8,
    pub number: usize,
}

/// What is known of a value.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The moment its load, or write, began: a number that every step of the world makes larger.
    pub since: u64,
    pub negative: bool,
    /// When it was stored.
    pub created: Millis,
    /// The life it has in the table.
    pub span: Span,
    /// When somebody last looked whether a newer one is needed, and found it stale.
    pub looked_at: Millis,
    /// Hits are plain by this policy: that of whoever looked last, stored it, or loaded what was to replace it.
    pub plain: Policy,
}

/// How a value came out of the table.
#[derive(Clone, Copy, Debug)]
pub enum Via<'a> {
    /// As a hit without a second thought.
    Hit,
    /// As a hit for those who take nothing stale.
    FreshHit,
    /// After a lookup under this policy.
    Look(&'a Policy),
    /// In the place of a load that failed, or takes too long, begun under this policy.
    Old(&'a Policy),
}

/// While a refresh runs or is not due, stale hits are plain for so long; and waiters look so often after loads elsewhere.
pub const RECHECK: Millis = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Oracle {
    pub values: Vec<Origin>,
    /// What is in the table under a key, unless it was evicted.
    pub current: [Option<usize>; KEYS],
    /// When a key was last invalidated, or written.
    pub invalidated: [u64; KEYS],
    pub counts: [Stats; SPACES],
}

impl Oracle {
    /// A value comes into being.
    pub fn value(&mut self, key: u8, since: u64, policy: Policy) -> Value {
        let span = Span::default();
        self.values.push(Origin { since, negative: false, created: 0, span, looked_at: 0, plain: policy });
        Value { key, number: self.values.len() - 1 }
    }

    pub fn origin(&self, value: Value) -> &Origin {
        &self.values[value.number]
    }

    pub fn origin_mut(&mut self, value: Value) -> &mut Origin {
        &mut self.values[value.number]
    }

    /// The end of a value's usefulness under a policy.
    fn useful_until(&self, value: Value, policy: &Policy) -> Millis {
        let span = self.origin(value).span;
        later(span.fresh_until, policy.stale_while_revalidate.max(policy.stale_if_error)).min(span.expires)
    }

    /// True for a value that could answer in the place of a load, now.
    pub fn is_of_use(&self, value: Value, policy: &Policy, now: Millis) -> bool {
        !self.origin(value).negative && now < self.useful_until(value, policy)
    }

    /// True while no refresh of a value may begin.
    pub fn is_too_soon(&self, value: Value, policy: &Policy, now: Millis) -> bool {
        now < later(self.origin(value).created, policy.min_refresh_interval)
    }

    /// A value is served out of the table.
    pub fn serve(&self, value: Value, via: Via<'_>, now: Millis) -> Verdict {
        let origin = self.origin(value);
        let (span, current) = (origin.span, self.current[usize::from(value.key)]);
        let story = |what: &str| format!("{value:?} {what}, at {now} by {via:?}: {origin:?}");
        check(current == Some(value.number), Promise::NothingOldIsServed, || story("is not what is there"))?;
        check(now < span.expires, Promise::HardExpiry, || story("is past its end"))?;
        let looked = matches!(via, Via::Look(_));
        check(!origin.negative || looked, Promise::NegativeIsNoValue, || story("says that there is nothing"))?;
        if now < span.fresh_until {
            return Ok(());
        }
        check(!origin.negative, Promise::NegativeIsNoValue, || story("is past its time"))?;
        self.serve_stale(value, via, now)
    }

    fn serve_stale(&self, value: Value, via: Via<'_>, now: Millis) -> Verdict {
        let origin = self.origin(value);
        let story = |what: &str| format!("{value:?} {what}, at {now} by {via:?}: {origin:?}");
        let policy = match via {
            Via::FreshHit => return check(false, Promise::StaleInItsTime, || story("is not fresh")),
            Via::Hit => &origin.plain,
            Via::Look(policy) | Via::Old(policy) => policy,
        };
        let useful = now < self.useful_until(value, policy);
        check(useful, Promise::StaleInItsTime, || story("is of no use any more"))?;
        if let Via::Old(_) = via {
            return Ok(());
        }
        let gated = now < origin.span.retry_at;
        let within = now < later(origin.span.fresh_until, policy.stale_while_revalidate);
        check(within || gated, Promise::StaleInItsTime, || story("answers only after a failure"))?;
        let looked = matches!(via, Via::Look(_)) || now < origin.looked_at + RECHECK;
        check(looked || gated, Promise::StaleIsRefreshed, || story("is never looked at"))
    }

    /// A value that was waited for.
    pub fn deliver(&self, value: Value, floor: u64) -> Verdict {
        let origin = self.origin(value);
        check(origin.since >= floor, Promise::NothingOldIsServed, || {
            format!("{value:?} is older than {floor}: {origin:?}")
        })
    }

    /// A value was stored: by a write, or by a load.
    pub fn store(&mut self, value: Value, span: Span, now: Millis) -> Verdict {
        let key = usize::from(value.key);
        let before = self.current[key].map_or(0, |before| self.values[before].since);
        let floor = before.max(self.invalidated[key]);
        self.current[key] = Some(value.number);
        let origin = self.origin_mut(value);
        (origin.span, origin.created) = (span, now);
        let since = origin.since;
        check(since >= floor, Promise::NothingOldIsStored, || {
            format!("{value:?} of {since}, the key was invalidated or stored at {floor}")
        })
    }

    /// A key is invalidated: what is there or on its way is of no use to those who ask from now on.
    pub fn invalidate(&mut self, key: u8, at: u64) {
        self.current[usize::from(key)] = None;
        self.invalidated[usize::from(key)] = at;
    }

    /// The life a loaded value was given is what the policy says.
    pub fn check_life(&self, value: Value, policy: &Policy, (began, now): (Millis, Millis), span: Span) -> Verdict {
        let negative = self.origin(value).negative;
        let (ttl, jitter, after) = if negative {
            (policy.negative_ttl, 0.0, Duration::ZERO)
        } else {
            (policy.ttl, policy.jitter, policy.stale_while_revalidate.max(policy.stale_if_error))
        };
        let earliest = deadline(now, ttl.map(|ttl| ttl.mul_f64(1.0 - jitter)));
        let well = (earliest..=deadline(now, ttl)).contains(&span.fresh_until)
            && span.expires == later(span.fresh_until, after)
            && (u64::from(span.load) == now - began || span == Span::until(span.expires));
        check(well, Promise::LoadedIsStored, || format!("{value:?}, loaded from {began} to {now}, got {span:?}"))
    }
}
