//! The fourth driver: callers as the others run them, one step under the lock at a time, so that others may come between
//! any two.

use super::super::{
    Awaited, Due, Effect, FlightId, Lease, Life, Lookup, Newer, Place, Refresh, Ticket, Who, Wish, waits,
};
use super::effects::Chore;
use super::oracle::{Fault, Promise, Value, Verdict, Via, check};
use super::world::{Caller, Flying, Outcome, Phase, Running, Seat, World, hash};
use crate::core::policy::OnRefreshError;

/// What a loop or thread is in the middle of.
#[derive(Debug)]
pub enum Doing {
    /// A caller goes on, or blocks.
    Caller(usize),
    /// The effects of a step are run.
    Effects(Chore),
    /// The loop is being closed.
    Closing,
}

impl Doing {
    /// True if somebody will be told to lead.
    fn hands_over(&self) -> bool {
        match self {
            Doing::Effects(chore) => chore.effects.iter().any(|effect| matches!(effect, Effect::Lead(_))),
            _ => false,
        }
    }

    /// What whoever is told of the outcome gets.
    pub fn value(&self) -> Option<Value> {
        match self {
            Doing::Effects(Chore { old: Some(value), .. } | Chore { outcome: Outcome::Value(value), .. }) => {
                Some(*value)
            }
            _ => None,
        }
    }
}

/// What a loop could do next.
#[derive(Clone, Copy, Debug)]
pub enum Chance {
    Start(usize),
    Wake(usize),
    Report(usize),
    Fire(usize),
}

impl World {
    /// The next thing on a loop or thread; false if there is nothing to do.
    pub fn go(&mut self, place: usize) -> Result<bool, Fault> {
        self.moment += 1;
        if self.sites[place].running != Running::Runs {
            return Ok(false);
        }
        match self.sites[place].stack.pop() {
            Some(Doing::Caller(caller)) => return self.advance(caller),
            Some(Doing::Effects(chore)) => self.work_off(place, chore)?,
            Some(Doing::Closing) => self.close_on(place)?,
            None => {
                let chances = self.chances(place);
                if chances.is_empty() {
                    return Ok(false);
                }
                let chance = self.dice.one_of(&chances);
                self.take(place, chance)?;
            }
        }
        Ok(true)
    }

    /// The different things that could be next on an idle loop.
    pub fn chances(&self, place: usize) -> Vec<Chance> {
        let site = &self.sites[place];
        let mut chances = Vec::new();
        for &caller in self.active.iter().filter(|&&caller| self.callers[caller].place == place) {
            match self.callers[caller].phase {
                Phase::Called => chances.push(Chance::Start(caller)),
                Phase::Waiting(_, seat) if self.seat(seat).outcome.is_some() => chances.push(Chance::Wake(caller)),
                _ => {}
            }
        }
        let over = |load: &usize| self.loads[*load].place == place && self.loads[*load].ended.is_some();
        chances.extend(self.running.iter().copied().filter(over).map(Chance::Report));
        chances.extend((0..site.timers.len()).filter(|&at| site.timers[at].at <= self.now).map(Chance::Fire));
        chances
    }

    pub fn take(&mut self, place: usize, chance: Chance) -> Verdict {
        match chance {
            Chance::Start(caller) => self.go_to(caller, Phase::Looking),
            Chance::Wake(caller) => self.sites[place].stack.push(Doing::Caller(caller)),
            Chance::Report(load) => return self.report(load, None),
            Chance::Fire(at) => return self.fire(place, at),
        }
        Ok(())
    }

