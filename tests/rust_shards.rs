//! A cache of several shards is one cache: one bound, one set of counters, one answer to each question, from any thread.
#![cfg(feature = "tokio")]

use proptest::prelude::*;
use samovar::{Cache, Clock, Eviction, LoadFailed, Memory, Policy, Reason};
use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const THREADS: u64 = 4;
const STEPS: u64 = 20_000;
/// More keys than any of the caches here holds.
const KEYS: u64 = 6_000;

/// xorshift64*: the seed is printed by the assertion that fails.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// A value that knows its key, and is heavier or lighter by its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Value {
    key: u64,
    version: u64,
}

impl Value {
    /// 1 to 8 KiB, so that what one operation may evict is enough for any of them.
    fn weight(&self) -> u64 {
        (1 + self.version % 8) * KIB
    }
}

#[test]
fn shards_are_as_many_as_was_asked_for_and_the_bound_allows() {
    let shards = |entries, shards| Cache::<u64, u64>::builder().max_entries(entries).shards(shards).build().shards();
    assert_eq!([shards(100_000, 5), shards(100_000, 8), shards(3_000, 8), shards(100, 8)], [8, 8, 2, 1]);
    assert_eq!(Cache::<u64, u64>::builder().build().shards(), 1, "one unless asked");
}

#[test]
fn questions_about_the_whole_count_every_shard_once() {
    let memory = Memory::entries(16_384).eviction(Eviction::Lru);
    let cache: Cache<u64, u64> = Cache::builder().memory(memory).shards(8).build();
    (0..1_000).for_each(|key| cache.insert(key, key, Policy::forever()));
    assert!((0..1_000).all(|key| cache.get(&key) == Some(key)));
    assert!((1_000..1_500).all(|key| cache.get(&key).is_none()));
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.entries, cache.len()), (1_000, 500, 1_000, 1_000));
    cache.clear();
    assert_eq!((cache.len(), cache.stats().invalidations, cache.stats().hits), (0, 1, 1_000));
    assert!((0..1_000).all(|key| !cache.contains(&key)));
    cache.validate().unwrap();
}

#[test]
fn more_keys_than_the_bound_fill_it_to_the_last_entry_and_never_more() {
    for (entries, shards) in [(10_007, 8), (4_096, 4), (5_000, 1)] {
        let cache: Cache<u64, u64> = Cache::builder().max_entries(entries).shards(shards).build();
        for key in 0..4 * entries as u64 {
            cache.insert(key, key, Policy::forever());
        }
        assert_eq!((cache.len(), cache.shards()), (entries, shards));
        cache.validate().unwrap();
    }
}

#[test]
fn an_entry_heavier_than_a_shards_share_is_refused_and_counted() {
    let builder = || Cache::<u64, u64>::builder().memory(Memory::bytes(8 << 20)).weigher(|bytes| *bytes);
    let (split, whole) = (builder().shards(8).build(), builder().build());
    for cache in [&split, &whole] {
        cache.insert(1, 3 << 20, Policy::forever());
    }
    assert_eq!((split.len(), split.stats().refused), (0, 1));
    assert_eq!((whole.len(), whole.stats().refused), (1, 0));
}

/// What threads that share a cache know of each key.
struct World {
    cache: Cache<u64, Value>,
    /// The version last given to each key, by the one thread that writes it.
    newest: Vec<AtomicU64>,
    /// No version below may be seen any more: it was replaced or removed, and that has returned.
    least: Vec<AtomicU64>,
    stored: AtomicU64,
    gets: AtomicU64,
    bound: (u64, u64),
}

