//! Loads that hold permits and have others load for them, at random: whatever waits for what, everything ends.
//!
//! A key's load asks for a permit of the key's limit, if it has one, then gathers other keys, its own and each other's
//! among them. Nothing here takes time or fails by itself: what does not end waits in a circle.

use super::super::FlightId;
use super::super::waits::{Asker, Awaited, Hold, Load, Waits, Who};
use crate::core::broken::{Rule, while_broken};
use crate::core::history::Dice;
use crate::core::resilience::{Concurrency, Entered, Ticket};

/// What happens for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Has to ask for its permit.
    Begun,
    /// Waits for it.
    Asks(Ticket),
    /// Asks for these, one by one.
    Runs {
        permit: Option<Ticket>,
        left: Vec<usize>,
        waits_for: Vec<usize>,
    },
}

/// How a key is loaded.
#[derive(Debug)]
struct Key {
    limit: Option<usize>,
    gathers: Vec<usize>,
    /// What it waits for, it waits for as a whole, or by a call within it that holds the permit.
    phase: Phase,
}

#[derive(Debug)]
struct Nested {
    keys: Vec<Key>,
    limits: Vec<Concurrency<(), usize>>,
    waits: Waits,
    circles: usize,
}

fn load(key: usize) -> Who {
    Who::Load(Load { cache: 1, flight: FlightId { slot: key as u32, serial: 0 } })
}

fn awaited(key: usize) -> Awaited {
    let Who::Load(load) = load(key) else { unreachable!() };
    Awaited { load, thread: 1, name: key.to_string() }
}

fn hold(limit: usize, ticket: Ticket) -> Hold {
    Hold { limit: limit as u64, call: ticket.number() }
}

impl Nested {
    fn drawn(dice: &mut Dice) -> Self {
        let (count, limits) = (2 + dice.below(9), 1 + dice.below(3));
        let keys = (0..count).map(|_| {
            let gathers = (0..dice.below(4)).map(|_| dice.below(count)).collect();
            let limit = (!dice.once_in(5)).then(|| dice.below(limits));
            Key { limit, gathers, phase: Phase::Idle }
        });
        let keys = keys.collect();
        let limits = (0..limits).map(|_| Concurrency::new(1 + dice.below(3) as u32, 1_000).unwrap()).collect();
        Nested { keys, limits, waits: Waits::default(), circles: 0 }
    }

    /// Whose code a key's load is: its own, and that of the call which holds its permit.
    fn who(&self, key: usize) -> Vec<Who> {
        let held = match &self.keys[key].phase {
            Phase::Runs { permit: Some(ticket), .. } => {
                self.keys[key].limit.map(|limit| Who::Hold(hold(limit, *ticket)))
            }
            _ => None,
        };
        [load(key)].into_iter().chain(held).collect()
    }

    fn runs(&mut self, key: usize, permit: Option<Ticket>) {
        let left = self.keys[key].gathers.clone();
        self.keys[key].phase = Phase::Runs { permit, left, waits_for: Vec::new() };
    }

    /// The next thing a load does; false if there is nothing it can do.
    fn go(&mut self, key: usize) -> bool {
        match self.keys[key].phase.clone() {
            Phase::Idle | Phase::Asks(_) => false,
            Phase::Begun => {
                self.ask(key);
                true
            }
            Phase::Runs { permit, mut left, mut waits_for } => {
                let Some(next) = left.pop() else {
                    if waits_for.is_empty() {
                        self.end(key);
                    }
                    return waits_for.is_empty();
                };
                if next != key && !waits_for.contains(&next) {
                    let who = self.who(key);
                    if self.keys[next].phase == Phase::Idle {
                        self.keys[next].phase = Phase::Begun;
                    } else if self.waits.circle(&who, &awaited(next)).is_some() {
                        self.circles += 1;
                        self.end(key);
                        return true;
                    }
                    who.into_iter().for_each(|who| self.waits.begin(who, awaited(next)));
                    waits_for.push(next);
                }
                self.keys[key].phase = Phase::Runs { permit, left, waits_for };
                true
            }
        }
    }