    /// A caller goes on to where others may come between; false if it is blocked.
    fn advance(&mut self, caller: usize) -> Result<bool, Fault> {
        let Caller { key, home, policy, phase, .. } = self.callers[caller];
        match phase {
            Phase::Looking => self.look(caller)?,
            Phase::Joining(flight) => self.join(caller, flight)?,
            Phase::Served(flight, value) => {
                if self.supersede_if_stranded(caller, flight)? {
                    self.go_to(caller, Phase::Looking);
                } else {
                    self.answer(caller, Outcome::Value(value))?;
                }
            }
            Phase::Behind(lease, value) => {
                let uses_own = self.keeping(key).life == Life::Bound && !self.keeping(key).refresher;
                self.start(caller, lease, uses_own.then_some(caller))?;
                self.answer(caller, Outcome::Value(value))?;
            }
            Phase::Seating(lease) => {
                let seat = self.take_seat(caller);
                let led = self.memory.wait_for_own(&policy, lease, home, self.now, seat);
                let next = led.map_or(Phase::Looking, |(ticket, lease)| {
                    self.led(lease);
                    self.callers[caller].seated = self.now;
                    Phase::Starting(lease, ticket, seat)
                });
                self.go_to(caller, next);
            }
            Phase::Starting(lease, ticket, seat) => {
                let bound = self.keeping(key).life == Life::Bound;
                self.start(caller, lease, bound.then_some(caller))?;
                self.go_to(caller, Phase::Waiting(ticket, seat));
            }
            Phase::Waiting(ticket, seat) => return self.wait_on(caller, ticket, seat),
            Phase::Loading(load) => return self.load_on(caller, load),
            Phase::Called | Phase::Done => {}
        }
        Ok(true)
    }

    /// Goes on there, when the effects of the present step have been run.
    pub fn go_to(&mut self, caller: usize, phase: Phase) {
        let entry = &mut self.callers[caller];
        entry.phase = phase;
        let stack = &mut self.sites[entry.place].stack;
        let at = stack.iter().rposition(|doing| !matches!(doing, Doing::Effects(_))).map_or(0, |at| at + 1);
        stack.insert(at, Doing::Caller(caller));
    }

    fn place(&self, caller: usize) -> Place {
        let Caller { key, home, .. } = self.callers[caller];
        let keeping = self.keeping(key);
        if home.event_loop == 0 {
            return Place { home: Some(home), refresh: Refresh::InPerson, life: Life::Steady };
        }
        let in_person = keeping.life == Life::Bound && !keeping.refresher;
        let refresh = if in_person { Refresh::InPerson } else { Refresh::Behind };
        Place { home: Some(home), refresh, life: keeping.life }
    }

    fn look(&mut self, caller: usize) -> Verdict {
        let Caller { key, policy, anew, .. } = self.callers[caller];
        let mut place = self.place(caller);
        if place.refresh == Refresh::Behind && self.crowded && self.dice.once_in(4) {
            place.refresh = Refresh::Later;
        }
        let (located, entry, draw, group) = (self.locate(key), self.entry(key), self.dice.share(), self.group(key));
        let wish = Wish { policy: &policy, group, place, anew: anew.then_some(&self.sinces[caller]) };
        let found = self.memory.look_up(&wish, (hash(key), || key), located, self.now, || draw);
        let entry = entry.map(|(_, value)| value);
        match found {
            Lookup::Hit(_, newer) => {
                let alive = check(entry.is_some(), Promise::NothingOldIsServed, || format!("{key} is not there"));
                let Some(value) = entry else { return alive };
                self.found(caller, value, newer, located.1.is_some(), place.refresh)
            }
            Lookup::Flying(flight, home) => {
                self.missed(caller, entry)?;
                if self.callers[caller].is_blocked()
                    && self.waits.needs(&awaited(flight, home.thread), self.thread(caller))
                {
                    return self.load_directly(caller, home.thread);
                }
                let own = home.thread == self.thread(caller) && home.event_loop == 0;
                check(!own, Promise::OneLoad, || format!("caller {caller} would load past the cache"))?;
                self.go_to(caller, Phase::Joining(flight));
                Ok(())
            }
            Lookup::Lead(lease) => {
                self.missed(caller, entry)?;
                self.leased(lease, caller, entry, place.life == Life::Steady)?;
                if !self.callers[caller].is_blocked() {
                    self.go_to(caller, Phase::Seating(lease));
                    return Ok(());
                }
                self.load_here(caller, lease)
            }
            Lookup::Nowhere => check(false, Promise::NobodyIsLeftBehind, || format!("{caller} has a place to load on")),
        }
    }

    fn thread(&self, caller: usize) -> u64 {
        self.callers[caller].home.thread
    }

