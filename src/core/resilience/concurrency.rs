//! Concurrency limit: how many calls may run at once, and how many wait for one of them to end.
//!
//! Whoever ends hands its permit to the one who waits longest; nobody who comes later gets between. Everybody leaves by the
//! same door, whether it ran, waited or was handed a permit it no longer wants, and leaving twice is leaving once: so a
//! cancelled caller cannot take a permit with it. The queue is bounded; beyond it callers are refused at once.
//!
//! A waiter is whatever the driver wakes (`W`), handed back to be woken, or dropped, after unlocking. An owner (`O`) is what the
//! driver tells callers apart by: a thread, a task, the load it works for.

use crate::error::{Error, Result};
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// The place of one call, running or waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// Its number, unlike any other's of the same limit.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// Where a call has got to.
#[derive(Debug)]
pub enum Entered<W> {
    /// It runs.
    Runs(Ticket),
    /// It waits to be woken.
    Waits(Ticket),
    /// The queue is full.
    Full(W),
    /// It would wait for itself: all permits are held by the one who asks, or by those who wait for it.
    Circle(W),
}

/// What follows when a call leaves.
#[derive(Debug)]
pub struct Left<W> {
    /// Runs now and is to be woken.
    pub next: Option<(Ticket, W)>,
    /// The one who left the queue, to be dropped.
    pub gone: Option<W>,
}

/// See the module.
#[derive(Debug)]
pub struct Concurrency<W, O = u64> {
    limit: u32,
    room: u32,
    running: HashMap<Ticket, O>,
    waiting: BTreeMap<Ticket, (O, W)>,
    tickets: u64,
    refused: u64,
}

impl<W, O> Concurrency<W, O> {
    /// At most `limit` calls at once, with room for `room` that wait.
    pub fn new(limit: u32, room: u32) -> Result<Self> {
        if limit == 0 {
            return Err(Error::config("concurrency", "0", "give 1 or more calls at once"));
        }
        let (running, waiting) = (HashMap::new(), BTreeMap::new());
        Ok(Concurrency { limit, room, running, waiting, tickets: 0, refused: 0 })
    }

    /// Runs if there is a permit; what most calls need.
    pub fn try_enter(&mut self, owner: O) -> Option<Ticket> {
        (self.running.len() < self.limit as usize).then(|| {
            let ticket = self.issue();
            self.running.insert(ticket, owner);
            ticket
        })
    }

    /// Runs if there is a permit, else waits if there is room; but not where `awaits` says of each who holds a permit that it
    /// is the one who asks, or waits for that one.
    pub fn enter(&mut self, owner: O, wake: W, awaits: impl Fn(&O, &O) -> bool) -> Entered<W> {
        if self.running.len() < self.limit as usize {
            let ticket = self.issue();
            self.running.insert(ticket, owner);
            return Entered::Runs(ticket);
        }
        if self.waiting.len() >= self.room as usize {
            self.refused += 1;
            return Entered::Full(wake);
        }
        if self.running.values().all(|holder| awaits(holder, &owner)) {
            return Entered::Circle(wake);
        }
        let ticket = self.issue();
        self.waiting.insert(ticket, (owner, wake));
        Entered::Waits(ticket)
    }

    /// Leaves, from wherever it is.
    pub fn leave(&mut self, ticket: Ticket) -> Left<W> {
        if self.running.remove(&ticket).is_none() {
            return Left { next: None, gone: self.waiting.remove(&ticket).map(|(_, wake)| wake) };
        }
        let next = self.waiting.pop_first().map(|(ticket, (owner, wake))| {
            self.running.insert(ticket, owner);
            (ticket, wake)
        });
        Left { next, gone: None }
    }

    fn issue(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Forgets the calls under way: in a forked child they will never leave. Their waiters are to be dropped.
    pub fn forget_calls(&mut self) -> Vec<W> {
        self.running.clear();
        std::mem::take(&mut self.waiting).into_values().map(|(_, wake)| wake).collect()
    }

    /// All that wait.
    pub fn waiters(&self) -> impl Iterator<Item = &W> {
        self.waiting.values().map(|(_, wake)| wake)
    }

    /// How many run, and how many wait.
    pub fn load(&self) -> (usize, usize) {
        (self.running.len(), self.waiting.len())
    }

    /// How many may run at once, and how many may wait.
    pub fn limits(&self) -> (u32, u32) {
        (self.limit, self.room)
    }

    /// How many were refused since it was made.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn the_longest_waiting_is_next() {
        let mut limit = Concurrency::new(1, 2).unwrap();
        let first = limit.try_enter(1).unwrap();
        assert!(limit.try_enter(2).is_none());
        let second = match limit.enter(2, "second", u64::eq) {
            Entered::Waits(ticket) => ticket,
            other => panic!("{other:?}"),
        };
        assert!(matches!(limit.enter(3, "third", u64::eq), Entered::Waits(_)));
        assert!(matches!(limit.enter(4, "fourth", u64::eq), Entered::Full("fourth")));
        assert_eq!(limit.leave(first).next, Some((second, "second")));
        assert!(limit.try_enter(5).is_none(), "handed over, not free");
        assert_eq!((limit.load(), limit.refused()), ((1, 1), 1));
    }

