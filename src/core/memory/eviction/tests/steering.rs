//! What `tinylfu` and `adaptive` make of traffic that was made to have one right answer.

use super::{Alone, spread};
use crate::core::clock::NEVER;
use crate::core::memory::eviction::segmented::{Rule, Segmented, Setting};
use crate::core::memory::eviction::{Arrival, Capacity, Choice, Eviction, Load, Order, Ranked};
use crate::core::memory::{Nodes, Worth, mix};
use std::collections::HashMap;

const ENTRIES: u32 = 1_000;

/// A cache of unit weights: lookups, and inserts after misses.
struct Cache {
    order: Box<dyn Order>,
    nodes: Nodes,
    most: u32,
    slots: HashMap<u32, u32>,
    keys: Vec<u32>,
    hits: u32,
    asked: u32,
}

impl Cache {
    fn new(order: Box<dyn Order>, most: u32) -> Self {
        let (slots, keys) = (HashMap::new(), Vec::new());
        Cache { order, nodes: Nodes::default(), most, slots, keys, hits: 0, asked: 0 }
    }

    fn named(eviction: Eviction) -> Self {
        Cache::new(eviction.order(Capacity::entries(ENTRIES)), ENTRIES)
    }

    fn ask(&mut self, key: u32) {
        self.asked += 1;
        if let Some(&id) = self.slots.get(&key) {
            self.hits += 1;
            return self.order.hit(&mut self.nodes, id, &|_| spread(key));
        }
        let new = Arrival { hash: spread(key), deadline: NEVER, worth: Worth::default() };
        let id = self.slot_for(&new);
        self.keys[id as usize] = key;
        self.slots.insert(key, id);
        self.order.insert(&mut self.nodes, id, new);
    }

    fn slot_for(&mut self, new: &Arrival) -> u32 {
        if (self.slots.len() as u32) < self.most {
            self.nodes.push();
            self.keys.push(0);
            return self.nodes.count() - 1;
        }
        let Some(Choice::Evict(id)) = self.order.choose(&mut self.nodes, new, &|_, _| true) else {
            panic!("a full cache")
        };
        let key = self.keys[id as usize];
        self.slots.remove(&key);
        self.order.evicted(&mut self.nodes, id, spread(key));
        id
    }

    fn ask_all(&mut self, keys: impl IntoIterator<Item = u32>) -> f64 {
        (self.hits, self.asked) = (0, 0);
        keys.into_iter().for_each(|key| self.ask(key));
        let held = self.slots.len() as u32;
        self.order.validate(&self.nodes, Load { entries: held, weight: u64::from(held) }).unwrap();
        f64::from(self.hits) / f64::from(self.asked)
    }

    fn window(&self) -> usize {
        self.order.ids(&self.nodes).iter().filter(|&&id| self.nodes.mark(id).segment() == 0).count()
    }
}

/// Every key twice: for the second time when so many others have come.
fn twice(keys: std::ops::Range<u32>, later: u32) -> impl Iterator<Item = u32> {
    let first = keys.start;
    keys.flat_map(move |key| [Some(key), (key >= first + later).then(|| key - later)]).flatten()
}

/// Draws keys by Zipf's law.
struct Zipf {
    sums: Vec<f64>,
    state: u64,
}

impl Zipf {
    fn new(keys: u32, exponent: f64, seed: u64) -> Self {
        let mut sum = 0.0;
        let add = |rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        };
        Zipf { sums: (1..=keys).map(add).collect(), state: seed }
    }

    fn draw(&mut self) -> u32 {
        self.state += 1;
        let random = (mix(mix(self.state, 1), 2) >> 11) as f64 / (1_u64 << 53) as f64;
        let at = random * self.sums[self.sums.len() - 1];
        self.sums.partition_point(|&sum| sum < at) as u32
    }

    fn draw_all(&mut self, count: u32) -> Vec<u32> {
        (0..count).map(|_| self.draw()).collect()
    }
}

#[test]
fn the_window_of_tinylfu_grows_where_only_new_entries_are_used() {
    let mut cache = Cache::named(Eviction::TinyLfu);
    cache.ask_all(twice(0..40_000, 5));
    assert_eq!(cache.window(), 900);
}

#[test]
fn the_window_of_tinylfu_shrinks_where_the_same_entries_are_used_over_and_over() {
    let mut cache = Cache::named(Eviction::TinyLfu);
    cache.ask_all(Zipf::new(20_000, 0.9, 1).draw_all(40_000));
    assert_eq!(cache.window(), 10);
}

