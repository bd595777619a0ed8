//! Every order beside its slow model, call by call: the whole order must be the same after each.

mod models;
mod steering;
mod work;

use super::segmented::{Rule, Segmented, Setting};
use super::*;
use crate::core::clock::NEVER;
use crate::core::memory::mix;
use models::{ByDeadline, LfuWithAgeing, Model, Parts, Queue, TwoQueues};
use proptest::prelude::*;
use std::collections::HashMap;
use std::time::Duration;

/// Slots of another region, marked as in any main part: nobody may choose them.
const FOREIGN: u32 = 3;

/// A region as the table keeps one: slots, a bound and a load, and the calls to its order in the same sequence.
struct Region {
    order: Box<dyn Order>,
    model: Box<dyn Model>,
    nodes: Nodes,
    bound: Capacity,
    load: Load,
    slots: HashMap<u32, u32>,
    hashes: HashMap<u32, u64>,
    free: Vec<u32>,
    /// The most entries one choice has rearranged.
    moved_at_most: usize,
}

impl Region {
    fn new(order: Box<dyn Order>, model: Box<dyn Model>, bound: Capacity) -> Self {
        let mut nodes = Nodes::default();
        for id in 0..FOREIGN {
            nodes.push();
            nodes.set_group(id, 1, false);
            nodes.set_mark(id, Mark::new(1, 0, 0));
        }
        let (slots, hashes, free) = (HashMap::new(), HashMap::new(), Vec::new());
        Region { order, model, nodes, bound, load: Load::default(), slots, hashes, free, moved_at_most: 0 }
    }

    fn order_now(&self) -> Vec<(u8, u32)> {
        self.order.ids(&self.nodes).into_iter().map(|id| (self.nodes.mark(id).segment(), id)).collect()
    }

    /// All of them: who is moved by a choice is marked anew.
    fn marks(&self) -> Vec<Mark> {
        (0..self.nodes.count()).map(|id| self.nodes.mark(id)).collect()
    }

    fn check(&self) {
        self.order.validate(&self.nodes, self.load).unwrap();
        assert_eq!(self.order_now(), self.model.order());
        assert_eq!(self.load.entries as usize, self.slots.len());
        let weight: u64 = self.slots.values().map(|&id| self.nodes.worth(id).weight()).sum();
        assert_eq!(self.load.weight, weight);
    }

    fn choose(&mut self, new: &Arrival) -> Option<Choice> {
        let before = self.marks();
        let is_mine = |nodes: &Nodes, id: u32| nodes.group(id) == 0;
        let choice = self.order.choose(&mut self.nodes, new, &is_mine);
        assert_eq!(choice, self.model.choose(new, self.nodes.count()));
        self.check();
        let moved = before.into_iter().zip(self.marks()).filter(|(old, new)| old != new);
        self.moved_at_most = self.moved_at_most.max(moved.count());
        choice
    }

    /// As `Groups::enter` does.
    fn enter(&mut self, key: u32, id: u32, new: Arrival) {
        self.nodes.set_worth(id, new.worth);
        self.load.add(new.worth);
        self.order.insert(&mut self.nodes, id, new);
        self.model.insert(id, new);
        self.slots.insert(key, id);
        self.hashes.insert(id, new.hash);
        self.check();
    }

    /// As `Groups::leave` does. The slot can be used again.
    fn leave(&mut self, id: u32, chosen: bool) {
        self.load.sub(self.nodes.worth(id));
        if chosen {
            self.order.evicted(&mut self.nodes, id, self.hashes[&id]);
            self.model.evicted(id, self.hashes[&id]);
        } else {
            self.order.remove(&mut self.nodes, id);
            self.model.remove(id);
        }
        self.slots.retain(|_, slot| *slot != id);
        self.check();
    }

    fn evict(&mut self, id: u32) {
        self.leave(id, true);
        self.nodes.set_mark(id, Mark::FREE);
        self.free.push(id);
    }

