//! The counters of a cache or a cached function. Plain numbers, changed under the table's lock; nothing is sampled.

/// Counters since the start; `entries` and `bytes` are of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Lookups answered with a fresh value.
    pub hits: u64,
    /// Lookups answered with a value past its ttl.
    pub stale_hits: u64,
    /// Lookups answered with a remembered "not found".
    pub negative_hits: u64,
    /// Lookups that a tier behind the memory answered. Until it does, each counts as a miss, and the first as a load.
    pub remote_hits: u64,
    /// Lookups that found nothing usable.
    pub misses: u64,
    /// Loads started.
    pub loads: u64,
    /// Loads that ended in an error.
    pub load_errors: u64,
    /// Lookups that waited for another caller's load.
    pub coalesced: u64,
    /// Loads that replaced a value still in the cache.
    pub refreshes: u64,
    /// Entries dropped to make room.
    pub evictions: u64,
    /// Entries that were not let in: heavier than the cache, or worth less than what they would have displaced.
    pub refused: u64,
    /// Entries dropped because their time was over.
    pub expired: u64,
    /// Keys and namespaces invalidated.
    pub invalidations: u64,
    /// Entries held now.
    pub entries: u64,
    /// Bytes held now, as the weigher counts them; 0 while nothing weighs.
    pub bytes: u64,
    /// Ids that a loader of many returned though nobody had asked for them.
    pub unasked: u64,
}

impl Stats {
    /// Hits of every kind as a share of all lookups, 0.0 when there was none.
    pub fn hit_ratio(&self) -> f64 {
        let hits = self.hits + self.stale_hits + self.negative_hits + self.remote_hits;
        let all = hits + self.misses;
        if all == 0 { 0.0 } else { hits as f64 / all as f64 }
    }

    /// So many lookups, counted as misses so far, were answered by a tier behind the memory.
    pub fn note_remote_hits(&mut self, lookups: u64) {
        self.misses = self.misses.saturating_sub(lookups);
        self.remote_hits += lookups;
    }

    /// Adds the counters of `other`.
    pub fn add(&mut self, other: &Stats) {
        self.hits += other.hits;
        self.stale_hits += other.stale_hits;
        self.negative_hits += other.negative_hits;
        self.remote_hits += other.remote_hits;
        self.misses += other.misses;
        self.loads += other.loads;
        self.load_errors += other.load_errors;
        self.coalesced += other.coalesced;
        self.refreshes += other.refreshes;
        self.evictions += other.evictions;
        self.refused += other.refused;
        self.expired += other.expired;
        self.invalidations += other.invalidations;
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.unasked += other.unasked;
    }
}
