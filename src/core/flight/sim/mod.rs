//! The machine under a seeded simulator: a fourth driver, of the same machine and the same table, in simulated time.
//!
//! One seed is one history: callers on loops and threads, loads that succeed, fail, hang or are ended from outside, writes
//! and invalidations, loops that close or stand still, time that jumps. After each step the promises of the design are
//! checked ([`oracle::Promise`]). A history that breaks one is shortened, and printed with its seed.

mod driver;
mod effects;
mod loads;
mod nested;
mod oracle;
mod plan;
mod small;
mod watch;
mod world;

use crate::core::broken::{Rule, while_broken};
use crate::core::history::{Dice, seeds, shrunk};
use oracle::{Fault, Promise};
use plan::{Setup, Step};
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

/// Steps of one history; what is done between them comes on top.
const STEPS: usize = 300;
/// Histories by default: more than two million steps, in seconds also without optimisation.
const SEEDS: u64 = 6_000;

/// Plays a history to its end: how many steps that was, or what went wrong.
fn play(setup: &Setup, steps: &[Step]) -> Result<usize, Fault> {
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(setup);
        for &step in steps {
            world.step(step)?;
        }
        world.drain()?;
        Ok(world.steps)
    }));
    played.unwrap_or_else(|_| Err(Fault { promise: Promise::WorkEnds, story: "it panicked".into() }))
}

fn drawn(seed: u64) -> (Setup, Vec<Step>) {
    let mut dice = Dice(seed);
    let setup = Setup::drawn(&mut dice);
    let steps = plan::history(&mut dice, &setup, STEPS);
    (setup, steps)
}

/// What a seed breaks, if it does: with the shortest history found that breaks the same promise.
fn explain(seed: u64, fault: &Fault) -> String {
    let (setup, steps) = drawn(seed);
    let same = |steps: &[Step]| play(&setup, steps).is_err_and(|other| other.promise == fault.promise);
    let steps = shrunk(steps, same);
    let last = play(&setup, &steps).expect_err("it failed when it was longer");
    let lines: Vec<String> = steps.iter().map(|step| format!("    {step:?},")).collect();
    let Setup { keys, capacity, eviction } = &setup;
    let keys: Vec<String> = keys.iter().enumerate().map(|(key, keeping)| format!("    {key}: {keeping:?}")).collect();
    let (keys, lines) = (keys.join("\n"), lines.join("\n"));
    format!("seed {seed} breaks {last}\n{capacity} entries, {eviction}, keys\n{keys}\nsteps\n{lines}")
}

#[test]
fn no_history_breaks_a_promise() {
    let mut steps = 0;
    for seed in seeds(SEEDS) {
        let (setup, history) = drawn(seed);
        match play(&setup, &history) {
            Ok(played) => steps += played,
            Err(fault) => panic!("{}", explain(seed, &fault)),
        }
    }
    println!("{} histories, {steps} steps", seeds(SEEDS).count());
}

