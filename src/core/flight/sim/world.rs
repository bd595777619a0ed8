//! The world of a history: loops and threads, callers, loads and a clock, around one memory tier. What happens from
//! outside is here; what the driver does about it is in `driver`, `loads` and `effects`.

use super::super::{FlightId, Flights, Home, Lease, Located, Since, Ticket, Waits, Written};
use super::driver::Doing;
use super::effects::Timer;
use super::oracle::{Fault, Oracle, Value, Verdict, Via};
use super::plan::{Act, How, Keeping, LOOPS, PLACES, SPACES, Setup, Step, policy};
use crate::core::clock::{Millis, NEVER, deadline, later};
use crate::core::history::Dice;
use crate::core::memory::{Capacity, Discard, GroupId, Memory, New, Placement, Reason, RegionId, Span, mix};
use crate::core::policy::{Lifetime, Policy};
use crate::core::stats::Stats;
use std::collections::BTreeMap;

/// What a waiter is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Value(Value),
    Error,
    Ended,
    TimedOut,
    Lead,
    Again,
}

/// Where one caller waits.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    pub caller: usize,
    pub home: Home,
    /// The moment it was taken.
    pub taken: u64,
    pub outcome: Option<Outcome>,
    pub told: bool,
    /// It will be told what ends its wait.
    pub dismissed: bool,
}

/// How far a caller has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Called, and not awaited.
    Called,
    /// About to look up.
    Looking,
    /// Has found a load to wait for.
    Joining(FlightId),
    /// Has found an old value, and that somebody loads a new one.
    Served(FlightId, Value),
    /// Has found an old value, and is to start the load of a new one.
    Behind(Lease, Value),
    /// Has taken a lease, and no seat.
    Seating(Lease),
    /// Is to start the load that it waits for.
    Starting(Lease, Ticket, u32),
    /// Waits.
    Waiting(Ticket, u32),
    /// Loads itself, blocked.
    Loading(usize),
    /// Has its answer, or wants none.
    Done,
}

/// Somebody who asks for a key.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub key: u8,
    pub policy: Policy,
    pub place: usize,
    pub home: Home,
    pub anew: bool,
    /// Nothing that began before is an answer.
    pub floor: u64,
    pub phase: Phase,
    /// When it took its seat.
    pub seated: Millis,
    /// The thread it needs while it waits, blocked.
    pub needs: Option<u64>,
    /// The old value that answers in the place of its own load.
    pub old: Option<Value>,
    pub timer: Option<u64>,
}

impl Caller {
    /// True if it blocks its thread.
    pub fn is_blocked(&self) -> bool {
        self.home.event_loop == 0
    }
}

/// A load that runs, or has.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub lease: Lease,
    pub place: usize,
    pub home: Home,
    pub key: u8,
    pub policy: Policy,
    pub value: Value,
    /// The caller whose own it uses.
    pub uses: Option<usize>,
    pub timer: Option<u64>,
    pub ended: Option<How>,
    pub reported: bool,
    /// It was told to stop.
    pub cancelled: bool,
    /// Whatever it brings counts no more.
    pub void: bool,
}

impl Load {
    /// True for one on a loop: it can be cancelled.
    pub fn is_task(&self) -> bool {
        self.home.event_loop != 0
    }
}

/// A load on a loop, as everybody can find it.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    pub load: Option<usize>,
    pub home: Home,
}

/// A flight, as the driver knows it.
#[derive(Clone, Copy, Debug)]
pub struct Flying {
    pub id: FlightId,
    pub key: u8,
    pub policy: Policy,
    /// The value that may answer in its place.
    pub old: Option<Value>,
    /// The value that goes if it fails.
    pub forget: Option<Value>,
    /// It goes on when nobody waits.
    pub steady: bool,
    /// When the present load began.
    pub led: Millis,
    pub attached: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Running {
    Runs,
    StandsStill,
    Closed,
}

/// A loop with its thread, or a thread.
#[derive(Debug)]
pub struct Site {
    pub home: Home,
    pub running: Running,
    /// What it is in the middle of, the innermost last.
    pub stack: Vec<Doing>,
    pub timers: Vec<Timer>,
}

impl Site {
    fn new(at: usize) -> Self {
        let event_loop = if at < LOOPS { at as u64 + 101 } else { 0 };
        let home = Home { thread: at as u64 + 1, event_loop };
        Site { home, running: Running::Runs, stack: Vec::new(), timers: Vec::new() }
    }

