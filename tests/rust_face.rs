//! What a Rust user is promised about entries: what is kept, how long, and what is counted. No loads here.
#![cfg(feature = "tokio")]

use samovar::{Cache, Clock, Eviction, Memory, Policy, minutes};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const TTL: Duration = minutes(5);

fn frozen() -> Clock {
    let clock = Clock::system();
    clock.freeze();
    clock
}

fn cache(clock: &Clock) -> Cache<String, u64> {
    Cache::builder().name("app").max_entries(100).clock(clock.clone()).build()
}

#[test]
fn what_is_inserted_is_found_by_any_borrowed_form_of_its_key() {
    let cache = cache(&frozen());
    cache.insert("a".into(), 1, Policy::forever());
    assert_eq!((cache.get("a"), cache.get(&"a".to_string()), cache.get("b")), (Some(1), Some(1), None));
    assert!(cache.contains("a") && !cache.contains("b"));
    assert_eq!((cache.len(), cache.is_empty(), cache.name()), (1, false, "app"));
    cache.validate().unwrap();
}

#[test]
fn a_clone_is_the_same_cache() {
    let cache = cache(&frozen());
    cache.clone().insert("a".into(), 1, Policy::forever());
    assert_eq!(cache.get("a"), Some(1));
    assert_eq!(format!("{cache:?}"), r#"Cache { name: "app", .. }"#);
}

#[test]
fn a_value_is_served_until_its_ttl_is_over_and_not_a_millisecond_longer() {
    let clock = frozen();
    let cache = cache(&clock);
    cache.insert("a".into(), 1, Policy::ttl(TTL));
    cache.insert("b".into(), 2, Policy::forever());
    clock.advance(TTL - Duration::from_millis(1));
    assert_eq!(cache.get("a"), Some(1));
    clock.advance(Duration::from_millis(1));
    assert_eq!((cache.get("a"), cache.contains("a"), cache.get("b")), (None, false, Some(2)));
}

#[test]
fn a_later_insert_replaces_value_and_ttl() {
    let clock = frozen();
    let cache = cache(&clock);
    cache.insert("a".into(), 1, Policy::ttl(TTL));
    clock.advance(TTL / 2);
    cache.insert("a".into(), 2, Policy::ttl(TTL));
    clock.advance(TTL / 2);
    assert_eq!((cache.get("a"), cache.len()), (Some(2), 1));
    cache.insert("a".into(), 3, Policy::forever());
    clock.advance(TTL * 1000);
    assert_eq!(cache.get("a"), Some(3));
    cache.validate().unwrap();
}

#[test]
fn a_ttl_of_zero_is_not_stored_and_removes_what_was_there() {
    let cache = cache(&frozen());
    let never = Policy::ttl(Duration::ZERO);
    cache.insert("a".into(), 1, never);
    assert_eq!((cache.get("a"), cache.len()), (None, 0));
    cache.insert("a".into(), 1, Policy::forever());
    cache.insert("a".into(), 2, never);
    assert_eq!((cache.get("a"), cache.len()), (None, 0));
    cache.validate().unwrap();
}

#[test]
fn add_stores_only_where_nothing_could_be_served() {
    let clock = frozen();
    let cache = cache(&clock);
    assert!(cache.add("a".into(), 1, Policy::ttl(TTL)));
    assert!(!cache.add("a".into(), 2, Policy::ttl(TTL)));
    assert_eq!(cache.get("a"), Some(1));
    clock.advance(TTL);
    assert!(cache.add("a".into(), 3, Policy::ttl(TTL)));
    assert_eq!(cache.get("a"), Some(3));
}

#[test]
fn replace_stores_only_where_something_could_be_served() {
    let clock = frozen();
    let cache = cache(&clock);
    assert!(!cache.replace("a".into(), 1, Policy::ttl(TTL)));
    cache.insert("a".into(), 1, Policy::ttl(TTL));
    assert!(cache.replace("a".into(), 2, Policy::ttl(TTL)));
    assert_eq!(cache.get("a"), Some(2));
    assert!(cache.replace("a".into(), 3, Policy::ttl(Duration::ZERO)), "what must not be stored removes what is there");
    assert_eq!((cache.get("a"), cache.len()), (None, 0));
    cache.insert("a".into(), 1, Policy { stale_if_error: TTL, ..Policy::ttl(TTL) });
    clock.advance(TTL);
    assert!(!cache.replace("a".into(), 2, Policy::ttl(TTL)), "it is stale");
    cache.validate().unwrap();
}

#[test]
fn adding_nothing_does_nothing() {
    let cache = cache(&frozen());
    assert!(!cache.add("a".into(), 1, Policy::ttl(Duration::ZERO)));
    cache.insert("a".into(), 1, Policy::ttl(TTL));
    assert!(!cache.add("a".into(), 2, Policy::ttl(Duration::ZERO)));
    assert_eq!(cache.get("a"), Some(1));
}

#[test]
fn what_is_noted_missing_is_an_entry_without_a_value() {
    let clock = frozen();
    let cache = cache(&clock);
    cache.insert("a".into(), 1, Policy::forever());
    cache.set_missing("a".into(), TTL);
    assert_eq!((cache.get("a"), cache.contains("a"), cache.len()), (None, false, 1));
    assert_eq!((cache.stats().negative_hits, cache.stats().misses), (1, 0));
    assert!(!cache.remove("a"), "there was no value");
    cache.insert("a".into(), 2, Policy::forever());
    cache.set_missing("a".into(), Duration::ZERO);
    assert_eq!(cache.len(), 0);
    cache.validate().unwrap();
}

#[test]
fn remove_tells_whether_there_was_a_value() {
    let clock = frozen();
    let cache = cache(&clock);
    cache.insert("a".into(), 1, Policy::ttl(TTL));
    cache.insert("b".into(), 2, Policy::ttl(TTL));
    assert!(cache.remove("a") && !cache.remove("a"));
    clock.advance(TTL);
    assert!(!cache.remove("b"), "its time was over");
    cache.invalidate("b");
    assert_eq!(cache.stats().invalidations, 4);
    cache.validate().unwrap();
}

#[test]
fn clear_forgets_everything_but_the_counters() {
    let cache = cache(&frozen());
    for key in 0..100 {
        cache.insert(key.to_string(), key, Policy::forever());
    }
    cache.get("7");
    cache.clear();
    assert_eq!((cache.len(), cache.get("7"), cache.stats().hits), (0, None, 1));
    cache.insert("7".into(), 8, Policy::forever());
    assert_eq!((cache.len(), cache.get("7")), (1, Some(8)));
    cache.validate().unwrap();
}

#[test]
fn the_least_recently_used_entry_makes_room() {
    let cache: Cache<u64, u64> = Cache::builder().memory(Memory::entries(3).eviction(Eviction::Lru)).build();
    for key in 1..=3 {
        cache.insert(key, key, Policy::forever());
    }
    cache.get(&1);
    assert!(cache.contains(&2), "looking whether it is there is no use");
    cache.insert(4, 4, Policy::forever());
    let held: Vec<u64> = (1..=4).filter(|key| cache.contains(key)).collect();
    assert_eq!((held, cache.stats().evictions), (vec![1, 3, 4], 1));
}

#[test]
fn a_cache_of_no_entries_keeps_nothing() {
    let cache: Cache<u64, u64> = Cache::builder().max_entries(0).build();
    cache.insert(1, 1, Policy::forever());
    assert!(!cache.contains(&1) && cache.is_empty());
    cache.validate().unwrap();
}

#[test]
fn every_counter_of_a_scripted_trace_is_exact() {
    let clock = frozen();
    let memory = Memory::entries(2).eviction(Eviction::Lru);
    let cache: Cache<u64, u64> = Cache::builder().memory(memory).clock(clock.clone()).build();
    cache.get(&1); // miss
    cache.insert(1, 1, Policy::ttl(TTL));
    cache.get(&1); // hit
    cache.insert(2, 2, Policy::forever());
    cache.insert(3, 3, Policy::forever()); // evicts 1
    cache.get(&1); // miss
    cache.remove(&2); // invalidation
    cache.insert(4, 4, Policy::ttl(TTL));
    clock.advance(TTL);
    cache.get(&4); // miss: expired, still held
    clock.advance(TTL);
    cache.insert(5, 5, Policy::forever()); // an insert frees what has expired before it evicts
    cache.get(&3); // hit
    let stats = cache.stats();
    let expected = samovar::Stats {
        hits: 2,
        misses: 3,
        evictions: 1,
        expired: 1,
        invalidations: 1,
        entries: 2,
        ..Default::default()
    };
    assert_eq!(stats, expected);
    assert_eq!(stats.hit_ratio(), 0.4);
}

/// A value whose clone and drop ask the cache it is in.
struct Meddling(Cache<u64, Meddling>);

impl Clone for Meddling {
    fn clone(&self) -> Self {
        self.0.len();
        Meddling(self.0.clone())
    }
}

impl Drop for Meddling {
    fn drop(&mut self) {
        self.0.contains(&1);
    }
}

#[test]
fn a_value_may_use_the_cache_when_it_is_cloned_replaced_removed_or_evicted() {
    let cache: Cache<u64, Meddling> = Cache::builder().max_entries(2).build();
    for key in [1, 1, 2, 3, 4] {
        cache.insert(key, Meddling(cache.clone()), Policy::forever());
        cache.get(&key);
    }
    assert!(!cache.add(4, Meddling(cache.clone()), Policy::forever()));
    cache.remove(&4);
    assert_eq!(cache.len(), 1);
    cache.remove(&3);
}

/// A key whose `Eq` panics when either side is in the mood.
#[derive(Clone)]
struct Moody {
    id: u64,
    panics: bool,
}

impl PartialEq for Moody {
    fn eq(&self, other: &Self) -> bool {
        if self.panics || other.panics {
            std::panic::resume_unwind(Box::new("moody"));
        }
        self.id == other.id
    }
}

impl Eq for Moody {}

impl Hash for Moody {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

#[test]
fn a_key_that_panics_when_compared_leaves_the_cache_whole() {
    let cache: Cache<Moody, u64> = Cache::builder().build();
    let calm = Moody { id: 1, panics: false };
    cache.insert(calm.clone(), 1, Policy::forever());
    type Attempt = fn(&Cache<Moody, u64>, Moody);
    let attempts: [Attempt; 3] = [
        |cache, key| cache.insert(key, 2, Policy::forever()),
        |cache, key| assert_eq!(cache.get(&key), None),
        |cache, key| cache.invalidate(&key),
    ];
    for attempt in attempts {
        let raised = catch_unwind(AssertUnwindSafe(|| attempt(&cache, Moody { id: 1, panics: true })));
        assert!(raised.is_err(), "it travels to the caller");
    }
    assert_eq!(cache.get(&calm), Some(1));
    cache.validate().unwrap();
}
