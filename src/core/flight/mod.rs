//! Single flight: at most one load per key, everyone else waits for its outcome.
//!
//! This is the decision, not the doing: a state machine without I/O, time or tasks, whose drivers (asyncio, blocking,
//! tokio) run its [`Effect`]s. It holds flights, never values. A flight is a *lease*, not a lock: the load belongs to the
//! cache, callers come and go, and an invalidation detaches the flight from its key: it answers those who wait and
//! stores nothing.
//!
//! A waiter is whatever the driver wakes (`W`): a future's handle or a thread's condition variable. The protocol is
//! written once for all.

mod ahead;
mod by_hand;
mod drive;
mod explain;
mod heed;
mod lookup;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
mod waits;

pub use by_hand::Written;
pub use drive::{Adapted, Done, Ended, Keep, Lasting, Located, Lookup, Newer, Place, Since, Wish, lifetime};
pub use explain::{Explanation, Standing, Would};
pub use heed::Settled;
pub use lookup::{Answer, Refresh, Sight, answer};
pub use waits::{Asker, Awaited, Hold, Load, Waits, Who};

use super::broken::{Rule, broken};
use super::clock::{Millis, NEVER, later};
use super::memory::{GroupId, NO_TURN, Target, Turn};
use hashbrown::HashTable;
use std::collections::VecDeque;
use std::time::Duration;

/// While a refresh runs, hits of its entry are plain for so long; then one looks whether it can still end. So does whoever
/// waits for a load on another loop.
const RECHECK: Duration = Duration::from_secs(1);

/// A flight, for as long as it lasts; never reused within 2^32 flights of the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlightId {
    slot: u32,
    serial: u32,
}

impl FlightId {
    /// As one number, for keeping where only numbers can be kept.
    pub fn to_bits(self) -> u64 {
        u64::from(self.slot) << 32 | u64::from(self.serial)
    }
}

/// The right to fill a key once: a flight and which attempt at it. A later attempt makes the earlier lease void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The flight.
    pub flight: FlightId,
    attempt: u32,
}

/// One caller's place in a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The flight.
    pub flight: FlightId,
    number: u64,
}

/// Where a load runs or a waiter lives: a thread, and the event loop on it if there is one (0 = none).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Home {
    /// The operating system's or interpreter's name of the thread.
    pub thread: u64,
    /// The event loop, 0 for a plain thread.
    pub event_loop: u64,
}

/// How long a load lives compared with those who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It ends with its last waiter.
    Shared,
    /// It ends with the caller whose parameters it uses; the next waiter starts anew with its own.
    Bound,
    /// Nothing ends it but itself: a blocked thread's own call, or a refresh.
    Steady,
}

/// What a load leans on, and how long it may take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// The load is stopped after so long.
    pub timeout: Option<Duration>,
    /// What answers if the load fails or takes too long.
    pub fallback: Option<Fallback>,
    /// What goes if the load fails or takes too long.
    pub forget: Option<Target>,
}

/// An old value that is still of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Where it is.
    pub target: Target,
    /// It may answer until then.
    pub until: Millis,
    /// After a load that failed: how long no other is tried.
    pub retry_after: Duration,
}

/// What a load needs when it begins.
#[derive(Debug)]
pub struct Begin<K> {
    /// The key's hash.
    pub hash: u64,
    /// The key.
    pub key: K,
    /// The group the value will belong to.
    pub group: GroupId,
    /// The entry that is there now, if any.
    pub seen: Option<Target>,
    /// Where the load will run.
    pub home: Home,
    /// When it ends early.
    pub life: Life,
    /// What it leans on.
    pub bounds: Bounds,
    /// True for somebody who wants a new value though one is there.
    pub anew: bool,
    /// Now.
    pub began: Millis,
    /// How much had been invalidated by tags and namespaces.
    pub sequence: u64,
    /// The turn in which what is in memory was looked at.
    pub turn: Turn,
}

/// Where a loaded value goes, if it may still go there.
#[derive(Debug)]
pub struct Fill<K> {
    /// The key's hash.
    pub hash: u64,
    /// The key.
    pub key: K,
    /// The group.
    pub group: GroupId,
    /// The entry that was there when the load began.
    pub seen: Option<Target>,
    /// When it began: what a value cost to load is part of what it is worth.
    pub began: Millis,
    /// How much had been invalidated by then.
    pub sequence: u64,
    /// The turn it was.
    pub turn: Turn,
}

