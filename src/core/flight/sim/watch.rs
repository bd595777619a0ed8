//! What must be true after each step, when nobody is in the middle of anything, and when there is nothing left to do.

use super::super::{Effect, Effects, FlightId};
use super::driver::Doing;
use super::oracle::{Promise, RECHECK, Verdict, check};
use super::plan::{How, PLACES};
use super::world::{Caller, Load, Outcome, Phase, Running, World, hash};
use crate::core::clock::{Millis, later};
use crate::core::stats::Stats;

impl World {
    /// After each step.
    pub fn check(&mut self) -> Verdict {
        self.steps += 1;
        let whole = self.memory.entries.validate();
        check(whole.is_ok(), Promise::TableIsWhole, || format!("{whole:?}"))?;
        for key in 0..self.keys.len() as u8 {
            self.check_key(key)?;
        }
        for space in 0..self.groups.len() {
            self.check_counts(space)?;
        }
        if (0..self.sites.len()).all(|place| self.is_resting(place)) { self.check_rest() } else { Ok(()) }
    }

    /// True if a loop or thread is between two callbacks, or blocked with nothing new to see.
    pub fn is_resting(&self, place: usize) -> bool {
        match self.sites[place].stack.as_slice() {
            [] => true,
            [Doing::Caller(caller)] => match self.callers[*caller].phase {
                Phase::Waiting(_, seat) => self.seat(seat).outcome.is_none(),
                Phase::Loading(load) => self.loads[load].ended.is_none(),
                _ => false,
            },
            _ => false,
        }
    }

    /// True if what a loop or thread is in the middle of can go on: a task that waits makes room for the next.
    pub fn has_work(&self, place: usize) -> bool {
        match self.sites[place].stack.as_slice() {
            [Doing::Caller(caller)] if !self.callers[*caller].is_blocked() => true,
            stack => !stack.is_empty() && !self.is_resting(place),
        }
    }

    fn check_key(&self, key: u8) -> Verdict {
        let entries = &self.memory.entries;
        let same = entries.candidates(hash(key)).filter(|(_, other)| **other == key).count();
        let flights = self.flights().candidates(hash(key)).filter(|(_, other)| **other == key).count();
        check(same <= 1 && flights <= 1, Promise::OneFlight, || format!("{same} entries, {flights} flights of {key}"))?;
        let Some((id, value)) = self.entry(key) else { return Ok(()) };
        let current = self.oracle.current[usize::from(key)];
        check(value.key == key && current == Some(value.number), Promise::NothingOldIsStored, || {
            format!("{value:?} is under {key}, where {current:?} should be")
        })?;
        let (span, origin) = (entries.span(id), self.oracle.origin(value));
        check(span == origin.span && entries.created(id) == origin.created, Promise::LivesStay, || {
            format!("{value:?} has {span:?}, not {origin:?}")
        })
    }

    fn check_counts(&mut self, space: usize) -> Verdict {
        let stats = self.memory.entries.stats(self.groups[space]);
        let counts = self.oracle.counts[space];
        let Stats { evictions, refused, expired, entries, bytes, .. } = stats;
        let expected = Stats { evictions, refused, expired, entries, bytes, ..counts };
        check(stats == expected, Promise::CountersCount, || format!("{stats:?}, expected {expected:?}"))
    }

    /// Nobody is in the middle of anything.
    fn check_rest(&mut self) -> Verdict {
        let flights = &self.memory.flights;
        self.flying.retain(|flying| flights.is_flying(flying.id));
        for &caller in &self.active {
            self.check_waits(caller)?;
        }
        for &load in &self.running {
            self.check_load(load)?;
        }
        for flying in &self.flying {
            self.check_flight(flying.id)?;
        }
        Ok(())
    }

    /// Whoever waits is known to a flight, or was told.
    fn check_waits(&self, caller: usize) -> Verdict {
        let Phase::Waiting(ticket, seat) = self.callers[caller].phase else { return Ok(()) };
        let known = self.flights().get(ticket.flight).and_then(|flight| flight.seat(ticket)).is_some();
        let told = self.seat(seat).outcome.is_some();
        check(known || told, Promise::NobodyIsLeftBehind, || format!("caller {caller} {:?}", self.callers[caller]))
    }

