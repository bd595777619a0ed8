//! What memory does about what it hears of others: that a key was changed, that tags or namespaces were invalidated, or that something may
//! have been missed. And what becomes of an entry that is in doubt since, once somebody wants it.
//!
//! Nothing is looked at before it is wanted: one number says that there is something to look at, another when an entry was looked at last.

use crate::core::broken::{Rule, broken};
use crate::core::clock::Millis;
use crate::core::coherence::heed::is_over;
use crate::core::coherence::registers::Verdict;
use crate::core::coherence::{How, Move, Name, Told};
use crate::core::memory::{Discard, Memory, NO_TURN, Reason, Served, Span, Turn};
use crate::core::remote::Version;
use crate::core::remote::ledger::{Ledger, Note, Tags};
use std::sync::Arc;

/// What an entry is worth that was in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// What its life says.
    Plain,
    /// Only the tier behind can tell.
    Suspect,
    /// Nothing: it was invalidated.
    Gone,
}

impl<K, V, W> Memory<K, V, W> {
    /// Settles what can be settled here about an entry that is in doubt.
    pub fn settle(&mut self, id: u32, now: Millis) -> Settled {
        let Some(seen) = self.entries.doubted_since(id) else { return Settled::Plain };
        self.settle_since(id, seen, now)
    }

    #[cold]
    fn settle_since(&mut self, id: u32, seen: Turn, now: Millis) -> Settled {
        let entry = self.entries.target(id);
        let Some((ledger, note)) = self.ledger.as_ref().and_then(|ledger| Some((ledger, ledger.of(entry)?))) else {
            self.entries.watch(id, self.entries.turn());
            return Settled::Plain;
        };
        let unheard = note.key != 0 && ledger.is_unheard(seen) && !broken(Rule::UnheardIsSuspect);
        match ledger.verdict(note) {
            Verdict::Gone => {
                self.end(id, now);
                return Settled::Gone;
            }
            Verdict::Stale => self.make_stale(id, now),
            Verdict::Good => {}
        }
        if unheard {
            return Settled::Suspect;
        }
        self.entries.watch(id, self.entries.turn());
        Settled::Plain
    }

    /// An entry that is invalidated is over, and is cleared away as one that has expired.
    fn end(&mut self, id: u32, now: Millis) {
        let span = self.entries.span(id);
        let end = now.min(span.expires);
        self.entries.set_span(
            id,
            Span { fresh_until: end.min(span.fresh_until), expires: end, ..span },
            0,
            Served::Fresh,
        );
        self.entries.watch(id, self.entries.turn());
    }

    /// It is past its freshness from now on, and as useful as any that is.
    fn make_stale(&mut self, id: u32, now: Millis) {
        let span = self.entries.span(id);
        if now < span.fresh_until {
            self.entries.set_span(id, Span { fresh_until: now, ..span }, 0, Served::Fresh);
        }
    }

    /// Notes of an entry that was just stored what is to be known of it later on, and that it is what was to be had in that turn: what has
    /// happened since is looked at by the first who wants it.
    pub fn note(&mut self, id: u32, note: Note, turn: Turn) {
        if self.ledger.is_none() && note.tags.is_none() {
            return;
        }
        let ledger = self.ledger.get_or_insert_default();
        let watched = note.tags.is_some() || (note.key != 0 && ledger.hears);
        ledger.set(self.entries.target(id), note);
        if watched {
            self.entries.watch(id, turn.max(NO_TURN));
        }
    }

    /// What was said of what is in a slot.
    pub fn verdict(&self, id: u32) -> Verdict {
        let noted = self.ledger.as_ref().and_then(|ledger| Some((ledger, ledger.of(self.entries.target(id))?)));
        noted.map_or(Verdict::Good, |(ledger, note)| ledger.verdict(note))
    }

    /// The tags of what is in a slot.
    pub fn tags(&self, id: u32) -> Option<&Arc<Tags>> {
        self.ledger.as_ref()?.of(self.entries.target(id))?.tags.as_ref()
    }

    /// This process's own count of what was invalidated: what a load that starts now has to be compared with.
    pub fn sequence(&self) -> u64 {
        self.ledger.as_ref().map_or(0, |ledger| ledger.registers.sequence())
    }

    /// Somebody else has written or removed what is called so behind.
    pub fn hear_changed(&mut self, key: u64, version: Version, out: &mut Discard<K, V>) {
        let Some(ledger) = &mut self.ledger else { return };
        ledger.note_behind(key);
        if let Some(flight) = ledger.load(key) {
            self.flights.detach(flight);
        }
        let named: Vec<_> = ledger.named(key).filter(|&entry| is_over(ledger.version(entry), version)).collect();
        for id in named.into_iter().filter_map(|entry| self.entries.resolve(entry)).collect::<Vec<_>>() {
            self.entries.remove(id, Reason::Removed, out);
        }
    }

    /// Something was done to what is called so behind, by somebody who does not say what.
    pub fn hear_touched(&mut self, key: u64) {
        let Some(ledger) = &mut self.ledger else { return };
        ledger.note_behind(key);
        ledger.set_unheard(NO_TURN + 1);
        if let Some(flight) = ledger.load(key) {
            self.flights.doubt(flight);
        }
        for entry in ledger.named(key).collect::<Vec<_>>() {
            if let Some(id) = self.entries.resolve(entry) {
                self.entries.watch(id, NO_TURN);
            }
        }
    }

    /// Something may have been missed: what has a name behind is to be compared with what is there.
    pub fn hear_nothing(&mut self) {
        let Some(ledger) = &mut self.ledger else { return };
        let turn = self.entries.doubt();
        ledger.set_unheard(turn);
        ledger.note_all();
        self.moved = self.flights.begun();
    }

    /// Tags or namespaces were invalidated, at a moment of the tier behind.
    pub fn hear_moved(&mut self, moved: &Move) {
        let ledger = self.ledger.get_or_insert_default();
        ledger.registers.apply(moved);
        self.note_moved();
    }

    /// The same, of what this process invalidates itself: at once.
    pub fn move_here(&mut self, names: &[Name], how: How) {
        let ledger = self.ledger.get_or_insert_default();
        ledger.registers.move_here(names, how);
        self.note_moved();
    }

    /// The same once more, where the tier behind may not have heard.
    pub fn move_again(&mut self, names: &[Name], how: How) {
        let ledger = self.ledger.get_or_insert_default();
        ledger.registers.move_again(names, how);
        self.note_moved();
    }

    /// All that the tier behind knows of them. False if what is in memory can no longer be compared with that.
    pub fn learn(&mut self, told: &Told) -> bool {
        let ledger = self.ledger.get_or_insert_default();
        let (known, sequence) = (ledger.registers.known(), ledger.registers.sequence());
        ledger.registers.learn(told);
        // Before anything was known nothing was kept that could have been compared with it.
        if known.birth != 0 && ledger.registers.sequence() != sequence {
            self.note_moved();
        }
        known.birth == 0 || known.birth == told.birth
    }

    fn note_moved(&mut self) {
        self.entries.doubt();
        // Who comes from now on does not take what a load brings that has begun before, unless it is found to be good.
        self.moved = self.flights.begun();
    }
}

impl Ledger {
    /// What the registers say of an entry.
    pub fn verdict(&self, note: &Note) -> Verdict {
        match &note.tags {
            Some(tags) if !broken(Rule::TagsAreCompared) => {
                self.registers.judge(&tags.path, tags.names.iter().map(|tag| &**tag), note.began)
            }
            _ => Verdict::Good,
        }
    }
}

#[cfg(test)]
mod tests;
