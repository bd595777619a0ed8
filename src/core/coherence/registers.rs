//! A process's mirror of a cache's registers: what was moved, by the store's stamps and in this process's own order.
//!
//! Something is judged by when its load began. Where the store gave a stamp for that, it is compared with the store's registers, and
//! the process's own sequence with what this process has moved itself: those moves count at once, whenever the store hears of them.
//! Where it gave none, the sequence is compared with all that this process has heard of.
//!
//! Nothing that was gone is ever good again. The mirror is bounded: if it forgets a register, all that is older than it goes with it.
//! Each part of a path is a namespace within the part before, and a tag is its whole text: neither is ever taken for the beginning
//! of another, and neither is a pattern.

use super::cell::REGISTERS;
use super::{How, Known, Move, Moved, Name, Told};
use crate::core::broken::{Rule, broken};
use std::collections::HashMap;

/// When a load began, in both orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Began {
    /// The [sequence](Registers::sequence) of this process; of what was loaded elsewhere that of when the store was asked for it,
    /// so that what is moved here meanwhile counts, whatever the store's stamps say. `None`: neither is known.
    pub here: Option<u64>,
    /// The store's stamp; `None`: it did not answer.
    pub store: Option<u64>,
}

/// What the registers say of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Nothing has happened to it.
    Good,
    /// It has expired before its time.
    Stale,
    /// It was invalidated.
    Gone,
}

/// What is known of one register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Register {
    /// By the store's stamps.
    store: Moved,
    /// In this process's order, by itself.
    here: Moved,
    /// In this process's order, by anybody it has heard of.
    heard: Moved,
}

/// What is gone for certain, in each of the orders: stamps that are no later, and moments of the sequence that are earlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Floor {
    store: u64,
    here: u64,
    heard: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Registers {
    known: Known,
    /// The newest stamp that was ever heard of.
    newest: u64,
    sequence: u64,
    floor: Floor,
    /// By path, then by tag.
    paths: HashMap<Box<str>, HashMap<Box<str>, Register>>,
    count: usize,
    limit: usize,
}

impl Default for Registers {
    fn default() -> Self {
        Registers::new(REGISTERS)
    }
}

impl Registers {
    /// None yet, and at most so many.
    pub fn new(limit: usize) -> Self {
        let (known, floor) = (Known::default(), Floor::default());
        Registers { known, newest: 0, sequence: 1, floor, paths: HashMap::new(), count: 0, limit: limit.max(2) }
    }

    /// What is known of the clock: nothing yet, or all that it has told until then.
    pub fn known(&self) -> Known {
        self.known
    }

    /// How many changes this process has heard of: what a load that begins now notes. While it is the same, every verdict is.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The newest stamp that was ever heard of.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// How many registers are kept.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What the clock answers: all registers, or that those that are known are all. Such an answer may be late; nothing is taken back
    /// because of it.
    pub fn learn(&mut self, told: &Told) {
        let Told { stamp, birth, moves, .. } = *told;
        let known = Known { birth, moves };
        let Some(all) = &told.all else {
            if self.known.birth == birth {
                (self.known, self.newest) = (known, self.newest.max(stamp));
            }
            return;
        };
        let (mut floor, another) = (all.floor, self.known.birth != birth);
        if another && !broken(Rule::BirthsDivide) {
            floor = floor.max(birth);
        }
        if another && self.known.birth != 0 && !broken(Rule::BirthsDivide) {
            // Nobody knows what was moved between the last that was heard of the earlier clock and the birth of this one, whose
            // stamps may begin below those of the earlier one. What was heard before any was known is this one's.
            floor = floor.max(self.newest);
            self.forget_stamps();
        }
        (self.known, self.newest) = (known, self.newest.max(stamp));
        let now = self.sequence + 1;
        let another = another && !broken(Rule::BirthsDivide);
        let mut changed = another || floor > self.floor.store;
        if changed {
            (self.floor.store, self.floor.heard) = (self.floor.store.max(floor), now);
        }
        for (name, moved) in &all.registers {
            changed |= self.raise(name, *moved, now);
        }
        if changed {
            self.sequence = now;
            self.tidy();
        }
    }

    /// Registers were moved, here or elsewhere, and the store has it. May come late, and more than once.
    pub fn apply(&mut self, moved: &Move) {
        let (now, to) = (self.sequence + 1, Moved::once(moved.how, moved.at));
        let mut changed = false;
        for name in &moved.names {
            changed |= self.raise(name, to, now);
        }
        if changed {
            self.sequence = now;
            self.tidy();
        }
    }

    /// Registers were moved by this process, whatever becomes of that in the store.
    pub fn move_here(&mut self, names: &[Name], how: How) {
        if broken(Rule::MovesCountAtOnce) {
            return;
        }
        self.sequence += 1;
        let to = Moved::once(how, self.sequence);
        for name in names {
            let register = self.register(name);
            register.here.raise(to);
            register.heard.raise(to);
        }
        self.tidy();
    }

    /// The same once more, where the store may not have heard: what was found there meanwhile was good by all that it knew.
    pub fn move_again(&mut self, names: &[Name], how: How) {
        if !broken(Rule::QueuedMovesAgain) {
            self.move_here(names, how);
        }
    }