/// What happened to a load or to somebody who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The load ended with a value.
    Loaded,
    /// There was no load: a tier behind the memory had the value.
    Found,
    /// The load ended with an error of its own.
    Failed,
    /// Somebody else ended the load: a closing loop, an interrupted thread.
    Aborted,
    /// There was no load: a tier behind was asked, and has nothing. What is in memory stays as it is.
    Absent,
}

/// Whose time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A load's: it is stopped.
    Load(Lease),
    /// A waiter's: it gets the old value.
    Waiter(Ticket),
}

/// What the driver has to do, in this order.
#[derive(Debug)]
pub enum Effect<K, W> {
    /// Put the value into memory.
    Store(Fill<K>),
    /// Nobody stores the value; the key is to be dropped after unlocking.
    Release(K),
    /// The load has failed, or was stopped: the old value stays in use, if it is still there, and answers all who wait.
    /// The memory tier has done it in the same step.
    Relent(Fallback),
    /// The load has failed, or was stopped, and the old value goes. As above.
    Forget(Target),
    /// Stop the load that is running.
    CancelLoad,
    /// Tell these that it took too long.
    TimeOut(Vec<W>),
    /// Give this one the old value.
    Give(Fallback, W),
    /// Tell these the load's outcome.
    Wake(Vec<W>),
    /// Tell these that the load was ended from outside.
    Fail(Vec<W>),
    /// Tell this one to load, with its own arguments.
    Lead(W),
    /// Tell these to look the key up again.
    Again(Vec<W>),
}

/// The effects of one step.
pub type Effects<K, W> = Vec<Effect<K, W>>;

#[derive(Debug)]
struct Waiter<W> {
    number: u64,
    home: Home,
    /// When it would rather have the old value.
    patience: Millis,
    /// It wants what the next load brings.
    follows: bool,
    /// `None` from the moment it is told to lead until it does.
    wake: Option<W>,
}

#[derive(Debug)]
struct Flight<K, W> {
    hash: u64,
    key: Option<K>,
    group: GroupId,
    seen: Option<Target>,
    home: Home,
    life: Life,
    bounds: Bounds,
    anew: bool,
    /// How many flights had begun, with this one.
    number: u64,
    /// When the present attempt began.
    began: Millis,
    sequence: u64,
    turn: Turn,
    /// When the present attempt is stopped.
    ends: Millis,
    attempt: u32,
    /// The waiter whose load runs, or who was told to lead and has not begun.
    leader: Option<u64>,
    loading: bool,
    /// Those who came first leave first, mostly: where thousands are cancelled, none moves the others.
    waiters: VecDeque<Waiter<W>>,
}

impl<K, W> Flight<K, W> {
    /// Where a waiter stands: they are in the order of their numbers, and whoever has just come is the last.
    fn seat(&self, ticket: Ticket) -> Option<usize> {
        let last = self.waiters.len().checked_sub(1)?;
        if self.waiters[last].number == ticket.number {
            return Some(last);
        }
        self.waiters.binary_search_by_key(&ticket.number, |waiter| waiter.number).ok()
    }

    /// When a waiter is to be told something, if the load has not ended before.
    fn patience(&self, waiter: &Waiter<W>) -> Millis {
        waiter.patience.min(self.ends)
    }

    /// What a failure does to the old value.
    fn failed(&self, now: Millis) -> Effects<K, W> {
        let relent = self.fallback(now).map(Effect::Relent);
        let forget = self.bounds.forget.filter(|_| !broken(Rule::FailureForgets));
        relent.into_iter().chain(forget.map(Effect::Forget)).collect()
    }

    fn fallback(&self, now: Millis) -> Option<Fallback> {
        self.bounds.fallback.filter(|fallback| now < fallback.until || broken(Rule::OldHasAnEnd))
    }
}

/// Those who are told the outcome, and those who want what the next load brings.
fn told<W>(waiters: impl IntoIterator<Item = Waiter<W>>) -> (Vec<W>, Vec<W>) {
    let (mut told, mut follow) = (Vec::new(), Vec::new());
    for waiter in waiters {
        let group = if waiter.follows { &mut follow } else { &mut told };
        group.extend(waiter.wake);
    }
    (told, follow)
}

