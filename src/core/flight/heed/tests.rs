//! What memory does about what it hears, one rule at a time: each outcome is also looked at with its rule broken, and differs then.

use super::*;
use crate::core::broken::while_broken;
use crate::core::coherence::registers::Began;
use crate::core::coherence::registers::Verdict;
use crate::core::coherence::{Moved, Snapshot};
use crate::core::flight::by_hand::Written;
use crate::core::flight::drive::{Ended, Keep, Lasting};
use crate::core::flight::{Home, Input, Life, Lookup, Place, Refresh, Wish};
use crate::core::memory::{Capacity, Eviction, GroupId, New, Placement, RegionId};
use crate::core::policy::{Lifetime, Policy};
use std::time::Duration;

type Machine = Memory<&'static str, u32, u32>;

const HERE: Home = Home { thread: 1, event_loop: 1 };
/// What "k" hashes to, here and as it is called behind.
const K: u64 = 9;
const BEHIND: u64 = 77;
const END: Millis = 60_000;

/// A memory that hears of others.
fn machine() -> (Machine, GroupId) {
    let mut memory = Machine::new(Capacity::entries(100), Eviction::Lru);
    memory.ledger.get_or_insert_default().hears = true;
    let group = memory.entries.add_group(RegionId(0));
    (memory, group)
}

