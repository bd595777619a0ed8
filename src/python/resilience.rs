//! The machines of `core::resilience` as Python objects: they read the clock, throw the dice and lock. They decide nothing.
//!
//! `samovar.resilience` drives them: it waits, calls and reports. Each is shared by any number of functions, threads and
//! event loops. A forked child starts with no call under way.

use super::guarded::Guarded;
use super::lease;
use super::options::{refuse, time};
use super::state::State;
use super::tier::Object;
use super::{StateHandle, clock, errors};
use crate::core::draw::unit;
use crate::core::flight::{Asker, Hold, Who};
use crate::core::resilience::{
    Breaker, BreakerConfig, BreakerState, Concurrency, Entered, Outcome, Permit, Rate, Retry, Slot, Ticket, parse_rate,
};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const TIME: &str = "give seconds above zero, a timedelta, or a text such as '250ms' or '30s'";

/// Counts the forks that led to this process.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// In a forked child: the calls of the parent will never report here.
pub fn forget_motion() {
    FORKS.fetch_add(1, Relaxed);
}

fn now() -> u64 {
    clock::shared().now()
}

/// A duration above zero in whole milliseconds, at least one.
#[pyfunction]
pub fn _duration_millis(value: &Bound<'_, PyAny>, option: &str) -> PyResult<u64> {
    Ok(millis(time(value, option, TIME)?))
}

/// Rounded up: who waits for so long finds that the moment has come.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Whether and when to try again.
#[pyclass(frozen, module = "samovar._core")]
pub struct RetryCore {
    retry: Retry,
    calls: AtomicU64,
    retries: AtomicU64,
    given_up: AtomicU64,
}

impl RetryCore {
    /// What it decides with.
    pub fn retry(&self) -> Retry {
        self.retry
    }
}

#[pymethods]
impl RetryCore {
    #[new]
    fn new(attempts: u32, base: &Bound<'_, PyAny>, cap: &Bound<'_, PyAny>) -> PyResult<Self> {
        let retry = Retry::new(attempts, time(base, "base", TIME)?, time(cap, "cap", TIME)?)?;
        Ok(RetryCore { retry, calls: 0.into(), retries: 0.into(), given_up: 0.into() })
    }

    /// Counts a call.
    fn begin(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    /// The pause in seconds after so many failed attempts, or None to give up. The deadline is one of `_clock_millis`.
    fn pause(&self, failed: u32, deadline: Option<u64>) -> Option<f64> {
        // Without a random source every pause is the longest: slower, and never a stampede sooner.
        let draw = getrandom::u64().map_or(1.0, unit);
        let pause = self.retry.pause(failed, draw, now(), deadline.unwrap_or(u64::MAX));
        let counter = if pause.is_some() { &self.retries } else { &self.given_up };
        counter.fetch_add(1, Relaxed);
        pause.map(|pause| pause.as_secs_f64())
    }

    /// Calls, further attempts, and calls that were given up.
    fn counted(&self) -> (u64, u64, u64) {
        (self.calls.load(Relaxed), self.retries.load(Relaxed), self.given_up.load(Relaxed))
    }
}

struct Guard<T> {
    machine: T,
    forks: u64,
}

impl<T> Guard<T> {
    fn new(machine: T) -> Guarded<Self> {
        Guarded::new(Guard { machine, forks: FORKS.load(Relaxed) })
    }

