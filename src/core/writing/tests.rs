//! The queue against a slow model that knows every write ever accepted and what the source holds, and stories of sources
//! that are away or refuse a value.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap as Map;
use std::time::Duration;

fn retry(attempts: u32) -> Retry {
    Retry::new(attempts, Duration::from_millis(100), Duration::from_secs(30)).unwrap()
}

/// A second of delay, ten to a batch, and no end of tries.
fn terms() -> Terms {
    Terms { delay: 1_000, max_batch: 10, max_pending: 1_000, retry: retry(u32::MAX) }
}

fn failed(draw: f64) -> Outcome {
    Outcome::Failed(Failure::Passing, draw)
}

fn key_of(number: u32) -> String {
    format!("key{number}")
}

fn put(queue: &mut Queue<u64>, key: &str, value: u64, now: Millis) {
    assert!(queue.put(key, Kind::Set, value, now).is_ok());
}

fn batch(queue: &mut Queue<u64>, now: Millis) -> Batch {
    match queue.next(now) {
        Next::Batch(batch) => batch,
        other => panic!("a batch was expected at {now}, not {other:?}"),
    }
}

fn names(batch: &Batch) -> Vec<&str> {
    batch.keys.iter().map(|key| &**key).collect()
}

fn lefts(left: &[Left<u64>]) -> Vec<(&str, u64)> {
    left.iter().map(|left| (&*left.key, left.value)).collect()
}

#[test]
fn only_the_last_value_of_a_key_is_written_and_after_no_longer_than_the_delay() {
    let mut queue = Queue::new(terms());
    put(&mut queue, "a", 1, 0);
    put(&mut queue, "b", 2, 400);
    assert_eq!(queue.put("a", Kind::Set, 3, 900).unwrap().displaced, Some(1));
    assert_eq!(queue.next(999), Next::At(1_000));
    let sent = batch(&mut queue, 1_000);
    assert_eq!((names(&sent), queue.get("a")), (vec!["a", "b"], Some((Kind::Set, &3))));
    let written = queue.finish(sent.id, Outcome::Written, 1_000).written;
    assert_eq!(lefts(&written), [("a", 3), ("b", 2)]);
    assert_eq!(queue.next(1_000), Next::Idle);
}

#[test]
fn what_is_written_while_its_key_is_under_way_goes_after_it() {
    let mut queue = Queue::new(terms());
    put(&mut queue, "a", 1, 0);
    let first = batch(&mut queue, 1_000);
    put(&mut queue, "a", 2, 1_100);
    put(&mut queue, "a", 3, 1_200);
    assert_eq!((queue.next(9_000), queue.get("a")), (Next::Flying, Some((Kind::Set, &3))));
    assert!(queue.finish(first.id, Outcome::Written, 1_300).written.is_empty());
    assert_eq!(queue.next(1_300), Next::At(2_100));
    let second = batch(&mut queue, 2_100);
    assert_eq!(lefts(&queue.finish(second.id, Outcome::Written, 2_100).written), [("a", 3)]);
}

#[test]
fn a_full_batch_goes_at_once() {
    let mut queue = Queue::new(terms());
    let rings = |queue: &mut Queue<u64>, n: u32| queue.put(&key_of(n), Kind::Set, 0, 0).unwrap().ring;
    assert!(rings(&mut queue, 0));
    assert!((1..9).all(|n| !rings(&mut queue, n)));
    assert!(rings(&mut queue, 9));
    assert_eq!(batch(&mut queue, 0).keys.len(), 10);
}

#[test]
fn sets_and_deletes_go_apart_in_the_order_of_the_oldest() {
    let mut queue = Queue::new(terms());
    put(&mut queue, "a", 1, 0);
    queue.put("b", Kind::Delete, 0, 1).unwrap();
    put(&mut queue, "c", 1, 2);
    queue.put("c", Kind::Delete, 0, 3).unwrap();
    let sets = batch(&mut queue, 2_000);
    assert_eq!((sets.kind, names(&sets)), (Kind::Set, vec!["a"]));
    queue.finish(sets.id, Outcome::Written, 2_000);
    let deletes = batch(&mut queue, 2_000);
    assert_eq!((deletes.kind, names(&deletes)), (Kind::Delete, vec!["b", "c"]));
}

