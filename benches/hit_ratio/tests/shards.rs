//! What does it cost a cache of ten thousand entries in hits to be split into eight? `--nocapture` prints it by trace.
//!
//! Reads the traces that are here; `SAMOVAR_TRACES=dir` names a folder with more. Smaller shards than these are never
//! made (docs/decisions.md).

mod traces;

use hit_ratio::trace::{self, Request};
use samovar::{Cache, Eviction, Memory, Policy};
use std::collections::HashSet;

const ENTRIES: usize = 10_000;
const SHARDS: usize = 8;
/// Runs of each, for hashes are seeded.
const RUNS: u32 = if cfg!(debug_assertions) { 2 } else { 8 };
/// Points in a hundred.
const LOSS: f64 = 0.3;
const TRACES: [&str; 8] = [
    "cdn-adaptsize",
    "cloudphysics-w106",
    "corda-vault",
    "oltp",
    "orm-busy",
    "phase-corda-loop",
    "scarab-recs",
    "web12",
];

/// Hit ratio in percent.
fn replay(trace: &[Request], eviction: Eviction, shards: usize) -> f64 {
    let memory = Memory::entries(ENTRIES).eviction(eviction);
    let cache: Cache<u32, ()> = Cache::builder().memory(memory).shards(shards).build();
    assert_eq!(cache.shards(), shards);
    for request in trace {
        if cache.get(&request.key).is_none() {
            cache.insert(request.key, (), Policy::default());
        }
    }
    100.0 * cache.stats().hit_ratio()
}

fn mean(trace: &[Request], eviction: Eviction, shards: usize) -> f64 {
    (0..RUNS).map(|_| replay(trace, eviction, shards)).sum::<f64>() / f64::from(RUNS)
}

#[test]
fn eight_shards_of_ten_thousand_entries_hit_as_much_as_one() {
    let orders = [Eviction::Adaptive, Eviction::Lru, Eviction::S3Fifo, Eviction::TinyLfu];
    let mut losses = [const { Vec::new() }; 4];
    for name in TRACES {
        let Some(path) = traces::find(name) else { continue };
        let requests = trace::read(&path).expect("a readable trace");
        let keys: HashSet<u32> = requests.iter().map(|request| request.key).collect();
        assert!(keys.len() > ENTRIES, "{name} has but {} keys", keys.len());
        if cfg!(debug_assertions) && requests.len() > traces::FEW_REQUESTS {
            continue;
        }
        for (eviction, losses) in orders.into_iter().zip(&mut losses) {
            let (whole, split) = (mean(&requests, eviction, 1), mean(&requests, eviction, SHARDS));
            println!("{name:20} {:10} {whole:6.2} % {:+.2}", eviction.name(), split - whole);
            losses.push(whole - split);
        }
    }
    for (eviction, losses) in orders.into_iter().zip(losses) {
        assert!(losses.len() >= 3, "only {} traces are here", losses.len());
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        println!("{:20} {:10} {:8} {:+.2}", "mean", eviction.name(), "", -mean);
        assert!(mean <= LOSS, "{eviction}: {mean:.2} points lost");
        if [Eviction::Lru, Eviction::S3Fifo].contains(&eviction) {
            // The others throw dice, or decide anew in each run.
            assert!(losses.iter().all(|&loss| loss <= LOSS), "{eviction}: {losses:.2?} points lost");
        }
    }
}
