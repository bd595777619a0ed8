//! What a memory notes of its entries beside what they are: under which version the tier behind has each, which tags it has and when its
//! load began, and what was changed lately.
//!
//! A lookup that loads nothing takes no lease. It notes how things stand before it asks the tier behind, and what it is given goes into
//! memory only if nothing has changed under that key since: no load has ended, nobody has written or removed it, here or, as far as was
//! heard, elsewhere. The same tells a write that another one has come between it and its answer. Keys share counts, so a change may be seen
//! where there was none: then a value is not kept, and never is an older one.
//!
//! Others name a key as the tier behind does, of which the hash is noted: where two keys have one, what is said of one is taken to be
//! said of both.

use super::Version;
use crate::core::coherence::registers::{Began, Registers};
use crate::core::flight::FlightId;
use crate::core::memory::{NO_TURN, Target, Turn};
use hashbrown::{HashMap, HashTable};
use std::sync::Arc;

/// So many counts, for all keys.
const COUNTS: usize = 4096;

/// The tags of an entry, and the namespace they are tags in.
#[derive(Debug, PartialEq, Eq)]
pub struct Tags {
    /// The namespace's path.
    pub path: Arc<str>,
    /// The tags.
    pub names: Box<[Box<str>]>,
}

/// What is noted of an entry.
#[derive(Clone, Debug, Default)]
pub struct Note {
    /// Its version, if the tier behind has given it one.
    pub version: Option<Version>,
    /// The hash of what it is called there; 0 for what is of this memory alone.
    pub key: u64,
    /// Its tags, if it has any.
    pub tags: Option<Arc<Tags>>,
    /// When its load began.
    pub began: Began,
}

impl Note {
    /// Of what the tier behind has under this version, and of which nothing else is known.
    pub fn of(version: Option<Version>) -> Self {
        Note { version, ..Note::default() }
    }

    /// Its tags.
    pub fn tags(&self) -> &[Box<str>] {
        self.tags.as_ref().map_or(&[], |tags| &tags.names)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    /// By slot, with what tells one use of it from the next.
    notes: Vec<Option<(Target, Note)>>,
    /// The slots of what has a name behind, by the hash of that.
    slots: HashTable<u32>,
    /// The loads that are under way of what has one, by the same.
    loads: HashMap<u64, FlightId>,
    counts: Box<[u32; COUNTS]>,
    /// Those of what others have changed, by what it is called behind.
    counts_behind: Box<[u32; COUNTS]>,
    /// Changes of all keys at once.
    all: u32,
    /// What was said of tags and namespaces.
    pub registers: Registers,
    /// What was looked at before this turn may be out of date in a way that only the tier behind can tell.
    unheard: Turn,
    /// True if others are heard, so that what has a name behind may come to be in doubt.
    pub hears: bool,
}

/// How things stood under a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    here: (u16, u32),
    behind: (u16, u32),
    all: u32,
    /// The turn it was.
    pub turn: Turn,
    /// How much this process had invalidated.
    pub sequence: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger {
            notes: Vec::new(),
            slots: HashTable::new(),
            loads: HashMap::new(),
            counts: Box::new([0; COUNTS]),
            counts_behind: Box::new([0; COUNTS]),
            all: 0,
            registers: Registers::default(),
            unheard: NO_TURN,
            hears: false,
        }
    }
}

fn count(counts: &[u32; COUNTS], hash: u64) -> (u16, u32) {
    let at = (hash >> 32) as usize % COUNTS;
    (at as u16, counts[at])
}

fn add(counts: &mut [u32; COUNTS], hash: u64) {
    let count = &mut counts[(hash >> 32) as usize % COUNTS];
    *count = count.wrapping_add(1);
}

impl Ledger {
    /// How things stand under a key with this hash here and that hash behind.
    pub fn mark(&self, (hash, key): (u64, u64), turn: Turn) -> Mark {
        let (here, behind) = (count(&self.counts, hash), count(&self.counts_behind, key));
        Mark { here, behind, all: self.all, turn, sequence: self.registers.sequence() }
    }

    /// True if nothing has changed since.
    pub fn is_unchanged(&self, mark: Mark) -> bool {
        let same = |counts: &[u32; COUNTS], (at, count): (u16, u32)| counts[usize::from(at)] == count;
        same(&self.counts, mark.here) && same(&self.counts_behind, mark.behind) && self.all == mark.all
    }

    /// Something has changed under a key with this hash.
    pub fn note(&mut self, hash: u64) {
        add(&mut self.counts, hash);
    }

    /// Somebody else has changed something under a key with this hash behind.
    pub fn note_behind(&mut self, key: u64) {
        add(&mut self.counts_behind, key);
    }

    /// Something has changed, and nobody knows under which keys.
    pub fn note_all(&mut self) {
        self.all = self.all.wrapping_add(1);
    }

    /// What is noted of an entry.
    pub fn of(&self, entry: Target) -> Option<&Note> {
        let noted = self.notes.get(entry.id as usize)?.as_ref();
        noted.filter(|(whose, _)| *whose == entry).map(|(_, note)| note)
    }

