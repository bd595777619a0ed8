//! How long a value is fresh, and when it is worth loading anew before that. Pure functions of times, counts and draws.
//!
//! Draws are in `[0, 1)` ([`unit`](crate::core::draw::unit)), one for each loaded value or question.

use crate::core::broken::{Rule, broken};
use crate::core::clock::{Millis, NEVER};
use crate::error::{Error, Result};
use std::time::Duration;

/// `ttl × [1 − jitter, 1]`, uniform. Jitter only shortens, so a value is never fresh longer than it was told.
pub fn jittered(ttl: Duration, jitter: f64, draw: f64) -> Duration {
    if jitter <= 0.0 {
        return ttl;
    }
    let share = jitter.clamp(0.0, 1.0) * draw;
    ttl.mul_f64(if broken(Rule::JitterShortens) { 1.0 + share } else { 1.0 - share })
}

/// How many times `beta × load` before the end dice are thrown at all. Further away one draw in 1.2 million (e^-14) would
/// say yes.
const REACH: f64 = 14.0;

/// From when on [`is_early`] is worth asking; before, a hit pays nothing for early refresh.
pub fn early_from(fresh_until: Millis, load: Duration, beta: f64) -> Millis {
    if fresh_until == NEVER || beta <= 0.0 {
        return fresh_until;
    }
    // A float beyond what an integer holds becomes the largest one.
    fresh_until.saturating_sub((REACH * gap(load, beta)) as Millis)
}

/// Whether this caller should load the value anew although it is fresh, so that nobody has to wait when it ends.
///
/// XFetch (Vattani, Chierichetti, Lowenstein: "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015): yes when
/// `now − load × beta × ln(u) ≥ fresh_until`, u uniform in (0, 1]. The longer a load takes the earlier it begins; callers
/// need not know of each other, and rarely two of them say yes. `beta` above 1 is earlier, below 1 later.
pub fn is_early(now: Millis, fresh_until: Millis, load: Duration, beta: f64, draw: f64) -> bool {
    // `1 − draw` is in (0, 1], so the logarithm is finite; the reach ends where no dice are thrown any more.
    let ahead = (-(1.0 - draw).ln()).min(REACH) * gap(load, beta);
    fresh_until < NEVER && now as f64 + ahead >= fresh_until as f64
}

fn gap(load: Duration, beta: f64) -> f64 {
    load.as_secs_f64() * 1000.0 * beta.max(0.0)
}

/// A ttl that follows the data: longer for what rarely changes and for what is asked for often.
///
/// ```text
/// max(min, age ÷ 10) × (1 + log2(1 + reads)), at most max
/// ```
///
/// A tenth of the age of the data is what RFC 9111, 4.2.2, calls heuristic freshness: what has not changed for ten hours
/// will hardly change within the next. Each doubling of the reads adds as much again, since a load saved there
/// saves more: popular keys live longer and cold ones leave sooner. It never falls when either rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Adaptive {
    min: Duration,
    max: Duration,
}

impl Adaptive {
    /// Never shorter than `min`, never longer than `max`.
    pub fn new(min: Duration, max: Duration) -> Result<Self> {
        if min.is_zero() {
            return Err(Error::config("min", "0 s", "give the shortest ttl, above zero, such as '10s'"));
        }
        if max < min {
            return Err(Error::config("max", format!("{max:?}"), format!("give at least min, which is {min:?}")));
        }
        Ok(Adaptive { min, max })
    }

    /// The shortest ttl.
    pub fn min(&self) -> Duration {
        self.min
    }