/// Keeps something under a key, fresh until 30 s and of use until 60 s, as it was to be had in that turn.
fn keep(memory: &mut Machine, group: GroupId, (key, hash): (&'static str, u64), note: Note, turn: Turn) -> u32 {
    let new = New { hash, key, value: 1, placement: Placement::new(group, END, 0) };
    let span = Span { fresh_until: END / 2, ..Span::until(END) };
    let lifetime = Lifetime { span, ..Lifetime::plain(END) };
    let id = memory.write(Written { new, lifetime }, (None, None), 0, &mut Discard::default()).unwrap();
    memory.note(id, note, turn);
    id
}

fn keep_now(memory: &mut Machine, group: GroupId, note: Note) -> u32 {
    let turn = memory.entries.turn();
    keep(memory, group, ("k", K), note, turn)
}

fn behind(version: u64) -> Note {
    let began = Began { here: Some(1), store: Some(version) };
    Note { version: Some(Version(version)), key: BEHIND, tags: None, began }
}

fn tagged(version: u64, path: &str, tags: &[&str]) -> Note {
    let names = tags.iter().map(|&tag| tag.into()).collect();
    Note { tags: Some(Arc::new(Tags { path: path.into(), names })), ..behind(version) }
}

fn moved(path: &str, tag: &str, how: How, at: u64) -> Move {
    Move { names: vec![Name::new(path, tag)], how, at }
}

fn is_served(memory: &Machine, id: u32) -> bool {
    memory.entries.is_served(id, |end| end == 0)
}

fn is_there(memory: &Machine) -> bool {
    memory.entries.find(K, |&key| key == "k").is_some()
}

// --- what may have been missed -----------------------------------------------------------------------------------------

#[test]
fn after_something_may_have_been_missed_what_has_a_name_behind_is_suspect() {
    let outcome = || {
        let (mut memory, group) = machine();
        let id = keep_now(&mut memory, group, behind(5));
        assert!(is_served(&memory, id));
        memory.hear_nothing();
        assert!(!is_served(&memory, id), "it is looked at before it is served");
        memory.settle(id, 0)
    };
    assert_eq!(outcome(), Settled::Suspect);
    assert_eq!(while_broken(&[Rule::UnheardIsSuspect], outcome), Settled::Plain);
}

#[test]
fn it_stays_suspect_until_it_is_noted_anew() {
    let (mut memory, group) = machine();
    let id = keep_now(&mut memory, group, behind(5));
    memory.hear_nothing();
    assert_eq!([memory.settle(id, 0), memory.settle(id, 0)], [Settled::Suspect; 2]);
    let turn = memory.entries.turn();
    memory.note(id, behind(6), turn);
    assert_eq!(memory.settle(id, 0), Settled::Plain);
    assert!(is_served(&memory, id));
}

#[test]
fn what_was_asked_for_before_something_may_have_been_missed_is_suspect_when_it_comes_after() {
    let (mut memory, group) = machine();
    let turn = memory.entries.turn();
    memory.hear_nothing();
    let late = keep(&mut memory, group, ("k", K), behind(5), turn);
    assert_eq!(memory.settle(late, 0), Settled::Suspect);
    let turn = memory.entries.turn();
    let after = keep(&mut memory, group, ("l", K + 1), behind(5), turn);
    assert_eq!(memory.settle(after, 0), Settled::Plain);
}

#[test]
fn what_is_of_this_memory_alone_is_never_suspect() {
    let (mut memory, group) = machine();
    let plain = keep_now(&mut memory, group, Note::default());
    let turn = memory.entries.turn();
    let own = Note { key: 0, ..tagged(5, "", &["t"]) };
    let own = keep(&mut memory, group, ("l", K + 1), own, turn);
    memory.hear_nothing();
    assert!(is_served(&memory, plain));
    assert_eq!([memory.settle(plain, 0), memory.settle(own, 0)], [Settled::Plain; 2]);
}

#[test]
fn nor_is_anything_where_nobody_is_heard() {
    let (mut memory, group) = machine();
    memory.ledger.as_mut().unwrap().hears = false;
    let id = keep_now(&mut memory, group, behind(5));
    memory.hear_nothing();
    assert!(is_served(&memory, id));
}

#[test]
fn an_answer_of_the_tier_behind_from_before_is_not_kept() {
    let (mut memory, _) = machine();
    let mark = memory.mark(K, BEHIND);
    assert!(memory.is_unchanged(mark));
    memory.hear_nothing();
    assert!(!memory.is_unchanged(mark));
}

// --- what others have changed ------------------------------------------------------------------------------------------

#[test]
fn what_others_have_changed_leaves_memory() {
    let outcome = || {
        let (mut memory, group) = machine();
        keep_now(&mut memory, group, behind(5));
        memory.hear_changed(BEHIND, Version(6), &mut Discard::default());
        is_there(&memory)
    };
    assert!(!outcome());
    assert!(while_broken(&[Rule::ChangesDrop], outcome));
}

#[test]
fn an_event_of_what_memory_has_already_takes_nothing_away_and_one_of_any_other_version_does() {
    for (version, stays) in [(4, false), (5, true), (6, false)] {
        let (mut memory, group) = machine();
        keep_now(&mut memory, group, behind(5));
        memory.hear_changed(BEHIND + 1, Version(9), &mut Discard::default());
        assert!(is_there(&memory), "another key");
        memory.hear_changed(BEHIND, Version(version), &mut Discard::default());
        assert_eq!(is_there(&memory), stays, "{version}: a store that has lost all gives lower ones again");
    }
}

#[test]
fn what_has_no_version_is_older_than_any_event() {
    let (mut memory, group) = machine();
    keep_now(&mut memory, group, Note { version: None, ..behind(5) });
    memory.hear_changed(BEHIND, Version(1), &mut Discard::default());
    assert!(!is_there(&memory));
}

#[test]
fn a_load_that_is_under_way_when_its_key_is_changed_elsewhere_stores_nothing() {
    let (mut memory, group) = machine();
    let policy = Policy::default();
    let lease = load(&mut memory, group, &policy);
    memory.ledger.as_mut().unwrap().begin_load(BEHIND, lease.flight);
    let mark = memory.mark(K, BEHIND);
    memory.hear_changed(BEHIND + 1, Version(6), &mut Discard::default());
    assert!(memory.flights.is_attached(lease.flight), "another key");
    memory.hear_changed(BEHIND, Version(6), &mut Discard::default());
    assert!(!memory.flights.is_attached(lease.flight));
    assert!(!memory.is_unchanged(mark), "nor does anybody keep what was read before");
}

#[test]
fn what_was_touched_by_somebody_who_tells_no_version_is_suspect_and_nothing_else_is() {
    let (mut memory, group) = machine();
    let id = keep_now(&mut memory, group, behind(5));
    let turn = memory.entries.turn();
    let other = keep(&mut memory, group, ("l", K + 1), Note { key: BEHIND + 1, ..behind(5) }, turn);
    memory.hear_touched(BEHIND);
    assert!(!is_served(&memory, id));
    assert!(is_served(&memory, other));
    assert_eq!((memory.settle(id, 0), memory.settle(other, 0)), (Settled::Suspect, Settled::Plain));
}

#[test]
fn what_loads_while_its_key_is_touched_is_kept_and_suspect() {
    let suspects = |touched: u64| {
        let (mut memory, group) = machine();
        let policy = Policy::ttl(Duration::from_secs(60));
        let lease = load(&mut memory, group, &policy);
        memory.ledger.as_mut().unwrap().begin_load(BEHIND, lease.flight);
        memory.hear_touched(touched);
        let (lasting, note) = (Lasting::For(policy.ttl), behind(5));
        let keep = Keep { value: || 1, tag: 0, negative: false, lasting, weight: 1, adapted: None, note };
        let ended = Ended { lease, input: Input::Loaded, keep: Some(keep), policy: &policy, group };
        memory.finish(ended, 1, || 0.5, &mut Discard::default());
        let id = memory.entries.find(K, |key| *key == "k").expect("it is kept");
        memory.settle(id, 1)
    };
    assert_eq!(suspects(BEHIND), Settled::Suspect);
    assert_eq!(suspects(BEHIND + 1), Settled::Plain, "another key");
}

// --- tags and namespaces -----------------------------------------------------------------------------------------------

#[test]
fn what_has_a_tag_that_was_invalidated_is_gone() {
    let outcome = || {
        let (mut memory, group) = machine();
        let id = keep_now(&mut memory, group, tagged(5, "", &["t", "u"]));
        memory.hear_moved(&moved("", "u", How::Gone, 6));
        memory.settle(id, 10)
    };
    assert_eq!(outcome(), Settled::Gone);
    assert_eq!(while_broken(&[Rule::TagsAreCompared], outcome), Settled::Plain);
}

#[test]
fn it_ends_there_and_then() {
    let (mut memory, group) = machine();
    let id = keep_now(&mut memory, group, tagged(5, "", &["t"]));
    memory.hear_moved(&moved("", "t", How::Gone, 6));
    assert_eq!(memory.settle(id, 10), Settled::Gone);
    let Span { fresh_until, expires, .. } = memory.entries.span(id);
    assert_eq!((fresh_until, expires), (10, 10));
}

#[test]
fn what_has_expired_by_its_tag_is_stale_from_then_on_and_keeps_its_end() {
    let (mut memory, group) = machine();
    let id = keep_now(&mut memory, group, tagged(5, "", &["t"]));
    memory.hear_moved(&moved("", "t", How::Stale, 6));
    assert_eq!(memory.settle(id, 10), Settled::Plain);
    let Span { fresh_until, expires, .. } = memory.entries.span(id);
    assert_eq!((fresh_until, expires), (10, END));
}

#[test]
fn what_began_after_a_tag_was_invalidated_stays_and_so_does_what_has_another_tag_or_lies_elsewhere() {
    for (note, what) in [
        (tagged(7, "", &["t"]), "it began later"),
        (tagged(5, "", &["tt"]), "another tag"),
        (tagged(5, "", &["T"]), "another case"),
        (tagged(5, "ab", &["x"]), "another namespace, of which the name begins so"),
        (behind(5), "none"),
    ] {
        let (mut memory, group) = machine();
        let began = Began { here: None, ..note.began };
        let id = keep_now(&mut memory, group, Note { began, ..note });
        memory.hear_moved(&moved("", "t", How::Gone, 6));
        memory.hear_moved(&moved("a", "x", How::Gone, 6));
        memory.hear_moved(&moved("a", "", How::Gone, 6));
        assert_eq!(memory.settle(id, 10), Settled::Plain, "{what}");
        assert!(is_served(&memory, id), "{what}");
    }
}

#[test]
fn a_namespace_reaches_those_below_it() {
    for path in ["a", "a:b", "a:b:c"] {
        let (mut memory, group) = machine();
        let id = keep_now(&mut memory, group, tagged(5, path, &["t"]));
        memory.hear_moved(&moved("a", "t", How::Gone, 6));
        assert_eq!(memory.settle(id, 10), Settled::Gone, "{path}");
    }
}

#[test]
fn what_this_process_invalidates_counts_at_once_whatever_the_stamps_say() {
    let (mut memory, group) = machine();
    let began = Began { here: Some(memory.sequence()), store: Some(1_000) };
    let id = keep_now(&mut memory, group, Note { began, ..tagged(1_000, "", &["t"]) });
    memory.move_here(&[Name::new("", "t")], How::Gone);
    assert_eq!(memory.settle(id, 10), Settled::Gone);
}

#[test]
fn what_is_suspect_and_was_invalidated_is_gone_and_nobody_has_to_be_asked() {
    let (mut memory, group) = machine();
    let id = keep_now(&mut memory, group, tagged(5, "", &["t"]));
    memory.hear_nothing();
    memory.hear_moved(&moved("", "t", How::Gone, 6));
    assert_eq!(memory.settle(id, 10), Settled::Gone);
}

#[test]
fn another_birth_of_the_clock_is_the_end_of_all_that_was_tagged_before() {
    let told = |birth, stamp| Told {
        stamp,
        birth,
        messages: 0,
        moves: 0,
        all: Some(Snapshot { floor: birth, registers: vec![(Name::new("", "u"), Moved::default())] }),
    };
    let (mut memory, group) = machine();
    assert!(memory.learn(&told(1, 2)), "nothing was known before");
    let id = keep_now(&mut memory, group, tagged(5, "", &["t"]));
    assert!(memory.learn(&told(1, 9)));
    assert_eq!(memory.settle(id, 10), Settled::Plain);
    assert!(!memory.learn(&told(20, 21)), "it was flushed");
    assert_eq!(memory.settle(id, 10), Settled::Gone);
}

// --- loads under way ---------------------------------------------------------------------------------------------------

fn wish(policy: &Policy, group: GroupId) -> Wish<'_> {
    Wish { policy, group, place: Place { home: Some(HERE), refresh: Refresh::Behind, life: Life::Steady }, anew: None }
}