impl World {
    fn new(memory: Memory, bound: (u64, u64), told: &Arc<Mutex<Vec<(Value, Reason)>>>) -> Self {
        let told = Arc::clone(told);
        let cache = Cache::<u64, Value>::builder()
            .memory(memory)
            .shards(4)
            .weigher(Value::weight)
            .on_evict(move |key, value, reason| {
                assert_eq!(*key, value.key);
                told.lock().unwrap().push((*value, reason));
            })
            .build();
        assert_eq!(cache.shards(), 4);
        let numbers = || (0..KEYS).map(|_| AtomicU64::new(0)).collect();
        let (stored, gets) = (AtomicU64::new(0), AtomicU64::new(0));
        World { cache, newest: numbers(), least: numbers(), stored, gets, bound }
    }

    /// Asks for anybody's key.
    fn read(&self, key: u64) {
        let least = self.least[key as usize].load(SeqCst);
        self.gets.fetch_add(1, SeqCst);
        if let Some(got) = self.cache.get(&key) {
            let newest = self.newest[key as usize].load(SeqCst);
            assert_eq!(got.key, key);
            assert!((least..=newest).contains(&got.version), "key {key}: {least} <= {} <= {newest}", got.version);
        }
    }

    /// Writes a key of one's own, and sees it until it is evicted.
    fn write(&self, key: u64) {
        let at = key as usize;
        let version = self.newest[at].fetch_add(1, SeqCst) + 1;
        self.cache.insert(key, Value { key, version }, Policy::forever());
        self.stored.fetch_add(1, SeqCst);
        self.least[at].store(version, SeqCst);
        self.gets.fetch_add(1, SeqCst);
        if let Some(got) = self.cache.get(&key) {
            assert_eq!(got.version, version, "nobody else writes key {key}");
        }
    }

    fn remove(&self, key: u64) {
        self.cache.remove(&key);
        // Any later version is greater.
        self.least[key as usize].fetch_max(self.newest[key as usize].load(SeqCst) + 1, SeqCst);
        self.gets.fetch_add(1, SeqCst);
        assert_eq!(self.cache.get(&key), None, "key {key} was removed, and nobody else writes it");
    }

    fn keeps_its_bound(&self) {
        let (stats, (entries, bytes)) = (self.cache.stats(), self.bound);
        assert!(stats.entries <= entries && stats.bytes <= bytes, "{stats:?}, bound {:?}", self.bound);
    }

    fn run(&self, thread: u64, seed: u64) {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9) ^ (thread + 1) << 40);
        for step in 0..STEPS {
            let (any, mine) = (random.below(KEYS), random.below(KEYS / THREADS) * THREADS + thread);
            match random.below(16) {
                0 => self.remove(mine),
                1..=7 => self.write(mine),
                _ => self.read(any),
            }
            if step % 500 == 0 {
                self.keeps_its_bound();
                self.cache.validate().unwrap();
            }
        }
    }
}

#[test]
fn random_operations_of_four_threads_keep_every_promise_about_a_key_and_the_bound() {
    let bounds = [
        (Memory::entries(4_096), (4_096, 0)),
        (Memory::entries(4_100).eviction(Eviction::Lru), (4_100, 0)),
        (Memory::bytes(8 << 20), (u64::MAX, 8 << 20)),
        (Memory::bytes(5 << 20).eviction(Eviction::S3Fifo), (u64::MAX, 5 << 20)),
    ];
    for (seed, (memory, bound)) in (1..).zip(bounds) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let world = World::new(memory, bound, &told);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let world = &world;
                scope.spawn(move || world.run(thread, seed));
            }
        });
        let World { cache, stored, gets, .. } = &world;
        cache.validate().unwrap();
        let stats = cache.stats();
        assert_eq!(stats.hits + stats.misses, gets.load(SeqCst), "every get is a hit or a miss of one shard");
        assert!(stats.hits > 0 && stats.evictions > 0, "too tame: {stats:?}");
        // Who was stored is there, or was told once that it left, or was never let in.
        let told = told.lock().unwrap();
        let once: HashSet<Value> = told.iter().map(|(value, _)| *value).collect();
        assert_eq!(once.len(), told.len(), "somebody left twice");
        assert_eq!(told.len() as u64 + stats.entries + stats.refused, stored.load(SeqCst));
        let evicted = told.iter().filter(|(_, reason)| *reason == Reason::Evicted).count();
        assert_eq!(evicted as u64, stats.evictions);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert { key: u64, version: u64, ttl: Option<u64> },
    Remove(u64),
    Get(u64),
    Pass(u64),
    Clear,
    Resize(Memory),
}

