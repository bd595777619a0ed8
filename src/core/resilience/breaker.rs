//! Circuit breaker: a loader that keeps failing, or is slow, is not called for a while; then a few probes try it.
//!
//! The window is one of *time*, ten buckets that pass one after the other, and not one of the last n calls: a good cache
//! calls its loader rarely, and what happened an hour ago says nothing about now. `minimum_calls` keeps few calls from
//! deciding. The states are those of M. Nygard's "Release It!" (2007).
//!
//! The state is a function of what was reported and of the time, never of who looked when: nothing waits for a timer, and
//! a probe that does not report within its time counts as failed, so none can hold the breaker half-open for ever. A
//! report about a call that began in an earlier state is ignored.

use crate::core::clock::{Millis, deadline};
use crate::error::{Error, Result};
use std::time::Duration;

/// What opens a breaker, for how long, and what closes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerConfig {
    /// Opens when this share of the calls in the window failed, above 0 up to 1.
    pub failure_rate: f64,
    /// Opens when this share of the calls in the window was slow, above 0 up to 1.
    pub slow_rate: f64,
    /// A call is slow from this duration on; `None` counts none.
    pub slow_call: Option<Duration>,
    /// How far back it looks: nine to ten tenths of this.
    pub window: Duration,
    /// Fewer calls in the window than this decide nothing.
    pub minimum_calls: u32,
    /// How long no call is let through.
    pub open_for: Duration,
    /// How many calls are let through then; when all of them went well, it closes.
    pub probes: u32,
    /// A probe that has not reported by then has failed.
    pub probe_timeout: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        BreakerConfig {
            failure_rate: 0.5,
            slow_rate: 0.5,
            slow_call: None,
            window: Duration::from_secs(30),
            minimum_calls: 10,
            open_for: Duration::from_secs(10),
            probes: 1,
            probe_timeout: Duration::from_secs(10),
        }
    }
}

impl BreakerConfig {
    fn check(&self) -> Result<()> {
        for (option, rate) in [("failure_rate", self.failure_rate), ("slow_rate", self.slow_rate)] {
            if !(rate > 0.0 && rate <= 1.0) {
                return Err(Error::config(option, rate.to_string(), "give a share above 0 up to 1, such as 0.5"));
            }
        }
        for (option, count) in [("minimum_calls", self.minimum_calls), ("probes", self.probes)] {
            if count == 0 {
                return Err(Error::config(option, "0", "give 1 or more"));
            }
        }
        let shortest = Duration::from_millis(BUCKETS);
        if self.window < shortest {
            return Err(Error::config("window", format!("{:?}", self.window), "give 10 ms or more, such as '30s'"));
        }
        let times = [("slow_call", self.slow_call), ("open_for", Some(self.open_for))];
        for (option, time) in times.into_iter().chain([("probe_timeout", Some(self.probe_timeout))]) {
            if time.is_some_and(|time| time.is_zero()) {
                return Err(Error::config(option, "0 s", "give a duration above zero, such as '10s'"));
            }
        }
        Ok(())
    }
}

/// Whether calls are let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// All are.
    Closed,
    /// None is.
    Open,
    /// Probes are.
    HalfOpen,
}

/// The right to make one call, to be given back with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    era: u64,
    /// Numbers the probes of an era; 0 for calls of a closed breaker.
    probe: u32,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a value, or an error that says nothing against the loader.
    Answered,
    /// With an error that counts.
    Failed,
    /// Without either: it was cancelled, or the loader was not reached. Counts if it was slow already.
    Abandoned,
}

/// Calls in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that ended.
    pub calls: u32,
    /// Those that failed.
    pub failures: u32,
    /// Those that were slow, failed or not.
    pub slow: u32,
}

const BUCKETS: u64 = 10;

/// The last ten stretches of time, each known by its number since the clock's zero.
#[derive(Clone, Debug, Default)]
struct Window {
    width: Millis,
    buckets: [(u64, Counts); BUCKETS as usize],
}

impl Window {
    fn new(span: Duration) -> Self {
        Window { width: deadline(0, Some(span)).div_ceil(BUCKETS), ..Window::default() }
    }

    fn add(&mut self, now: Millis, failed: bool, slow: bool) {
        let number = now / self.width;
        let (held, counts) = &mut self.buckets[(number % BUCKETS) as usize];
        if *held != number {
            (*held, *counts) = (number, Counts::default());
        }
        counts.calls = counts.calls.saturating_add(1);
        counts.failures += u32::from(failed);
        counts.slow += u32::from(slow);
    }

    fn sum(&self, now: Millis) -> Counts {
        let newest = now / self.width;
        let recent = self.buckets.iter().filter(|(number, _)| *number <= newest && number + BUCKETS > newest);
        recent.fold(Counts::default(), |sum, (_, counts)| Counts {
            calls: sum.calls.saturating_add(counts.calls),
            failures: sum.failures.saturating_add(counts.failures),
            slow: sum.slow.saturating_add(counts.slow),
        })
    }
}

