//! The machine alone: named rules first, then every rule under random histories.

use super::*;
use crate::core::memory::NO_TURN;
use crate::core::memory::{Capacity, Discard, Eviction, GroupId, Memory, New, Placement, Reason, RegionId, Stamp};
use crate::core::policy::Policy;
use crate::core::remote::Version;
use crate::core::remote::ledger::Note;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

const HERE: Home = Home { thread: 1, event_loop: 1 };
const ELSEWHERE: Home = Home { thread: 2, event_loop: 2 };

type Machine = Flights<&'static str, u32>;

fn begin(flights: &mut Machine, life: Life) -> (Ticket, Lease) {
    let begin = Begin {
        hash: 9,
        key: "k",
        group: GroupId::default(),
        seen: None,
        home: HERE,
        life,
        bounds: Bounds::default(),
        anew: false,
        began: 0,
        sequence: 0,
        turn: NO_TURN,
    };
    let lease = flights.begin(begin);
    let ticket = flights.join(lease.flight, HERE, NEVER, 0).unwrap();
    (ticket, flights.lead(ticket, HERE, None, 0).unwrap())
}

fn woken(effects: &Effects<&'static str, u32>) -> Vec<u32> {
    effects.iter().flat_map(|effect| if let Effect::Wake(who) = effect { who.clone() } else { vec![] }).collect()
}

fn stores(effects: &Effects<&'static str, u32>) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Store(_)))
}

fn cancels(effects: &Effects<&'static str, u32>) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::CancelLoad))
}

fn led(effects: &Effects<&'static str, u32>) -> Option<u32> {
    effects.iter().find_map(|effect| if let Effect::Lead(who) = effect { Some(*who) } else { None })
}

#[test]
fn one_load_answers_everyone_and_is_stored() {
    let mut flights = Machine::default();
    let (ticket, lease) = begin(&mut flights, Life::Shared);
    assert_eq!(flights.find(9, |&key| key == "k"), Some(ticket.flight));
    flights.join(ticket.flight, ELSEWHERE, NEVER, 1);
    let effects = flights.step(lease, Input::Loaded, 0);
    assert!(stores(&effects));
    assert_eq!(woken(&effects), [0, 1]);
    assert!(flights.is_empty());
}

#[test]
fn what_a_tier_behind_had_is_neither_a_miss_nor_a_load_and_is_kept_as_long_as_that_says() {
    let mut memory: Memory<&str, u32, u32> = Memory::new(Capacity::entries(100), Eviction::Lru);
    memory.ledger = Some(Box::default());
    let group = memory.entries.add_group(RegionId(0));
    let policy = Policy { jitter: 1.0, ..Policy::ttl(Duration::from_secs(60)) };
    let place = Place { home: Some(HERE), refresh: Refresh::Behind, life: Life::Steady };
    let wish = Wish { policy: &policy, group, place, anew: None };
    let Lookup::Lead(lease) = memory.look_up(&wish, (9, || "k"), (None, None), 0, || 0.5) else { panic!("a miss") };
    memory.wait_for_own(&policy, lease, HERE, 0, 7);
    assert_eq!(
        memory.look_up(&wish, (9, || "k"), (None, Some(lease.flight)), 0, || 0.5),
        Lookup::Flying(lease.flight, HERE)
    );
    memory.wait(&wish, lease.flight, HERE, 0, 8);
    let lasting = Lasting::As(policy.lifetime_left(false, (500, 900), 40), Some(Version(5)));
    let keep =
        Some(Keep { value: || 1, tag: 0, negative: false, lasting, weight: 1, adapted: None, note: Note::default() });
    let ended = Ended { lease, input: Input::Found, keep, policy: &policy, group };
    let done = memory.finish(ended, 10, || 0.5, &mut Discard::default());
    assert_eq!((woken(&done.effects), done.stored), (vec![7, 8], Some(900)));
    let id = memory.entries.find(9, |&key| key == "k").unwrap();
    assert_eq!((memory.entries.span(id).fresh_until, memory.entries.span(id).load), (500, 40));
    assert_eq!(memory.version(id), Some(Version(5)));
    let stats = memory.entries.stats(group);
    assert_eq!((stats.remote_hits, stats.misses, stats.loads, stats.coalesced), (2, 0, 0, 1));
    assert!((stats.hit_ratio() - 1.0).abs() < 1e-9);
}

