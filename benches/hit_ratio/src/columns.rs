//! The columns of the table that are replayed here, by name.

use crate::replay::{Bound, Score, replay};
use crate::trace::Request;
use crate::{opt, ours, peers};

/// The name of the optimum.
pub const OPT: &str = "OPT";
/// Samovar's policies.
pub const OURS: [&str; 6] = ["lru", "lfu", "fifo", "s3fifo", "tinylfu", "adaptive"];
/// The peers from Rust.
pub const PEERS: [&str; 8] =
    ["moka", "moka strict", "quick_cache", "foyer fifo", "foyer lru", "foyer lfu", "foyer s3fifo", "foyer sieve"];

/// Every column, the optimum first.
pub fn all() -> impl Iterator<Item = &'static str> {
    [OPT].into_iter().chain(OURS).chain(PEERS)
}

/// Whether two runs may differ, because hashes are seeded or admission is thrown for.
pub fn is_random(column: &str) -> bool {
    ![OPT, "lru", "fifo", "foyer fifo", "foyer lru", "foyer sieve"].contains(&column)
}

/// Replays a trace through one column. None where it has nothing to say: the optimum with sizes, a name nobody has.
pub fn run(column: &str, trace: &[Request], bound: Bound) -> Option<Score> {
    if column == OPT {
        return (!bound.sized).then(|| opt::replay(trace, bound.entries));
    }
    let mut candidate = match column {
        "moka" => peers::moka(bound, false),
        "moka strict" => peers::moka(bound, true),
        "quick_cache" => peers::quick_cache(bound),
        "foyer fifo" => peers::foyer_fifo(bound),
        "foyer lru" => peers::foyer_lru(bound),
        "foyer lfu" => peers::foyer_lfu(bound),
        "foyer s3fifo" => peers::foyer_s3fifo(bound),
        "foyer sieve" => peers::foyer_sieve(bound),
        policy => ours::build(policy, bound)?,
    };
    Some(replay(trace, candidate.as_mut()))
}
