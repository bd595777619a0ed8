//! The table: a segmented index over slots, their expiry, their order of leaving, and the groups they belong to.
//!
//! Every operation does bounded work: at most [`Work::LIMIT`] entries are touched and at most one segment is rehashed.
//! A slot is 32 bytes when key and value are pointers (hash, key, value, deadline and tag), so a hit reads one cache line
//! of it; what else is known of it takes 36. The table compares no keys and drops no entry: the caller does both.

use super::eviction::{Arrival, Capacity, Choice, Eviction, Insight, Steering};
use super::eviction::{Mark, Ranked};
use super::groups::{GroupId, Groups, Region, RegionId};
use super::index::Index;
use super::uses::Uses;
use super::wheel::Wheel;
use super::{Chunks, Nodes, Placement, Stamp, Target, Terms, Worth};
use crate::core::clock::{Millis, NEVER};
use crate::core::stats::Stats;

/// Crafted keys may share a full hash; more than this many never do at once.
pub const SAME_HASH: usize = 32;
/// An insert evicts at most so many; what is over the bound then leaves with the next operations.
const EVICTIONS: u32 = 32;

#[derive(Debug)]
struct Slot<K, V> {
    hash: u64,
    terms: Terms,
    key: Option<K>,
    value: Option<V>,
}

impl<K, V> Default for Slot<K, V> {
    fn default() -> Self {
        Slot { hash: 0, terms: Terms::default(), key: None, value: None }
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
    /// Its deadline passed.
    Expired,
    /// Somebody removed or replaced it, or cleared its group.
    Removed,
}

/// What an operation leaves over. An entry that was in the table has a key, a value and a reason to have left.
#[derive(Debug)]
pub struct Left<K, V> {
    /// The key; of an entry that was replaced, the one its new value came with if there was one.
    pub key: Option<K>,
    /// The value.
    pub value: Option<V>,
    /// Why it left; `None` if it never was in the table.
    pub reason: Option<Reason>,
}

/// What left a table or never entered it, to be dropped after unlocking. One is kept without allocating.
#[derive(Debug)]
pub struct Discard<K, V> {
    first: Option<Left<K, V>>,
    rest: Vec<Left<K, V>>,
}

impl<K, V> Default for Discard<K, V> {
    fn default() -> Self {
        Discard { first: None, rest: Vec::new() }
    }
}

impl<K, V> Discard<K, V> {
    fn push(&mut self, key: Option<K>, value: Option<V>, reason: Option<Reason>) {
        let left = Left { key, value, reason };
        if self.first.is_none() {
            self.first = Some(left);
        } else {
            self.rest.push(left);
        }
    }

    /// Keeps a pair that never entered.
    pub fn keep(&mut self, key: K, value: V) {
        self.push(Some(key), Some(value), None);
    }

    /// Keeps a key that was not needed.
    pub fn keep_key(&mut self, key: K) {
        self.push(Some(key), None, None);
    }

    /// Gives everything away, one after the other.
    pub fn take(&mut self) -> Option<Left<K, V>> {
        self.rest.pop().or_else(|| self.first.take())
    }

    /// All of it, in the order it came.
    pub fn iter(&self) -> impl Iterator<Item = &Left<K, V>> {
        self.first.iter().chain(&self.rest)
    }

    /// How many there are.
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

impl<K, V> New<K, V> {
    #[inline(always)]
    fn arrival(&self) -> Arrival {
        let Placement { terms, worth, .. } = self.placement;
        Arrival { hash: self.hash, deadline: terms.deadline(), worth }
    }
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
    uses: Uses,
    counter: u64,
    work: Work,
}

impl<K, V> Table<K, V> {
    /// A table with one region, [`RegionId`] 0.
    pub fn new(bound: Capacity, eviction: Eviction) -> Self {
        let mut groups = Groups::default();
        groups.add_region(bound, eviction);
        Table {
            index: Index::default(),
            slots: Chunks::default(),
            nodes: Nodes::default(),
            free: Vec::new(),
            wheel: Wheel::default(),
            groups,
            uses: Uses::default(),
            counter: 0,
            work: Work::default(),
        }
    }

    /// Makes a further region with a bound and an order of its own.
    pub fn add_region(&mut self, bound: Capacity, eviction: Eviction) -> RegionId {
        self.groups.add_region(bound, eviction)
    }

    /// Changes a region's bound; entries beyond it leave with the next inserts and sweeps, a few each.
    pub fn resize(&mut self, region: RegionId, bound: Capacity) {
        self.settle();
        let region = &mut self.groups.regions[region.0 as usize];
        region.bound = bound;
        region.order.resized(bound);
    }

