//! Rate limit: how many calls may start in a time, spread evenly, with a burst.
//!
//! The generic cell rate algorithm in its virtual scheduling form (ITU-T I.371, annex A; ATM Forum, Traffic Management 4.1,
//! 4.4.2): one moment is kept, at which the next call is due if all came evenly. A call may be early by what `burst − 1` calls
//! take. So in *any* stretch of time t at most `burst + rate × t` calls start, and there is no window at whose edge
//! twice as many could. A caller who may wait reserves its turn and is told when that is.
//!
//! Kept in nanoseconds, so that rates above a thousand a second are exact; the interval is rounded up.

use super::super::clock::Millis;
use crate::core::policy::parse_duration;
use crate::error::{Error, Result};
use std::time::Duration;

const NANOS: u128 = 1_000_000;

/// See the module.
#[derive(Clone, Debug)]
pub struct Rate {
    burst: u32,
    /// Between two calls.
    interval: u128,
    /// How early a call may come.
    tolerance: u128,
    /// When the next call is due.
    due: u128,
    seen: Millis,
    taken: u64,
    refused: u64,
}

/// The turn of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// How long until it may start; zero for at once.
    pub wait: Duration,
    due: u128,
}

impl Rate {
    /// `count` calls in each `period`, `burst` of them at once. Left out: ten, or the count if that is less, and at least
    /// what ten milliseconds bring.
    pub fn new(count: u32, period: Duration, burst: Option<u32>) -> Result<Self> {
        if count == 0 || period.is_zero() {
            let value = format!("{count} in {period:?}");
            return Err(Error::config("rate", value, "give calls and time, both above zero, such as '100/s'"));
        }
        let in_time = |millis: u128| u32::try_from((u128::from(count) * millis * NANOS).div_ceil(period.as_nanos()));
        let burst = burst.unwrap_or_else(|| count.min(10).max(in_time(10).unwrap_or(u32::MAX)));
        // Time is told in milliseconds: what may start within one has to be allowed to start at once.
        let least = in_time(1).unwrap_or(u32::MAX);
        if burst < least {
            return Err(Error::config("burst", burst.to_string(), format!("give {least} or more for this rate")));
        }
        let interval = period.as_nanos().div_ceil(u128::from(count));
        Ok(Rate { burst, interval, tolerance: interval * u128::from(burst - 1), due: 0, seen: 0, taken: 0, refused: 0 })
    }

    /// The turn of a call that may wait for as long as `patience`; else how long from now it would be.
    pub fn take(&mut self, now: Millis, patience: Duration) -> Result<Slot, Duration> {
        let instant = self.turn(now);
        let due = self.due.max(instant);
        let wait = due.saturating_sub(self.tolerance).saturating_sub(instant);
        let wait = Duration::new((wait / (1000 * NANOS)) as u64, (wait % (1000 * NANOS)) as u32);
        if wait > patience {
            self.refused += 1;
            return Err(wait);
        }
        self.due = due + self.interval;
        self.taken += 1;
        Ok(Slot { wait, due: self.due })
    }

    /// Gives a turn back that was not used. It goes to somebody else only if it was the last one taken.
    pub fn give_back(&mut self, slot: Slot) {
        self.taken -= 1;
        if self.due == slot.due {
            self.due -= self.interval;
        }
    }

    /// How many calls could start now.
    pub fn available(&mut self, now: Millis) -> u32 {
        let instant = self.turn(now);
        let ahead = self.due.saturating_sub(instant);
        if ahead > self.tolerance { 0 } else { ((self.tolerance - ahead) / self.interval) as u32 + 1 }
    }

    /// How many may start at once.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// How many turns were taken and not given back, and how many refused, since it was made.
    pub fn counted(&self) -> (u64, u64) {
        (self.taken, self.refused)
    }

    /// A test that had stopped the clock lets it run again: what is due goes back with it.
    fn turn(&mut self, now: Millis) -> u128 {
        self.due = self.due.saturating_sub(u128::from(self.seen.saturating_sub(now)) * NANOS);
        self.seen = now;
        u128::from(now) * NANOS
    }
}

