//! The default: whichever of five settings hits most on the traffic there is.
//!
//! No fixed rule is safe: each of the well-known ones loses dozens of points on some real trace. So five shadows, each
//! under its own setting, see a sample of the keys; when one leads the setting in force by a point, the live cache takes
//! it: borders move, nothing is dropped. Two more shadows, of half and double the size, give points of the miss-ratio
//! curve. The shadows begin once the cache has filled a little, and look away while there are hardly any misses to save.

use super::segmented::{Rule, Segmented, Setting};
use super::shadow::Shadow;
use super::{Arrival, Capacity, Choice, HashOf, Insight, Load, Order, Ranked, Steering};
use crate::core::clock::Millis;
use crate::core::memory::{Nodes, Worth};

/// The first is the one to begin with.
pub(super) const SETTINGS: [Setting; 5] = [
    Setting { name: "window 10 %, used", window: 0.10, rule: Rule::Used },
    Setting { name: "window 40 %, used", window: 0.40, rule: Rule::Used },
    Setting { name: "window 1 %, contest", window: 0.01, rule: Rule::Contest },
    Setting { name: "window 30 %, contest", window: 0.30, rule: Rule::Contest },
    Setting { name: "window 98 %, everyone", window: 0.98, rule: Rule::Everyone },
];
/// Sizes of the shadows that give the curve, as multiples of the cache's.
const CURVE: [f64; 2] = [0.5, 2.0];
/// A shadow holds a sample of so many entries, or all of a smaller cache: with their indexes and ghosts, 64 kB a cache.
const SHADOW: u32 = 256;
/// As many hashes a key is sampled by.
const HASHES: f64 = (1 << 24) as f64;
/// So full must a cache be for its shadows to be made: what they stand for is estimated from what has come.
const BEGIN: f64 = 0.1;
/// Where weights bind, there may come to be so many times as many entries as the first let one expect: the light ones stay.
const SPARE: f64 = 1.5;
/// Sampled requests between two judgements, at least.
const PERIOD: u32 = 1_000;
/// A setting must lead by this much hit ratio.
const LEAD: f64 = 0.01;
/// What the live cache hits may be so much less than the shadow of its setting promised; beyond, that shadow is doubted. A loop
/// just longer than the cache fits it in a sample that has a few of its keys too few.
const DOUBT: f64 = 0.1;
/// After so many judgements the live cache has taken the form of its setting,
const SETTLED: u32 = 2;
/// and so much of a doubt is left after each judgement under another.
const DOUBT_MEMORY: f64 = 0.97;
/// How much of a score is the previous one.
const MEMORY: f64 = 0.5;
/// The same for estimates that are only looked at.
const LONG_MEMORY: f64 = 0.7;
/// A period of so many requests is paid for by one miss: from a miss ratio of an eighth on the shadows watch all the time,
const WORTH_WATCHING: u64 = 8;
/// but after so many judgements that changed nothing they rest,
const CALM: u32 = 12;
/// for so many times the misses of a period.
const REST: u64 = 3;

/// See the module.
#[derive(Debug)]
pub struct Adaptive {
    parts: Segmented,
    bound: Capacity,
    /// True while hits have to be shown to the shadows.
    awake: bool,
    shadows: Option<Box<Shadows>>,
    current: usize,
    switches: u64,
    steering: Steering,
}

#[derive(Debug)]
struct Shadows {
    settings: [Shadow; SETTINGS.len()],
    curve: [Shadow; CURVE.len()],
    /// Keys are sampled whose 24 bits of hash are below this.
    limit: u64,
    /// The population they were made for.
    population: u32,
    seen: Load,
    /// Requests of the live cache in this period, sampled or not, and how many of them missed.
    asked: u64,
    missed: u64,
    /// What the live cache hits.
    live: Ratio,
    /// So many misses must still pay for the last period before the next begins.
    owed: u64,
    /// Judgements since the setting changed.
    calm: u32,
    scores: [Score; SETTINGS.len()],
    /// By how much more than the live cache then hit each promised when it was in force.
    doubts: [f64; SETTINGS.len()],
    points: [Score; CURVE.len()],
}