    /// A region's bound.
    pub fn bound(&self, region: RegionId) -> Capacity {
        self.groups.regions[region.0 as usize].bound
    }

    /// Changes who leaves. Nothing is dropped; O(entries), so not for every day.
    pub fn reorder(&mut self, region: RegionId, eviction: Eviction) {
        self.settle();
        let slots = &self.slots;
        let worths: Vec<_> = (0..slots.len()).map(|id| self.nodes.worth(id)).collect();
        let arrival = |id: u32| {
            let Slot { hash, terms, .. } = &slots[id];
            Arrival { hash: *hash, deadline: terms.deadline(), worth: worths[id as usize] }
        };
        self.groups.reorder(&mut self.nodes, region, eviction, arrival);
    }

    /// Makes a region one of several that decide as one. A new order decides alone.
    pub fn steer(&mut self, region: RegionId, steering: Steering) {
        self.groups.regions[region.0 as usize].order.steer(steering);
    }

    /// The order in force in a region, and what it knows about itself.
    pub fn insight(&self, region: RegionId) -> (Eviction, Insight) {
        let region = &self.groups.regions[region.0 as usize];
        (region.eviction, region.order.insight())
    }

    /// Makes a group.
    pub fn add_group(&mut self, region: RegionId) -> GroupId {
        self.groups.add(region)
    }

    /// Forgets all entries of a group in O(1), and gives the group that takes its place, its counters included.
    ///
    /// A group that has been ended stays so.
    pub fn renew_group(&mut self, group: GroupId) -> GroupId {
        self.settle();
        if !self.is_alive(group) {
            return group;
        }
        let region = self.groups.get(group.slot).region;
        let stats = self.groups.end(group);
        let successor = self.groups.add(region);
        self.groups.get_mut(successor.slot).stats = stats;
        successor
    }

    /// Ends a group for good; its entries are forgotten in O(1). Gives what it had counted.
    pub fn end_group(&mut self, group: GroupId) -> Stats {
        self.settle();
        self.groups.end(group)
    }

    /// False once the group was renewed or ended.
    pub fn is_alive(&self, group: GroupId) -> bool {
        self.groups.is_alive(group)
    }

    /// The counters of a group, to be changed.
    #[inline]
    pub fn stats_mut(&mut self, group: GroupId) -> &mut Stats {
        self.settle();
        &mut self.groups.get_mut(group.slot).stats
    }

    /// The counters of a group, its entries included.
    pub fn stats(&mut self, group: GroupId) -> Stats {
        self.settle();
        if !self.is_alive(group) {
            return Stats::default();
        }
        let group = self.groups.get(group.slot);
        let weighs = self.groups.regions[group.region.0 as usize].bound.weight != u64::MAX;
        let bytes = if weighs { group.weight } else { 0 };
        Stats { entries: u64::from(group.len), bytes, ..group.stats }
    }

    /// Finds the slot whose full hash is `hash` and whose key `is_it` accepts. Nothing is counted or moved, and the
    /// entry may be past its deadline or of a dead group.
    #[inline(always)]
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
        Target { id, stamp: self.nodes.stamp(id) }
    }

    /// The slot a weak pointer means, if its entry is still the same.
    #[inline]
    pub fn resolve(&self, target: Target) -> Option<u32> {
        let used = target.id < self.slots.len() && self.slots[target.id].key.is_some();
        (used && self.target(target.id) == target).then_some(target.id)
    }

    /// The value of a slot if it may be served now; counts as a use, and as a hit of its group. `is_over` is asked only
    /// about a deadline that can come.
    #[inline(always)]
    pub fn read(&mut self, id: u32, is_over: impl FnOnce(Millis) -> bool) -> Option<Found<'_, V>> {
        let slot = &self.slots[id];
        let deadline = slot.terms.deadline();
        if (deadline != NEVER && is_over(deadline)) || (self.groups.has_dead() && !self.is_alive_slot(id)) {
            return None;
        }
        if self.uses.note(id) {
            self.tell_uses();
        }
        self.peek(id)
    }