    /// As the table does: the one who leaves gives up its slot if that is all it takes, else room is made.
    fn insert(&mut self, key: u32, new: Arrival) -> bool {
        if self.load.entries == self.bound.entries
            && self.load.weight.max(new.worth.weight()) <= self.bound.weight
            && let Some(Choice::Evict(id)) = self.choose(&new)
            && self.load.weight - self.nodes.worth(id).weight() + new.worth.weight() <= self.bound.weight
        {
            self.leave(id, true);
            self.enter(key, id, new);
            return true;
        }
        let has_room = self.make_room(&new);
        if has_room {
            let id = self.free.pop().unwrap_or_else(|| {
                self.nodes.push();
                self.nodes.count() - 1
            });
            self.nodes.set_group(id, 0, false);
            self.enter(key, id, new);
        }
        has_room
    }

    fn make_room(&mut self, new: &Arrival) -> bool {
        while !self.load.leaves_room(self.bound, new.worth.weight()) {
            if new.worth.weight() > self.bound.weight || self.bound.entries == 0 {
                return false;
            }
            match self.choose(new) {
                Some(Choice::Evict(id)) => self.evict(id),
                Some(Choice::Refuse) => return false,
                None => return true,
            }
        }
        true
    }

    fn hit(&mut self, id: u32) {
        self.order.hit(&mut self.nodes, id, &|id| self.hashes[&id]);
        self.model.hit(id);
        self.check();
    }

    /// As `Groups::change` does.
    fn change(&mut self, id: u32, deadline: Millis, worth: Worth) {
        self.load.sub(self.nodes.worth(id));
        self.load.add(worth);
        self.order.changed(&mut self.nodes, id, deadline, worth);
        self.model.changed(id, deadline, worth);
        self.nodes.set_worth(id, worth);
        self.check();
        self.trim();
    }

    fn resize(&mut self, bound: Capacity) {
        self.bound = bound;
        self.order.resized(bound);
        self.model.resized(bound);
        self.check();
        self.trim();
    }

    fn trim(&mut self) {
        let nothing = Arrival { hash: 0, deadline: NEVER, worth: Worth::default() };
        while self.load.entries > self.bound.entries || self.load.weight > self.bound.weight {
            let Some(Choice::Evict(id)) = self.choose(&nothing) else { panic!("over the bound, and nobody leaves") };
            self.evict(id);
        }
    }

    /// A lookup, and an insert after a miss. True if it was a hit.
    fn ask(&mut self, key: u32, new: Arrival) -> bool {
        if let Some(&id) = self.slots.get(&key) {
            self.hit(id);
            return true;
        }
        self.insert(key, new);
        false
    }

