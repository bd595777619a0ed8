//! All histories of a few callers, a writer and one key: what each of them does is given, in which order is not.

use super::driver::{Chance, Doing};
use super::oracle::{Fault, Verdict};
use super::plan::{Act, How, Keeping, Setup, Step};
use super::world::{Outcome, Phase, Running, World};
use crate::core::broken::{Rule, while_broken};
use crate::core::explore::{self, Histories, Sum, explore};
use crate::core::flight::Life;
use crate::core::history::Dice;
use crate::core::memory::Eviction;
use crate::core::policy::Policy;
use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::rc::Rc;
use std::time::Duration;

/// Who does what, each in this order, and what may go wrong.
#[derive(Clone, Debug)]
struct Case {
    policy: Policy,
    life: Life,
    players: &'static [&'static [Act]],
    /// How one of the loads may end that brings no value.
    spoil: Option<How>,
    /// How many callers may be cancelled.
    cancels: usize,
}

/// Something that can happen next.
#[derive(Clone, Copy, Debug)]
enum Choice {
    /// A player acts.
    Act(usize),
    /// What a loop or thread is in the middle of goes on.
    Go(usize),
    /// An idle loop takes one of the things that could be next on it. That a caller's turn has come nobody else sees.
    Take(usize, Chance),
    /// A load ends.
    End(usize, How),
    /// A caller is cancelled.
    Cancel(usize),
}

/// A world in which a case is played.
struct Game {
    case: Rc<Case>,
    world: World,
    /// How many of its acts each player has done.
    done: Vec<usize>,
    spoilt: bool,
    cancelled: usize,
}

impl Game {
    fn new(case: Rc<Case>) -> Self {
        let keys = vec![Keeping { policy: case.policy, space: 0, life: case.life, refresher: false }];
        let mut world = World::new(&Setup { keys, capacity: 100, eviction: Eviction::Lru });
        (world.at_once, world.crowded) = (false, false);
        Game { done: vec![0; case.players.len()], case, world, spoilt: false, cancelled: 0 }
    }

    /// The choice happens; the world may have more to say than whether that went well.
    fn happen(&mut self, choice: Choice) -> Verdict {
        let world = &mut self.world;
        world.moment += 1;
        match choice {
            Choice::Act(player) => {
                let act = self.case.players[player][self.done[player]];
                self.done[player] += 1;
                world.act(Step { act, dice: Dice(0) })
            }
            Choice::Go(place) => world.go(place).map(drop),
            Choice::Take(place, chance @ (Chance::Start(_) | Chance::Wake(_))) => {
                world.take(place, chance)?;
                world.go(place).map(drop)
            }
            Choice::Take(place, chance) => world.take(place, chance),
            Choice::End(load, how) => {
                self.spoilt |= Some(how) == self.case.spoil && !world.loads[load].cancelled;
                world.loads[load].ended = Some(how);
                Ok(())
            }
            Choice::Cancel(caller) => {
                self.cancelled += 1;
                world.cancel(caller)
            }
        }
    }

    fn may_act(&self, player: usize) -> bool {
        match self.case.players[player].get(self.done[player]) {
            Some(Act::Ask { place, .. } | Act::Crash { place }) => self.world.sites[*place].is_idle(),
            act => act.is_some(),
        }
    }

    fn ends(&self, load: usize) -> Vec<How> {
        match &self.world.loads[load] {
            entry if entry.ended.is_some() || !self.world.can_go_on(entry) => Vec::new(),
            entry if entry.cancelled => vec![How::Aborted],
            _ => [How::Value].into_iter().chain(self.case.spoil.filter(|_| !self.spoilt)).collect(),
        }
    }
}

impl explore::World for Game {
    type Choice = Choice;

    fn choices(&self) -> Vec<Choice> {
        let world = &self.world;
        let mut choices: Vec<Choice> =
            (0..self.done.len()).filter(|&player| self.may_act(player)).map(Choice::Act).collect();
        for place in 0..world.sites.len() {
            if world.sites[place].is_idle() {
                choices.extend(world.chances(place).into_iter().map(|chance| Choice::Take(place, chance)));
            } else if world.has_work(place) {
                choices.push(Choice::Go(place));
            }
        }
        for &load in &world.running {
            choices.extend(self.ends(load).into_iter().map(|how| Choice::End(load, how)));
        }
        if self.cancelled < self.case.cancels {
            let can = world.active.iter().copied().filter(|&caller| world.can_be_cancelled(caller));
            choices.extend(can.map(Choice::Cancel));
        }
        choices
    }