#[test]
fn a_full_queue_refuses_new_keys_and_goes_at_once() {
    let mut queue = Queue::new(Terms { max_pending: 2, ..terms() });
    put(&mut queue, "a", 1, 0);
    assert!(queue.put("b", Kind::Set, 1, 0).unwrap().ring);
    assert_eq!(queue.put("c", Kind::Set, 7, 0).unwrap_err(), 7);
    assert!(queue.put("a", Kind::Set, 2, 0).is_ok());
    assert_eq!(names(&batch(&mut queue, 0)), ["a", "b"]);
    assert!(queue.put("c", Kind::Set, 7, 0).is_err());
}

#[test]
fn a_batch_that_failed_is_tried_again_after_a_pause() {
    let mut queue = Queue::new(terms());
    put(&mut queue, "a", 1, 0);
    for (failures, pause) in [(1, 50), (2, 100), (3, 200), (10, 15_000), (60, 15_000)] {
        queue.writes.get_mut("a").unwrap().failures = failures - 1;
        let sent = batch(&mut queue, 1_000_000);
        assert!(queue.finish(sent.id, failed(0.5), 1_000_000).lost.is_empty());
        assert_eq!(queue.writes["a"].stage, Stage::Resting(1_000_000 + pause), "after {failures}");
        assert!(matches!(queue.next(1_000_000), Next::At(moment) if moment <= 1_000_000 + pause));
        queue.hurry();
    }
}

#[test]
fn while_the_source_is_away_a_write_to_another_key_pauses_too() {
    let mut queue = Queue::new(terms());
    put(&mut queue, "a", 1, 0);
    let sent = batch(&mut queue, 1_000);
    queue.finish(sent.id, failed(1.0), 1_000);
    (0..10).for_each(|n| put(&mut queue, &key_of(n), 1, 1_001));
    assert_eq!(queue.next(1_001), Next::At(1_100));
}

#[test]
fn a_key_that_fails_by_itself_again_and_again_hardly_pauses_anybody_else() {
    let mut queue = Queue::new(terms());
    put(&mut queue, "poison", 1, 0);
    let mut now = 1_000;
    for _ in 0..6 {
        let sent = batch(&mut queue, now);
        assert_eq!(names(&sent), ["poison"]);
        queue.finish(sent.id, failed(1.0), now);
        now += 60_000;
    }
    let sent = batch(&mut queue, now);
    queue.finish(sent.id, failed(1.0), now);
    (0..10).for_each(|n| put(&mut queue, &key_of(n), 1, now));
    assert_eq!(queue.next(now), Next::At(now + 100));
    assert_eq!(batch(&mut queue, now + 100).keys.len(), 10);
}

/// Runs a queue against a source until nothing is pending; returns the number of calls and what was lost.
fn run(queue: &mut Queue<u64>, mut now: Millis, source: impl Fn(Millis, &[u64]) -> bool) -> (u32, Vec<u64>) {
    let (mut calls, mut lost) = (0, Vec::new());
    loop {
        match queue.next(now) {
            Next::Idle => return (calls, lost),
            Next::Flying => unreachable!("every batch ends before the next is asked for"),
            Next::At(moment) => now = moment,
            Next::Batch(sent) => {
                calls += 1;
                let values: Vec<u64> = sent.keys.iter().map(|key| *queue.get(key).unwrap().1).collect();
                let outcome = if source(now, &values) { Outcome::Written } else { failed(1.0) };
                lost.extend(queue.finish(sent.id, outcome, now).lost.into_iter().map(|left| left.value));
            }
        }
    }
}

