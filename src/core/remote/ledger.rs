//! What a memory notes of the tier behind it: under which version it has each entry, and what was changed lately.
//!
//! A lookup that loads nothing takes no lease. It notes how things stand before it asks the tier behind, and what it is given goes into
//! memory only if nothing has changed under that key since: no load has ended, nobody has written or removed it. The same tells a
//! write that another one has come between it and its answer. Keys share counts, so a change may be seen where there was none:
//! then a value is not kept, and never is an older one.

use super::Version;
use crate::core::memory::Target;

/// So many counts, for all keys.
const COUNTS: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    /// By slot, with what tells one use of it from the next.
    versions: Vec<Option<(Target, Version)>>,
    counts: Box<[u32; COUNTS]>,
    /// Changes of all keys at once.
    all: u32,
}

/// How things stood under a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    at: u16,
    count: u32,
    all: u32,
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger { versions: Vec::new(), counts: Box::new([0; COUNTS]), all: 0 }
    }
}

impl Ledger {
    /// How things stand under a key with this hash.
    pub fn mark(&self, hash: u64) -> Mark {
        let at = (hash >> 32) as usize % COUNTS;
        Mark { at: at as u16, count: self.counts[at], all: self.all }
    }

    /// True if nothing has changed since.
    pub fn is_unchanged(&self, mark: Mark) -> bool {
        let Mark { at, count, all } = mark;
        self.counts[usize::from(at)] == count && self.all == all
    }

    /// Something has changed under a key with this hash.
    pub fn note(&mut self, hash: u64) {
        let at = usize::from(self.mark(hash).at);
        self.counts[at] = self.counts[at].wrapping_add(1);
    }

    /// Something has changed, and nobody knows under which keys.
    pub fn note_all(&mut self) {
        self.all = self.all.wrapping_add(1);
    }

    /// The version of an entry, if the tier behind has given it one.
    pub fn version(&self, entry: Target) -> Option<Version> {
        let noted = self.versions.get(entry.id as usize).copied().flatten();
        noted.filter(|(whose, _)| *whose == entry).map(|(_, version)| version)
    }

    /// Notes it.
    pub fn set_version(&mut self, entry: Target, version: Option<Version>) {
        let at = entry.id as usize;
        if at >= self.versions.len() {
            self.versions.resize(at + 1, None);
        }
        self.versions[at] = version.map(|version| (entry, version));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::memory::Stamp;

    #[test]
    fn a_change_is_seen_by_whoever_looked_before_and_by_nobody_who_looks_after() {
        let mut ledger = Ledger::default();
        let (one, other) = (7 << 32, 8 << 32);
        let marks = [ledger.mark(one), ledger.mark(other)];
        ledger.note(one);
        assert_eq!(marks.map(|mark| ledger.is_unchanged(mark)), [false, true]);
        assert!(ledger.is_unchanged(ledger.mark(one)));
        ledger.note_all();
        assert!(!ledger.is_unchanged(marks[1]));
    }

    #[test]
    fn a_version_is_its_entrys_alone() {
        let mut ledger = Ledger::default();
        let (before, after) = (Target { id: 9, stamp: Stamp::new(1, 1) }, Target { id: 9, stamp: Stamp::new(1, 2) });
        assert_eq!(ledger.version(before), None);
        ledger.set_version(before, Some(Version(5)));
        assert_eq!((ledger.version(before), ledger.version(after)), (Some(Version(5)), None));
        ledger.set_version(after, None);
        assert_eq!(ledger.version(before), None);
    }
}