    /// The version of an entry, if the tier behind has given it one.
    pub fn version(&self, entry: Target) -> Option<Version> {
        self.of(entry)?.version
    }

    /// Notes this of an entry; gives what was noted of the slot's last.
    pub fn set(&mut self, entry: Target, note: Note) -> Option<Note> {
        let Ledger { notes, slots, .. } = self;
        let at = entry.id as usize;
        if at >= notes.len() {
            notes.resize(at + 1, None);
        }
        let (key, before) = (note.key, notes[at].take());
        if let Some((_, before)) = before.as_ref().filter(|(_, before)| before.key != key && before.key != 0)
            && let Ok(found) = slots.find_entry(before.key, |&id| id == entry.id)
        {
            found.remove();
        }
        let is_known = before.as_ref().is_some_and(|(_, before)| before.key == key);
        notes[at] = Some((entry, note));
        if key != 0 && !is_known {
            slots.insert_unique(key, entry.id, |&id| notes[id as usize].as_ref().map_or(0, |(_, note)| note.key));
        }
        before.map(|(_, note)| note)
    }

    /// The entries whose names behind have this hash, those included that have left.
    pub fn named(&self, key: u64) -> impl Iterator<Item = Target> {
        let same = self.slots.iter_hash(key).filter_map(|&id| self.notes[id as usize].as_ref());
        same.filter(move |(_, note)| note.key == key).map(|&(entry, _)| entry)
    }

    /// True if nothing has ever been noted that has a name behind.
    pub fn is_blank(&self) -> bool {
        self.slots.is_empty()
    }

    /// A load of such a name begins.
    pub fn begin_load(&mut self, key: u64, flight: FlightId) {
        self.loads.insert(key, flight);
    }

    /// It is over.
    pub fn end_load(&mut self, key: u64, flight: FlightId) {
        if self.loads.get(&key) == Some(&flight) {
            self.loads.remove(&key);
        }
    }

    /// The load of such a name that began last, if it is under way.
    pub fn load(&self, key: u64) -> Option<FlightId> {
        self.loads.get(&key).copied()
    }

    /// What was looked at before this turn may be out of date behind.
    pub fn set_unheard(&mut self, turn: Turn) {
        self.unheard = self.unheard.max(turn);
    }

    /// Whether what was looked at last in that turn may be.
    pub fn is_unheard(&self, seen: Turn) -> bool {
        seen < self.unheard
    }

    /// In a forked child: the loads are the parent's.
    pub fn forget_loads(&mut self) {
        self.loads.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::memory::Stamp;

    fn note(version: u64, key: u64) -> Note {
        Note { version: Some(Version(version)), key, ..Note::default() }
    }

    #[test]
    fn a_change_is_seen_by_whoever_looked_before_and_by_nobody_who_looks_after() {
        let mut ledger = Ledger::default();
        let (one, other, behind) = (7 << 32, 8 << 32, 9 << 32);
        let marks = [ledger.mark((one, behind), NO_TURN), ledger.mark((other, 0), NO_TURN)];
        ledger.note(one);
        assert_eq!(marks.map(|mark| ledger.is_unchanged(mark)), [false, true]);
        let again = ledger.mark((one, behind), NO_TURN);
        assert!(ledger.is_unchanged(again));
        ledger.note_behind(behind);
        assert!(!ledger.is_unchanged(again), "somebody else has changed it behind");
        ledger.note_all();
        assert!(!ledger.is_unchanged(marks[1]));
    }

    #[test]
    fn a_version_is_its_entrys_alone() {
        let mut ledger = Ledger::default();
        let (before, after) = (Target { id: 9, stamp: Stamp::new(1, 1) }, Target { id: 9, stamp: Stamp::new(1, 2) });
        assert_eq!(ledger.version(before), None);
        ledger.set(before, note(5, 0));
        assert_eq!((ledger.version(before), ledger.version(after)), (Some(Version(5)), None));
        ledger.set(after, Note::default());
        assert_eq!(ledger.version(before), None);
    }

    #[test]
    fn entries_are_found_by_what_they_are_called_behind() {
        let mut ledger = Ledger::default();
        let at = |id, turn| Target { id, stamp: Stamp::new(1, turn) };
        ledger.set(at(3, 1), note(1, 77));
        ledger.set(at(4, 1), note(1, 77));
        ledger.set(at(5, 1), note(1, 78));
        let named = |ledger: &Ledger, key| {
            let mut ids: Vec<u32> = ledger.named(key).map(|entry| entry.id).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(named(&ledger, 77), [3, 4]);
        ledger.set(at(4, 2), note(2, 78));
        assert_eq!((named(&ledger, 77), named(&ledger, 78)), (vec![3], vec![4, 5]));
        ledger.set(at(3, 2), note(2, 77));
        assert_eq!(ledger.named(77).collect::<Vec<_>>(), [at(3, 2)], "once, however often it is noted");
        ledger.set(at(3, 3), Note::default());
        assert_eq!(named(&ledger, 77), [0; 0]);
    }
}
