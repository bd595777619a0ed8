//! The effects of a flight, run: who waits is told, a load is cancelled, an old value stays in use or goes.

use super::seat::{Outcome, Waiter};
use super::state::State;
use super::task;
use super::tier::{Gone, Object, PyMemory, Tier, let_go};
use crate::core::flight::{Due, Effect, Effects, FlightId};
use pyo3::prelude::*;
use std::collections::VecDeque;

/// Somebody's time may be up: a waiter's, or a load's own.
pub fn expire(py: Python<'_>, state: &State, tier: &Tier, due: Due) {
    let now = tier.clock.now();
    let flight = match due {
        Due::Load(lease) => lease.flight,
        Due::Waiter(ticket) => ticket.flight,
    };
    let mut gone = Gone::default();
    let mut memory = tier.memory.lock();
    let done = memory.expire(due, now, &mut gone);
    let old = old(py, &memory, done.old);
    drop(memory);
    run(py, state, tier, (flight, done.effects, old), |_| Outcome::TimedOut);
    let_go(py, gone);
}

/// An old value that answers in the place of a load, and how readers get it.
pub type Old = (Object, u32);

/// The old value in a slot, as [`Done::old`](crate::core::flight::Done) tells of it.
pub fn old(py: Python<'_>, memory: &PyMemory, slot: Option<u32>) -> Option<Old> {
    let found = memory.entries.peek(slot?)?;
    Some((found.value.clone_ref(py), found.tag))
}

/// The outcome that all of them get, if it does not differ.
type Common = Option<fn() -> Outcome>;

/// Runs the effects of a flight that reach beyond memory. `outcome` tells each waiter's, if the old value does not answer.
pub fn run(
    py: Python<'_>,
    state: &State,
    tier: &Tier,
    (flight, effects, old): (FlightId, Effects<Object, Waiter>, Option<Old>),
    outcome: impl Fn(&Waiter) -> Outcome,
) {
    let here = if effects.is_empty() { None } else { state.running_loop(py) };
    let mut effects = VecDeque::from(effects);
    while let Some(effect) = effects.pop_front() {
        // An old value is no answer for who is to look again.
        let again = matches!(effect, Effect::Again(_));
        let (waiters, common): (Vec<Waiter>, Common) = match effect {
            Effect::Wake(waiters) => (waiters, None),
            Effect::TimeOut(waiters) => (waiters, Some(|| Outcome::TimedOut)),
            Effect::Fail(waiters) => (waiters, Some(|| Outcome::Ended)),
            Effect::Again(waiters) => (waiters, Some(|| Outcome::Again)),
            Effect::Lead(waiter) if waiter.is_stranded(py, state, here.as_ref()) => {
                // It may never begin: everybody looks again, it too should its loop go on.
                let mut memory = tier.memory.lock();
                if memory.flights.expects(flight, waiter.home) {
                    effects.extend(memory.flights.supersede(flight));
                }
                drop(memory);
                (vec![waiter], Some(|| Outcome::Again))
            }
            Effect::Lead(waiter) => {
                task::expect(py, state, tier, flight, &waiter);
                (vec![waiter], Some(|| Outcome::Lead))
            }
            Effect::CancelLoad => {
                task::cancel(py, state, tier, flight, here.as_ref());
                continue;
            }
            Effect::Give(_, waiter) => (vec![waiter], Some(|| Outcome::TimedOut)),
            Effect::Release(_) => {
                let expected = tier.tasks.lock().remove(&flight.to_bits());
                drop(expected);
                continue;
            }
            Effect::Store(_) | Effect::Relent(_) | Effect::Forget(_) => continue,
        };
        for waiter in waiters {
            let told = match (&old, common) {
                (_, Some(common)) if again => common(),
                (Some((value, kind)), _) => Outcome::Value(value.clone_ref(py), *kind),
                (None, Some(common)) => common(),
                (None, None) => outcome(&waiter),
            };
            waiter.tell(py, state, told, here.as_ref());
        }
    }
}
