//! The table: a segmented index over slots, their expiry, their order of leaving, and the groups they belong to.
//!
//! Every operation does bounded work: at most [`Work::LIMIT`] entries are touched and at most one segment is rehashed.
//! A slot is 32 bytes when key and value are pointers (hash, key, value, deadline and tag), so a hit reads one cache line
//! of it, and its cold record is 36. The table compares no keys and drops no entry: the caller does both.

use super::eviction::Eviction;
use super::groups::{GroupId, Groups, RegionId};
use super::index::Index;
use super::wheel::Wheel;
use super::{Chunks, Node, Nodes, Placement, Stamp, Target};
use crate::core::clock::{Millis, NEVER};
use crate::core::stats::Stats;

const TAG_BITS: u32 = 20;
const COUNTER: u64 = (1 << 20) - 1;
/// Crafted keys may share a full hash; more than this many never do at once.
pub const SAME_HASH: usize = 32;

#[derive(Debug)]
struct Slot<K, V> {
    hash: u64,
    /// Deadline in the upper 44 bits, the owner's tag in the lower 20.
    meta: u64,
    key: Option<K>,
    value: Option<V>,
}

impl<K, V> Default for Slot<K, V> {
    fn default() -> Self {
        Slot { hash: 0, meta: 0, key: None, value: None }
    }
}

/// A value found: borrowed from the table, to be copied before unlocking.
#[derive(Debug)]
pub struct Found<'a, V> {
    /// The value.
    pub value: &'a V,
    /// The owner's tag.
    pub tag: u32,
}

/// Why an entry left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// To make room.
    Evicted,
    /// Its deadline passed, or its group was cleared.
    Expired,
    /// Somebody removed or replaced it.
    Removed,
}

/// Keys and values that left a table, to be dropped after unlocking. One is kept without allocating.
#[derive(Debug)]
pub struct Discard<K, V> {
    first: Option<(Option<K>, Option<V>)>,
    rest: Vec<(Option<K>, Option<V>)>,
}

impl<K, V> Default for Discard<K, V> {
    fn default() -> Self {
        Discard { first: None, rest: Vec::new() }
    }
}

impl<K, V> Discard<K, V> {
    fn push(&mut self, key: Option<K>, value: Option<V>) {
        if self.first.is_none() {
            self.first = Some((key, value));
        } else {
            self.rest.push((key, value));
        }
    }

    /// Keeps a pair that never entered.
    pub fn keep(&mut self, key: K, value: V) {
        self.push(Some(key), Some(value));
    }

    /// Keeps a key that was not needed.
    pub fn keep_key(&mut self, key: K) {
        self.push(Some(key), None);
    }

    /// Pairs held.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    /// True when nothing left.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

/// A key and its value, to be stored.
#[derive(Debug)]
pub struct New<K, V> {
    /// The hash, with the salt of the key's space in it.
    pub hash: u64,
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// Where and how long.
    pub placement: Placement,
}

/// How much a single operation has touched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    now: u32,
    /// The most entries one operation has touched so far.
    pub entries_at_most: u32,
    /// The most index numbers one operation has moved so far.
    pub moved_at_most: usize,
}

impl Work {
    /// The most entries one operation may touch.
    pub const LIMIT: u32 = 64;

    fn begin(&mut self) {
        self.now = 0;
    }

    fn touch(&mut self) {
        self.now += 1;
        self.entries_at_most = self.entries_at_most.max(self.now);
    }
}

/// See the module.
#[derive(Debug)]
pub struct Table<K, V> {
    index: Index,
    slots: Chunks<Slot<K, V>>,
    nodes: Nodes,
    free: Vec<u32>,
    wheel: Wheel,
    groups: Groups,
    counter: u64,
    work: Work,
}

impl<K, V> Table<K, V> {
    /// A table with one region, [`RegionId`] 0, of at most `max_entries` entries.
    pub fn new(max_entries: u32) -> Self {
        let mut groups = Groups::default();
        groups.add_region(max_entries);
        Table {
            index: Index::default(),
            slots: Chunks::default(),
            nodes: Chunks::default(),
            free: Vec::new(),
            wheel: Wheel::default(),
            groups,
            counter: 0,
            work: Work::default(),
        }
    }

    /// Makes a further region with a bound of its own.
    pub fn add_region(&mut self, max_entries: u32) -> RegionId {
        self.groups.add_region(max_entries)
    }

    /// Changes a region's bound; entries beyond it leave with the next inserts, a few each.
    pub fn resize(&mut self, region: RegionId, max_entries: u32) {
        self.groups.regions[region.0 as usize].max = max_entries;
    }

