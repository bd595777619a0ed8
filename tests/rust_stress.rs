//! Random operations from many threads and two runtimes, with a promise checked at each: whoever asks after an
//! invalidation has returned never gets a value that was loaded before it.
#![cfg(feature = "tokio")]

use samovar::{Cache, Clock, Error, LoadFailed, Policy};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::task::yield_now;

const KEYS: u64 = 8;
const TASKS: u64 = 24;
const STEPS: u64 = 400;

/// The truth behind the cache: a version for each key, and the version of its last completed invalidation.
#[derive(Default)]
struct Source {
    versions: [AtomicU64; KEYS as usize],
    invalidated: [AtomicU64; KEYS as usize],
}

struct World {
    cache: Cache<u64, u64>,
    clock: Clock,
    source: Source,
}

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

/// A ttl alone, or all that a policy can ask for at once.
fn policy(random: &mut Random) -> Policy {
    let millis = Duration::from_millis;
    match random.below(5) {
        0 => Policy::forever(),
        1 => Policy::ttl(millis(200)),
        2 => Policy::ttl(Duration::ZERO),
        kind => Policy {
            stale_while_revalidate: millis(300),
            stale_if_error: millis(900),
            retry_after: millis(100),
            soft_timeout: Some(millis(50)),
            timeout: (kind == 3).then_some(millis(120)),
            early: 2.0,
            jitter: 0.5,
            min_refresh_interval: millis(50),
            ..Policy::ttl(millis(200))
        },
    }
}

impl World {
    /// Changes the source, then tells the cache; what was changed counts once that has returned.
    fn change(&self, key: u64, tell: impl FnOnce()) {
        let version = self.source.versions[key as usize].fetch_add(1, SeqCst) + 1;
        tell();
        self.source.invalidated[key as usize].fetch_max(version, SeqCst);
    }

    async fn load(self: Arc<Self>, key: u64, luck: u64) -> Result<u64, String> {
        let version = self.source.versions[key as usize].load(SeqCst);
        for _ in 0..luck % 4 {
            yield_now().await;
        }
        match luck {
            0 => Err("bad luck".into()),
            // A panic without the hook's print.
            1 => std::panic::resume_unwind(Box::new("worse luck")),
            _ => Ok(version),
        }
    }

    async fn ask(self: &Arc<Self>, key: u64, random: &mut Random) -> Option<u64> {
        let (world, luck) = (Arc::clone(self), random.below(12));
        let policy = policy(random);
        let load = move |_| world.load(key, luck);
        if random.below(8) == 0 {
            return checked(self.cache.refresh(&key, policy, load).await);
        }
        let asking = self.cache.get_or_load(&key, policy, load);
        if random.below(4) == 0 {
            // A caller who gives up soon.
            tokio::select! {
                biased;
                answer = asking => checked(answer),
                () = yield_now() => None,
            }
        } else {
            checked(asking.await)
        }
    }

    async fn step(self: &Arc<Self>, random: &mut Random) {
        let key = random.below(KEYS);
        let least = self.source.invalidated[key as usize].load(SeqCst);
        let got = match random.below(12) {
            0 => {
                self.change(key, || self.cache.invalidate(&key));
                None
            }
            1 => {
                self.change(key, || self.cache.clear());
                None
            }
            2 => {
                self.clock.advance(Duration::from_millis(50));
                None
            }
            3 => {
                self.cache.validate().unwrap();
                None
            }
            4 | 5 => self.cache.get(&key),
            _ => self.ask(key, random).await,
        };
        if let Some(got) = got {
            assert!(got >= least, "key {key}: version {got} was served after {least} was invalidated");
        }
    }
}

fn checked(answer: Result<u64, LoadFailed<String>>) -> Option<u64> {
    answer
        .inspect_err(|error| match error {
            LoadFailed::Loader(error) => assert_eq!(**error, "bad luck"),
            LoadFailed::NotFound => panic!("nobody said so"),
            LoadFailed::Cache(Error::LoadTimeout { .. }) => {}
            LoadFailed::Cache(error) => assert!(error.to_string().contains("worse luck"), "{error}"),
        })
        .ok()
}

fn run(world: Arc<World>, seed: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_time().build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (world, mut random) = (Arc::clone(&world), Random(seed ^ (task + 1).wrapping_mul(0x9E37_79B9)));
                tokio::spawn(async move {
                    for _ in 0..STEPS {
                        world.step(&mut random).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            let ended = tokio::time::timeout(Duration::from_secs(60), task).await;
            ended.unwrap_or_else(|_| panic!("seed {seed}: a caller was left behind")).unwrap();
        }
    });
}

#[test]
fn nobody_is_left_behind_and_nothing_old_is_served_under_random_operations() {
    // Fewer entries than keys; then several shards, which all of the keys fit into.
    for (seed, entries) in (1..=4).zip([5, 5, 4_096, 4_096]) {
        let clock = Clock::system();
        clock.freeze();
        let cache = Cache::builder().max_entries(entries).shards(4).clock(clock.clone()).build();
        assert_eq!(cache.shards(), if entries == 5 { 1 } else { 4 });
        let world = Arc::new(World { cache, clock, source: Source::default() });
        let runtimes: Vec<_> = (0..2)
            .map(|runtime| {
                let world = Arc::clone(&world);
                std::thread::spawn(move || run(world, seed * 1_000_003 + runtime))
            })
            .collect();
        for runtime in runtimes {
            runtime.join().unwrap();
        }
        world.cache.validate().unwrap();
        let stats = world.cache.stats();
        assert!(stats.coalesced > 0 && stats.hits > 0 && stats.load_errors > 0, "too tame: {stats:?}");
        assert!(stats.stale_hits > 0 && stats.refreshes > 0, "too tame: {stats:?}");
        // No load was left standing: a new runtime gets every key.
        let last = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for key in 0..KEYS {
            let (loading, asked) = (Arc::clone(&world), world.cache.clone());
            let answer = asked.get_or_load(&key, Policy::forever(), move |_| loading.load(key, 2));
            last.block_on(answer).unwrap();
        }
    }
}
