//! What the listener of a cache hears of entries that leave: each once, why, and outside of every lock.
#![cfg(feature = "tokio")]

use samovar::{Cache, CacheBuilder, Clock, Eviction, Memory, Policy, Reason, minutes, work};
use std::convert::Infallible;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

type Event = (u64, &'static str, Reason);

/// A cache of so many entries, the least recently used leaving, and what its listener hears.
fn listened(entries: usize) -> (CacheBuilder<u64, &'static str>, Receiver<Event>) {
    let (sender, receiver) = channel();
    let builder = Cache::builder().memory(Memory::entries(entries).eviction(Eviction::Lru));
    // Whoever does not listen to the end does not mind.
    let send = move |key: &u64, value: &&'static str, reason| sender.send((*key, *value, reason)).unwrap_or_default();
    (builder.on_evict(send), receiver)
}

fn heard(events: &Receiver<Event>) -> Vec<Event> {
    events.try_iter().collect()
}

#[test]
fn every_way_out_has_its_reason() {
    let (builder, events) = listened(2);
    let cache = builder.build();
    cache.insert(1, "first", Policy::forever());
    assert_eq!(heard(&events), []);
    cache.insert(1, "second", Policy::forever());
    assert_eq!(heard(&events), [(1, "first", Reason::Replaced)]);
    cache.insert(2, "two", Policy::forever());
    cache.insert(3, "three", Policy::forever());
    assert_eq!(heard(&events), [(1, "second", Reason::Evicted)]);
    cache.remove(&2);
    assert_eq!(heard(&events), [(2, "two", Reason::Removed)]);
    cache.insert(3, "gone at once", Policy::ttl(Duration::ZERO));
    assert_eq!(heard(&events), [(3, "three", Reason::Removed)], "what was not stored did not leave");
    cache.insert(4, "four", Policy::forever());
    assert!(!cache.add(4, "no", Policy::forever()));
    drop(cache);
    assert_eq!(heard(&events), [], "nor does what the cache takes with it");
}

#[test]
fn an_expired_entry_is_told_when_it_is_freed_by_an_insert() {
    let clock = Clock::system();
    clock.freeze();
    let (builder, events) = listened(100);
    let cache = builder.clock(clock.clone()).build();
    cache.insert(1, "one", Policy::ttl(minutes(5)));
    clock.advance(minutes(6));
    assert_eq!((cache.get(&1), heard(&events)), (None, vec![]), "a get frees nothing");
    cache.insert(2, "two", Policy::forever());
    assert_eq!(heard(&events), [(1, "one", Reason::Expired)]);
}

#[test]
fn the_sweeper_tells_what_expired_and_what_was_cleared() {
    let (builder, events) = listened(1_000);
    let cache = builder.build();
    let hear = |count: usize| -> Vec<Event> {
        let next = |_| events.recv_timeout(Duration::from_secs(60)).expect("it should have been told by now");
        let mut heard: Vec<Event> = (0..count).map(next).collect();
        heard.sort_unstable_by_key(|event| event.0);
        heard
    };
    cache.insert(1, "brief", Policy::ttl(Duration::from_millis(1)));
    assert_eq!(hear(1), [(1, "brief", Reason::Expired)]);
    (0..300).for_each(|key| cache.insert(key, "cleared", Policy::forever()));
    cache.clear();
    assert!(
        (0..300).eq(hear(300).into_iter().inspect(|event| assert_eq!(event.2, Reason::Cleared)).map(|event| event.0))
    );
}

#[test]
fn what_a_load_displaces_is_told() {
    let (builder, events) = listened(1);
    let cache = builder.build();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for key in 1..=2 {
        let load = |_| async { Ok::<_, Infallible>("loaded") };
        assert_eq!(runtime.block_on(cache.get_or_load(&key, Policy::forever(), load)).unwrap(), "loaded");
    }
    assert_eq!(heard(&events), [(1, "loaded", Reason::Evicted)]);
}

#[test]
fn a_value_that_was_never_let_in_is_not_told() {
    let (sender, events) = channel();
    let cache = Cache::<u64, u64>::builder()
        .memory(Memory::bytes(1_000))
        .weigher(|bytes| *bytes)
        .on_evict(move |key, _, reason| sender.send((*key, reason)).unwrap())
        .build();
    cache.insert(1, 2_000, Policy::forever());
    assert_eq!((cache.stats().refused, events.try_iter().count()), (1, 0));
    cache.insert(1, 600, Policy::forever());
    cache.insert(1, 700, Policy::forever());
    assert_eq!(events.try_iter().collect::<Vec<_>>(), [(1, Reason::Replaced)]);
}

#[test]
fn what_no_longer_fits_after_a_resize_has_been_told_when_it_returns() {
    let (builder, events) = listened(500);
    let cache = builder.build();
    (0..500).for_each(|key| cache.insert(key, "resized", Policy::forever()));
    cache.resize(Memory::entries(200).eviction(Eviction::Lru));
    let expected: Vec<Event> = (0..300).map(|key| (key, "resized", Reason::Evicted)).collect();
    assert_eq!((heard(&events), cache.len()), (expected, 200));
}

/// Every operation there is, from within the listener, on the shard whose operation told it and on all others.
#[test]
fn a_listener_may_use_the_cache_that_calls_it() {
    let handle: Arc<OnceLock<Cache<u64, u64>>> = Arc::default();
    let (within, calls) = (Arc::clone(&handle), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&calls);
    let builder = Cache::builder().max_entries(4_096).shards(4);
    let built = builder.on_evict(move |key: &u64, value, _| {
        let cache: &Cache<u64, u64> = within.get().unwrap();
        counted.fetch_add(1, SeqCst);
        assert_eq!(key % 1_000_000, *value);
        assert!(cache.get(key).is_none_or(|other| other == *value));
        assert!(cache.len() <= 4_096 && cache.stats().entries <= 4_096);
        cache.validate().unwrap();
        cache.insight();
        if *key < 1_000_000 {
            // Another key, which is not put back when it leaves in its turn.
            cache.insert(key + 1_000_000, *value, Policy::forever());
            cache.remove(&(key + 1));
            if value.is_multiple_of(64) {
                cache.resize(cache.memory());
            }
        }
    });
    let cache = built.build();
    handle.set(cache.clone()).ok().unwrap();
    for key in 0..4_400 {
        cache.insert(key, key, Policy::forever());
    }
    cache.insert(7_000, 7_000, Policy::forever());
    cache.remove(&7_000);
    cache.clear();
    cache.validate().unwrap();
    assert!(calls.load(SeqCst) > 300, "{calls:?}");
}

#[test]
fn a_long_chain_of_calls_takes_no_stack() {
    const LENGTH: u64 = 100_000;
    let handle: Arc<OnceLock<Cache<u64, u64>>> = Arc::default();
    let (within, depth, heard) = (Arc::clone(&handle), AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&heard);
    let memory = Memory::entries(2_048).eviction(Eviction::Fifo);
    let cache = Cache::<u64, u64>::builder().memory(memory).shards(2).on_evict(move |_, _, _| {
        assert_eq!(depth.fetch_add(1, SeqCst), 0, "a call within a call");
        let next = counted.fetch_add(1, SeqCst);
        if next < LENGTH {
            // What is evicted now waits for the next call.
            within.get().unwrap().insert(10_000 + next, 0, Policy::forever());
        }
        depth.fetch_sub(1, SeqCst);
    });
    let cache = cache.build();
    handle.set(cache.clone()).ok().unwrap();
    (0..2_500).for_each(|key| cache.insert(key, 0, Policy::forever()));
    assert_eq!(heard.load(SeqCst), cache.stats().evictions);
    assert!(heard.load(SeqCst) > LENGTH, "{heard:?}");
    cache.validate().unwrap();
}

#[test]
fn a_listener_that_panics_stops_neither_the_operation_nor_the_telling() {
    let (sender, events) = channel();
    let cache = Cache::<u64, u64>::builder()
        .memory(Memory::entries(100).eviction(Eviction::Lru))
        .on_evict(move |key, _, reason| {
            sender.send((*key, reason)).unwrap();
            // A panic without the hook's print.
            resume_unwind(Box::new("a listener that panics"));
        })
        .build();
    (0..100).for_each(|key| cache.insert(key, key, Policy::forever()));
    cache.insert(100, 100, Policy::forever());
    assert_eq!(cache.get(&100), Some(100));
    cache.resize(Memory::entries(60).eviction(Eviction::Lru));
    let expected: Vec<_> = (0..41).map(|key| (key, Reason::Evicted)).collect();
    assert_eq!(events.try_iter().collect::<Vec<_>>(), expected);
    assert!(cache.remove(&100));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for key in 200..300 {
        let load = |_| async { Ok::<_, Infallible>(1) };
        assert_eq!(runtime.block_on(cache.get_or_load(&key, Policy::forever(), load)).unwrap(), 1);
    }
    cache.insert(0, 0, Policy::ttl(Duration::from_millis(1)));
    while events.recv_timeout(Duration::from_secs(60)).expect("the sweeper tells") != (0, Reason::Expired) {}
    cache.clear();
    // The sweeper went on after its first panic.
    while events.recv_timeout(Duration::from_secs(60)).expect("the sweeper tells again").1 != Reason::Cleared {}
    cache.validate().unwrap();
    assert!(work::is_running());
}