    /// A whole lookup in one go: find and read.
    #[inline(always)]
    pub fn hit(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&K) -> bool,
        is_over: impl FnOnce(Millis) -> bool,
    ) -> Option<Found<'_, V>> {
        let id = self.find(hash, is_it)?;
        self.read(id, is_over)
    }

    fn is_alive_slot(&self, id: u32) -> bool {
        self.groups.get(self.nodes.group(id)).alive
    }

    /// Before counters or the order are asked or changed in another way.
    #[inline]
    fn settle(&mut self) {
        if !self.uses.is_empty() {
            self.tell_uses();
        }
    }

    #[inline(never)]
    fn tell_uses(&mut self) {
        let (mut last, mut repeats) = (None, 0);
        for &id in self.uses.noted() {
            let group = self.groups.get_mut(self.nodes.group(id));
            group.stats.hits += 1;
            let region = group.region;
            let region = &mut self.groups.regions[region.0 as usize];
            if last == Some(id) && !region.counts_repeats {
                repeats += 1;
                continue;
            }
            region.order.hit(&mut self.nodes, id, self.slots[id].hash);
            if let (Some(before), 1..) = (last.replace(id), repeats) {
                self.groups.region_of(self.nodes.group(before)).order.repeated(std::mem::take(&mut repeats));
            }
        }
        if let (Some(id), 1..) = (last, repeats) {
            self.groups.region_of(self.nodes.group(id)).order.repeated(repeats);
        }
        self.uses.clear();
    }

    /// True if the slot's entry may be served now.
    #[inline]
    pub fn is_served(&self, id: u32, is_over: impl FnOnce(Millis) -> bool) -> bool {
        let deadline = self.slots[id].terms.deadline();
        self.is_alive_slot(id) && (deadline == NEVER || !is_over(deadline))
    }

    /// The value of a slot, served or not. Not a use.
    #[inline]
    pub fn peek(&self, id: u32) -> Option<Found<'_, V>> {
        let slot = &self.slots[id];
        Some(Found { value: slot.value.as_ref()?, tag: slot.terms.tag() })
    }

    /// The key in a slot.
    pub fn key(&self, id: u32) -> Option<&K> {
        self.slots[id].key.as_ref()
    }

    /// When a slot's entry was stored and when it ends.
    pub fn life(&self, id: u32) -> (Millis, Millis) {
        (self.nodes.stamp(id).created(), self.slots[id].terms.deadline())
    }

    /// Stores a value under a key that `is_it` knows: over the old one, or as a new entry, for which room is made. `None`
    /// if it is refused, by its weight or by what it would displace. Does a share of the tidying.
    pub fn put(
        &mut self,
        new: New<K, V>,
        mut is_it: impl FnMut(&K) -> bool,
        now: Millis,
        out: &mut Discard<K, V>,
    ) -> Option<u32> {
        if !self.is_alive(new.placement.group) {
            // Its owner went away, or was cleared, while the value was on its way.
            out.keep(new.key, new.value);
            return None;
        }
        self.work.begin();
        self.settle();
        if self.groups.has_dead() || self.wheel.has_work(now) {
            self.tidy_some(now, 8, out);
        }
        self.work.touch();
        let mut same = 0;
        let found = self.index.find(new.hash, |id| {
            let slot = &self.slots[id];
            let hash_fits = slot.hash == new.hash;
            same += usize::from(hash_fits);
            hash_fits && slot.key.as_ref().is_some_and(&mut is_it)
        });
        if let Some(id) = found {
            self.overwrite(id, Some(new.key), new.value, new.placement, now, out);
            return Some(id);
        }
        if same >= SAME_HASH {
            self.evict_oldest_of(new.hash, out);
        }
        let id = self.place(new, now, out);
        self.work.moved_at_most = self.index.moved_at_most();
        id
    }

    /// As [`put`](Self::put), for a key that is known not to be there.
    pub fn insert(&mut self, new: New<K, V>, now: Millis, out: &mut Discard<K, V>) -> Option<u32> {
        self.put(new, |_| false, now, out)
    }

    /// The slot of who leaves for an arrival, if the first who does makes all the room there has to be, with its hash.
    #[inline(always)]
    fn room(&mut self, region: RegionId, new: &Arrival) -> Option<(u32, u64)> {
        let Region { load, bound, .. } = &self.groups.regions[region.0 as usize];
        if load.entries != bound.entries || load.weight > bound.weight || new.worth.weight() > bound.weight {
            return None;
        }
        let Some(Choice::Evict(id)) = self.groups.choose(&mut self.nodes, region, new) else { return None };
        Some((id, self.slots[id].hash))
    }

    /// Finds a new entry its slot: that of the one entry that leaves for it, or a free one. `None` if it is refused.
    #[inline(always)]
    fn place(&mut self, new: New<K, V>, now: Millis, out: &mut Discard<K, V>) -> Option<u32> {
        let (arrival, group) = (new.arrival(), new.placement.group.slot);
        let region = self.groups.get(group).region;
        if let Some((id, old)) = self.room(region, &arrival) {
            let Region { load, bound, .. } = &self.groups.regions[region.0 as usize];
            let after = load.weight - self.nodes.worth(id).weight() + arrival.worth.weight();
            if after <= bound.weight && self.nodes.group(id) == group {
                self.take_over(id, old, new, arrival, now, out);
                return Some(id);
            }
        }
        if !self.make_room(region, &arrival, out) {
            self.groups.get_mut(group).stats.refused += 1;
            out.keep(new.key, new.value);
            return None;
        }
        Some(self.occupy(new, arrival, now))
    }

    #[inline]
    fn occupy(&mut self, new: New<K, V>, arrival: Arrival, now: Millis) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            self.nodes.push();
            self.slots.push(Slot::default())
        });
        self.groups.enter(&mut self.nodes, new.placement.group.slot, id, arrival);
        self.fill(id, new, now);
        id
    }

    /// Puts a new entry into a slot that is in no index and not in the wheel.
    #[inline(always)]
    fn fill(&mut self, id: u32, new: New<K, V>, now: Millis) {
        let New { hash, key, value, placement } = new;
        self.slots[id] = Slot { hash, terms: placement.terms, key: Some(key), value: Some(value) };
        let slots = &self.slots;
        self.index.insert(hash, id, |other| slots[other].hash);
        self.wheel.schedule(&mut self.nodes, id, placement.terms.deadline());
        self.restamp(id, now);
    }

    /// The commonest store of all: one entry leaves for another, which takes over its slot and its place in the group.
    #[inline(always)]
    fn take_over(&mut self, id: u32, old: u64, new: New<K, V>, arrival: Arrival, now: Millis, out: &mut Discard<K, V>) {
        self.work.touch();
        self.index.remove(old, id);
        self.wheel.cancel(&mut self.nodes, id);
        let slot = &mut self.slots[id];
        out.push(slot.key.take(), slot.value.take(), Some(Reason::Evicted));
        self.groups.renew(&mut self.nodes, id, old, arrival);
        self.fill(id, new, now);
    }

    /// Puts a new value into a slot in use. It keeps its group unless that is dead; its stamp changes. `key` is the one
    /// the new value came with, if any: it leaves with the old value.
    pub fn replace(
        &mut self,
        id: u32,
        key: Option<K>,
        value: V,
        placement: Placement,
        now: Millis,
        out: &mut Discard<K, V>,
    ) {
        if !self.is_alive(placement.group) {
            out.push(key, Some(value), None);
            return self.remove(id, Reason::Removed, out);
        }
        self.work.begin();
        self.settle();
        self.tidy_but(Some(id), now, 8, out);
        self.work.touch();
        self.overwrite(id, key, value, placement, now, out);
    }

    fn overwrite(
        &mut self,
        id: u32,
        key: Option<K>,
        value: V,
        placement: Placement,
        now: Millis,
        out: &mut Discard<K, V>,
    ) {
        self.wheel.cancel(&mut self.nodes, id);
        let Slot { hash, value: place, terms, .. } = &mut self.slots[id];
        out.push(key, place.replace(value), Some(Reason::Removed));
        *terms = placement.terms;
        let arrival = Arrival { hash: *hash, deadline: terms.deadline(), worth: placement.worth };
        if self.nodes.group(id) == placement.group.slot {
            let order = &mut self.groups.region_of(placement.group.slot).order;
            order.hit(&mut self.nodes, id, arrival.hash);
            self.groups.change(&mut self.nodes, id, arrival);
        } else {
            self.groups.leave(&mut self.nodes, id, None);
            self.groups.enter(&mut self.nodes, placement.group.slot, id, arrival);
        }
        self.wheel.schedule(&mut self.nodes, id, arrival.deadline);
        self.restamp(id, now);
        let region = self.groups.get(placement.group.slot).region;
        self.trim(region, 8, out);
    }

    /// Gives a slot in use another deadline. Not a use; the stamp stays.
    pub fn touch(&mut self, id: u32, deadline: Millis) {
        self.wheel.cancel(&mut self.nodes, id);
        self.wheel.schedule(&mut self.nodes, id, deadline);
        self.settle();
        let Slot { hash, terms, .. } = &mut self.slots[id];
        *terms = Terms::new(deadline, terms.tag());
        let arrival = Arrival { hash: *hash, deadline, worth: self.nodes.worth(id) };
        self.groups.change(&mut self.nodes, id, arrival);
    }

    /// Gives a slot in use another weight. Not a use; the stamp stays.
    pub fn reweigh(&mut self, id: u32, weight: u64) {
        self.settle();
        let Slot { hash, terms, .. } = &self.slots[id];
        let worth = self.nodes.worth(id).weighing(weight);
        self.groups.change(&mut self.nodes, id, Arrival { hash: *hash, deadline: terms.deadline(), worth });
    }

    /// Takes an entry out.
    #[inline]
    pub fn remove(&mut self, id: u32, reason: Reason, out: &mut Discard<K, V>) {
        self.settle();
        self.work.touch();
        let group = self.nodes.group(id);
        if self.groups.get(group).alive {
            let stats = &mut self.groups.get_mut(group).stats;
            match reason {
                Reason::Evicted => stats.evictions += 1,
                Reason::Expired => stats.expired += 1,
                Reason::Removed => {}
            }
        }
        self.wheel.cancel(&mut self.nodes, id);
        let slot = &mut self.slots[id];
        self.groups.leave(&mut self.nodes, id, (reason == Reason::Evicted).then_some(slot.hash));
        self.index.remove(slot.hash, id);
        out.push(slot.key.take(), slot.value.take(), Some(reason));
        self.nodes.set_mark(id, Mark::FREE);
        self.free.push(id);
    }

    /// Frees what is past its deadline, of a dead group or beyond a bound, touching at most `budget` entries. True if there is more.
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
                self.remove(id, Reason::Removed, out);
            } else if let Some(id) = self.wheel.pop_due(&mut self.nodes) {
                let deadline = self.slots[id].terms.deadline();
                if deadline <= now && Some(id) != spared {
                    self.remove(id, Reason::Expired, out);
                } else {
                    self.work.touch();
                    self.wheel.schedule(&mut self.nodes, id, deadline.max(now + 1));
                }
            } else {
                return spared.is_none() && self.trim_all(budget, out);
            }
        }
        true
    }

    /// Evicts from all regions that are over their bound, at most so many from each. True if one is still over.
    fn trim_all(&mut self, budget: u32, out: &mut Discard<K, V>) -> bool {
        let regions = (0..self.groups.regions.len() as u32).map(RegionId);
        regions.filter(|&region| self.trim(region, budget / 4, out)).count() > 0
    }

    /// When there is something to tidy: 0 for at once, `None` for never.
    pub fn next_due(&self) -> Option<Millis> {
        if self.groups.corpse().is_some() || self.groups.is_over() { Some(0) } else { self.wheel.next_due() }
    }

    /// True if there is room for an arrival now, or as much as may be made at once.
    #[inline]
    fn make_room(&mut self, region: RegionId, new: &Arrival, out: &mut Discard<K, V>) -> bool {
        for _ in 0..EVICTIONS {
            let Region { load, bound, .. } = &self.groups.regions[region.0 as usize];
            if load.leaves_room(*bound, new.worth.weight()) {
                return true;
            }
            if new.worth.weight() > bound.weight || bound.entries == 0 {
                return false;
            }
            match self.groups.choose(&mut self.nodes, region, new) {
                Some(Choice::Evict(id)) => self.remove(id, Reason::Evicted, out),
                Some(Choice::Refuse) => return false,
                None => return true,
            }
        }
        true
    }

    /// Evicts from a region that is over its bound, at most so many. True if it is still over.
    fn trim(&mut self, region: RegionId, budget: u32, out: &mut Discard<K, V>) -> bool {
        let nothing = Arrival { hash: 0, deadline: NEVER, worth: Worth::default() };
        for _ in 0..budget {
            if !self.groups.regions[region.0 as usize].is_over() {
                return false;
            }
            let Some(Choice::Evict(id)) = self.groups.choose(&mut self.nodes, region, &nothing) else { return false };
            self.remove(id, Reason::Evicted, out);
        }
        true
    }

    #[cold]
    fn evict_oldest_of(&mut self, hash: u64, out: &mut Discard<K, V>) {
        let same = self.index.similar(hash).filter(|&id| self.slots[id].hash == hash);
        if let Some(id) = same.min_by_key(|&id| self.nodes.stamp(id)) {
            self.remove(id, Reason::Evicted, out);
        }
    }

    #[inline]
    fn restamp(&mut self, id: u32, now: Millis) {
        self.counter += 1;
        self.nodes.set_stamp(id, Stamp::new(now, self.counter));
    }

    /// Changes with every store; for callers who compared keys outside the lock.
    pub fn changes(&self) -> u64 {
        self.counter
    }

    /// Slots there are, used or not: all numbers are below.
    pub fn slots(&self) -> u32 {
        self.slots.len()
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

    /// What single operations have touched so far.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Bytes allocated for slots, records and index.
    pub fn allocated(&self) -> usize {
        let orders: usize = self.groups.regions.iter().map(|region| region.order.allocated()).sum();
        self.slots.allocated() + self.nodes.allocated() + self.index.allocated() + self.free.capacity() * 4 + orders
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