    fn take(&mut self, choice: Choice) -> Result<(), String> {
        told(self.happen(choice).and_then(|()| self.world.check()))
    }

    fn end(&mut self) -> Result<(), String> {
        let stuck = self.world.sites.iter().find(|site| site.running == Running::Runs && !site.is_idle());
        stuck.map_or(Ok(()), |site| Err(format!("{site:?} never goes on")))?;
        told(self.world.drain())
    }

    fn another(&self, path: &[Choice]) -> Self {
        let mut game = Game::new(self.case.clone());
        path.iter().for_each(|&choice| drop(game.happen(choice)));
        game
    }

    fn state(&self) -> u64 {
        Sum::of(|out| {
            write!(out, "{:?} {} {}", self.done, self.spoilt, self.cancelled)?;
            self.world.sum(out)
        })
    }
}

fn told(verdict: Result<(), Fault>) -> Result<(), String> {
    verdict.map_err(|fault| fault.to_string())
}

impl World {
    /// All that can matter later. Of the moments only which came first; of those who are done nothing.
    fn sum(&self, out: &mut Sum) -> fmt::Result {
        let order = self.moments();
        let at = |moment: u64| order.range(..moment).count();
        write!(out, "{} {:?} {:?} {:?}", self.now, self.memory.flights, self.waits, self.flying)?;
        write!(out, "{:?} {:?} {:?}", self.tasks, self.active, self.running)?;
        write!(out, "{:?} {}", self.oracle.current[0], at(self.oracle.invalidated[0]))?;
        if let Some((id, value)) = self.entry(0) {
            write!(out, "{value:?} {:?} {:?}", self.memory.entries.target(id), self.memory.entries.span(id))?;
        }
        for number in self.values() {
            let origin = self.oracle.values[number];
            write!(out, "{number} {} {} {:?}", at(origin.since), origin.looked_at, (origin.created, origin.span))?;
        }
        for site in &self.sites {
            write!(out, "{:?} {:?} {:?}", site.running, site.stack, site.timers)?;
        }
        for caller in self.active.iter().map(|&caller| &self.callers[caller]) {
            let (place, floor) = (caller.place, at(caller.floor));
            write!(out, "{place} {floor} {:?}", (caller.phase, caller.seated, caller.needs, caller.old, caller.timer))?;
            if let Phase::Waiting(_, seat) | Phase::Starting(_, _, seat) = caller.phase {
                let seat = self.seat(seat);
                write!(out, "{:?} {}", (seat.outcome, seat.told, seat.dismissed), at(seat.taken))?;
            }
        }
        for load in self.running.iter().map(|&load| &self.loads[load]) {
            let state = (load.lease, load.place, load.value, load.uses, load.timer);
            write!(out, "{state:?} {:?}", (load.ended, load.reported, load.cancelled, load.void))?;
        }
        Ok(())
    }

    fn moments(&self) -> BTreeSet<u64> {
        let callers = self.active.iter().map(|&caller| self.callers[caller].floor);
        let origins = self.values().into_iter().map(|value| self.oracle.values[value].since);
        let seats = self.seats.iter().map(|seat| seat.taken);
        callers.chain(origins).chain(seats).chain(self.oracle.invalidated).collect()
    }

    /// Values that can still get somewhere.
    fn values(&self) -> BTreeSet<usize> {
        let loads = self.running.iter().map(|&load| self.loads[load].value);
        let flying = self.flying.iter().flat_map(|flying| flying.old.into_iter().chain(flying.forget));
        let told = self.seats.iter().filter_map(|seat| match seat.outcome {
            Some(Outcome::Value(value)) => Some(value),
            _ => None,
        });
        let found = self.active.iter().filter_map(|&caller| match self.callers[caller].phase {
            Phase::Served(_, value) | Phase::Behind(_, value) => Some(value),
            _ => self.callers[caller].old,
        });
        let there = self.entry(0).map(|(_, value)| value);
        let all = loads.chain(flying).chain(told).chain(found).chain(there).map(|value| value.number);
        let chores = self.sites.iter().flat_map(|site| &site.stack).filter_map(Doing::value);
        all.chain(chores.map(|value| value.number)).chain(self.oracle.current[0]).collect()
    }
}

