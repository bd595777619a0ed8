//! What others do, told to the memory: each shard hears of it before it answers anything else.
//!
//! The store's thread notes what it hears and rings the alerts of all shards, which hits look at anyway: a cache that nobody rings pays
//! nothing. An entry that is in doubt is asked for in the store before it answers; where that cannot be asked it answers all the
//! same, to the end of its ttl, and is counted.

use super::super::held::Held;
use super::super::shard::State;
use super::super::shared::Shared;
use super::super::split;
use super::packing::Parcel;
use super::{Back, Front};
use crate::core::clock::Millis;
use crate::core::coherence::Told;
use crate::core::coherence::registers::{Began, Verdict};
use crate::core::flight::Settled;
use crate::core::key::is_below;
use crate::core::memory::{Reason, Span};
use crate::core::remote::ledger::Note;
use crate::core::remote::{Frame, Version};
use crate::io::store::ear::Ear;
use crate::io::store::heard::Heard;
use crate::io::store::{Action, Request};
use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

/// How often what was heard of others who use the same store: see [`Cache::bus_stats`](super::super::Cache::bus_stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusStats {
    /// Messages.
    pub heard: u64,
    /// How often something may have been missed.
    pub lost: u64,
    /// What came and was no message that can be read.
    pub strange: u64,
    /// Entries that were in doubt and answered all the same, since the store could not be asked.
    pub unasked: u64,
}

impl BusStats {
    pub(super) fn of(heard: &Heard) -> Self {
        let [heard, lost, strange, unasked] = heard.counts();
        BusStats { heard, lost, strange, unasked }
    }
}

impl<K, V> Shared<K, V> {
    /// The number of a key's shard.
    pub fn shard_of(&self, hash: u64) -> usize {
        split::shard_of(hash, self.shards().len())
    }

    /// Tells the shard of a key what was heard, before it answers anything else.
    #[inline]
    pub fn heed(&self, hash: u64) {
        if let Some(back) = self.back() {
            let (at, now) = (self.shard_of(hash), self.clock().now());
            if back.heard().calls(at, now) {
                self.attend(back, at, now);
            }
        }
    }

    #[cold]
    fn attend(&self, back: &Back<K, V>, at: usize, now: Millis) {
        let heard = back.heard();
        if heard.attends() {
            // A forked child has entries of which it has heard nothing yet.
            self.shards().iter().for_each(|shard| shard.lock().memory.hear_nothing());
            let ear = Arc::clone(heard) as Arc<dyn Ear>;
            heard.listen(back.tier.store(), back.tier.clock_key(), back.tier.terms().external, ear);
        }
        let mut out = self.gone();
        let mut state = self.shards()[at].lock();
        // Under the lock, so that what is heard is told in order.
        let Some(words) = heard.take(at, now) else {
            state.memory.ledger.iter_mut().for_each(|ledger| ledger.hears = false);
            return;
        };
        let counts = back.tier.store().counts_messages();
        let cleared = heard.tell(words, &mut state.memory, counts, &mut out.left);
        if cleared.iter().any(|path| is_below(back.tier.path(), path)) {
            state.clear();
            drop(state);
            self.expect(Some(0));
        }
    }

    /// One key of each shard that does not know what has moved of late, of these.
    pub fn clocks(&self, back: &Back<K, V>, hashes: impl Iterator<Item = u64>) -> Vec<u64> {
        let (now, mut clocks) = (self.clock().now(), BTreeMap::new());
        for hash in hashes {
            let at = self.shard_of(hash);
            if back.heard().has_to_ask(at, now) {
                clocks.entry(at).or_insert(hash);
            }
        }
        clocks.into_values().collect()
    }

    /// Asks the clock what has moved, for the shard of a key.
    pub fn ask_clock(&self, back: &Back<K, V>, hash: u64) -> Request {
        let ledger_of = |state: &State<K, V>| state.memory.ledger.as_ref().map(|ledger| ledger.registers.known());
        let known = ledger_of(&self.lock(hash)).unwrap_or_default();
        Request { key: back.tier.clock_key().to_vec().into(), action: Action::Registers { known } }
    }

    /// The clock has told what it was asked just now: the shard learns it, and lets go what can no longer be compared with it.
    pub fn learn(&self, back: &Back<K, V>, hash: u64, told: &Told) {
        let at = self.shard_of(hash);
        let mut state = self.lock(hash);
        if !back.heard().learn(at, told, &mut state.memory) {
            state.clear();
            drop(state);
            self.expect(Some(0));
        }
    }

