//! Belady's optimum for entries of one size: what is asked for last, or never again, leaves first.
//!
//! It knows the future and is the ceiling of every other column. With sizes the optimum is not known, so it has none.

use crate::replay::Score;
use crate::trace::Request;
use std::collections::{BinaryHeap, HashMap};

/// The time of a request that never comes.
const NEVER: usize = usize::MAX;

/// Replays with knowledge of the future, for a bound of `capacity` entries.
pub fn replay(trace: &[Request], capacity: usize) -> Score {
    let next_uses = next_uses(trace);
    let mut score = Score::default();
    let mut held: HashMap<u32, usize> = HashMap::new();
    // Who leaves first is on top. A hit leaves its old place behind; such a place is known by its time.
    let mut order: BinaryHeap<(usize, u32)> = BinaryHeap::new();
    for (request, &next) in trace.iter().zip(&next_uses) {
        if held.contains_key(&request.key) {
            score.hit(*request);
        } else if held.len() == capacity {
            while let Some((time, key)) = order.pop() {
                if held.get(&key) == Some(&time) {
                    held.remove(&key);
                    break;
                }
            }
        }
        held.insert(request.key, next);
        order.push((next, request.key));
    }
    score
}

/// For each request, when its key is asked for again.
fn next_uses(trace: &[Request]) -> Vec<usize> {
    let mut seen = HashMap::new();
    let mut found = vec![NEVER; trace.len()];
    for (at, request) in trace.iter().enumerate().rev() {
        if let Some(next) = seen.insert(request.key, at) {
            found[at] = next;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(keys: &[u32], capacity: usize) -> u64 {
        let trace: Vec<_> = keys.iter().map(|&key| Request { key, size: 1 }).collect();
        replay(&trace, capacity).hits
    }

    #[test]
    fn the_textbook_example_has_eleven_hits_with_three_frames() {
        let keys = [7, 0, 1, 2, 0, 3, 0, 4, 2, 3, 0, 3, 2, 1, 2, 0, 1, 7, 0, 1];
        assert_eq!(hits(&keys, 3), 11);
    }

    #[test]
    fn a_loop_one_longer_than_the_cache_still_hits() {
        let keys: Vec<u32> = (0..40).map(|n| n % 4).collect();
        assert_eq!(hits(&keys, 4), 36);
        assert!(hits(&keys, 3) >= 24);
    }
}
