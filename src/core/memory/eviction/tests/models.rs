//! Each order once more: slow, in plain vectors, from its published description. Nothing here is shared with the orders
//! themselves but the words of their trait, and what an entry is worth.

use crate::core::clock::{Millis, NEVER};
use crate::core::memory::Worth;
use crate::core::memory::eviction::segmented::{Rule, Setting};
use crate::core::memory::eviction::{Arrival, Capacity, Choice};
use std::collections::HashMap;

/// The trait `Order`, without nodes.
pub trait Model {
    fn insert(&mut self, id: u32, new: Arrival);
    fn hit(&mut self, id: u32);
    fn remove(&mut self, id: u32);
    /// `slots` is how many there are, used or not.
    fn choose(&mut self, new: &Arrival, slots: u32) -> Option<Choice>;
    fn evicted(&mut self, id: u32, _hash: u64) {
        self.remove(id);
    }
    fn changed(&mut self, _id: u32, _deadline: Millis, _worth: Worth) {}
    fn resized(&mut self, _bound: Capacity) {}
    /// Segment and slot of every entry, the next to leave first.
    fn order(&self) -> Vec<(u8, u32)>;
}

fn plain(ids: impl IntoIterator<Item = u32>) -> Vec<(u8, u32)> {
    ids.into_iter().map(|id| (0, id)).collect()
}

fn share(of: u32, share: f64) -> u32 {
    ((f64::from(of) * share) as u32).max(1)
}

fn weight_share(of: u64, share: f64) -> u64 {
    if of == u64::MAX { of } else { ((of as f64 * share) as u64).max(1) }
}

/// One queue. Textbook LRU if a use sends to its tail, textbook FIFO if not.
#[derive(Default)]
pub struct Queue {
    of_use: bool,
    ids: Vec<u32>,
}

impl Queue {
    pub fn of_use() -> Self {
        Queue { of_use: true, ids: Vec::new() }
    }
}

impl Model for Queue {
    fn insert(&mut self, id: u32, _: Arrival) {
        self.ids.push(id);
    }
    fn hit(&mut self, id: u32) {
        if self.of_use {
            self.remove(id);
            self.ids.push(id);
        }
    }
    fn remove(&mut self, id: u32) {
        self.ids.retain(|&other| other != id);
    }
    fn choose(&mut self, _: &Arrival, _: u32) -> Option<Choice> {
        self.ids.first().map(|&id| Choice::Evict(id))
    }
    fn order(&self) -> Vec<(u8, u32)> {
        plain(self.ids.iter().copied())
    }
}

/// LFU-DA (Arlitt 2000): priority = frequency + the priority of who left last; the lowest leaves, among equals who was
/// used longest ago. Frequencies end at 15.
#[derive(Default)]
pub struct LfuWithAgeing {
    age: u64,
    clock: u64,
    /// By slot: frequency, priority, time of the last use.
    entries: HashMap<u32, (u64, u64, u64)>,
}

impl LfuWithAgeing {
    fn put(&mut self, id: u32, frequency: u64) {
        self.clock += 1;
        self.entries.insert(id, (frequency, self.age + frequency, self.clock));
    }
}

impl Model for LfuWithAgeing {
    fn insert(&mut self, id: u32, _: Arrival) {
        self.put(id, 1);
    }
    fn hit(&mut self, id: u32) {
        let (frequency, ..) = self.entries[&id];
        self.put(id, (frequency + 1).min(15));
    }
    fn remove(&mut self, id: u32) {
        self.entries.remove(&id);
    }
    fn choose(&mut self, _: &Arrival, _: u32) -> Option<Choice> {
        self.order().first().map(|&(_, id)| Choice::Evict(id))
    }
    fn evicted(&mut self, id: u32, _: u64) {
        self.age = self.entries[&id].1;
        self.remove(id);
    }
    fn order(&self) -> Vec<(u8, u32)> {
        let mut ids: Vec<u32> = self.entries.keys().copied().collect();
        ids.sort_by_key(|id| (self.entries[id].1, self.entries[id].2));
        plain(ids)
    }
}

