//! What the store is still to be told: keys that were invalidated and registers that were moved here while it could not be reached, or
//! may not have heard.
//!
//! One of a kind a key and a name, however often; what happened again meanwhile is told again. While it is owed, nothing that the
//! store has of it is believed. There is a bound: what finds no room becomes one move of everything, which covers all.

use super::registers::{Registers, Verdict, with_ancestors};
use super::{How, Moved, Name};
use crate::core::broken::{Rule, broken};
use std::collections::BTreeMap;

/// So many are kept apart.
pub const MOST: usize = 100_000;

/// Something that is owed, as it was when it was taken from here to be told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Debt<K> {
    /// What.
    pub what: What<K>,
    turn: u64,
}

/// What is owed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What<K> {
    /// This key was invalidated.
    Key(K),
    /// This register was moved so.
    Move(Name, How),
}

/// See the module. `K` is a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owed<K> {
    keys: BTreeMap<K, u64>,
    names: BTreeMap<Name, Moved>,
    turn: u64,
    most: usize,
}

impl<K: Ord + Clone> Default for Owed<K> {
    fn default() -> Self {
        Owed::new(MOST)
    }
}

impl<K: Ord + Clone> Owed<K> {
    /// Nothing, and at most so many.
    pub fn new(most: usize) -> Self {
        Owed { keys: BTreeMap::new(), names: BTreeMap::new(), turn: 0, most }
    }

    /// How many are owed.
    pub fn len(&self) -> usize {
        self.keys.len() + self.names.len()
    }

    /// True if nothing is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A key was invalidated.
    pub fn key(&mut self, key: K) {
        self.turn += 1;
        self.keys.insert(key, self.turn);
        self.bound();
    }

    /// Registers were moved. What was found in the store since that began here was good by all that was known: they move here again.
    pub fn moved(&mut self, names: &[Name], how: How, registers: &mut Registers) {
        if !broken(Rule::QueuedMovesAgain) {
            registers.move_here(names, how);
        }
        self.turn += 1;
        for name in names {
            self.names.entry(name.clone()).or_default().raise(Moved::once(how, self.turn));
        }
        self.bound();
    }

    fn bound(&mut self) {
        if self.len() > self.most {
            self.keys.clear();
            self.names.clear();
            if !broken(Rule::OverflowOwesAll) {
                self.names.insert(Name::new("", ""), Moved::once(How::Gone, self.turn));
            }
        }
    }

    /// What is to be said of what the store has under a key of this path with these tags.
    pub fn judge<'a>(&self, key: &K, path: &str, tags: impl Iterator<Item = &'a str> + Clone) -> Verdict {
        if self.is_empty() || broken(Rule::OwedIsNotBelieved) {
            return Verdict::Good;
        }
        if self.keys.contains_key(key) {
            return Verdict::Gone;
        }
        let names = with_ancestors(path)
            .flat_map(|path| [""].into_iter().chain(tags.clone()).map(move |tag| Name::new(path, tag)));
        names.filter_map(|name| self.names.get(&name)).map(|moved| verdict_of(*moved)).max().unwrap_or(Verdict::Good)
    }

    /// So many, to be told.
    pub fn some(&self, most: usize) -> Vec<Debt<K>> {
        let keys = self.keys.iter().map(|(key, turn)| Debt { what: What::Key(key.clone()), turn: *turn });
        let names = self.names.iter().flat_map(|(name, moved)| {
            let kinds = [(How::Gone, moved.gone), (How::Stale, moved.stale)].into_iter().filter(|(_, turn)| *turn > 0);
            kinds.map(|(how, turn)| Debt { what: What::Move(name.clone(), how), turn })
        });
        names.chain(keys).take(most).collect()
    }

    /// The store has heard of it. If the same has happened again since it was taken from here, it is still owed.
    pub fn told(&mut self, debt: &Debt<K>) {
        let is_last = |turn: u64| turn == debt.turn || broken(Rule::AgainIsToldAgain);
        match &debt.what {
            What::Key(key) if self.keys.get(key).is_some_and(|turn| is_last(*turn)) => drop(self.keys.remove(key)),
            What::Key(_) => {}
            What::Move(name, how) => {
                let Some(moved) = self.names.get_mut(name) else { return };
                let turn = match how {
                    How::Gone => &mut moved.gone,
                    How::Stale => &mut moved.stale,
                };
                *turn = if is_last(*turn) { 0 } else { *turn };
                if moved.last() == 0 {
                    self.names.remove(name);
                }
            }
        }
    }
}

fn verdict_of(moved: Moved) -> Verdict {
    match moved {
        Moved { gone: 1.., .. } => Verdict::Gone,
        Moved { stale: 1.., .. } => Verdict::Stale,
        _ => Verdict::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_not_believed_until_the_store_has_heard_of_it() {
        let mut owed = Owed::default();
        owed.key(1);
        let mut registers = Registers::default();
        owed.moved(&[Name::new("a", "t")], How::Stale, &mut registers);
        owed.moved(&[Name::new("a", "u")], How::Gone, &mut registers);
        assert_eq!(registers.len(), 2);
        let judge = |owed: &Owed<u8>, key, path, tag| owed.judge(&key, path, [tag].into_iter());
        assert_eq!(judge(&owed, 1, "", "x"), Verdict::Gone);
        assert_eq!(judge(&owed, 2, "a:b", "t"), Verdict::Stale);
        assert_eq!(judge(&owed, 2, "a", "u"), Verdict::Gone);
        assert_eq!(judge(&owed, 2, "ab", "u"), Verdict::Good);
        assert_eq!((owed.len(), owed.some(2).len()), (3, 2));
        for debt in owed.some(9) {
            owed.told(&debt);
        }
        assert!(owed.is_empty() && judge(&owed, 1, "a", "u") == Verdict::Good);
    }

    #[test]
    fn what_happens_again_while_it_is_told_is_told_again() {
        let mut owed = Owed::default();
        let happen = |owed: &mut Owed<u8>| {
            owed.key(1);
            owed.moved(&[Name::new("", "t")], How::Gone, &mut Registers::default());
        };
        happen(&mut owed);
        let taken = owed.some(9);
        happen(&mut owed);
        taken.iter().for_each(|debt| owed.told(debt));
        assert_eq!(owed.some(9).len(), 2);
        owed.some(9).iter().for_each(|debt| owed.told(debt));
        assert!(owed.is_empty());
    }

    #[test]
    fn what_finds_no_room_becomes_one_move_of_everything() {
        let mut owed = Owed::new(2);
        (0..3).for_each(|key| owed.key(key));
        assert_eq!(
            owed.some(9).into_iter().map(|debt| debt.what).collect::<Vec<_>>(),
            [What::Move(Name::new("", ""), How::Gone)]
        );
        assert_eq!(owed.judge(&7, "any", std::iter::empty()), Verdict::Gone);
    }
}
