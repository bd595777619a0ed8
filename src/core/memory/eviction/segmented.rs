//! A window and a segmented main part: the structure that `tinylfu` and `adaptive` steer.
//!
//! Newcomers enter the window. Who leaves it goes to the main part's probation or out, as the [`Setting`] rules; who is
//! used on probation becomes protected, and who is last of too many protected is on probation again. All are in order of
//! use. Frequencies are counted in the entries' own marks and remembered, once they left, in [`Ghosts`]; they halve with
//! each age, which costs nothing but a look at two bits.
//! Compared with the sketch of W-TinyLFU (Einziger et al., ACM TOS 2017) a hit touches one byte instead of four words.
//!
//! Where weights bind, an entry's rank is frequency × load time ÷ weight^0.35, the victim is the lowest of some of
//! probation's last and some drawn at random, and who is heavier than a tenth of the bound contests before it is let in.

use super::ghosts::Ghosts;
use super::{Arrival, Capacity, Choice, Load, Mark, Ranked, upward, validate_count};
use crate::core::memory::lists::{Lists, NIL, RECENCY};
use crate::core::memory::{Nodes, Worth};

const WINDOW: u8 = 0;
const PROBATION: u8 = 1;
const PROTECTED: u8 = 2;

/// Of the main part, at most so much of so much is protected.
const PROTECTED_SHARE: (u64, u64) = (4, 5);
/// An age is so many uses per entry of the bound.
const AGE: u64 = 10;
/// An eviction moves at most so many entries on,
const STEPS: u32 = 16;
/// so many of them back to probation.
const DEMOTIONS: u32 = 8;
/// Looked at for the lowest rank: probation's last, and drawn at random.
const LAST: u32 = 8;
const DRAWN: u32 = 16;
/// Who takes more of the bound than this contests before it is let in.
const HEAVY: f64 = 0.1;

/// Who passes from the window to the main part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Whoever was used there; ghosts go to main at once (S3-FIFO's rule).
    Used,
    /// Whoever ranks above the one that would have to leave (TinyLFU's).
    Contest,
    /// Everyone: the least recently used leaves.
    Everyone,
}

/// How large the window is, and who leaves it for the main part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// Its name, for statistics.
    pub name: &'static str,
    /// The window's share of the bound.
    pub window: f64,
    /// Who passes.
    pub rule: Rule,
}

/// See the module.
#[derive(Debug)]
pub struct Segmented {
    lists: Lists<RECENCY>,
    loads: [Load; 3],
    bound: Capacity,
    window: Capacity,
    setting: Setting,
    ghosts: Ghosts,
    /// Until the next age begins.
    uses_left: u64,
    age: u8,
    random: u64,
}

impl Segmented {
    /// Empty.
    pub fn new(bound: Capacity, setting: Setting) -> Self {
        let (lists, loads, window) = (Lists::new(3), [Load::default(); 3], bound.share(setting.window));
        let (ghosts, random) = (Ghosts::default(), 0x9E37_79B9);
        Segmented { lists, loads, bound, window, setting, ghosts, uses_left: 0, age: 0, random }
    }

    /// The setting in force.
    pub fn setting(&self) -> Setting {
        self.setting
    }

    /// Moves the borders; nothing leaves.
    pub fn set(&mut self, setting: Setting) {
        self.window = self.bound.share(setting.window);
        self.setting = setting;
    }

    /// Another bound.
    pub fn resize(&mut self, bound: Capacity) {
        self.bound = bound;
        self.window = bound.share(self.setting.window);
    }

    /// What all entries take.
    pub fn load(&self) -> Load {
        let [a, b, c] = &self.loads;
        Load { entries: a.entries + b.entries + c.entries, weight: a.weight + b.weight + c.weight }
    }

    fn main(&self) -> Load {
        let [_, b, c] = &self.loads;
        Load { entries: b.entries + c.entries, weight: b.weight + c.weight }
    }

    #[inline]
    fn count_use(&mut self) {
        if self.uses_left == 0 {
            self.grow_older();
        }
        self.uses_left -= 1;
    }

    #[cold]
    fn grow_older(&mut self) {
        self.uses_left = AGE * u64::from(self.load().entries.clamp(16, self.bound.entries.max(16)));
        self.age = (self.age + 1) & 3;
    }

    fn link(&mut self, nodes: &mut impl Ranked, id: u32, segment: u8, frequency: u8) {
        nodes.set_mark(id, Mark::new(segment, frequency, self.age));
        self.lists.push_front(nodes, u32::from(segment), id);
        self.loads[usize::from(segment)].add(nodes.worth(id));
    }

    /// Gives the frequency as of now.
    fn unlink(&mut self, nodes: &mut impl Ranked, id: u32) -> u8 {
        let mark = nodes.mark(id);
        self.lists.remove(nodes, id);
        self.loads[usize::from(mark.segment())].sub(nodes.worth(id));
        nodes.set_mark(id, Mark::FREE);
        mark.frequency_at(self.age)
    }

