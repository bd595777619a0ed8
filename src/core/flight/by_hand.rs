//! What is done to a key by hand: looked at, written, removed. No load begins here; one that is under way is detached.

use super::drive::Located;
use crate::core::clock::Millis;
use crate::core::memory::{Discard, GroupId, Memory, New, Reason, Served};
use crate::core::policy::Lifetime;

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
        let sight = id.and_then(|id| Some((id, self.entries.sight(id)?)));
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

    /// Forgets a key; a load of it stores nothing. True if it had a value that could have been served. Counted.
    pub fn forget(
        &mut self,
        group: GroupId,
        located: Located,
        is_over: impl FnOnce(Millis) -> bool,
        out: &mut Discard<K, V>,
    ) -> bool {
        self.entries.stats_mut(group).invalidations += 1;
        let Some(id) = self.detach(located) else { return false };
        let served = self.entries.is_served(id, is_over);
        self.entries.remove(id, Reason::Removed, out);
        served
    }

    /// Has a load store nothing; gives the slot of the entry.
    fn detach(&mut self, (entry, flight): Located) -> Option<u32> {
        if let Some(flight) = flight {
            self.flights.detach(flight);
        }
        self.entries.resolve(entry?)
    }
}
