//! The effects of a flight, run: who waits is told, a load is cancelled, an old value stays in use or goes.

use super::seat::{Outcome, Waiter};
use super::state::State;
use super::task;
use super::tier::{Gone, Object, Tier, let_go};
use crate::core::flight::{Due, Effect, Effects, Fallback, FlightId};
use crate::core::memory::Reason;
use pyo3::prelude::*;
use std::collections::VecDeque;

/// Somebody's time may be up: a waiter's, or a load's own.
pub fn expire(py: Python<'_>, state: &State, tier: &Tier, due: Due) {
    let now = tier.clock.now();
    let flight = match due {
        Due::Load(lease) => lease.flight,
        Due::Waiter(ticket) => ticket.flight,
    };
    let effects = tier.memory.lock().expire(due, now);
    run(py, state, tier, flight, effects, |_| Outcome::TimedOut);
}

/// An old value that answers in the place of a load, and how readers get it.
pub type Old = (Object, u32);

/// The outcome that all of them get, if it does not differ.
type Common = Option<fn() -> Outcome>;

/// Runs the effects that reach beyond memory. `outcome` tells each waiter's. Gives the old value, if that answers.
pub fn run(
    py: Python<'_>,
    state: &State,
    tier: &Tier,
    flight: FlightId,
    effects: Effects<Object, Waiter>,
    outcome: impl Fn(&Waiter) -> Outcome,
) -> Option<Old> {
    let here = if effects.is_empty() { None } else { state.running_loop(py) };
    let mut old: Option<Old> = None;
    let mut effects = VecDeque::from(effects);
    while let Some(effect) = effects.pop_front() {
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
            Effect::Relent(fallback) => {
                old = relent(py, tier, &fallback);
                continue;
            }
            Effect::Forget(target) => {
                let mut gone = Gone::default();
                let mut memory = tier.memory.lock();
                if let Some(id) = memory.entries.resolve(target) {
                    memory.entries.remove(id, Reason::Removed, &mut gone);
                }
                drop(memory);
                let_go(py, gone);
                continue;
            }
            Effect::Give(fallback, waiter) => {
                let given =
                    give(py, tier, &fallback).map_or(Outcome::TimedOut, |(value, kind)| Outcome::Value(value, kind));
                waiter.tell(py, state, given, here.as_ref());
                continue;
            }
            Effect::Release(_) => {
                let expected = tier.tasks.lock().remove(&flight.to_bits());
                drop(expected);
                continue;
            }
            Effect::Store(_) => continue,
        };
        for waiter in waiters {
            let told = match (&old, common) {
                (Some((value, kind)), _) => Outcome::Value(value.clone_ref(py), *kind),
                (None, Some(common)) => common(),
                (None, None) => outcome(&waiter),
            };
            waiter.tell(py, state, told, here.as_ref());
        }
    }
    old
}

/// The old value stays in use after a load that failed.
fn relent(py: Python<'_>, tier: &Tier, fallback: &Fallback) -> Option<Old> {
    let mut memory = tier.memory.lock();
    let found = memory.relent_and_serve(fallback, tier.clock.now())?;
    Some((found.value.clone_ref(py), found.tag))
}

/// The old value answers one who has waited long enough.
fn give(py: Python<'_>, tier: &Tier, fallback: &Fallback) -> Option<Old> {
    let mut memory = tier.memory.lock();
    let found = memory.give(fallback, tier.clock.now())?;
    Some((found.value.clone_ref(py), found.tag))
}