/// The soonest to expire; among equals the first that came.
#[derive(Default)]
pub struct ByDeadline {
    /// Deadline and slot, in order of arrival.
    entries: Vec<(Millis, u32)>,
}

impl Model for ByDeadline {
    fn insert(&mut self, id: u32, new: Arrival) {
        self.entries.push((new.deadline, id));
    }
    fn hit(&mut self, _: u32) {}
    fn remove(&mut self, id: u32) {
        self.entries.retain(|&(_, other)| other != id);
    }
    fn choose(&mut self, _: &Arrival, _: u32) -> Option<Choice> {
        self.entries.iter().min_by_key(|(deadline, _)| *deadline).map(|&(_, id)| Choice::Evict(id))
    }
    fn changed(&mut self, id: u32, deadline: Millis, _: Worth) {
        let entry = self.entries.iter_mut().find(|(_, other)| *other == id);
        entry.expect("it is there").0 = deadline;
    }
    fn order(&self) -> Vec<(u8, u32)> {
        let mut sorted = self.entries.clone();
        sorted.sort_by_key(|(deadline, _)| *deadline);
        assert!(sorted.iter().all(|(deadline, _)| *deadline <= NEVER));
        plain(sorted.into_iter().map(|(_, id)| id))
    }
}

/// S3-FIFO (SOSP '23) as libCacheSim 0.3.5 does it, and with weights: a queue is over its share if entries or weight are.
/// One eviction moves at most 48 entries.
pub struct TwoQueues {
    bound: Capacity,
    small: Vec<Item>,
    main: Vec<Item>,
    /// Hashes of who left the small queue, the oldest first.
    ghosts: Vec<u64>,
    evicted_once: bool,
    /// The ghost that the eviction under way is for.
    returns: Option<u64>,
}

#[derive(Clone, Copy)]
struct Item {
    id: u32,
    uses: u32,
    weight: u64,
}

fn weight_of(queue: &[Item]) -> u64 {
    queue.iter().map(|item| item.weight).sum()
}

impl TwoQueues {
    pub fn new(bound: Capacity) -> Self {
        TwoQueues { bound, small: vec![], main: vec![], ghosts: vec![], evicted_once: false, returns: None }
    }

    fn forget_ghost(&mut self, hash: u64) -> bool {
        let before = self.ghosts.len();
        self.ghosts.retain(|&ghost| ghost != hash);
        self.ghosts.len() < before
    }

    fn item(&mut self, id: u32) -> &mut Item {
        self.small.iter_mut().chain(&mut self.main).find(|item| item.id == id).expect("it is there")
    }

    fn small_is_full(&self) -> bool {
        self.small.len() >= share(self.bound.entries, 0.1) as usize
            || weight_of(&self.small) > weight_share(self.bound.weight, 0.1)
    }

    fn main_is_over(&self) -> bool {
        let entries = self.bound.entries - share(self.bound.entries, 0.1);
        let weight = self.bound.weight - weight_share(self.bound.weight, 0.1);
        self.main.len() > entries as usize || (self.bound.weight != u64::MAX && weight_of(&self.main) > weight)
    }
}