    pub fn is_idle(&self) -> bool {
        self.running == Running::Runs && self.stack.is_empty()
    }
}

/// See the module.
#[derive(Debug)]
pub struct World {
    pub keys: Vec<Keeping>,
    pub memory: Memory<u8, Value, u32>,
    pub groups: [GroupId; SPACES],
    pub waits: Waits,
    pub oracle: Oracle,
    pub now: Millis,
    /// Larger with everything that happens.
    pub moment: u64,
    pub dice: Dice,
    pub sites: Vec<Site>,
    pub callers: Vec<Caller>,
    /// Since when each of them wants a new value, if it does.
    pub sinces: Vec<Since>,
    /// Those who have no answer, but for those on a loop that was closed under them.
    pub active: Vec<usize>,
    pub seats: Vec<Seat>,
    pub loads: Vec<Load>,
    /// Loads that have not been reported, but for those on a loop that was closed under them.
    pub running: Vec<usize>,
    pub flying: Vec<Flying>,
    /// Loads on loops by flight: that run, or will as soon as the caller who was told to lead does.
    pub tasks: BTreeMap<u64, Task>,
    /// Whether loaders may answer at once.
    pub at_once: bool,
    /// Whether there may be no room for a load behind.
    pub crowded: bool,
    /// For numbers that are given once.
    pub serial: u64,
    /// How often the promises were checked.
    pub steps: usize,
}

pub fn hash(key: u8) -> u64 {
    mix(u64::from(key / 2), 0)
}

impl World {
    pub fn new(setup: &Setup) -> Self {
        let mut memory = Memory::new(Capacity::entries(setup.capacity), setup.eviction);
        let groups = [(); SPACES].map(|()| memory.entries.add_group(RegionId(0)));
        World {
            keys: setup.keys.clone(),
            memory,
            groups,
            waits: Waits::default(),
            oracle: Oracle::default(),
            now: 3_600_000,
            moment: 1,
            dice: Dice(0),
            sites: (0..PLACES).map(Site::new).collect(),
            callers: Vec::new(),
            sinces: Vec::new(),
            active: Vec::new(),
            seats: Vec::new(),
            loads: Vec::new(),
            running: Vec::new(),
            flying: Vec::new(),
            tasks: BTreeMap::new(),
            at_once: true,
            crowded: true,
            serial: 1_000,
            steps: 0,
        }
    }

    pub fn keeping(&self, key: u8) -> &Keeping {
        &self.keys[usize::from(key)]
    }

    pub fn group(&self, key: u8) -> GroupId {
        self.groups[self.keeping(key).space]
    }

    pub fn counts(&mut self, key: u8) -> &mut Stats {
        &mut self.oracle.counts[self.keys[usize::from(key)].space]
    }

    pub fn flights(&self) -> &Flights<u8, u32> {
        &self.memory.flights
    }

    pub fn seat(&self, number: u32) -> &Seat {
        &self.seats[number as usize]
    }

    pub fn locate(&self, key: u8) -> Located {
        let same = |other: &u8| *other == key;
        let entry = self.memory.entries.find(hash(key), same).map(|id| self.memory.entries.target(id));
        (entry, self.memory.flights.find(hash(key), same))
    }

    /// The value under a key, whatever its age, with its slot.
    pub fn entry(&self, key: u8) -> Option<(u32, Value)> {
        let id = self.memory.entries.find(hash(key), |other| *other == key)?;
        self.memory.entries.sight(id)?;
        Some((id, *self.memory.entries.peek(id)?.value))
    }

    /// One step of a history, and what must be true after it.
    pub fn step(&mut self, step: Step) -> Verdict {
        self.moment += 1;
        self.act(step)?;
        self.check()
    }