/// What is missed first, or next, where a rule does not hold.
const MISSED: [(Rule, Promise); 53] = [
    (Rule::DetachedStoresNothing, Promise::NothingOldIsStored),
    (Rule::WritesDetach, Promise::NothingOldIsStored),
    (Rule::ClearedIsNotJoined, Promise::NothingOldIsServed),
    (Rule::AnewIsNew, Promise::NothingOldIsServed),
    (Rule::OneLease, Promise::OneFlight),
    (Rule::OneRefresh, Promise::OneFlight),
    (Rule::OneEarlyRefresh, Promise::OneFlight),
    (Rule::LaterAttemptsCount, Promise::LateLoadsAreVoid),
    (Rule::SerialsDiffer, Promise::LateLoadsAreVoid),
    (Rule::LastWaiterEndsLoad, Promise::LoadsEndWithTheirUse),
    (Rule::LoadsAreShared, Promise::LoadsEndWithTheirUse),
    (Rule::BoundLoadsEnd, Promise::BoundLoadsEndWithTheirCaller),
    (Rule::LivesAreTakenOver, Promise::BoundLoadsEndWithTheirCaller),
    (Rule::LeadIsPassedOn, Promise::NobodyIsLeftBehind),
    (Rule::AbortedIsHandedOver, Promise::LoadsAreHandedOver),
    (Rule::AbortedIsTold, Promise::NobodyIsLeftBehind),
    (Rule::HomeMoves, Promise::NobodyIsLeftBehind),
    (Rule::AllAreWoken, Promise::NobodyIsLeftBehind),
    (Rule::SupersededLookAgain, Promise::NobodyIsLeftBehind),
    (Rule::WaitersLookAfterLoads, Promise::NobodyIsLeftBehind),
    (Rule::BlockedIsSeen, Promise::NobodyIsLeftBehind),
    (Rule::WaitsMove, Promise::OneLoad),
    (Rule::RelievedLoadsGoOn, Promise::LoadsEndWithTheirUse),
    (Rule::TimeOutStops, Promise::WorkEnds),
    (Rule::TimeOutWaits, Promise::Timeouts),
    (Rule::ThreadsGoOn, Promise::LoadsEndWithTheirUse),
    (Rule::LeadersHaveTheirTime, Promise::Timeouts),
    (Rule::PatienceIsResigned, Promise::WorkEnds),
    (Rule::ClearedIsNotOld, Promise::NothingOldIsServed),
    (Rule::StampsDiffer, Promise::LoadedIsStored),
    (Rule::OldHasAnEnd, Promise::HardExpiry),
    (Rule::StaleHasAnEnd, Promise::HardExpiry),
    (Rule::PlainHasAnEnd, Promise::HardExpiry),
    (Rule::PlainIsLookedAt, Promise::StaleIsRefreshed),
    (Rule::DeadlinesHold, Promise::HardExpiry),
    (Rule::ClearedIsGone, Promise::NothingOldIsServed),
    (Rule::FailureFreshensNothing, Promise::LivesStay),
    (Rule::RetriesWait, Promise::RetriesWait),
    (Rule::FailureIsNoted, Promise::LivesStay),
    (Rule::LastResortIsLast, Promise::StaleInItsTime),
    (Rule::FailureRelents, Promise::OldValueAnswers),
    (Rule::FailureForgets, Promise::DroppedIsGone),
    (Rule::NegativeIsTold, Promise::CountersCount),
    (Rule::NegativeIsNotPlain, Promise::NegativeIsNoValue),
    (Rule::JitterShortens, Promise::LoadedIsStored),
    (Rule::RefreshesAreSpaced, Promise::RetriesWait),
    (Rule::UnkeptReplaces, Promise::NothingOldIsStored),
    (Rule::LoadedReplaces, Promise::LoadedIsStored),
    (Rule::FreshIsServed, Promise::FreshIsNotLoaded),
    (Rule::StaleIsLoaded, Promise::StaleIsRefreshed),
    (Rule::StaleIsLoadedInPerson, Promise::StaleIsRefreshed),
    (Rule::TakeoversCount, Promise::CountersCount),
    (Rule::LaterIsNotNow, Promise::NothingRunsWithoutRoom),
];

#[test]
fn every_broken_rule_is_found_out() {
    const ENOUGH: u64 = 100_000;
    for (at, (rule, promise)) in MISSED.into_iter().enumerate() {
        assert_eq!(rule as usize, at, "all rules, in their order");
        let breaks = |seed: &u64| {
            let (setup, history) = drawn(*seed);
            play(&setup, &history).is_err_and(|fault| fault.promise == promise)
        };
        let seed = while_broken(&[rule], || (0..ENOUGH).find(breaks));
        assert!(seed.is_some(), "nobody misses {rule:?} in {ENOUGH} histories");
        println!("{rule:?} is missed in history {}", seed.unwrap_or(ENOUGH));
    }
}
