//! The one rule of every figure: `get`, and on a miss `insert`.

use crate::trace::Request;

/// A cache under test, on keys that are numbers and values that are nothing but a size.
pub trait Candidate {
    /// Asks for a key; true is a hit. Counts as a use.
    fn get(&mut self, key: u32) -> bool;

    /// Stores a key after a miss.
    fn insert(&mut self, key: u32, size: u32);
}

/// How much a candidate may hold. Exact: no shards, no slack.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Entries, or bytes where sizes count.
    pub capacity: u64,
    /// Whether sizes count.
    pub sized: bool,
    /// How many entries of the trace's mean size that is, for those who want to know.
    pub entries: usize,
}

/// What came of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Requests that hit.
    pub hits: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Score {
    /// Counts a hit.
    pub fn hit(&mut self, request: Request) {
        self.hits += 1;
        self.bytes += u64::from(request.size);
    }

    /// Hits in percent of the requests.
    pub fn percent(self, trace: &[Request]) -> f64 {
        100.0 * self.hits as f64 / trace.len() as f64
    }
}

/// Replays a trace from an empty cache.
pub fn replay(trace: &[Request], candidate: &mut dyn Candidate) -> Score {
    let mut score = Score::default();
    for request in trace {
        if candidate.get(request.key) {
            score.hit(*request);
        } else {
            candidate.insert(request.key, request.size);
        }
    }
    score
}