fn memories() -> impl Strategy<Value = Memory> {
    let bounds =
        prop_oneof![(1_usize..3_000).prop_map(Memory::entries), ((64 * KIB)..(16 << 20)).prop_map(Memory::bytes),];
    (bounds, prop::sample::select(&Eviction::ALL[..])).prop_map(|(memory, eviction)| memory.eviction(eviction))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let insert = (0..800_u64, 0..8_u64, prop::option::of(1..2_000_u64));
    let step = prop_oneof![
        40 => insert.prop_map(|(key, version, ttl)| Step::Insert { key, version, ttl }),
        4 => (0..800_u64).prop_map(Step::Remove),
        20 => (0..800_u64).prop_map(Step::Get),
        3 => (0..1_500_u64).prop_map(Step::Pass),
        1 => Just(Step::Clear),
        3 => memories().prop_map(Step::Resize),
    ];
    prop::collection::vec(step, 1..600)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_bound_holds_with_weights_lives_and_resizes(memory in memories(), steps in steps()) {
        let clock = Clock::system();
        clock.freeze();
        let builder = Cache::builder().memory(memory).shards(4).clock(clock.clone());
        let cache: Cache<u64, Value> = builder.weigher(Value::weight).build();
        for step in steps {
            match step {
                Step::Insert { key, version, ttl } => {
                    let policy = ttl.map_or(Policy::forever(), |ttl| Policy::ttl(Duration::from_millis(ttl)));
                    cache.insert(key, Value { key, version }, policy);
                }
                Step::Remove(key) => {
                    cache.remove(&key);
                    prop_assert!(!cache.contains(&key));
                }
                Step::Get(key) => prop_assert!(cache.get(&key).is_none_or(|value| value.key == key)),
                Step::Pass(millis) => clock.advance(Duration::from_millis(millis)),
                Step::Clear => cache.clear(),
                Step::Resize(memory) => {
                    cache.resize(memory);
                    prop_assert_eq!(cache.memory(), memory);
                }
            }
            prop_assert_eq!(cache.validate(), Ok(()));
            let (stats, memory) = (cache.stats(), cache.memory());
            let (entries, bytes) = (memory.max_entries() as u64, memory.max_bytes().unwrap_or(0));
            prop_assert!(stats.entries <= entries && stats.bytes <= bytes, "{stats:?} in {memory:?}");
        }
    }
}

/// Two loads that begin first in their shards have the same number there.
#[test]
fn a_load_that_asks_for_a_key_of_another_shard_is_not_part_of_itself() {
    let cache: Cache<u64, u64> = Cache::builder().max_entries(16_384).shards(16).build();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for key in 0..200 {
        let (outer, inner) = (2 * key, 2 * key + 1);
        let asked = cache.clone();
        let load = move |_| async move {
            let within = asked.get_or_load(&inner, Policy::forever(), |_| async { Ok::<_, Infallible>(7) }).await;
            within.map(|value| value + 1).map_err(|error| error.into_loader().unwrap())
        };
        let answer: Result<u64, LoadFailed<Infallible>> =
            runtime.block_on(cache.get_or_load(&outer, Policy::forever(), load));
        assert_eq!((answer.unwrap(), cache.get(&inner)), (8, Some(7)), "the inner load stores its value too");
    }
    assert_eq!((cache.len(), cache.stats().loads), (400, 400));
    cache.validate().unwrap();
}