#[test]
fn a_value_the_source_refuses_takes_no_other_with_it() {
    for attempts in [2, 3, 20] {
        let mut queue = Queue::new(Terms { retry: retry(attempts), max_batch: 100, ..terms() });
        (0..200).for_each(|n| put(&mut queue, &key_of(n), u64::from(n), 0));
        let (calls, lost) = run(&mut queue, 0, |_, values| !values.contains(&137));
        assert_eq!(lost, [137], "after {attempts} attempts");
        assert!(calls <= 102 + attempts, "{calls} calls for {attempts} attempts");
    }
}

#[test]
fn what_the_source_will_never_take_is_given_up_as_soon_as_it_stands_alone() {
    let mut queue = Queue::new(terms());
    put(&mut queue, "good", 1, 0);
    put(&mut queue, "bad", 2, 0);
    let both = batch(&mut queue, 1_000);
    assert!(queue.finish(both.id, Outcome::Failed(Failure::Final, 0.0), 1_000).lost.is_empty());
    let good = batch(&mut queue, 1_000);
    assert_eq!(names(&good), ["good"]);
    queue.finish(good.id, Outcome::Written, 1_000);
    let bad = batch(&mut queue, 1_000);
    assert_eq!(lefts(&queue.finish(bad.id, Outcome::Failed(Failure::Final, 0.0), 1_000).lost), [("bad", 2)]);
}

#[test]
fn a_source_that_was_not_asked_has_refused_nothing() {
    let mut queue = Queue::new(Terms { retry: retry(1), ..terms() });
    put(&mut queue, "a", 1, 0);
    let sent = batch(&mut queue, 1_000);
    assert!(queue.finish(sent.id, Outcome::Failed(Failure::NotAsked, 1.0), 1_000).lost.is_empty());
    assert_eq!(queue.next(1_000), Next::At(1_100));
}

#[test]
fn with_tries_enough_one_bad_value_among_a_hundred_costs_few_calls() {
    let mut queue = Queue::new(Terms { retry: retry(10), max_batch: 100, ..terms() });
    (0..100).for_each(|n| put(&mut queue, &key_of(n), u64::from(n), 0));
    let (calls, lost) = run(&mut queue, 0, |_, values| !values.contains(&50));
    assert_eq!(lost, [50]);
    assert!(calls <= 20, "{calls}");
}

#[test]
fn an_outage_of_ten_minutes_costs_few_calls_and_no_write() {
    let mut queue = Queue::new(Terms { retry: retry(5), max_batch: 100, max_pending: 10_000, ..terms() });
    (0..10_000).for_each(|n| put(&mut queue, &key_of(n), u64::from(n), 0));
    let away = std::cell::Cell::new(0);
    let (calls, lost) = run(&mut queue, 0, |now, _| {
        away.set(away.get() + u32::from(now < 600_000));
        now >= 600_000
    });
    assert!(lost.is_empty());
    assert!(away.get() < 40, "{} calls while it was away", away.get());
    assert!(calls < 200, "{calls} calls in all");
}

#[test]
fn an_outage_costs_few_calls_however_small_the_batches() {
    let mut queue = Queue::new(Terms { max_batch: 1, ..terms() });
    (0..500).for_each(|n| put(&mut queue, &key_of(n), u64::from(n), 0));
    let away = std::cell::Cell::new(0);
    run(&mut queue, 0, |now, _| {
        away.set(away.get() + u32::from(now < 3_600_000));
        now >= 3_600_000
    });
    assert!(away.get() < 160, "{} calls in an hour", away.get());
}

#[test]
fn in_a_hurry_nothing_waits_and_what_comes_later_does_not_count() {
    let mut queue = Queue::new(terms());
    put(&mut queue, "failed", 1, 0);
    let sent = batch(&mut queue, 1_000);
    queue.finish(sent.id, failed(1.0), 1_000);
    put(&mut queue, "fresh", 2, 1_000);
    let mark = queue.hurry();
    put(&mut queue, "later", 3, 1_000);
    for expected in [vec!["failed"], vec!["fresh", "later"]] {
        assert!(!queue.is_settled(mark));
        let sent = batch(&mut queue, 1_000);
        assert_eq!(names(&sent), expected);
        queue.finish(sent.id, Outcome::Written, 1_000);
    }
    assert!(queue.is_settled(mark));
}