/// Parses a rate such as `"100/s"`, `"5/m"` or `"20/10s"` into calls and time; `option` names it in the error.
pub fn parse_rate(text: &str, option: &str) -> Result<(u32, Duration)> {
    let refuse =
        || Error::config(option, format!("{text:?}"), "give calls and time, such as '100/s', '5/m' or '20/10s'");
    let (count, period) = text.split_once('/').ok_or_else(refuse)?;
    let (count, period) = (count.trim().parse().map_err(|_| refuse())?, period.trim());
    let one = if period.starts_with(|c: char| c.is_ascii_alphabetic()) { "1" } else { "" };
    let period = parse_duration(&format!("{one}{period}"), option).map_err(|_| refuse())?;
    if count == 0 || period.is_zero() { Err(refuse()) } else { Ok((count, period)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_and_then_one_after_the_other() {
        let mut rate = Rate::new(10, SECOND, Some(3)).unwrap();
        let granted: Vec<Millis> = (0..1000).filter(|&now| rate.take(now, Duration::ZERO).is_ok()).collect();
        assert_eq!(granted, [0, 1, 2, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
    }

    #[test]
    fn who_is_refused_is_told_when_to_come_back() {
        let mut rate = Rate::new(10, SECOND, Some(1)).unwrap();
        assert!(rate.take(50, Duration::ZERO).is_ok());
        assert_eq!(rate.take(80, Duration::ZERO), Err(Duration::from_millis(70)));
        assert!(rate.take(149, Duration::ZERO).is_err());
        assert!(rate.take(150, Duration::ZERO).is_ok());
    }

    #[test]
    fn who_may_wait_gets_a_turn_of_its_own() {
        let mut rate = Rate::new(10, SECOND, Some(1)).unwrap();
        let waits: Vec<_> = (0..5).map(|_| rate.take(0, SECOND / 4).map(|slot| slot.wait.as_millis())).collect();
        let late = Err(Duration::from_millis(300));
        assert_eq!(waits, [Ok(0), Ok(100), Ok(200), late, late]);
        assert_eq!(rate.counted(), (3, 2));
    }

    #[test]
    fn a_turn_given_back_goes_to_the_next_unless_others_queue_behind_it() {
        let mut rate = Rate::new(10, SECOND, Some(1)).unwrap();
        let slots: Vec<_> = (0..3).map(|_| rate.take(0, SECOND).unwrap()).collect();
        rate.give_back(slots[1]);
        assert_eq!(rate.take(0, Duration::ZERO), Err(SECOND * 3 / 10));
        rate.give_back(slots[2]);
        assert_eq!(rate.take(0, Duration::ZERO), Err(SECOND / 5));
    }

    #[test]
    fn the_burst_left_out_is_small_and_never_below_what_the_clock_can_tell() {
        for (count, burst) in [(1, 1), (5, 5), (100, 10), (1_000, 10), (100_000, 1_000)] {
            assert_eq!(Rate::new(count, SECOND, None).unwrap().burst(), burst, "{count}");
        }
        let error = Rate::new(10_000, SECOND, Some(9)).unwrap_err().to_string();
        assert!(error.contains("burst: 9; give 10 or more"), "{error}");
        assert!(Rate::new(0, SECOND, None).is_err() && Rate::new(1, Duration::ZERO, None).is_err());
    }

    #[test]
    fn what_is_available_can_be_taken() {
        let mut rate = Rate::new(10, SECOND, Some(3)).unwrap();
        for now in [0, 0, 50, 120, 130, 700, 10_000] {
            let available = rate.available(now);
            let mut copy = rate.clone();
            assert_eq!((0..10).filter(|_| copy.take(now, Duration::ZERO).is_ok()).count(), available as usize, "{now}");
            rate.take(now, SECOND).unwrap();
        }
    }

    #[test]
    fn a_clock_that_goes_back_takes_what_is_due_with_it() {
        let mut rate = Rate::new(10, SECOND, Some(1)).unwrap();
        assert!(rate.take(5_000_000, Duration::ZERO).is_ok());
        assert_eq!(rate.take(1_000, Duration::ZERO), Err(SECOND / 10));
        assert!(rate.take(1_100, Duration::ZERO).is_ok());
    }

    #[test]
    fn people_write_rates_in_many_ways() {
        for (text, count, millis) in [
            ("100/s", 100, 1_000),
            ("5/m", 5, 60_000),
            (" 20 / 10s ", 20, 10_000),
            ("1/1h30m", 1, 5_400_000),
            ("7/2", 7, 2_000),
        ] {
            assert_eq!(parse_rate(text, "rate"), Ok((count, Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "100", "/s", "0/s", "-1/s", "1.5/s", "5/0", "5/parsec", "5/s/s", "s/5"] {
            let error = parse_rate(text, "rate").unwrap_err().to_string();
            assert!(error.contains("rate") && error.contains(text) && error.contains("100/s"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_sees_more_than_burst_and_rate_allow(
            count in 1..3_000_u32, period in 1..5_000_u64, more in 0..20_u32,
            calls in proptest::collection::vec((0..30_u64, 0..50_u64, any::<bool>()), 1..300),
        ) {
            let period = Duration::from_millis(period);
            let least = (count as u64).div_ceil(period.as_millis() as u64) as u32;
            let burst = least + more;
            let mut rate = Rate::new(count, period, Some(burst)).unwrap();
            let (mut now, mut started) = (1_000, Vec::new());
            for (later, patience, gives_back) in calls {
                now += later;
                match rate.take(now, Duration::from_millis(patience)) {
                    Ok(slot) if gives_back && !slot.wait.is_zero() => rate.give_back(slot),
                    Ok(slot) => started.push(Duration::from_millis(now) + slot.wait),
                    Err(wait) => prop_assert!(wait > Duration::from_millis(patience)),
                }
            }
            started.sort();
            for (first, from) in started.iter().enumerate() {
                for (last, until) in started.iter().enumerate().skip(first) {
                    let allowed = f64::from(burst) + (*until - *from).as_secs_f64() * f64::from(count) / period.as_secs_f64();
                    prop_assert!((last - first + 1) as f64 <= allowed + 1e-6);
                }
            }
        }

        #[test]
        fn whoever_comes_steadily_at_the_rate_is_never_refused(interval in 1..500_u64, burst in 1..5_u32) {
            let mut rate = Rate::new(1, Duration::from_millis(interval), Some(burst)).unwrap();
            for turn in 0..200 {
                prop_assert!(rate.take(turn * interval, Duration::ZERO).is_ok());
            }
        }
    }
}
