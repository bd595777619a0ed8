//! The breaker alone: its rules by name, then random histories against a model that remembers every call.

use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn breaker(change: impl FnOnce(&mut BreakerConfig)) -> Breaker {
    let mut config = BreakerConfig { minimum_calls: 4, ..BreakerConfig::default() };
    change(&mut config);
    Breaker::new(config).unwrap()
}

fn call(breaker: &mut Breaker, now: Millis, outcome: Outcome) {
    let permit = breaker.ask(now).expect("calls are let through");
    breaker.report(permit, now, outcome, Duration::ZERO);
}

fn opened(at: Millis, change: impl FnOnce(&mut BreakerConfig)) -> Breaker {
    let mut breaker = breaker(change);
    (0..4).for_each(|_| call(&mut breaker, at, Outcome::Failed));
    assert_eq!(breaker.state(at), BreakerState::Open);
    breaker
}

#[test]
fn half_of_the_calls_failing_opens_it_once_there_are_enough() {
    let mut breaker = breaker(|_| ());
    for outcome in [Outcome::Failed, Outcome::Answered, Outcome::Failed] {
        call(&mut breaker, 0, outcome);
        assert_eq!(breaker.state(0), BreakerState::Closed);
    }
    call(&mut breaker, 0, Outcome::Answered);
    assert_eq!(breaker.state(0), BreakerState::Open);
}

#[test]
fn failures_that_have_left_the_window_do_not_count() {
    let mut breaker = breaker(|_| ());
    (0..3).for_each(|_| call(&mut breaker, 0, Outcome::Failed));
    call(&mut breaker, 30_000, Outcome::Failed);
    assert_eq!(breaker.counts(30_000), Counts { calls: 1, failures: 1, slow: 0 });
    assert_eq!(breaker.state(30_000), BreakerState::Closed);
}

#[test]
fn an_open_breaker_lets_nothing_through_and_says_for_how_long() {
    let mut breaker = opened(0, |_| ());
    assert_eq!(breaker.ask(4_000), Err(6 * SECOND));
    assert_eq!(breaker.ask(9_999), Err(SECOND / 1000));
    assert_eq!((breaker.refused(), breaker.opened()), (2, 1));
}

#[test]
fn probes_that_go_well_close_it_and_one_that_does_not_opens_it_again() {
    let mut breaker = opened(0, |config| config.probes = 2);
    let (first, second) = (breaker.ask(10_000).unwrap(), breaker.ask(10_000).unwrap());
    assert_eq!(breaker.ask(10_000), Err(10 * SECOND), "two probes are under way");
    breaker.report(first, 10_001, Outcome::Answered, Duration::ZERO);
    assert_eq!(breaker.state(10_001), BreakerState::HalfOpen);
    assert!(breaker.ask(10_001).is_err(), "one is still under way, and one went well");
    let mut other = breaker.clone();
    breaker.report(second, 10_002, Outcome::Answered, Duration::ZERO);
    assert_eq!(breaker.state(10_002), BreakerState::Closed);
    other.report(second, 10_002, Outcome::Failed, Duration::ZERO);
    assert_eq!((other.state(10_002), other.opened()), (BreakerState::Open, 2));
}

#[test]
fn a_probe_that_never_reports_has_failed_when_its_time_is_over() {
    let mut breaker = opened(0, |config| config.probe_timeout = 3 * SECOND);
    let lost = breaker.ask(10_000).unwrap();
    assert_eq!(breaker.state(12_999), BreakerState::HalfOpen);
    assert_eq!(breaker.state(13_000), BreakerState::Open);
    breaker.report(lost, 13_001, Outcome::Answered, 3 * SECOND);
    assert_eq!(breaker.state(13_001), BreakerState::Open, "too late");
    assert!(breaker.ask(23_000).is_ok(), "and the next one may try");
}

#[test]
fn an_abandoned_probe_makes_room_for_another() {
    let mut breaker = opened(0, |_| ());
    let gone = breaker.ask(10_000).unwrap();
    assert!(breaker.ask(10_000).is_err());
    breaker.report(gone, 10_500, Outcome::Abandoned, SECOND / 2);
    breaker.report(gone, 10_500, Outcome::Failed, SECOND / 2);
    assert_eq!(breaker.state(10_500), BreakerState::HalfOpen, "a permit is good for one report");
    call(&mut breaker, 10_500, Outcome::Answered);
    assert_eq!(breaker.state(10_500), BreakerState::Closed);
}

#[test]
fn slow_calls_open_it_even_if_they_succeed_or_are_given_up() {
    let limit = |config: &mut BreakerConfig| config.slow_call = Some(SECOND);
    for outcome in [Outcome::Answered, Outcome::Abandoned] {
        let mut breaker = breaker(limit);
        for took in [SECOND / 2, SECOND / 2, SECOND, 2 * SECOND] {
            let permit = breaker.ask(0).unwrap();
            breaker.report(permit, 0, outcome, took);
        }
        let expected = if outcome == Outcome::Answered { BreakerState::Open } else { BreakerState::Closed };
        assert_eq!(breaker.state(0), expected, "four calls of which two were slow, or two calls");
    }
    let mut breaker = opened(0, limit);
    let probe = breaker.ask(10_000).unwrap();
    breaker.report(probe, 11_000, Outcome::Answered, SECOND);
    assert_eq!(breaker.state(11_000), BreakerState::Open, "a slow probe has not gone well");
}