    /// What has become of something that the store has, by what was invalidated since its load began.
    pub fn judge(&self, back: &Back<K, V>, hash: u64, note: &Note) -> Verdict {
        self.heed(hash);
        let state = self.lock(hash);
        let Some(ledger) = &state.memory.ledger else { return Verdict::Good };
        let tags = note.tags().iter().map(|tag| &**tag);
        ledger.registers.judge(back.tier.path(), tags, note.began)
    }
}

impl<K, V> State<K, V> {
    /// What was in a slot, is in doubt and fresh: it answers where the store cannot be asked.
    pub fn suspect(&mut self, id: u32, now: Millis) -> Option<(Arc<Held<V>>, Span, Note)> {
        let is_alive = self.memory.entries.is_alive_slot(id);
        if !is_alive || self.memory.settle(id, now) != Settled::Suspect {
            return None;
        }
        let (entries, span) = (&self.memory.entries, self.memory.entries.span(id));
        let held = entries.peek(id).filter(|found| now < span.fresh_until && found.value.value().is_some())?;
        let note = self.memory.ledger.as_ref()?.of(entries.target(id))?;
        Some((Arc::clone(held.value), span, note.clone()))
    }
}

impl<K: Eq + Hash, V> Shared<K, V> {
    /// What memory has under a key, in doubt: the store cannot be asked.
    pub fn suspect(&self, back: &Back<K, V>, hash: u64, key: &K) -> Option<(Arc<Held<V>>, Span, Note)> {
        let mut state = self.lock(hash);
        let id = state.find(hash, key)?;
        let suspect = state.suspect(id, self.clock().now())?;
        back.heard().note_unasked();
        Some(suspect)
    }

    /// The store has nothing of the kind: what memory has under a key, if that is in doubt, is no more.
    pub fn refute(&self, hash: u64, key: &K) {
        let mut out = self.gone();
        let mut state = self.lock(hash);
        if let Some(id) = state.find(hash, key).filter(|&id| state.memory.entries.doubted_since(id).is_some()) {
            state.memory.entries.remove(id, Reason::Removed, &mut out.left);
        }
    }
}

/// A key that is being filled, and the memory in front of it.
pub(in crate::cache) struct Spot<K, V> {
    pub shared: Arc<Shared<K, V>>,
    pub hash: u64,
    pub key: K,
}

impl<K, V> Spot<K, V> {
    fn with<T>(&self, look: impl FnOnce(&Shared<K, V>, &Back<K, V>) -> T) -> Option<T> {
        self.shared.back().map(|back| look(&self.shared, back))
    }
}

impl<K, V> Front<V> for Spot<K, V>
where
    K: Eq + Hash + Send + Sync,
    V: Clone + Send + Sync,
{
    fn ask_clock(&self) -> Option<Request> {
        self.with(|shared, back| shared.ask_clock(back, self.hash))
    }

    fn learn(&self, told: &Told) {
        self.with(|shared, back| shared.learn(back, self.hash, told));
    }

    fn judge(&self, note: &Note) -> Verdict {
        self.with(|shared, back| shared.judge(back, self.hash, note)).unwrap_or(Verdict::Good)
    }

    fn suspect(&self) -> Option<(Frame<Arc<Parcel<V>>>, Note)> {
        let (held, span, note) = self.with(|shared, back| shared.suspect(back, self.hash, &self.key))??;
        let value = Arc::new(Parcel { value: held.value()?.clone(), load: span.load });
        let version = note.version.unwrap_or(Version(0));
        let Span { fresh_until, expires, .. } = span;
        Some((Frame { version, value: Some(value), fresh_until, expires }, note))
    }

    fn refute(&self) {
        self.shared.refute(self.hash, &self.key);
    }

    fn answered(&self, away: bool) {
        self.with(|_, back| back.is_away(away));
    }
}

/// With what stamp a value is written by hand: 0 where its version is one. On a cluster another server's clock gives that, so it
/// counts as written just after the last thing that was heard.
pub(super) fn start<K, V>(shared: &Shared<K, V>, back: &Back<K, V>, hash: u64) -> u64 {
    if back.tier.store().counts_messages() {
        return 0;
    }
    let state = shared.lock(hash);
    let newest = state.memory.ledger.as_ref().map_or(0, |ledger| ledger.registers.newest());
    if newest > 0 { newest + 1 } else { 0 }
}

/// When something of the store began, by its frame: 0 for what was written by hand, at its version.
pub(super) fn began(load_start: u64, version: Version) -> Began {
    Began { here: None, store: Some(if load_start > 0 { load_start } else { version.0 }) }
}
