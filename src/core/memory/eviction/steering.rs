//! One decision for several tables that share the keys of a cache by their hash: the first decides, the rest follow.
//!
//! A part of the keys chosen by hash is a fair sample of all of them, and a cache of so many times fewer entries hits as
//! much on it. So what is best for one such table is best for each. The decision is one word; those who follow look at
//! it in the course of an insert, never of a hit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Who decides for a table.
#[derive(Clone, Debug, Default)]
pub enum Steering {
    /// It does, for itself.
    #[default]
    Alone,
    /// It does, for others too.
    Leads(Arc<AtomicU64>),
    /// Another.
    Follows(Arc<AtomicU64>),
}

impl Steering {
    /// For so many tables whose order is of one kind. The first is for the one that leads, and has to be given first.
    pub fn shared(tables: usize) -> impl Iterator<Item = Steering> {
        let word = Arc::new(AtomicU64::new(0));
        (0..tables).map(move |table| match table {
            _ if tables == 1 => Steering::Alone,
            0 => Steering::Leads(Arc::clone(&word)),
            _ => Steering::Follows(Arc::clone(&word)),
        })
    }

    /// Who leads has decided.
    pub(super) fn tell(&self, word: u64) {
        if let Steering::Leads(said) = self {
            said.store(word, Relaxed);
        }
    }

    /// What was decided for one who follows; `None` for everyone else.
    #[inline]
    pub(super) fn told(&self) -> Option<u64> {
        match self {
            Steering::Follows(said) => Some(said.load(Relaxed)),
            Steering::Alone | Steering::Leads(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::clock::NEVER;
    use crate::core::memory::{Capacity, Discard, Eviction, New, Placement, RegionId, Table, mix};

    const SHARDS: usize = 4;
    const ENTRIES: u32 = 4_000;

    /// Tables that share a loop of more keys than they hold, by bits of the hash.
    fn after_a_loop(eviction: Eviction) -> Vec<Table<u64, ()>> {
        let region = RegionId::default();
        let bound = Capacity::entries(ENTRIES / SHARDS as u32);
        let mut tables: Vec<_> = Steering::shared(SHARDS)
            .map(|steering| {
                let mut table = Table::new(bound, eviction);
                table.steer(region, steering);
                let group = table.add_group(region);
                (table, group)
            })
            .collect();
        for request in 0..60 * u64::from(ENTRIES) {
            let key = request % (2 * u64::from(ENTRIES));
            let hash = mix(key, 11);
            let (table, group) = &mut tables[(hash >> 32) as usize % SHARDS];
            if table.hit(hash, |&other| other == key, |_| false).is_none() {
                let placement = Placement::new(*group, NEVER, 0);
                table.insert(New { hash, key, value: (), placement }, 0, &mut Discard::default());
            }
        }
        tables.into_iter().map(|(table, _)| table).collect()
    }

    #[test]
    fn the_first_table_decides_what_all_do() {
        let tables = after_a_loop(Eviction::Adaptive);
        let insights: Vec<_> = tables.iter().map(|table| table.insight(RegionId::default())).collect();
        let [leader, followers @ ..] = &insights[..] else { unreachable!("four tables") };
        assert!(leader.switches > 0 && !leader.curve.is_empty(), "{leader:?}");
        for follower in followers {
            assert_eq!(follower.setting, leader.setting);
            assert!(follower.curve.is_empty(), "who follows has no shadows: {follower:?}");
        }
        tables.iter().for_each(|table| table.validate().unwrap());
    }

    #[test]
    fn who_follows_hears_the_leader_and_decides_nothing() {
        let word = Arc::new(AtomicU64::new(0));
        let (leader, follower) = (Steering::Leads(Arc::clone(&word)), Steering::Follows(word));
        leader.tell(7);
        follower.tell(8);
        assert_eq!((follower.told(), leader.told(), Steering::Alone.told()), (Some(7), None, None));
        assert!(Steering::shared(1).all(|steering| matches!(steering, Steering::Alone)));
    }
}
