//! The recount of a table: whether index, lists, orders and counters agree. For tests.

use super::Table;
use crate::core::memory::eviction::Ranked;

impl<K, V> Table<K, V> {
    /// Recounts the structure. For tests.
    pub fn validate(&self) -> Result<(), String> {
        let used: Vec<u32> = (0..self.slots.len()).filter(|&id| self.slots[id].key.is_some()).collect();
        if used.len() as u32 + self.free.len() != self.slots.len() {
            return Err(format!("{} used and {} free of {}", used.len(), self.free.len(), self.slots.len()));
        }
        if self.index.len() != used.len() {
            return Err(format!("{} indexed, {} used", self.index.len(), used.len()));
        }
        for &id in &used {
            if self.index.find(self.slots[id].hash, |other| other == id).is_none() {
                return Err(format!("slot {id} is not indexed"));
            }
        }
        for region in &self.groups.regions {
            region.order.validate(&self.nodes, region.load)?;
        }
        let in_regions: u32 = self.groups.regions.iter().map(|region| region.load.entries).sum();
        let weight: u64 = used.iter().map(|&id| self.nodes.worth(id).weight()).sum();
        if weight != self.groups.regions.iter().map(|region| region.load.weight).sum::<u64>() {
            return Err(format!("the entries weigh {weight}"));
        }
        let in_groups: u32 = self.groups.alive().map(|(_, group)| group.len).sum::<u32>() + self.groups.buried();
        if in_regions as usize != used.len() || in_groups as usize != used.len() {
            return Err(format!("{in_regions} in regions, {in_groups} in groups, {} used", used.len()));
        }
        for (id, group) in self.groups.alive() {
            let listed = self.members(id, None, usize::MAX).len();
            if listed != group.len as usize {
                return Err(format!("group {id:?} lists {listed}, counts {}", group.len));
            }
        }
        Ok(())
    }
}
