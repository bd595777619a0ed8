//! The entries of one group: listed, shown to the collector, taken out. Nothing here decides who leaves.

use super::Table;
use crate::core::memory::{Discard, GroupId, Reason, Target};

impl<K, V> Table<K, V> {
    /// The slots of a group, oldest first, from `after` on (the beginning if `None`), at most `limit` of them.
    pub fn members(&self, group: GroupId, after: Option<Target>, limit: usize) -> Vec<u32> {
        let mut at = match after {
            None => self.groups.first(group),
            Some(target) => match self.resolve(target) {
                Some(id) if self.nodes.group(id) == group.slot => self.groups.next(&self.nodes, id),
                _ => self.groups.first(group),
            },
        };
        let mut out = Vec::new();
        while let Some(id) = at.filter(|_| out.len() < limit) {
            out.push(id);
            at = self.groups.next(&self.nodes, id);
        }
        out
    }

    /// Calls `visit` with every key and value of a group. For the cycle collector, which must not allocate.
    pub fn visit(&self, group: GroupId, mut visit: impl FnMut(&K, &V) -> bool) -> bool {
        let mut at = self.groups.first(group);
        while let Some(id) = at {
            let slot = &self.slots[id];
            if let (Some(key), Some(value)) = (&slot.key, &slot.value)
                && !visit(key, value)
            {
                return false;
            }
            at = self.groups.next(&self.nodes, id);
        }
        true
    }

    /// Takes all entries of a group out at once, whatever their number: for an owner that goes away.
    pub fn drain(&mut self, group: GroupId, out: &mut Discard<K, V>) {
        while let Some(id) = self.groups.first(group) {
            self.remove(id, Reason::Removed, out);
        }
    }
}
