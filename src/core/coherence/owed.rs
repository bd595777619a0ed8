//! What the store is still to be told: keys that were invalidated and registers that were moved here while it could not be reached, or
//! may not have heard.
//!
//! One of a kind a key and a name, however often; what happened again meanwhile is told again. While it is owed, nothing that the
//! store has of it is believed. There is a bound: what finds no room becomes one move of everything, which covers all.

use super::registers::{Verdict, with_ancestors};
use super::{How, Name};
use crate::core::broken::{Rule, broken};
use std::borrow::Borrow;
use std::collections::BTreeMap;

/// So many are kept apart: some 10 MB.
pub const MOST: usize = 100_000;

/// What is known of when something happened that is owed.
pub trait When: Copy + PartialEq {
    /// Of one that covers both.
    fn both(self, other: Self) -> Self;
}

impl When for () {
    fn both(self, (): ()) {}
}

/// Something that is owed, as it was when it was taken from here to be told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Debt<K, W = ()> {
    /// What.
    pub what: What<K>,
    /// Since when.
    pub when: W,
    turn: u64,
}

/// What is owed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What<K> {
    /// This register was moved so.
    Move(Name, How),
    /// This key was invalidated.
    Key(K),
}

/// See the module. `K` is a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owed<K, W = ()> {
    keys: BTreeMap<K, Put<W>>,
    moves: BTreeMap<(Name, How), Put<W>>,
    turn: u64,
    most: usize,
}

/// When it happened, and in which turn of ours last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Put<W> {
    when: W,
    turn: u64,
}

impl<K: Ord + Clone, W: When> Default for Owed<K, W> {
    fn default() -> Self {
        Owed::new(MOST)
    }
}

impl<K: Ord + Clone, W: When> Owed<K, W> {
    /// Nothing, and at most so many.
    pub fn new(most: usize) -> Self {
        Owed { keys: BTreeMap::new(), moves: BTreeMap::new(), turn: 0, most }
    }

    /// How many are owed.
    pub fn len(&self) -> usize {
        self.keys.len() + self.moves.len()
    }

    /// True if nothing is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A key was invalidated.
    pub fn key(&mut self, key: K, when: W) {
        let put = self.put(self.keys.get(&key).copied(), when);
        self.keys.insert(key, put);
        self.bound();
    }

    /// A register was moved. What was found in the store since that began here was good by all that was known: it is to move here again.
    pub fn moved(&mut self, name: &Name, how: How, when: W) {
        let moved = (name.clone(), how);
        let put = self.put(self.moves.get(&moved).copied(), when);
        self.moves.insert(moved, put);
        self.bound();
    }

    fn put(&mut self, before: Option<Put<W>>, when: W) -> Put<W> {
        self.turn += 1;
        Put { when: before.map_or(when, |before| before.when.both(when)), turn: self.turn }
    }

    fn bound(&mut self) {
        if self.len() <= self.most {
            return;
        }
        let all = self.keys.values().chain(self.moves.values()).map(|put| put.when).reduce(W::both);
        self.keys.clear();
        self.moves.clear();
        if let Some(when) = all.filter(|_| !broken(Rule::OverflowOwesAll)) {
            self.moves.insert((Name::new("", ""), How::Gone), Put { when, turn: self.turn });
        }
    }

