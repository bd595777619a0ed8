//! Rounds of the same work by one thread or several, and what they come to.

use crate::caches::Candidate;
use crate::{Size, Value};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

const ROUNDS: usize = 5;
/// A round takes the quickest of so many bursts of so many operations a thread: short enough to fall between two
/// interruptions, and nothing makes one quicker than it is.
const BURSTS: usize = 10;
const BURST: usize = 10_000;
const OPERATIONS: u64 = (BURSTS * BURST) as u64;

/// What is asked of a cache.
#[derive(Clone, Copy)]
pub enum Work {
    /// Keys that are there.
    Get,
    /// Keys that never were: each insert evicts.
    Insert,
}

/// The simplest cache that threads can share: a map, and a queue of who leaves next, behind one lock.
pub struct Floor<V>(Mutex<(HashMap<u64, V>, VecDeque<u64>)>);

impl<V: Value> Floor<V> {
    pub fn new(size: Size) -> Self {
        let keys = 0..size.entries;
        Floor(Mutex::new((keys.clone().map(|key| (key, V::of(key))).collect(), keys.collect())))
    }
}

impl<V: Value> Candidate for Floor<V> {
    fn get(&self, key: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.get(&key).cloned().map(black_box).is_some()
    }

    fn insert(&self, key: u64) {
        let (map, queue) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(oldest) = queue.pop_front() {
            map.remove(&oldest);
        }
        queue.push_back(key);
        map.insert(key, V::of(key));
    }
}

/// New keys for every round of every candidate.
static NEXT: AtomicU64 = AtomicU64::new(1 << 32);

/// The median of the rounds, the lowest and the highest.
pub struct Ratio([f64; 3]);

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ratio([middle, low, high]) = self;
        write!(f, "**{middle:.2}** ({low:.2}-{high:.2})")
    }
}

/// For each candidate, its cost by so many threads as a multiple of the floor's by one.
pub fn ratios(
    candidates: &[(String, Box<dyn Candidate>)],
    floor: &dyn Candidate,
    work: Work,
    threads: usize,
    size: Size,
) -> Vec<Ratio> {
    let mut rounds = vec![Vec::new(); candidates.len()];
    // The first round fills what is not full and is not counted.
    for round in 0..=ROUNDS {
        for ((_, candidate), rounds) in candidates.iter().zip(&mut rounds) {
            let below = cost(floor, work, 1, size);
            let ratio = cost(&**candidate, work, threads, size) / below;
            rounds.extend((round > 0).then_some(ratio));
        }
    }
    let ratio = |mut rounds: Vec<f64>| {
        rounds.sort_by(f64::total_cmp);
        Ratio([rounds[ROUNDS / 2], rounds[0], rounds[ROUNDS - 1]])
    };
    rounds.into_iter().map(ratio).collect()
}

/// Seconds an operation takes in the quickest burst, all threads' operations counted: two threads that never wait for
/// each other halve it. A burst lasts from the first thread's begin to the last one's end.
fn cost(candidate: &dyn Candidate, work: Work, threads: usize, size: Size) -> f64 {
    let arrived = AtomicUsize::new(0);
    let spans: Vec<Vec<(Instant, Instant)>> = thread::scope(|scope| {
        let worker = |thread: usize| {
            let arrived = &arrived;
            scope.spawn(move || {
                let keys = keys(work, thread as u64, size);
                let bursts = keys.chunks(BURST).enumerate();
                bursts
                    .map(|(number, burst)| {
                        meet(arrived, threads * (number + 1));
                        let began = Instant::now();
                        run(candidate, work, burst);
                        (began, Instant::now())
                    })
                    .collect()
            })
        };
        let workers: Vec<_> = (0..threads).map(worker).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker that works")).collect()
    });
    let lasted = |burst: usize| {
        let (began, ended) = (spans.iter().map(|of| of[burst].0).min(), spans.iter().map(|of| of[burst].1).max());
        (ended.expect("a thread") - began.expect("a thread")).as_secs_f64()
    };
    (0..BURSTS).map(lasted).fold(f64::INFINITY, f64::min) / (BURST * threads) as f64
}

/// Goes on when all have come. Spinning: who is woken up comes when a burst of this length is over.
fn meet(arrived: &AtomicUsize, all: usize) {
    arrived.fetch_add(1, AcqRel);
    while arrived.load(Acquire) < all {
        spin_loop();
    }
}

fn run(candidate: &dyn Candidate, work: Work, keys: &[u64]) {
    match work {
        Work::Get => keys.iter().for_each(|&key| assert!(candidate.get(black_box(key)))),
        Work::Insert => keys.iter().for_each(|&key| candidate.insert(key)),
    }
}

/// What a thread asks for: some keys far more often than others, the first thousandth a tenth of the time.
fn keys(work: Work, thread: u64, size: Size) -> Vec<u64> {
    let mut random = (thread + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut skewed = || {
        random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        let even = (random >> 11) as f64 / (1_u64 << 53) as f64;
        (even.powi(3) * size.asked as f64) as u64
    };
    match work {
        Work::Get => (0..OPERATIONS).map(|_| skewed()).collect(),
        Work::Insert => {
            let first = NEXT.fetch_add(OPERATIONS, Relaxed);
            (first..first + OPERATIONS).collect()
        }
    }
}
