//! All histories of a few readers and a writer with two tiers: what each of them does is given, in which order is not.

use super::world::{Act, Event, Want, World};
use crate::core::broken::{Rule, while_broken};
use crate::core::explore::{self, Histories, Sum, explore};
use crate::core::remote::Sharing;
use std::fmt::Write as _;
use std::rc::Rc;

/// Who does what, each in this order, and what may go wrong.
#[derive(Clone, Debug)]
struct Case {
    nodes: usize,
    players: &'static [&'static [Act]],
    /// How many requests may get lost.
    losses: usize,
    /// How many loads may fail.
    failures: usize,
    sharing: Sharing,
    /// How many loads are enough, in any order; 0 = that does not matter.
    loads: usize,
}

/// Something that can happen next.
#[derive(Clone, Copy, Debug)]
enum Choice {
    /// A player acts.
    Act(usize),
    /// Something happens by itself.
    Event(Event),
}

/// A world in which a case is played.
struct Game {
    case: Rc<Case>,
    world: World,
    /// How many of its acts each player has done.
    done: Vec<usize>,
    lost: usize,
    failed: usize,
}

impl Game {
    fn new(case: Rc<Case>) -> Self {
        let world = World::new(case.nodes, case.sharing.into());
        Game { done: vec![0; case.players.len()], case, world, lost: 0, failed: 0 }
    }

    fn happen(&mut self, choice: Choice) -> Result<(), String> {
        match choice {
            Choice::Act(player) => {
                let act = self.case.players[player][self.done[player]];
                self.done[player] += 1;
                return self.world.act(act);
            }
            Choice::Event(event) => {
                self.lost += usize::from(matches!(event, Event::Lose(..) | Event::Repeat(..)));
                self.failed += usize::from(matches!(event, Event::Load(_, _, false)));
                self.world.happen(event);
            }
        }
        Ok(())
    }
}

impl explore::World for Game {
    type Choice = Choice;

    fn choices(&self) -> Vec<Choice> {
        let Case { players, losses, failures, .. } = *self.case;
        let acts = (0..players.len()).filter(|&player| self.done[player] < players[player].len());
        let events = self.world.events(self.failed < failures, self.lost < losses);
        acts.map(Choice::Act).chain(events.into_iter().map(Choice::Event)).collect()
    }

    fn take(&mut self, choice: Choice) -> Result<(), String> {
        self.happen(choice)?;
        let (loads, enough) = (self.world.loads, self.case.loads);
        (loads <= enough || enough == 0)
            .then_some(())
            .ok_or_else(|| format!("{loads} loads, where {enough} are enough"))?;
        self.world.check()
    }

    fn end(&mut self) -> Result<(), String> {
        self.world.check_end()
    }

    fn another(&self, path: &[Choice]) -> Self {
        let mut game = Game::new(self.case.clone());
        path.iter().for_each(|&choice| drop(game.happen(choice)));
        game
    }

    fn state(&self) -> u64 {
        Sum::of(|out| {
            write!(out, "{:?} {} {}", self.done, self.lost, self.failed)?;
            write!(out, "{}", self.world.loads.min(self.case.loads))?;
            self.world.sum(out)
        })
    }
}

const ASK: Act = Act::Ask { node: 0, key: 0, want: Want::Any };
const NEWER: Act = Act::Ask { node: 0, key: 0, want: Want::Newer };
const ANEW: Act = Act::Ask { node: 0, key: 0, want: Want::Anew };
const ASK_THERE: Act = Act::Ask { node: 1, key: 0, want: Want::Any };
const ASK_ELSEWHERE: Act = Act::Ask { node: 2, key: 0, want: Want::Any };
const GET: Act = Act::Get { node: 0, key: 0 };
const INVALIDATE: Act = Act::Invalidate { node: 0, key: 0 };
const SET: Act = Act::Set { node: 0, key: 0 };
const SET_THERE: Act = Act::Set { node: 1, key: 0 };
const EVICT: Act = Act::Evict { key: 0 };
const FORGET: Act = Act::Forget { node: 0, key: 0 };
const HALF_A_MINUTE: Act = Act::Wait(30_000);
const FOUR_SECONDS: Act = Act::Wait(4_000);

const CASE: Case = Case { nodes: 2, players: &[], losses: 0, failures: 0, sharing: Sharing::Process, loads: 0 };