    pub fn act(&mut self, step: Step) -> Verdict {
        self.dice = step.dice;
        match step.act {
            Act::Ask { place, key, anew, blocked } => self.ask(place, key, anew, blocked)?,
            Act::Get { key } => self.get(key)?,
            Act::Go { place } => drop(self.go(place)?),
            Act::Settle => self.settle()?,
            Act::End(how) => self.end(how),
            Act::Cancel => self.cancel_one()?,
            Act::Swap { key } => self.keys[usize::from(key)].policy = policy(&mut self.dice),
            Act::Write { key } => self.write(key)?,
            Act::Touch { key } => self.touch(key),
            Act::Delete { key } => self.delete(key),
            Act::Clear { space } => self.clear(space),
            Act::Sweep => drop(self.memory.entries.tidy(self.now, 64, &mut Discard::default())),
            Act::Evict { key } => self.evict(key),
            Act::Wait(by) => self.now += by,
            Act::WaitFor { key } => self.wait_for(key),
            Act::Stop { place } if self.sites[place].is_idle() => self.sites[place].running = Running::StandsStill,
            Act::Resume { place } => self.resume(place),
            Act::Close { place } if self.sites[place].is_idle() => self.sites[place].stack.push(Doing::Closing),
            Act::Crash { place } if self.sites[place].is_idle() => self.close(place),
            Act::Stop { .. } | Act::Close { .. } | Act::Crash { .. } => {}
        }
        Ok(())
    }

    /// Somebody asks: a hit answers at the call, anything else at the first await.
    pub fn ask(&mut self, place: usize, key: u8, anew: bool, blocked: bool) -> Verdict {
        if !self.sites[place].is_idle() || (!anew && self.hit(key)?) {
            return Ok(());
        }
        let floor = if anew { self.moment } else { self.oracle.invalidated[usize::from(key)] };
        let home = self.sites[place].home;
        let home = if blocked { Home { event_loop: 0, ..home } } else { home };
        let phase = if home.event_loop == 0 { Phase::Looking } else { Phase::Called };
        let policy = self.keeping(key).policy;
        let (needs, old, timer) = (None, None, None);
        let caller = Caller { key, policy, place, home, anew, floor, phase, seated: 0, needs, old, timer };
        self.callers.push(caller);
        self.sinces.push(Since::default());
        let caller = self.callers.len() - 1;
        self.active.push(caller);
        if phase == Phase::Looking {
            self.sites[place].stack.push(Doing::Caller(caller));
        }
        Ok(())
    }

    fn hit(&mut self, key: u8) -> Result<bool, Fault> {
        let now = self.now;
        let found = self.memory.entries.hit(hash(key), |other| *other == key, |end| now >= end);
        let Some(value) = found.map(|found| *found.value) else { return Ok(false) };
        self.count_hit(value);
        self.oracle.serve(value, Via::Hit, now)?;
        Ok(true)
    }

    pub fn count_hit(&mut self, value: Value) {
        let fresh = self.now < self.oracle.origin(value).span.fresh_until;
        let counts = self.counts(value.key);
        *(if fresh { &mut counts.hits } else { &mut counts.stale_hits }) += 1;
    }

    fn get(&mut self, key: u8) -> Verdict {
        let now = self.now;
        let found = self.memory.entries.hit_fresh(hash(key), |other| *other == key, |end| now >= end);
        let Some(value) = found.map(|found| *found.value) else { return Ok(()) };
        self.count_hit(value);
        self.oracle.serve(value, Via::FreshHit, now)
    }

    /// A load that can go on comes to its end; what was cancelled mostly obeys.
    fn end(&mut self, how: How) {
        let can = |load: &usize| {
            let load = &self.loads[*load];
            load.ended.is_none() && self.can_go_on(load)
        };
        let candidates: Vec<usize> = self.running.iter().copied().filter(can).collect();
        if !candidates.is_empty() {
            let load = self.dice.one_of(&candidates);
            let obeys = self.loads[load].cancelled && !self.dice.once_in(4);
            self.loads[load].ended = Some(if obeys { How::Aborted } else { how });
        }
    }

    /// True if what runs a load is not stopped, nor blocked by something else.
    pub fn can_go_on(&self, load: &Load) -> bool {
        let site = &self.sites[load.place];
        site.running == Running::Runs && (!load.is_task() || site.stack.is_empty())
    }

    fn cancel_one(&mut self) -> Verdict {
        let can = |caller: &usize| self.can_be_cancelled(*caller);
        let candidates: Vec<usize> = self.active.iter().copied().filter(can).collect();
        if candidates.is_empty() {
            return Ok(());
        }
        let caller = self.dice.one_of(&candidates);
        self.cancel(caller)
    }