#[test]
fn what_answers_since_nobody_could_be_asked_is_in_doubt_as_before() {
    for suspect in [true, false] {
        let mut memory: Memory<&str, u32, u32> = Memory::new(Capacity::entries(100), Eviction::Lru);
        memory.ledger.get_or_insert_default().hears = true;
        memory.hear_nothing();
        let group = memory.entries.add_group(RegionId(0));
        let policy = Policy::ttl(Duration::from_secs(60));
        let place = Place { home: Some(HERE), refresh: Refresh::Behind, life: Life::Steady };
        let wish = Wish { policy: &policy, group, place, anew: None };
        let Lookup::Lead(lease) = memory.look_up(&wish, (9, || "k"), (None, None), 0, || 0.5) else { panic!("a miss") };
        memory.wait_for_own(&policy, lease, HERE, 0, 7);
        let (life, version) = (policy.lifetime_left(false, (500, 900), 40), Some(Version(5)));
        let lasting = if suspect { Lasting::Suspect(life, version) } else { Lasting::As(life, version) };
        let note = Note { key: 77, ..Note::default() };
        let keep = Some(Keep { value: || 1, tag: 0, negative: false, lasting, weight: 1, adapted: None, note });
        let ended = Ended { lease, input: Input::Found, keep, policy: &policy, group };
        assert_eq!(memory.finish(ended, 10, || 0.5, &mut Discard::default()).stored, Some(900));
        let id = memory.entries.find(9, |&key| key == "k").unwrap();
        assert_eq!(memory.settle(id, 20), if suspect { Settled::Suspect } else { Settled::Plain });
    }
}

#[test]
fn who_only_looked_and_found_nothing_is_told_so_and_no_load_has_failed() {
    let mut memory: Memory<&str, u32, u32> = Memory::new(Capacity::entries(100), Eviction::Lru);
    let group = memory.entries.add_group(RegionId(0));
    for (input, errors) in [(Input::Absent, 0), (Input::Failed, 1)] {
        let policy = Policy::default();
        let place = Place { home: Some(HERE), refresh: Refresh::Behind, life: Life::Steady };
        let wish = Wish { policy: &policy, group, place, anew: None };
        let Lookup::Lead(lease) = memory.look_up(&wish, (9, || "k"), (None, None), 0, || 0.5) else { panic!("a miss") };
        memory.wait_for_own(&policy, lease, HERE, 0, 7);
        let keep: Option<Keep<fn() -> u32>> = None;
        let done =
            memory.finish(Ended { lease, input, keep, policy: &policy, group }, 0, || 0.5, &mut Discard::default());
        assert_eq!(woken(&done.effects), [7]);
        assert_eq!(memory.entries.stats_mut(group).load_errors, errors, "{input:?}");
    }
}

#[test]
fn what_is_old_is_at_hand_at_once_while_it_may_be_served_and_else_when_patience_is_over() {
    let (seconds, millis) = (Duration::from_secs, 1_000);
    let policy = Policy {
        stale_while_revalidate: seconds(10),
        stale_if_error: seconds(100),
        soft_timeout: Some(seconds(2)),
        ..Policy::ttl(seconds(60))
    };
    let at_hand = |policy: &Policy, now: Millis| {
        let mut memory: Memory<&str, u32, u32> = Memory::new(Capacity::entries(100), Eviction::Lru);
        let group = memory.entries.add_group(RegionId(0));
        let place = Place { home: Some(HERE), refresh: Refresh::InPerson, life: Life::Steady };
        let wish = Wish { policy, group, place, anew: None };
        let new = New { hash: 9, key: "k", value: 1, placement: Placement::new(group, 160 * millis, 0) };
        let lifetime = policy.lifetime(policy.ttl, false, (0, 0), 0.0);
        let id = memory.write(by_hand::Written { new, lifetime }, (None, None), 0, &mut Discard::default());
        let entry = id.map(|id| memory.entries.target(id));
        let Lookup::Lead(lease) = memory.look_up(&wish, (9, || "k"), (entry, None), now, || 0.5) else { panic!("old") };
        memory.at_hand(policy, lease, now)
    };
    assert_eq!(at_hand(&policy, 65 * millis), (65 * millis, 160 * millis));
    assert_eq!(at_hand(&policy, 71 * millis), (73 * millis, 160 * millis));
    assert_eq!(at_hand(&Policy { soft_timeout: None, ..policy }, 71 * millis), (NEVER, 160 * millis));
    assert_eq!(at_hand(&policy, 161 * millis), (0, 0), "it is of no use any more");
}