    #[test]
    fn who_was_handed_a_permit_and_went_away_hands_it_on() {
        let mut limit = Concurrency::new(1, 9).unwrap();
        let first = limit.try_enter(1).unwrap();
        let Entered::Waits(second) = limit.enter(2, "second", u64::eq) else { panic!() };
        let Entered::Waits(third) = limit.enter(3, "third", u64::eq) else { panic!() };
        limit.leave(first);
        assert_eq!(limit.leave(second).next, Some((third, "third")));
        assert!(limit.leave(second).next.is_none(), "leaving twice is leaving once");
        assert_eq!(limit.load(), (1, 0));
    }

    #[test]
    fn nobody_waits_for_itself() {
        let mut limit = Concurrency::new(2, 9).unwrap();
        limit.try_enter(7).unwrap();
        let other = limit.try_enter(8).unwrap();
        assert!(matches!(limit.enter(7, (), u64::eq), Entered::Waits(_)), "the other one will end");
        limit.leave(other);
        assert!(matches!(limit.enter(7, (), u64::eq), Entered::Circle(())));
    }

    #[test]
    fn nobody_waits_for_those_who_wait_for_it() {
        let mut limit = Concurrency::new(2, 9).unwrap();
        limit.try_enter(7).unwrap();
        limit.try_enter(8).unwrap();
        assert!(matches!(limit.enter(9, (), |&holder, &asks| holder == 7 && asks == 9), Entered::Waits(_)));
        assert!(matches!(limit.enter(9, (), |&holder, &asks| holder >= 7 && asks == 9), Entered::Circle(())));
    }

    #[test]
    fn a_forked_child_starts_with_all_permits() {
        let mut limit = Concurrency::new(1, 9).unwrap();
        let parents = limit.try_enter(1).unwrap();
        limit.enter(2, "waits", u64::eq);
        assert_eq!(limit.forget_calls(), ["waits"]);
        limit.try_enter(3).unwrap();
        assert!(limit.leave(parents).next.is_none());
        assert!(limit.try_enter(4).is_none(), "what a call of the parent does changes nothing");
    }

    #[test]
    fn zero_calls_at_once_are_refused() {
        let error = Concurrency::<()>::new(0, 1).unwrap_err().to_string();
        assert!(error.contains("concurrency: 0; give 1"), "{error}");
    }

    proptest! {
        #[test]
        fn permits_are_never_lost_and_never_too_many(
            limit in 1..4_u32, room in 0..4_u32, steps in proptest::collection::vec((any::<bool>(), 0..12_usize), 1..200)
        ) {
            let mut machine = Concurrency::new(limit, room).unwrap();
            let (mut running, mut waiting) = (Vec::new(), VecDeque::new());
            for (turn, (enters, which)) in steps.into_iter().enumerate() {
                if enters {
                    match machine.enter(turn as u64, turn, u64::eq) {
                        Entered::Runs(ticket) => {
                            prop_assert!(running.len() < limit as usize && waiting.is_empty());
                            running.push(ticket);
                        }
                        Entered::Waits(ticket) => {
                            prop_assert!(running.len() == limit as usize && waiting.len() < room as usize);
                            waiting.push_back((ticket, turn));
                        }
                        Entered::Full(wake) => prop_assert!(wake == turn && waiting.len() == room as usize),
                        Entered::Circle(_) => prop_assert!(false, "everyone is somebody else"),
                    }
                } else if which < running.len() {
                    let Left { next, gone } = machine.leave(running.swap_remove(which));
                    prop_assert_eq!(next, waiting.pop_front());
                    prop_assert!(gone.is_none());
                    running.extend(next.map(|(ticket, _)| ticket));
                } else if which - running.len() < waiting.len() {
                    let (ticket, turn) = waiting.remove(which - running.len()).unwrap();
                    let Left { next, gone } = machine.leave(ticket);
                    prop_assert_eq!((next, gone), (None, Some(turn)));
                }
                prop_assert_eq!(machine.load(), (running.len(), waiting.len()));
            }
        }
    }
}
