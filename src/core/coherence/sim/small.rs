//! All histories of a few readers and a writer of one key with one tag: what each of them does is given, in which order is not.

use super::super::How;
use super::settle;
use super::world::{Act, Event, Fault, PATIENCE_MS, World};
use crate::core::broken::{Rule, while_broken};
use crate::core::explore::{self, Histories, explore};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

/// Who does what, each in this order, and what may go wrong.
#[derive(Clone, Copy, Debug)]
struct Case {
    nodes: usize,
    players: &'static [&'static [Act]],
    /// Every process has the key in memory at first, and trusts it.
    warm: bool,
    /// How many requests or messages may get lost.
    losses: usize,
    /// How many times anybody asks whether something was missed, or connects anew.
    beats: usize,
}

/// Something that can happen next.
#[derive(Clone, Copy, Debug)]
enum Choice {
    /// A player acts.
    Act(usize),
    /// Something happens by itself.
    Event(Event),
    /// The next message to a process is lost.
    Miss(usize),
}

/// A world in which a case is played.
#[derive(Clone)]
struct Game {
    case: Rc<Case>,
    world: World,
    /// How many of its acts each player has done.
    done: Vec<usize>,
    lost: usize,
    beats: usize,
}

impl Game {
    fn new(case: Case) -> Self {
        let mut world = World::new(case.nodes, (100, 100));
        for node in 0..case.nodes {
            world.act(Act::Tend { node });
            if case.warm {
                world.act(Act::Read { node, key: 0 });
                finish(&mut world);
            }
        }
        Game { done: vec![0; case.players.len()], case: case.into(), world, lost: 0, beats: 0 }
    }
}

/// All requests are answered and all loads end.
fn finish(world: &mut World) {
    let mut events = Vec::new();
    while !world.is_quiet() {
        world.events(false, false, &mut events);
        let event = events.iter().find(|event| !is_beat(**event)).expect("something is under way");
        world.happen(*event);
    }
}

fn is_beat(event: Event) -> bool {
    matches!(event, Event::Connect(_) | Event::Ask(_) | Event::TimeOut(_) | Event::Notice(_))
}

impl explore::World for Game {
    type Choice = Choice;

    fn choices(&self) -> Vec<Choice> {
        let Case { players, losses, beats, nodes, .. } = *self.case;
        let acts = (0..players.len()).filter(|&player| self.done[player] < players[player].len());
        let (mut events, may_lose) = (Vec::new(), self.lost < losses);
        self.world.events(false, may_lose, &mut events);
        events.retain(|event| self.beats < beats || !is_beat(*event));
        let missed = (0..nodes).filter(|&node| may_lose && self.world.has_message(node));
        acts.map(Choice::Act).chain(events.into_iter().map(Choice::Event)).chain(missed.map(Choice::Miss)).collect()
    }

    fn take(&mut self, choice: Choice) -> Result<(), String> {
        match choice {
            Choice::Act(player) => {
                let act = self.case.players[player][self.done[player]];
                self.done[player] += 1;
                self.world.act(act);
            }
            Choice::Event(event) => {
                self.lost += usize::from(matches!(event, Event::Lose(..) | Event::Apply(_, _, false)));
                self.beats += usize::from(is_beat(event));
                self.world.happen(event);
            }
            Choice::Miss(node) => {
                self.lost += 1;
                self.world.act(Act::Link { node, fault: Fault::Lose, at: 0 });
            }
        }
        self.world.check()
    }

    fn end(&mut self) -> Result<(), String> {
        settle(&mut self.world, &mut Vec::new()).map(drop)
    }

    fn another(&self, _: &[Choice]) -> Self {
        self.clone()
    }

    fn state(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.world.sum(), &self.done, self.lost, self.beats).hash(&mut hasher);
        hasher.finish()
    }
}

const READ: Act = Act::Read { node: 0, key: 0 };
const READ_THERE: Act = Act::Read { node: 1, key: 0 };
const READ_ELSEWHERE: Act = Act::Read { node: 2, key: 0 };
const INVALIDATE: Act = Act::Invalidate { node: 0, key: 0 };
const SET: Act = Act::Set { node: 0, key: 0 };
/// The first of the names, a tag.
const MOVE: Act = Act::Move { node: 0, name: 0, how: How::Gone };
const EXPIRE: Act = Act::Move { node: 0, name: 0, how: How::Stale };
const EVICT: Act = Act::Evict { key: 0 };
const CRASH: Act = Act::Crash { node: 1 };
const BOUND: Act = Act::Wait(PATIENCE_MS);
/// Longer than claims and tombstones live.
const HALF_A_MINUTE: Act = Act::Wait(31_000);

const CASE: Case = Case { nodes: 3, players: &[], warm: false, losses: 0, beats: 0 };