#[derive(Clone, Debug)]
enum Phase {
    Closed,
    Open { until: Millis },
    HalfOpen { probes: Vec<(u32, Millis)>, asked: u32, good: u32 },
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Breaker {
    config: BreakerConfig,
    phase: Phase,
    /// Empty unless it is closed.
    window: Window,
    /// Counts changes of the phase.
    era: u64,
    /// The state that [`turned`](Self::turned) told last.
    told: BreakerState,
    seen: Millis,
    opened: u64,
    refused: u64,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(config: BreakerConfig) -> Result<Self> {
        config.check()?;
        let window = Window::new(config.window);
        Ok(Breaker {
            config,
            phase: Phase::Closed,
            window,
            era: 0,
            told: BreakerState::Closed,
            seen: 0,
            opened: 0,
            refused: 0,
        })
    }

    /// Asks to make a call; refused with the time after which it is worth asking again.
    pub fn ask(&mut self, now: Millis) -> Result<Permit, Duration> {
        self.turn(now);
        let (era, config) = (self.era, &self.config);
        let again = match &mut self.phase {
            Phase::Closed => return Ok(Permit { era, probe: 0 }),
            Phase::Open { until } => *until,
            Phase::HalfOpen { probes, asked, good } => {
                if probes.len() + (*good as usize) < config.probes as usize {
                    *asked = asked.wrapping_add(1);
                    probes.push((*asked, deadline(now, Some(config.probe_timeout))));
                    return Ok(Permit { era, probe: *asked });
                }
                probes.iter().map(|&(_, ends)| ends).min().unwrap_or(now)
            }
        };
        self.refused += 1;
        Err(Duration::from_millis(again.saturating_sub(now)))
    }

    /// Tells how a call ended that took `took`.
    pub fn report(&mut self, permit: Permit, now: Millis, outcome: Outcome, took: Duration) {
        self.turn(now);
        if permit.era != self.era {
            return;
        }
        let failed = outcome == Outcome::Failed;
        let slow = self.config.slow_call.is_some_and(|limit| took >= limit);
        let counts = failed || slow || outcome == Outcome::Answered;
        match &mut self.phase {
            Phase::Closed if counts => {
                self.window.add(now, failed, slow);
                if self.is_too_much(self.window.sum(now)) {
                    self.open(now);
                }
            }
            Phase::HalfOpen { probes, good, .. } => {
                let before = probes.len();
                probes.retain(|&(probe, _)| probe != permit.probe);
                if probes.len() == before || !counts {
                    return;
                }
                if failed || slow {
                    self.open(now);
                    return;
                }
                *good += 1;
                if *good == self.config.probes {
                    self.close();
                }
            }
            Phase::Closed | Phase::Open { .. } => {}
        }
    }

    fn is_too_much(&self, sum: Counts) -> bool {
        let share = |count: u32| f64::from(count) / f64::from(sum.calls);
        sum.calls >= self.config.minimum_calls
            && (share(sum.failures) >= self.config.failure_rate || share(sum.slow) >= self.config.slow_rate)
    }

    /// Whether calls are let through.
    pub fn state(&mut self, now: Millis) -> BreakerState {
        self.turn(now);
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// The state, if it is another than when this was last asked.
    pub fn turned(&mut self, now: Millis) -> Option<BreakerState> {
        let state = self.state(now);
        (std::mem::replace(&mut self.told, state) != state).then_some(state)
    }

    /// The calls in the window; none unless the breaker is closed.
    pub fn counts(&mut self, now: Millis) -> Counts {
        self.turn(now);
        self.window.sum(now)
    }

    /// How often it opened since it was made.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// How many calls were refused since it was made.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// What it was made with.
    pub fn config(&self) -> &BreakerConfig {
        &self.config
    }

    /// Closes it, whatever it was, and forgets what it counted.
    pub fn reset(&mut self) {
        self.close();
    }

    /// Forgets the calls under way: in a forked child they will never report.
    pub fn forget_calls(&mut self) {
        self.era += 1;
        if let Phase::HalfOpen { probes, .. } = &mut self.phase {
            probes.clear();
        }
    }

    /// Makes the changes that time alone brings.
    fn turn(&mut self, now: Millis) {
        if now < self.seen {
            self.go_back(self.seen - now);
        }
        self.seen = now;
        // At most twice: a probe is overdue, and what that opened has been open long enough since.
        loop {
            match &self.phase {
                Phase::Open { until } if *until <= now => {
                    self.enter(Phase::HalfOpen { probes: Vec::new(), asked: 0, good: 0 });
                }
                Phase::HalfOpen { probes, .. } => {
                    let overdue = probes.iter().map(|&(_, ends)| ends).filter(|&ends| ends <= now).min();
                    let Some(overdue) = overdue else { return };
                    self.open(overdue);
                }
                _ => return,
            }
        }
    }

    /// A test that had stopped the clock lets it run again: the state goes back with it, the window starts anew.
    fn go_back(&mut self, by: Millis) {
        match &mut self.phase {
            Phase::Closed => self.window = Window::new(self.config.window),
            Phase::Open { until } => *until = until.saturating_sub(by),
            Phase::HalfOpen { probes, .. } => {
                probes.iter_mut().for_each(|(_, ends)| *ends = ends.saturating_sub(by));
            }
        }
    }

    fn open(&mut self, now: Millis) {
        self.opened += 1;
        self.enter(Phase::Open { until: deadline(now, Some(self.config.open_for)) });
    }

    fn close(&mut self) {
        self.enter(Phase::Closed);
    }

    fn enter(&mut self, phase: Phase) {
        self.era += 1;
        self.phase = phase;
        self.window = Window::new(self.config.window);
    }
}

#[cfg(test)]
mod tests;