#[test]
fn a_load_that_begins_late_has_all_its_time_unless_somebody_has_waited_for_it_since() {
    for (waits, ends) in [(false, 150), (true, 100)] {
        let mut flights = Machine::default();
        let bounds = Bounds { timeout: Some(Duration::from_millis(100)), ..Bounds::default() };
        let (group, life) = (GroupId::default(), Life::Steady);
        let (anew, began, sequence, turn) = (false, 0, 0, NO_TURN);
        let begin =
            Begin { hash: 9, key: "k", group, seen: None, home: HERE, life, bounds, anew, began, sequence, turn };
        let lease = flights.begin(begin);
        if waits {
            flights.join(lease.flight, HERE, NEVER, 0);
        }
        flights.delayed(lease, 50);
        assert_eq!(flights.ends(lease), ends);
    }
}

#[test]
fn a_cancelled_leader_leaves_the_load_to_the_others() {
    let mut flights = Machine::default();
    let (ticket, lease) = begin(&mut flights, Life::Shared);
    let other = flights.join(ticket.flight, HERE, NEVER, 1).unwrap();
    assert!(flights.leave(ticket).is_empty());
    assert_eq!(woken(&flights.step(lease, Input::Loaded, 0)), [1]);
    assert!(flights.leave(other).is_empty(), "leaving a flight that is over is nothing");
}

#[test]
fn a_load_without_waiters_is_cancelled() {
    let mut flights = Machine::default();
    let (ticket, lease) = begin(&mut flights, Life::Shared);
    assert!(cancels(&flights.leave(ticket)));
    assert!(flights.is_empty() && flights.find(9, |_| true).is_none());
    assert!(flights.step(lease, Input::Loaded, 0).is_empty(), "its late value goes nowhere");
}

#[test]
fn a_refresh_that_nobody_needs_any_more_ends_unless_somebody_waits_for_it() {
    let mut flights = Machine::default();
    let (ticket, lease) = begin(&mut flights, Life::Steady);
    assert!(flights.abandon(lease).is_empty(), "somebody waits");
    assert!(cancels(&flights.leave(ticket)), "from now on it is his alone");
    let (ticket, lease) = begin(&mut flights, Life::Steady);
    assert!(flights.leave(ticket).is_empty());
    assert!(cancels(&flights.abandon(lease)) && flights.is_empty());
    assert!(flights.abandon(lease).is_empty(), "it is over");
}

#[test]
fn an_invalidated_flight_answers_and_stores_nothing() {
    let mut flights = Machine::default();
    let (ticket, lease) = begin(&mut flights, Life::Shared);
    flights.detach(ticket.flight);
    assert!(flights.find(9, |_| true).is_none(), "a later get starts its own load");
    let (_, second) = begin(&mut flights, Life::Shared);
    let effects = flights.step(lease, Input::Loaded, 0);
    assert!(!stores(&effects));
    assert_eq!(woken(&effects), [0]);
    assert!(stores(&flights.step(second, Input::Loaded, 0)));
}

#[test]
fn a_bound_load_ends_with_its_caller_and_the_next_waiter_starts_anew() {
    let mut flights = Machine::default();
    let (ticket, lease) = begin(&mut flights, Life::Bound);
    let other = flights.join(ticket.flight, ELSEWHERE, NEVER, 1).unwrap();
    let effects = flights.leave(ticket);
    assert!(cancels(&effects));
    assert_eq!(led(&effects), Some(1));
    assert!(flights.step(lease, Input::Loaded, 0).is_empty(), "the cancelled load no longer counts");
    let lease = flights.lead(other, ELSEWHERE, Some(1), 0).unwrap();
    assert_eq!(woken(&flights.step(lease, Input::Loaded, 0)), [1]);
}

fn again(effects: &Effects<&'static str, u32>) -> Vec<u32> {
    effects.iter().flat_map(|effect| if let Effect::Again(who) = effect { who.clone() } else { vec![] }).collect()
}