#[test]
fn a_newer_write_behind_one_under_way_has_to_be_settled_too() {
    let mut queue = Queue::new(terms());
    put(&mut queue, "a", 1, 0);
    let first = batch(&mut queue, 1_000);
    let before = queue.hurry();
    put(&mut queue, "a", 2, 1_000);
    let after = queue.hurry();
    queue.finish(first.id, Outcome::Written, 1_000);
    assert_eq!((queue.is_settled(before), queue.is_settled(after)), (true, false));
    let second = batch(&mut queue, 1_000);
    queue.finish(second.id, Outcome::Written, 1_000);
    assert!(queue.is_settled(after));
}

#[test]
fn a_newer_value_has_all_its_tries_before_it() {
    let mut queue = Queue::new(Terms { retry: retry(3), ..terms() });
    put(&mut queue, "a", 1, 0);
    for (tries, value) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        let sent = batch(&mut queue, 60_000 * tries);
        assert!(queue.finish(sent.id, failed(0.0), 60_000 * tries).lost.is_empty(), "{value} was tried {tries} times");
        put(&mut queue, "a", 2, 60_000 * tries);
    }
}

#[test]
fn once_the_source_is_back_the_next_pause_is_a_short_one() {
    let mut queue = Queue::new(Terms { max_batch: 1, ..terms() });
    (0..10).for_each(|n| put(&mut queue, &key_of(n), 1, 0));
    let (mut now, mut pauses) = (0, Vec::new());
    for round in 0..10 {
        let sent = batch(&mut queue, now);
        queue.finish(sent.id, if round == 5 { Outcome::Written } else { failed(1.0) }, now);
        pauses.push(queue.paused_until.saturating_sub(now));
        now = now.max(queue.paused_until);
    }
    assert_eq!(pauses[..7], [100, 100, 200, 200, 400, 0, 100]);
}

#[test]
fn those_that_failed_go_with_as_many_as_each_of_them_has_room_for() {
    let mut queue = Queue::new(terms());
    for keys in [&["alone"][..], &["a", "b", "c", "d"]] {
        keys.iter().for_each(|key| put(&mut queue, key, 1, 0));
        let sent = batch(&mut queue, 1_000);
        queue.finish(sent.id, failed(1.0), 1_000);
        queue.paused_until = 0;
    }
    for expected in [&["alone"][..], &["a", "b"], &["c", "d"]] {
        let sent = batch(&mut queue, 60_000);
        assert_eq!(names(&sent), expected);
        queue.finish(sent.id, Outcome::Written, 60_000);
    }
}

#[test]
fn a_batch_that_was_given_up_does_not_end_another_nor_make_a_flush_wait_for_it() {
    let mut queue = Queue::new(terms());
    put(&mut queue, "a", 1, 0);
    let old = batch(&mut queue, 1_000);
    let mark = queue.hurry();
    queue.give_up();
    put(&mut queue, "a", 2, 1_000);
    assert!(queue.is_settled(mark));
    let new = batch(&mut queue, 2_000);
    assert!(queue.finish(old.id, Outcome::Written, 2_000).written.is_empty());
    assert_eq!(queue.next(9_000), Next::Flying);
    assert_eq!(lefts(&queue.finish(new.id, Outcome::Written, 9_000).written), [("a", 2)]);
}

#[test]
fn what_is_given_up_is_told_in_order_and_a_batch_that_ends_afterwards_changes_nothing() {
    let mut queue = Queue::new(terms());
    put(&mut queue, "b", 1, 0);
    let sent = batch(&mut queue, 1_000);
    put(&mut queue, "a", 2, 1_000);
    put(&mut queue, "b", 3, 1_000);
    assert_eq!(lefts(&queue.give_up()), [("b", 3), ("a", 2)]);
    assert!(queue.is_empty() && queue.next(1_000) == Next::Idle);
    put(&mut queue, "b", 4, 2_000);
    assert!(queue.finish(sent.id, Outcome::Written, 2_000).written.is_empty());
    assert_eq!(queue.get("b"), Some((Kind::Set, &4)));
}