/// Readers on two loops and two threads.
const LOOP: Act = Act::Ask { place: 0, key: 0, anew: false, blocked: false };
const ANOTHER: Act = Act::Ask { place: 1, key: 0, anew: false, blocked: false };
const THREAD: Act = Act::Ask { place: 2, key: 0, anew: false, blocked: false };
const SECOND: Act = Act::Ask { place: 3, key: 0, anew: false, blocked: false };
const ANEW: Act = Act::Ask { place: 1, key: 0, anew: true, blocked: false };
const WRITE: Act = Act::Write { key: 0 };
const DELETE: Act = Act::Delete { key: 0 };
const EVICT: Act = Act::Evict { key: 0 };
const CLEAR: Act = Act::Clear { space: 0 };
const LATER: Act = Act::Wait(1_000);
const CRASH: Act = Act::Crash { place: 0 };

const A_SECOND: Duration = Duration::from_secs(1);
const ASKED: Case = Case { policy: Policy::ttl(A_SECOND), life: Life::Shared, players: &[], spoil: None, cancels: 0 };
const STALE: Policy =
    Policy { stale_while_revalidate: A_SECOND, stale_if_error: Duration::from_secs(2), ..Policy::ttl(A_SECOND) };

/// Whatever two or three readers, a writer, eviction and time can do to each other.
fn cases() -> Vec<(&'static str, Case)> {
    let ended = Case { spoil: Some(How::Aborted), ..ASKED };
    let bound = Case { life: Life::Bound, cancels: 1, ..ASKED };
    let stale = Case { policy: STALE, spoil: Some(How::Failed), ..ASKED };
    vec![
        ("readers and a writer", Case { players: &[&[LOOP], &[THREAD], &[SECOND], &[WRITE]], ..ASKED }),
        ("invalidation and eviction", Case { players: &[&[LOOP], &[THREAD], &[DELETE], &[EVICT]], ..ASKED }),
        ("clear and expiry", Case { players: &[&[LOOP], &[THREAD], &[CLEAR], &[LATER]], ..ASKED }),
        ("a new value by force", Case { players: &[&[THREAD, THREAD], &[ANEW], &[EVICT]], ..ASKED }),
        ("refresh of a stale value", Case { players: &[&[THREAD, LATER, LOOP], &[SECOND]], ..stale }),
        ("cancelled callers", Case { cancels: 2, players: &[&[LOOP], &[THREAD], &[DELETE]], ..ASKED }),
        ("callers whose own is used", Case { players: &[&[LOOP], &[THREAD], &[DELETE]], ..bound }),
        ("a loop that dies", Case { players: &[&[LOOP, CRASH], &[ANOTHER], &[DELETE]], ..ASKED }),
        ("a load ended from outside", Case { players: &[&[LOOP], &[ANOTHER]], ..ended }),
    ]
}

#[test]
fn no_history_of_a_small_case_breaks_a_promise() {
    for (name, case) in cases() {
        let Histories { all, broken, states, example } = explore(Game::new(case.into()));
        println!("{name}: {all} histories, {states} states");
        assert_eq!(broken, 0, "{name}: {broken} of {all}, such as\n{}", example.unwrap_or_default());
        assert!(all > 1_000 && states > 100, "{name}: {all} histories through {states} states are too few");
    }
}

/// Where a rule that does not hold breaks a promise in some of the histories.
const MISSED: [(Rule, &str); 11] = [
    (Rule::DetachedStoresNothing, "readers and a writer"),
    (Rule::WritesDetach, "invalidation and eviction"),
    (Rule::ClearedIsNotJoined, "clear and expiry"),
    (Rule::DeadlinesHold, "clear and expiry"),
    (Rule::AnewIsNew, "a new value by force"),
    (Rule::OneRefresh, "refresh of a stale value"),
    (Rule::LastWaiterEndsLoad, "cancelled callers"),
    (Rule::LoadsAreShared, "cancelled callers"),
    (Rule::BoundLoadsEnd, "callers whose own is used"),
    (Rule::SupersededLookAgain, "a loop that dies"),
    (Rule::AbortedIsHandedOver, "a load ended from outside"),
];

#[test]
fn a_broken_rule_breaks_a_promise_in_some_histories_of_a_small_case() {
    for (rule, name) in MISSED {
        let (_, case) = cases().into_iter().find(|(other, _)| *other == name).expect("there is such a case");
        let Histories { all, broken, .. } = while_broken(&[rule], || explore(Game::new(case.into())));
        println!("without {rule:?}, {name}: {:.3} % of {all} histories", 100.0 * broken as f64 / all as f64);
        assert!(broken > 0, "nobody misses {rule:?} in {name}");
    }
}