    /// A region's bound.
    pub fn max_entries(&self, region: RegionId) -> u32 {
        self.groups.regions[region.0 as usize].max
    }

    /// Makes a group.
    pub fn add_group(&mut self, region: RegionId) -> GroupId {
        self.groups.add(region)
    }

    /// Forgets all entries of a group in O(1), and gives the group that takes its place, its counters included.
    pub fn renew_group(&mut self, group: GroupId) -> GroupId {
        let region = self.groups.get(group.slot).region;
        let stats = self.groups.end(group);
        let successor = self.groups.add(region);
        self.groups.get_mut(successor.slot).stats = stats;
        successor
    }

    /// Ends a group for good; its entries are forgotten in O(1). Gives what it had counted.
    pub fn end_group(&mut self, group: GroupId) -> Stats {
        self.groups.end(group)
    }

    /// False once the group was renewed or ended.
    pub fn is_alive(&self, group: GroupId) -> bool {
        self.groups.is_alive(group)
    }

    /// The counters of a group, to be changed.
    #[inline]
    pub fn stats_mut(&mut self, group: GroupId) -> &mut Stats {
        &mut self.groups.get_mut(group.slot).stats
    }

    /// The counters of a group, its entries included.
    pub fn stats(&self, group: GroupId) -> Stats {
        let group = self.groups.get(group.slot);
        Stats { entries: u64::from(group.len), ..group.stats }
    }

    /// The counters of all groups together.
    pub fn total(&self) -> Stats {
        let mut total = Stats::default();
        for (id, _) in self.groups.alive() {
            total.add(&self.stats(id));
        }
        total
    }