    /// A load runs as long as it may.
    fn check_load(&self, number: usize) -> Verdict {
        let load = &self.loads[number];
        let stopped = load.cancelled || load.void;
        let left = load.uses.is_some_and(|caller| self.callers[caller].phase == Phase::Done);
        check(stopped || !left, Promise::BoundLoadsEndWithTheirCaller, || format!("{load:?}"))?;
        let wanted = self.is_steady(load.lease.flight) || self.waiting(load.lease.flight) > 0;
        check(stopped || wanted, Promise::LoadsEndWithTheirUse, || format!("nobody waits for {load:?}"))
    }

    fn is_steady(&self, flight: FlightId) -> bool {
        self.known(flight).is_some_and(|known| known.steady)
    }

    /// Those who wait for a flight, as far as the driver knows. Those on a loop that was closed under them wait for ever.
    fn waiting(&self, flight: FlightId) -> usize {
        let waits = |caller: &&Caller| match caller.phase {
            Phase::Waiting(ticket, seat) => ticket.flight == flight && !self.seat(seat).dismissed,
            Phase::Starting(_, ticket, _) => ticket.flight == flight,
            Phase::Loading(load) => self.loads[load].lease.flight == flight && !self.loads[load].reported,
            _ => false,
        };
        self.callers.iter().filter(waits).count()
    }

    /// A flight comes to an end: its load runs, or somebody was told to load.
    fn check_flight(&self, id: FlightId) -> Verdict {
        let Some(flight) = self.flights().get(id) else { return Ok(()) };
        let running = self.running.iter().any(|&load| self.loads[load].lease.flight == id && !self.loads[load].void);
        let stranded = self.tasks.contains_key(&id.to_bits());
        let told = |number: u64| {
            let mut seats = self.callers.iter().filter_map(|caller| match caller.phase {
                Phase::Waiting(ticket, seat) if ticket.number == number => Some(seat),
                _ => None,
            });
            seats.any(|seat| self.seat(seat).outcome == Some(Outcome::Lead))
        };
        let goes_on = if flight.loading { running || stranded } else { flight.leader.is_some_and(told) };
        check(goes_on, Promise::NobodyIsLeftBehind, || format!("nobody loads for {flight:?}"))
    }

    /// There is nothing left to do at this moment.
    pub fn check_settled(&self) -> Verdict {
        for &number in &self.running {
            let load = &self.loads[number];
            let site = &self.sites[load.place];
            let can = load.is_task() && site.is_idle() && !load.cancelled && !load.void;
            check(!can || !self.is_overdue(load, 0), Promise::Timeouts, || format!("{load:?} runs at {}", self.now))?;
        }
        for &caller in &self.active {
            self.check_patience(caller)?;
        }
        Ok(())
    }

    /// True if a load has taken so much longer than it may.
    fn is_overdue(&self, load: &Load, by: Millis) -> bool {
        let Some(known) = self.known(load.lease.flight) else { return false };
        known.policy.timeout.is_some_and(|timeout| self.now >= later(known.led, timeout) + by)
    }

    /// Nobody waits for longer than wanted.
    fn check_patience(&self, caller: usize) -> Verdict {
        let Caller { key, place, policy, anew, phase: Phase::Waiting(ticket, seat), seated, .. } = self.callers[caller]
        else {
            return Ok(());
        };
        let seat = self.seat(seat);
        if self.sites[place].running != Running::Runs || (seat.home.event_loop != 0 && !self.sites[place].is_idle()) {
            return Ok(());
        }
        let story = || format!("caller {caller} waits at {}: {:?}", self.now, self.callers[caller]);
        let mut loads = self.running.iter().map(|&load| &self.loads[load]).filter(|load| !load.void);
        let load = loads.find(|load| load.lease.flight == ticket.flight);
        let late = load.is_some_and(|load| {
            // Who waited before this load began, elsewhere, learns of its end when it next looks after it.
            let elsewhere = load.home.event_loop != seat.home.event_loop;
            let later_begun = self.oracle.origin(load.value).since > seat.taken;
            self.is_overdue(load, if elsewhere && later_begun { RECHECK } else { 0 })
        });
        check(!late, Promise::Timeouts, story)?;
        let Some(known) = self.known(ticket.flight).filter(|known| known.attached) else { return Ok(()) };
        // Who wants a new value has no use for the old one.
        let impatient = policy.soft_timeout.filter(|_| !anew).is_some_and(|soft| self.now >= later(seated, soft));
        let old = known.old.filter(|&old| self.oracle.is_of_use(old, &known.policy, self.now));
        let there = old.is_some() && self.entry(key).map(|(_, value)| value) == old;
        check(!impatient || !there, Promise::OldValueAnswers, story)
    }

