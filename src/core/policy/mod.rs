//! What may differ per key: how long a value is fresh, and which rule says so.
//!
//! A policy is plain data. It is resolved before a load begins and decides nothing by itself. `freshness` has the functions
//! of time and chance that go with it, `rules` finds the first rule whose pattern a key fits.

mod duration;
mod freshness;
mod glob;
mod literals;
mod rules;

pub use duration::parse_duration;
pub use freshness::{Adaptive, early_from, is_early, jittered};
pub use glob::Glob;
pub use rules::Rules;

use super::clock::{Millis, deadline};
use std::time::Duration;

/// How a value is kept. Cheap to copy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Policy {
    /// Fresh for this long; `None` = no expiry, zero = not stored.
    pub ttl: Option<Duration>,
}

impl Policy {
    /// Values are fresh for `ttl`.
    pub fn ttl(ttl: Duration) -> Self {
        Policy { ttl: Some(ttl) }
    }

    /// Values never expire.
    pub fn forever() -> Self {
        Policy { ttl: None }
    }

    /// False for a ttl of zero: callers get the value, nothing is kept.
    pub fn stores(&self) -> bool {
        self.ttl != Some(Duration::ZERO)
    }

    /// When a value stored now ends.
    pub fn deadline(&self, now: Millis) -> Millis {
        deadline(now, self.ttl)
    }
}