    /// Finds the slot whose full hash is `hash` and whose key `is_it` accepts. Nothing is counted or moved, and the
    /// entry may be past its deadline or of a dead group.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(&K) -> bool) -> Option<u32> {
        self.index.find(hash, |id| {
            let slot = &self.slots[id];
            slot.hash == hash && slot.key.as_ref().is_some_and(&mut is_it)
        })
    }

    /// All slots with this full hash, at most 32, for callers who compare outside the lock.
    pub fn candidates(&self, hash: u64) -> impl Iterator<Item = (Target, &K)> {
        let same = self.index.similar(hash).filter(move |&id| self.slots[id].hash == hash);
        same.filter_map(|id| Some((self.target(id), self.slots[id].key.as_ref()?)))
    }

    /// A weak pointer to a slot in use.
    pub fn target(&self, id: u32) -> Target {
        let (high, low) = self.nodes[id].stamp;
        Target { id, stamp: Stamp(u64::from(high) << 32 | u64::from(low)) }
    }

    /// The slot a weak pointer means, if its entry is still the same.
    #[inline]
    pub fn resolve(&self, target: Target) -> Option<u32> {
        let used = target.id < self.slots.len() && self.slots[target.id].key.is_some();
        (used && self.target(target.id) == target).then_some(target.id)
    }

    /// The value of a slot if it may be served now; counts as a use. `now` is asked for only if the entry can expire.
    #[inline]
    pub fn read(&mut self, id: u32, now: impl FnOnce() -> Millis) -> Option<Found<'_, V>> {
        if !self.is_served(id, now) {
            return None;
        }
        self.groups.region_of(self.nodes[id].group).policy.hit(&mut self.nodes, id);
        self.peek(id)
    }

    /// A whole lookup in one go, for the hit path: find, check, count for `counted`, and move to the front.
    #[inline(always)]
    pub fn hit(
        &mut self,
        hash: u64,
        mut is_it: impl FnMut(&K) -> bool,
        now: impl FnOnce() -> Millis,
        counted: GroupId,
    ) -> Option<Found<'_, V>> {
        let slots = &self.slots;
        let id = self.index.find(hash, |id| {
            let slot = &slots[id];
            slot.hash == hash && slot.key.as_ref().is_some_and(&mut is_it)
        })?;
        self.hit_slot(id, now, counted)
    }

    /// As [`hit`](Self::hit), for a slot that was found.
    #[inline(always)]
    pub fn hit_slot(&mut self, id: u32, now: impl FnOnce() -> Millis, counted: GroupId) -> Option<Found<'_, V>> {
        let slot = &self.slots[id];
        let owner = self.nodes[id].group;
        let deadline = slot.meta >> TAG_BITS;
        let group = self.groups.get_mut(owner);
        if !group.alive || (deadline != NEVER && now() >= deadline) {
            return None;
        }
        let region = group.region;
        if owner == counted.slot {
            group.stats.hits += 1;
        } else {
            self.groups.get_mut(counted.slot).stats.hits += 1;
        }
        self.groups.regions[region.0 as usize].policy.hit(&mut self.nodes, id);
        Some(Found { value: slot.value.as_ref()?, tag: slot.meta as u32 & ((1 << TAG_BITS) - 1) })
    }

    /// True if the slot's entry may be served now.
    #[inline]
    pub fn is_served(&self, id: u32, now: impl FnOnce() -> Millis) -> bool {
        let deadline = self.slots[id].meta >> TAG_BITS;
        self.groups.get(self.nodes[id].group).alive && (deadline == NEVER || now() < deadline)
    }

    /// The value of a slot, served or not. Not a use.
    #[inline]
    pub fn peek(&self, id: u32) -> Option<Found<'_, V>> {
        let slot = &self.slots[id];
        Some(Found { value: slot.value.as_ref()?, tag: (slot.meta & ((1 << TAG_BITS) - 1)) as u32 })
    }

    /// The key in a slot.
    pub fn key(&self, id: u32) -> Option<&K> {
        self.slots[id].key.as_ref()
    }

    /// When a slot's entry was stored and when it ends.
    pub fn life(&self, id: u32) -> (Millis, Millis) {
        (self.target(id).stamp.0 >> 20, self.slots[id].meta >> TAG_BITS)
    }

    /// Stores a key that is not in the table, makes room for it, and does a share of the tidying.
    pub fn insert(&mut self, new: New<K, V>, now: Millis, out: &mut Discard<K, V>) -> u32 {
        self.work.begin();
        self.tidy_some(now, 8, out);
        self.bound_same_hash(new.hash, out);
        let region = self.groups.get(new.placement.group.slot).region;
        self.make_room(region, out);
        self.work.touch();
        let id = self.occupy(new, now);
        self.work.moved_at_most = self.index.moved_at_most();
        id
    }

    fn occupy(&mut self, new: New<K, V>, now: Millis) -> u32 {
        let New { hash, key, value, placement } = new;
        let slot = Slot { hash, meta: meta(&placement), key: Some(key), value: Some(value) };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id] = slot;
                id
            }
            None => {
                self.nodes.push(Node::default());
                self.slots.push(slot)
            }
        };
        let slots = &self.slots;
        self.index.insert(hash, id, |other| slots[other].hash);
        self.nodes[id].group = placement.group.slot;
        self.restamp(id, now);
        self.groups.enter(&mut self.nodes, placement.group.slot, id, hash);
        self.wheel.schedule(&mut self.nodes, id, placement.deadline);
        id
    }

    /// Puts a new value into a slot in use. It keeps its group unless that is dead; its stamp changes.
    pub fn replace(&mut self, id: u32, value: V, placement: Placement, now: Millis, out: &mut Discard<K, V>) {
        self.work.begin();
        self.tidy_but(Some(id), now, 8, out);
        self.work.touch();
        self.wheel.cancel(&mut self.nodes, id);
        if self.nodes[id].group != placement.group.slot {
            self.groups.leave(&mut self.nodes, id);
            self.nodes[id].group = placement.group.slot;
            self.groups.enter(&mut self.nodes, placement.group.slot, id, self.slots[id].hash);
        } else {
            self.groups.region_of(placement.group.slot).policy.hit(&mut self.nodes, id);
        }
        self.wheel.schedule(&mut self.nodes, id, placement.deadline);
        self.restamp(id, now);
        self.slots[id].meta = meta(&placement);
        out.push(None, self.slots[id].value.replace(value));
    }

    /// Gives a slot in use another deadline. Not a use; the stamp stays.
    pub fn touch(&mut self, id: u32, deadline: Millis) {
        self.wheel.cancel(&mut self.nodes, id);
        self.wheel.schedule(&mut self.nodes, id, deadline);
        let tag = self.slots[id].meta & ((1 << TAG_BITS) - 1);
        self.slots[id].meta = deadline << TAG_BITS | tag;
    }

    /// Takes an entry out.
    pub fn remove(&mut self, id: u32, reason: Reason, out: &mut Discard<K, V>) {
        self.work.touch();
        let group = self.nodes[id].group;
        if self.groups.get(group).alive {
            let stats = &mut self.groups.get_mut(group).stats;
            match reason {
                Reason::Evicted => stats.evictions += 1,
                Reason::Expired => stats.expired += 1,
                Reason::Removed => {}
            }
        }
        self.wheel.cancel(&mut self.nodes, id);
        self.groups.leave(&mut self.nodes, id);
        let slot = &mut self.slots[id];
        self.index.remove(slot.hash, id);
        out.push(slot.key.take(), slot.value.take());
        self.free.push(id);
    }

    /// Frees what is past its deadline or of a dead group, touching at most `budget` entries. True if there is more.
    pub fn tidy(&mut self, now: Millis, budget: u32, out: &mut Discard<K, V>) -> bool {
        self.work.begin();
        self.tidy_some(now, budget.min(Work::LIMIT), out)
    }

    fn tidy_some(&mut self, now: Millis, budget: u32, out: &mut Discard<K, V>) -> bool {
        self.tidy_but(None, now, budget, out)
    }

    /// `spared` is about to be replaced and stays whatever its state.
    fn tidy_but(&mut self, spared: Option<u32>, now: Millis, budget: u32, out: &mut Discard<K, V>) -> bool {
        self.wheel.advance(&mut self.nodes, now);
        for _ in 0..budget {
            if let Some(id) = self.groups.corpse().filter(|&id| Some(id) != spared) {
                self.remove(id, Reason::Expired, out);
            } else if let Some(id) = self.wheel.pop_due(&mut self.nodes) {
                let deadline = self.slots[id].meta >> TAG_BITS;
                if deadline <= now && Some(id) != spared {
                    self.remove(id, Reason::Expired, out);
                } else {
                    self.work.touch();
                    self.wheel.schedule(&mut self.nodes, id, deadline.max(now + 1));
                }
            } else {
                return false;
            }
        }
        true
    }

    /// When there is something to tidy: 0 for at once, `None` for never.
    pub fn next_due(&self) -> Option<Millis> {
        if self.groups.corpse().is_some() { Some(0) } else { self.wheel.next_due() }
    }

    fn make_room(&mut self, region: RegionId, out: &mut Discard<K, V>) {
        // Two at a time let a shrunken region reach its new bound while it is written to.
        for _ in 0..2 {
            let region = &self.groups.regions[region.0 as usize];
            if region.len < region.max {
                return;
            }
            if let Some(victim) = region.policy.victim() {
                self.remove(victim, Reason::Evicted, out);
            }
        }
    }

    fn bound_same_hash(&mut self, hash: u64, out: &mut Discard<K, V>) {
        let same = self.index.similar(hash).filter(|&id| self.slots[id].hash == hash);
        let (count, oldest) = same.fold((0, None), |(count, oldest), id| {
            let stamp = self.nodes[id].stamp;
            let older = oldest.is_none_or(|(_, least)| stamp < least);
            (count + 1, if older { Some((id, stamp)) } else { oldest })
        });
        if let (SAME_HASH.., Some((id, _))) = (count, oldest) {
            self.remove(id, Reason::Evicted, out);
        }
    }

    fn restamp(&mut self, id: u32, now: Millis) {
        self.counter += 1;
        let stamp = now.min(NEVER) << 20 | (self.counter & COUNTER);
        self.nodes[id].stamp = ((stamp >> 32) as u32, stamp as u32);
    }

    /// Changes with every store; for callers who compared keys outside the lock.
    pub fn changes(&self) -> u64 {
        self.counter
    }

    /// Entries held, those of dead groups not counted.
    pub fn len(&self) -> usize {
        (self.slots.len() as usize - self.free.len()) - self.groups.buried() as usize
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slots of a group, oldest first, from `after` on (the beginning if `None`), at most `limit` of them.
    pub fn members(&self, group: GroupId, after: Option<Target>, limit: usize) -> Vec<u32> {
        let mut at = match after {
            None => self.groups.first(group),
            Some(target) => match self.resolve(target) {
                Some(id) if self.nodes[id].group == group.slot => self.groups.next(&self.nodes, id),
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

    /// What single operations have touched so far.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Bytes allocated for slots, records and index.
    pub fn allocated(&self) -> usize {
        self.slots.allocated() + self.nodes.allocated() + self.index.allocated() + self.free.capacity() * 4
    }

    /// Recounts the structure. For tests.
    pub fn validate(&self) -> Result<(), String> {
        let used: Vec<u32> = (0..self.slots.len()).filter(|&id| self.slots[id].key.is_some()).collect();
        if used.len() + self.free.len() != self.slots.len() as usize {
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
        let in_regions: u32 = self.groups.regions.iter().map(|region| region.len).sum();
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

fn meta(placement: &Placement) -> u64 {
    placement.deadline.min(NEVER) << TAG_BITS | u64::from(placement.tag & ((1 << TAG_BITS) - 1))
}
