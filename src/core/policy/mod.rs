//! What may differ per key: for now how long a value is fresh, with how much jitter, and what ends a load early.
//!
//! A policy is plain data. It is resolved before a load begins and decides nothing by itself.

mod duration;

pub use duration::parse_duration;

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

/// `ttl × [1 − jitter, 1]` for a draw in `[0, 1)`. Jitter only shortens, so a value is never fresh longer than it was told.
pub fn jittered(ttl: Duration, jitter: f64, draw: f64) -> Duration {
    ttl.mul_f64(1.0 - jitter.clamp(0.0, 1.0) * draw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_only_shortens_and_never_beyond_its_share() {
        let ttl = Duration::from_secs(100);
        for draw in [0.0, 0.25, 0.5, 0.999_999] {
            let drawn = jittered(ttl, 0.05, draw);
            assert!(drawn <= ttl && drawn >= ttl.mul_f64(0.95), "{drawn:?}");
        }
        assert_eq!(jittered(ttl, 0.0, 0.7), ttl);
    }
}
