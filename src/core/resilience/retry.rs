//! Retry: how many attempts, and how long the pause between two of them.
//!
//! Pauses are drawn with *full jitter*: uniformly from zero to a ceiling that doubles with every failed attempt, up to a
//! cap. Of the ways to jitter it needs the fewest calls until all clients of a contended service are served (M. Brooker,
//! "Exponential Backoff and Jitter", AWS Architecture Blog, 2015). No pause reaches the deadline: waiting for an attempt
//! that will not be made helps nobody, so the last error is answered at once.

use crate::core::clock::{Millis, deadline as after};
use crate::error::{Error, Result};
use std::time::Duration;

/// How often and after which pauses to try again. It has no state: the driver counts the attempts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    attempts: u32,
    base: Duration,
    cap: Duration,
}

impl Retry {
    /// At most `attempts` attempts, the first one included; pauses of up to `base`, then twice that and so on, up to `cap`.
    pub fn new(attempts: u32, base: Duration, cap: Duration) -> Result<Self> {
        if attempts == 0 {
            return Err(Error::config("attempts", "0", "give 1 or more; 1 is the first attempt and no other"));
        }
        if base.is_zero() {
            return Err(Error::config("base", "0 s", "give the longest first pause, such as '100ms'"));
        }
        if cap < base {
            return Err(Error::config("cap", format!("{cap:?}"), format!("give at least base, which is {base:?}")));
        }
        Ok(Retry { attempts, base, cap })
    }

    /// At most so many attempts, the first one included.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The longest pause after `failed` failed attempts.
    pub fn ceiling(&self, failed: u32) -> Duration {
        let doublings = failed.saturating_sub(1);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// The pause before the next attempt, after `failed` of them; `None` to give up: no attempt is left, or it would not
    /// begin before the deadline.
    pub fn pause(&self, failed: u32, draw: f64, now: Millis, deadline: Millis) -> Option<Duration> {
        let pause = self.ceiling(failed).mul_f64(draw);
        (failed < self.attempts && after(now, Some(pause)) < deadline).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::clock::NEVER;
    use crate::core::draw::{distance, draws};
    use proptest::prelude::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let retry = Retry::new(9, millis(100), millis(1000)).unwrap();
        let ceilings: Vec<u128> = (1..=6).map(|failed| retry.ceiling(failed).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(retry.ceiling(u32::MAX), millis(1000));
    }

    #[test]
    fn pauses_are_uniform_from_zero_to_the_ceiling() {
        let retry = Retry::new(9, millis(100), millis(1000)).unwrap();
        for failed in 1..=6 {
            let ceiling = retry.ceiling(failed).as_secs_f64();
            let pauses =
                draws(10 + u64::from(failed)).take(10_000).map(|draw| retry.pause(failed, draw, 0, NEVER).unwrap());
            let shares = pauses.map(|pause| pause.as_secs_f64() / ceiling).collect();
            assert!(distance(shares, |share| share) < 1.95 / 100.0, "{failed}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_option_and_the_cure() {
        for (made, option) in [
            (Retry::new(0, millis(1), millis(1)), "attempts: 0; give 1"),
            (Retry::new(1, millis(0), millis(1)), "base: 0 s; give"),
            (Retry::new(1, millis(2), millis(1)), "cap: 1ms; give at least base"),
        ] {
            let error = made.unwrap_err().to_string();
            assert!(error.contains(option), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_pause_reaches_the_deadline_and_no_attempt_is_one_too_many(
            attempts in 1..6_u32, failed in 1..8_u32, draw in 0.0..1.0, now in 0..2000_u64, deadline in 0..2000_u64
        ) {
            let retry = Retry::new(attempts, millis(100), millis(1000)).unwrap();
            let pause = retry.pause(failed, draw, now, deadline);
            if let Some(pause) = pause {
                prop_assert!(failed < attempts && now as f64 + pause.as_secs_f64() * 1000.0 < deadline as f64);
                prop_assert!(pause <= retry.ceiling(failed));
            }
            let fits = now + retry.ceiling(failed).as_millis() as u64 + 1 < deadline;
            prop_assert!(pause.is_some() || failed >= attempts || !fits);
        }
    }
}
