//! The table: a segmented index over slots, their expiry, their order of leaving, and the groups they belong to.
//!
//! Every operation does bounded work: at most [`Work::LIMIT`] entries are touched and at most one segment is rehashed.
//! A slot is 32 bytes when key and value are pointers (hash, key, value, deadline and tag), so a hit reads one cache line
//! of it; what else is known of it takes 38. The table compares no keys and drops no entry: the caller does both.

use super::doubt::{Alert, Doubts};
use super::eviction::{Arrival, Capacity, Choice, Eviction, Insight, Steering};
use super::eviction::{Mark, Ranked};
use super::groups::{GroupId, Groups, Region, RegionId};
use super::index::Index;
use super::lists::NIL;
use super::span::{Span, Spans};
use super::uses::Uses;
use super::wheel::Wheel;
use super::work::Work;
use super::{Chunks, Discard, Left, Nodes, Placement, Reason, Stamp, Target, Terms, Worth};
use crate::core::broken::{Rule, broken};
use crate::core::clock::{Millis, NEVER};
use crate::core::flight::Sight;
use crate::core::stats::Stats;
use std::sync::Arc;

mod doubts;
mod members;
mod validate;

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

impl<K, V> Slot<K, V> {
    #[inline(always)]
    fn leave(&mut self, group: u32, end: Millis, reason: Reason) -> Left<K, V> {
        let (key, value) = (self.key.take(), self.value.take());
        Left { key, value, hash: self.hash, end, tag: self.terms.tag(), group, reason }
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

/// How an entry was of use that is no plain hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Within its freshness.
    Fresh,
    /// Past it.
    Stale,
    /// It says that there is nothing.
    Negative,
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

/// See the module.
#[derive(Debug)]
pub struct Table<K, V> {
    index: Index,
    slots: Chunks<Slot<K, V>>,
    nodes: Nodes,
    free: Chunks<u32>,
    wheel: Wheel,
    spans: Spans,
    groups: Groups,
    doubts: Doubts,
    alert: Arc<Alert>,
    /// False while no entry has to be asked anything but its deadline before it is served.
    asks: bool,
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
            free: Chunks::default(),
            wheel: Wheel::default(),
            spans: Spans::default(),
            groups,
            doubts: Doubts::default(),
            alert: Arc::default(),
            asks: false,
            uses: Uses::default(),
            counter: 0,
            work: Work::default(),
        }
    }

    /// Makes a further region with a bound and an order of its own.
    pub fn add_region(&mut self, bound: Capacity, eviction: Eviction) -> RegionId {
        self.groups.add_region(bound, eviction)
    }

    /// Has the negative entries of a region bounded apart from the others, from now on. Those that are there stay where they
    /// are.
    pub fn set_apart(&mut self, region: RegionId, bound: Capacity, eviction: Eviction) -> RegionId {
        self.settle();
        match self.apart(region) {
            None => self.groups.add_apart(region, bound, eviction),
            Some(apart) => {
                self.resize(apart, bound);
                if self.eviction(apart) != eviction {
                    self.reorder(apart, eviction);
                }
                apart
            }
        }
    }

