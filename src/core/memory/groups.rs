//! Who entries belong to. A group is what can be counted, listed and cleared as one: the names of a namespace, the calls
//! of one function, the calls on one instance. A region is what has one bound and one eviction order.
//!
//! Clearing a group is O(1): the group is marked dead, its successor gets its counters, and every lookup compares one
//! flag. The dead group's entries are reclaimed a few at a time.

use super::Nodes;
use super::eviction::{Eviction, lru::Lru};
use super::lists::{Lists, NIL, PEERS};
use crate::core::stats::Stats;

/// A group of one table. Slots are used again, a serial tells their users apart: whoever still holds the id of a cleared
/// group never means its successor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GroupId {
    pub(super) slot: u32,
    serial: u32,
}

impl GroupId {
    /// As one number, for keeping where only numbers can be kept.
    pub fn to_bits(self) -> u64 {
        u64::from(self.serial) << 32 | u64::from(self.slot)
    }

    /// The id that [`to_bits`](Self::to_bits) came from.
    pub fn from_bits(bits: u64) -> Self {
        GroupId { slot: bits as u32, serial: (bits >> 32) as u32 }
    }
}

/// A region of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RegionId(pub u32);

#[derive(Debug, Default)]
pub(super) struct Group {
    pub alive: bool,
    serial: u32,
    pub region: RegionId,
    pub len: u32,
    pub stats: Stats,
}

#[derive(Debug)]
pub(super) struct Region {
    pub policy: Lru,
    pub max: u32,
    pub len: u32,
}

#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Vec<Group>,
    pub regions: Vec<Region>,
    peers: Lists<PEERS>,
    /// Dead groups that still hold entries.
    dead: Vec<u32>,
    free: Vec<u32>,
}

impl Groups {
    pub fn add_region(&mut self, max: u32) -> RegionId {
        self.regions.push(Region { policy: Lru::default(), max, len: 0 });
        RegionId(self.regions.len() as u32 - 1)
    }

    pub fn add(&mut self, region: RegionId) -> GroupId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.peers.add();
            self.groups.push(Group::default());
            self.groups.len() as u32 - 1
        });
        let serial = self.groups[slot as usize].serial.wrapping_add(1);
        self.groups[slot as usize] = Group { alive: true, serial, region, len: 0, stats: Stats::default() };
        GroupId { slot, serial }
    }

    pub fn is_alive(&self, id: GroupId) -> bool {
        let group = self.get(id.slot);
        group.alive && group.serial == id.serial
    }

    #[inline]
    pub fn get(&self, slot: u32) -> &Group {
        &self.groups[slot as usize]
    }

    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> &mut Group {
        &mut self.groups[slot as usize]
    }

    #[inline]
    pub fn region_of(&mut self, slot: u32) -> &mut Region {
        let region = self.groups[slot as usize].region;
        &mut self.regions[region.0 as usize]
    }

    #[inline(always)]
    pub fn enter(&mut self, nodes: &mut Nodes, group: u32, slot: u32, hash: u64) {
        self.peers.push_back(nodes, group, slot);
        self.get_mut(group).len += 1;
        let region = self.region_of(group);
        region.len += 1;
        region.policy.insert(nodes, slot, hash);
    }

    #[inline(always)]
    pub fn leave(&mut self, nodes: &mut Nodes, slot: u32) {
        let id = nodes.group[slot];
        self.peers.remove(nodes, slot);
        let region = self.region_of(id);
        region.len -= 1;
        region.policy.remove(nodes, slot);
        let group = self.get_mut(id);
        group.len -= 1;
        if !group.alive && group.len == 0 {
            self.dead.retain(|&dead| dead != id);
            self.free.push(id);
        }
    }

    /// Ends a group for good and tells what it counted.
    pub fn end(&mut self, id: GroupId) -> Stats {
        let id = id.slot;
        let group = self.get_mut(id);
        group.alive = false;
        let stats = std::mem::take(&mut group.stats);
        if group.len == 0 {
            self.free.push(id);
        } else {
            self.dead.push(id);
        }
        stats
    }

    /// True while entries of dead groups are left.
    #[inline]
    pub fn has_dead(&self) -> bool {
        !self.dead.is_empty()
    }

    /// An entry of a dead group, if there is one.
    pub fn corpse(&self) -> Option<u32> {
        self.dead.last().map(|&id| self.peers.first(id))
    }

    pub fn first(&self, id: GroupId) -> Option<u32> {
        Some(self.peers.first(id.slot)).filter(|&slot| slot != NIL)
    }

    pub fn next(&self, nodes: &Nodes, slot: u32) -> Option<u32> {
        Some(self.peers.next(nodes, slot)).filter(|&slot| slot != NIL)
    }

    /// Entries of dead groups.
    pub fn buried(&self) -> u32 {
        self.dead.iter().map(|&id| self.get(id).len).sum()
    }

    pub fn alive(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        let numbered = self.groups.iter().enumerate();
        let id = |slot, group: &Group| GroupId { slot: slot as u32, serial: group.serial };
        numbered.filter(|(_, group)| group.alive).map(move |(slot, group)| (id(slot, group), group))
    }
}