/// What a shadow hits: requests, and their weight. Where all weigh the same, that is one number.
#[derive(Clone, Copy, Debug, Default)]
struct Score {
    hits: Ratio,
    weight: Ratio,
    /// Hits over more periods, for those who want to know; what is steered by must not lag.
    estimate: Ratio,
}

impl Score {
    /// A setting that saves bytes as well is the better one.
    fn merit(self) -> f64 {
        (self.hits.0.unwrap_or(0.0) + self.weight.0.unwrap_or(0.0)) / 2.0
    }
}

/// A ratio, older periods counting half as much each.
#[derive(Clone, Copy, Debug, Default)]
struct Ratio(Option<f64>);

impl Ratio {
    fn note(&mut self, ratio: f64, memory: f64) {
        self.0 = Some(self.0.map_or(ratio, |old| memory * old + (1.0 - memory) * ratio));
    }
}

impl Shadows {
    fn new(bound: Capacity, population: u32, current: Setting) -> Self {
        let limit = ((f64::from(SHADOW) / f64::from(population)).min(1.0) * HASHES).ceil();
        let rate = limit / HASHES;
        let sized = |multiple: f64| Capacity {
            entries: ((f64::from(bound.entries.min(population)) * multiple * rate).round() as u32).max(1),
            weight: if bound.weight == u64::MAX { u64::MAX } else { (bound.weight as f64 * multiple * rate) as u64 },
        };
        Shadows {
            settings: SETTINGS.map(|setting| Shadow::new(sized(1.0), setting)),
            curve: CURVE.map(|multiple| Shadow::new(sized(multiple), current)),
            limit: limit as u64,
            population,
            seen: Load::default(),
            asked: 0,
            missed: 0,
            live: Ratio::default(),
            owed: 0,
            calm: 0,
            scores: Default::default(),
            doubts: Default::default(),
            points: Default::default(),
        }
    }

    /// Shows a request to the shadows; true when it is time to judge.
    fn see(&mut self, hash: u64, worth: Worth) -> bool {
        // Other bits than the table's and the ghosts'.
        let own = (hash ^ hash >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        if own >> 40 >= self.limit {
            return false;
        }
        for shadow in self.settings.iter_mut().chain(&mut self.curve) {
            shadow.access(own as u32, worth);
        }
        self.seen.add(worth);
        self.seen.entries >= PERIOD
    }

    /// Ends a period: the best setting, if it leads the current one.
    fn judge(&mut self, current: usize) -> Option<usize> {
        let seen = std::mem::take(&mut self.seen);
        let (asked, missed) = (std::mem::take(&mut self.asked) as f64, std::mem::take(&mut self.missed) as f64);
        let live = 1.0 - missed / asked;
        self.live.note(live, LONG_MEMORY);
        let due = asked * self.limit as f64 / HASHES;
        self.doubts.iter_mut().for_each(|doubt| *doubt *= DOUBT_MEMORY);
        if self.calm >= SETTLED {
            let missed = seen.entries - self.settings[current].hits().entries;
            self.doubts[current] = (1.0 - f64::from(missed) / due - live - DOUBT).max(0.0);
        }
        let all = self.settings.iter_mut().chain(&mut self.curve).zip(self.scores.iter_mut().chain(&mut self.points));
        for (shadow, score) in all {
            let hits = shadow.take_hits();
            score.hits.note(f64::from(hits.entries) / f64::from(seen.entries), MEMORY);
            score.weight.note(hits.weight as f64 / seen.weight as f64, MEMORY);
            // A few hot keys are in the sample or not, and hit either way: so misses are compared with as many requests
            // as should have been sampled, not with those that were (SHARDS-adj, Waldspurger et al., FAST '15).
            let missed = f64::from(seen.entries - hits.entries) / due;
            score.estimate.note((1.0 - missed).max(0.0), LONG_MEMORY);
        }
        let mut scores = self.scores.map(Score::merit);
        scores.iter_mut().zip(&self.doubts).for_each(|(score, doubt)| *score -= doubt);
        let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]))?;
        (scores[best] > scores[current] + LEAD).then_some(best)
    }

    fn allocated(&self) -> usize {
        let shadows = self.settings.iter().chain(&self.curve);
        size_of::<Self>() + shadows.map(Shadow::allocated).sum::<usize>()
    }
}