    /// A lookup was answered by what is there.
    fn found(&mut self, caller: usize, value: Value, newer: Newer, flying: bool, refresh: Refresh) -> Verdict {
        let Caller { key, policy, anew, .. } = self.callers[caller];
        let (now, origin) = (self.now, *self.oracle.origin(value));
        check(!anew, Promise::NothingOldIsServed, || format!("caller {caller} wants a new value"))?;
        self.oracle.serve(value, Via::Look(&policy), now)?;
        if origin.negative {
            self.counts(key).negative_hits += 1;
        } else {
            self.count_hit(value);
        }
        if now >= origin.span.fresh_until {
            let waits = now < origin.span.retry_at || self.oracle.is_too_soon(value, &policy, now);
            let cared_for = newer != Newer::No || waits || flying || refresh == Refresh::Later;
            check(cared_for, Promise::StaleIsRefreshed, || format!("nobody loads {value:?} anew: {origin:?}"))?;
            let left = !flying && !waits && refresh == Refresh::InPerson;
            check(!left, Promise::StaleIsRefreshed, || format!("{value:?} is left to nobody: {origin:?}"))?;
            let origin = self.oracle.origin_mut(value);
            (origin.looked_at, origin.plain) = (now, policy);
        }
        match newer {
            Newer::Lead(lease) => {
                check(!flying, Promise::OneFlight, || format!("{key} is being loaded"))?;
                let room = refresh == Refresh::Behind;
                check(room, Promise::NothingRunsWithoutRoom, || format!("{key} is loaded with {refresh:?}"))?;
                self.leased(lease, caller, Some(value), true)?;
                self.go_to(caller, Phase::Behind(lease, value));
            }
            Newer::Flying(flight) => self.go_to(caller, Phase::Served(flight, value)),
            Newer::No => return self.answer(caller, Outcome::Value(value)),
        }
        Ok(())
    }

    fn missed(&mut self, caller: usize, entry: Option<Value>) -> Verdict {
        let Caller { key, anew, .. } = self.callers[caller];
        self.counts(key).misses += u64::from(!anew);
        let Some(value) = entry.filter(|_| !anew) else { return Ok(()) };
        let span = self.oracle.origin(value).span;
        check(self.now >= span.fresh_until, Promise::FreshIsNotLoaded, || format!("{value:?} is fresh: {span:?}"))
    }

    /// A lease was taken.
    fn leased(&mut self, lease: Lease, caller: usize, entry: Option<Value>, steady: bool) -> Verdict {
        let Caller { key, policy, anew, .. } = self.callers[caller];
        let now = self.now;
        let of_use = entry.filter(|&value| !anew && self.oracle.is_of_use(value, &policy, now));
        if let Some(value) = of_use {
            let origin = self.oracle.origin(value);
            let early = now < origin.span.fresh_until;
            let soon = self.oracle.is_too_soon(value, &policy, now);
            let may = now >= origin.span.retry_at && (!early || (policy.early > 0.0 && !soon));
            check(may, Promise::RetriesWait, || format!("{value:?} is loaded at {now}: {origin:?}"))?;
        }
        let keeps = policy.on_refresh_error == OnRefreshError::Keep;
        let (old, forget) = (of_use.filter(|_| keeps), entry.filter(|_| !keeps && !anew));
        let counts = self.counts(key);
        counts.loads += 1;
        counts.refreshes += u64::from(anew || old.is_some());
        self.detached(key);
        self.flying.push(Flying { id: lease.flight, key, policy, old, forget, steady, led: now, attached: true });
        Ok(())
    }

    fn join(&mut self, caller: usize, flight: FlightId) -> Verdict {
        if self.supersede_if_stranded(caller, flight)? {
            self.go_to(caller, Phase::Looking);
            return Ok(());
        }
        let Caller { key, policy, home, anew, .. } = self.callers[caller];
        let (group, place, seat) = (self.group(key), self.place(caller), self.take_seat(caller));
        let needs = self.flights().home(flight).map(|(home, _)| home.thread);
        let wish = Wish { policy: &policy, group, place, anew: anew.then_some(&self.sinces[caller]) };
        match self.memory.wait(&wish, flight, home, self.now, seat) {
            Some(ticket) => {
                let follows = self.flights().follows(ticket);
                self.counts(key).coalesced += u64::from(!follows);
                self.callers[caller].seated = self.now;
                if let Some(thread) = needs.filter(|_| home.event_loop == 0) {
                    self.callers[caller].needs = Some(thread);
                    self.waits.begin(Who::Thread(home.thread), awaited(flight, thread));
                }
                self.go_to(caller, Phase::Waiting(ticket, seat));
            }
            None => self.go_to(caller, Phase::Looking),
        }
        Ok(())
    }

