//! Two processes over one store, with dice: whoever comes when all is quiet finds nothing older than what was written last.

use super::wire::{Fare, Wire};
use super::{Names, SECOND, process};
use parking_lot::Mutex;
use samovar::{Clock, Policy, Remote};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::task::JoinHandle;

const KEYS: [&str; 2] = ["a", "b"];
const ROUNDS: u64 = 300;
const STEPS: usize = 60;

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % n as u64) as usize
    }
}

/// What loads read, and what is written through as well.
type Origin = Arc<Mutex<[u64; 2]>>;

struct Play {
    dice: Dice,
    clock: Clock,
    wire: Arc<Wire>,
    caches: [Names; 2],
    origin: Origin,
    last: Arc<AtomicU64>,
    running: Vec<JoinHandle<()>>,
}

impl Play {
    fn new(seed: u64) -> Self {
        let clock = Clock::system();
        clock.freeze();
        let wire = Wire::new(clock.clone());
        let caches = [0, 1].map(|_| process(&clock, Remote::over(Arc::clone(&wire))));
        Play {
            dice: Dice(seed),
            clock,
            wire,
            caches,
            origin: Origin::default(),
            last: Arc::default(),
            running: Vec::new(),
        }
    }

    fn policy(&mut self) -> Policy {
        let window = Duration::from_secs(self.dice.below(3) as u64 * 20);
        Policy { stale_while_revalidate: window, ..Policy::ttl(30 * SECOND) }
    }

    /// Gives the source of a key another value, and tells which.
    fn change(&self, key: usize) -> impl FnOnce() -> u64 + Send + 'static {
        let (origin, last) = (Arc::clone(&self.origin), Arc::clone(&self.last));
        move || {
            let value = last.fetch_add(1, SeqCst) + 1;
            origin.lock()[key] = value;
            value
        }
    }

    async fn step(&mut self) {
        let (cache, key) = (self.caches[self.dice.below(2)].clone(), self.dice.below(2));
        let policy = self.policy();
        match self.dice.below(12) {
            0..4 => {
                let (origin, pauses, dies) = (Arc::clone(&self.origin), self.dice.below(4), self.dice.below(8) == 0);
                let load = move |_| async move {
                    let value = origin.lock()[key];
                    for _ in 0..pauses {
                        tokio::task::yield_now().await;
                    }
                    if dies { Err("down") } else { Ok(value) }
                };
                self.running.push(tokio::spawn(async move {
                    let _ = cache.get_or_load(KEYS[key], policy, load).await;
                }));
            }
            4 => self.running.push(tokio::spawn(async move {
                let _ = cache.fetch(KEYS[key]).await;
            })),
            5 => {
                let origin = Arc::clone(&self.origin);
                let load = move |_| async move { Ok::<_, Infallible>(origin.lock()[key]) };
                self.running.push(tokio::spawn(async move {
                    let _ = cache.refresh(KEYS[key], policy, load).await;
                }));
            }
            // The source changes at the moment the store is asked, so that both know of writes in one order.
            6 => {
                let change = self.change(key);
                self.running.push(tokio::spawn(async move {
                    change();
                    let _ = cache.delete(KEYS[key]).await;
                }));
            }
            7 => {
                let change = self.change(key);
                self.running.push(tokio::spawn(async move {
                    let value = change();
                    let _ = cache.set(KEYS[key].into(), value, policy).await;
                }));
            }
            8 if self.wire.waiting() > 0 => {
                let at = self.dice.below(self.wire.waiting());
                self.wire.give(at);
            }
            9 => self.wire.fares([Fare::Well, Fare::Well, Fare::Slow, Fare::Mute, Fare::Away][self.dice.below(5)]),
            10 => self.clock.advance(SECOND * self.dice.below(12) as u32),
            11 if self.dice.below(3) == 0 && !self.running.is_empty() => {
                let at = self.dice.below(self.running.len());
                self.running.swap_remove(at).abort();
            }
            _ => {}
        }
        for _ in 0..self.dice.below(6) {
            tokio::task::yield_now().await;
        }
    }

    /// All that is under way ends.
    async fn rest(&mut self) {
        self.wire.fares(Fare::Well);
        loop {
            while self.wire.waiting() > 0 {
                self.wire.give(0);
            }
            if self.running.iter().all(JoinHandle::is_finished) && self.wire.waiting() == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        // What could not be told is told now; then what the writers of this process know of, all of them know of.
        for cache in &self.caches {
            // The sweeper may be about it already, and fail.
            while cache.delete("none").await.is_err() || cache.queued() > 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test]
async fn nothing_old_is_in_the_store_or_comes_out_of_it_when_all_is_quiet() {
    let mut answered = 0;
    for seed in 0..ROUNDS {
        let mut play = Play::new(seed);
        for _ in 0..STEPS {
            play.step().await;
        }
        play.rest().await;
        let newest = *play.origin.lock();
        let other = process(&play.clock, Remote::over(Arc::clone(&play.wire)));
        for (key, newest) in KEYS.into_iter().zip(newest) {
            if let Some(value) = other.fetch(key).await.unwrap() {
                assert_eq!(value, newest, "seed {seed}: the store has an old value of {key}");
                answered += 1;
            }
        }
        // Memory that has outlived a delete elsewhere is over after its ttl and windows; what the store says then holds everywhere.
        play.clock.advance(100 * SECOND);
        for cache in &play.caches {
            for (key, newest) in KEYS.into_iter().zip(newest) {
                let origin = Arc::clone(&play.origin);
                let at = usize::from(key == "b");
                let load = move |_| async move { Ok::<_, Infallible>(origin.lock()[at]) };
                let value = cache.get_or_load(key, Policy::ttl(SECOND), load).await.unwrap();
                assert_eq!(value, newest, "seed {seed}: {key}");
            }
            cache.validate().unwrap();
        }
    }
    assert!(answered > ROUNDS / 4, "{answered} values were there to be old");
}

#[tokio::test]
async fn a_process_never_ends_older_than_the_store_where_it_writes_itself() {
    for seed in 0..ROUNDS {
        let mut play = Play::new(seed);
        // One process alone: memory and store have the same history.
        play.caches[1] = play.caches[0].clone();
        for _ in 0..STEPS {
            play.step().await;
        }
        play.rest().await;
        let newest = *play.origin.lock();
        for (key, newest) in KEYS.into_iter().zip(newest) {
            if let Some(value) = play.caches[0].get(key) {
                assert_eq!(value, newest, "seed {seed}: memory has an old value of {key}");
            }
        }
    }
}
