//! Time as the cache counts it: whole milliseconds on a monotonic line. The only file of the core that asks the system.
//!
//! A [`Clock`] is handed to the drivers, which pass plain [`Millis`] to every decision. A frozen clock stands still until
//! [`Clock::advance`] moves it, so tests own the time and never sleep.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds on the monotonic line of this process; meaningless elsewhere.
pub type Millis = u64;

/// The deadline of what never expires: the largest value that fits the 44 bits a slot gives to time (557 years).
pub const NEVER: Millis = (1 << 44) - 1;

/// A source of [`Millis`], shared by cloning.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Frozen>);

/// `now` is 0 while the system's time is used.
#[derive(Debug, Default)]
struct Frozen {
    now: AtomicU64,
    wall_at_zero: AtomicU64,
}

impl Clock {
    /// The system's monotonic time.
    pub fn system() -> Self {
        Self::default()
    }

    /// Stops this clock, and every clone of it, at its present time.
    pub fn freeze(&self) {
        let now = self.now();
        self.0.wall_at_zero.store(wall_now().saturating_sub(now), Relaxed);
        self.0.now.store(now, Relaxed);
    }

    /// Lets a frozen clock follow the system's time again.
    pub fn thaw(&self) {
        self.0.now.store(0, Relaxed);
    }

    /// True between [`freeze`](Self::freeze) and [`thaw`](Self::thaw).
    pub fn is_frozen(&self) -> bool {
        self.0.now.load(Relaxed) != 0
    }

    /// Moves a frozen clock forward; a running clock is not touched.
    pub fn advance(&self, by: Duration) {
        if self.is_frozen() {
            let by = u64::try_from(by.as_millis()).unwrap_or(NEVER).min(NEVER);
            self.0.now.fetch_add(by, Relaxed);
        }
    }

    /// The present.
    #[inline]
    pub fn now(&self) -> Millis {
        match self.0.now.load(Relaxed) {
            0 => system_now(),
            frozen => frozen,
        }
    }

    /// The calendar time of a moment, in milliseconds since 1970 (UTC).
    pub fn wall(&self, moment: Millis) -> u64 {
        if self.is_frozen() {
            return self.0.wall_at_zero.load(Relaxed) + moment;
        }
        let now = system_now();
        if moment >= now { wall_now() + (moment - now) } else { wall_now().saturating_sub(now - moment) }
    }
}

/// Starts at one hour, so that "an hour ago" is a moment too.
fn system_now() -> Millis {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    3_600_000 + elapsed.as_secs() * 1000 + u64::from(elapsed.subsec_millis())
}

fn wall_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * 1000 + u64::from(since.subsec_millis())
}

/// `now + ttl`, where nothing reaches beyond [`NEVER`] and a ttl shorter than a millisecond still lives for one.
pub fn deadline(now: Millis, ttl: Option<Duration>) -> Millis {
    match ttl {
        None => NEVER,
        Some(ttl) => {
            let ttl = u64::try_from(ttl.as_millis()).unwrap_or(NEVER).max(1);
            now.saturating_add(ttl).min(NEVER)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_clock_moves_only_when_told() {
        let clock = Clock::system();
        clock.freeze();
        let before = clock.now();
        clock.advance(Duration::from_secs(300));
        assert_eq!(clock.now(), before + 300_000);
        assert_eq!(clock.wall(clock.now()) - clock.wall(before), 300_000);
        clock.thaw();
        assert!(clock.now() < before + 300_000);
    }

    #[test]
    fn no_deadline_lies_beyond_never() {
        assert_eq!(deadline(5, None), NEVER);
        assert_eq!(deadline(5, Some(Duration::MAX)), NEVER);
        assert_eq!(deadline(5, Some(Duration::from_nanos(1))), 6);
    }
}