#[test]
fn a_call_from_before_says_nothing_about_now() {
    let mut breaker = breaker(|_| ());
    let early = breaker.ask(0).unwrap();
    (0..4).for_each(|_| call(&mut breaker, 0, Outcome::Failed));
    assert_eq!(breaker.state(10_000), BreakerState::HalfOpen);
    breaker.report(early, 10_000, Outcome::Failed, 10 * SECOND);
    assert_eq!(breaker.state(10_000), BreakerState::HalfOpen);
    breaker.report(early, 10_000, Outcome::Answered, 10 * SECOND);
    assert_eq!(breaker.state(10_000), BreakerState::HalfOpen);
}

#[test]
fn a_clock_that_goes_back_takes_the_state_with_it() {
    let mut breaker = opened(5_000_000, |_| ());
    assert_eq!(breaker.ask(1_000), Err(10 * SECOND));
    assert_eq!(breaker.state(11_000), BreakerState::HalfOpen);
}

#[test]
fn a_forked_child_waits_for_no_probe_of_its_parent() {
    let mut breaker = opened(0, |_| ());
    let parents = breaker.ask(10_000).unwrap();
    breaker.forget_calls();
    let own = breaker.ask(10_000).unwrap();
    breaker.report(parents, 10_000, Outcome::Failed, Duration::ZERO);
    breaker.report(own, 10_000, Outcome::Answered, Duration::ZERO);
    assert_eq!(breaker.state(10_000), BreakerState::Closed);
}