#[test]
fn who_wants_a_newer_value_looks_again_when_the_load_has_ended_however_it_did() {
    for input in [Input::Loaded, Input::Failed, Input::Aborted] {
        let mut flights = Machine::default();
        let (ticket, lease) = begin(&mut flights, Life::Shared);
        let later = flights.join(ticket.flight, HERE, NEVER, 1).unwrap();
        flights.follow(later);
        let effects = flights.step(lease, input, 0);
        assert_eq!(again(&effects), [1], "{input:?}");
        assert_eq!(stores(&effects), input == Input::Loaded, "nobody has detached it");
        assert!(flights.is_empty());
    }
}

#[test]
fn who_wants_a_newer_value_is_not_told_to_lead_an_older_load() {
    let mut flights = Machine::default();
    let (first, _) = begin(&mut flights, Life::Bound);
    let later = flights.join(first.flight, HERE, NEVER, 1).unwrap();
    flights.follow(later);
    let second = flights.join(first.flight, HERE, NEVER, 2).unwrap();
    assert_eq!(led(&flights.leave(first)), Some(2));
    let effects = flights.leave(second);
    assert_eq!((led(&effects), again(&effects)), (None, vec![1]));
    assert!(flights.is_empty());
}

#[test]
fn only_a_load_that_was_begun_later_and_for_a_new_value_is_new_enough() {
    let mut flights = Machine::default();
    let before = flights.begun();
    let (ticket, lease) = begin(&mut flights, Life::Shared);
    assert!(!flights.is_newer(ticket.flight, before), "an old value may answer in its place");
    flights.step(lease, Input::Loaded, 0);
    let anew = Begin {
        hash: 9,
        key: "k",
        group: GroupId::default(),
        seen: None,
        home: HERE,
        life: Life::Shared,
        bounds: Bounds::default(),
        anew: true,
        began: 0,
        sequence: 0,
        turn: NO_TURN,
    };
    let lease = flights.begin(anew);
    assert!(flights.is_newer(lease.flight, before) && !flights.is_newer(lease.flight, flights.begun()));
}

#[test]
fn a_designated_leader_that_leaves_passes_the_lead_on() {
    let mut flights = Machine::default();
    let (first, _) = begin(&mut flights, Life::Bound);
    let second = flights.join(first.flight, HERE, NEVER, 1).unwrap();
    flights.join(first.flight, HERE, NEVER, 2).unwrap();
    assert_eq!(led(&flights.leave(first)), Some(1));
    let effects = flights.leave(second);
    assert_eq!((cancels(&effects), led(&effects)), (false, Some(2)));
}

#[test]
fn a_load_ended_from_outside_fails_its_own_loop_and_passes_to_another() {
    let mut flights = Machine::default();
    let (ticket, lease) = begin(&mut flights, Life::Shared);
    let other = flights.join(ticket.flight, ELSEWHERE, NEVER, 1).unwrap();
    let effects = flights.step(lease, Input::Aborted, 0);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Fail(who) if who == &[0])));
    assert_eq!(led(&effects), Some(1));
    let lease = flights.lead(other, ELSEWHERE, Some(1), 0).unwrap();
    assert!(stores(&flights.step(lease, Input::Loaded, 0)));
}

#[test]
fn a_refresh_taken_over_by_a_caller_whose_load_is_its_own_ends_with_that_caller() {
    let mut flights = Machine::default();
    let (first, lease) = begin(&mut flights, Life::Steady);
    flights.leave(first);
    let second = flights.join(first.flight, ELSEWHERE, NEVER, 1).unwrap();
    flights.step(lease, Input::Aborted, 0);
    let lease = flights.lead(second, ELSEWHERE, Some(1), 0).unwrap();
    flights.live(lease, Life::Bound);
    assert_eq!(kinds(&flights.leave(second)), ["cancel", "release"]);
}

#[test]
fn what_a_value_cost_is_the_time_of_its_own_load() {
    let mut flights = Machine::default();
    let (_, lease) = begin(&mut flights, Life::Shared);
    let other = flights.join(lease.flight, ELSEWHERE, NEVER, 1).unwrap();
    flights.step(lease, Input::Aborted, 900);
    let lease = flights.lead(other, ELSEWHERE, Some(1), 1_000).unwrap();
    let effects = flights.step(lease, Input::Loaded, 1_010);
    assert!(matches!(&effects[0], Effect::Store(fill) if fill.began == 1_000));
}