    fn take_seat(&mut self, caller: usize) -> u32 {
        let home = self.callers[caller].home;
        self.seats.push(Seat { caller, home, taken: self.moment, outcome: None, told: false, dismissed: false });
        self.seats.len() as u32 - 1
    }

    /// Who waits looks for an answer; who is blocked, also whether it waits in vain.
    fn wait_on(&mut self, caller: usize, ticket: Ticket, seat: u32) -> Result<bool, Fault> {
        let Caller { home, place, phase, needs, .. } = self.callers[caller];
        if let Some(outcome) = self.seats[seat as usize].outcome.take() {
            self.stop_waiting(caller);
            self.told(caller, ticket, outcome)?;
            return Ok(true);
        }
        if home.event_loop != 0 {
            if self.callers[caller].timer.is_none() {
                self.callers[caller].timer = self.arm(place, Due::Waiter(ticket));
            }
            return Ok(true);
        }
        // The load may have been handed over: to this caller, who will be told.
        let at = self.flights().home(ticket.flight).map(|(home, _)| home).filter(|&at| at != home);
        let thread = at.map(|at| at.thread);
        self.callers[caller].needs = thread.or(needs);
        if thread.is_some_and(|thread| self.waits.needs(&awaited(ticket.flight, thread), home.thread)) {
            self.stop_waiting(caller);
            let effects = self.memory.flights.leave(ticket);
            self.callers[caller].phase = Phase::Looking;
            self.run(place, ticket.flight, effects, Outcome::Ended, Some(caller))?;
            self.go_to(caller, Phase::Looking);
            return Ok(true);
        }
        let due = self.flights().patience(ticket) <= self.now;
        if due {
            self.expire(place, ticket.flight, Due::Waiter(ticket))?;
        }
        let moved = due || self.supersede_if_stranded(caller, ticket.flight)?;
        self.go_to(caller, phase);
        Ok(moved)
    }

    /// What a caller does who was told.
    fn told(&mut self, caller: usize, ticket: Ticket, outcome: Outcome) -> Verdict {
        let Caller { key, policy, home, anew, .. } = self.callers[caller];
        match outcome {
            Outcome::Again => self.go_to(caller, Phase::Looking),
            Outcome::Lead => {
                let (group, place, seat) = (self.group(key), self.place(caller), self.take_seat(caller));
                let wish = Wish { policy: &policy, group, place, anew: anew.then_some(&self.sinces[caller]) };
                let Some(lease) = self.memory.take_over(&wish, ticket, home, seat, self.now) else {
                    self.go_to(caller, Phase::Looking);
                    return Ok(());
                };
                self.counts(key).loads += 1;
                self.led(lease);
                let taken = self.flying.iter_mut().filter(|flying| flying.id == lease.flight);
                taken.for_each(|flying| flying.steady = place.life == Life::Steady);
                if home.event_loop == 0 {
                    return self.load_here(caller, lease);
                }
                self.go_to(caller, Phase::Starting(lease, ticket, seat));
            }
            outcome => return self.answer(caller, outcome),
        }
        Ok(())
    }

    /// A blocked caller loads, for all who wait.
    fn load_here(&mut self, caller: usize, lease: Lease) -> Verdict {
        self.start(caller, lease, None)?;
        self.go_to(caller, Phase::Loading(self.loads.len() - 1));
        Ok(())
    }

    /// A blocked caller loads past the cache: the load it would wait for needs this thread.
    fn load_directly(&mut self, caller: usize, needed: u64) -> Verdict {
        let Caller { key, policy, home, .. } = self.callers[caller];
        // Who waits for a load that is being handed over is known to do so when its new leader is told.
        let moves = self.sites.iter().flat_map(|site| &site.stack).any(Doing::hands_over);
        check(moves || self.is_held_up(needed, home.thread, 0), Promise::OneLoad, || {
            format!("caller {caller} loads past the cache, which needs {needed} of {:?}", self.waits)
        })?;
        let value = self.oracle.value(key, self.moment, policy);
        self.answer(caller, Outcome::Value(value))
    }

