//! How the simulated driver runs effects, one at a time, and sets alarms.

use super::super::{Done, Due, Effect, Effects, Fallback, FlightId};
use super::driver::Doing;
use super::oracle::{Promise, Value, Verdict, Via, check};
use super::world::{Outcome, World};
use crate::core::clock::{Millis, NEVER, later};
use crate::core::memory::Discard;
use std::collections::VecDeque;

/// Effects that are still to be run.
#[derive(Debug)]
pub struct Chore {
    pub flight: FlightId,
    pub effects: VecDeque<Effect<u8, u32>>,
    /// What those are told who are told of the load's outcome.
    pub outcome: Outcome,
    /// What they are told instead.
    pub old: Option<Value>,
    /// A blocked caller who loaded, and answers after that.
    pub loader: Option<usize>,
}

/// An alarm of a loop.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    pub id: u64,
    pub at: Millis,
    pub due: Due,
}

impl World {
    /// Has effects run, and looks at what they are. `left` is the caller who has just gone away.
    pub fn run(
        &mut self,
        place: usize,
        flight: FlightId,
        effects: Effects<u8, u32>,
        outcome: Outcome,
        left: Option<usize>,
    ) -> Verdict {
        self.emitted(flight, &effects, left)?;
        let chore = Chore { flight, effects: effects.into(), outcome, old: None, loader: None };
        self.sites[place].stack.push(Doing::Effects(chore));
        Ok(())
    }

    /// The same, after a step that may have settled an old value: one that answers is in the slot `old`.
    pub fn run_settled(
        &mut self,
        place: usize,
        flight: FlightId,
        (effects, old): (Effects<u8, u32>, Option<u32>),
        outcome: Outcome,
        loader: Option<usize>,
    ) -> Verdict {
        let old = old.and_then(|id| Some(*self.memory.entries.peek(id)?.value));
        for effect in &effects {
            match effect {
                Effect::Relent(fallback) => self.relented(flight, fallback, old)?,
                Effect::Give(..) => self.given(flight, old)?,
                Effect::Forget(_) => self.forgotten(flight),
                _ => {}
            }
        }
        self.run(place, flight, effects, outcome, None)?;
        if let Some(Doing::Effects(chore)) = self.sites[place].stack.last_mut() {
            (chore.old, chore.loader) = (old, loader);
        }
        Ok(())
    }

    /// One effect.
    pub fn work_off(&mut self, place: usize, mut chore: Chore) -> Verdict {
        let Some(effect) = chore.effects.pop_front() else {
            if let Some(caller) = chore.loader {
                self.callers[caller].old = chore.old;
            }
            return Ok(());
        };
        let old = chore.old.map(Outcome::Value);
        match effect {
            Effect::Wake(who) => self.tell(&who, old.unwrap_or(chore.outcome))?,
            Effect::TimeOut(who) => self.tell(&who, old.unwrap_or(Outcome::TimedOut))?,
            Effect::Fail(who) => self.tell(&who, Outcome::Ended)?,
            Effect::Again(who) => self.tell(&who, Outcome::Again)?,
            Effect::Lead(who) => self.tell_to_lead(place, &mut chore, who)?,
            Effect::CancelLoad => self.cancel_load(chore.flight)?,
            Effect::Give(_, who) => self.tell(&[who], old.unwrap_or(Outcome::TimedOut))?,
            Effect::Release(_) => drop(self.tasks.remove(&chore.flight.to_bits())),
            // Done by then.
            Effect::Store(_) | Effect::Relent(_) | Effect::Forget(_) => {}
        }
        self.sites[place].stack.push(Doing::Effects(chore));
        Ok(())
    }

    fn tell(&mut self, seats: &[u32], outcome: Outcome) -> Verdict {
        for &number in seats {
            let seat = &mut self.seats[number as usize];
            check(!seat.told, Promise::ToldOnce, || format!("{seat:?} is told {outcome:?}"))?;
            (seat.told, seat.outcome) = (true, Some(outcome));
        }
        Ok(())
    }