    /// From the segment it is in to the front of another. What `unlink` and `link` would do, with less work.
    fn shift(&mut self, nodes: &mut impl Ranked, id: u32, to: u8, frequency: u8) {
        let (from, worth) = (nodes.mark(id).segment(), nodes.worth(id));
        self.lists.remove(nodes, id);
        self.lists.push_front(nodes, u32::from(to), id);
        nodes.set_mark(id, Mark::new(to, frequency, self.age));
        self.loads[usize::from(from)].sub(worth);
        self.loads[usize::from(to)].add(worth);
    }

    fn advance(&mut self, nodes: &mut impl Ranked, id: u32) {
        let frequency = nodes.mark(id).frequency_at(self.age);
        self.shift(nodes, id, PROBATION, frequency);
    }

    /// A new entry.
    pub fn insert(&mut self, nodes: &mut impl Ranked, id: u32, new: Arrival) {
        self.count_use();
        let load = self.load();
        if load.leaves_room(self.bound, new.worth.weight()) {
            self.drain_window(nodes, new.worth);
        }
        let ghost = self.ghosts.take(new.hash);
        let to = if ghost.is_some() && self.setting.rule == Rule::Used { PROBATION } else { WINDOW };
        self.link(nodes, id, to, ghost.unwrap_or(0) + 1);
    }

    /// While there is room for all, who leaves the window passes without a contest.
    fn drain_window(&mut self, nodes: &mut impl Ranked, new: Worth) {
        for _ in 0..STEPS {
            let last = self.lists.last(u32::from(WINDOW));
            if last == NIL || self.loads[usize::from(WINDOW)].leaves_room(self.window, new.weight()) {
                return;
            }
            self.advance(nodes, last);
        }
    }

    /// An entry was used.
    #[inline(always)]
    pub fn hit(&mut self, nodes: &mut impl Ranked, id: u32) {
        self.count_use();
        let mark = nodes.mark(id);
        let frequency = (mark.frequency_at(self.age) + 1).min(Mark::MOST);
        let segment = mark.segment();
        if segment == PROBATION {
            return self.promote(nodes, id, frequency);
        }
        nodes.set_mark(id, Mark::new(segment, frequency, self.age));
        if self.lists.first(u32::from(segment)) != id {
            self.lists.to_front(nodes, u32::from(segment), id);
        }
    }

    /// Who is used on probation is protected from then on. Out of line: most hits are of those that are.
    #[inline(never)]
    fn promote(&mut self, nodes: &mut impl Ranked, id: u32, frequency: u8) {
        self.shift(nodes, id, PROTECTED, frequency);
    }

    /// Who is least recently used of too many protected is on probation again. Not before somebody has to leave: where all
    /// fits, hits would only carry entries to and fro.
    /// Tells how many were.
    fn demote(&mut self, nodes: &mut impl Ranked, weighed: bool) -> u32 {
        let main = self.main();
        for demoted in 0..DEMOTIONS {
            let protected = &self.loads[usize::from(PROTECTED)];
            let (part, whole) =
                if weighed { (protected.weight, main.weight) } else { (protected.entries.into(), main.entries.into()) };
            let over = part * PROTECTED_SHARE.1 > whole * PROTECTED_SHARE.0;
            if !over || protected.entries <= 1 {
                return demoted;
            }
            self.advance(nodes, self.lists.last(u32::from(PROTECTED)));
        }
        DEMOTIONS
    }

    /// True where weights, not entries, are what is short.
    fn is_weighed(&self) -> bool {
        let (load, bound) = (self.load(), self.bound);
        bound.weight != u64::MAX
            && load.weight as f64 * f64::from(bound.entries) > f64::from(load.entries) * bound.weight as f64
    }

    /// An entry is gone that nobody chose.
    pub fn remove(&mut self, nodes: &mut impl Ranked, id: u32) {
        self.unlink(nodes, id);
    }

    /// The chosen one is gone.
    pub fn evicted(&mut self, nodes: &mut impl Ranked, id: u32, hash: u64) {
        self.ghosts.fit(ghosts_for(self.load().entries, self.is_weighed()));
        let frequency = self.unlink(nodes, id);
        self.ghosts.put(hash, frequency);
    }

    /// An entry's worth changes.
    pub fn changed(&mut self, nodes: &impl Ranked, id: u32, worth: Worth) {
        let load = &mut self.loads[usize::from(nodes.mark(id).segment())];
        load.sub(nodes.worth(id));
        load.add(worth);
    }

    fn rank(&self, nodes: &impl Ranked, id: u32) -> i32 {
        nodes.worth(id).rank(nodes.mark(id).frequency_at(self.age))
    }

