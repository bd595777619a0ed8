//! Where an entry is, and what is done to it by hand: looked at, written, removed. No loads here.
//!
//! Keys that only Python can compare are looked for before the lock is taken; everything else is one step under it.

use super::coding::Fetched;
use super::events::Stored;
use super::recipe::{Kept, Labels};
use super::tier::{Gone, Object, PyMemory, Space, Tier, let_go};
use super::{args, copy, hearing};
use crate::core::clock::{Millis, deadline};
use crate::core::coherence::registers::Began;
use crate::core::flight::{FlightId, Settled, Written};
use crate::core::memory::{New, Placement, Reason, Target, Worth};
use crate::core::policy::Lifetime;
use crate::core::remote::ledger::{Note, Tags};
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// Where an entry is: its salted hash and its key.
pub struct Spot {
    /// The hash with the space's salt in it.
    pub hash: u64,
    /// The key as it is stored.
    pub key: Object,
    /// True if only Python can tell whether two such keys are the same.
    pub asks: bool,
}

/// A shortcut from call arguments to an entry with a name.
pub struct Alias {
    /// The hash of the arguments, salted with the function's own salt.
    pub hash: u64,
    /// The arguments.
    pub key: Object,
}

/// An entry that is not past its time.
pub struct Current {
    /// The stored object.
    pub value: Object,
    /// How readers get it.
    pub kind: u32,
    /// Its slot.
    pub target: Target,
    /// When it stops being fresh.
    pub deadline: Millis,
    /// Its tags.
    pub tags: Option<Arc<Tags>>,
}

impl Spot {
    /// Finds the entry, whatever its state, and the flight.
    pub fn locate(&self, py: Python<'_>, tier: &Tier) -> PyResult<(Option<Target>, Option<FlightId>)> {
        if self.asks {
            return super::asking::locate(py, tier, self);
        }
        Ok(self.find(&tier.memory.lock()))
    }

    /// Finds a key that does not ask.
    fn find(&self, memory: &PyMemory) -> (Option<Target>, Option<FlightId>) {
        // SAFETY: all keys are valid objects; comparing plain ones runs no Python.
        let same = |key: &Object| unsafe { args::same_plain(key.as_ptr(), self.key.as_ptr()) };
        let entry = memory.entries.find(self.hash, same).map(|id| memory.entries.target(id));
        (entry, memory.flights.find(self.hash, same))
    }

    /// What a get would be given now. Not a use, and not counted.
    pub fn served(&self, py: Python<'_>, tier: &Tier, space: &Space) -> PyResult<Option<Current>> {
        hearing::heed(py, tier);
        let (found, _) = self.locate(py, tier)?;
        let mut memory = tier.memory.lock();
        let id = found.filter(|_| !space.is_disabled()).and_then(|found| memory.entries.resolve(found));
        let id = id.filter(|&id| memory.settle(id, tier.clock.now()) == Settled::Plain);
        let id = id.filter(|&id| memory.entries.is_served(id, |end| tier.clock.has_come(end)));
        Ok(id.and_then(|id| {
            let found = memory.entries.peek(id)?;
            let (value, kind) = (found.value.clone_ref(py), found.tag);
            let deadline = memory.entries.span(id).fresh_until;
            let target = memory.entries.target(id);
            Some(Current { value, kind, target, deadline, tags: memory.tags(id).cloned() })
        }))
    }

    /// What memory has and only the store could vouch for, where that cannot be asked: a value that is fresh by its own time.
    pub fn suspect(&self, py: Python<'_>, tier: &Tier, space: &Space) -> PyResult<Option<Fetched>> {
        let (found, _) = self.locate(py, tier)?;
        let (mut memory, now) = (tier.memory.lock(), tier.clock.now());
        let id = found.filter(|_| !space.is_disabled()).and_then(|found| memory.entries.resolve(found));
        let id = id.filter(|&id| memory.entries.is_alive_slot(id) && memory.settle(id, now) == Settled::Suspect);
        let fresh = id.filter(|&id| now < memory.entries.span(id).fresh_until);
        let there = fresh.and_then(|id| {
            let found = memory.entries.peek(id).filter(|found| !copy::is_negative(found.tag))?;
            let note = memory.ledger.as_ref()?.of(memory.entries.target(id))?.clone();
            Some((found.value.clone_ref(py), found.tag, memory.entries.span(id), note))
        });
        drop(memory);
        let Some((value, kind, span, note)) = there else { return Ok(None) };
        let value = copy::hand_out(value.bind(py), kind)?.unbind();
        tier.remote().iter().for_each(|remote| remote.inbox().heard.note_unasked());
        Ok(Some(Fetched::kept(value, &span, &note)))
    }

    /// True if only the store can vouch for what memory has.
    pub fn is_doubted(&self, py: Python<'_>, tier: &Tier) -> PyResult<bool> {
        let (found, _) = self.locate(py, tier)?;
        let memory = tier.memory.lock();
        let id = found.and_then(|found| memory.entries.resolve(found));
        Ok(id.is_some_and(|id| memory.entries.doubted_since(id).is_some()))
    }

    /// The store has nothing of the kind: what memory has, if that is in doubt, is no more.
    pub fn refute(&self, py: Python<'_>, tier: &Tier) -> PyResult<()> {
        let (found, _) = self.locate(py, tier)?;
        let (mut gone, mut memory) = (Gone::default(), tier.memory.lock());
        let id = found.and_then(|found| memory.entries.resolve(found));
        if let Some(id) = id.filter(|&id| memory.entries.doubted_since(id).is_some()) {
            memory.entries.remove(id, Reason::Removed, &mut gone);
        }
        drop(memory);
        tier.release(py, gone, || None);
        Ok(())
    }