    /// The region of a region's negative entries, if they have one.
    pub fn apart(&self, region: RegionId) -> Option<RegionId> {
        self.groups.regions[region.0 as usize].apart
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

    /// True if a region holds more than it may.
    pub fn is_over(&self, region: RegionId) -> bool {
        self.groups.regions[region.0 as usize].is_over()
    }

    /// Changes who leaves. Nothing is dropped; O(entries), so not for every day.
    pub fn reorder(&mut self, region: RegionId, eviction: Eviction) {
        self.settle();
        let (slots, spans) = (&self.slots, &self.spans);
        let arrival = |id: u32, worth: Worth| {
            let Slot { hash, terms, .. } = &slots[id];
            let deadline = if terms.has_span() { spans.get(id).expires } else { terms.deadline() };
            Arrival { hash: *hash, deadline, worth }
        };
        self.groups.reorder(&mut self.nodes, region, eviction, arrival);
    }

    /// Makes a region one of several that decide as one. A new order decides alone.
    pub fn steer(&mut self, region: RegionId, steering: Steering) {
        self.groups.regions[region.0 as usize].order.steer(steering);
    }

    /// The order in force in a region.
    pub fn eviction(&self, region: RegionId) -> Eviction {
        self.groups.regions[region.0 as usize].eviction
    }

    /// What the order in force in a region knows about itself.
    pub fn insight(&self, region: RegionId) -> Insight {
        self.groups.regions[region.0 as usize].order.insight()
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
        self.asks = true;
        let successor = self.groups.add(region);
        self.groups.get_mut(successor.slot).stats = stats;
        successor
    }

    /// Ends a group for good; its entries are forgotten in O(1). Gives what it had counted.
    pub fn end_group(&mut self, group: GroupId) -> Stats {
        self.settle();
        self.asks = true;
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
        (used && (self.target(target.id) == target || broken(Rule::StampsDiffer))).then_some(target.id)
    }

    /// The value of a slot if it may be served now; counts as a use, and as a hit of its group. `is_over` is asked only
    /// about a deadline that can come.
    #[inline(always)]
    pub fn read(&mut self, id: u32, is_over: impl FnOnce(Millis) -> bool) -> Option<Found<'_, V>> {
        let slot = &self.slots[id];
        let deadline = slot.terms.deadline().min(self.alert.limit());
        let over = deadline != NEVER && !broken(Rule::DeadlinesHold) && is_over(deadline);
        if over || (self.asks && !self.is_plain(id)) {
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

    /// As [`hit`](Self::hit), for those who take nothing past its freshness, whoever loads it anew.
    #[inline(always)]
    pub fn hit_fresh(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&K) -> bool,
        is_over: impl FnOnce(Millis) -> bool,
    ) -> Option<Found<'_, V>> {
        let id = self.find(hash, is_it)?;
        self.read_fresh(id, is_over)
    }