#[test]
fn of_a_batch_nobody_knows_the_end_of_everything_is_written_again_at_once() {
    let mut queue = Queue::new(Terms { retry: retry(1), ..terms() });
    put(&mut queue, "a", 1, 0);
    put(&mut queue, "b", 1, 0);
    let sent = batch(&mut queue, 1_000);
    put(&mut queue, "b", 2, 1_000);
    assert!(queue.finish(sent.id, Outcome::Unknown, 1_500).lost.is_empty());
    let again = batch(&mut queue, 1_500);
    assert_eq!(names(&again), ["a", "b"]);
    assert_eq!(queue.get("b"), Some((Kind::Set, &2)));
}

#[test]
fn what_goes_again_at_once_does_not_wait_for_what_is_older_and_has_time() {
    let mut queue = Queue::new(Terms { max_batch: 3, ..terms() });
    put(&mut queue, "a", 1, 0);
    for key in ["b", "c", "d"] {
        assert!(queue.put(key, Kind::Delete, 0, 0).is_ok());
    }
    let sent = batch(&mut queue, 0);
    assert_eq!(names(&sent), ["b", "c", "d"]);
    put(&mut queue, "c", 2, 0);
    put(&mut queue, "d", 2, 0);
    assert!(queue.put("a", Kind::Delete, 0, 0).is_ok());
    queue.finish(sent.id, Outcome::Unknown, 0);
    assert_eq!(names(&batch(&mut queue, 0)), ["a", "b"]);
}

// --- the model --------------------------------------------------------------------------------------------------------

/// What the model knows of one key that is pending.
#[derive(Clone, Debug)]
struct Told {
    kind: Kind,
    value: u64,
    /// When the first write of this wait came, and how many writes had come by then.
    since: Millis,
    order: u64,
    rests_until: Millis,
    failures: u32,
}

/// Keys, what is done about them, and their values.
type Sent = Vec<(String, Kind, u64)>;

/// Knows every write, and asks itself about every rule by looking at everything.
#[derive(Default)]
struct Model {
    pending: Map<String, Told>,
    /// What is under way: its number, and what the source will get.
    flying: Option<(u64, Sent)>,
    source: Map<String, u64>,
    accepted: u64,
    hurried: u64,
    paused_until: Millis,
    lost: Vec<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    Put(u32, bool),
    Wait(Millis),
    Work,
    End(u8, f64),
    Hurry,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..12_u32, any::<bool>()).prop_map(|(key, delete)| Step::Put(key, delete)),
        3 => (0..800_u64).prop_map(Step::Wait),
        4 => Just(Step::Work),
        4 => (0..6_u8, 0.0..1.0).prop_map(|(how, draw)| Step::End(how, draw)),
        1 => Just(Step::Hurry),
    ];
    prop::collection::vec(step, 1..120)
}

fn any_terms() -> impl Strategy<Value = Terms> {
    let attempts = prop_oneof![Just(u32::MAX), 1..5_u32];
    (0..1_000_u64, 1..6_usize, 1..10_usize, attempts).prop_map(|(delay, max_batch, max_pending, attempts)| Terms {
        delay,
        max_batch,
        max_pending,
        retry: Retry::new(attempts, Duration::from_millis(100), Duration::from_secs(1)).unwrap(),
    })
}