#[test]
fn what_cannot_be_is_refused_with_the_option_and_the_cure() {
    type Change = fn(&mut BreakerConfig);
    let refused: [(Change, &str); 8] = [
        (|config| config.failure_rate = 0.0, "failure_rate: 0; give a share"),
        (|config| config.slow_rate = f64::NAN, "slow_rate: NaN; give a share"),
        (|config| config.minimum_calls = 0, "minimum_calls: 0; give 1"),
        (|config| config.probes = 0, "probes: 0; give 1"),
        (|config| config.window = SECOND / 200, "window: 5ms; give 10 ms"),
        (|config| config.slow_call = Some(Duration::ZERO), "slow_call: 0 s; give a duration"),
        (|config| config.open_for = Duration::ZERO, "open_for: 0 s; give a duration"),
        (|config| config.probe_timeout = Duration::ZERO, "probe_timeout: 0 s; give a duration"),
    ];
    for (change, message) in refused {
        let mut config = BreakerConfig::default();
        change(&mut config);
        let error = Breaker::new(config).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

/// Remembers every call since the breaker last closed, and recounts them all each time.
struct Model {
    config: BreakerConfig,
    /// When each call ended, whether it failed, whether it was slow.
    calls: Vec<(Millis, bool, bool)>,
    /// Since when it is not closed.
    open_since: Option<Millis>,
    /// How often it closed.
    closed: usize,
    /// Probes since it is half-open: number, when it began, whether it went well already.
    probes: Vec<(usize, Millis, bool)>,
}

impl Model {
    fn state(&mut self, now: Millis) -> BreakerState {
        let patience = millis(self.config.probe_timeout);
        let running = self.probes.iter().filter(|probe| !probe.2);
        if let Some(ends) = running.map(|probe| probe.1 + patience).filter(|&ends| ends <= now).min() {
            self.open(ends);
        }
        match self.open_since {
            None => BreakerState::Closed,
            Some(since) if now < since + millis(self.config.open_for) => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    fn open(&mut self, now: Millis) {
        self.open_since = Some(now);
        self.probes.clear();
    }

    fn counts(&mut self, now: Millis) -> Counts {
        let closed = self.state(now) == BreakerState::Closed;
        let bucket = |moment: Millis| moment / (millis(self.config.window) / 10);
        let recent: Vec<_> = self.calls.iter().filter(|call| closed && bucket(now) - bucket(call.0) < 10).collect();
        let count = |which: fn(&&&(Millis, bool, bool)) -> bool| recent.iter().filter(which).count() as u32;
        Counts { calls: recent.len() as u32, failures: count(|call| call.1), slow: count(|call| call.2) }
    }

    /// Begins a call; false if it is not let through.
    fn begin(&mut self, now: Millis, number: usize) -> bool {
        match self.state(now) {
            BreakerState::Closed => true,
            BreakerState::HalfOpen if self.probes.len() < self.config.probes as usize => {
                self.probes.push((number, now, false));
                true
            }
            _ => false,
        }
    }

    /// Ends a call that began when the breaker had closed so often, or is a probe.
    fn end(&mut self, now: Millis, number: usize, closed: Option<usize>, outcome: Outcome, took: Duration) {
        let state = self.state(now);
        let slow = self.config.slow_call.is_some_and(|limit| took >= limit);
        let failed = outcome == Outcome::Failed;
        let counts = outcome != Outcome::Abandoned || slow;
        let probe = self.probes.iter().position(|probe| probe.0 == number);
        if state == BreakerState::Closed && closed == Some(self.closed) && counts {
            self.calls.push((now, failed, slow));
            let sum = self.counts(now);
            let half = |count: u32| count * 2 >= sum.calls;
            if sum.calls >= self.config.minimum_calls && (half(sum.failures) || half(sum.slow)) {
                self.open(now);
            }
        } else if let Some(probe) = probe.filter(|_| state == BreakerState::HalfOpen) {
            if !counts {
                self.probes.remove(probe);
            } else if failed || slow {
                self.open(now);
            } else {
                self.probes[probe].2 = true;
                if self.probes.iter().filter(|probe| probe.2).count() == self.config.probes as usize {
                    (self.calls, self.open_since, self.probes) = (Vec::new(), None, Vec::new());
                    self.closed += 1;
                }
            }
        }
    }
}

fn millis(duration: Duration) -> Millis {
    duration.as_millis() as Millis
}

#[derive(Clone, Debug)]
enum Step {
    Wait(Millis),
    Begin,
    End(usize, Outcome),
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        5 => Just(Outcome::Answered),
        4 => Just(Outcome::Failed),
        1 => Just(Outcome::Abandoned),
    ];
    let step = prop_oneof![
        4 => (0..120_u64).prop_map(Step::Wait),
        1 => (0..1500_u64).prop_map(Step::Wait),
        6 => Just(Step::Begin),
        6 => (0..8_usize, outcome).prop_map(|(which, outcome)| Step::End(which, outcome)),
        1 => Just(Step::Look),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    #[test]
    fn the_breaker_does_what_a_model_that_remembers_everything_does(steps in steps(), probes in 1..4_u32) {
        let config = BreakerConfig {
            slow_call: Some(millis_of(200)),
            window: millis_of(1000),
            minimum_calls: 5,
            open_for: millis_of(300),
            probes,
            probe_timeout: millis_of(400),
            ..BreakerConfig::default()
        };
        let mut breaker = Breaker::new(config).unwrap();
        let mut model = Model { config, calls: Vec::new(), open_since: None, closed: 0, probes: Vec::new() };
        let (mut now, mut begun) = (10_000, 0);
        let mut running = Vec::new();
        for step in steps {
            match step {
                Step::Wait(time) => now += time,
                Step::Begin => {
                    begun += 1;
                    let permit = breaker.ask(now);
                    prop_assert_eq!(permit.is_ok(), model.begin(now, begun));
                    let closed = (model.state(now) == BreakerState::Closed).then_some(model.closed);
                    running.extend(permit.ok().map(|permit| (permit, begun, now, closed)));
                }
                Step::End(which, outcome) if !running.is_empty() => {
                    let (permit, number, began, closed) = running.swap_remove(which % running.len());
                    breaker.report(permit, now, outcome, millis_of(now - began));
                    model.end(now, number, closed, outcome, millis_of(now - began));
                }
                Step::End(..) | Step::Look => {}
            }
            prop_assert_eq!(breaker.state(now), model.state(now));
            prop_assert_eq!(breaker.counts(now), model.counts(now));
        }
    }

    #[test]
    fn looking_changes_nothing(steps in steps()) {
        let config = BreakerConfig { minimum_calls: 3, window: millis_of(1000), open_for: millis_of(300),
            probe_timeout: millis_of(400), ..BreakerConfig::default() };
        let (mut watched, mut alone) = (Breaker::new(config).unwrap(), Breaker::new(config).unwrap());
        let (mut now, mut running) = (10_000, Vec::new());
        for step in steps {
            match step {
                Step::Wait(time) => {
                    (now..now + time).step_by(7).for_each(|moment| _ = watched.state(moment));
                    now += time;
                }
                Step::Begin => {
                    let (permit, same) = (watched.ask(now), alone.ask(now));
                    prop_assert_eq!(permit.is_ok(), same.is_ok());
                    running.extend(permit.ok().zip(same.ok()));
                }
                Step::End(which, outcome) if !running.is_empty() => {
                    let (permit, same) = running.swap_remove(which % running.len());
                    watched.report(permit, now, outcome, Duration::ZERO);
                    alone.report(same, now, outcome, Duration::ZERO);
                }
                Step::End(..) | Step::Look => {}
            }
            prop_assert_eq!((watched.counts(now), watched.opened()), (alone.counts(now), alone.opened()));
        }
    }
}

fn millis_of(millis: Millis) -> Duration {
    Duration::from_millis(millis)
}