fn load(memory: &mut Machine, group: GroupId, policy: &Policy) -> crate::core::flight::Lease {
    let found = memory.look_up(&wish(policy, group), (K, || "k"), (None, None), 0, || 0.5);
    let Lookup::Lead(lease) = found else { panic!("a miss") };
    memory.wait_for_own(policy, lease, HERE, 0, 7);
    lease
}

/// How many callers take what a load brings, one of whom came before and one after that was heard.
fn coalesced(hear: fn(&mut Machine)) -> u64 {
    let (mut memory, group) = machine();
    let policy = Policy::ttl(Duration::from_secs(60));
    let lease = load(&mut memory, group, &policy);
    memory.wait(&wish(&policy, group), lease.flight, HERE, 0, 8);
    hear(&mut memory);
    memory.wait(&wish(&policy, group), lease.flight, HERE, 1, 9);
    memory.entries.stats(group).coalesced
}

#[test]
fn who_comes_after_something_was_invalidated_does_not_take_what_a_load_brings_that_began_before() {
    let hears: [fn(&mut Machine); 3] = [
        |memory| memory.hear_moved(&moved("", "t", How::Gone, 6)),
        |memory| memory.move_here(&[Name::new("", "t")], How::Stale),
        Machine::hear_nothing,
    ];
    for hear in hears {
        assert_eq!(coalesced(hear), 1);
        assert_eq!(while_broken(&[Rule::InvalidatedLoadsAreNotJoined], || coalesced(hear)), 2);
    }
    assert_eq!(coalesced(|_| {}), 2, "nothing was");
}

#[test]
fn a_memory_that_has_noted_nothing_hears_nothing() {
    let mut memory = Machine::new(Capacity::entries(100), Eviction::Lru);
    let group = memory.entries.add_group(RegionId(0));
    let id = keep_now(&mut memory, group, Note::default());
    memory.hear_nothing();
    memory.hear_touched(BEHIND);
    memory.hear_changed(BEHIND, Version(9), &mut Discard::default());
    assert_eq!((memory.sequence(), memory.tags(id)), (0, None));
    assert!(is_served(&memory, id));
    assert_eq!(Verdict::Good, Ledger::default().verdict(&Note::default()));
}
