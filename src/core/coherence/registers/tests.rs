//! The mirror of the registers: nothing that was gone is ever good again, however it was heard of.

use super::*;
use crate::core::coherence::Snapshot;
use crate::core::coherence::cell::Cell;
use proptest::prelude::*;

fn names(names: &[(&str, &str)]) -> Vec<Name> {
    names.iter().map(|(path, tag)| Name::new(path, tag)).collect()
}

fn moved(name: (&str, &str), how: How, at: u64) -> Move {
    Move { names: names(&[name]), how, at }
}

fn stamped(store: u64) -> Began {
    Began { here: None, store: Some(store) }
}

fn here(sequence: u64) -> Began {
    Began { here: Some(sequence), store: None }
}

const NO_TAGS: std::iter::Empty<&str> = std::iter::empty();

#[test]
fn a_tag_counts_in_its_namespace_and_those_below_it() {
    let mut registers = Registers::default();
    registers.apply(&moved(("a", "t"), How::Gone, 10));
    let judge = |path, tag, stamp| registers.judge(path, [tag].into_iter(), stamped(stamp));
    assert_eq!(["a", "a:b", "a:b:c"].map(|path| judge(path, "t", 10)), [Verdict::Gone; 3]);
    assert_eq!(["", "b", "ab", "b:a", "A", "a%3Ab"].map(|path| judge(path, "t", 10)), [Verdict::Good; 6]);
    assert_eq!(["T", "t ", "t*", "*", "t:u", "", "a:t"].map(|tag| judge("a", tag, 10)), [Verdict::Good; 7]);
    assert_eq!(judge("a", "t", 11), Verdict::Good);
    assert_eq!(registers.judge("a", NO_TAGS, stamped(10)), Verdict::Good);
}

#[test]
fn no_namespace_is_taken_for_the_beginning_of_another() {
    let hit = |cleared: &str| {
        let mut registers = Registers::default();
        registers.apply(&moved((cleared, ""), How::Gone, 10));
        ["", "a", "ab", "a:b", "a:b:c", "ab:c", "a:"]
            .map(|path| registers.judge(path, NO_TAGS, stamped(9)) == Verdict::Gone)
    };
    assert_eq!(hit("a"), [false, true, false, true, true, false, true]);
    assert_eq!(hit("ab"), [false, false, true, false, false, true, false]);
    assert_eq!(hit("a:b"), [false, false, false, true, true, false, false]);
    assert_eq!(hit(""), [true; 7]);
}

#[test]
fn expired_is_not_gone_and_what_is_gone_stays_so() {
    let mut registers = Registers::default();
    registers.apply(&moved(("", "t"), How::Stale, 10));
    registers.apply(&moved(("", "t"), How::Gone, 5));
    let judge = |stamp| registers.judge("", ["t"].into_iter(), stamped(stamp));
    assert_eq!([5, 6, 10, 11].map(judge), [Verdict::Gone, Verdict::Stale, Verdict::Stale, Verdict::Good]);
}

#[test]
fn what_is_moved_here_counts_at_once_for_loads_that_began_before() {
    let mut registers = Registers::default();
    let before = registers.sequence();
    registers.move_here(&names(&[("", "t")]), How::Gone);
    let judge = |began| registers.judge("", ["t"].into_iter(), began);
    let both = Began { here: Some(before), store: Some(99) };
    assert_eq!([judge(here(before)), judge(both)], [Verdict::Gone; 2]);
    let both = Began { here: Some(registers.sequence()), store: Some(99) };
    assert_eq!([judge(here(registers.sequence())), judge(both), judge(stamped(1))], [Verdict::Good; 3]);
    assert_eq!(registers.known(), Known::default());
}

#[test]
fn what_others_move_counts_here_where_the_store_gave_no_stamp_and_else_by_its_stamps() {
    let mut registers = Registers::default();
    let before = registers.sequence();
    registers.apply(&moved(("", "t"), How::Gone, 10));
    let judge = |began| registers.judge("", ["t"].into_iter(), began);
    assert_eq!(judge(here(before)), Verdict::Gone);
    assert_eq!(judge(here(registers.sequence())), Verdict::Good);
    assert_eq!(judge(Began { here: Some(before), store: Some(11) }), Verdict::Good);
    assert_eq!(judge(Began { here: Some(before), store: Some(10) }), Verdict::Gone);
    assert_eq!(judge(Began::default()), Verdict::Gone);
}

#[test]
fn what_was_heard_before_changes_nothing_nor_does_what_is_late() {
    let mut registers = Registers::default();
    registers.apply(&moved(("", "t"), How::Gone, 10));
    let sequence = registers.sequence();
    registers.apply(&moved(("", "t"), How::Gone, 10));
    registers.apply(&moved(("", "t"), How::Gone, 9));
    assert_eq!(registers.sequence(), sequence);
}