/// They look again.
fn again<K, W>(waiters: Vec<W>) -> Option<Effect<K, W>> {
    (!waiters.is_empty()).then_some(Effect::Again(waiters))
}

#[derive(Debug)]
struct Slot<K, W> {
    serial: u32,
    flight: Option<Box<Flight<K, W>>>,
}

/// Whether a load ends when its leader leaves, though others wait.
fn ends_with_leader(life: Life) -> bool {
    match life {
        Life::Bound => !broken(Rule::BoundLoadsEnd),
        Life::Shared => broken(Rule::LoadsAreShared),
        Life::Steady => false,
    }
}

/// All flights of one memory tier.
#[derive(Debug)]
pub struct Flights<K, W> {
    /// Attached flights by key: hash and slot.
    index: HashTable<(u64, u32)>,
    slots: Vec<Slot<K, W>>,
    free: Vec<u32>,
    tickets: u64,
    begun: u64,
}

impl<K, W> Default for Flights<K, W> {
    fn default() -> Self {
        Flights { index: HashTable::new(), slots: Vec::new(), free: Vec::new(), tickets: 0, begun: 0 }
    }
}

impl<K, W> Flights<K, W> {
    /// The attached flight of a key.
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(&K) -> bool) -> Option<FlightId> {
        if self.index.is_empty() {
            return None;
        }
        let found = self.index.find(hash, |&(other, slot)| {
            let flight = &self.slots[slot as usize].flight;
            other == hash && flight.as_ref().and_then(|flight| flight.key.as_ref()).is_some_and(&mut is_it)
        });
        found.map(|&(_, slot)| FlightId { slot, serial: self.slots[slot as usize].serial })
    }

    /// The keys of attached flights with this hash, for callers who compare outside the lock.
    pub fn candidates(&self, hash: u64) -> impl Iterator<Item = (FlightId, &K)> {
        let same = self.index.iter_hash(hash).filter(move |(other, _)| *other == hash);
        same.filter_map(|&(_, slot)| {
            let Slot { serial, flight } = &self.slots[slot as usize];
            Some((FlightId { slot, serial: *serial }, flight.as_ref()?.key.as_ref()?))
        })
    }

    fn get(&self, id: FlightId) -> Option<&Flight<K, W>> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.flight.as_deref().filter(|_| slot.serial == id.serial || broken(Rule::SerialsDiffer))
    }

    fn get_mut(&mut self, id: FlightId) -> Option<&mut Flight<K, W>> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        slot.flight.as_deref_mut().filter(|_| slot.serial == id.serial || broken(Rule::SerialsDiffer))
    }

    /// True if nobody waits for a load that may still report.
    pub fn is_unattended(&self, lease: Lease) -> bool {
        let flight = self.get(lease.flight).filter(|flight| flight.attempt == lease.attempt);
        flight.is_some_and(|flight| flight.waiters.is_empty())
    }

    /// True until the flight has answered everyone.
    pub fn is_flying(&self, id: FlightId) -> bool {
        self.get(id).is_some()
    }

    /// True for a load that was counted as one that replaces a value.
    fn refreshes(&self, lease: Lease) -> bool {
        let flight = self.get(lease.flight);
        flight.is_some_and(|flight| drive::replaces(flight.anew, flight.bounds.fallback.as_ref()))
    }

    /// True while what this load brings still counts.
    pub fn is_current(&self, lease: Lease) -> bool {
        self.get(lease.flight).is_some_and(|flight| flight.attempt == lease.attempt)
    }

    /// True while somebody there was told to load, and has not begun. Effects of several steps may be run in any order: who
    /// was told meanwhile may have left, or begun.
    pub fn expects(&self, id: FlightId, home: Home) -> bool {
        self.get(id).is_some_and(|flight| !flight.loading && flight.home == home)
    }

    /// True while nothing has invalidated the key.
    pub fn is_attached(&self, id: FlightId) -> bool {
        self.index.find(self.get(id).map_or(0, |flight| flight.hash), |&(_, slot)| slot == id.slot).is_some()
            && self.is_flying(id)
    }

    /// How many wait for a flight.
    pub fn waiting(&self, id: FlightId) -> usize {
        self.get(id).map_or(0, |flight| flight.waiters.len())
    }

    /// Where the load of a flight runs, or will, and the group it loads for.
    pub fn home(&self, id: FlightId) -> Option<(Home, GroupId)> {
        self.get(id).map(|flight| (flight.home, flight.group))
    }

    /// Takes the lease of a key that has no attached flight.
    pub fn begin(&mut self, begin: Begin<K>) -> Lease {
        let Begin { hash, key, group, seen, home, life, bounds, anew, began, sequence, turn } = begin;
        self.begun += 1;
        let flight = Box::new(Flight {
            hash,
            key: Some(key),
            group,
            seen,
            home,
            life,
            bounds,
            anew,
            number: self.begun,
            began,
            sequence,
            turn,
            ends: bounds.timeout.map_or(NEVER, |timeout| later(began, timeout)),
            attempt: 0,
            leader: None,
            loading: true,
            waiters: VecDeque::new(),
        });
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { serial: 0, flight: None });
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize].flight = Some(flight);
        self.index.insert_unique(hash, (hash, slot), |&(hash, _)| hash);
        Lease { flight: FlightId { slot, serial: self.slots[slot as usize].serial }, attempt: 0 }
    }

    /// Adds somebody who waits, and would rather have the old value from `patience` on; `None` if the flight is over.
    pub fn join(&mut self, id: FlightId, home: Home, patience: Millis, wake: W) -> Option<Ticket> {
        self.tickets += 1;
        let number = self.tickets;
        let flight = self.get_mut(id)?;
        flight.waiters.push_back(Waiter { number, home, patience, follows: false, wake: Some(wake) });
        Some(Ticket { flight: id, number })
    }

    /// Makes a waiter the one whose load runs: at the begin, or after [`Effect::Lead`], then with a new `wake`.
    pub fn lead(&mut self, ticket: Ticket, home: Home, wake: Option<W>, now: Millis) -> Option<Lease> {
        let flight = self.get_mut(ticket.flight)?;
        let at = flight.seat(ticket)?;
        let waiter = &mut flight.waiters[at];
        waiter.wake = wake.or(waiter.wake.take());
        (flight.leader, flight.loading, flight.home, flight.began) = (Some(ticket.number), true, home, now);
        if !broken(Rule::LeadersHaveTheirTime) {
            flight.ends = flight.bounds.timeout.map_or(NEVER, |timeout| later(now, timeout));
        }
        Some(Lease { flight: ticket.flight, attempt: flight.attempt })
    }

    /// A load begins only now that was to begin with its lease: behind its callers, it has all its time.
    pub fn delayed(&mut self, lease: Lease, now: Millis) {
        let flight = self.get_mut(lease.flight).filter(|flight| flight.attempt == lease.attempt);
        if let Some(flight) = flight.filter(|flight| flight.waiters.is_empty()) {
            flight.ends = flight.bounds.timeout.map_or(NEVER, |timeout| later(now, timeout));
        }
    }

    /// The load lives from now on as this leader's does.
    pub fn live(&mut self, lease: Lease, life: Life) {
        if let Some(flight) = self.get_mut(lease.flight).filter(|flight| flight.attempt == lease.attempt) {
            flight.life = if broken(Rule::LivesAreTakenOver) { flight.life } else { life };
        }
    }

    /// True if somebody wanted a new value and began this flight when more than so many had begun.
    fn is_newer(&self, id: FlightId, begun: u64) -> bool {
        self.get(id).is_some_and(|flight| flight.anew && flight.number > begun)
    }

    /// True if this flight is among the first so many that have begun.
    fn is_among(&self, id: FlightId, first: u64) -> bool {
        self.get(id).is_some_and(|flight| flight.number <= first)
    }

    /// True for a load that has taken too long, and goes on.
    fn is_late(&self, id: FlightId, now: Millis) -> bool {
        self.get(id).is_some_and(|flight| flight.ends <= now)
    }

    /// A waiter wants what the next load brings: it is told to look again.
    fn follow(&mut self, ticket: Ticket) {
        if let Some(flight) = self.get_mut(ticket.flight)
            && let Some(at) = flight.seat(ticket)
        {
            flight.waiters[at].follows = true;
        }
    }

    /// True if a waiter wants what the next load brings.
    #[cfg(test)]
    pub fn follows(&self, ticket: Ticket) -> bool {
        let flight = self.get(ticket.flight);
        flight.and_then(|flight| Some(flight.waiters[flight.seat(ticket)?].follows)).unwrap_or(false)
    }

    /// What answers in the place of a flight that fails or takes too long.
    pub fn fallback(&self, id: FlightId, now: Millis) -> Option<Fallback> {
        self.get(id)?.fallback(now).filter(|_| self.is_attached(id))
    }

    /// When a load is to be stopped; never for what cannot be, a blocked thread's call.
    pub fn ends(&self, lease: Lease) -> Millis {
        self.get(lease.flight).filter(|flight| flight.home.event_loop != 0).map_or(NEVER, |flight| flight.ends)
    }

    /// When a waiter is to be told something, if the load has not ended before.
    pub fn patience(&self, ticket: Ticket) -> Millis {
        let Some(flight) = self.get(ticket.flight) else { return NEVER };
        flight.seat(ticket).map_or(NEVER, |at| flight.patience(&flight.waiters[at]))
    }

    /// When somebody's alarm is to go off, or again after it has: [`NEVER`] once there is nothing to wait for. Who waits for
    /// a load elsewhere looks every now and then whether it can still end, and who is to end it.
    pub fn alarm(&self, due: Due, now: Millis) -> Millis {
        match due {
            Due::Load(lease) if self.is_current(lease) => self.ends(lease),
            Due::Load(_) => NEVER,
            Due::Waiter(ticket) => {
                let found = self.get(ticket.flight).and_then(|flight| Some((flight, flight.seat(ticket)?)));
                let Some((flight, at)) = found else { return NEVER };
                let waiter = &flight.waiters[at];
                let elsewhere =
                    flight.home.event_loop != waiter.home.event_loop && !broken(Rule::WaitersLookAfterLoads);
                let look = if elsewhere { later(now, RECHECK) } else { NEVER };
                flight.patience(waiter).min(look)
            }
        }
    }

    /// A waiter who would rather have the old value learns that there is none: it waits for the load.
    pub(super) fn resign(&mut self, ticket: Ticket) {
        if let Some(flight) = self.get_mut(ticket.flight)
            && let Some(at) = flight.seat(ticket)
            && !broken(Rule::PatienceIsResigned)
        {
            flight.waiters[at].patience = NEVER;
        }
    }

    /// Everybody whose time is up, for whoever moves a clock or has no timer for each.
    pub fn overdue(&self, now: Millis) -> Vec<Due> {
        let mut due = Vec::new();
        for (slot, Slot { serial, flight }) in self.slots.iter().enumerate() {
            let (id, Some(flight)) = (FlightId { slot: slot as u32, serial: *serial }, flight) else { continue };
            if flight.ends <= now && flight.loading {
                due.push(Due::Load(Lease { flight: id, attempt: flight.attempt }));
            }
            let waiters = flight.waiters.iter().filter(|waiter| waiter.patience <= now);
            due.extend(waiters.map(|waiter| Due::Waiter(Ticket { flight: id, number: waiter.number })));
        }
        due
    }

    /// Somebody's time may be up: a timer says so. Asked too early, or too late, it does nothing.
    pub fn expire(&mut self, due: Due, now: Millis) -> Effects<K, W> {
        match due {
            Due::Load(lease) => self.time_out(lease, now),
            Due::Waiter(ticket) => self.relieve(ticket, now),
        }
    }

    fn time_out(&mut self, lease: Lease, now: Millis) -> Effects<K, W> {
        let Some(flight) = self.get_mut(lease.flight) else { return Vec::new() };
        let early = now < flight.ends && !broken(Rule::TimeOutWaits);
        if flight.attempt != lease.attempt || early || !flight.loading || broken(Rule::TimeOutStops) {
            return Vec::new();
        }
        let attached = self.is_attached(lease.flight);
        let Some(flight) = self.get_mut(lease.flight) else { return Vec::new() };
        let mut effects = if attached { flight.failed(now) } else { Vec::new() };
        let waiters = if flight.home.event_loop == 0 && !broken(Rule::ThreadsGoOn) {
            // A thread cannot be stopped: it goes on alone, and what it brings is stored.
            std::mem::take(&mut flight.waiters)
        } else {
            effects.push(Effect::CancelLoad);
            let Flight { key, waiters, .. } = self.end(lease.flight);
            effects.extend(key.map(Effect::Release));
            waiters
        };
        let (told, follow) = told(waiters);
        effects.push(Effect::TimeOut(told));
        effects.extend(again(follow));
        effects
    }

    /// A waiter gets the old value instead, if there is one; the load goes on without it.
    fn relieve(&mut self, ticket: Ticket, now: Millis) -> Effects<K, W> {
        let attached = self.is_attached(ticket.flight);
        let Some(flight) = self.get_mut(ticket.flight) else { return Vec::new() };
        if now >= flight.ends || broken(Rule::TimeOutWaits) {
            let lease = Lease { flight: ticket.flight, attempt: flight.attempt };
            return self.time_out(lease, now);
        }
        let Some(fallback) = flight.fallback(now).filter(|_| attached) else {
            self.resign(ticket);
            return Vec::new();
        };
        let at = flight.seat(ticket).filter(|&at| flight.waiters[at].patience <= now);
        let Some(wake) = at.and_then(|at| flight.waiters[at].wake.take()) else { return Vec::new() };
        if flight.life == Life::Shared && !broken(Rule::RelievedLoadsGoOn) {
            // It is nearly there, and everybody has an answer: from now on it is a refresh.
            flight.life = Life::Steady;
        }
        let mut effects = vec![Effect::Give(fallback, wake)];
        effects.extend(self.leave(ticket));
        effects
    }

    /// A waiter goes away: cancelled, timed out, or its loop is gone.
    pub fn leave(&mut self, ticket: Ticket) -> Effects<K, W> {
        let Some(flight) = self.get_mut(ticket.flight) else { return Vec::new() };
        let Some(at) = flight.seat(ticket) else { return Vec::new() };
        flight.waiters.remove(at);
        let led = flight.leader == Some(ticket.number);
        // A load that has nobody to run it is handed over whatever its life was to be.
        let needless = flight.life != Life::Steady && !broken(Rule::LastWaiterEndsLoad) || !flight.loading;
        if flight.waiters.is_empty() && needless {
            let mut effects = if flight.loading { vec![Effect::CancelLoad] } else { Vec::new() };
            effects.extend(self.end(ticket.flight).key.map(Effect::Release));
            effects
        } else if led && (ends_with_leader(flight.life) || (!flight.loading && !broken(Rule::LeadIsPassedOn))) {
            let mut effects = if flight.loading { vec![Effect::CancelLoad] } else { Vec::new() };
            effects.extend(self.hand_over(ticket.flight));
            effects
        } else {
            Vec::new()
        }
    }

    /// Tells the longest waiting that it leads now, of those who want what this load brings. The load that ran so far no longer counts. It moves only when nobody
    /// waits for it at home any more: only those elsewhere look after it.
    fn hand_over(&mut self, id: FlightId) -> Effects<K, W> {
        let Some(flight) = self.get_mut(id) else { return Vec::new() };
        flight.attempt += 1;
        // What does not run takes no time.
        (flight.loading, flight.ends) = (false, NEVER);
        let waits_at = |home: Option<Home>| {
            let mut waiters = flight.waiters.iter();
            let fits = |waiter: &Waiter<W>| waiter.wake.is_some() && !waiter.follows;
            waiters.position(|waiter| fits(waiter) && home.is_none_or(|home| waiter.home == home))
        };
        let Some(next) = waits_at(Some(flight.home)).or_else(|| waits_at(None)) else {
            // Only for those who want what the next load brings: that one may begin at once.
            return if flight.waiters.iter().any(|waiter| waiter.follows) { self.supersede(id) } else { Vec::new() };
        };
        let next = &mut flight.waiters[next];
        flight.leader = Some(next.number);
        flight.home = if broken(Rule::HomeMoves) { flight.home } else { next.home };
        next.wake.take().map(Effect::Lead).into_iter().collect()
    }

    /// What became of a load. A void lease has no effect.
    pub fn step(&mut self, lease: Lease, input: Input, now: Millis) -> Effects<K, W> {
        let Some(flight) = self.get(lease.flight) else { return Vec::new() };
        if flight.attempt != lease.attempt && !broken(Rule::LaterAttemptsCount) {
            return Vec::new();
        }
        if input == Input::Aborted {
            return self.abort(lease.flight, flight.home);
        }
        let attached = self.is_attached(lease.flight);
        let failed = flight.failed(now);
        let Flight { hash, key, group, seen, began, sequence, turn, waiters, .. } = self.end(lease.flight);
        let mut effects = Vec::with_capacity(2);
        if input == Input::Failed && attached && !broken(Rule::FailureRelents) {
            effects.extend(failed);
        }
        match key {
            Some(key)
                if (attached || broken(Rule::DetachedStoresNothing))
                    && matches!(input, Input::Loaded | Input::Found) =>
            {
                effects.push(Effect::Store(Fill { hash, key, group, seen, began, sequence, turn }));
            }
            Some(key) => effects.push(Effect::Release(key)),
            None => {}
        }
        let (mut told, follow) = told(waiters);
        if broken(Rule::AllAreWoken) {
            told.truncate(1);
        }
        effects.push(Effect::Wake(told));
        effects.extend(again(follow));
        effects
    }

    /// Waiters elsewhere carry on, those who live where the load was ended get an error.
    fn abort(&mut self, id: FlightId, home: Home) -> Effects<K, W> {
        let Some(flight) = self.get_mut(id) else { return Vec::new() };
        let is_here = |waiter: &Waiter<W>| waiter.home == home || broken(Rule::AbortedIsHandedOver);
        let (here, elsewhere): (VecDeque<_>, _) = std::mem::take(&mut flight.waiters).into_iter().partition(is_here);
        flight.waiters = elsewhere;
        let (mut failed, follow) = told(here);
        if broken(Rule::AbortedIsTold) {
            failed.clear();
        }
        let mut effects = vec![Effect::Fail(failed)];
        effects.extend(again(follow));
        if flight.waiters.is_empty() {
            effects.extend(self.end(id).key.map(Effect::Release));
        } else {
            effects.extend(self.hand_over(id));
        }
        effects
    }

    /// Nobody needs a load any more that runs behind: it ends, or is from now on the affair of those who wait for it.
    pub fn abandon(&mut self, lease: Lease) -> Effects<K, W> {
        self.live(lease, Life::Shared);
        if !self.is_unattended(lease) {
            return Vec::new();
        }
        let released = self.end(lease.flight).key.map(Effect::Release);
        [Effect::CancelLoad].into_iter().chain(released).collect()
    }

    /// Detaches a flight from its key: an explicit write, an invalidation. It answers its waiters and stores nothing.
    pub fn detach(&mut self, id: FlightId) {
        if !broken(Rule::WritesDetach) {
            self.unlink(id);
        }
    }

    /// What it brings is in doubt: something has happened under its key, and nobody knows whether before what it read.
    pub fn doubt(&mut self, id: FlightId) {
        if let Some(flight) = self.get_mut(id) {
            flight.turn = NO_TURN;
        }
    }

    fn unlink(&mut self, id: FlightId) {
        if let Some(hash) = self.get(id).map(|flight| flight.hash)
            && let Ok(entry) = self.index.find_entry(hash, |&(_, slot)| slot == id.slot)
        {
            entry.remove();
        }
    }

    /// Ends a flight whose load can never report, because its loop is closed or stands still. Its waiters look again.
    pub fn supersede(&mut self, id: FlightId) -> Effects<K, W> {
        if !self.is_flying(id) {
            return Vec::new();
        }
        let flight = self.end(id);
        let told = flight.waiters.into_iter().filter_map(|waiter| waiter.wake);
        let mut effects = vec![Effect::Again(told.filter(|_| !broken(Rule::SupersededLookAgain)).collect())];
        effects.extend(flight.key.map(Effect::Release));
        effects
    }

    fn end(&mut self, id: FlightId) -> Flight<K, W> {
        self.unlink(id);
        let slot = &mut self.slots[id.slot as usize];
        slot.serial = slot.serial.wrapping_add(1);
        self.free.push(id.slot);
        *slot.flight.take().expect("callers have just seen the flight")
    }

    /// Flights begun so far; for callers who compared keys outside the lock.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// Flights that have not answered everyone yet.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// True when nothing is being loaded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
