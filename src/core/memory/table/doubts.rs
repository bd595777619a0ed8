//! Entries that need a second thought: see `memory::doubt`. The table keeps the numbers, and serves nothing that is in doubt as a hit.

use super::Table;
use crate::core::memory::{Alert, Turn};
use std::sync::Arc;

impl<K, V> Table<K, V> {
    /// Until when hits need no second thought, for whoever may say so.
    pub fn alert(&self) -> &Arc<Alert> {
        &self.alert
    }

    /// The present turn: what is watched was looked at in it, or is in doubt.
    pub fn turn(&self) -> Turn {
        self.doubts.turn()
    }

    /// Something has happened that may concern what is watched.
    pub fn doubt(&mut self) -> Turn {
        self.asks |= self.doubts.any();
        self.doubts.next()
    }

    /// Has the entry of a slot looked at once a turn from now on; it was in that one.
    pub fn watch(&mut self, id: u32, seen: Turn) {
        self.doubts.watch(id, seen);
        self.asks = true;
    }

    /// In which turn the entry of a slot was looked at last, if it is in doubt since.
    #[inline]
    pub fn doubted_since(&self, id: u32) -> Option<Turn> {
        if self.doubts.concern(id) { self.doubts.seen(id) } else { None }
    }
}
