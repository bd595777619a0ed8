//! Who entries belong to. A group is what can be counted, listed and cleared as one: the names of a namespace, the calls
//! of one function, the calls on one instance. A region is what has one bound and one eviction order. It may have another
//! beside it for the negative entries of its groups, so that what is not there displaces nothing that is.
//!
//! Clearing a group is O(1): the group is marked dead, its successor gets its counters, and every lookup compares one
//! flag. The dead group's entries are reclaimed a few at a time.

use super::eviction::{Arrival, Capacity, Choice, Eviction, Load, Order, Ranked};
use super::lists::{Lists, NIL, PEERS};
use super::nodes::GROUPS;
use super::{Nodes, Worth};
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

    /// The number of its place among the groups. A cleared group has it until its last entry is gone; then it is another's.
    pub fn number(self) -> u32 {
        self.slot
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
    /// The sum of its entries' weights.
    pub weight: u64,
    pub stats: Stats,
}

#[derive(Debug)]
pub(super) struct Region {
    pub order: Box<dyn Order>,
    pub eviction: Eviction,
    pub bound: Capacity,
    pub load: Load,
    /// Where negative entries are, if they have a bound of their own.
    pub apart: Option<RegionId>,
    /// Whose negative entries it holds, if it holds no others.
    pub of: Option<RegionId>,
}

impl Region {
    #[inline]
    pub fn is_over(&self) -> bool {
        self.load.entries > self.bound.entries || self.load.weight > self.bound.weight
    }
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
    pub fn add_region(&mut self, bound: Capacity, eviction: Eviction) -> RegionId {
        let (order, load) = (eviction.order(bound), Load::default());
        self.regions.push(Region { order, eviction, bound, load, apart: None, of: None });
        RegionId(self.regions.len() as u32 - 1)
    }

    /// Gives the negative entries of a region a bound and an order of their own; those that are there stay where they are.
    pub fn add_apart(&mut self, of: RegionId, bound: Capacity, eviction: Eviction) -> RegionId {
        let apart = self.add_region(bound, eviction);
        self.regions[apart.0 as usize].of = Some(of);
        self.regions[of.0 as usize].apart = Some(apart);
        apart
    }

