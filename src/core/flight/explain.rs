//! What a key looks like from outside: what its entry is good for, who loads it, and what a lookup would do. Changes nothing.

use super::drive::Located;
use super::lookup::{Answer, Refresh, Sight, answer};
use crate::core::clock::{Millis, NEVER};
use crate::core::memory::{Memory, Served, Span};
use crate::core::policy::{Policy, State};
use std::fmt;
use std::time::Duration;

/// What there is under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Absent,
    /// A note that there is nothing, or why there is not.
    Missing,
    /// A value that answers.
    Fresh,
    /// A value past its ttl that answers, and is loaded anew.
    Stale,
    /// A value that answers only if a load fails or takes too long.
    Grace,
    /// A value of no use.
    Dead,
}

/// What a lookup would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Would {
    /// Answer with what is there.
    Answer,
    /// The same, and have it loaded anew behind.
    AnswerAndRefresh,
    /// The same as soon as there is room behind, which there is not now.
    AnswerAndRefreshLater,
    /// Answer that there is nothing.
    AnswerMissing,
    /// Wait for the load under way.
    Wait,
    /// Load.
    Load,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Standing::Absent => "absent",
            Standing::Missing => "missing",
            Standing::Fresh => "fresh",
            Standing::Stale => "stale",
            Standing::Grace => "grace",
            Standing::Dead => "dead",
        })
    }
}

impl fmt::Display for Would {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Would::Answer => "answer",
            Would::AnswerAndRefresh => "answer, and refresh behind",
            Would::AnswerAndRefreshLater => "answer, and refresh behind when there is room",
            Would::AnswerMissing => "answer that there is nothing",
            Would::Wait => "wait for the load under way",
            Would::Load => "load",
        })
    }
}

/// Why a lookup would do what it does. Moments are those of the cache's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// What there is.
    pub state: Standing,
    /// What a lookup would do about it.
    pub would: Would,
    /// When it was stored.
    pub created: Option<Millis>,
    /// It is fresh before this moment.
    pub fresh_until: Option<Millis>,
    /// It is of some use before this moment, as the policy in force says.
    pub useful_until: Option<Millis>,
    /// It leaves by itself at this moment.
    pub expires: Option<Millis>,
    /// After a load that failed: no other begins before this moment.
    pub retry_at: Option<Millis>,
    /// How long its value took to load, in milliseconds.
    pub load_time: Millis,
    /// How many wait for a load; `None` if none is under way.
    pub waiting: Option<usize>,
    /// The moment it is about.
    pub now: Millis,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "is {}: a lookup would {}", self.state, self.would)?;
        if let Some(waiting) = self.waiting {
            write!(f, "; a load is under way, {waiting} wait for it")?;
        }
        if let Some(retry_at) = self.retry_at {
            let left = Duration::from_millis(retry_at - self.now);
            write!(f, "; the last load failed, the next is tried in {left:?}")?;
        }
        Ok(())
    }
}

impl<K, V, W> Memory<K, V, W> {
    /// An entry as somebody sees it who looks and uses nothing; `None` if it is of no use.
    pub fn inspect(&self, id: u32, now: Millis) -> Option<(Standing, Sight)> {
        let sight = self.entries.sight(id)?;
        let state = match (now < sight.span.fresh_until, sight.negative) {
            (true, false) => Standing::Fresh,
            (true, true) => Standing::Missing,
            (false, false) if now < sight.span.expires => Standing::Stale,
            _ => return None,
        };
        Some((state, sight))
    }

    /// See [`Explanation`].
    pub fn explain(&self, policy: &Policy, (entry, flight): Located, refresh: Refresh, now: Millis) -> Explanation {
        let sight = entry.and_then(|entry| self.entries.sight(self.entries.resolve(entry)?));
        let flight = flight.filter(|&flight| self.flights.is_flying(flight));
        let sight = sight.map(|sight| Sight { flying: flight.is_some(), ..sight });
        let at_best = if refresh == Refresh::Later { Refresh::Behind } else { refresh };
        // No dice are thrown: a draw of zero never calls for an early refresh.
        let answer = sight.as_ref().map_or(Answer::Load, |sight| answer(policy, sight, at_best, now, || 0.0));
        let would = match (answer, flight) {
            (Answer::Serve { refresh: true, .. }, _) if refresh == Refresh::Later => Would::AnswerAndRefreshLater,
            (Answer::Serve { refresh: true, .. }, _) => Would::AnswerAndRefresh,
            (Answer::Serve { how: Served::Negative, .. }, _) => Would::AnswerMissing,
            (Answer::Serve { .. }, _) => Would::Answer,
            (Answer::Load, Some(_)) => Would::Wait,
            (Answer::Load, None) => Would::Load,
        };
        let span = sight.as_ref().map_or_else(Span::default, |sight| sight.span);
        let known = |moment: Millis| (0 < moment && moment < NEVER).then_some(moment);
        Explanation {
            state: sight.as_ref().map_or(Standing::Absent, |sight| standing(policy, sight, now)),
            would,
            created: sight.and_then(|sight| known(sight.created)),
            fresh_until: known(span.fresh_until),
            useful_until: known(policy.useful_until(span.fresh_until).min(span.expires)),
            expires: known(span.expires),
            retry_at: known(span.retry_at).filter(|&retry_at| now < retry_at),
            load_time: span.load.into(),
            waiting: flight.map(|flight| self.flights.waiting(flight)),
            now,
        }
    }
}

fn standing(policy: &Policy, sight: &Sight, now: Millis) -> Standing {
    if sight.negative && now < sight.span.fresh_until {
        return Standing::Missing;
    }
    match policy.state(&sight.span, sight.created, now, || 0.0) {
        State::Fresh | State::Early => Standing::Fresh,
        State::Stale => Standing::Stale,
        State::Grace if !sight.negative => Standing::Grace,
        State::Grace | State::Dead => Standing::Dead,
    }
}