#[test]
fn a_refresh_ended_from_outside_is_not_stuck_with_the_waiter_who_was_to_load_and_left() {
    let mut flights = Machine::default();
    let (first, lease) = begin(&mut flights, Life::Steady);
    flights.leave(first);
    let second = flights.join(first.flight, ELSEWHERE, NEVER, 1).unwrap();
    let third = flights.join(first.flight, ELSEWHERE, NEVER, 2).unwrap();
    assert_eq!(led(&flights.step(lease, Input::Aborted, 0)), Some(1));
    assert_eq!(led(&flights.leave(second)), Some(2));
    flights.leave(third);
    assert!(flights.is_empty() && flights.find(9, |_| true).is_none(), "the next caller loads");
}

#[test]
fn a_load_on_a_dead_loop_is_superseded() {
    let mut flights = Machine::default();
    let (ticket, lease) = begin(&mut flights, Life::Shared);
    let effects = flights.supersede(ticket.flight);
    assert!(matches!(&effects[0], Effect::Again(who) if who == &[0]));
    assert!(flights.step(lease, Input::Loaded, 0).is_empty());
}

const TARGET: Target = Target { id: 7, stamp: Stamp::at_zero() };

fn bounded(life: Life, timeout: u64, home: Home) -> (Machine, Ticket, Lease) {
    let mut flights = Machine::default();
    let fallback = Fallback { target: TARGET, until: 1_000, retry_after: Duration::from_secs(30) };
    let bounds = Bounds { timeout: Some(Duration::from_millis(timeout)), fallback: Some(fallback), forget: None };
    let lease = flights.begin(Begin {
        hash: 9,
        key: "k",
        group: GroupId::default(),
        seen: None,
        home,
        life,
        bounds,
        anew: false,
        began: 0,
        sequence: 0,
        turn: NO_TURN,
    });
    let ticket = flights.join(lease.flight, home, 10, 0).unwrap();
    let lease = flights.lead(ticket, home, None, 0).unwrap();
    (flights, ticket, lease)
}

fn kinds(effects: &Effects<&'static str, u32>) -> Vec<&'static str> {
    let kind = |effect: &Effect<&'static str, u32>| match effect {
        Effect::Store(_) => "store",
        Effect::Release(_) => "release",
        Effect::Relent(_) => "relent",
        Effect::Forget(_) => "forget",
        Effect::CancelLoad => "cancel",
        Effect::TimeOut(_) => "time out",
        Effect::Give(..) => "give",
        Effect::Wake(_) => "wake",
        Effect::Fail(_) => "fail",
        Effect::Lead(_) => "lead",
        Effect::Again(_) => "again",
    };
    effects.iter().map(kind).collect()
}

#[test]
fn a_load_that_fails_relents_while_the_old_value_is_of_use_and_nothing_has_invalidated_it() {
    for (now, detached, expected) in [
        (999, false, vec!["relent", "release", "wake"]),
        (1_000, false, vec!["release", "wake"]),
        (999, true, vec!["release", "wake"]),
    ] {
        let (mut flights, ticket, lease) = bounded(Life::Shared, 5_000, HERE);
        if detached {
            flights.detach(ticket.flight);
        }
        assert_eq!(kinds(&flights.step(lease, Input::Failed, now)), expected);
    }
}

#[test]
fn a_load_is_stopped_when_its_time_is_over_and_not_before() {
    let (mut flights, _, lease) = bounded(Life::Shared, 500, HERE);
    assert_eq!(flights.ends(lease), 500);
    assert!(flights.expire(Due::Load(lease), 499).is_empty());
    assert_eq!(kinds(&flights.expire(Due::Load(lease), 500)), ["relent", "cancel", "release", "time out"]);
    assert!(flights.is_empty() && flights.step(lease, Input::Loaded, 501).is_empty());
}