impl Model for TwoQueues {
    fn insert(&mut self, id: u32, new: Arrival) {
        let returns = self.returns.take() == Some(new.hash) || self.forget_ghost(new.hash);
        let item = Item { id, uses: 0, weight: new.worth.weight() };
        if returns || (!self.evicted_once && self.small_is_full()) {
            self.main.push(item);
        } else {
            self.small.push(item);
        }
    }
    fn hit(&mut self, id: u32) {
        self.item(id).uses += 1;
    }
    fn remove(&mut self, id: u32) {
        self.small.retain(|item| item.id != id);
        self.main.retain(|item| item.id != id);
    }
    fn choose(&mut self, new: &Arrival, _: u32) -> Option<Choice> {
        self.evicted_once = true;
        if self.forget_ghost(new.hash) {
            self.returns = Some(new.hash);
        }
        let (main_was_over, mut left) = (self.main_is_over(), 48);
        while !main_was_over && left > 0 && self.small.first().is_some_and(|oldest| oldest.uses >= 2) {
            let oldest = self.small.remove(0);
            self.main.push(Item { uses: 0, ..oldest });
            left -= 1;
        }
        if !main_was_over && !self.small.is_empty() {
            return Some(Choice::Evict(self.small[0].id));
        }
        while left > 0 && self.main.first().is_some_and(|oldest| oldest.uses > 0) {
            let oldest = self.main.remove(0);
            self.main.push(Item { uses: oldest.uses.min(3) - 1, ..oldest });
            left -= 1;
        }
        self.main.first().map(|item| Choice::Evict(item.id))
    }
    fn evicted(&mut self, id: u32, hash: u64) {
        if self.small.iter().any(|item| item.id == id) {
            self.ghosts.push(hash);
            let over = self.ghosts.len().saturating_sub(share(self.bound.entries, 0.9) as usize);
            self.ghosts.drain(..over);
        }
        self.remove(id);
    }
    fn changed(&mut self, id: u32, _: Millis, worth: Worth) {
        self.item(id).weight = worth.weight();
    }
    fn resized(&mut self, bound: Capacity) {
        self.bound = bound;
    }
    fn order(&self) -> Vec<(u8, u32)> {
        let (small, main) = (self.small.iter().map(|item| (0, item.id)), self.main.iter().map(|item| (1, item.id)));
        small.chain(main).collect()
    }
}

const WINDOW: usize = 0;
const PROBATION: usize = 1;
const PROTECTED: usize = 2;

/// The window and the segmented main part, as the head of `segmented.rs` describes them.
pub struct Parts {
    bound: Capacity,
    setting: Setting,
    /// Takes its turn with the next change of bound.
    other: Setting,
    /// Slots by part, the least recently used first.
    parts: [Vec<u32>; 3],
    entries: HashMap<u32, Noted>,
    ghosts: Buckets,
    age: u64,
    uses_left: u64,
    random: u64,
}

#[derive(Clone, Copy)]
struct Noted {
    worth: Worth,
    frequency: u8,
    /// When that was counted.
    age: u64,
}

impl Parts {
    pub fn new(bound: Capacity, [setting, other]: [Setting; 2]) -> Self {
        let (ghosts, entries) = (Buckets::default(), HashMap::new());
        let (age, uses_left, random) = (0, 0, 0x9E37_79B9);
        Parts { bound, setting, other, parts: Default::default(), entries, ghosts, age, uses_left, random }
    }

    fn weight(&self, part: usize) -> u64 {
        self.parts[part].iter().map(|id| self.entries[id].worth.weight()).sum()
    }

    fn part_of(&self, id: u32) -> usize {
        (0..3).find(|&part| self.parts[part].contains(&id)).expect("it is there")
    }

    /// An age is ten uses an entry; for two bits of it there is room in a mark.
    fn frequency(&self, id: u32) -> u8 {
        let noted = self.entries[&id];
        noted.frequency >> ((self.age - noted.age) % 4)
    }

    fn rank(&self, id: u32) -> i32 {
        self.entries[&id].worth.rank(self.frequency(id))
    }

    fn count_use(&mut self) {
        if self.uses_left == 0 {
            let entries = self.entries.len() as u64;
            self.uses_left = 10 * entries.min(u64::from(self.bound.entries)).max(16);
            self.age += 1;
        }
        self.uses_left -= 1;
    }

    fn move_to(&mut self, id: u32, part: usize) {
        let from = self.part_of(id);
        self.parts[from].retain(|&other| other != id);
        self.parts[part].push(id);
        let frequency = self.frequency(id);
        let noted = self.entries.get_mut(&id).expect("it is there");
        (noted.frequency, noted.age) = (frequency, self.age);
    }

    /// Weights bind if they fill a greater share of their bound than the entries do of theirs.
    fn is_weighed(&self) -> bool {
        let weight: u64 = (0..3).map(|part| self.weight(part)).sum();
        let (entries, bound) = (self.entries.len() as u128, self.bound);
        bound.weight != u64::MAX && u128::from(weight) * u128::from(bound.entries) > entries * u128::from(bound.weight)
    }