    /// Stores a value as an explicit write: whatever loads this key now will not replace it.
    #[inline]
    pub fn put(self, py: Python<'_>, tier: &Tier, space: &Space, kept: Kept) -> PyResult<()> {
        let Kept { value, kind, ttl: Some(ttl), weight, tags, .. } = kept else {
            self.delete(py, tier, space)?;
            return Ok(());
        };
        let now = tier.clock.now_for(ttl);
        let worth = Worth::new(weight, Duration::ZERO);
        let placement = Placement::new(space.group(), deadline(now, ttl), kind).worth(worth);
        if tags.is_some() {
            return self.put_tagged(py, tier, space, (value, tags.as_ref()), placement, now);
        }
        self.put_placed(py, tier, space, value, placement, now)
    }

    /// As [`put`](Self::put), for a value that ends when another would have ended.
    pub fn put_until(self, py: Python<'_>, tier: &Tier, space: &Space, kept: Kept, deadline: Millis) -> PyResult<()> {
        let worth = Worth::new(kept.weight, Duration::ZERO);
        let placement = Placement::new(space.group(), deadline, kept.kind).worth(worth);
        if kept.tags.is_some() {
            return self.put_tagged(py, tier, space, (kept.value, kept.tags.as_ref()), placement, tier.clock.now());
        }
        self.put_placed(py, tier, space, kept.value, placement, tier.clock.now())
    }

    #[cold]
    fn put_tagged(
        self,
        py: Python<'_>,
        tier: &Tier,
        space: &Space,
        (value, labels): (Object, Option<&Labels>),
        placement: Placement,
        now: Millis,
    ) -> PyResult<()> {
        let placement = placement.negative(copy::is_negative(placement.terms.tag()));
        let began = Began { here: Some(tier.memory.lock().sequence()), store: None };
        let note = Note { tags: space.tags(labels), began, ..Note::default() };
        self.put_located(py, tier, space, (value, Some(note)), placement, now)
    }

    #[inline(always)]
    fn put_placed(
        self,
        py: Python<'_>,
        tier: &Tier,
        space: &Space,
        value: Object,
        placement: Placement,
        now: Millis,
    ) -> PyResult<()> {
        let negative = copy::is_negative(placement.terms.tag());
        if self.asks || negative || tier.listeners.any() {
            let placement = placement.negative(negative);
            return self.put_located(py, tier, space, (value, None), placement, now);
        }
        self.put_plain(py, tier, value, placement, now);
        Ok(())
    }

    /// Stores a value under a key that does not ask, where nobody listens. Not part of its callers, so that what it calls is
    /// part of it.
    #[inline(never)]
    fn put_plain(self, py: Python<'_>, tier: &Tier, value: Object, placement: Placement, now: Millis) {
        let (hash, wanted) = (self.hash, self.key.as_ptr());
        // SAFETY: all keys are valid objects, ours lives in the table or in `gone`; comparing plain ones runs no Python.
        let same = |key: &Object| unsafe { args::same_plain(key.as_ptr(), wanted) };
        let mut gone = Gone::default();
        let mut memory = tier.memory.lock();
        if let Some(flight) = memory.flights.find(hash, same) {
            memory.flights.detach(flight);
        }
        memory.entries.put(New { hash, key: self.key, value, placement }, same, now, &mut gone);
        drop(memory);
        let_go(py, gone);
        tier.appointment.by(placement.terms.deadline());
    }

    /// What only Python can compare is looked for before the lock is taken, and what happened is told after it.
    #[cold]
    fn put_located(
        self,
        py: Python<'_>,
        tier: &Tier,
        space: &Space,
        (value, note): (Object, Option<Note>),
        placement: Placement,
        now: Millis,
    ) -> PyResult<()> {
        let located = self.locate(py, tier)?;
        let (hash, terms, mut gone) = (self.hash, placement.terms, Gone::default());
        let negative = copy::is_negative(terms.tag());
        let lifetime = if negative { Lifetime::negative(terms.deadline()) } else { Lifetime::plain(terms.deadline()) };
        let new = New { hash, key: self.key, value, placement };
        let mut memory = tier.memory.lock();
        let slot = memory.write(Written { new, lifetime }, located, now, &mut gone);
        if let (Some(id), Some(note)) = (slot, note) {
            let turn = memory.entries.turn();
            memory.note(id, note, turn);
        }
        drop(memory);
        tier.appointment.by(terms.deadline());
        tier.release(py, gone, || slot.and_then(|id| Stored::at(py, tier, space, hash, id)));
        Ok(())
    }

    /// Removes the entry and detaches its flight. True if a value was there that could have been served.
    pub fn delete(&self, py: Python<'_>, tier: &Tier, space: &Space) -> PyResult<bool> {
        let located = self.locate(py, tier)?;
        let mut gone = Gone::default();
        let mut memory = tier.memory.lock();
        let served = memory.forget(space.group(), located, |end| tier.clock.has_come(end), &mut gone);
        drop(memory);
        if tier.listeners.any() {
            tier.tell_deleted(py, space, self, gone)
        } else {
            let_go(py, gone)
        }
        Ok(served)
    }
}