    /// Somebody is to load; if its loop is dead, all look again, it too should its loop go on.
    fn tell_to_lead(&mut self, place: usize, chore: &mut Chore, seat: u32) -> Verdict {
        let (here, there) = (self.sites[place].home.event_loop, self.seat(seat).home);
        if here == there.event_loop || !self.is_dead(there.event_loop) {
            self.expect(chore.flight, seat);
            return self.tell(&[seat], Outcome::Lead);
        }
        if self.flights().expects(chore.flight, there) {
            let effects = self.memory.flights.supersede(chore.flight);
            self.emitted(chore.flight, &effects, None)?;
            chore.effects.extend(effects);
        }
        self.tell(&[seat], Outcome::Again)
    }

    /// The old value stays in use, if it was there.
    fn relented(&mut self, flight: FlightId, fallback: &Fallback, old: Option<Value>) -> Verdict {
        let Some(known) = self.known(flight).copied() else { return Ok(()) };
        let Some(value) = old else {
            let old = known.old.filter(|&old| self.oracle.is_of_use(old, &known.policy, self.now));
            let there = old.filter(|&old| self.entry(old.key).is_some_and(|(_, entry)| entry == old));
            return check(there.is_none(), Promise::OldValueAnswers, || format!("{there:?} is there"));
        };
        self.counts(value.key).stale_hits += 1;
        self.oracle.serve(value, Via::Old(&known.policy), self.now)?;
        let retry_at = later(self.now, fallback.retry_after);
        let origin = self.oracle.origin_mut(value);
        (origin.span.retry_at, origin.plain) = (retry_at, known.policy);
        Ok(())
    }

    /// The old value answers who has waited for long enough, if it was there.
    fn given(&mut self, flight: FlightId, old: Option<Value>) -> Verdict {
        if let (Some(value), Some(known)) = (old, self.known(flight).copied()) {
            self.counts(value.key).stale_hits += 1;
            self.oracle.serve(value, Via::Old(&known.policy), self.now)?;
        }
        Ok(())
    }

    /// The old value goes, if it was there.
    fn forgotten(&mut self, flight: FlightId) {
        if let Some(value) = self.known(flight).and_then(|known| known.forget) {
            let current = &mut self.oracle.current[usize::from(value.key)];
            *current = current.filter(|&number| number != value.number);
        }
    }

    /// Somebody's time may be up.
    pub fn expire(&mut self, place: usize, flight: FlightId, due: Due) -> Verdict {
        let Done { effects, old, .. } = self.memory.expire(due, self.now, &mut Discard::default());
        self.run_settled(place, flight, (effects, old), Outcome::TimedOut, None)
    }

    /// An alarm goes off, and is set again for what comes next.
    pub fn fire(&mut self, place: usize, at: usize) -> Verdict {
        let Timer { due, .. } = self.sites[place].timers.swap_remove(at);
        let (flight, waits) = match due {
            Due::Load(lease) => (lease.flight, false),
            Due::Waiter(ticket) => (ticket.flight, true),
        };
        let here = self.sites[place].home.event_loop;
        if !waits || !self.supersede_from(place, here, flight)? {
            self.expire(place, flight, due)?;
        }
        self.arm(place, due);
        Ok(())
    }

    pub fn arm(&mut self, place: usize, due: Due) -> Option<u64> {
        self.serial += 1;
        let (id, at) = (self.serial, self.flights().alarm(due, self.now));
        if at >= NEVER {
            return None;
        }
        self.sites[place].timers.push(Timer { id, at, due });
        Some(id)
    }

    pub fn cancel_timer(&mut self, place: usize, timer: Option<u64>) {
        if let Some(id) = timer {
            self.sites[place].timers.retain(|timer| timer.id != id);
        }
    }
}