    pub fn add(&mut self, region: RegionId) -> GroupId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.peers.add();
            assert!(
                self.groups.len() < GROUPS as usize,
                "a cache cannot have more than 8 million instances of methods"
            );
            self.groups.push(Group::default());
            self.groups.len() as u32 - 1
        });
        let serial = self.groups[slot as usize].serial.wrapping_add(1);
        self.groups[slot as usize] = Group { alive: true, serial, region, len: 0, weight: 0, stats: Stats::default() };
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

    /// The region that holds the entries of a group, or those that are apart.
    #[inline]
    pub fn region(&self, group: u32, apart: bool) -> RegionId {
        let region = self.get(group).region;
        if apart { self.regions[region.0 as usize].apart.unwrap_or(region) } else { region }
    }

    /// The region that a slot's entry is in.
    #[inline]
    pub fn region_of(&mut self, nodes: &Nodes, slot: u32) -> &mut Region {
        let region = self.region(nodes.group(slot), nodes.is_apart(slot));
        &mut self.regions[region.0 as usize]
    }

    /// True if such an entry of a group would be apart.
    #[inline]
    pub fn sets_apart(&self, group: u32, negative: bool) -> bool {
        negative && self.regions[self.get(group).region.0 as usize].apart.is_some()
    }

    /// True if an entry alone would weigh more than a region may hold, or nothing may be in it.
    #[inline]
    pub fn is_too_heavy(&self, region: RegionId, worth: Worth) -> bool {
        let bound = &self.regions[region.0 as usize].bound;
        bound.entries == 0 || worth.weight() > bound.weight
    }

    /// A slot comes to a group, and to its region's order.
    #[inline]
    pub fn enter(&mut self, nodes: &mut Nodes, (group, apart): (u32, bool), slot: u32, new: Arrival) {
        nodes.set_group(slot, group, apart);
        nodes.set_worth(slot, new.worth);
        self.peers.push_back(nodes, group, slot);
        let owner = self.get_mut(group);
        owner.len += 1;
        owner.weight += new.worth.weight();
        let region = self.region_of(nodes, slot);
        region.load.add(new.worth);
        region.order.insert(nodes, slot, new);
    }

    /// A slot leaves them. `chosen` is its hash if its order chose it.
    #[inline]
    pub fn leave(&mut self, nodes: &mut Nodes, slot: u32, chosen: Option<u64>) {
        let id = nodes.group(slot);
        self.peers.remove(nodes, slot);
        let worth = nodes.worth(slot);
        let region = self.region_of(nodes, slot);
        region.load.sub(worth);
        match chosen {
            Some(hash) => region.order.evicted(nodes, slot, hash),
            None => region.order.remove(nodes, slot),
        }
        let group = self.get_mut(id);
        group.len -= 1;
        group.weight -= worth.weight();
        if !group.alive && group.len == 0 {
            self.dead.retain(|&dead| dead != id);
            self.free.push(id);
        }
    }

    /// The chosen slot becomes another entry of its group.
    #[inline]
    pub fn renew(&mut self, nodes: &mut Nodes, slot: u32, old: u64, new: Arrival) {
        let worth = nodes.worth(slot);
        let group = self.get_mut(nodes.group(slot));
        group.stats.evictions += 1;
        // Where entries are counted all weigh the same.
        if worth != new.worth {
            group.weight = group.weight - worth.weight() + new.worth.weight();
        }
        let region = self.region_of(nodes, slot);
        region.order.evicted(nodes, slot, old);
        if worth != new.worth {
            region.load.sub(worth);
            region.load.add(new.worth);
            nodes.set_worth(slot, new.worth);
        }
        region.order.insert(nodes, slot, new);
    }

    /// An entry's deadline or worth changes.
    #[inline]
    pub fn change(&mut self, nodes: &mut Nodes, slot: u32, new: Arrival) {
        let group = self.get_mut(nodes.group(slot));
        group.weight = group.weight - nodes.worth(slot).weight() + new.worth.weight();
        let region = self.region_of(nodes, slot);
        region.load.sub(nodes.worth(slot));
        region.load.add(new.worth);
        region.order.changed(nodes, slot, new.deadline, new.worth);
        nodes.set_worth(slot, new.worth);
    }

    /// Who leaves a region for an arrival.
    #[inline]
    pub fn choose(&mut self, nodes: &mut Nodes, region: RegionId, new: &Arrival) -> Option<Choice> {
        let (groups, apart) = (&self.groups, self.regions[region.0 as usize].of);
        let is_mine = |nodes: &Nodes, id: u32| {
            groups[nodes.group(id) as usize].region == apart.unwrap_or(region) && nodes.is_apart(id) == apart.is_some()
        };
        self.regions[region.0 as usize].order.choose(nodes, new, &is_mine)
    }

    /// Another order for a region: its entries enter it as they would have left.
    pub fn reorder(
        &mut self,
        nodes: &mut Nodes,
        region: RegionId,
        eviction: Eviction,
        arrival: impl Fn(u32, Worth) -> Arrival,
    ) {
        let region = &mut self.regions[region.0 as usize];
        let ids = region.order.ids(nodes);
        ids.iter().for_each(|&id| region.order.remove(nodes, id));
        (region.order, region.eviction) = (eviction.order(region.bound), eviction);
        for &id in &ids {
            let new = arrival(id, nodes.worth(id));
            region.order.insert(nodes, id, new);
        }
    }

    /// Ends a group for good and tells what it counted; nothing, if it is at an end already.
    pub fn end(&mut self, id: GroupId) -> Stats {
        if !self.is_alive(id) {
            return Stats::default();
        }
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

    /// True if a region holds more than it may: it was resized, or let in something heavy.
    pub fn is_over(&self) -> bool {
        self.regions.iter().any(Region::is_over)
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
        let same = self.get(id.slot).serial == id.serial;
        Some(self.peers.first(id.slot)).filter(|&slot| same && slot != NIL)
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