    /// True if nothing goes on on a thread while the other is blocked.
    fn is_held_up(&self, thread: u64, by: u64, depth: usize) -> bool {
        let site = self.sites.iter().find(|site| site.home.thread == thread);
        let mut blocked = site.into_iter().flat_map(|site| &site.stack).filter_map(|doing| match doing {
            Doing::Caller(caller) => Some(self.callers[*caller]),
            _ => None,
        });
        let waits_for = blocked.find_map(|caller| caller.needs);
        thread == by || (depth < 8 && waits_for.is_some_and(|needed| self.is_held_up(needed, by, depth + 1)))
    }

    fn load_on(&mut self, caller: usize, load: usize) -> Result<bool, Fault> {
        let (ended, reported) = (self.loads[load].ended, self.loads[load].reported);
        let Some(how) = ended else {
            self.go_to(caller, Phase::Loading(load));
            return Ok(false);
        };
        if !reported {
            self.report(load, Some(caller))?;
            self.go_to(caller, Phase::Loading(load));
            return Ok(true);
        }
        let own = how.is_answer().then_some(self.loads[load].value);
        let outcome = own.or(self.callers[caller].old).map_or(Outcome::Error, Outcome::Value);
        self.answer(caller, outcome)?;
        Ok(true)
    }

    /// A caller has its answer.
    fn answer(&mut self, caller: usize, outcome: Outcome) -> Verdict {
        let Caller { key, floor, .. } = self.callers[caller];
        self.dismiss(caller);
        let Outcome::Value(value) = outcome else { return Ok(()) };
        check(value.key == key, Promise::NothingOldIsServed, || format!("{value:?} for {key}"))?;
        self.oracle.deliver(value, floor)
    }

    fn dismiss(&mut self, caller: usize) {
        self.stop_waiting(caller);
        self.callers[caller].phase = Phase::Done;
        self.active.retain(|&other| other != caller);
    }

    fn stop_waiting(&mut self, caller: usize) {
        let Caller { place, home, phase, timer, needs, .. } = self.callers[caller];
        self.cancel_timer(place, timer);
        if let (Phase::Waiting(ticket, _), Some(thread)) = (phase, needs) {
            self.waits.end(Who::Thread(home.thread), awaited(ticket.flight, thread).load);
        }
        (self.callers[caller].timer, self.callers[caller].needs) = (None, None);
    }

    /// A caller goes away.
    pub fn cancel(&mut self, caller: usize) -> Verdict {
        let Caller { place, phase, home, .. } = self.callers[caller];
        self.dismiss(caller);
        let Phase::Waiting(ticket, _) = phase else { return Ok(()) };
        if home.event_loop == 0 {
            self.sites[place].stack.pop();
        }
        let effects = self.memory.flights.leave(ticket);
        self.run(place, ticket.flight, effects, Outcome::Ended, Some(caller))
    }

    /// One more task of a loop that is being closed is cancelled, or its end reported.
    fn close_on(&mut self, place: usize) -> Verdict {
        let callers = self.active.iter().filter(|&&caller| self.callers[caller].place == place);
        let mut chances: Vec<Chance> = callers.map(|&caller| Chance::Wake(caller)).collect();
        let loads = self.running.iter().filter(|&&load| self.loads[load].place == place);
        chances.extend(loads.map(|&load| Chance::Report(load)));
        if chances.is_empty() {
            self.close(place);
            return Ok(());
        }
        self.sites[place].stack.push(Doing::Closing);
        match self.dice.one_of(&chances) {
            Chance::Report(load) if self.loads[load].ended.is_some() => self.report(load, None),
            Chance::Report(load) => {
                self.loads[load].ended = Some(super::plan::How::Aborted);
                Ok(())
            }
            Chance::Wake(caller) => self.cancel(caller),
            Chance::Start(_) | Chance::Fire(_) => Ok(()),
        }
    }

    /// Everything that is to be done now is done.
    pub fn settle(&mut self) -> Verdict {
        const ENOUGH: usize = 20_000;
        for _ in 0..ENOUGH {
            let mut moved = false;
            for place in 0..self.sites.len() {
                if self.go(place)? {
                    self.check()?;
                    moved = true;
                }
            }
            if !moved {
                return self.check_settled();
            }
        }
        check(false, Promise::WorkEnds, || format!("{:?}", self.sites))
    }
}

/// A load of this world, as the wait-for graph knows it.
fn awaited(flight: FlightId, thread: u64) -> Awaited {
    Awaited { load: waits::Load { cache: 0, flight }, thread, name: String::new() }
}