fn cases() -> Vec<(&'static str, Case)> {
    let alone = Case { nodes: 1, ..CASE };
    let once = Case { sharing: Sharing::Cluster, loads: 1, ..CASE };
    let any_loads = Case { loads: 0, ..once.clone() };
    let lossy = Case { losses: 1, ..CASE };
    vec![
        ("readers and a writer", Case { players: &[&[ASK], &[ASK_THERE], &[INVALIDATE]], ..CASE }),
        ("eviction", Case { players: &[&[ASK, FORGET, ASK], &[INVALIDATE], &[EVICT]], ..alone }),
        ("expiry", Case { players: &[&[ASK, ASK], &[INVALIDATE, HALF_A_MINUTE]], ..alone }),
        ("flush", Case { players: &[&[ASK_THERE], &[INVALIDATE, GET], &[Act::Flush]], ..CASE }),
        ("a refresh", Case { players: &[&[ASK, NEWER], &[INVALIDATE]], ..alone }),
        ("a refresh by force", Case { players: &[&[ASK_THERE], &[ANEW], &[INVALIDATE]], ..CASE }),
        ("one load for all", Case { nodes: 3, players: &[&[ASK], &[ASK_THERE], &[ASK_ELSEWHERE]], ..once }),
        ("a load that fails for all", Case { players: &[&[ASK], &[ASK_THERE, FORGET]], failures: 1, loads: 2, ..once }),
        (
            "one that stands still, for all",
            Case { players: &[&[ASK], &[ASK_THERE, FOUR_SECONDS], &[INVALIDATE]], ..any_loads },
        ),
        ("lost requests", Case { players: &[&[ASK_THERE], &[INVALIDATE]], failures: 1, ..lossy }),
        ("a request that is repeated", Case { players: &[&[ASK], &[ASK_THERE], &[INVALIDATE]], ..lossy }),
        ("writers", Case { players: &[&[SET], &[SET_THERE]], ..CASE }),
        ("a lost write", Case { players: &[&[ASK_THERE, ASK_THERE], &[SET]], ..lossy }),
        ("an outage", Case { players: &[&[ASK, INVALIDATE], &[Act::Gone(true), Act::Gone(false)]], ..alone }),
    ]
}

#[test]
fn no_history_of_a_small_case_ends_stale() {
    for (name, case) in cases() {
        let Histories { all, broken, states, example } = explore(Game::new(case.into()));
        println!("{name}: {all} histories, {states} states");
        assert_eq!(broken, 0, "{name}: {broken} of {all}, such as\n{}", example.unwrap_or_default());
        assert!(all > 1_000 && states > 100, "{name}: {all} histories through {states} states are too few");
    }
}

/// The memory's own guard.
const EPOCH: Rule = Rule::DetachedStoresNothing;

/// Where rules that do not hold break a promise in some of the histories.
const MISSED: &[(&[Rule], &str)] = &[
    (&[EPOCH], "readers and a writer"),
    (&[Rule::FillsAreConditional], "readers and a writer"),
    (&[EPOCH, Rule::FillsAreConditional], "readers and a writer"),
    (&[Rule::AbsenceIsNoClaim], "expiry"),
    (&[Rule::AbsenceIsNoClaim], "flush"),
    (&[Rule::TokensDiffer], "eviction"),
    (&[Rule::StoreFirst], "eviction"),
    (&[Rule::UnknownInvalidates], "a lost write"),
    (&[Rule::OvertakenIsDropped], "writers"),
    (&[Rule::ClaimsAreAwaited], "one load for all"),
    (&[Rule::AnewClaims], "a refresh by force"),
    (&[Rule::ClaimsAreAskedOnce], "a request that is repeated"),
];

#[test]
fn a_broken_rule_ends_stale_in_some_histories_of_a_small_case() {
    for &(rules, name) in MISSED {
        let (_, case) = cases().into_iter().find(|(other, _)| *other == name).expect("there is such a case");
        let Histories { all, broken, .. } = while_broken(rules, || explore(Game::new(case.into())));
        println!("without {rules:?}, {name}: {:.3} % of {all} histories", 100.0 * broken as f64 / all as f64);
        assert!(broken > 0, "nobody misses {rules:?} in {name}");
    }
}

/// The same with more of everything: minutes without optimisation.
#[test]
#[ignore = "for the figures: cargo test --profile fast --lib -- --ignored --nocapture larger"]
fn either_guard_alone_ends_stale_in_larger_cases_and_both_never() {
    let cases: &[&'static [&'static [Act]]] = &[
        &[&[ASK], &[ASK_THERE], &[INVALIDATE], &[EVICT]],
        &[&[ASK, ASK_THERE], &[INVALIDATE, HALF_A_MINUTE]],
        &[&[ASK, ASK_THERE], &[INVALIDATE], &[Act::Flush]],
        &[&[ASK], &[ASK_THERE], &[SET], &[FORGET]],
    ];
    let guards = [Rule::FillsAreConditional, EPOCH];
    for without in [&[][..], &guards[..1], &guards[1..], &guards[..]] {
        let mut sum = Histories::default();
        for players in cases {
            let found = while_broken(without, || explore(Game::new(Case { players, ..CASE }.into())));
            println!("{:.2} % of {}", 100.0 * found.broken as f64 / found.all as f64, found.all);
            (sum.all, sum.broken, sum.states) =
                (sum.all + found.all, sum.broken + found.broken, sum.states + found.states);
        }
        let Histories { all, broken, states, .. } = sum;
        println!(
            "without {without:?}: {:.2} % of {all} histories, {states} states",
            100.0 * broken as f64 / all as f64
        );
        assert_eq!(broken > 0, !without.is_empty());
    }
}
