//! How many entries one call to the segmented parts looks at and moves, whatever the traffic.

use crate::core::clock::NEVER;
use crate::core::memory::eviction::segmented::{Rule, Segmented, Setting};
use crate::core::memory::eviction::{Arrival, Capacity, Choice, Mark, Ranked};
use crate::core::memory::lists::{Linked, Links, RECENCY};
use crate::core::memory::{Nodes, Worth};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// Nodes that note whose worth or mark was read, and how often one was marked.
#[derive(Default)]
struct Counted {
    nodes: Nodes,
    looked_at: RefCell<BTreeSet<u32>>,
    marked: u32,
}

impl Linked<RECENCY> for Counted {
    fn links(&self, id: u32) -> &Links {
        Linked::<RECENCY>::links(&self.nodes, id)
    }

    fn links_mut(&mut self, id: u32) -> &mut Links {
        Linked::<RECENCY>::links_mut(&mut self.nodes, id)
    }
}

impl Ranked for Counted {
    fn count(&self) -> u32 {
        self.nodes.count()
    }

    fn mark(&self, id: u32) -> Mark {
        self.looked_at.borrow_mut().insert(id);
        self.nodes.mark(id)
    }

    fn set_mark(&mut self, id: u32, mark: Mark) {
        self.marked += 1;
        self.nodes.set_mark(id, mark);
    }

    fn worth(&self, id: u32) -> Worth {
        self.looked_at.borrow_mut().insert(id);
        self.nodes.worth(id)
    }
}

/// A cache of a thousand slots, one a key.
struct Cache {
    parts: Segmented,
    nodes: Counted,
    bound: Capacity,
    hashes: HashMap<u32, u64>,
    looked_at_most: usize,
    moved_at_most: u32,
}

const SLOTS: u32 = 1_000;

impl Cache {
    fn new(bound: Capacity, setting: Setting) -> Self {
        let mut nodes = Counted::default();
        for id in 0..SLOTS {
            nodes.nodes.push();
            nodes.nodes.set_mark(id, Mark::FREE);
        }
        let parts = Segmented::new(bound, setting);
        Cache { parts, nodes, bound, hashes: HashMap::new(), looked_at_most: 0, moved_at_most: 0 }
    }

    /// One call.
    fn call<T>(&mut self, call: impl FnOnce(&mut Segmented, &mut Counted) -> T) -> T {
        (self.nodes.looked_at, self.nodes.marked) = Default::default();
        let result = call(&mut self.parts, &mut self.nodes);
        self.looked_at_most = self.looked_at_most.max(self.nodes.looked_at.borrow().len());
        // Who is moved is marked when it is taken out and when it is put back.
        self.moved_at_most = self.moved_at_most.max(self.nodes.marked.div_ceil(2));
        result
    }

    fn ask(&mut self, id: u32, hash: u64, worth: Worth) {
        if self.hashes.contains_key(&id) {
            return self.call(|parts, nodes| parts.hit(nodes, id));
        }
        let new = Arrival { hash, deadline: NEVER, worth };
        while !self.parts.load().leaves_room(self.bound, worth.weight()) {
            if worth.weight() > self.bound.weight || !self.evict(&new) {
                return;
            }
        }
        self.nodes.nodes.set_worth(id, worth);
        self.call(|parts, nodes| parts.insert(nodes, id, new));
        self.hashes.insert(id, hash);
    }

    fn evict(&mut self, new: &Arrival) -> bool {
        let choice = self.call(|parts, nodes| parts.choose(nodes, new, &|_, _| true));
        let Some(Choice::Evict(id)) = choice else { return false };
        let hash = self.hashes.remove(&id).expect("only who is there can leave");
        self.call(|parts, nodes| parts.evicted(nodes, id, hash));
        true
    }

    fn resize(&mut self, bound: Capacity, setting: Setting) {
        self.bound = bound;
        self.call(|parts, _| parts.resize(bound));
        self.parts.set(setting);
    }
}

fn setting() -> impl Strategy<Value = Setting> {
    let rule = prop::sample::select(vec![Rule::Used, Rule::Contest, Rule::Everyone]);
    (prop::sample::select(vec![0.01, 0.4, 0.98]), rule).prop_map(|(window, rule)| Setting {
        name: "tested",
        window,
        rule,
    })
}

fn bound() -> impl Strategy<Value = Capacity> {
    let entries = prop_oneof![Just(1), 2..20_u32, Just(SLOTS)];
    let weight = prop_oneof![Just(u64::MAX), Just(1), 1_000..100_000_u64];
    (entries, weight).prop_map(|(entries, weight)| Capacity { entries, weight })
}

/// A bound, a setting, and requests by slot and weight; half of them of the same few, so that everybody has earned something.
type Phase = (Capacity, Setting, Vec<(u32, u64)>);

fn phases() -> impl Strategy<Value = Vec<Phase>> {
    let weight = prop_oneof![Just(0), 1..200_u64, Just(u64::MAX)];
    let asked = prop::collection::vec((prop_oneof![0..SLOTS, 0..30_u32], weight), 100..1_500);
    prop::collection::vec((bound(), setting(), asked), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn no_call_looks_at_more_than_64_entries_or_moves_more_than_17(phases in phases(), same_bucket in any::<bool>()) {
        let mut cache = Cache::new(phases[0].0, phases[0].1);
        for (bound, setting, asked) in phases {
            cache.resize(bound, setting);
            for (id, weight) in asked {
                let hash = if same_bucket { u64::from(id) << 52 } else { u64::from(id) << 22 };
                cache.ask(id, hash, Worth::new(weight, Duration::from_micros(u64::from(id))));
            }
        }
        prop_assert!(cache.moved_at_most <= 17, "moved {}", cache.moved_at_most);
        prop_assert!(cache.looked_at_most <= 64, "looked at {}", cache.looked_at_most);
    }
}
