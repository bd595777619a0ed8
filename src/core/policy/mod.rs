//! What may differ per key: how long a value is fresh, of what use it is after that, and how its loads are bounded.
//!
//! A policy is plain data, resolved before a lookup. What it means for an entry's life is said here, in pure functions of
//! time and a random draw (`freshness` has those that stand alone). Who loads is decided by `core::flight`; which of many
//! policies a key has, by `rules`.

mod duration;
mod freshness;
mod glob;
mod literals;
mod rules;

pub use duration::parse_duration;
pub use freshness::{Adaptive, early_from, is_early, jittered};
pub use glob::Glob;
pub use rules::Rules;

use super::broken::{Rule, broken};
use super::clock::{Millis, deadline, later};
use super::memory::{Served, Span};
use super::remote::Sharing;
use super::remote::wait::WAIT;
use crate::error::{Error, Result};
use std::time::Duration;

/// How a value is kept. Cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Fresh for this long; `None` = no expiry, zero = not stored.
    pub ttl: Option<Duration>,
    /// After that, answered at once for this long while one caller has it loaded anew (RFC 5861, section 3).
    pub stale_while_revalidate: Duration,
    /// After the ttl, answered for this long if the load fails (RFC 5861, section 4).
    pub stale_if_error: Duration,
    /// How long a failed load is not tried again, where an old value is there to answer with.
    pub retry_after: Duration,
    /// What a failed load does to the old value.
    pub on_refresh_error: OnRefreshError,
    /// A caller who has waited this long gets the old value, if there is one; the load goes on.
    pub soft_timeout: Option<Duration>,
    /// A load that takes longer is stopped.
    pub timeout: Option<Duration>,
    /// Probabilistic early refresh with this beta; 0 = none. More than 1 is earlier.
    pub early: f64,
    /// The share of the ttl that a random draw may take away, 0 to 1.
    pub jitter: f64,
    /// How long "not found" is remembered; `None` = not at all.
    pub negative_ttl: Option<Duration>,
    /// No refresh begins within this time of the last load's end.
    pub min_refresh_interval: Duration,
    /// Who loads a key that a process with the same store behind its memory loads already.
    pub single_flight: Sharing,
    /// How long the load of another process is waited for before it is loaded here too; `None` = as long as it runs.
    pub wait: Option<Duration>,
}

/// What a failed load does to an old value that is still of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRefreshError {
    /// It stays.
    #[default]
    Keep,
    /// It goes, and the error is everybody's.
    Drop,
}

impl Default for Policy {
    fn default() -> Self {
        Policy::forever()
    }
}

/// The borders of an entry's life, and how it is served within them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The borders.
    pub span: Span,
    /// Hits need no second thought until then.
    pub plain_until: Millis,
    /// What they count as.
    pub how: Served,
}

impl Lifetime {
    /// Of a value that is fresh to its end.
    pub const fn plain(end: Millis) -> Self {
        Lifetime { span: Span::until(end), plain_until: end, how: Served::Fresh }
    }

    /// Of a note that there is nothing.
    pub fn negative(end: Millis) -> Self {
        let plain_until = if broken(Rule::NegativeIsNotPlain) { end } else { 0 };
        Lifetime { span: Span::until(end), plain_until, how: Served::Negative }
    }
}

/// What an entry is good for at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It answers.
    Fresh,
    /// It answers, and this caller has been drawn to have it loaded anew.
    Early,
    /// It answers, and somebody has to load it anew.
    Stale,
    /// It answers only if a load fails or takes too long.
    Grace,
    /// It is of no use.
    Dead,
}

impl Policy {
    /// Values are fresh for `ttl`, and of no use after that.
    pub const fn ttl(ttl: Duration) -> Self {
        Policy { ttl: Some(ttl), ..Policy::forever() }
    }

    /// Values never expire.
    pub const fn forever() -> Self {
        Policy {
            ttl: None,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            retry_after: Duration::from_secs(30),
            on_refresh_error: OnRefreshError::Keep,
            soft_timeout: None,
            timeout: None,
            early: 0.0,
            jitter: 0.0,
            negative_ttl: None,
            min_refresh_interval: Duration::ZERO,
            single_flight: Sharing::Process,
            wait: Some(WAIT),
        }
    }

    /// False for a ttl of zero: callers get the value, nothing is kept.
    pub fn stores(&self) -> bool {
        self.ttl != Some(Duration::ZERO)
    }

    /// When a value stored now ends.
    pub fn deadline(&self, now: Millis) -> Millis {
        deadline(now, self.ttl)
    }