    /// The store has heard of a key by another way.
    pub fn forget<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.keys.remove(key);
    }

    /// True if a key is: what the store has under it is no more.
    pub fn has<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.keys.contains_key(key) && !broken(Rule::OwedIsNotBelieved)
    }

    /// What is to be said of what the store has of this path with these tags.
    pub fn judge<'a>(&self, path: &str, tags: impl Iterator<Item = &'a str> + Clone) -> Verdict {
        if self.moves.is_empty() || broken(Rule::OwedIsNotBelieved) {
            return Verdict::Good;
        }
        let names = with_ancestors(path)
            .flat_map(|path| [""].into_iter().chain(tags.clone()).map(move |tag| Name::new(path, tag)));
        names.map(|name| self.verdict(name)).max().unwrap_or(Verdict::Good)
    }

    fn verdict(&self, name: Name) -> Verdict {
        let stale = (name, How::Stale);
        let is_stale = self.moves.contains_key(&stale);
        match self.moves.contains_key(&(stale.0, How::Gone)) {
            true => Verdict::Gone,
            false if is_stale => Verdict::Stale,
            false => Verdict::Good,
        }
    }

    /// So many, to be told.
    pub fn some(&self, most: usize) -> Vec<Debt<K, W>> {
        let debt = |what, put: &Put<W>| Debt { what, when: put.when, turn: put.turn };
        let moves = self.moves.iter().map(|((name, how), put)| debt(What::Move(name.clone(), *how), put));
        let keys = self.keys.iter().map(|(key, put)| debt(What::Key(key.clone()), put));
        moves.chain(keys).take(most).collect()
    }

    /// The store has heard of it. If the same has happened again since it was taken from here, it is still owed.
    pub fn told(&mut self, debt: &Debt<K, W>) {
        let is_last = |put: &Put<W>| put.turn == debt.turn || broken(Rule::AgainIsToldAgain);
        match &debt.what {
            What::Key(key) if self.keys.get(key).is_some_and(is_last) => drop(self.keys.remove(key)),
            What::Move(name, how) => {
                let moved = (name.clone(), *how);
                if self.moves.get(&moved).is_some_and(is_last) {
                    self.moves.remove(&moved);
                }
            }
            What::Key(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_not_believed_until_the_store_has_heard_of_it() {
        let mut owed = Owed::<u8>::default();
        owed.key(1, ());
        owed.moved(&Name::new("a", "t"), How::Stale, ());
        owed.moved(&Name::new("a", "u"), How::Gone, ());
        let judge = |owed: &Owed<u8>, path, tag| owed.judge(path, [tag].into_iter());
        assert!(owed.has(&1) && !owed.has(&2));
        assert_eq!(judge(&owed, "a:b", "t"), Verdict::Stale);
        assert_eq!(judge(&owed, "a", "u"), Verdict::Gone);
        assert_eq!(judge(&owed, "ab", "u"), Verdict::Good);
        assert_eq!((owed.len(), owed.some(2).len()), (3, 2));
        for debt in owed.some(9) {
            owed.told(&debt);
        }
        assert!(owed.is_empty() && !owed.has(&1) && judge(&owed, "a", "u") == Verdict::Good);
    }

    #[test]
    fn what_is_gone_and_stale_is_gone_until_that_was_told() {
        let (mut owed, name) = (Owed::<u8>::default(), Name::new("", "t"));
        owed.moved(&name, How::Gone, ());
        owed.moved(&name, How::Stale, ());
        let judge = |owed: &Owed<u8>| owed.judge("", ["t"].into_iter());
        assert_eq!((owed.len(), judge(&owed)), (2, Verdict::Gone));
        owed.told(&owed.some(1)[0]);
        assert_eq!((owed.len(), judge(&owed)), (1, Verdict::Stale));
    }

    #[test]
    fn what_happens_again_while_it_is_told_is_told_again() {
        let mut owed = Owed::default();
        let happen = |owed: &mut Owed<u8>| {
            owed.key(1, ());
            owed.moved(&Name::new("", "t"), How::Gone, ());
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
    fn what_the_store_has_heard_of_by_another_way_is_not_owed() {
        let mut owed = Owed::<Vec<u8>>::default();
        owed.key(b"k".to_vec(), ());
        owed.forget(&b"k"[..]);
        assert!(owed.is_empty());
    }

    /// The later moment; none covers all.
    impl When for Option<u8> {
        fn both(self, other: Self) -> Self {
            self.zip(other).map(|(one, other)| one.max(other))
        }
    }

    #[test]
    fn what_finds_no_room_becomes_one_move_of_everything_that_covers_all() {
        for (whens, covers) in [([Some(1), Some(9), Some(3)], Some(9)), ([None, Some(9), Some(3)], None)] {
            let mut owed = Owed::new(2);
            (0..).zip(whens).for_each(|(key, when)| owed.key(key, when));
            let owes: Vec<_> = owed.some(9).into_iter().map(|debt| (debt.what, debt.when)).collect();
            assert_eq!(owes, [(What::<u8>::Move(Name::new("", ""), How::Gone), covers)]);
            assert_eq!(owed.judge("any", std::iter::empty()), Verdict::Gone);
        }
    }
}