#[test]
fn a_scan_that_hits_nothing_does_not_move_the_window_of_tinylfu_nor_empty_its_main_part() {
    let mut cache = Cache::named(Eviction::TinyLfu);
    cache.ask_all((0..20).flat_map(|_| 0..900));
    // The period in which the scan begins has hits still.
    cache.ask_all(1_000_000..1_001_000);
    let before = cache.window();
    cache.ask_all(1_001_000..1_040_000);
    assert_eq!(cache.window(), before);
    assert!(cache.ask_all(0..900) > 0.95);
}

#[test]
fn adaptive_becomes_lru_where_entries_come_back_while_they_are_recent_and_leaves_it_in_a_loop() {
    let mut cache = Cache::named(Eviction::Adaptive);
    let recency = cache.ask_all(twice(0..40_000, 400));
    let insight = cache.order.insight();
    assert_eq!(insight.setting, "window 98 %, everyone");
    assert!(insight.switches > 0 && recency > 0.4, "{recency}");
    let all = cache.slots.len();
    cache.ask_all((0..40).flat_map(|_| 1_000_000..1_001_500));
    let insight = cache.order.insight();
    assert_ne!(insight.setting, "window 98 %, everyone");
    assert_eq!(cache.slots.len(), all);
    let looping = cache.ask_all((0..10).flat_map(|_| 1_000_000..1_001_500));
    assert!(looping > 0.4, "{looping} of at most 0.67, under {insight:?}");
}

#[test]
fn a_change_of_setting_drops_nothing() {
    let (bound, nothing) = (Capacity::entries(ENTRIES), Rule::Contest);
    let setting = |window, rule| Setting { name: "tested", window, rule };
    let mut parts = Segmented::new(bound, setting(0.9, nothing));
    let mut nodes = Nodes::default();
    for id in 0..ENTRIES {
        nodes.push();
        parts.insert(&mut nodes, id, Arrival { hash: spread(id), deadline: NEVER, worth: Worth::default() });
    }
    for (window, rule) in [(0.01, Rule::Used), (0.98, Rule::Everyone), (0.3, Rule::Contest)] {
        parts.set(setting(window, rule));
        assert_eq!(parts.load(), Load { entries: ENTRIES, weight: u64::from(ENTRIES) });
    }
}

#[test]
fn adaptive_estimates_hit_ratios_within_two_points() {
    for (seed, exponent) in [(1, 0.7), (2, 0.9), (3, 1.1)] {
        let mut zipf = Zipf::new(10_000, exponent, seed << 32);
        let (warm, measured) = (zipf.draw_all(60_000), zipf.draw_all(60_000));
        let mut live = Cache::named(Eviction::Adaptive);
        live.ask_all(warm.iter().copied());
        let ratio = live.ask_all(measured.iter().copied());
        let insight = live.order.insight();
        for &(multiple, estimate) in &insight.curve {
            let most = (f64::from(ENTRIES) * multiple) as u32;
            let ratio = if multiple == 1.0 { ratio } else { of_size(most, insight.setting, &warm, &measured) };
            assert!(
                (ratio - estimate).abs() < 0.02,
                "{exponent} × {multiple}: {estimate:.3} for {ratio:.3}, {insight:?}"
            );
        }
        assert_eq!(insight.curve.len(), 3);
    }
}

/// What a cache of another size hits under the setting of that name.
fn of_size(most: u32, setting: &str, warm: &[u32], measured: &[u32]) -> f64 {
    let named = crate::core::memory::eviction::adaptive::SETTINGS.into_iter().find(|known| known.name == setting);
    let setting = named.expect("one of the five");
    let parts = Segmented::new(Capacity::entries(most), setting);
    let mut cache = Cache::new(Box::new(Alone(parts, setting)), most);
    cache.ask_all(warm.iter().copied());
    cache.ask_all(measured.iter().copied())
}

#[test]
fn a_sample_in_which_a_loop_fits_is_not_believed_for_long() {
    // First every key is asked for once more after most of a cache of others, so that the order of use is the best. Then
    // comes a loop that is a twentieth too long, and under that order never hits. In some samples it has so few keys that
    // it fits: there all orders seem to hit always, and none leads.
    let shares = (0..60).map(|sample| {
        let mut cache = Cache::named(Eviction::Adaptive);
        let keys = sample * 1_000_000..sample * 1_000_000 + ENTRIES + ENTRIES / 20;
        for key in keys.start + 100_000..keys.start + 130_000 {
            cache.ask(key);
            cache.ask(key - 450);
        }
        for round in 0..150 {
            (cache.hits, cache.asked) = if round == 50 { (0, 0) } else { (cache.hits, cache.asked) };
            keys.clone().for_each(|key| cache.ask(key));
        }
        f64::from(cache.hits) / f64::from(cache.asked)
    });
    let least = shares.fold(1.0, f64::min);
    assert!(least > 0.6, "{least}");
}