    /// How long a value is of use after its freshness.
    fn use_after(&self) -> Duration {
        self.stale_while_revalidate.max(self.stale_if_error)
    }

    /// The life of a value that was loaded from `began` to `now`, and until when a hit needs no second thought. `ttl` is
    /// what this value says; `draw` is in `[0, 1)`.
    pub fn span(&self, ttl: Option<Duration>, began: Millis, now: Millis, draw: f64) -> (Span, Millis) {
        let fresh_until = deadline(now, ttl.map(|ttl| jittered(ttl, self.jitter, draw)));
        let (expires, load) = (self.useful_until(fresh_until), millis_between(began, now));
        let span = Span { fresh_until, expires, retry_at: 0, load, since: 0 };
        (span, self.early_from(&span))
    }

    /// The life of what is stored now: of a value that was loaded `from` .. `to`, or of a note that there is nothing.
    pub fn lifetime(&self, ttl: Option<Duration>, negative: bool, (from, to): (Millis, Millis), draw: f64) -> Lifetime {
        if negative {
            return Lifetime::negative(deadline(to, ttl));
        }
        if self.use_after().is_zero() && self.jitter <= 0.0 && self.early <= 0.0 {
            // What all of the below comes to, for most policies there are.
            let lifetime = Lifetime::plain(deadline(to, ttl));
            return Lifetime { span: Span { load: millis_between(from, to), ..lifetime.span }, ..lifetime };
        }
        let (span, plain_until) = self.span(ttl, from, to, draw);
        Lifetime { span, plain_until, how: Served::Fresh }
    }

    /// What is left of the life of a value that a tier behind the memory gave: fresh until then, of use until then; and how long
    /// it took to load, in milliseconds. Nothing makes it longer.
    pub fn lifetime_left(&self, negative: bool, (fresh_until, expires): (Millis, Millis), load: u32) -> Lifetime {
        if negative {
            return Lifetime::negative(fresh_until);
        }
        let span = Span { fresh_until, expires: expires.max(fresh_until), retry_at: 0, load, since: 0 };
        Lifetime { span, plain_until: self.early_from(&span), how: Served::Fresh }
    }

    /// The life of an old value that a tier behind the memory gave in the place of a load that failed `now`; `None` if it is of no
    /// use under this policy. Nobody tries again before `retry_after`.
    pub fn lifetime_of_old(
        &self,
        (fresh_until, expires): (Millis, Millis),
        load: u32,
        now: Millis,
    ) -> Option<Lifetime> {
        let until = self.useful_until(fresh_until).min(expires);
        let keeps = self.on_refresh_error == OnRefreshError::Keep && now < until;
        let span = Span { fresh_until, expires: until, retry_at: later(now, self.retry_after), load, since: 0 };
        keeps.then_some(Lifetime { span, plain_until: span.retry_at.min(until), how: Served::Stale })
    }

    /// The life of an old value that answers while another process loads: what it was, and nobody looks for a newer one before
    /// `retry_at`.
    pub fn lifetime_meanwhile(
        &self,
        (fresh_until, expires): (Millis, Millis),
        load: u32,
        (now, retry_at): (Millis, Millis),
    ) -> Lifetime {
        let until = self.useful_until(fresh_until).min(expires);
        let (end, how) = if now < fresh_until { (fresh_until, Served::Fresh) } else { (until, Served::Stale) };
        let span = Span { fresh_until, expires: until, retry_at, load, since: 0 };
        Lifetime { span, plain_until: retry_at.min(end), how }
    }

    /// Refuses what contradicts itself.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with the option, its value and the cure.
    pub fn check(&self) -> Result<()> {
        let refuse = |option: &str, value: String, cure: &str| Err(Error::config(option, value, cure));
        let shown = |limit: Option<Duration>| limit.map_or("none".into(), |limit| format!("{limit:?}"));
        let (soft, hard) = (self.soft_timeout, self.timeout);
        let limits =
            [("soft_timeout", soft), ("timeout", hard), ("negative_ttl", self.negative_ttl), ("wait", self.wait)];
        for (option, limit) in limits {
            if limit == Some(Duration::ZERO) {
                return refuse(option, shown(limit), "give more than zero, or None");
            }
        }
        if soft.is_some() && hard.is_some() && soft >= hard {
            return refuse("soft_timeout", shown(soft), "give less than timeout, which ends the load");
        }
        if soft.is_some() && self.use_after().is_zero() {
            return refuse("soft_timeout", shown(soft), "add stale_if_error: there is no old value to answer with");
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return refuse("jitter", self.jitter.to_string(), "give the share of the ttl to take away, 0 to 1");
        }
        if !(self.early >= 0.0 && self.early.is_finite()) {
            return refuse("early", self.early.to_string(), "give 0 for none, or about 1");
        }
        if self.early > 0.0 && self.ttl.is_none() {
            return refuse("early", self.early.to_string(), "add a ttl: a value without expiry needs no refresh");
        }
        Ok(())
    }