    /// What is to be said of something of this path that has these tags and whose load began then. What nobody knows the beginning
    /// of is gone.
    pub fn judge<'a>(&self, path: &str, tags: impl Iterator<Item = &'a str> + Clone, began: Began) -> Verdict {
        if broken(Rule::RegistersJudge) {
            return Verdict::Good;
        }
        let mut verdict = self.floor.judge(began);
        // Mostly nothing was.
        if self.paths.is_empty() {
            return verdict;
        }
        for path in with_ancestors(path) {
            let Some(registers) = self.paths.get(path) else { continue };
            for tag in [""].into_iter().chain(tags.clone()) {
                if verdict == Verdict::Gone {
                    return verdict;
                }
                verdict = registers.get(tag).map_or(verdict, |register| verdict.max(register.judge(began)));
            }
        }
        verdict
    }

    /// True if the store's register was lower.
    fn raise(&mut self, name: &Name, to: Moved, now: u64) -> bool {
        self.newest = self.newest.max(to.last());
        let register = self.register(name);
        let Moved { gone, stale } = register.store;
        let (gone, stale) = (to.gone > gone, to.stale > stale);
        register.store.raise(to);
        let now = if broken(Rule::HeardCounts) { 0 } else { now };
        register.heard.raise(Moved { gone: if gone { now } else { 0 }, stale: if stale { now } else { 0 } });
        gone || stale
    }

    /// What the store has moved until now the floor tells of, from now on.
    fn forget_stamps(&mut self) {
        for tags in self.paths.values_mut() {
            tags.values_mut().for_each(|register| register.store = Moved::default());
            tags.retain(|_, register| register.here != Moved::default());
        }
        self.recount();
    }

    fn register(&mut self, name: &Name) -> &mut Register {
        if !self.paths.contains_key(&name.path) {
            self.paths.insert(name.path.clone(), HashMap::new());
        }
        let tags = self.paths.get_mut(&name.path).expect("it was made");
        if !tags.contains_key(&name.tag) {
            self.count += 1;
            tags.insert(name.tag.clone(), Register::default());
        }
        tags.get_mut(&name.tag).expect("it was made")
    }

    /// Forgets what was not moved for longest, half of all, if there are too many.
    fn tidy(&mut self) {
        if self.count <= self.limit {
            return;
        }
        let all = self.paths.values().flat_map(HashMap::values);
        let mut ages: Vec<(u64, u64)> = all.map(Register::age).collect();
        let half = ages.len() / 2;
        let (_, &mut newest, _) = ages.select_nth_unstable(half);
        let floor = &mut self.floor;
        for tags in self.paths.values_mut() {
            tags.retain(|_, register| {
                let kept = register.age() > newest;
                if !kept && !broken(Rule::ForgottenIsGone) {
                    floor.store = floor.store.max(register.store.last());
                    floor.here = floor.here.max(register.here.last());
                    floor.heard = floor.heard.max(register.heard.last());
                }
                kept
            });
        }
        self.recount();
    }

    fn recount(&mut self) {
        self.paths.retain(|_, tags| !tags.is_empty());
        self.count = self.paths.values().map(HashMap::len).sum();
    }
}

impl Register {
    fn judge(&self, began: Began) -> Verdict {
        let Began { here, store } = began;
        // What the store has stamped is compared with what it has stamped, and with what it may not know yet.
        let own = if store.is_some() { self.here } else { self.heard };
        let since =
            |stamped: u64, own: u64| store.is_some_and(|store| store <= stamped) || here.is_some_and(|here| here < own);
        match self.store {
            Moved { gone, .. } if since(gone, own.gone) => Verdict::Gone,
            Moved { stale, .. } if since(stale, own.stale) => Verdict::Stale,
            _ => Verdict::Good,
        }
    }

    /// What was heard of last is youngest.
    fn age(&self) -> (u64, u64) {
        (self.heard.last(), self.store.last())
    }
}

impl Floor {
    fn judge(&self, Began { here, store }: Began) -> Verdict {
        let own = if store.is_some() { self.here } else { self.heard };
        let unknown = here.is_none() && store.is_none();
        let gone = unknown || store.is_some_and(|store| store <= self.store) || here.is_some_and(|here| here < own);
        if gone { Verdict::Gone } else { Verdict::Good }
    }
}

/// A namespace, and those it lies in: "a:b", "a" and "".
pub(super) fn with_ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| match path.rfind(':') {
        Some(end) => Some(&path[..end]),
        None => Some("").filter(|_| !path.is_empty()),
    })
}

#[cfg(test)]
impl std::hash::Hash for Registers {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        let tags =
            self.paths.iter().flat_map(|(path, tags)| tags.iter().map(move |(tag, register)| (path, tag, register)));
        let mut all: Vec<_> = tags.collect();
        all.sort_unstable_by_key(|(path, tag, _)| (*path, *tag));
        (all, self.known, self.newest, self.sequence, self.floor).hash(hasher);
    }
}

#[cfg(test)]
mod tests;