impl Adaptive {
    /// Empty.
    pub fn new(bound: Capacity) -> Self {
        let parts = Segmented::new(bound, SETTINGS[0]);
        Adaptive { parts, bound, awake: false, shadows: None, current: 0, switches: 0, steering: Steering::Alone }
    }

    #[cold]
    fn watch(&mut self, hash: u64, worth: Worth, missed: bool) {
        let Some(shadows) = &mut self.shadows else { return };
        shadows.asked += 1;
        shadows.missed += u64::from(missed);
        if !shadows.see(hash, worth) {
            return;
        }
        let (asked, missed) = (shadows.asked, shadows.missed);
        let best = shadows.judge(self.current);
        shadows.calm = if best.is_some() { 0 } else { shadows.calm + 1 };
        if let Some(best) = best {
            self.current = best;
            self.switches += 1;
            self.parts.set(SETTINGS[best]);
            self.steering.tell(best as u64);
            shadows.curve.iter_mut().for_each(|shadow| shadow.set(SETTINGS[best]));
        }
        let price = asked / WORTH_WATCHING;
        let rest = if shadows.calm >= CALM { REST * missed } else { 0 };
        shadows.owed = rest.max(if missed >= price { 0 } else { price });
        self.awake = shadows.owed == 0;
    }

    /// What the shadows do about an insert: they are made, made anew, woken up, or just counted on. Who follows has none.
    fn attend(&mut self) {
        if let Some(told) = self.steering.told() {
            return self.follow(told as usize);
        }
        let load = self.parts.load();
        let Some(shadows) = &mut self.shadows else {
            let filled = self.filled(load);
            if filled >= BEGIN {
                let spare = if self.bound.weight == u64::MAX { 1.0 } else { SPARE };
                let population = (f64::from(load.entries) / filled * spare).ceil() as u32;
                let shadows = Shadows::new(self.bound, population, SETTINGS[self.current]);
                (self.shadows, self.awake) = (Some(Box::new(shadows)), true);
            }
            return;
        };
        if load.entries > shadows.population || (self.bound.weight != u64::MAX && load.entries < shadows.population / 8)
        {
            self.shadows = None;
            self.awake = false;
        } else if !self.awake {
            shadows.owed -= 1;
            self.awake = shadows.owed == 0;
        }
    }

    fn follow(&mut self, setting: usize) {
        if setting != self.current {
            (self.current, self.switches) = (setting, self.switches + 1);
            self.parts.set(SETTINGS[setting]);
        }
    }

    /// How full the cache is, 0 to 1.
    fn filled(&self, load: Load) -> f64 {
        let entries = f64::from(load.entries) / f64::from(self.bound.entries.max(1));
        entries.max(load.weight as f64 / self.bound.weight as f64)
    }
}

impl Order for Adaptive {
    fn insert(&mut self, nodes: &mut Nodes, id: u32, new: Arrival) {
        self.attend();
        if self.awake {
            self.watch(new.hash, new.worth, true);
        }
        self.parts.insert(nodes, id, new);
    }

    #[inline(always)]
    fn hit(&mut self, nodes: &mut Nodes, id: u32, hash_of: HashOf<'_>) {
        if self.awake {
            self.watch(hash_of(id), nodes.worth(id), false);
        }
        self.parts.hit(nodes, id);
    }

    fn repeated(&mut self, count: u64) {
        if let Some(shadows) = self.shadows.as_mut().filter(|_| self.awake) {
            shadows.asked += count;
        }
    }

    fn remove(&mut self, nodes: &mut Nodes, id: u32) {
        self.parts.remove(nodes, id);
    }