    fn window_has_room(&self, weight: u64) -> bool {
        let most = weight_share(self.bound.weight, self.setting.window);
        self.parts[WINDOW].len() < share(self.bound.entries, self.setting.window) as usize
            && self.weight(WINDOW).saturating_add(weight) <= most
    }

    fn cache_has_room(&self, weight: u64) -> bool {
        let held: u64 = (0..3).map(|part| self.weight(part)).sum();
        self.entries.len() < self.bound.entries as usize && held.saturating_add(weight) <= self.bound.weight
    }

    fn protected_is_over(&self) -> bool {
        let most = |main: u64| (main as f64 * 0.8) as u64;
        if self.is_weighed() {
            return self.weight(PROTECTED) > most(self.weight(PROBATION) + self.weight(PROTECTED));
        }
        let protected = self.parts[PROTECTED].len();
        protected as u64 > most((self.parts[PROBATION].len() + protected) as u64)
    }

    /// The last of the main part; where weights bind, the lowest of its last eight and sixteen drawn.
    fn victim(&mut self, weighed: bool, slots: u32) -> Option<u32> {
        let part = if self.parts[PROBATION].is_empty() { PROTECTED } else { PROBATION };
        let last = *self.parts[part].first()?;
        if !weighed {
            return Some(last);
        }
        let mut looked_at: Vec<u32> = self.parts[part].iter().take(8).copied().collect();
        for _ in 0..16 {
            let id = self.draw(slots);
            if self.parts[PROBATION].contains(&id) || self.parts[PROTECTED].contains(&id) {
                looked_at.push(id);
            }
        }
        looked_at.into_iter().min_by_key(|&id| (self.rank(id), id))
    }

    /// Marsaglia's xorshift64, the high half scaled.
    fn draw(&mut self, below: u32) -> u32 {
        let mut x = self.random;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random = x;
        (((x >> 32) * u64::from(below)) >> 32) as u32
    }

    fn ghosts_wanted(&self, weighed: bool) -> usize {
        self.entries.len() * if weighed { 4 } else { 2 }
    }

    fn contest_at_once(&mut self, new: &Arrival, slots: u32) -> Option<Choice> {
        let frequency = self.ghosts.find(new.hash).map_or(1, |frequency| (frequency + 1).min(15));
        let in_window = self.parts[WINDOW].first().copied();
        let victim = self.victim(true, slots).or(in_window)?;
        if new.worth.rank(frequency) > self.rank(victim) {
            return Some(Choice::Evict(victim));
        }
        self.ghosts.fit(self.ghosts_wanted(true));
        self.ghosts.put(new.hash, frequency);
        Some(Choice::Refuse)
    }

    /// The window is full: does its last one pass, and who leaves?
    fn last_of_window(&mut self, candidate: u32, victim: u32) -> u32 {
        let passes = match self.setting.rule {
            Rule::Everyone => true,
            Rule::Contest => self.rank(candidate) > self.rank(victim),
            Rule::Used => false,
        };
        if passes {
            self.move_to(candidate, PROBATION);
            return victim;
        }
        candidate
    }
}