impl Model {
    fn put(&mut self, queue: &mut Queue<u64>, terms: &Terms, key: &str, kind: Kind, now: Millis) {
        self.accepted += 1;
        let value = self.accepted;
        let known = self.pending.len();
        let fits = self.pending.contains_key(key) || known < terms.max_pending;
        assert_eq!(queue.put(key, kind, value, now).is_ok(), fits);
        if !fits {
            return;
        }
        let flies = self.flying.as_ref().is_some_and(|(_, sent)| sent.iter().any(|(sent, ..)| sent == key));
        let sent_now = self.flying.iter().flat_map(|(_, sent)| sent).find(|(sent, ..)| sent == key).map(|sent| sent.2);
        let fresh = Told { kind, value, since: now, order: value, rests_until: 0, failures: 0 };
        match self.pending.get_mut(key) {
            // The first write behind one that is under way begins a wait of its own.
            Some(told) if flies && sent_now == Some(told.value) => {
                *told = Told { failures: told.failures, ..fresh };
            }
            Some(told) => (told.kind, told.value) = (kind, value),
            None => drop(self.pending.insert(key.to_owned(), fresh)),
        }
    }

    fn fresh(&self, kind: Kind) -> impl Iterator<Item = &Told> {
        self.pending.values().filter(move |told| told.kind == kind && told.failures == 0)
    }

    fn is_due(&self, terms: &Terms, told: &Told, now: Millis) -> bool {
        if told.failures > 0 {
            return told.rests_until <= now;
        }
        let many = self.fresh(told.kind).count() >= terms.max_batch || self.pending.len() >= terms.max_pending;
        many || told.order <= self.hurried || told.since + terms.delay <= now
    }

    fn work(&mut self, queue: &mut Queue<u64>, terms: &Terms, now: Millis) {
        let due = self.pending.values().any(|told| self.is_due(terms, told, now));
        match queue.next(now) {
            Next::Idle => assert!(self.pending.is_empty()),
            Next::Flying => assert!(self.flying.is_some()),
            Next::At(moment) => {
                assert!(self.flying.is_none() && moment > now);
                assert!(!due || self.paused_until == moment, "something is due at {now}: {:?}", self.pending);
                let first = |told: &Told| if told.failures > 0 { told.rests_until } else { told.since + terms.delay };
                let first = self.pending.values().map(first).min().unwrap_or(0);
                assert_eq!(moment, if self.paused_until > now { self.paused_until } else { first });
            }
            Next::Batch(sent) => self.sent(queue, terms, &sent, due, now),
        }
    }

    fn sent(&mut self, queue: &Queue<u64>, terms: &Terms, sent: &Batch, due: bool, now: Millis) {
        assert!(due && self.flying.is_none() && self.paused_until <= now);
        assert!((1..=terms.max_batch).contains(&sent.keys.len()));
        let mut told: Vec<(String, Told)> = Vec::new();
        for key in &sent.keys {
            told.push((key.to_string(), self.pending[&**key].clone()));
        }
        assert!(told.iter().all(|(_, told)| told.kind == sent.kind && told.rests_until <= now));
        assert!(
            told.windows(2).all(|pair| pair[0].1.failures == pair[1].1.failures && pair[0].1.order < pair[1].1.order)
        );
        assert!(told.iter().any(|(_, told)| self.is_due(terms, told, now)));
        let values = told.into_iter().map(|(key, told)| (key, told.kind, told.value));
        self.flying = Some((sent.id, values.collect()));
        let read = |(key, kind, value): &(String, Kind, u64)| assert_eq!(queue.get(key), Some((*kind, value)));
        self.flying.iter().flat_map(|(_, sent)| sent).for_each(read);
    }