    fn ask(&mut self, key: usize) {
        let Some(limit) = self.keys[key].limit else { return self.runs(key, None) };
        let asker = Asker { who: self.who(key), thread: 1, name: key.to_string() };
        let vain = self.waits.is_in_vain(limit as u64, &asker);
        match self.limits[limit].enter(key, (), |_, _| vain) {
            Entered::Runs(ticket) => {
                self.waits.hold(hold(limit, ticket), 1);
                self.runs(key, Some(ticket));
            }
            Entered::Waits(ticket) => {
                self.waits.ask(hold(limit, ticket), asker);
                self.keys[key].phase = Phase::Asks(ticket);
            }
            Entered::Circle(()) => {
                self.circles += 1;
                self.end(key);
            }
            Entered::Full(()) => unreachable!("there is room"),
        }
    }

    /// A load ends, well or not: its permit goes to the next, and who waited for it goes on.
    fn end(&mut self, key: usize) {
        let who = self.who(key);
        let phase = std::mem::replace(&mut self.keys[key].phase, Phase::Idle);
        if let Phase::Runs { permit, waits_for, .. } = phase {
            for other in waits_for {
                who.iter().for_each(|&who| self.waits.end(who, awaited(other).load));
            }
            if let (Some(ticket), Some(limit)) = (permit, self.keys[key].limit) {
                self.leave(limit, ticket);
            }
        }
        for other in 0..self.keys.len() {
            let who = self.who(other);
            if let Phase::Runs { waits_for, .. } = &mut self.keys[other].phase
                && let Some(at) = waits_for.iter().position(|&waited| waited == key)
            {
                waits_for.swap_remove(at);
                who.into_iter().for_each(|who| self.waits.end(who, awaited(key).load));
            }
        }
    }

    fn leave(&mut self, limit: usize, ticket: Ticket) {
        let next = self.limits[limit].leave(ticket).next;
        self.waits.left(hold(limit, ticket));
        if let Some((next, ())) = next {
            self.waits.granted(hold(limit, next));
            let waiting = self.keys.iter().position(|key| key.phase == Phase::Asks(next) && key.limit == Some(limit));
            self.runs(waiting.expect("it asks"), Some(next));
        }
    }

    /// Plays a world to its end; false if somebody is left who waits. The second is how many were told of a circle.
    fn play(seed: u64) -> (bool, usize) {
        let mut dice = Dice(seed);
        let mut world = Nested::drawn(&mut dice);
        let mut asked = 0;
        loop {
            let key = dice.below(world.keys.len());
            if asked < 30 && dice.once_in(3) {
                asked += 1;
                if world.keys[key].phase == Phase::Idle {
                    world.keys[key].phase = Phase::Begun;
                }
            } else if !world.go(key) {
                let moved = (0..world.keys.len()).any(|key| world.go(key));
                if !moved && asked >= 30 {
                    break;
                }
            }
        }
        let ended = world.keys.iter().all(|key| key.phase == Phase::Idle);
        assert!(!ended || (world.waits.is_empty() && world.limits.iter().all(|limit| limit.load() == (0, 0))));
        (ended, world.circles)
    }
}

#[test]
fn loads_that_hold_permits_and_gather_others_always_end() {
    let mut circles = 0;
    for seed in 0..3_000 {
        let (ended, told) = Nested::play(seed);
        assert!(ended, "seed {seed}: somebody waits for ever");
        circles += told;
    }
    assert!(circles > 1_000, "there is hardly a circle to be found: {circles}");
}

#[test]
fn without_permits_among_the_waits_somebody_hangs() {
    let found = while_broken(&[Rule::PermitsAreSeen], || (0..3_000).find(|&seed| !Nested::play(seed).0));
    assert!(found.is_some(), "the rule is of no use");
}
