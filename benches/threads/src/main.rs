//! What do a get and an insert cost from one thread, and from two at once? Ours with one shard and with several, and the
//! peers; every figure is a ratio to a `Mutex<HashMap>` that one thread uses, in this run.
//!
//! A round runs every cache once, each just after its floor, in short bursts of which the quickest counts: so what else
//! the machine does weighs little. A ratio is the median of five rounds, the lowest and the highest behind it. It is the
//! time of one operation, all threads' counted: two threads that never wait for each other take half of one's. Both ask
//! for the same keys, each in an order of its own. With fewer free processors than threads the figures of two threads say
//! little.

mod caches;
mod rounds;

use rounds::{Floor, Work, ratios};

const SHARDS: usize = 8;
const THREADS: [usize; 2] = [1, 2];

/// How much a cache holds.
#[derive(Clone, Copy)]
struct Size {
    /// The bound.
    entries: u64,
    /// The keys that are asked for: so few that each is held, however a cache splits its bound.
    asked: u64,
}

/// A value that is made from its key.
trait Value: Clone + Send + Sync + 'static {
    const NAME: &'static str;
    fn of(key: u64) -> Self;
}

impl Value for u64 {
    const NAME: &'static str = "u64";
    fn of(key: u64) -> Self {
        key
    }
}

impl Value for [u64; 16] {
    const NAME: &'static str = "[u64; 16]";
    fn of(key: u64) -> Self {
        [key; 16]
    }
}

fn main() {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{processors} processors; the time of an operation ÷ that of a `Mutex<HashMap>` and one thread");
    table::<u64>(Size { entries: 10_000, asked: 5_000 });
    // More than the second level cache has room for.
    table::<[u64; 16]>(Size { entries: 100_000, asked: 50_000 });
}

fn table<V: Value>(size: Size) {
    println!(
        "\n| {} × {} | get, 1 thread | get, 2 threads | insert, 1 thread | insert, 2 threads |",
        size.entries,
        V::NAME
    );
    println!("|---|---|---|---|---|");
    let (candidates, floor) = (caches::all::<V>(size), Floor::<V>::new(size));
    let mut rows: Vec<String> = candidates.iter().map(|(name, _)| format!("| {name} |")).collect();
    for work in [Work::Get, Work::Insert] {
        for threads in THREADS {
            for (row, ratio) in rows.iter_mut().zip(ratios(&candidates, &floor, work, threads, size)) {
                row.push_str(&format!(" {ratio} |"));
            }
        }
    }
    rows.iter().for_each(|row| println!("{row}"));
}