    fn end(&mut self, queue: &mut Queue<u64>, terms: &Terms, outcome: Outcome, now: Millis) {
        let Some((id, sent)) = self.flying.take() else { return };
        let failed_before = sent.len() == 1 && queue.writes[&*sent[0].0].alone;
        let streak = queue.streak;
        let finished = queue.finish(id, outcome, now);
        match outcome {
            Outcome::Written => self.paused_until = 0,
            Outcome::Failed(Failure::Final, _) => {}
            Outcome::Failed(_, draw) => {
                self.paused_until = terms.pause((streak + u32::from(!failed_before)).max(1), draw, now);
            }
            _ => {}
        }
        let lost: Vec<u64> = finished.lost.iter().map(|left| left.value).collect();
        let (attempts, refused) = (terms.retry.attempts(), matches!(outcome, Outcome::Failed(Failure::Final, _)));
        assert!(finished.lost.iter().all(|left| left.tries == attempts || (refused && lost.len() == 1)));
        assert!(lost.len() <= 1 || attempts == 1, "the last try is made alone");
        assert!(lost.is_empty() || !matches!(outcome, Outcome::Failed(Failure::NotAsked, _)));
        for (key, _, value) in sent {
            if let Outcome::Written = outcome {
                // In order: the source never gets an older value after a newer one.
                assert!(self.source.insert(key.clone(), value).is_none_or(|before| before <= value));
            }
            let told = self.pending.get_mut(&key).unwrap();
            let (is_last, is_lost) = (told.value == value, lost.contains(&value));
            assert!(!is_lost || is_last);
            match outcome {
                Outcome::Written if is_last => drop(self.pending.remove(&key)),
                Outcome::Written => told.failures = 0,
                Outcome::Failed(..) if is_lost => drop(self.pending.remove(&key)),
                Outcome::Failed(_, draw) => {
                    told.failures += 1;
                    told.rests_until = terms.pause(told.failures, draw, now);
                }
                Outcome::Unknown if is_last => self.hurried = self.hurried.max(told.order),
                Outcome::Unknown => {}
            }
        }
        assert_eq!(finished.written.iter().filter(|left| self.pending.contains_key(&*left.key)).count(), 0);
        self.lost.extend(lost);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn nothing_is_lost_reordered_early_late_or_seen_old(terms in any_terms(), steps in steps()) {
        let (mut queue, mut model, mut now) = (Queue::new(terms), Model::default(), 1_000_000);
        let mut last: Map<String, u64> = Map::new();
        for step in steps {
            match step {
                Step::Put(key, delete) => {
                    let kind = if delete { Kind::Delete } else { Kind::Set };
                    model.put(&mut queue, &terms, &key_of(key), kind, now);
                    if let Some(told) = model.pending.get(&key_of(key)) {
                        last.insert(key_of(key), told.value);
                    }
                }
                Step::Wait(by) => now += by,
                Step::Work => model.work(&mut queue, &terms, now),
                Step::End(0 | 1, _) => model.end(&mut queue, &terms, Outcome::Written, now),
                Step::End(2, draw) => model.end(&mut queue, &terms, failed(draw), now),
                Step::End(3, draw) => model.end(&mut queue, &terms, Outcome::Failed(Failure::Final, draw), now),
                Step::End(4, draw) => model.end(&mut queue, &terms, Outcome::Failed(Failure::NotAsked, draw), now),
                Step::End(..) => model.end(&mut queue, &terms, Outcome::Unknown, now),
                Step::Hurry => {
                    queue.hurry();
                    model.hurried = model.accepted;
                    model.paused_until = 0;
                    model.pending.values_mut().for_each(|told| told.rests_until = 0);
                }
            }
            prop_assert_eq!(queue.len(), model.pending.len());
            for (key, told) in &model.pending {
                prop_assert_eq!(queue.get(key), Some((told.kind, &told.value)));
            }
        }
        // The source comes back: all that is not lost arrives, and the last of each key last.
        model.end(&mut queue, &terms, Outcome::Unknown, now);
        let mark = queue.hurry();
        for _ in 0..1_000 {
            match queue.next(now) {
                Next::Batch(sent) => {
                    for key in &sent.keys {
                        let value = *queue.get(key).unwrap().1;
                        model.source.insert(key.to_string(), value);
                    }
                    queue.finish(sent.id, Outcome::Written, now);
                }
                Next::At(moment) => now = moment,
                Next::Flying => prop_assert!(false, "no batch is under way"),
                Next::Idle => break,
            }
        }
        prop_assert!(queue.is_empty() && queue.is_settled(mark));
        for (key, value) in last {
            prop_assert!(model.lost.contains(&value) || model.source.get(&key) == Some(&value));
        }
    }
}
