//! What a cache knows about how it decides, seen as a whole.

use super::shard::REGION;
use super::shared::Shared;
use crate::core::memory::{self, Eviction};

/// Who leaves, and what other rules or sizes would hit: what the small shadows of a cache under
/// [`Eviction::Adaptive`] have found. Given by [`Cache::insight`](super::Cache::insight).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Insight {
    /// The order in force.
    pub eviction: Eviction,
    /// The setting in force; empty for an order that has none.
    pub setting: &'static str,
    /// How often the setting has changed.
    pub switches: u64,
    /// Estimated hit ratio of each setting, 0 to 1; empty until enough requests were seen, and for other orders.
    pub settings: Vec<(&'static str, f64)>,
    /// Estimated hit ratio at multiples of the present capacity, smallest first: points of the miss-ratio curve.
    pub curve: Vec<(f64, f64)>,
}

impl<K, V> Shared<K, V> {
    pub fn insight(&self) -> Insight {
        // The first shard decides for all.
        let (mut stats, (eviction, insight)) = {
            let mut state = self.shards()[0].lock();
            {
                let entries = &state.memory.entries;
                let known = (entries.eviction(REGION), entries.insight(REGION));
                (*state.stats(), known)
            }
        };
        let here = 1.0 - stats.hit_ratio();
        for shard in &self.shards()[1..] {
            stats.add(shard.lock().stats());
        }
        let times = if here > 0.0 { (1.0 - stats.hit_ratio()) / here } else { 1.0 };
        Insight::of(eviction, insight, times)
    }
}

impl Insight {
    /// Of the whole, given what a shard knows, and how many times its share of misses the whole's is.
    ///
    /// A few keys may have most of the hits, and are in this shard or not. Misses are by far more even: what is wrong with
    /// the one that has been counted is wrong with those that are estimated.
    fn of(eviction: Eviction, insight: memory::Insight, times: f64) -> Self {
        let whole = |ratio: f64| (1.0 - (1.0 - ratio) * times).clamp(0.0, 1.0);
        let memory::Insight { setting, switches, settings, curve } = insight;
        Insight {
            eviction,
            setting,
            switches,
            settings: settings.into_iter().map(|(name, ratio)| (name, whole(ratio))).collect(),
            curve: curve.into_iter().map(|(multiple, ratio)| (multiple, whole(ratio))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_of_a_shard_are_those_of_the_whole_by_their_misses() {
        let known = memory::Insight {
            setting: "b",
            switches: 3,
            settings: vec![("a", 0.6), ("b", 0.8)],
            curve: vec![(0.5, 0.2), (1.0, 0.8), (2.0, 1.0)],
        };
        let whole = Insight::of(Eviction::Adaptive, known, 2.0);
        let rounded = |ratio: f64| (ratio * 1e9).round() / 1e9;
        assert_eq!((whole.setting, whole.switches), ("b", 3));
        assert_eq!(whole.settings.iter().map(|(_, ratio)| rounded(*ratio)).collect::<Vec<_>>(), [0.2, 0.6]);
        assert_eq!(whole.curve.iter().map(|(_, ratio)| rounded(*ratio)).collect::<Vec<_>>(), [0.0, 0.6, 1.0]);
    }
}