#[test]
fn a_clock_that_was_born_anew_makes_all_older_gone_though_its_stamps_begin_below() {
    let (mut cell, mut registers) = (Cell::default(), Registers::default());
    let told = cell.told(registers.known(), 1_000);
    registers.learn(&told);
    assert_eq!(registers.judge("", NO_TAGS, stamped(told.stamp)), Verdict::Good);
    assert!(cell.told(registers.known(), 1_000).all.is_none());
    let born = Cell::default().told(registers.known(), 10);
    registers.learn(&born);
    assert_eq!(registers.judge("", NO_TAGS, stamped(told.stamp)), Verdict::Gone);
    assert_eq!(registers.known(), Known { birth: born.birth, moves: 0 });
}

#[test]
fn what_was_moved_before_anything_was_known_of_a_clock_takes_along_only_what_it_names() {
    // The answer may be of before the move, of after it, or of after that register was dropped there.
    for (told, floor) in [(vec![], 10), (vec![("t", 50)], 10), (vec![("t", 55), ("v", 30)], 10), (vec![("v", 30)], 10)]
    {
        let mut registers = Registers::default();
        registers.apply(&moved(("", "t"), How::Gone, 50));
        let all = told.iter().map(|(tag, at)| (Name::new("", tag), Moved::once(How::Gone, *at))).collect();
        let all = Some(Snapshot { floor, registers: all });
        registers.learn(&Told { stamp: 40, birth: 10, messages: 1, moves: 1, all });
        let judge = |tag| [10, 20, 50].map(|stamp| registers.judge("", [tag].into_iter(), stamped(stamp)));
        assert_eq!(judge("t"), [Verdict::Gone; 3], "{told:?}");
        assert_eq!(judge("u"), [Verdict::Gone, Verdict::Good, Verdict::Good], "{told:?}");
    }
}

#[test]
fn an_answer_that_says_nothing_new_is_of_the_clock_that_is_known() {
    let mut registers = Registers::default();
    registers.learn(&Told { stamp: 9, birth: 5, messages: 0, moves: 2, all: None });
    assert_eq!(registers.known(), Known::default());
    registers.learn(&Told { stamp: 9, birth: 5, messages: 0, moves: 2, all: Some(Snapshot::default()) });
    registers.learn(&Told { stamp: 9, birth: 5, messages: 0, moves: 3, all: None });
    assert_eq!(registers.known(), Known { birth: 5, moves: 3 });
}

#[test]
fn what_is_moved_after_a_clock_was_born_anew_below_counts_for_what_has_no_stamp() {
    let mut registers = Registers::default();
    let told = |stamp| Told { stamp, birth: stamp, messages: 0, moves: 0, all: Some(Snapshot::default()) };
    registers.learn(&told(1_000));
    registers.apply(&moved(("", "t"), How::Gone, 1_001));
    registers.learn(&told(10));
    let began = here(registers.sequence());
    assert_eq!(registers.judge("", ["t"].into_iter(), began), Verdict::Good);
    registers.apply(&moved(("", "t"), How::Gone, 11));
    assert_eq!(registers.judge("", ["t"].into_iter(), began), Verdict::Gone);
}

/// Something that a mirror hears of.
#[derive(Clone, Debug)]
enum Heard {
    Moved(Move),
    Here(Vec<Name>, How),
    Told(Told),
}

const TEXTS: &str = "(a|b|ab|a:b|a:b:c|\\*|a\\*|a,b|\\[a\\]|)";

fn name() -> impl Strategy<Value = Name> {
    (TEXTS, TEXTS).prop_map(|(path, tag)| Name::new(&path, &tag))
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![Just(How::Gone), Just(How::Stale)]
}

fn heard() -> impl Strategy<Value = Heard> {
    let some = || prop::collection::vec(name(), 0..3);
    let at = 1_u64..30;
    let registers = prop::collection::vec((name(), (0_u64..30, 0_u64..30)), 0..4)
        .prop_map(|all| all.into_iter().map(|(name, (gone, stale))| (name, Moved { gone, stale })).collect::<Vec<_>>());
    let all = prop::option::of((0_u64..30, registers));
    prop_oneof![
        (some(), how(), at.clone()).prop_map(|(names, how, at)| Heard::Moved(Move { names, how, at })),
        (some(), how()).prop_map(|(names, how)| Heard::Here(names, how)),
        (1_u64..30, 1_u64..4, 0_u64..4, all).prop_map(|(stamp, birth, moves, all)| {
            let all = all.map(|(floor, registers)| Snapshot { floor, registers });
            Heard::Told(Told { stamp, birth, messages: 0, moves, all })
        }),
    ]
}

fn hear(registers: &mut Registers, heard: &Heard) {
    match heard {
        Heard::Moved(moved) => registers.apply(moved),
        Heard::Here(names, how) => registers.move_here(names, *how),
        Heard::Told(told) => registers.learn(told),
    }
}