#[test]
fn a_threads_load_goes_on_alone_when_its_time_is_over() {
    let thread = Home { thread: 1, event_loop: 0 };
    let (mut flights, ticket, lease) = bounded(Life::Steady, 500, thread);
    assert_eq!(flights.ends(lease), NEVER, "nobody can stop it");
    assert_eq!(kinds(&flights.expire(Due::Waiter(ticket), 500)), ["relent", "time out"]);
    let late = flights.join(ticket.flight, ELSEWHERE, NEVER, 1).unwrap();
    assert_eq!(flights.patience(late), 500, "who joins now has waited long enough already");
    assert_eq!(kinds(&flights.step(lease, Input::Loaded, 900)), ["store", "wake"]);
}

#[test]
fn a_waiter_is_relieved_and_the_load_becomes_a_refresh() {
    let (mut flights, ticket, lease) = bounded(Life::Shared, 500, HERE);
    assert!(flights.expire(Due::Waiter(ticket), 9).is_empty());
    assert_eq!(kinds(&flights.expire(Due::Waiter(ticket), 10)), ["give"]);
    assert!(flights.expire(Due::Waiter(ticket), 10).is_empty(), "told once");
    assert!(flights.is_unattended(lease) && flights.is_attached(ticket.flight));
    assert!(stores(&flights.step(lease, Input::Loaded, 20)));
}

#[test]
fn a_bound_load_ends_with_the_caller_that_is_relieved() {
    let (mut flights, ticket, _) = bounded(Life::Bound, 500, HERE);
    assert_eq!(kinds(&flights.expire(Due::Waiter(ticket), 10)), ["give", "cancel", "release"]);
    assert!(flights.is_empty());
}

#[test]
fn after_an_invalidation_nobody_is_given_the_old_value() {
    let (mut flights, ticket, lease) = bounded(Life::Shared, 500, HERE);
    flights.detach(ticket.flight);
    assert!(flights.expire(Due::Waiter(ticket), 10).is_empty());
    assert_eq!(kinds(&flights.expire(Due::Load(lease), 500)), ["cancel", "release", "time out"]);
}

#[test]
fn whoever_moves_the_clock_learns_whose_time_is_up() {
    let (mut flights, ticket, lease) = bounded(Life::Shared, 500, HERE);
    assert_eq!(flights.overdue(9), []);
    assert_eq!(flights.overdue(10), [Due::Waiter(ticket)]);
    assert_eq!(flights.overdue(500), [Due::Load(lease), Due::Waiter(ticket)]);
    flights.leave(ticket);
    assert_eq!(flights.overdue(500), []);
}

#[test]
fn who_hoped_for_an_old_value_that_is_gone_waits_for_the_load_and_no_longer_than_it_may() {
    let mut memory: Memory<&str, u32, u32> = Memory::new(Capacity::entries(9), Eviction::Lru);
    let group = memory.entries.add_group(RegionId(0));
    let placement = Placement::new(group, 1_000, 0);
    let old =
        memory.entries.insert(New { hash: 9, key: "k", value: 1, placement }, 0, &mut Discard::default()).unwrap();
    let target = memory.entries.target(old);
    let fallback = Fallback { target, until: 1_000, retry_after: Duration::ZERO };
    let bounds = Bounds { timeout: Some(Duration::from_millis(500)), fallback: Some(fallback), forget: None };
    let thread = Home { thread: 3, event_loop: 0 };
    let begin = Begin {
        hash: 9,
        key: "k",
        group,
        seen: None,
        home: thread,
        life: Life::Steady,
        bounds,
        anew: false,
        began: 0,
        sequence: 0,
        turn: NO_TURN,
    };
    let lease = memory.flights.begin(begin);
    let ticket = memory.flights.join(lease.flight, thread, 10, 7).unwrap();
    assert_eq!(memory.flights.alarm(Due::Waiter(ticket), 0), 10);
    memory.entries.remove(old, Reason::Evicted, &mut Discard::default());
    let mut out = Discard::default();
    assert!(memory.expire(Due::Waiter(ticket), 10, &mut out).effects.is_empty());
    assert_eq!(memory.flights.alarm(Due::Waiter(ticket), 10), 500, "the alarm is set again");
    let effects = memory.expire(Due::Waiter(ticket), 500, &mut out).effects;
    assert!(effects.iter().any(|effect| matches!(effect, Effect::TimeOut(who) if who == &[7])));
    assert_eq!(memory.flights.alarm(Due::Waiter(ticket), 500), NEVER);
}