    /// True once after each fork.
    fn is_forked(&mut self) -> bool {
        std::mem::replace(&mut self.forks, FORKS.load(Relaxed)) != self.forks
    }
}

/// Whether to call at all.
#[pyclass(frozen, module = "samovar._core")]
pub struct BreakerCore(Guarded<Guard<Breaker>>);

/// The right to make one call.
#[pyclass(frozen, module = "samovar._core")]
pub struct CallPermit(Permit);

impl BreakerCore {
    fn with<R>(&self, ask: impl FnOnce(&mut Breaker, u64) -> R) -> R {
        let mut guard = self.0.lock();
        if guard.is_forked() {
            guard.machine.forget_calls();
        }
        ask(&mut guard.machine, now())
    }
}

#[pymethods]
impl BreakerCore {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "one for each option")]
    fn new(
        failure_rate: &Bound<'_, PyAny>,
        slow_rate: &Bound<'_, PyAny>,
        slow_call: Option<&Bound<'_, PyAny>>,
        window: &Bound<'_, PyAny>,
        minimum_calls: u32,
        open_for: &Bound<'_, PyAny>,
        probes: u32,
        probe_timeout: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let config = BreakerConfig {
            failure_rate: share(failure_rate, "failure_rate")?,
            slow_rate: share(slow_rate, "slow_rate")?,
            slow_call: slow_call.map(|slow| time(slow, "slow_call", TIME)).transpose()?,
            window: time(window, "window", TIME)?,
            minimum_calls,
            open_for: time(open_for, "open_for", TIME)?,
            probes,
            probe_timeout: time(probe_timeout, "probe_timeout", TIME)?,
        };
        Ok(BreakerCore(Guard::new(Breaker::new(config)?)))
    }

    /// The right to call, or CircuitOpen.
    fn ask(&self, py: Python<'_>, name: &str) -> PyResult<CallPermit> {
        let (answer, state) = self.with(|breaker, now| (breaker.ask(now), breaker.state(now)));
        answer.map(CallPermit).map_err(|again| {
            let is = if state == BreakerState::Open { "is open" } else { "waits for its probes" };
            let text = format!(
                "the circuit breaker of {name} {is}: too many calls failed or were slow; nothing was called, \
                 ask again in {:.3} s",
                again.as_secs_f64()
            );
            errors::not_called(py, "CircuitOpen", text, Some(again))
        })
    }

    /// How a call ended that took so many milliseconds: answered (True), failed (False) or neither (None).
    fn report(&self, permit: &CallPermit, answered: Option<bool>, took: u64) {
        let outcome = match answered {
            Some(true) => Outcome::Answered,
            Some(false) => Outcome::Failed,
            None => Outcome::Abandoned,
        };
        self.with(|breaker, now| breaker.report(permit.0, now, outcome, Duration::from_millis(took)));
    }

    /// "closed", "open" or "half_open".
    fn state(&self) -> &'static str {
        state_name(self.with(|breaker, now| breaker.state(now)))
    }

    /// The same, if it is another than when this was last asked.
    fn turned(&self) -> Option<&'static str> {
        self.with(|breaker, now| breaker.turned(now)).map(state_name)
    }

    /// Calls, failures and slow calls in the window; refused calls and openings since the start.
    fn counted(&self) -> (u32, u32, u32, u64, u64) {
        self.with(|breaker, now| {
            let counts = breaker.counts(now);
            (counts.calls, counts.failures, counts.slow, breaker.refused(), breaker.opened())
        })
    }

    /// Closes it and forgets what it counted.
    fn reset(&self) {
        self.with(|breaker, _| breaker.reset());
    }
}

const fn state_name(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => "closed",
        BreakerState::Open => "open",
        BreakerState::HalfOpen => "half_open",
    }
}

fn share(value: &Bound<'_, PyAny>, option: &str) -> PyResult<f64> {
    let cure = "give a share above 0 up to 1, such as 0.5";
    let number = value.extract::<f64>().map_err(|_| refuse(value, option, cure))?;
    if value.is_instance_of::<pyo3::types::PyBool>() { Err(refuse(value, option, cure)) } else { Ok(number) }
}

/// When to call.
#[pyclass(frozen, module = "samovar._core")]
pub struct RateCore {
    rate: Guarded<Rate>,
    patience: Duration,
    text: String,
}

/// The turn of a call that has to wait for it.
#[pyclass(frozen, module = "samovar._core")]
pub struct CallSlot(Slot);

#[pymethods]
impl CallSlot {
    /// Seconds until it may start.
    #[getter]
    fn wait(&self) -> f64 {
        self.0.wait.as_secs_f64()
    }
}

#[pymethods]
impl RateCore {
    #[new]
    fn new(rate: &Bound<'_, PyAny>, burst: Option<u32>, wait: &Bound<'_, PyAny>) -> PyResult<Self> {
        let cure = "give calls and time, such as '100/s', '5/m' or '20/10s'";
        let text = rate.extract::<String>().map_err(|_| refuse(rate, "rate", cure))?;
        let (count, period) = parse_rate(&text, "rate")?;
        let none = wait.eq(0)? && !wait.is_instance_of::<pyo3::types::PyBool>();
        let patience = if none { Duration::ZERO } else { time(wait, "wait", TIME)? };
        Ok(RateCore { rate: Guarded::new(Rate::new(count, period, burst)?), patience, text })
    }

    /// None to start at once, or the turn to wait for, or RateLimited. Nobody waits beyond the deadline.
    fn take(&self, py: Python<'_>, name: &str, deadline: Option<u64>) -> PyResult<Option<CallSlot>> {
        let taken = {
            let mut rate = self.rate.lock();
            let now = now();
            let left = deadline.map(|deadline| Duration::from_millis(deadline.saturating_sub(now)));
            rate.take(now, left.map_or(self.patience, |left| left.min(self.patience)))
        };
        match taken {
            Ok(slot) => Ok((!slot.wait.is_zero()).then_some(CallSlot(slot))),
            Err(wait) => {
                // Whole milliseconds, rounded up: the clock of a test can be moved by this and then has come far enough.
                let again = Duration::from_millis(millis(wait));
                let text = format!(
                    "the rate limit of {name}, {}, is used up; nothing was called, ask again in {:.3} s",
                    self.text,
                    again.as_secs_f64()
                );
                Err(errors::not_called(py, "RateLimited", text, Some(again)))
            }
        }
    }

    /// Gives back a turn that was not used.
    fn give_back(&self, slot: &CallSlot) {
        self.rate.lock().give_back(slot.0);
    }

    /// How many may start now, and how many at once at all.
    fn available(&self) -> (u32, u32) {
        let mut rate = self.rate.lock();
        (rate.available(now()), rate.burst())
    }

    /// Calls that got a turn, and calls that were refused.
    fn counted(&self) -> (u64, u64) {
        self.rate.lock().counted()
    }
}