    /// The longest ttl.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The ttl of a value that is being stored.
    ///
    /// `age`: how long ago the data changed, as the source says it or as equal loads have shown; zero if nothing is known.
    /// `reads`: how often the value that this one replaces was read while it was kept; zero if there was none.
    pub fn ttl(&self, age: Duration, reads: u64) -> Duration {
        let popularity = 1.0 + (reads as f64 + 1.0).log2();
        let seconds = self.min.max(age / 10).as_secs_f64() * popularity;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).clamp(self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::draw::{distance, draws};
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn jitter_only_shortens_and_never_beyond_its_share() {
        let ttl = Duration::from_secs(100);
        for draw in [0.0, 0.25, 0.5, 0.999_999] {
            let drawn = jittered(ttl, 0.05, draw);
            assert!(drawn <= ttl && drawn >= ttl.mul_f64(0.95), "{drawn:?}");
        }
        assert_eq!(jittered(ttl, 0.0, 0.7), ttl);
    }

    #[test]
    fn jitter_is_uniform_over_its_share() {
        for (seed, jitter) in [(20, 0.05), (21, 0.5), (22, 1.0)] {
            let ttls = draws(seed).take(10_000).map(|draw| jittered(300 * SECOND, jitter, draw).as_secs_f64());
            let apart = distance(ttls.collect(), |ttl| (ttl / 300.0 - (1.0 - jitter)) / jitter);
            assert!(apart < 1.95 / 100.0, "{jitter}: {apart}");
        }
    }

    #[test]
    fn the_first_yes_comes_when_nobody_before_said_yes() {
        let (load, until) = (SECOND / 10, 10_000);
        for (seed, beta) in [(30, 1.0), (31, 2.0)] {
            let (mut dice, reach) = (draws(seed), (REACH * 100.0 * beta) as usize);
            // Asked once in each millisecond: how long before the end is the first yes?
            let mut first_yes = || {
                let mut asked = early_from(until, load, beta)..=until;
                let yes = asked.find(|&now| is_early(now, until, load, beta, dice.next().unwrap())).unwrap();
                // Anywhere within its millisecond, as the distance to a distribution without steps is taken.
                (until - yes) as f64 + dice.next().unwrap()
            };
            let seen: Vec<f64> = (0..2_000).map(|_| first_yes()).collect();
            // The share of first yeses nearer than t milliseconds: all that were asked earlier said no.
            let mut nearer = vec![1.0; reach + 2];
            for t in (0..=reach).rev() {
                nearer[t] = nearer[t + 1] * (1.0 - (-(t as f64) / (100.0 * beta)).exp());
            }
            let between = |t: f64| nearer[t as usize] * (1.0 - t.fract()) + nearer[t as usize + 1] * t.fract();
            let apart = distance(seen, between);
            assert!(apart < 1.95 / 2_000_f64.sqrt(), "{beta}: {apart}");
        }
    }

    #[test]
    fn one_question_says_yes_as_often_as_the_paper_has_it() {
        let (load, until) = (SECOND, 100_000);
        for (seed, ahead, beta) in [(40, 500, 1.0), (41, 1_000, 1.0), (42, 3_000, 2.0), (43, 2_000, 0.5)] {
            let said = draws(seed).take(20_000).filter(|&u| is_early(until - ahead, until, load, beta, u)).count();
            let expected = (-(ahead as f64) / (1_000.0 * beta)).exp();
            let error = (expected * (1.0 - expected) / 20_000.0).sqrt();
            assert!((said as f64 / 20_000.0 - expected).abs() < 3.5 * error, "{ahead} {beta}: {said}");
        }
    }

    #[test]
    fn what_never_ends_is_never_early_and_what_has_ended_always_is() {
        assert_eq!(early_from(NEVER, SECOND, 1.0), NEVER);
        assert!(!is_early(NEVER - 1, NEVER, Duration::MAX, 1.0, 0.999));
        assert!(is_early(1_000, 1_000, Duration::ZERO, 1.0, 0.0));
        assert!(!is_early(999, 1_000, Duration::ZERO, 1.0, 0.999_999));
        assert_eq!(early_from(1_000, Duration::MAX, f64::MAX), 0);
    }

    #[test]
    fn a_ttl_adapts_to_age_and_reads() {
        let adaptive = Adaptive::new(10 * SECOND, 3_600 * SECOND).unwrap();
        let ttl = |age: u32, reads| adaptive.ttl(age * SECOND, reads).as_secs();
        assert_eq!(ttl(0, 0), 10, "nothing is known");
        assert_eq!((ttl(0, 1), ttl(0, 7), ttl(0, 1023)), (20, 40, 110));
        assert_eq!((ttl(100, 0), ttl(1_000, 0), ttl(10_000, 0)), (10, 100, 1_000));
        assert_eq!((ttl(1_000, 1), ttl(1_000_000, 0), ttl(1_000_000, 1_000)), (200, 3_600, 3_600));
        for (min, max, message) in [(0, 1, "min: 0 s; give"), (2, 1, "max: 1s; give at least min, which is 2s")] {
            let error = Adaptive::new(min * SECOND, max * SECOND).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_dice_say_yes_before_they_are_thrown(
            until in 0..10_000_000_u64, load in 0..100_000_u64, beta in 0.0..4.0, draw in 0.0..1.0, early in 1..1_000_u64
        ) {
            let load = Duration::from_millis(load);
            let from = early_from(until, load, beta);
            prop_assert!(from <= until);
            prop_assert!(from < early || !is_early(from - early, until, load, beta, draw));
            prop_assert!(is_early(until, until, load, beta, draw));
        }

        #[test]
        fn an_adaptive_ttl_rises_with_both_and_stays_inside(
            min in 1..1_000_u64, more in 0..1_000_000_u64, age in any::<u32>(), older in any::<u32>(),
            reads in any::<u64>(), further in any::<u32>(),
        ) {
            let (min, max) = (Duration::from_millis(min), Duration::from_millis(min + more));
            let adaptive = Adaptive::new(min, max).unwrap();
            let age = Duration::from_millis(age.into());
            let ttl = adaptive.ttl(age, reads);
            prop_assert!(min <= ttl && ttl <= max);
            prop_assert!(adaptive.ttl(age + Duration::from_millis(older.into()), reads) >= ttl);
            prop_assert!(adaptive.ttl(age, reads.saturating_add(further.into())) >= ttl);
            prop_assert!(adaptive.ttl(Duration::MAX, u64::MAX) == max);
        }
    }
}