#[test]
fn between_two_loads_only_patience_ends() {
    let (mut flights, _, lease) = bounded(Life::Shared, 500, HERE);
    let other = flights.join(lease.flight, ELSEWHERE, 600, 1).unwrap();
    let last = flights.join(lease.flight, ELSEWHERE, 600, 2).unwrap();
    flights.step(lease, Input::Aborted, 400);
    assert_eq!(flights.alarm(Due::Load(lease), 400), NEVER);
    assert_eq!(flights.patience(last), 600, "the first load's end is nobody's");
    assert_eq!(kinds(&flights.expire(Due::Waiter(last), 600)), ["give"]);
    let lease = flights.lead(other, ELSEWHERE, Some(1), 700).unwrap();
    assert_eq!((flights.alarm(Due::Load(lease), 700), flights.ends(lease)), (1_200, 1_200));
}

#[test]
fn who_waits_for_a_load_elsewhere_looks_after_it() {
    let (mut flights, ticket, lease) = bounded(Life::Shared, 5_000, HERE);
    assert_eq!(flights.alarm(Due::Waiter(ticket), 0), 10);
    let (here, elsewhere) =
        (flights.join(lease.flight, HERE, NEVER, 1), flights.join(lease.flight, ELSEWHERE, NEVER, 2));
    assert_eq!(flights.alarm(Due::Waiter(here.unwrap()), 0), 5_000);
    assert_eq!(flights.alarm(Due::Waiter(elsewhere.unwrap()), 0), 1_000);
    assert_eq!(flights.alarm(Due::Waiter(elsewhere.unwrap()), 4_500), 5_000);
}

#[test]
fn who_runs_effects_late_can_tell_that_they_are_of_an_earlier_load() {
    let mut flights = Machine::default();
    let (first, lease) = begin(&mut flights, Life::Bound);
    let second = flights.join(first.flight, HERE, NEVER, 1).unwrap();
    let third = flights.join(first.flight, ELSEWHERE, NEVER, 2).unwrap();
    assert!(flights.is_current(lease) && !flights.expects(first.flight, HERE), "it has begun");
    flights.leave(first);
    assert!(!flights.is_current(lease) && flights.expects(first.flight, HERE));
    flights.leave(second);
    assert!(!flights.expects(first.flight, HERE) && flights.expects(first.flight, ELSEWHERE));
    let lease = flights.lead(third, ELSEWHERE, Some(2), 0).unwrap();
    assert!(flights.is_current(lease) && !flights.expects(first.flight, ELSEWHERE));
}

#[test]
fn a_load_moves_when_nobody_waits_for_it_at_home() {
    let mut flights = Machine::default();
    let (first, _) = begin(&mut flights, Life::Bound);
    flights.join(first.flight, ELSEWHERE, NEVER, 1);
    let here = flights.join(first.flight, HERE, NEVER, 2).unwrap();
    assert_eq!(led(&flights.leave(first)), Some(2), "though another has waited for longer");
    assert_eq!(led(&flights.leave(here)), Some(1));
}

#[test]
fn a_load_that_was_handed_over_is_at_home_where_it_will_run() {
    let mut flights = Machine::default();
    let (_, lease) = begin(&mut flights, Life::Shared);
    flights.join(lease.flight, ELSEWHERE, NEVER, 1);
    flights.step(lease, Input::Aborted, 0);
    assert_eq!(flights.home(lease.flight).map(|(home, _)| home), Some(ELSEWHERE));
}

#[derive(Clone, Debug)]
enum Move {
    Ask(bool),
    Leave(usize),
    End(Input),
    Invalidate,
    Supersede,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let end = prop_oneof![3 => Just(Input::Loaded), 1 => Just(Input::Failed), 1 => Just(Input::Aborted)];
    let one = prop_oneof![
        5 => any::<bool>().prop_map(Move::Ask),
        3 => any::<usize>().prop_map(Move::Leave),
        2 => end.prop_map(Move::End),
        1 => Just(Move::Invalidate),
        1 => Just(Move::Supersede),
    ];
    prop::collection::vec(one, 1..120)
}

/// Callers, running loads and what each caller was told; time is the number of the move.
#[derive(Default)]
struct World {
    flights: Machine,
    waiting: Vec<(u32, Ticket, usize)>,
    loads: HashMap<u64, (Lease, usize)>,
    told: HashSet<u32>,
    invalidated: usize,
    /// The start of the load whose value memory holds.
    stored: Option<usize>,
    callers: u32,
}