    /// Who leaves for `new`.
    pub fn choose<N: Ranked>(
        &mut self,
        nodes: &mut N,
        new: &Arrival,
        is_mine: &dyn Fn(&N, u32) -> bool,
    ) -> Option<Choice> {
        let weighed = self.is_weighed();
        let demoted = self.demote(nodes, weighed);
        if weighed && new.worth.weight() > self.bound.share(HEAVY.min(self.setting.window)).weight {
            return self.contest_at_once(nodes, new, is_mine);
        }
        let weight = new.worth.weight().min(self.window.weight);
        if self.setting.rule == Rule::Used {
            self.pass_the_used(nodes, weight, STEPS - demoted);
        }
        let candidate = Some(self.lists.last(u32::from(WINDOW))).filter(|&id| id != NIL);
        // Looked for once only: where weights bind, that is two dozen entries' work.
        let victim = self.victim(nodes, weighed, is_mine);
        let (Some(candidate), Some(victim)) = (candidate, victim) else {
            return candidate.or(victim).map(Choice::Evict);
        };
        if self.loads[usize::from(WINDOW)].leaves_room(self.window, weight) {
            return Some(Choice::Evict(victim));
        }
        let passes = match self.setting.rule {
            Rule::Used => false,
            Rule::Contest => self.rank(nodes, candidate) > self.rank(nodes, victim),
            Rule::Everyone => true,
        };
        if passes {
            self.advance(nodes, candidate);
        }
        Some(Choice::Evict(if passes { victim } else { candidate }))
    }

    /// While the window has no room, who was used there goes on to the main part, unless nobody is there to leave for it.
    fn pass_the_used(&mut self, nodes: &mut impl Ranked, weight: u64, most: u32) {
        for _ in 0..most {
            let last = self.lists.last(u32::from(WINDOW));
            let has_room = self.loads[usize::from(WINDOW)].leaves_room(self.window, weight);
            if last == NIL || has_room || self.main().entries == 0 || nodes.mark(last).frequency_at(self.age) <= 1 {
                return;
            }
            self.advance(nodes, last);
        }
    }

    /// Too heavy to be let in first: it must rank above everyone who leaves for it.
    fn contest_at_once<N: Ranked>(
        &mut self,
        nodes: &mut N,
        new: &Arrival,
        is_mine: &dyn Fn(&N, u32) -> bool,
    ) -> Option<Choice> {
        let frequency = (self.ghosts.peek(new.hash).unwrap_or(0) + 1).min(Mark::MOST);
        let last = self.lists.last(u32::from(WINDOW));
        let victim = self.victim(nodes, true, is_mine).or((last != NIL).then_some(last))?;
        if new.worth.rank(frequency) > self.rank(nodes, victim) {
            return Some(Choice::Evict(victim));
        }
        self.ghosts.fit(ghosts_for(self.load().entries, true));
        self.ghosts.put(new.hash, frequency);
        Some(Choice::Refuse)
    }

    /// Who would leave the main part.
    fn victim<N: Ranked>(&mut self, nodes: &N, weighed: bool, is_mine: &dyn Fn(&N, u32) -> bool) -> Option<u32> {
        let last = |segment: u8| Some(self.lists.last(u32::from(segment))).filter(|&id| id != NIL);
        let last = last(PROBATION).or_else(|| last(PROTECTED))?;
        if !weighed {
            return Some(last);
        }
        let (mut best, mut at) = ((self.rank(nodes, last), last), last);
        for _ in 1..LAST {
            at = self.lists.previous(nodes, at);
            if at == NIL {
                break;
            }
            best = best.min((self.rank(nodes, at), at));
        }
        for _ in 0..DRAWN {
            let id = self.draw(nodes.count());
            let segment = nodes.mark(id).segment();
            if (segment == PROBATION || segment == PROTECTED) && is_mine(nodes, id) {
                best = best.min((self.rank(nodes, id), id));
            }
        }
        Some(best.1)
    }

    /// A number below `count` (xorshift64; nothing here needs better).
    fn draw(&mut self, count: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (((self.random >> 32) * u64::from(count)) >> 32) as u32
    }

    /// Bytes allocated beside the nodes.
    pub fn allocated(&self) -> usize {
        self.ghosts.allocated()
    }

    /// True for an entry that is in the window still.
    pub fn is_new(&self, nodes: &impl Ranked, id: u32) -> bool {
        nodes.mark(id).segment() == WINDOW
    }

    /// All entries, from the next to leave on: window, probation, protected.
    pub fn ids(&self, nodes: &Nodes) -> Vec<u32> {
        [WINDOW, PROBATION, PROTECTED]
            .into_iter()
            .flat_map(|part| upward(&self.lists, nodes, u32::from(part)))
            .collect()
    }

    /// Whether all entries of `load` are in the parts.
    pub fn validate(&self, nodes: &Nodes, load: Load) -> Result<(), String> {
        if self.load() != load {
            return Err(format!("{:?} in the parts, {load:?} in the region", self.load()));
        }
        validate_count(self.ids(nodes).len(), load)
    }
}

/// Two ghosts an entry; one for two where there are so many that two bytes each count; four where weights bind, since
/// the heavy ones in memory stand for many light ones that left.
fn ghosts_for(entries: u32, weighed: bool) -> usize {
    let entries = entries as usize;
    match entries {
        0..=0x1_FFFF if weighed => 4 * entries,
        0..=0x1_FFFF => 2 * entries,
        _ => entries / 2,
    }
}
