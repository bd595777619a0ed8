//! What is done to a key by hand: looked at, written, removed. No load begins here; one that is under way is detached.

use super::drive::Located;
use super::heed::Settled;
use crate::core::broken::{Rule, broken};
use crate::core::clock::Millis;
use crate::core::coherence::registers::Verdict;
use crate::core::memory::{Discard, GroupId, Memory, New, Reason, Served};
use crate::core::policy::Lifetime;
use crate::core::remote::Version;
use crate::core::remote::ledger::{Mark, Note};

/// A key and a value that somebody writes.
#[derive(Debug)]
pub struct Written<K, V> {
    /// Where it goes.
    pub new: New<K, V>,
    /// How long it lives.
    pub lifetime: Lifetime,
}

impl<K, V, W> Memory<K, V, W> {
    /// A lookup by somebody who has nothing loaded, so that only what is fresh answers him: the slot of a value. Counted, for
    /// whomever `group` belongs to.
    pub fn look_only(&mut self, group: GroupId, id: Option<u32>, now: Millis) -> Option<u32> {
        let plain = id.filter(|&id| self.settle(id, now) == Settled::Plain);
        let sight = plain.and_then(|id| Some((id, self.entries.sight(id)?)));
        let Some((id, sight)) = sight.filter(|(_, sight)| now < sight.span.fresh_until) else {
            self.entries.stats_mut(group).misses += 1;
            return None;
        };
        self.entries.serve(id, if sight.negative { Served::Negative } else { Served::Fresh });
        self.note_look(id, now);
        (!sight.negative).then_some(id)
    }

    /// Writes a value whatever was there before; a load of the key stores nothing. Gives its slot if it was let in.
    pub fn write(
        &mut self,
        written: Written<K, V>,
        located: Located,
        now: Millis,
        out: &mut Discard<K, V>,
    ) -> Option<u32> {
        let Written { new, lifetime } = written;
        let id = match self.detach(located) {
            Some(id) => self.entries.replace(id, Some(new.key), new.value, new.placement, now, out).then_some(id),
            None => self.entries.insert(new, now, out),
        };
        if let Some(id) = id {
            self.give_lifetime(id, lifetime);
        }
        id
    }

    /// Forgets a key; a load of it stores nothing. True if it had a value that could have been served, be it in doubt. Counted.
    pub fn forget(
        &mut self,
        group: GroupId,
        located: Located,
        is_over: impl FnOnce(Millis) -> bool,
        out: &mut Discard<K, V>,
    ) -> bool {
        self.entries.stats_mut(group).invalidations += 1;
        let Some(id) = self.detach(located) else { return false };
        let served = self.entries.is_fresh(id, is_over) && self.verdict(id) != Verdict::Gone;
        self.entries.remove(id, Reason::Removed, out);
        served
    }

    /// Keeps what a tier behind has answered to somebody who took no lease, if nothing has changed since he asked, and nobody loads
    /// it: what that brings is newer, or the same.
    pub fn promote(
        &mut self,
        written: Written<K, V>,
        located: Located,
        (mark, note): (Mark, Note),
        now: Millis,
        out: &mut Discard<K, V>,
    ) -> Option<u32> {
        let changed = !self.is_unchanged(mark) && !broken(Rule::PromotionsAreConditional);
        if changed || located.1.is_some_and(|flight| self.flights.is_attached(flight)) {
            out.keep(Some(written.new.key), Some(written.new.value));
            return None;
        }
        let id = self.write(written, located, now, out)?;
        self.note(id, note, mark.turn);
        Some(id)
    }

    /// How things stand under a key, here and as it is called behind, for somebody who asks the tier behind.
    pub fn mark(&self, hash: u64, behind: u64) -> Mark {
        let turn = self.entries.turn();
        self.ledger.as_ref().map_or(Mark::default(), |ledger| ledger.mark((hash, behind), turn))
    }

    /// True if nothing has changed there since.
    pub fn is_unchanged(&self, mark: Mark) -> bool {
        self.ledger.as_ref().is_none_or(|ledger| ledger.is_unchanged(mark))
    }

    /// Something has changed under a key, which whoever asks the tier behind just now has to know.
    pub fn note_change(&mut self, hash: u64) {
        if let Some(ledger) = &mut self.ledger {
            ledger.note(hash);
        }
    }

    /// The version of what is in a slot, if a tier behind has given it one.
    pub fn version(&self, id: u32) -> Option<Version> {
        self.ledger.as_ref()?.version(self.entries.target(id))
    }

    /// Has a load store nothing; gives the slot of the entry.
    fn detach(&mut self, (entry, flight): Located) -> Option<u32> {
        if let Some(flight) = flight {
            self.flights.detach(flight);
        }
        self.entries.resolve(entry?)
    }
}