impl World {
    fn apply(&mut self, effects: Effects<&'static str, u32>, load: Option<(u64, usize)>) -> Result<(), TestCaseError> {
        for effect in effects {
            match effect {
                Effect::Store(_) => {
                    let (_, started) = load.expect("only a load that ended stores");
                    prop_assert!(started >= self.invalidated, "an older load was stored after an invalidation");
                    self.stored = Some(started);
                }
                Effect::Wake(who) | Effect::Fail(who) | Effect::Again(who) => {
                    for caller in who {
                        prop_assert!(self.told.insert(caller), "told twice: {caller}");
                        self.waiting.retain(|(waiting, ..)| *waiting != caller);
                    }
                }
                Effect::Lead(caller) => {
                    let found = self.waiting.iter().find(|(waiting, ..)| *waiting == caller);
                    let (_, ticket, at) = *found.expect("a caller that waits");
                    if let Some(lease) = self.flights.lead(ticket, HERE, Some(caller), 0) {
                        self.loads.insert(ticket.flight.to_bits(), (lease, at.max(self.invalidated)));
                    }
                }
                Effect::CancelLoad | Effect::Release(_) => {}
                Effect::Relent(_) | Effect::Forget(_) | Effect::TimeOut(_) | Effect::Give(..) => {
                    unreachable!("no bounds were given")
                }
            }
        }
        Ok(())
    }

    fn one(&mut self, step: Move, now: usize) -> Result<(), TestCaseError> {
        match step {
            Move::Ask(bound) => self.ask(bound, now),
            Move::Leave(which) if !self.waiting.is_empty() => {
                let (_, ticket, _) = self.waiting.remove(which % self.waiting.len());
                let effects = self.flights.leave(ticket);
                self.apply(effects, None)?;
            }
            Move::End(input) => {
                let Some(&flight) = self.loads.keys().min() else { return Ok(()) };
                let (lease, started) = self.loads[&flight];
                self.loads.remove(&flight);
                let effects = self.flights.step(lease, input, 0);
                self.apply(effects, Some((flight, started)))?;
            }
            Move::Invalidate => {
                if let Some(id) = self.flights.find(9, |_| true) {
                    self.flights.detach(id);
                }
                self.invalidated = now;
                self.stored = None;
            }
            Move::Supersede => {
                if let Some(id) = self.flights.find(9, |_| true) {
                    let effects = self.flights.supersede(id);
                    self.apply(effects, None)?;
                }
            }
            Move::Leave(_) => {}
        }
        Ok(())
    }

    fn ask(&mut self, bound: bool, now: usize) {
        self.callers += 1;
        let caller = self.callers;
        let home = if caller.is_multiple_of(3) { ELSEWHERE } else { HERE };
        let ticket = match self.flights.find(9, |_| true) {
            Some(id) => self.flights.join(id, home, NEVER, caller).expect("an attached flight is flying"),
            None => {
                let life = if bound { Life::Bound } else { Life::Shared };
                let begin = Begin {
                    hash: 9,
                    key: "k",
                    group: GroupId::default(),
                    seen: None,
                    home,
                    life,
                    bounds: Bounds::default(),
                    anew: false,
                    began: 0,
                    sequence: 0,
                    turn: NO_TURN,
                };
                let lease = self.flights.begin(begin);
                let ticket = self.flights.join(lease.flight, home, NEVER, caller).expect("it has just begun");
                let lease = self.flights.lead(ticket, home, None, 0).expect("it waits");
                self.loads.insert(ticket.flight.to_bits(), (lease, now));
                ticket
            }
        };
        self.waiting.push((caller, ticket, now));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn everyone_is_told_once_and_nothing_old_is_stored(moves in moves()) {
        let mut world = World::default();
        for (now, step) in moves.into_iter().enumerate() {
            world.one(step, now + 1)?;
        }
        // Let every load that still runs end: then nobody waits.
        while !world.loads.is_empty() {
            world.one(Move::End(Input::Loaded), usize::MAX)?;
        }
        prop_assert!(world.waiting.is_empty(), "left behind: {:?}", world.waiting);
        prop_assert!(world.flights.is_empty());
    }
}
