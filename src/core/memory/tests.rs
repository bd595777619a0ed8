//! The table against a plain model, on a clock of its own.

use super::*;
use crate::core::clock::{Millis, NEVER};
use crate::core::flight::Fallback;
use proptest::prelude::*;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::time::Duration;

type Small = Table<u32, u64>;

/// A model: what the table may still hold, and in which order of use.
#[derive(Default)]
struct Model {
    entries: HashMap<u32, (u64, Millis)>,
    order: Vec<u32>,
}

impl Model {
    fn used(&mut self, key: u32) {
        self.order.retain(|&other| other != key);
        self.order.push(key);
    }

    fn forget(&mut self, key: u32) {
        self.entries.remove(&key);
        self.order.retain(|&other| other != key);
    }
}

fn hash_of(key: u32) -> u64 {
    // Only eight different hashes for every sixteen keys: equal hashes are the rule here.
    mix(u64::from(key / 2), 7)
}

fn find(table: &Small, key: u32) -> Option<u32> {
    table.find(hash_of(key), |&other| other == key)
}

fn put(table: &mut Small, group: GroupId, key: u32, value: u64, deadline: Millis, now: Millis) {
    put_weighed(table, Placement::new(group, deadline, 0), key, value, now);
}

fn put_weighed(table: &mut Small, placement: Placement, key: u32, value: u64, now: Millis) {
    let mut out = Discard::default();
    match find(table, key) {
        Some(id) => {
            table.replace(id, None, value, placement, now, &mut out);
        }
        None => {
            table.insert(New { hash: hash_of(key), key, value, placement }, now, &mut out);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Get(u32),
    Put(u32, u64, Option<u64>, u64),
    Remove(u32),
    Touch(u32, u64),
    Clear,
    Wait(u64),
    Resize(u32, u64),
    Reorder(Eviction),
}

fn eviction() -> impl Strategy<Value = Eviction> {
    prop::sample::select(Eviction::ALL.to_vec())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..40_u32;
    let step = prop_oneof![
        5 => key.clone().prop_map(Step::Get),
        5 => (key.clone(), any::<u64>(), prop::option::of(1..5_000_u64), 1..300_u64)
            .prop_map(|(k, v, t, w)| Step::Put(k, v, t, w)),
        1 => key.clone().prop_map(Step::Remove),
        1 => (key, 1..5_000_u64).prop_map(|(k, t)| Step::Touch(k, t)),
        1 => (1..3_000_u64).prop_map(Step::Wait),
        1 => (1..20_u32, 100..2_000_u64).prop_map(|(e, w)| Step::Resize(e, w)),
        1 => eviction().prop_map(Step::Reorder),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    /// Whatever leaves when: the table may only ever hold less than the model.
    #[test]
    fn the_table_never_serves_what_the_model_does_not_have(eviction in eviction(), steps in steps()) {
        let mut table = Small::new(Capacity { entries: 16, weight: 1_000 }, eviction);
        let mut group = table.add_group(RegionId(0));
        let mut model = Model::default();
        let mut now = 1_000_000;
        for step in steps {
            match step {
                Step::Get(key) => {
                    let got = find(&table, key).and_then(|id| table.read(id, |end| now >= end)).map(|found| *found.value);
                    let expected = model.entries.get(&key).filter(|(_, deadline)| now < *deadline).map(|(v, _)| *v);
                    prop_assert!(got.is_none() || got == expected, "{key}: {got:?} against {expected:?}");
                    if got.is_some() { model.used(key); }
                }
                Step::Put(key, value, ttl, weight) => {
                    let deadline = ttl.map_or(NEVER, |ttl| now + ttl);
                    let worth = Worth::new(weight, Duration::from_millis(value % 10_000));
                    let before = table.stats(group);
                    put_weighed(&mut table, Placement::new(group, deadline, 0).worth(worth), key, value, now);
                    model.entries.insert(key, (value, deadline));
                    model.used(key);
                    let held = find(&table, key).and_then(|id| table.peek(id)).map(|found| *found.value);
                    prop_assert!(held.is_none_or(|held| held == value), "an old value is left");
                    let after = table.stats(group);
                    let refused_or_evicted = after.refused + after.evictions > before.refused + before.evictions;
                    prop_assert!(held.is_some() || refused_or_evicted, "lost without a trace");
                }
                Step::Touch(key, ttl) => {
                    if let Some(id) = find(&table, key) {
                        table.touch(id, now + ttl);
                        if let Some(entry) = model.entries.get_mut(&key) { entry.1 = now + ttl; }
                    }
                }
                Step::Remove(key) => {
                    if let Some(id) = find(&table, key) { table.remove(id, Reason::Removed, &mut Discard::default()); }
                    model.forget(key);
                }
                Step::Clear => {
                    group = table.renew_group(group);
                    model = Model::default();
                    prop_assert_eq!(table.len(), 0);
                }
                Step::Wait(time) => now += time,
                Step::Resize(entries, weight) => table.resize(RegionId(0), Capacity { entries, weight }),
                Step::Reorder(eviction) => table.reorder(RegionId(0), eviction),
            }
            table.validate().map_err(TestCaseError::fail)?;
            prop_assert!(table.work().entries_at_most <= Work::LIMIT);
        }
    }

    #[test]
    fn without_expiry_the_entries_that_stay_are_exactly_the_last_used(uses in prop::collection::vec(0..60_u32, 1..400)) {
        let mut table = Small::new(Capacity::entries(16), Eviction::Lru);
        let group = table.add_group(RegionId(0));
        let mut model = Model::default();
        for key in uses {
            if let Some(id) = find(&table, key) { table.read(id, |_| false); }
            else { put(&mut table, group, key, 0, NEVER, 1); }
            model.used(key);
        }
        let mut kept: Vec<u32> = model.order.iter().rev().take(16).copied().collect();
        let mut held: Vec<u32> = (0..60).filter(|&key| find(&table, key).is_some()).collect();
        kept.sort_unstable();
        held.sort_unstable();
        prop_assert_eq!(kept, held);
    }
}

#[test]
fn no_operation_touches_more_than_its_limit_while_a_million_entries_come_and_expire() {
    let mut table: Table<NonZeroU64, NonZeroU64> = Table::new(Capacity::entries(u32::MAX >> 1), Eviction::Adaptive);
    let group = table.add_group(RegionId(0));
    let mut out = Discard::default();
    let count = 1_000_000_u64;
    for key in 1..=count {
        let key = NonZeroU64::new(key).unwrap();
        let placement = Placement::new(group, 2_000, 0);
        table.insert(New { hash: mix(key.get(), 1), key, value: key, placement }, 1_000, &mut out);
    }
    assert_eq!(table.len(), count as usize);
    let bytes = table.allocated() as f64 / count as f64;
    assert!(bytes <= 80.0, "{bytes} bytes per entry");
    let mut rounds = 0;
    while table.tidy(3_000, 64, &mut out) {
        rounds += 1;
    }
    assert_eq!((table.len(), out.len() as u64), (0, count));
    assert!(rounds >= count / 64);
    let work = table.work();
    assert!(work.entries_at_most <= Work::LIMIT, "touched {}", work.entries_at_most);
    assert!(work.moved_at_most <= SEGMENT, "moved {}", work.moved_at_most);
    table.validate().unwrap();
}

#[test]
fn three_thousand_keys_of_one_hash_leave_at_most_thirty_two() {
    let mut table: Table<u32, u32> = Table::new(Capacity::entries(10_000), Eviction::Lru);
    let group = table.add_group(RegionId(0));
    let mut out = Discard::default();
    for key in 0..3_000 {
        let placement = Placement::new(group, NEVER, 0);
        table.insert(New { hash: 42, key, value: key, placement }, 1, &mut out);
    }
    assert_eq!(table.len(), 32);
    assert!(table.find(42, |&key| key == 2_999).is_some());
    assert!(table.find(42, |&key| key == 2_900).is_none());
    table.validate().unwrap();
}

#[test]
fn a_weak_pointer_dies_with_its_entry() {
    let mut table = Small::new(Capacity::entries(4), Eviction::Lru);
    let group = table.add_group(RegionId(0));
    put(&mut table, group, 1, 10, NEVER, 5);
    let target = table.target(find(&table, 1).unwrap());
    assert!(table.resolve(target).is_some());
    table.remove(target.id, Reason::Removed, &mut Discard::default());
    assert!(table.resolve(target).is_none());
    put(&mut table, group, 2, 20, NEVER, 5);
    assert_eq!(find(&table, 2), Some(target.id), "the slot is used again");
    assert!(table.resolve(target).is_none());
}

#[test]
fn a_region_of_its_own_has_a_bound_of_its_own() {
    let mut table = Small::new(Capacity::entries(100), Eviction::Lru);
    let shared = table.add_group(RegionId(0));
    let bounded = table.add_region(Capacity::entries(2), Eviction::Lru);
    let own = table.add_group(bounded);
    for key in 0..10 {
        put(&mut table, shared, key, 0, NEVER, 1);
        put(&mut table, own, 20 + key, 0, NEVER, 1);
    }
    assert_eq!((table.stats(shared).entries, table.stats(own).entries), (10, 2));
    assert_eq!(table.stats(own).evictions, 8);
    table.validate().unwrap();
}

#[test]
fn what_is_not_there_displaces_nothing_where_it_has_a_bound_of_its_own() {
    let mut table = Small::new(Capacity::entries(20), Eviction::Lru);
    let apart = table.set_apart(RegionId(0), Capacity::entries(10), Eviction::Lru);
    let group = table.add_group(RegionId(0));
    (0..20).for_each(|key| put(&mut table, group, key, 0, NEVER, 1));
    let none = Placement::new(group, NEVER, 0).negative(true);
    (100..100_100).for_each(|key| put_weighed(&mut table, none, key, 0, 1));
    assert!((0..20).all(|key| find(&table, key).is_some()));
    assert_eq!(
        (100..100_100).filter(|&key| find(&table, key).is_some()).collect::<Vec<_>>(),
        Vec::from_iter(100_090..100_100)
    );
    table.validate().unwrap();

    // A key may change sides.
    let there = Placement::new(group, NEVER, 0);
    put_weighed(&mut table, there, 100_099, 7, 1);
    put_weighed(&mut table, none, 19, 0, 1);
    assert_eq!((table.len(), find(&table, 0)), (29, None));
    table.validate().unwrap();

    // Bounds apart move apart, and clearing a group clears both sides.
    table.set_apart(RegionId(0), Capacity::entries(3), Eviction::Fifo);
    assert_eq!(table.apart(RegionId(0)), Some(apart));
    let mut out = Discard::default();
    while table.tidy(2, 64, &mut out) {}
    assert_eq!(
        (100..100_099).filter(|&key| find(&table, key).is_some()).count() + usize::from(find(&table, 19).is_some()),
        3
    );
    assert_eq!(table.eviction(apart), Eviction::Fifo);
    table.renew_group(group);
    while table.tidy(2, 64, &mut out) {}
    assert!(table.is_empty());
    table.validate().unwrap();
}

#[test]
fn negative_entries_share_the_bound_where_they_have_none() {
    let mut table = Small::new(Capacity::entries(20), Eviction::Lru);
    let group = table.add_group(RegionId(0));
    (0..20).for_each(|key| put(&mut table, group, key, 0, NEVER, 1));
    (100..110).for_each(|key| put_weighed(&mut table, Placement::new(group, NEVER, 0).negative(true), key, 0, 1));
    assert_eq!((0..20).filter(|&key| find(&table, key).is_some()).count(), 10);
    table.validate().unwrap();
}

#[test]
fn clearing_a_group_is_one_step_and_its_memory_follows() {
    let mut table = Small::new(Capacity::entries(10_000), Eviction::Lru);
    let group = table.add_group(RegionId(0));
    for key in 0..1_000 {
        put(&mut table, group, key, 0, NEVER, 1);
    }
    table.stats_mut(group).hits = 7;
    let group = table.renew_group(group);
    assert_eq!((table.len(), table.stats(group).hits), (0, 7));
    assert!(find(&table, 1).is_some_and(|id| table.read(id, |end| 2 >= end).is_none()));
    let mut out = Discard::default();
    while table.tidy(2, 64, &mut out) {}
    assert_eq!(out.len(), 1_000);
    assert_eq!(table.stats(group).expired, 0, "a cleared entry has not expired");
    table.validate().unwrap();
}

#[test]
fn what_leaves_tells_whose_it_was_and_why() {
    let mut table = Small::new(Capacity { entries: 2, weight: 100 }, Eviction::Fifo);
    let (mine, other) = (table.add_group(RegionId(0)), table.add_group(RegionId(0)));
    let mut out = Discard::default();
    let placed = |group, deadline, weight| Placement::new(group, deadline, 3).worth(Worth::new(weight, Duration::ZERO));
    let mut insert = |table: &mut Small, key: u32, placement, now| {
        let new = New { hash: hash_of(key), key, value: u64::from(key) * 10, placement };
        table.put(new, |&held| held == key, now, &mut out).is_some()
    };
    assert!(insert(&mut table, 2, placed(mine, 500, 1), 1));
    assert!(insert(&mut table, 2, placed(mine, 900, 1), 2));
    assert!(insert(&mut table, 4, placed(other, NEVER, 1), 3));
    assert!(insert(&mut table, 6, placed(mine, 700, 1), 4));
    assert!(!insert(&mut table, 8, placed(mine, NEVER, 101), 5));
    while table.tidy(2_000, 64, &mut out) {}
    table.renew_group(other);
    while table.tidy(2_001, 64, &mut out) {}

    let mut left: Vec<_> = std::iter::from_fn(|| out.take()).collect();
    left.reverse();
    let told = left.iter().map(|left| {
        assert_eq!(left.hash, hash_of(left.value.unwrap() as u32 / 10));
        assert_eq!(left.tag, 3);
        (left.key, left.value, left.end, left.group, left.reason)
    });
    let (mine, other) = (mine.number(), other.number());
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            (Some(2), Some(20), 500, mine, Reason::Replaced),
            (Some(2), Some(20), 900, mine, Reason::Evicted),
            (Some(8), Some(80), NEVER, mine, Reason::Refused),
            (Some(6), Some(60), 700, mine, Reason::Expired),
            (Some(4), Some(40), NEVER, other, Reason::Cleared),
        ]
    );
}

#[test]
fn a_load_of_a_cleared_group_is_not_stored_in_its_successor() {
    for clears in 1..3 {
        let mut memory: Memory<u32, u64, ()> = Memory::new(Capacity::entries(10), Eviction::Lru);
        let group = memory.entries.add_group(RegionId(0));
        let mut now = group;
        for _ in 0..clears {
            now = memory.entries.renew_group(now);
        }
        let fill = Fill { hash: 1, key: 1, group, seen: None, began: 0, sequence: 0, turn: NO_TURN };
        let placement = Placement::new(group, NEVER, 0);
        memory.fill(fill, 1, placement, 1, &mut Discard::default());
        assert_eq!(memory.entries.len(), 0, "cleared {clears} times while it loaded");
    }
}

#[test]
fn an_arrival_heavier_than_the_bound_leaves_the_order_as_it_was() {
    let mut table = Small::new(Capacity { entries: 2, weight: 100 }, Eviction::Lfu);
    let group = table.add_group(RegionId(0));
    let used = |table: &mut Small, key, times| {
        put(table, group, key, 0, NEVER, 1);
        (0..times).for_each(|_| assert!(find(table, key).is_some_and(|id| table.read(id, |_| false).is_some())));
    };
    used(&mut table, 2, 2);
    used(&mut table, 4, 1);
    let heavy = Placement::new(group, NEVER, 0).worth(Worth::new(101, Duration::ZERO));
    put_weighed(&mut table, heavy, 6, 0, 1);
    assert_eq!((table.stats(group).refused, table.len()), (1, 2));
    // Had room been looked for, whoever comes now would count as much as who was used three times.
    table.remove(find(&table, 4).unwrap(), Reason::Removed, &mut Discard::default());
    used(&mut table, 8, 0);
    used(&mut table, 10, 0);
    assert!(find(&table, 2).is_some() && find(&table, 8).is_none());
}

#[test]
fn a_value_heavier_than_the_bound_takes_the_one_it_replaces_with_it_and_nobody_else() {
    let mut table = Small::new(Capacity { entries: 9, weight: 1_000 }, Eviction::Lru);
    let group = table.add_group(RegionId(0));
    let weighing = |weight| Placement::new(group, NEVER, 0).worth(Worth::new(weight, Duration::ZERO));
    for stored in [5_000, 5_000_000] {
        put_weighed(&mut table, weighing(500), 2, 0, 1);
        put_weighed(&mut table, weighing(100), 4, 0, 1);
        put_weighed(&mut table, weighing(stored), 2, 0, 2);
        assert!(find(&table, 2).is_none() && find(&table, 4).is_some());
        assert_eq!(table.stats(group).evictions, 0);
        table.validate().unwrap();
    }
    assert_eq!(table.stats(group).refused, 2);
}

#[test]
fn tidying_many_regions_over_their_bounds_touches_no_more_than_it_may() {
    let mut table = Small::new(Capacity::entries(1_000), Eviction::Lru);
    let regions: Vec<RegionId> = (0..8).map(|_| table.add_region(Capacity::entries(100), Eviction::Lru)).collect();
    for (number, &region) in regions.iter().enumerate() {
        let group = table.add_group(region);
        (0..100).for_each(|key| put(&mut table, group, 1_000 * number as u32 + key, 0, NEVER, 1));
    }
    regions.iter().for_each(|&region| table.resize(region, Capacity::entries(10)));
    let mut out = Discard::default();
    while table.tidy(2, 64, &mut out) {}
    assert_eq!((table.len(), out.len()), (80, 720));
    assert!(table.work().entries_at_most <= Work::LIMIT, "{:?}", table.work());
    table.validate().unwrap();
}

#[test]
fn an_entry_with_a_span_is_a_plain_hit_at_first_counts_as_stale_then_and_leaves_at_its_end() {
    let mut table = Small::new(Capacity::entries(10), Eviction::Lru);
    let group = table.add_group(RegionId(0));
    put(&mut table, group, 2, 1, 500, 1);
    let id = find(&table, 2).unwrap();
    assert_eq!(table.span(id), Span::until(500));
    let span = Span { fresh_until: 100, expires: 1_000, retry_at: 0, load: 7, since: 9 };
    table.set_span(id, span, 90, Served::Fresh);
    let read = |table: &mut Small, now| table.read(id, |end| now >= end).is_some();
    assert!(read(&mut table, 89) && !read(&mut table, 90));
    assert!(table.is_served(id, |end| 99 >= end) && !table.is_served(id, |end| 100 >= end));
    table.set_span(id, span, 300, Served::Stale);
    assert!(read(&mut table, 299) && !read(&mut table, 300) && table.serve(id, Served::Stale).is_some());
    assert!(table.hit_fresh(hash_of(2), |&key| key == 2, |_| false).is_none());
    let stats = table.stats(group);
    assert_eq!((stats.hits, stats.stale_hits), (1, 2));
    let mut out = Discard::default();
    table.tidy(999, 64, &mut out);
    assert_eq!(table.len(), 1);
    table.tidy(1_200, 64, &mut out);
    assert_eq!((table.len(), table.stats(group).expired), (0, 1));
    put(&mut table, group, 4, 1, 2_000, 1_200);
    let id = find(&table, 4).unwrap();
    assert_eq!(table.span(id), Span::until(2_000), "who uses the slot next has a life of its own");
    table.validate().unwrap();
}

#[test]
fn uses_are_counted_by_the_orders_that_go_by_them() {
    for (eviction, counted) in [(Eviction::Lfu, [1, 4, 15]), (Eviction::S3Fifo, [0, 3, 3]), (Eviction::Lru, [0, 0, 0])]
    {
        let mut table = Small::new(Capacity::entries(10), eviction);
        let group = table.add_group(RegionId(0));
        put(&mut table, group, 2, 1, NEVER, 1);
        let id = find(&table, 2).unwrap();
        let mut uses = |reads: u32| {
            (0..reads).for_each(|_| assert!(table.read(id, |_| false).is_some()));
            table.uses(id)
        };
        assert_eq!([uses(0), uses(3), uses(40)], counted, "{eviction}");
    }
}

#[test]
fn what_is_not_there_is_no_hit_and_not_served() {
    let mut table = Small::new(Capacity::entries(10), Eviction::Lru);
    let group = table.add_group(RegionId(0));
    put(&mut table, group, 2, 1, 500, 1);
    let id = find(&table, 2).unwrap();
    table.set_span(id, Span::until(500), 0, Served::Negative);
    assert!(table.read(id, |end| 2 >= end).is_none() && !table.is_served(id, |_| false));
    assert!(table.sight(id).is_some_and(|sight| sight.negative));
    table.serve(id, Served::Negative);
    assert_eq!(table.stats(group).negative_hits, 1);
    table.touch(id, 900);
    assert!(table.is_served(id, |_| false), "an explicit write is plain");
}

#[test]
fn an_old_value_in_use_is_plain_until_the_next_try_is_due() {
    let mut memory: Memory<u32, u64, ()> = Memory::new(Capacity::entries(10), Eviction::Lru);
    let group = memory.entries.add_group(RegionId(0));
    put(&mut memory.entries, group, 2, 1, 100, 1);
    let id = find(&memory.entries, 2).unwrap();
    memory.entries.set_span(
        id,
        Span { fresh_until: 100, expires: 500, retry_at: 0, load: 1, since: 0 },
        100,
        Served::Fresh,
    );
    let fallback = Fallback { target: memory.entries.target(id), until: 400, retry_after: Duration::from_millis(50) };
    assert_eq!(memory.relent(&fallback, 200), Some(id));
    let read = |memory: &mut Memory<u32, u64, ()>, now| memory.entries.read(id, |end| now >= end).is_some();
    assert!(read(&mut memory, 249) && !read(&mut memory, 250));
    assert_eq!(memory.relent(&fallback, 380), Some(id));
    assert!(read(&mut memory, 399) && !read(&mut memory, 400), "not beyond its use");
    assert_eq!(memory.relent(&fallback, 40), Some(id));
    assert!(read(&mut memory, 89) && !read(&mut memory, 100), "an early refresh that failed leaves it fresh");
    put(&mut memory.entries, group, 2, 2, 100, 1);
    assert_eq!(memory.relent(&fallback, 200), None, "another value is there");
}

#[test]
fn an_old_value_that_was_cleared_or_is_past_its_use_answers_for_no_load() {
    let mut memory: Memory<u32, u64, ()> = Memory::new(Capacity::entries(10), Eviction::Lru);
    let group = memory.entries.add_group(RegionId(0));
    put(&mut memory.entries, group, 2, 1, 900, 1);
    let target = memory.entries.target(find(&memory.entries, 2).unwrap());
    let fallback = Fallback { target, until: 400, retry_after: Duration::from_millis(50) };
    assert!(memory.old(&fallback, 399).is_some() && memory.relent(&fallback, 399).is_some());
    assert!(memory.old(&fallback, 400).is_none() && memory.relent(&fallback, 400).is_none(), "it is of no use");
    memory.entries.touch(target.id, 200);
    assert!(memory.old(&fallback, 200).is_none() && memory.relent(&fallback, 200).is_none(), "its life is shorter now");
    memory.relent(&fallback, 199);
    assert!(memory.entries.read(target.id, |end| 200 >= end).is_none(), "no failure makes it longer");
    memory.entries.touch(target.id, 900);
    assert!(memory.old(&fallback, 300).is_some());
    memory.entries.renew_group(group);
    assert!(memory.old(&fallback, 300).is_none() && memory.relent(&fallback, 300).is_none(), "it was cleared");
}