    /// Until when a value that was fresh until then is of any use.
    pub fn useful_until(&self, fresh_until: Millis) -> Millis {
        later(fresh_until, self.use_after())
    }

    /// The first moment at which an early refresh may be drawn.
    pub fn early_from(&self, span: &Span) -> Millis {
        early_from(span.fresh_until, load_of(span), self.early)
    }

    /// What an entry created then, of this life, is good for. `draw` is in `[0, 1)`, and asked for only when it matters.
    pub fn state(&self, span: &Span, created: Millis, now: Millis, draw: impl FnOnce() -> f64) -> State {
        let within = |window| now < later(span.fresh_until, window).min(span.expires) || broken(Rule::StaleHasAnEnd);
        if now < span.fresh_until {
            let early = now >= self.early_from(span);
            let drawn = early && is_early(now, span.fresh_until, load_of(span), self.early, draw());
            if drawn && !self.is_too_soon(created, now) { State::Early } else { State::Fresh }
        } else if within(self.stale_while_revalidate) {
            State::Stale
        } else if within(self.stale_if_error) {
            State::Grace
        } else {
            State::Dead
        }
    }

    /// True if there are values that answer and are loaded anew behind.
    pub fn refreshes_behind(&self) -> bool {
        !self.stale_while_revalidate.is_zero() || self.early > 0.0
    }

    /// True while no refresh may begin, whoever wants it.
    pub fn is_too_soon(&self, created: Millis, now: Millis) -> bool {
        now < later(created, self.min_refresh_interval) && !broken(Rule::RefreshesAreSpaced)
    }
}

fn millis_between(from: Millis, to: Millis) -> u32 {
    u32::try_from(to.saturating_sub(from)).unwrap_or(u32::MAX)
}