    /// What a step of the machine wants done, when it wants it. `left` is the caller who has just gone away.
    pub fn emitted(&mut self, flight: FlightId, effects: &Effects<u8, u32>, mut left: Option<usize>) -> Verdict {
        let running = self
            .running
            .iter()
            .copied()
            .find(|&load| self.loads[load].lease.flight == flight && !self.loads[load].void);
        for effect in effects {
            self.dismissed(effect);
            match effect {
                Effect::CancelLoad => {
                    self.check_cancel(flight, running, left)?;
                    self.void(flight);
                }
                Effect::TimeOut(_) => {
                    let over = running.is_none_or(|load| self.is_overdue(&self.loads[load], 0));
                    check(over, Promise::Timeouts, || format!("{running:?} is stopped at {}", self.now))?;
                }
                Effect::Give(_, seat) => {
                    let caller = self.seat(*seat).caller;
                    let Caller { policy, seated, .. } = self.callers[caller];
                    let impatient = policy.soft_timeout.is_some_and(|soft| self.now >= later(seated, soft));
                    check(impatient, Promise::Timeouts, || format!("caller {caller} has not waited for long"))?;
                    self.flying.iter_mut().filter(|flying| flying.id == flight).for_each(|flying| flying.steady = true);
                    left = Some(caller);
                }
                Effect::Fail(seats) => self.check_fails(flight, seats)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Those who are to be told something that ends their wait.
    fn dismissed(&mut self, effect: &Effect<u8, u32>) {
        let seats = match effect {
            Effect::Wake(seats) | Effect::TimeOut(seats) | Effect::Fail(seats) | Effect::Again(seats) => {
                seats.as_slice()
            }
            Effect::Give(_, seat) => std::slice::from_ref(seat),
            _ => &[],
        };
        seats.iter().for_each(|&seat| self.seats[seat as usize].dismissed = true);
    }

    /// A load is stopped for a reason.
    fn check_cancel(&self, flight: FlightId, load: Option<usize>, left: Option<usize>) -> Verdict {
        let Some(load) = load.map(|load| &self.loads[load]) else { return Ok(()) };
        let own = load.uses.is_some() && load.uses == left;
        let unwanted = self.waiting(flight) == 0 && !self.is_steady(flight);
        check(load.is_task(), Promise::LoadsEndWithTheirUse, || format!("a thread cannot be stopped: {load:?}"))?;
        check(own || unwanted || self.is_overdue(load, 0), Promise::LoadsEndWithTheirUse, || {
            format!("{load:?} is stopped at {} for {left:?}", self.now)
        })
    }

    /// Only those on the loop where a load was ended hear that it was.
    fn check_fails(&self, flight: FlightId, seats: &[u32]) -> Verdict {
        let Some(load) = self.loads.iter().rev().find(|load| load.lease.flight == flight) else { return Ok(()) };
        let elsewhere = seats.iter().find(|&&seat| self.seat(seat).home != load.home);
        check(elsewhere.is_none(), Promise::LoadsAreHandedOver, || format!("{elsewhere:?} hears of {load:?}"))
    }

    /// Lets everything come to an end: nobody may be left who waits.
    pub fn drain(&mut self) -> Verdict {
        for place in 0..self.sites.len() {
            if self.sites[place].running == Running::StandsStill {
                if self.dice.once_in(2) { self.close(place) } else { self.sites[place].running = Running::Runs }
            }
        }
        for _ in 0..30 {
            self.end_all()?;
            if self.active.is_empty() {
                return Ok(());
            }
            self.now += 1_500;
            // Somebody comes by, and finds what stands still.
            for key in 0..self.keys.len() as u8 {
                self.moment += 1;
                self.ask(PLACES - 1, key, false, true)?;
                self.end_all()?;
            }
        }
        let left: Vec<&Caller> = self.active.iter().map(|&caller| &self.callers[caller]).collect();
        check(left.is_empty(), Promise::NobodyIsLeftBehind, || format!("{left:?}, {:?}", self.flights()))
    }

    /// All loads that run come to their end.
    fn end_all(&mut self) -> Verdict {
        self.settle()?;
        for &load in &self.running {
            self.loads[load].ended.get_or_insert(How::Value);
        }
        self.settle()
    }
}