    /// A task between two callbacks, or a blocked thread that waits: it looks for its answer before it looks for signals.
    pub fn can_be_cancelled(&self, caller: usize) -> bool {
        let caller = &self.callers[caller];
        let site = &self.sites[caller.place];
        match caller.phase {
            Phase::Called => site.is_idle(),
            Phase::Waiting(_, seat) if caller.is_blocked() => {
                self.seat(seat).outcome.is_none() && site.stack.len() == 1
            }
            Phase::Waiting(..) => site.is_idle(),
            _ => false,
        }
    }

    pub fn write(&mut self, key: u8) -> Verdict {
        let policy = self.keeping(key).policy;
        let value = self.oracle.value(key, self.moment, policy);
        let end = deadline(self.now, policy.ttl);
        let placement = Placement::new(self.group(key), end, 0);
        let located = self.locate(key);
        self.detached(key);
        self.oracle.invalidate(key, self.moment);
        let new = New { hash: hash(key), key, value, placement };
        let written = Written { new, lifetime: Lifetime::plain(end) };
        let stored = self.memory.write(written, located, self.now, &mut Discard::default());
        if stored.is_some() { self.oracle.store(value, Span::until(end), self.now) } else { Ok(()) }
    }

    fn touch(&mut self, key: u8) {
        let now = self.now;
        let Some((id, value)) = self.entry(key) else { return };
        if self.memory.entries.is_served(id, |end| now >= end) {
            let until = now + 1_000;
            self.detach(key);
            self.memory.entries.touch(id, until);
            self.oracle.origin_mut(value).span = Span::until(until);
        }
    }

    pub fn delete(&mut self, key: u8) {
        let (located, group, now) = (self.locate(key), self.group(key), self.now);
        self.detached(key);
        self.memory.forget(group, located, |end| now >= end, &mut Discard::default());
        self.counts(key).invalidations += 1;
        self.oracle.invalidate(key, self.moment);
    }

    fn detach(&mut self, key: u8) {
        if let (_, Some(flight)) = self.locate(key) {
            self.memory.flights.detach(flight);
        }
        self.detached(key);
    }

    /// Whoever loads a key stores nothing from now on.
    pub fn detached(&mut self, key: u8) {
        self.flying.iter_mut().filter(|flying| flying.key == key).for_each(|flying| flying.attached = false);
    }

    fn clear(&mut self, space: usize) {
        self.groups[space] = self.memory.entries.renew_group(self.groups[space]);
        self.memory.entries.stats_mut(self.groups[space]).invalidations += 1;
        self.oracle.counts[space].invalidations += 1;
        for key in 0..self.keys.len() as u8 {
            if self.keeping(key).space == space {
                self.oracle.invalidate(key, self.moment);
                self.detached(key);
            }
        }
    }

    pub fn evict(&mut self, key: u8) {
        if let Some((id, _)) = self.entry(key) {
            self.memory.entries.remove(id, Reason::Evicted, &mut Discard::default());
        }
    }

    /// Moments that are still to come at which something changes for a key, or an alarm goes off.
    pub fn borders(&self, key: u8) -> Vec<Millis> {
        let mut borders: Vec<Millis> = self.sites.iter().flat_map(|site| &site.timers).map(|timer| timer.at).collect();
        if let Some((_, value)) = self.entry(key) {
            let (span, policy) = (self.oracle.origin(value).span, self.keeping(key).policy);
            let stale_until = later(span.fresh_until, policy.stale_while_revalidate);
            borders.extend([span.fresh_until, stale_until, span.expires, span.retry_at]);
        }
        borders.retain(|&border| border > self.now && border < NEVER);
        borders
    }

    fn wait_for(&mut self, key: u8) {
        let borders = self.borders(key);
        if !borders.is_empty() {
            let (border, offset) = (self.dice.one_of(&borders), self.dice.one_of(&[0, 1, 2, 31]));
            self.now = self.now.max(border + offset - 1);
        }
    }

    /// A loop that stands still goes on; for one that was closed there is a new one.
    fn resume(&mut self, place: usize) {
        self.serial += 1;
        let site = &mut self.sites[place];
        if site.running == Running::Closed {
            site.home.event_loop = self.serial;
        }
        site.running = Running::Runs;
    }

    /// Nothing that was on a loop goes on.
    pub fn close(&mut self, place: usize) {
        self.sites[place].running = Running::Closed;
        self.sites[place].timers.clear();
        self.active.retain(|&caller| self.callers[caller].place != place);
        self.running.retain(|&load| self.loads[load].place != place);
    }
}