/// The first load of each shard has the same number in its shard.
#[test]
fn a_load_waits_for_a_load_of_another_shard_that_somebody_else_began() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for key in 0..20 {
        let cache: Cache<u64, u64> = Cache::builder().max_entries(65_536).shards(64).build();
        let (release, released) = tokio::sync::oneshot::channel::<u64>();
        let (other, within) = (cache.clone(), cache.clone());
        let inner = async move {
            let load = move |_| released;
            other.get_or_load(&key, Policy::forever(), load).await
        };
        let outer = async move {
            let load = move |_| async move {
                let waits = within.get_or_load(&key, Policy::forever(), |_| released_by_nobody()).await;
                Ok::<_, Infallible>(waits.unwrap() + 1)
            };
            cache.get_or_load(&(key + 1_000), Policy::forever(), load).await.map(|value| (value, cache.stats()))
        };
        runtime.block_on(async {
            let inner = tokio::spawn(inner);
            tokio::task::yield_now().await;
            let outer = tokio::spawn(outer);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            release.send(7).unwrap();
            assert_eq!(inner.await.unwrap().unwrap(), 7);
            let (value, stats) = outer.await.unwrap().unwrap();
            assert_eq!((value, stats.loads, stats.coalesced), (8, 2, 1));
        });
    }
}

/// The error type of the load it must join.
async fn released_by_nobody() -> Result<u64, tokio::sync::oneshot::error::RecvError> {
    panic!("somebody else is loading it")
}

#[test]
fn clear_detaches_the_loads_of_every_shard() {
    let cache: Cache<u64, u64> = Cache::builder().max_entries(16_384).shards(16).build();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let (started, go) = (Arc::new(AtomicU64::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
    let loads: Vec<_> = (0..100_u64)
        .map(|key| {
            let (cache, started, go) = (cache.clone(), Arc::clone(&started), Arc::clone(&go));
            let load = move |_| async move {
                started.fetch_add(1, SeqCst);
                go.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(key)
            };
            runtime.spawn(async move { cache.get_or_load(&key, Policy::forever(), load).await })
        })
        .collect();
    while started.load(SeqCst) < 100 {
        thread::yield_now();
    }
    cache.clear();
    go.add_permits(100);
    for (key, load) in (0..).zip(loads) {
        assert_eq!(runtime.block_on(load).unwrap().unwrap(), key, "who waits is answered");
    }
    assert!(cache.is_empty(), "and nothing is stored");
    cache.validate().unwrap();
}

#[test]
fn resizes_while_threads_work_lose_nothing_that_fits() {
    let cache: Cache<u64, Value> = Cache::builder().max_entries(8_192).shards(4).weigher(Value::weight).build();
    let (start, working) = (Barrier::new(3), AtomicBool::new(true));
    let memories = [
        Memory::bytes(64 << 20).eviction(Eviction::Lru),
        Memory::entries(8_000).eviction(Eviction::S3Fifo),
        Memory::bytes(80 << 20),
        Memory::entries(16_384).eviction(Eviction::TinyLfu),
    ];
    thread::scope(|scope| {
        for resizer in 0..2 {
            let (cache, start, working) = (&cache, &start, &working);
            scope.spawn(move || {
                start.wait();
                for memory in memories.iter().cycle().skip(resizer).take_while(|_| working.load(SeqCst)) {
                    cache.resize(*memory);
                }
            });
        }
        start.wait();
        // A thousand keys of 8 KiB at most fit whatever is in force.
        for version in 0..200 {
            for key in 0..1_000 {
                cache.insert(key, Value { key, version }, Policy::forever());
                assert_eq!(cache.get(&key), Some(Value { key, version }));
            }
        }
        working.store(false, SeqCst);
    });
    cache.validate().unwrap();
    assert_eq!((cache.len(), cache.stats().evictions), (1_000, 0));
    cache.resize(Memory::bytes(64 << 20));
    let weight: u64 = (0..1_000).filter_map(|key| cache.get(&key)).map(|value| value.weight()).sum();
    assert_eq!(cache.stats().bytes, weight, "whatever was in force when an entry came, it is weighed now");
}
