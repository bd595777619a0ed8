//! What is done to a key by hand: looked at. No load begins here.

use crate::core::clock::Millis;
use crate::core::memory::{GroupId, Memory, Served};

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
}