    fn choose(&mut self, nodes: &mut Nodes, new: &Arrival, is_mine: &dyn Fn(&Nodes, u32) -> bool) -> Option<Choice> {
        self.parts.choose(nodes, new, is_mine)
    }

    fn evicted(&mut self, nodes: &mut Nodes, id: u32, hash: u64) {
        self.parts.evicted(nodes, id, hash);
    }

    fn changed(&mut self, nodes: &mut Nodes, id: u32, _deadline: Millis, worth: Worth) {
        self.parts.changed(nodes, id, worth);
    }

    fn resized(&mut self, bound: Capacity) {
        self.bound = bound;
        self.parts.resize(bound);
        (self.shadows, self.awake) = (None, false);
    }

    fn steer(&mut self, steering: Steering) {
        steering.tell(self.current as u64);
        self.steering = steering;
    }

    fn insight(&self) -> Insight {
        let setting = SETTINGS[self.current].name;
        let Some(shadows) = &self.shadows else { return Insight { setting, ..Insight::default() } };
        // The shadow of what is in force errs as the others do, all seeing the same sample: by so much they are put right.
        let (live, here) = (shadows.live.0, shadows.scores[self.current].estimate.0);
        let known = |score: &Score| Some((score.estimate.0? - here? + live?).clamp(0.0, 1.0));
        let settings = SETTINGS.iter().zip(&shadows.scores);
        let curve = CURVE.iter().zip(&shadows.points).filter_map(|(at, score)| Some((*at, known(score)?)));
        let mut curve: Vec<(f64, f64)> = curve.chain(live.map(|ratio| (1.0, ratio))).collect();
        curve.sort_by(|a, b| a.0.total_cmp(&b.0));
        Insight {
            setting,
            switches: self.switches,
            settings: settings.filter_map(|(setting, score)| Some((setting.name, known(score)?))).collect(),
            curve,
        }
    }

    fn allocated(&self) -> usize {
        self.parts.allocated() + self.shadows.as_ref().map_or(0, |shadows| shadows.allocated())
    }

    fn validate(&self, nodes: &Nodes, load: Load) -> Result<(), String> {
        self.parts.validate(nodes, load)
    }

    fn ids(&self, nodes: &Nodes) -> Vec<u32> {
        self.parts.ids(nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::clock::NEVER;
    use crate::core::memory::mix;

    /// The bytes of the shadows once eight times as many entries came as `bound` has room for, the later ones lighter.
    fn taken(bound: Capacity, weight: impl Fn(u64) -> u64) -> usize {
        let (mut nodes, mut order, mut free) = (Nodes::default(), Adaptive::new(bound), Vec::new());
        for n in 0..u64::from(bound.entries.min(100_000)) * 8 {
            let worth = Worth::default().weighing(weight(n));
            let new = Arrival { hash: mix(n, 7), deadline: NEVER, worth };
            while !order.parts.load().leaves_room(bound, worth.weight()) {
                let Some(Choice::Evict(id)) = order.choose(&mut nodes, &new, &|_, _| true) else { break };
                order.evicted(&mut nodes, id, 0);
                free.push(id);
            }
            let id = free.pop().unwrap_or_else(|| {
                nodes.push();
                nodes.count() - 1
            });
            order.insert(&mut nodes, id, new);
            order.hit(&mut nodes, id, &|_| new.hash);
        }
        order.shadows.as_ref().map_or(0, |shadows| shadows.allocated())
    }

    #[test]
    fn shadows_take_at_most_64_kb_a_cache() {
        for most in [100, 255, 256, 257, 300, 511, 512, 1_000, 4_799, 100_000] {
            let taken = taken(Capacity::entries(most), |_| 1);
            assert!(taken > 10_000 && taken <= 64 * 1024, "{taken} bytes for {most} entries");
        }
        for most in [3_000, 1_000_000] {
            let bound = Capacity { entries: u32::MAX, weight: most };
            let taken = taken(bound, |n| if n < most / 10 { 100 } else { 3 });
            assert!(taken > 10_000 && taken <= 64 * 1024, "{taken} bytes for a weight of {most}");
        }
    }
}