fn load_of(span: &Span) -> Duration {
    Duration::from_millis(span.load.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::clock::NEVER;

    const SECOND: Millis = 1_000;

    fn policy() -> Policy {
        Policy {
            stale_while_revalidate: Duration::from_secs(10),
            stale_if_error: Duration::from_secs(100),
            ..Policy::ttl(Duration::from_secs(60))
        }
    }

    fn state(policy: &Policy, at: Millis) -> State {
        let (span, _) = policy.span(policy.ttl, 0, 0, 0.0);
        policy.state(&span, 0, at, || 0.5)
    }

    #[test]
    fn a_value_is_fresh_then_stale_then_a_last_resort_then_dead() {
        let states = [0, 59, 60, 69, 70, 159, 160].map(|second| state(&policy(), second * SECOND));
        use State::{Dead, Fresh, Grace, Stale};
        assert_eq!(states, [Fresh, Fresh, Stale, Stale, Grace, Grace, Dead]);
        let plain = Policy::ttl(Duration::from_secs(60));
        assert_eq!((state(&plain, 59 * SECOND), state(&plain, 60 * SECOND)), (Fresh, Dead));
        assert_eq!(state(&Policy { ttl: None, ..policy() }, NEVER - 1), Fresh);
    }

    #[test]
    fn what_a_tier_behind_gives_lives_no_longer_for_that() {
        let left = policy().lifetime_left(false, (5 * SECOND, 8 * SECOND), 40);
        assert_eq!((left.span.fresh_until, left.span.expires, left.span.load), (5 * SECOND, 8 * SECOND, 40));
        assert_eq!(policy().lifetime_left(true, (5 * SECOND, 8 * SECOND), 0), Lifetime::negative(5 * SECOND));
        let early = Policy { early: 1.0, ..policy() };
        assert_eq!(early.lifetime_left(false, (5 * SECOND, 5 * SECOND), 100).plain_until, 3_600);
    }

    #[test]
    fn an_old_value_of_a_tier_behind_answers_as_one_in_memory_would() {
        let old = |policy: Policy, now: u64| policy.lifetime_of_old((5 * SECOND, 200 * SECOND), 40, now * SECOND);
        let found = old(policy(), 80).unwrap();
        assert_eq!((found.span.retry_at, found.span.expires), (110 * SECOND, 105 * SECOND));
        assert_eq!((found.plain_until, found.how), (105 * SECOND, Served::Stale));
        assert_eq!(old(policy(), 105), None, "its windows are over");
        assert_eq!(old(Policy { on_refresh_error: OnRefreshError::Drop, ..policy() }, 80), None);
        assert_eq!(old(Policy::forever(), 80), None, "it has no windows");
    }

    #[test]
    fn an_old_value_that_answers_while_another_process_loads_lives_no_longer_and_is_looked_at_soon() {
        let meanwhile = |now| policy().lifetime_meanwhile((5 * SECOND, 200 * SECOND), 40, (now, now + 200));
        let stale = meanwhile(6 * SECOND);
        assert_eq!((stale.span.expires, stale.span.retry_at), (105 * SECOND, 6_200));
        assert_eq!((stale.plain_until, stale.how), (6_200, Served::Stale));
        let fresh = meanwhile(4_900);
        assert_eq!((fresh.plain_until, fresh.how), (5 * SECOND, Served::Fresh), "one that is refreshed early");
    }

    #[test]
    fn options_that_cannot_be_are_refused_by_name() {
        let (second, ttl) = (Some(Duration::from_secs(1)), Policy::ttl(Duration::from_secs(60)));
        let bad = [
            (Policy { soft_timeout: second, timeout: second, ..policy() }, "soft_timeout: 1s; give less than timeout"),
            (Policy { soft_timeout: second, ..ttl }, "soft_timeout: 1s; add stale_if_error"),
            (Policy { timeout: Some(Duration::ZERO), ..ttl }, "timeout: 0ns; give more"),
            (Policy { negative_ttl: Some(Duration::ZERO), ..ttl }, "negative_ttl: 0ns; give more"),
            (Policy { wait: Some(Duration::ZERO), ..ttl }, "wait: 0ns; give more"),
            (Policy { jitter: 1.5, ..ttl }, "jitter: 1.5; give"),
            (Policy { jitter: f64::NAN, ..ttl }, "jitter: NaN; give"),
            (Policy { early: -1.0, ..ttl }, "early: -1; give"),
            (Policy { early: f64::INFINITY, ..ttl }, "early: inf; give"),
            (Policy { early: 1.0, ..Policy::forever() }, "early: 1; add a ttl"),
        ];
        for (policy, expected) in bad {
            let text = policy.check().unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
        let good = Policy { soft_timeout: second, timeout: Some(Duration::from_secs(2)), early: 1.0, ..policy() };
        assert_eq!((good.check(), ttl.check(), Policy::forever().check()), (Ok(()), Ok(()), Ok(())));
    }

    #[test]
    fn a_shorter_policy_ends_the_use_of_what_an_earlier_one_stored() {
        let (span, _) = policy().span(policy().ttl, 0, 0, 0.0);
        let shorter = Policy { stale_if_error: Duration::ZERO, ..policy() };
        assert_eq!(shorter.state(&span, 0, 75 * SECOND, || 0.5), State::Dead);
        let longer = Policy { stale_if_error: Duration::from_secs(1_000), ..policy() };
        assert_eq!(longer.state(&span, 0, 161 * SECOND, || 0.5), State::Dead, "it was not kept for that long");
    }

    #[test]
    fn early_refreshes_come_as_often_as_the_paper_says_and_not_before_their_time() {
        let policy = Policy { early: 1.0, ..Policy::ttl(Duration::from_secs(60)) };
        let load = 500;
        let (span, plain_until) = policy.span(policy.ttl, 0, load, 0.0);
        assert_eq!((span.load, plain_until), (500, span.fresh_until - 7_000));
        for before in [100, 500, 2_000, 6_999] {
            let now = span.fresh_until - before;
            let draws = 100_000;
            let drawn = |draw| policy.state(&span, 0, now, || f64::from(draw) / f64::from(draws)) == State::Early;
            let share = (0..draws).filter(|&draw| drawn(draw)).count() as f64 / f64::from(draws);
            let expected = (-(before as f64) / load as f64).exp();
            assert!((share - expected).abs() < 0.001, "{share} {before} ms before, expected {expected}");
        }
        let never = || -> f64 { panic!("nothing is drawn so long before") };
        assert_eq!(policy.state(&span, 0, plain_until - 1, never), State::Fresh);
        let calm = Policy { min_refresh_interval: Duration::from_secs(120), ..policy };
        assert_eq!(calm.state(&span, 0, span.fresh_until - 1, || 0.999_999_999), State::Fresh);
    }
}