/// How many call at once. Who holds its permits and who waits for them is part of the graph of waits, all in one step: the
/// interpreter is held.
#[pyclass(frozen, module = "samovar._core")]
pub struct ConcurrencyCore {
    machine: Guarded<Guard<Concurrency<Object, ()>>>,
    state: &'static State,
    /// What the graph knows it by.
    number: u64,
}

/// Limits made in this process or in one it was forked from.
static LIMITS: AtomicU64 = AtomicU64::new(0);

/// A place among those who run or wait.
#[pyclass(frozen, module = "samovar._core")]
pub struct CallTicket {
    ticket: Ticket,
    hold: Hold,
    state: &'static State,
}

#[pymethods]
impl CallTicket {
    /// The code that runs here is part of this call until the token that is returned says otherwise.
    fn begin<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        lease::holds(py, self.state, self.hold)
    }
}

impl ConcurrencyCore {
    fn with<R>(&self, ask: impl FnOnce(&mut Concurrency<Object, ()>) -> R) -> R {
        let gone = {
            let mut guard = self.machine.lock();
            if guard.is_forked() { guard.machine.forget_calls() } else { Vec::new() }
        };
        drop(gone);
        ask(&mut self.machine.lock().machine)
    }

    fn hold(&self, ticket: Ticket) -> Hold {
        Hold { limit: self.number, call: ticket.number() }
    }

    fn ticket(&self, ticket: Ticket) -> CallTicket {
        CallTicket { ticket, hold: self.hold(ticket), state: self.state }
    }
}

impl Drop for ConcurrencyCore {
    fn drop(&mut self) {
        self.state.waits.lock().forget(self.number);
    }
}

#[pymethods]
impl ConcurrencyCore {
    #[new]
    fn new(state: &Bound<'_, StateHandle>, limit: u32, queue: u32) -> PyResult<Self> {
        let machine = Guard::new(Concurrency::new(limit, queue)?);
        Ok(ConcurrencyCore { machine, state: state.get().0, number: LIMITS.fetch_add(1, Relaxed) })
    }

    /// The place of a call that runs at once on this thread, or None.
    fn try_enter(&self, thread: u64) -> Option<CallTicket> {
        let ticket = self.with(|limit| limit.try_enter(()))?;
        self.state.waits.lock().hold(self.hold(ticket), thread);
        Some(self.ticket(ticket))
    }

    /// The place of a call on a thread that blocks while it waits, or does not, and whether it runs; else `wake` is called, by
    /// any thread, once it does.
    fn enter(
        &self,
        py: Python<'_>,
        thread: u64,
        blocks: bool,
        wake: Object,
        name: &str,
    ) -> PyResult<(CallTicket, bool)> {
        let mut who = lease::who_is_here(py, self.state)?;
        who.extend(blocks.then_some(Who::Thread(thread)));
        let asker = Asker { who, thread, name: name.to_owned() };
        let vain = self.state.waits.lock().is_in_vain(self.number, &asker);
        let (entered, (limit, queue)) = self.with(|limit| (limit.enter((), wake, |(), ()| vain), limit.limits()));
        match entered {
            Entered::Runs(ticket) => {
                self.state.waits.lock().hold(self.hold(ticket), thread);
                Ok((self.ticket(ticket), true))
            }
            Entered::Waits(ticket) => {
                self.state.waits.lock().ask(self.hold(ticket), asker);
                Ok((self.ticket(ticket), false))
            }
            Entered::Full(_wake) => {
                let text = format!(
                    "the concurrency limit of {name} is used up: {limit} calls run and {queue} wait; \
                     nothing was called, ask again later"
                );
                Err(errors::not_called(py, "RateLimited", text, None))
            }
            Entered::Circle(_wake) => {
                let text = format!(
                    "{name} would wait for itself: the concurrency limit lets {limit} calls run, and all of them are made \
                     by the caller, or wait for it; raise the limit, or do not call it from within itself"
                );
                Err(errors::waits_for_itself(py, text))
            }
        }
    }

    /// Leaves, from wherever it is, and wakes who runs now.
    fn leave(&self, py: Python<'_>, ticket: &CallTicket) {
        let mut leaving = Some(ticket.ticket);
        while let Some(ticket) = leaving {
            let left = self.with(|limit| limit.leave(ticket));
            let mut waits = self.state.waits.lock();
            waits.left(self.hold(ticket));
            if let Some((next, _)) = &left.next {
                waits.granted(self.hold(*next));
            }
            drop(waits);
            drop(left.gone);
            // Whoever cannot be woken, because its event loop is closed, has left as well.
            leaving = left.next.and_then(|(next, wake)| wake.call0(py).is_err().then_some(next));
        }
    }

    /// How many run and wait, and how many were refused.
    fn counted(&self) -> (usize, usize, u64) {
        self.with(|limit| {
            let (running, waiting) = limit.load();
            (running, waiting, limit.refused())
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.machine.lock().machine.waiters().try_for_each(|wake| visit.call(wake))
    }

    fn __clear__(&self) {
        let gone = self.machine.lock().machine.forget_calls();
        drop(gone);
    }
}