impl Model for Parts {
    fn insert(&mut self, id: u32, new: Arrival) {
        self.count_use();
        if self.cache_has_room(new.worth.weight()) {
            for _ in 0..16 {
                if self.window_has_room(new.worth.weight()) || self.parts[WINDOW].is_empty() {
                    break;
                }
                self.move_to(self.parts[WINDOW][0], PROBATION);
            }
        }
        let ghost = self.ghosts.find(new.hash);
        self.ghosts.forget(new.hash);
        let part = if ghost.is_some() && self.setting.rule == Rule::Used { PROBATION } else { WINDOW };
        self.parts[part].push(id);
        let frequency = (ghost.unwrap_or(0) + 1).min(15);
        self.entries.insert(id, Noted { worth: new.worth, frequency, age: self.age });
    }
    fn hit(&mut self, id: u32) {
        self.count_use();
        let part = self.part_of(id);
        self.move_to(id, if part == WINDOW { WINDOW } else { PROTECTED });
        let noted = self.entries.get_mut(&id).expect("it is there");
        noted.frequency = (noted.frequency + 1).min(15);
    }
    fn remove(&mut self, id: u32) {
        self.parts.iter_mut().for_each(|part| part.retain(|&other| other != id));
        self.entries.remove(&id);
    }
    fn choose(&mut self, new: &Arrival, slots: u32) -> Option<Choice> {
        let (weighed, weight) = (self.is_weighed(), new.worth.weight());
        let mut moves = 16;
        while moves > 8 && self.parts[PROTECTED].len() > 1 && self.protected_is_over() {
            self.move_to(self.parts[PROTECTED][0], PROBATION);
            moves -= 1;
        }
        if weighed && weight > weight_share(self.bound.weight, self.setting.window.min(0.1)) {
            return self.contest_at_once(new, slots);
        }
        let window = weight_share(self.bound.weight, self.setting.window);
        let has_room = |parts: &Self| parts.window_has_room(weight.min(window));
        for _ in 0..moves {
            let main_is_empty = self.parts[PROBATION].is_empty() && self.parts[PROTECTED].is_empty();
            let Some(&candidate) = self.parts[WINDOW].first() else { break };
            if self.setting.rule != Rule::Used || main_is_empty || has_room(self) || self.frequency(candidate) <= 1 {
                break;
            }
            self.move_to(candidate, PROBATION);
        }
        let (candidate, victim) = (self.parts[WINDOW].first().copied(), self.victim(weighed, slots));
        let (Some(candidate), Some(victim)) = (candidate, victim) else {
            return candidate.or(victim).map(Choice::Evict);
        };
        let leaves = if has_room(self) { victim } else { self.last_of_window(candidate, victim) };
        Some(Choice::Evict(leaves))
    }
    fn evicted(&mut self, id: u32, hash: u64) {
        self.ghosts.fit(self.ghosts_wanted(self.is_weighed()));
        self.ghosts.put(hash, self.frequency(id));
        self.remove(id);
    }
    fn changed(&mut self, id: u32, _: Millis, worth: Worth) {
        self.entries.get_mut(&id).expect("it is there").worth = worth;
    }
    fn resized(&mut self, bound: Capacity) {
        self.bound = bound;
        std::mem::swap(&mut self.setting, &mut self.other);
    }
    fn order(&self) -> Vec<(u8, u32)> {
        (0..3).flat_map(|part| self.parts[part].iter().map(move |&id| (part as u8, id))).collect()
    }
}

/// The ghosts: buckets of the eight newest, known by the top 12 bits of their hash (0 counts as 1).
#[derive(Default)]
struct Buckets(Vec<Vec<(u64, u8)>>);

impl Buckets {
    fn bucket(&mut self, hash: u64) -> Option<&mut Vec<(u64, u8)>> {
        let at = (hash % (1 << 32)) * self.0.len() as u64 / (1 << 32);
        self.0.get_mut(at as usize)
    }

    fn tag(hash: u64) -> u64 {
        (hash >> 52).max(1)
    }

    /// All are forgotten when there have to be more; then by a quarter more than that.
    fn fit(&mut self, count: usize) {
        if count > 8 * self.0.len() {
            let count = if self.0.is_empty() { count } else { count + count / 4 };
            self.0 = vec![Vec::new(); count.div_ceil(8).max(2)];
        }
    }

    fn find(&mut self, hash: u64) -> Option<u8> {
        let found = self.bucket(hash)?.iter().find(|ghost| ghost.0 == Self::tag(hash));
        found.map(|&(_, frequency)| frequency)
    }

    fn forget(&mut self, hash: u64) {
        if let Some(bucket) = self.bucket(hash) {
            bucket.retain(|ghost| ghost.0 != Self::tag(hash));
        }
    }

    fn put(&mut self, hash: u64, frequency: u8) {
        self.forget(hash);
        let bucket = self.bucket(hash).expect("there is room");
        bucket.insert(0, (Self::tag(hash), frequency));
        bucket.truncate(8);
    }
}