/// Everything that there can be, and what is said of it.
fn verdicts(registers: &Registers) -> Vec<Verdict> {
    let texts = ["", "a", "b", "ab", "a:b", "a:b:c", "*", "a*", "a,b", "[a]"];
    let moments = || (0..12).step_by(2).map(|at| Some(at * 3)).chain([None]);
    let begins = moments().flat_map(|here| moments().map(move |store| Began { here, store }));
    let places = texts.iter().flat_map(|path| texts.iter().map(move |tag| (*path, *tag)));
    let all = places.flat_map(|place| begins.clone().map(move |began| (place, began)));
    all.map(|((path, tag), began)| registers.judge(path, [tag].into_iter(), began)).collect()
}

proptest! {
    #[test]
    fn nothing_gets_better_by_what_is_heard_and_nothing_changes_without_the_sequence(
        all in prop::collection::vec(heard(), 0..12), limit in 2_usize..9,
    ) {
        let mut registers = Registers::new(limit);
        let mut before = verdicts(&registers);
        for heard in &all {
            let sequence = registers.sequence();
            hear(&mut registers, heard);
            let after = verdicts(&registers);
            prop_assert!(before.iter().zip(&after).all(|(before, after)| before <= after), "{heard:?}");
            prop_assert!(sequence < registers.sequence() || before == after, "{heard:?}");
            prop_assert!(registers.len() <= limit && registers.is_empty() == registers.names().is_empty());
            before = after;
        }
    }

    #[test]
    fn a_mirror_that_forgets_is_never_milder_than_one_that_does_not(
        all in prop::collection::vec(heard(), 0..12), limit in 2_usize..6,
    ) {
        let (mut small, mut large) = (Registers::new(limit), Registers::default());
        for heard in &all {
            hear(&mut small, heard);
            hear(&mut large, heard);
        }
        // Their sequences differ, so that only stamps and the beginning are compared.
        let stamps = (0..30).map(stamped).chain([here(0)]);
        for (name, began) in stamps.flat_map(|began| large.names().into_iter().map(move |name| (name, began))) {
            let judge = |registers: &Registers| registers.judge(&name.path, [&*name.tag].into_iter(), began);
            prop_assert!(judge(&small) >= judge(&large));
        }
    }

    #[test]
    fn the_order_in_which_stamped_things_are_heard_does_not_matter(
        moves in prop::collection::vec((prop::collection::vec(name(), 0..3), how(), 1_u64..30), 0..8), first in 0_usize..8,
    ) {
        let all: Vec<Move> = moves.into_iter().map(|(names, how, at)| Move { names, how, at }).collect();
        let (mut one, mut other) = (Registers::default(), Registers::default());
        all.iter().for_each(|moved| one.apply(moved));
        let (late, early) = all.split_at(first.min(all.len()));
        early.iter().chain(late).chain(early).for_each(|moved| other.apply(moved));
        for (stamp, name) in (0..30).flat_map(|stamp| one.names().into_iter().map(move |name| (stamp, name))) {
            let judge = |registers: &Registers| registers.judge(&name.path, [&*name.tag].into_iter(), stamped(stamp));
            prop_assert_eq!(judge(&one), judge(&other));
        }
    }

    #[test]
    fn a_mirror_says_what_a_list_of_all_moves_says(
        moves in prop::collection::vec((name(), how()), 0..8), path in TEXTS, tags in prop::collection::vec(TEXTS, 0..3), at in 0_usize..9,
    ) {
        let (mut cell, mut mirror) = (Cell::default(), Registers::default());
        let mut began = cell.told(Known::default(), 0).stamp;
        let mut expected = Verdict::Good;
        for (number, (name, how)) in moves.iter().enumerate() {
            if number == at {
                (began, expected) = (cell.told(Known::default(), 0).stamp, Verdict::Good);
            }
            cell.moved(std::slice::from_ref(name), *how, 0);
            let within = name.path.is_empty() || path == *name.path || path.starts_with(&format!("{}:", name.path));
            let touched = within && (name.tag.is_empty() || tags.iter().any(|tag| **tag == *name.tag));
            let verdict = if *how == How::Gone { Verdict::Gone } else { Verdict::Stale };
            expected = if touched { expected.max(verdict) } else { expected };
        }
        mirror.learn(&cell.told(mirror.known(), 0));
        prop_assert_eq!(mirror.judge(&path, tags.iter().map(String::as_str), stamped(began)), expected);
    }
}

impl Registers {
    fn names(&self) -> Vec<Name> {
        let tags = self.paths.iter().flat_map(|(path, tags)| tags.keys().map(move |tag| (path, tag)));
        tags.map(|(path, tag)| Name::new(path, tag)).collect()
    }
}
