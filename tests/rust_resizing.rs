//! Other bounds and another order while a cache works, and what it knows of itself.
#![cfg(feature = "tokio")]

use samovar::{Cache, Eviction, Memory, Policy};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

fn filled(memory: Memory, keys: u64) -> Cache<u64, u64> {
    let cache = Cache::builder().memory(memory).weigher(|value: &u64| 10 + value % 10).build();
    (0..keys).for_each(|key| cache.insert(key, key, Policy::forever()));
    cache
}

fn held(cache: &Cache<u64, u64>, keys: u64) -> Vec<u64> {
    (0..keys).filter(|key| cache.contains(key)).collect()
}

#[test]
fn a_larger_bound_drops_nothing_and_a_smaller_one_what_the_order_gives_up() {
    let cache = filled(Memory::entries(100).eviction(Eviction::Lru), 100);
    cache.resize(Memory::entries(1_000).eviction(Eviction::Lru));
    (100..1_000).for_each(|key| cache.insert(key, key, Policy::forever()));
    assert_eq!(held(&cache, 1_000), (0..1_000).collect::<Vec<u64>>());
    cache.get(&0);
    cache.resize(Memory::entries(10).eviction(Eviction::Lru));
    let mut last = vec![0];
    last.extend(991..1_000);
    assert_eq!((held(&cache, 1_000), cache.stats().evictions), (last, 990));
    cache.validate().unwrap();
}

#[test]
fn another_order_drops_nothing_and_keeps_what_the_old_one_knew() {
    let cache = filled(Memory::entries(500).eviction(Eviction::Lru), 500);
    (0..250).for_each(|key| assert!(cache.get(&key).is_some()));
    for eviction in Eviction::ALL {
        cache.resize(cache.memory().eviction(eviction));
        assert_eq!((cache.len(), cache.insight().eviction), (500, eviction));
        cache.validate().unwrap();
    }
    let cache = filled(Memory::entries(500).eviction(Eviction::Lru), 500);
    (0..250).for_each(|key| assert!(cache.get(&key).is_some()));
    cache.resize(cache.memory().eviction(Eviction::Fifo));
    (500..750).for_each(|key| cache.insert(key, key, Policy::forever()));
    assert_eq!(held(&cache, 500), (0..250).collect::<Vec<u64>>(), "who was used last came last");
}

#[test]
fn a_bound_in_bytes_weighs_what_was_only_counted_and_back() {
    let cache = filled(Memory::entries(1_000), 1_000);
    let weight = |cache: &Cache<u64, u64>| held(cache, 1_000).iter().map(|key| 10 + key % 10).sum::<u64>();
    assert_eq!(cache.stats().bytes, 0, "nothing weighs");
    cache.resize(Memory::bytes(1 << 20));
    assert_eq!((cache.len(), cache.stats().bytes), (1_000, weight(&cache)));
    cache.resize(Memory::bytes(2_000));
    assert_eq!(cache.stats().bytes, weight(&cache));
    assert!((1_900..=2_000).contains(&weight(&cache)), "{}", weight(&cache));
    let left = cache.len();
    cache.resize(Memory::entries(1_000));
    assert_eq!((cache.len(), cache.stats().bytes), (left, 0));
    (0..3_000).for_each(|key| cache.insert(key, key, Policy::forever()));
    assert_eq!(cache.len(), 1_000, "each counts as one again");
    cache.validate().unwrap();
}

#[test]
fn a_weigher_is_asked_once_for_each_value_and_only_where_bytes_bind() {
    let asked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&asked);
    let weigher = move |_: &u64| 1 + counted.fetch_add(1, SeqCst) % 2;
    let cache = Cache::<u64, u64>::builder().max_entries(100).weigher(weigher).build();
    (0..100).for_each(|key| cache.insert(key, key, Policy::forever()));
    assert_eq!(asked.load(SeqCst), 0);
    cache.resize(Memory::bytes(1_000));
    assert_eq!(asked.load(SeqCst), 100);
    cache.resize(Memory::bytes(500).eviction(Eviction::Lru));
    assert_eq!(asked.load(SeqCst), 100, "what is weighed stays so");
    cache.insert(100, 100, Policy::forever());
    assert_eq!(asked.load(SeqCst), 101);
}

#[test]
fn a_bound_of_nothing_empties_the_cache_and_a_larger_one_fills_it_again() {
    let cache = filled(Memory::entries(300), 300);
    cache.resize(Memory::entries(0));
    assert!(cache.is_empty());
    cache.insert(1, 1, Policy::forever());
    assert_eq!((cache.get(&1), cache.stats().refused), (None, 1));
    cache.resize(Memory::entries(1));
    cache.insert(1, 1, Policy::forever());
    assert_eq!(cache.get(&1), Some(1));
    cache.validate().unwrap();
}

#[test]
fn an_order_without_settings_has_little_to_tell() {
    let insight = filled(Memory::entries(100).eviction(Eviction::Lru), 100).insight();
    assert_eq!((insight.eviction, insight.setting, insight.switches), (Eviction::Lru, "", 0));
    assert!(insight.settings.is_empty() && insight.curve.is_empty());
}

/// Hit ratio of a second pass over requests for keys of which few are asked for often, every fourth for one and the same.
fn replayed(cache: &Cache<u64, u64>) -> f64 {
    const REQUESTS: u64 = 80_000;
    let before = [0, 1].map(|_| {
        let (before, mut random) = (cache.stats().hits, 7_u64);
        for request in 0..REQUESTS {
            random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            let even = (random >> 11) as f64 / (1_u64 << 53) as f64;
            let key = if request % 4 == 0 { u64::MAX } else { (even.powi(3) * 30_000.0) as u64 };
            if cache.get(&key).is_none() {
                cache.insert(key, key, Policy::forever());
            }
        }
        before
    });
    (cache.stats().hits - before[1]) as f64 / REQUESTS as f64
}

#[test]
fn a_cache_of_shards_knows_what_the_whole_of_it_hits_wherever_the_hottest_key_lives() {
    for _ in 0..4 {
        // One in four has the hottest key in the shard that decides. Of that shard's own requests 78 % hit, elsewhere 49 %.
        let cache = Cache::<u64, u64>::builder().max_entries(4_096).shards(4).build();
        let measured = replayed(&cache);
        let insight = cache.insight();
        assert_eq!((cache.shards(), insight.settings.len()), (4, 5), "{insight:?}");
        let [half, present, double] = insight.curve[..] else { panic!("{insight:?}") };
        assert_eq!([half.0, present.0, double.0], [0.5, 1.0, 2.0]);
        assert!(half.1 < present.1 && present.1 < double.1, "{insight:?}");
        assert!((present.1 - measured).abs() < 0.05, "{insight:?}, measured {measured:.3}");
    }
}