    fn take(&mut self, step: &Step, hash_of: fn(u32) -> u64) {
        let id = self.slots.get(&step.key()).copied();
        match (step, id) {
            (&Step::Ask(key, deadline, worth), _) => {
                self.ask(key, Arrival { hash: hash_of(key), deadline, worth });
            }
            (Step::Replace(_, deadline, worth), Some(id)) => {
                self.hit(id);
                self.change(id, *deadline, *worth);
            }
            (Step::Touch(_, deadline), Some(id)) => self.change(id, *deadline, self.nodes.worth(id)),
            (Step::Remove(_), Some(id)) => {
                self.leave(id, false);
                self.nodes.set_mark(id, Mark::FREE);
                self.free.push(id);
            }
            (Step::Resize(bound), _) => self.resize(*bound),
            _ => {}
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask(u32, Millis, Worth),
    Replace(u32, Millis, Worth),
    Touch(u32, Millis),
    Remove(u32),
    Resize(Capacity),
}

impl Step {
    fn key(&self) -> u32 {
        match *self {
            Step::Ask(key, ..) | Step::Replace(key, ..) | Step::Touch(key, _) | Step::Remove(key) => key,
            Step::Resize(_) => u32::MAX,
        }
    }
}

const KEYS: u32 = 60;

fn deadline() -> impl Strategy<Value = Millis> {
    // Few of them, so that many are the same.
    prop_oneof![3 => 1..12_u64, 1 => Just(NEVER)]
}

fn worth() -> impl Strategy<Value = Worth> {
    let weight = prop_oneof![Just(0), Just(1), 1..40_u64, 1..700_u64, Just(u64::MAX)];
    (weight, 0..30_u32).prop_map(|(weight, bits)| Worth::new(weight, Duration::from_micros(1 << bits)))
}

fn bound() -> impl Strategy<Value = Capacity> {
    let weight = prop_oneof![Just(u64::MAX), 1..2_000_u64];
    (1..40_u32, weight).prop_map(|(entries, weight)| Capacity { entries, weight })
}

fn step() -> impl Strategy<Value = Step> {
    // Some keys are asked for far more often than others.
    let key = prop_oneof![0..KEYS, 0..KEYS / 4];
    prop_oneof![
        20 => (key.clone(), deadline(), worth()).prop_map(|(k, d, w)| Step::Ask(k, d, w)),
        2 => (key.clone(), deadline(), worth()).prop_map(|(k, d, w)| Step::Replace(k, d, w)),
        1 => (key.clone(), deadline()).prop_map(|(k, d)| Step::Touch(k, d)),
        1 => key.prop_map(Step::Remove),
        1 => bound().prop_map(Step::Resize),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..400)
}

fn spread(key: u32) -> u64 {
    mix(u64::from(key) + 1, 0x7E57)
}

/// Hashes of crafted keys: none differ in the high half, or in the low one, where the ghosts have their buckets.
fn hashes() -> impl Strategy<Value = fn(u32) -> u64> {
    let low: fn(u32) -> u64 = |key| 0xABCD_EF01 << 32 | u64::from(key + 1) << 24;
    let high: fn(u32) -> u64 = |key| u64::from(key + 1) << 52 | 0x1234_5678;
    prop::sample::select(vec![spread, low, high])
}

/// Tells how many entries one choice has moved at most.
fn run(
    order: Box<dyn Order>,
    model: Box<dyn Model>,
    bound: Capacity,
    steps: &[Step],
    hash_of: fn(u32) -> u64,
) -> usize {
    let mut region = Region::new(order, model, bound);
    steps.iter().for_each(|step| region.take(step, hash_of));
    region.moved_at_most
}

/// The segmented structure alone, as an order. With each change of bound the two settings take turns.
#[derive(Debug)]
struct Alone(Segmented, Setting);

impl Order for Alone {
    fn insert(&mut self, nodes: &mut Nodes, id: u32, new: Arrival) {
        self.0.insert(nodes, id, new);
    }

    fn hit(&mut self, nodes: &mut Nodes, id: u32, _: HashOf<'_>) {
        self.0.hit(nodes, id);
    }

    fn remove(&mut self, nodes: &mut Nodes, id: u32) {
        self.0.remove(nodes, id);
    }

    fn choose(&mut self, nodes: &mut Nodes, new: &Arrival, is_mine: &dyn Fn(&Nodes, u32) -> bool) -> Option<Choice> {
        self.0.choose(nodes, new, is_mine)
    }

    fn evicted(&mut self, nodes: &mut Nodes, id: u32, hash: u64) {
        self.0.evicted(nodes, id, hash);
    }

    fn changed(&mut self, nodes: &mut Nodes, id: u32, _deadline: Millis, worth: Worth) {
        self.0.changed(nodes, id, worth);
    }

    fn resized(&mut self, bound: Capacity) {
        self.0.resize(bound);
        let setting = std::mem::replace(&mut self.1, self.0.setting());
        self.0.set(setting);
    }

    fn validate(&self, nodes: &Nodes, load: Load) -> Result<(), String> {
        self.0.validate(nodes, load)
    }

    fn ids(&self, nodes: &Nodes) -> Vec<u32> {
        self.0.ids(nodes)
    }
}

fn setting() -> impl Strategy<Value = Setting> {
    let rule = prop::sample::select(vec![Rule::Used, Rule::Contest, Rule::Everyone]);
    let window = prop::sample::select(vec![0.01, 0.02, 0.1, 0.3, 0.4, 0.9, 0.98]);
    (window, rule).prop_map(|(window, rule)| Setting { name: "tested", window, rule })
}

proptest! {
    // Every call is checked, so a case is hundreds of checks.
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn lru_lets_the_least_recently_used_leave(bound in bound(), steps in steps(), hash_of in hashes()) {
        let moved = run(Eviction::Lru.order(bound), Box::new(Queue::of_use()), bound, &steps, hash_of);
        prop_assert_eq!(moved, 0);
    }

    #[test]
    fn fifo_lets_the_oldest_leave(bound in bound(), steps in steps(), hash_of in hashes()) {
        let moved = run(Eviction::Fifo.order(bound), Box::new(Queue::default()), bound, &steps, hash_of);
        prop_assert_eq!(moved, 0);
    }

    #[test]
    fn lfu_lets_the_least_frequently_used_leave_and_ages(bound in bound(), steps in steps(), hash_of in hashes()) {
        let moved = run(Eviction::Lfu.order(bound), Box::new(LfuWithAgeing::default()), bound, &steps, hash_of);
        prop_assert_eq!(moved, 0);
    }

    #[test]
    fn ttl_lets_the_soonest_to_expire_leave_and_then_the_first_that_came(bound in bound(), steps in steps(), hash_of in hashes()) {
        let moved = run(Eviction::Ttl.order(bound), Box::new(ByDeadline::default()), bound, &steps, hash_of);
        prop_assert_eq!(moved, 0);
    }

    #[test]
    fn s3fifo_has_the_queues_and_ghosts_of_the_paper(bound in bound(), steps in steps(), hash_of in hashes()) {
        let moved = run(Eviction::S3Fifo.order(bound), Box::new(TwoQueues::new(bound)), bound, &steps, hash_of);
        prop_assert!(moved <= 48);
    }

    #[test]
    fn the_segmented_parts_follow_their_rule(bound in bound(), a in setting(), b in setting(), steps in steps(), hash_of in hashes()) {
        let order = Box::new(Alone(Segmented::new(bound, a), b));
        let moved = run(order, Box::new(Parts::new(bound, [a, b])), bound, &steps, hash_of);
        prop_assert!(moved <= 17);
    }

    #[test]
    fn entries_of_one_hash_are_one_ghost_to_the_segmented_parts(bound in bound(), a in setting(), b in setting(), steps in steps()) {
        let order = Box::new(Alone(Segmented::new(bound, a), b));
        let hash_of = |_| 42;
        let moved = run(order, Box::new(Parts::new(bound, [a, b])), bound, &steps, hash_of);
        prop_assert!(moved <= 17);
    }
}

#[test]
fn a_heavy_newcomer_used_more_often_than_can_be_counted_still_ranks_highest() {
    let bound = Capacity { entries: 100, weight: 1_000 };
    let setting = Setting { name: "tested", window: 0.1, rule: Rule::Contest };
    let order = Box::new(Alone(Segmented::new(bound, setting), setting));
    let mut region = Region::new(order, Box::new(Parts::new(bound, [setting; 2])), bound);
    let of_weight =
        |weight, key| Arrival { hash: spread(key), deadline: NEVER, worth: Worth::new(weight, Duration::ZERO) };
    region.insert(0, of_weight(200, 0));
    (0..20).for_each(|_| region.hit(region.slots[&0]));
    (1..9).for_each(|key| assert!(!region.ask(key, of_weight(100, key))));
    region.leave(region.slots[&0], true);
    assert!(!region.ask(9, of_weight(200, 9)));
    assert!(region.insert(0, of_weight(200, 0)), "it is known to be used 15 times, the others once");
}

#[test]
fn an_eviction_of_s3fifo_moves_48_entries_and_then_the_next_one_leaves() {
    let bound = Capacity::entries(100);
    let (mut order, mut nodes) = (Eviction::S3Fifo.order(bound), Nodes::default());
    let new = |id| Arrival { hash: spread(id), deadline: NEVER, worth: Worth::default() };
    for id in 0..100 {
        nodes.push();
        order.insert(&mut nodes, id, new(id));
        (0..3).for_each(|_| order.hit(&mut nodes, id, &|id| spread(id)));
    }
    let before = order.ids(&nodes);
    // The small queue has the first ten; they go to main, as have done all that came after them.
    assert_eq!(before, (0..100).collect::<Vec<u32>>());
    assert_eq!(order.choose(&mut nodes, &new(100), &|_, _| true), Some(Choice::Evict(48)));
    let after: Vec<u32> = (48..100).chain(0..48).collect();
    assert_eq!(order.ids(&nodes), after);
    order.validate(&nodes, Load { entries: 100, weight: 100 }).unwrap();
}