    /// As [`read`](Self::read), for them.
    #[inline(always)]
    pub fn read_fresh(&mut self, id: u32, is_over: impl FnOnce(Millis) -> bool) -> Option<Found<'_, V>> {
        if self.slots[id].terms.is_stale() { None } else { self.read(id, is_over) }
    }

    fn is_plain(&self, id: u32) -> bool {
        (self.is_alive_slot(id) || broken(Rule::ClearedIsGone)) && !self.doubts.concern(id)
    }

    /// True if the slot's entry has not been cleared with its group.
    pub fn is_alive_slot(&self, id: u32) -> bool {
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
        let mut rest = self.uses.noted();
        while let Some(&first) = rest.first() {
            let (slot, stale) = (self.nodes.group(first), self.slots[first].terms.is_stale());
            let alike = |id: u32| self.nodes.group(id) == slot && self.slots[id].terms.is_stale() == stale;
            let count = 1 + rest[1..].iter().take_while(|&&id| alike(id)).count();
            // What is apart is never a plain hit.
            debug_assert!(rest[..count].iter().all(|&id| !self.nodes.is_apart(id)));
            let group = self.groups.get_mut(slot);
            *(if stale { &mut group.stats.stale_hits } else { &mut group.stats.hits }) += count as u64;
            let region = group.region;
            let Region { order, eviction, .. } = &mut self.groups.regions[region.0 as usize];
            let (run, later) = rest.split_at(count);
            let hash_of = |id: u32| self.slots[id].hash;
            if eviction.counts_repeats() {
                order.hits(&mut self.nodes, run, &hash_of);
            } else {
                let (mut once, mut len, mut last) = ([0; Uses::MOST], 0, NIL);
                for &id in run {
                    once[len] = id;
                    len += usize::from(id != last);
                    last = id;
                }
                order.hits(&mut self.nodes, &once[..len], &hash_of);
                order.repeated((count - len) as u64);
            }
            rest = later;
        }
        self.uses.clear();
    }

    /// True if the slot's entry is a fresh value, and not in doubt.
    #[inline]
    pub fn is_served(&self, id: u32, is_over: impl FnOnce(Millis) -> bool) -> bool {
        !self.doubts.concern(id) && self.is_fresh(id, is_over)
    }

    /// True if the slot's entry is a fresh value by its own time.
    pub fn is_fresh(&self, id: u32, is_over: impl FnOnce(Millis) -> bool) -> bool {
        let end = self.span(id).fresh_until;
        self.is_alive_slot(id) && !self.slots[id].terms.is_negative() && (end == NEVER || !is_over(end))
    }

    /// Counts a use of an entry that is served though it is no plain hit.
    pub fn serve(&mut self, id: u32, how: Served) -> Option<Found<'_, V>> {
        self.settle();
        let group = self.groups.get_mut(self.nodes.group(id));
        *(match how {
            Served::Fresh => &mut group.stats.hits,
            Served::Stale => &mut group.stats.stale_hits,
            Served::Negative => &mut group.stats.negative_hits,
        }) += 1;
        let hash = self.slots[id].hash;
        self.groups.region_of(&self.nodes, id).order.hit(&mut self.nodes, id, &|_| hash);
        self.peek(id)
    }

    /// A slot's entry as a lookup sees it, `None` if its group is dead. Not a use.
    pub fn sight(&self, id: u32) -> Option<Sight> {
        let negative = self.slots[id].terms.is_negative();
        let sight = Sight { span: self.span(id), created: self.created(id), negative, flying: false };
        self.is_alive_slot(id).then_some(sight)
    }

    /// How often a slot was used of late, as its order counts that: 15 at most, the store of its first value included. Orders
    /// that do not go by frequency count nothing.
    pub fn uses(&mut self, id: u32) -> u8 {
        self.settle();
        self.nodes.mark(id).frequency()
    }

    /// The borders of an entry's life.
    #[inline]
    pub fn span(&self, id: u32) -> Span {
        let terms = self.slots[id].terms;
        if terms.has_span() { self.spans.get(id) } else { Span::until(terms.deadline()) }
    }

    /// The hash of a slot's key, and until when its hits need no second thought.
    pub fn plain(&self, id: u32) -> (u64, Millis) {
        (self.slots[id].hash, self.slots[id].terms.deadline())
    }

    /// Gives an entry's life other borders. Hits are plain before `plain_until`, and count as `how` says.
    pub fn set_span(&mut self, id: u32, span: Span, plain_until: Millis, how: Served) {
        self.settle();
        let before = self.span(id).expires;
        self.spans.set(id, span);
        let Slot { hash, terms, .. } = &mut self.slots[id];
        *terms = terms.spanned(plain_until, how);
        if span.expires != before {
            let arrival = Arrival { hash: *hash, deadline: span.expires, worth: self.nodes.worth(id) };
            self.wheel.cancel(&mut self.nodes, id);
            self.wheel.schedule(&mut self.nodes, id, span.expires);
            self.groups.change(&mut self.nodes, id, arrival);
        }
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

    /// When a slot's entry was stored.
    pub fn created(&self, id: u32) -> Millis {
        self.nodes.stamp(id).created()
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
            out.keep(Some(new.key), Some(new.value));
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
            return self.overwrite(id, Some(new.key), new.value, new.placement, now, out).then_some(id);
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

    /// Finds a new entry its slot: that of the last entry that leaves for it, or a free one. `None` if it is refused.
    #[inline(always)]
    fn place(&mut self, new: New<K, V>, now: Millis, out: &mut Discard<K, V>) -> Option<u32> {
        let (arrival, group) = (new.arrival(), new.placement.group.slot);
        let region = self.groups.region(group, self.groups.sets_apart(group, new.placement.negative));
        for _ in 0..EVICTIONS {
            let Region { load, bound, .. } = self.groups.regions[region.0 as usize];
            if load.leaves_room(bound, arrival.worth.weight()) {
                break;
            }
            if self.groups.is_too_heavy(region, arrival.worth) {
                return self.refuse(new, out);
            }
            match self.groups.choose(&mut self.nodes, region, &arrival) {
                Some(Choice::Evict(id)) => {
                    let after = load.without(self.nodes.worth(id));
                    if after.leaves_room(bound, arrival.worth.weight()) && self.nodes.group(id) == group {
                        self.take_over(id, new, arrival, now, out);
                        return Some(id);
                    }
                    self.remove(id, Reason::Evicted, out);
                }
                Some(Choice::Refuse) => return self.refuse(new, out),
                None => break,
            }
        }
        Some(self.occupy(new, arrival, now))
    }

    #[cold]
    fn refuse(&mut self, new: New<K, V>, out: &mut Discard<K, V>) -> Option<u32> {
        let New { hash, key, value, placement } = new;
        self.groups.get_mut(placement.group.slot).stats.refused += 1;
        let (end, tag, group) = (placement.terms.deadline(), placement.terms.tag(), placement.group.slot);
        out.push(Left { key: Some(key), value: Some(value), hash, end, tag, group, reason: Reason::Refused });
        None
    }

    #[inline]
    fn occupy(&mut self, new: New<K, V>, arrival: Arrival, now: Millis) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            self.nodes.push();
            self.slots.push(Slot::default())
        });
        let group = new.placement.group.slot;
        let apart = self.groups.sets_apart(group, new.placement.negative);
        self.groups.enter(&mut self.nodes, (group, apart), id, arrival);
        self.fill(id, new, now);
        id
    }

    /// Puts a new entry into a slot that is in no index and not in the wheel.
    #[inline(always)]
    fn fill(&mut self, id: u32, new: New<K, V>, now: Millis) {
        let New { hash, key, value, placement } = new;
        self.slots[id] = Slot { hash, terms: placement.terms, key: Some(key), value: Some(value) };
        self.doubts.forget(id);
        let slots = &self.slots;
        self.index.insert(hash, id, |other| slots[other].hash);
        self.wheel.schedule(&mut self.nodes, id, placement.terms.deadline());
        self.restamp(id, now);
    }

    /// The commonest store of all: one entry leaves for another, which takes over its slot and its place in the group.
    #[inline(always)]
    fn take_over(&mut self, id: u32, new: New<K, V>, arrival: Arrival, now: Millis, out: &mut Discard<K, V>) {
        self.work.touch();
        self.wheel.cancel(&mut self.nodes, id);
        let (end, slot) = (self.span(id).expires, &mut self.slots[id]);
        let old = slot.hash;
        self.index.remove(old, id);
        out.push(slot.leave(new.placement.group.slot, end, Reason::Evicted));
        self.groups.renew(&mut self.nodes, id, old, arrival);
        self.fill(id, new, now);
    }

    /// Puts a new value into a slot in use. It keeps its group unless that is dead; its stamp changes. `key` is the one
    /// the new value came with, if any: it leaves with the old value. False if the entry is gone instead: its owner is, or
    /// the value outweighs the bound.
    pub fn replace(
        &mut self,
        id: u32,
        key: Option<K>,
        value: V,
        placement: Placement,
        now: Millis,
        out: &mut Discard<K, V>,
    ) -> bool {
        if !self.is_alive(placement.group) {
            out.keep(key, Some(value));
            self.remove(id, Reason::Removed, out);
            return false;
        }
        self.work.begin();
        self.settle();
        self.tidy_but(Some(id), now, 8, out);
        self.work.touch();
        self.overwrite(id, key, value, placement, now, out)
    }

    /// False if the value is heavier than the bound: it is refused, and the one it was to replace is gone all the same.
    fn overwrite(
        &mut self,
        id: u32,
        key: Option<K>,
        value: V,
        placement: Placement,
        now: Millis,
        out: &mut Discard<K, V>,
    ) -> bool {
        let whose = (placement.group.slot, self.groups.sets_apart(placement.group.slot, placement.negative));
        let region = self.groups.region(whose.0, whose.1);
        if self.groups.is_too_heavy(region, placement.worth) {
            self.groups.get_mut(placement.group.slot).stats.refused += 1;
            out.keep(key, Some(value));
            self.remove(id, Reason::Removed, out);
            return false;
        }
        self.wheel.cancel(&mut self.nodes, id);
        let (group, end) = (self.nodes.group(id), self.span(id).expires);
        let Slot { hash, value: place, terms, .. } = &mut self.slots[id];
        let value = place.replace(value);
        out.push(Left { key, value, hash: *hash, end, tag: terms.tag(), group, reason: Reason::Replaced });
        *terms = placement.terms;
        self.doubts.forget(id);
        let arrival = Arrival { hash: *hash, deadline: terms.deadline(), worth: placement.worth };
        if (group, self.nodes.is_apart(id)) == whose {
            let order = &mut self.groups.region_of(&self.nodes, id).order;
            order.hit(&mut self.nodes, id, &|_| arrival.hash);
            self.groups.change(&mut self.nodes, id, arrival);
        } else {
            self.groups.leave(&mut self.nodes, id, None);
            self.groups.enter(&mut self.nodes, whose, id, arrival);
        }
        self.wheel.schedule(&mut self.nodes, id, arrival.deadline);
        self.restamp(id, now);
        self.trim(region, 8, out);
        true
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
                Reason::Refused | Reason::Cleared | Reason::Removed | Reason::Replaced | Reason::Unused => {}
            }
        }
        self.wheel.cancel(&mut self.nodes, id);
        let (end, slot) = (self.span(id).expires, &mut self.slots[id]);
        self.groups.leave(&mut self.nodes, id, (reason == Reason::Evicted).then_some(slot.hash));
        self.index.remove(slot.hash, id);
        out.push(slot.leave(group, end, reason));
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
        for spent in 0..budget {
            if let Some(id) = self.groups.corpse().filter(|&id| Some(id) != spared) {
                self.remove(id, Reason::Cleared, out);
            } else if let Some(id) = self.wheel.pop_due(&mut self.nodes) {
                let deadline = self.span(id).expires;
                if deadline <= now && Some(id) != spared {
                    self.remove(id, Reason::Expired, out);
                } else {
                    self.work.touch();
                    self.wheel.schedule(&mut self.nodes, id, deadline.max(now + 1));
                }
            } else {
                self.asks = self.groups.has_dead() || self.doubts.any();
                return spared.is_none() && self.trim_all(budget - spent, out);
            }
        }
        true
    }

    /// Evicts from regions that are over their bound, at most so many in all. True if one is still over.
    fn trim_all(&mut self, mut budget: u32, out: &mut Discard<K, V>) -> bool {
        (0..self.groups.regions.len() as u32).any(|region| {
            budget -= self.trim(RegionId(region), budget, out);
            budget == 0
        })
    }

    /// When there is something to tidy: 0 for at once, `None` for never.
    pub fn next_due(&self) -> Option<Millis> {
        if self.groups.corpse().is_some() || self.groups.is_over() { Some(0) } else { self.wheel.next_due() }
    }

    /// Evicts from a region that is over its bound, at most so many. Gives how many.
    fn trim(&mut self, region: RegionId, budget: u32, out: &mut Discard<K, V>) -> u32 {
        let nothing = Arrival { hash: 0, deadline: NEVER, worth: Worth::default() };
        for evicted in 0..budget {
            if !self.groups.regions[region.0 as usize].is_over() {
                return evicted;
            }
            let Some(Choice::Evict(id)) = self.groups.choose(&mut self.nodes, region, &nothing) else { return evicted };
            self.remove(id, Reason::Evicted, out);
        }
        budget
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
        (self.slots.len() as usize - self.free.len() as usize) - self.groups.buried() as usize
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What single operations have touched so far.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Bytes allocated for slots, records and index.
    pub fn allocated(&self) -> usize {
        let orders: usize = self.groups.regions.iter().map(|region| region.order.allocated()).sum();
        self.slots.allocated()
            + self.nodes.allocated()
            + self.index.allocated()
            + self.spans.allocated()
            + self.doubts.allocated()
            + self.free.allocated()
            + orders
    }
}
