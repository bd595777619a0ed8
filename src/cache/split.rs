//! How a cache is split: into how many shards, whose a key is, and each shard's share of the bound. Arithmetic, no locks.

use crate::core::memory::Capacity;

/// The lowest of the hash bits that say whose a key is. A table uses other ones: its buckets and ghosts those below, its
/// directory and the tags of both those from 57 down, as far as its size demands.
const BITS_FROM: u32 = 32;
/// More locks than this help nobody.
const MOST: u64 = 256;
/// A shard's share of the bound is no less than this: smaller ones would miss for being small (docs/decisions.md).
const LEAST_ENTRIES: u64 = 1_024;
const LEAST_WEIGHT: u64 = 1 << 20;

/// How many shards a cache gets whose user asked for so many: a power of two.
pub(super) fn count(asked: usize, bound: Capacity) -> usize {
    let most = MOST.min(u64::from(bound.entries) / LEAST_ENTRIES).min(bound.weight / LEAST_WEIGHT).max(1);
    asked.max(1).checked_next_power_of_two().unwrap_or(usize::MAX).min(1 << most.ilog2())
}

/// Whose a key of this hash is, of so many shards.
#[inline(always)]
pub(super) fn shard_of(hash: u64, shards: usize) -> usize {
    (hash >> BITS_FROM) as usize & (shards - 1)
}

/// Each shard's share: equal ones, and their sum is the bound.
pub(super) fn shares(bound: Capacity, shards: usize) -> impl Iterator<Item = Capacity> {
    (0..shards as u64).map(move |shard| {
        let of = |whole: u64| whole / shards as u64 + u64::from(shard < whole % shards as u64);
        let weight = if bound.weight == u64::MAX { u64::MAX } else { of(bound.weight) };
        Capacity { entries: of(bound.entries.into()) as u32, weight }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_a_power_of_two_and_none_is_too_small() {
        let entries = |asked, entries| count(asked, Capacity::entries(entries));
        assert_eq!([0, 1, 2, 3, 8, 9].map(|asked| entries(asked, u32::MAX)), [1, 1, 2, 4, 8, 16]);
        assert_eq!([entries(usize::MAX, u32::MAX), entries(300, u32::MAX)], [256; 2]);
        assert_eq!([0, 100, 1_024, 2_047, 2_048, 10_000].map(|most| entries(8, most)), [1, 1, 1, 1, 2, 8]);
        let bytes = |asked, weight| count(asked, Capacity { entries: u32::MAX, weight });
        assert_eq!([bytes(8, 1_000), bytes(8, 5 << 20), bytes(8, 1 << 30)], [1, 4, 8]);
    }

    #[test]
    fn the_shares_differ_by_one_at_most_and_their_sum_is_the_bound() {
        for (entries, weight) in [(0, 0), (1, 7), (10_000, 1 << 40), (10_007, u64::MAX - 1)] {
            for shards in [1, 2, 8, 64] {
                let shares: Vec<Capacity> = shares(Capacity { entries, weight }, shards).collect();
                assert_eq!(shares.iter().map(|share| share.entries).sum::<u32>(), entries);
                assert_eq!(shares.iter().map(|share| share.weight).sum::<u64>(), weight);
                assert!(shares.iter().all(|share| share.entries.abs_diff(shares[0].entries) <= 1));
                assert!(shares.iter().all(|share| share.weight.abs_diff(shares[0].weight) <= 1));
            }
        }
        assert!(shares(Capacity::entries(100), 8).all(|share| share.weight == u64::MAX));
    }

    #[test]
    fn every_shard_gets_its_part_of_the_keys() {
        let mut held = [0; 8];
        for key in 0..8_000_u64 {
            held[shard_of(crate::core::memory::mix(key, 5), 8)] += 1;
        }
        assert!(held.iter().all(|&held| (850..1_150).contains(&held)), "{held:?}");
        assert_eq!(shard_of(u64::MAX, 1), 0);
    }
}