fn cases() -> Vec<(&'static str, Case)> {
    let two = Case { nodes: 2, ..CASE };
    let warm = Case { warm: true, ..two };
    vec![
        ("readers and a writer", Case { players: &[&[READ], &[READ_THERE], &[INVALIDATE]], ..two }),
        ("readers and a tag", Case { players: &[&[READ], &[READ_THERE], &[MOVE]], ..two }),
        ("a tag that expires", Case { players: &[&[READ_THERE, READ_THERE], &[EXPIRE]], ..two }),
        ("eviction", Case { players: &[&[READ], &[READ_THERE], &[INVALIDATE], &[EVICT]], ..two }),
        ("a clock that is evicted", Case { players: &[&[READ_THERE, READ_THERE], &[MOVE], &[Act::EvictClock]], ..two }),
        ("a process that knows nothing", Case { players: &[&[READ_THERE], &[MOVE], &[Act::EvictClock, CRASH]], ..two }),
        ("tombstones that expire", Case { players: &[&[READ, READ], &[INVALIDATE], &[HALF_A_MINUTE]], ..two }),
        ("flush", Case { players: &[&[READ_THERE, READ_THERE], &[MOVE], &[Act::Flush]], ..two }),
        ("a lost message", Case { players: &[&[INVALIDATE], &[BOUND, READ_THERE]], losses: 1, beats: 1, ..warm }),
        ("a lost message of a tag", Case { players: &[&[MOVE], &[BOUND, READ_THERE]], losses: 1, beats: 1, ..warm }),
        ("a lost message of a value", Case { players: &[&[SET], &[BOUND, READ_THERE]], losses: 1, beats: 1, ..warm }),
        ("a lost write", Case { players: &[&[SET, READ], &[BOUND]], losses: 1, ..warm }),
        ("a lost claim", Case { players: &[&[READ_THERE], &[INVALIDATE]], losses: 1, ..two }),
        ("a lost stamp", Case { players: &[&[READ_THERE], &[MOVE]], losses: 1, ..two }),
        ("a lost move", Case { players: &[&[MOVE, READ], &[READ_THERE]], losses: 1, ..two }),
    ]
}

#[test]
fn no_history_of_a_small_case_answers_with_what_was_invalidated() {
    for (name, case) in cases() {
        let Histories { all, broken, states, example } = explore(Game::new(case));
        println!("{name}: {all} histories, {states} states");
        assert_eq!(broken, 0, "{name}: {broken} of {all}, such as\n{}", example.unwrap_or_default());
        assert!(all > 1_000 && states > 100, "{name}: {all} histories through {states} states are too few");
    }
}

/// Where rules that do not hold break a promise in some of the histories.
const MISSED: &[(&[Rule], &str)] = &[
    (&[Rule::FillsAreConditional], "readers and a writer"),
    (&[Rule::AbsenceIsNoClaim], "tombstones that expire"),
    (&[Rule::AbsenceIsNoClaim], "eviction"),
    (&[Rule::ChangesDetach], "a lost claim"),
    (&[Rule::UnstampedIsNotShared], "a lost stamp"),
    (&[Rule::LoadsAreStampedFirst], "readers and a tag"),
    (&[Rule::RegistersJudge], "readers and a tag"),
    (&[Rule::FramesAreJudged], "readers and a tag"),
    (&[Rule::RegistersJudge], "a tag that expires"),
    (&[Rule::BornIsGone, Rule::BirthsDivide], "a process that knows nothing"),
    (&[Rule::TrustEnds], "a lost message"),
    (&[Rule::CountsAreCompared], "a lost message"),
    (&[Rule::VersionsAreCompared], "a lost message of a value"),
    (&[Rule::CountsAreCompared], "a lost message of a tag"),
    (&[Rule::UnknownInvalidates], "a lost write"),
];

#[test]
fn a_broken_rule_answers_with_what_was_invalidated_in_some_histories_of_a_small_case() {
    for &(rules, name) in MISSED {
        let (_, case) = cases().into_iter().find(|(other, _)| *other == name).expect("there is such a case");
        let Histories { all, broken, .. } = while_broken(rules, || explore(Game::new(case)));
        println!("without {rules:?}, {name}: {:.3} % of {all} histories", 100.0 * broken as f64 / all as f64);
        assert!(broken > 0, "nobody misses {rules:?} in {name}");
    }
}

/// The same number of messages and moves before and after the store has lost everything, and stamps that begin below.
#[test]
fn a_clock_that_begins_anew_below_is_noticed() {
    let play = || {
        let mut game = Game::new(Case { nodes: 2, ..CASE });
        for act in [MOVE, READ_THERE, Act::Flush, Act::Jump(-300_000), MOVE, BOUND, READ_THERE] {
            (0..2).for_each(|node| game.world.act(Act::Tend { node }));
            game.world.act(act);
            finish(&mut game.world);
        }
        game.world.check()
    };
    assert_eq!(play(), Ok(()));
    assert!(while_broken(&[Rule::BirthsAreCompared], play).is_err());
}

/// One key, one tag, one writer and three readers, with all that a store forgets: minutes.
#[test]
#[ignore = "for the figures: cargo test --profile fast --lib -- --ignored --nocapture larger_worlds"]
fn no_history_of_larger_worlds_answers_with_what_was_invalidated() {
    let two = Case { nodes: 2, ..CASE };
    let cases: [(&str, Case); 5] = [
        ("a tombstone", Case { players: &[&[READ], &[READ_THERE], &[READ_ELSEWHERE], &[INVALIDATE]], ..CASE }),
        ("a tag", Case { players: &[&[READ], &[READ_THERE], &[READ_ELSEWHERE], &[MOVE]], ..CASE }),
        (
            "a tombstone that is evicted",
            Case { players: &[&[READ], &[READ_THERE], &[READ_THERE], &[INVALIDATE], &[EVICT]], ..two },
        ),
        (
            "a tombstone that expires",
            Case { players: &[&[READ], &[READ_THERE], &[READ_THERE], &[INVALIDATE], &[HALF_A_MINUTE]], ..two },
        ),
        (
            "a tag whose clock is evicted",
            Case { players: &[&[READ], &[READ_THERE], &[READ_THERE], &[MOVE], &[Act::EvictClock]], ..two },
        ),
    ];
    let mut sum = Histories::default();
    for (name, case) in cases {
        let Histories { all, broken, states, example } = explore(Game::new(case));
        println!("three readers, {name}: {all} histories, {states} states");
        assert_eq!(broken, 0, "{}", example.unwrap_or_default());
        (sum.all, sum.states) = (sum.all + all, sum.states + states);
    }
    println!("{} histories, {} states", sum.all, sum.states);
}
