//! W-TinyLFU with a window that is steered by hit density: where an entry's place earns more hits, there the room goes.
//!
//! After each period the hits per entry of the window and of the main part are compared, and the window grows or shrinks
//! by a fifth. Classic W-TinyLFU climbs along the hit ratio instead, which is noise where it changes by itself.

use super::segmented::{Rule, Segmented, Setting};
use super::{Arrival, Capacity, Choice, HashOf, Insight, Load, Order};
use crate::core::clock::Millis;
use crate::core::memory::{Nodes, Worth};

const START: Setting = Setting { name: "steered window", window: 0.02, rule: Rule::Contest };
const STEP: f64 = 1.2;
/// The window must earn twice as much: its entries are used while they are new.
const BIAS: f64 = 2.0;
const LEAST: f64 = 0.01;
const MOST: f64 = 0.9;

/// See the module.
#[derive(Debug)]
pub struct TinyLfu {
    parts: Segmented,
    uses: u32,
    /// Hits in the window and in the main part since the last look.
    hits: [u32; 2],
    /// Something had to leave since the last look: before that there is nothing to steer.
    full: bool,
}

impl TinyLfu {
    /// Empty.
    pub fn new(bound: Capacity) -> Self {
        TinyLfu { parts: Segmented::new(bound, START), uses: 0, hits: [0; 2], full: false }
    }

    fn count_use(&mut self) {
        self.uses += 1;
        if self.uses >= self.parts.load().entries.max(500) {
            self.uses = 0;
            let hits = std::mem::take(&mut self.hits).map(f64::from);
            // No hits are no evidence: a long scan must not push the main part out.
            if std::mem::take(&mut self.full) && hits != [0.0; 2] {
                self.steer(hits);
            }
        }
    }

    fn steer(&mut self, [window, main]: [f64; 2]) {
        let setting = self.parts.setting();
        let earns_more = window / setting.window >= BIAS * main / (1.0 - setting.window);
        let share = if earns_more { setting.window * STEP } else { setting.window / STEP };
        self.parts.set(Setting { window: share.clamp(LEAST, MOST), ..setting });
    }
}

impl Order for TinyLfu {
    fn insert(&mut self, nodes: &mut Nodes, id: u32, new: Arrival) {
        self.count_use();
        self.parts.insert(nodes, id, new);
    }

    fn hit(&mut self, nodes: &mut Nodes, id: u32, _: HashOf<'_>) {
        self.count_use();
        self.hits[usize::from(!self.parts.is_new(nodes, id))] += 1;
        self.parts.hit(nodes, id);
    }

    fn remove(&mut self, nodes: &mut Nodes, id: u32) {
        self.parts.remove(nodes, id);
    }

    fn choose(&mut self, nodes: &mut Nodes, new: &Arrival, is_mine: &dyn Fn(&Nodes, u32) -> bool) -> Option<Choice> {
        self.parts.choose(nodes, new, is_mine)
    }

    fn evicted(&mut self, nodes: &mut Nodes, id: u32, hash: u64) {
        self.full = true;
        self.parts.evicted(nodes, id, hash);
    }

    fn changed(&mut self, nodes: &mut Nodes, id: u32, _deadline: Millis, worth: Worth) {
        self.parts.changed(nodes, id, worth);
    }

    fn resized(&mut self, bound: Capacity) {
        self.parts.resize(bound);
    }

    fn insight(&self) -> Insight {
        Insight { setting: START.name, ..Insight::default() }
    }

    fn allocated(&self) -> usize {
        self.parts.allocated()
    }

    fn validate(&self, nodes: &Nodes, load: Load) -> Result<(), String> {
        self.parts.validate(nodes, load)
    }

    fn ids(&self, nodes: &Nodes) -> Vec<u32> {
        self.parts.ids(nodes)
    }
}
