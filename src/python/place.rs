//! One key of a cache with a store behind its memory: what is asked of the store for it, and what of the answers goes into memory.
//!
//! The steps of explicit operations; `core::remote::write` says what a write's answer means. Waiting is `errand`'s.

use super::bridge::Few;
use super::coding::{Fetched, Present};
use super::hearing;
use super::keys;
use super::pending::Holds;
use super::recipe::{Kept, Labels, Recipe};
use super::remote::Behind;
use super::request::Request as Call;
use super::spot::{Current, Spot};
use super::state::State;
use super::tier::{Gone, Object, Space, Tier};
use crate::core::clock::{Millis, NEVER, later};
use crate::core::coherence::registers::{Began, Verdict};
use crate::core::flight::Written;
use crate::core::memory::{New, Placement, Worth};
use crate::core::policy::Lifetime;
use crate::core::remote::cell::Under;
use crate::core::remote::ledger::{Mark, Note};
use crate::core::remote::write::{Effect, Input, NEWEST, What, Write};
use crate::core::remote::{Filled, TOMBSTONE_LIFE, Version};
use crate::io::store::stored::Stored;
use crate::io::store::{Action, Answer, Reply, Request};
use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// A namespace of a cache and the store behind it: what its places have in common.
pub struct Home {
    /// The cache.
    pub tier: Arc<Tier>,
    /// Whose entries they are.
    pub space: Arc<Space>,
    /// The store behind.
    pub behind: Behind,
}

impl Home {
    /// So many lookups that memory had nothing for were answered.
    pub fn count(&self, hits: u64) {
        self.tier.memory.lock().entries.stats_mut(self.space.group()).note_remote_hits(hits);
    }

    /// How things stand in memory with what is there, and is called so in the store, for somebody who asks that now.
    pub fn mark(&self, spot: &Spot, key: &[u8]) -> Mark {
        self.tier.memory.lock().mark(spot.hash, self.behind.remote.hash(key))
    }

    /// These, and the clock, where it is not known what has moved of late.
    pub fn with_clock(&self, requests: Few<Request>) -> Few<Request> {
        if self.has_to_ask() { self.and_clock(requests) } else { requests }
    }

    /// True if it is not known what has moved of late.
    pub fn has_to_ask(&self) -> bool {
        self.behind.remote.has_to_ask(self.tier.clock.now())
    }

    /// These, and the clock.
    pub fn and_clock(&self, mut requests: Few<Request>) -> Few<Request> {
        requests.push(self.behind.remote.ask_clock(&self.tier.memory.lock()));
        requests
    }

    /// Takes the clock's answer from behind so many others, if it was asked.
    pub fn heard_clock(&self, answers: &mut Few<Answer>, others: usize) {
        if answers.len() > others
            && let Some(Ok(Reply::Told(told))) = answers.pop()
        {
            self.behind.remote.learn(&self.tier, &told);
        }
    }
}

/// See the module. Home and key are its own, or lent to it for a moment.
pub struct Place<H = Arc<Home>, K = Bytes> {
    home: H,
    /// Where it is in memory.
    pub spot: Spot,
    /// What it is called in the store.
    pub key: K,
}

impl<H: Deref<Target = Home>, K> Deref for Place<H, K> {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

impl Holds for Place {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        visit(&self.spot.key)
    }
}

impl Place {
    /// Of a name in a namespace.
    pub fn named(home: &Arc<Home>, name: &Bound<'_, PyString>) -> PyResult<Place> {
        let key = home.behind.remote.key(&home.space, name.to_str()?);
        Place::under(home, name, key.into())
    }

    /// The same, where it is known what that is called in the store.
    pub fn under(home: &Arc<Home>, name: &Bound<'_, PyString>, key: Bytes) -> PyResult<Place> {
        Ok(Place::at(Arc::clone(home), keys::named(name, &home.space)?, key))
    }

    /// That of a call; None if its entry is of this process alone.
    pub fn of(py: Python<'_>, state: &State, call: &Call) -> PyResult<Option<Place>> {
        let Call { tier, space, spot, behind: Some(behind), .. } = call else { return Ok(None) };
        hearing::heed(py, tier);
        let Some(key) = behind.remote.key_of(py, state, space, spot)? else { return Ok(None) };
        let spot = Spot { hash: spot.hash, key: spot.key.clone_ref(py), asks: false };
        let home = Home { tier: Arc::clone(tier), space: Arc::clone(space), behind: behind.clone_ref(py) };
        Ok(Some(Place { home: Arc::new(home), spot, key: key.into() }))
    }

    /// With what stamp a value is written by hand: 0 where its version is one. On a cluster another server's clock gives that, so it
    /// counts as written just after the last thing that was heard.
    fn start(&self) -> u64 {
        if self.behind.remote.store.counts_messages() {
            return 0;
        }
        let memory = self.tier.memory.lock();
        let newest = memory.ledger.as_ref().map_or(0, |ledger| ledger.registers.newest());
        if newest > 0 { newest + 1 } else { 0 }
    }

    /// Has this done in the store.
    #[inline]
    pub fn request(&self, action: Action) -> Request {
        Request { key: self.key.clone(), action }
    }
}

impl<H: Deref<Target = Home>, K: Deref<Target = [u8]>> Place<H, K> {
    /// Of a spot, and what it is called in the store.
    #[inline]
    pub fn at(home: H, spot: Spot, key: K) -> Self {
        Place { home, spot, key }
    }

    /// [`Home::mark`].
    pub fn mark(&self) -> Mark {
        self.home.mark(&self.spot, &self.key)
    }

    /// What a get would be given by memory.
    pub fn served(&self, py: Python<'_>) -> PyResult<Option<Current>> {
        self.spot.served(py, &self.tier, &self.space)
    }

    /// False where the store has yet to hear that what it has is no more.
    #[inline]
    pub fn is_believed(&self) -> bool {
        !self.behind.remote.is_behind(&self.key)
    }

    /// False where nothing is to be had by asking the store: what it has is not believed, and memory has nothing that answers where it
    /// cannot be asked.
    pub fn is_worth_asking(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.is_believed() || self.spot.is_doubted(py, &self.tier)?)
    }

    /// What the store answers to a read, if it is fresh, can be read and is believed. Where the store could not be asked, nothing.
    ///
    /// # Errors
    ///
    /// The store's, where it is to be raised.
    #[inline]
    pub fn fresh(&self, py: Python<'_>, answer: Answer, present: Present) -> PyResult<Option<Fetched>> {
        let stored = match answer {
            Ok(Reply::Read(stored)) => stored.filter(|_| self.is_believed()),
            Ok(_) => None,
            Err(error) => {
                self.behind.remote.failed(py, &error)?;
                None
            }
        };
        let Some(stored) = stored else { return Ok(None) };
        let mut fetched = self.behind.coding.get().read(py, &self.key, &stored, present);
        if let Some(fresh) = &mut fetched {
            let is_good = || self.behind.remote.judge(&self.tier, &self.space, fresh) == Verdict::Good;
            if present.0 >= fresh.fresh_until || !is_good() {
                return Ok(None);
            }
            if let Some(packed) = fresh.resealed.take() {
                self.behind.remote.rewrite(&self.key, fresh.version, *packed);
            }
        }
        Ok(fetched)
    }

    /// False for what the store has and counts as nothing: a note that there is nothing, what is no longer fresh, and what was
    /// invalidated by a tag or with its namespace.
    pub fn stands(&self, py: Python<'_>, stored: &Stored) -> bool {
        let present = self.tier.clock.both();
        let fetched = self.behind.coding.get().read(py, &self.key, stored, present);
        let is_good = |fetched: &Fetched| self.behind.remote.judge(&self.tier, &self.space, fetched) == Verdict::Good;
        fetched.is_none_or(|fetched| fetched.value.is_some() && present.0 < fetched.fresh_until && is_good(&fetched))
    }

    /// The same; what memory has, where the store could not be asked whether that is still so.
    pub fn known(&self, py: Python<'_>, answer: Answer, present: Present) -> PyResult<Option<Fetched>> {
        let unanswered = answer.is_err();
        let fresh = self.fresh(py, answer, present)?;
        if unanswered { self.spot.suspect(py, &self.tier, &self.space) } else { Ok(fresh) }
    }

    /// What a lookup that loads nothing is given: what the store has, kept in memory too, and counted, or what memory has, where the store
    /// could not be asked whether that is still so.
    ///
    /// # Errors
    ///
    /// The store's, where it is to be raised.
    pub fn found(
        &self,
        py: Python<'_>,
        answer: Answer,
        recipe: &Recipe,
        (mark, present): (Mark, Present),
        hits: &mut u64,
    ) -> PyResult<Option<Object>> {
        let unanswered = answer.is_err();
        if let Some(fetched) = self.fresh(py, answer, present)? {
            *hits += 1;
            return self.promote(py, fetched, recipe, (mark, present.0));
        }
        if unanswered {
            return Ok(self.spot.suspect(py, &self.tier, &self.space)?.and_then(|suspect| suspect.value));
        }
        self.spot.refute(py, &self.tier)?;
        Ok(None)
    }

    /// Keeps in memory what the store had, if nothing has changed there since; gives the value as a reader gets it, or nothing for
    /// a note that there is nothing.
    fn promote(
        &self,
        py: Python<'_>,
        fetched: Fetched,
        recipe: &Recipe,
        (mark, now): (Mark, Millis),
    ) -> PyResult<Option<Object>> {
        if self.behind.remote.keeps && fetched.value.is_some() && !self.space.is_disabled() {
            self.keep(py, &fetched, recipe, (mark, now))?;
        }
        // What was decoded is nobody else's: its reader gets it as it is.
        Ok(fetched.value)
    }

    fn keep(&self, py: Python<'_>, fetched: &Fetched, recipe: &Recipe, (mark, now): (Mark, Millis)) -> PyResult<()> {
        let Some(value) = &fetched.value else { return Ok(()) };
        let lifetime = fetched.lifetime(&recipe.policy, self.behind.remote.most, now);
        let (stored, kind) = self.tier.isolate(value.bind(py), recipe.copy)?;
        let worth = Worth::new(self.tier.weigh(value.bind(py))?, Duration::from_millis(lifetime.span.load.into()));
        let placement = Placement::new(self.space.group(), lifetime.span.expires, kind).worth(worth);
        let (hash, key) = (self.spot.hash, self.spot.key.clone_ref(py));
        let written = Written { new: New { hash, key, value: stored.unbind(), placement }, lifetime };
        let located = self.spot.locate(py, &self.tier)?;
        let mut gone = Gone::default();
        let began = Began { here: Some(mark.sequence), ..fetched.began };
        let note = self.note(Some(fetched.version), began, fetched.tags.as_ref());
        self.tier.memory.lock().promote(written, located, (mark, note), now, &mut gone);
        self.tier.appointment.by(lifetime.span.expires);
        self.tier.release(py, gone, || None);
        Ok(())
    }

    /// What memory is to note of what it keeps.
    fn note(&self, version: Option<Version>, began: Began, labels: Option<&Labels>) -> Note {
        Note { version, key: self.behind.remote.hash(&self.key), tags: self.space.tags(labels), began }
    }
}

/// A value on its way into store and memory, or the removal of one.
pub struct Change {
    place: Place,
    write: Write<()>,
    mark: Mark,
    /// What goes in; None: what is there goes.
    kept: Option<(Kept, Lifetime)>,
    /// How much this process had invalidated when it began.
    sequence: u64,
    /// What it is compared with in the store's order; 0: its version.
    start: u64,
}

impl Holds for Change {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        self.place.visit(visit) && self.kept.as_ref().is_none_or(|(kept, _)| visit(&kept.value))
    }
}

/// What has to be there for a write to be made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Anything.
    Anything,
    /// Nothing fresh.
    Nothing,
    /// What was written last has this version.
    Version(Version),
}

/// What a change came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// It was made, where something was or where nothing was.
    Made(bool),
    /// It was not: things were not as they had to be.
    Refused,
}

impl Change {
    /// A value, which ends then; gives what to ask of the store. One that is not to be kept is a removal.
    ///
    /// # Errors
    ///
    /// CodecError: it has no form. Nothing has been stored.
    pub fn put(py: Python<'_>, place: Place, kept: Kept, end: Millis, over: Over) -> PyResult<(Change, Request)> {
        if kept.ttl.is_none() {
            return Ok(Change::removal(place));
        }
        let (negative, now) = (kept.is_negative(), place.tier.clock.now());
        let lifetime = if negative { Lifetime::negative(end) } else { Lifetime::plain(end) };
        let value = kept.plain(py)?;
        let coding = place.behind.coding.get();
        let start = place.start();
        let (what, how) = (kept.written(&value), (kept.tags.as_ref(), start));
        let packed = coding.pack(py, &place.key, what, (&lifetime, now), how, &place.tier.clock)?;
        let Some((frame, keep)) = packed else {
            // Too large, and such values are skipped: then no older one must stay.
            return Ok(Change::removal(place));
        };
        let (write, _) = Write::begin(What::Value(()));
        let tell = place.behind.remote.tell_others();
        let action = match over {
            Over::Anything => Action::Put { frame, keep, tell },
            Over::Nothing => Action::Fill { under: Under::Nothing, newer_than: None, frame, keep, tell },
            Over::Version(version) => {
                Action::Fill { under: Under::Version(version), newer_than: None, frame, keep, tell }
            }
        };
        place.behind.remote.inbox().heard.keeps_unasked(0, now);
        let (mark, request) = (place.mark(), place.request(action));
        let sequence = place.tier.memory.lock().sequence();
        Ok((Change { place, write, mark, kept: Some((kept, lifetime)), sequence, start }, request))
    }

    /// What is there goes.
    pub fn removal(place: Place) -> (Change, Request) {
        let (write, _) = Write::begin(What::Tombstone);
        let tell = place.behind.remote.tell_others();
        let (mark, request) =
            (place.mark(), place.request(Action::Invalidate { keep: TOMBSTONE_LIFE, by: None, tell }));
        (Change { place, write, mark, kept: None, sequence: 0, start: 0 }, request)
    }

    /// Notes whether something has come between, before what else was written with it is followed.
    pub fn look_round(&mut self) {
        if !self.place.tier.memory.lock().is_unchanged(self.mark) {
            self.write.step(Input::Overtaken(NEWEST));
        }
    }

    /// The store has answered; the memory follows.
    pub fn told(self, py: Python<'_>, answer: Answer) -> PyResult<Came> {
        let remote = Arc::clone(&self.place.behind.remote);
        let (input, was_there, error) = match answer {
            Ok(Reply::Written(version)) => (Input::Written(version), true, None),
            Ok(Reply::Buried(version, there)) => (Input::Written(version), there, None),
            Ok(Reply::Filled(Filled::Written(version))) => (Input::Written(version), true, None),
            Ok(Reply::Filled(_)) => return Ok(Came::Refused),
            Ok(_) => (Input::Unknown, false, None),
            // Who is told of the error is not to find the value all the same.
            Err(error) if error.undone && !remote.raises => (Input::Unreachable, false, Some(error)),
            Err(error) => (Input::Unknown, false, Some(error)),
        };
        let there = self.follow(py, input)?;
        error.map_or(Ok(()), |error| remote.failed(py, &error))?;
        Ok(Came::Made(was_there || there))
    }

    /// Nobody waits for the answer any more: until it comes, if it does, memory has nothing there.
    pub fn left(&self, py: Python<'_>) {
        let Place { home, spot, .. } = &self.place;
        let Home { tier, space, .. } = &**home;
        if let Err(error) = spot.delete(py, tier, space) {
            error.write_unraisable(py, None);
        }
        tier.memory.lock().note_change(spot.hash);
    }

    /// Does in memory what the machine says; true if something was there.
    fn follow(self, py: Python<'_>, input: Input) -> PyResult<bool> {
        let Change { place, mut write, kept, sequence, start, .. } = self;
        if let Input::Written(version) = input {
            place.behind.remote.heard(&place.key);
            place.behind.remote.note_written(Some(version));
        }
        let (mut kept, mut there) = (kept, false);
        for effect in write.step(input) {
            match effect {
                Effect::PutMemory((), version) => {
                    if let Some((kept, lifetime)) = kept.take() {
                        let stamp = version.map(|version| if start > 0 { start } else { version.0 });
                        let began = Began { here: Some(sequence), store: stamp };
                        put(py, &place, kept, &lifetime, (version, began))?;
                    }
                }
                Effect::DropMemory(_) => {
                    there = place.spot.delete(py, &place.tier, &place.space)?;
                    place.tier.memory.lock().note_change(place.spot.hash);
                }
                // What the store may do late, once it goes on, is not older than that.
                Effect::Recover => place.behind.remote.recover(&place.key, input == Input::Unreachable),
                // Others are told when there is a bus; the caller, when this returns.
                Effect::Publish(_) | Effect::Done(_) | Effect::WriteTier(_) => {}
            }
        }
        Ok(there)
    }
}

/// Into memory, whatever is there.
fn put(
    py: Python<'_>,
    place: &Place,
    kept: Kept,
    lifetime: &Lifetime,
    (version, began): (Option<Version>, Began),
) -> PyResult<()> {
    let Place { home, spot, .. } = place;
    let Home { tier, space, behind } = &**home;
    let same = Spot { hash: spot.hash, key: spot.key.clone_ref(py), asks: spot.asks };
    let note = place.note(version, began, kept.tags.as_ref());
    if behind.remote.keeps {
        let now = tier.clock.now();
        let most = behind.remote.most.map_or(NEVER, |most| later(now, most));
        same.put_until(py, tier, space, kept, lifetime.span.expires.min(most))?;
    } else {
        same.delete(py, tier, space)?;
    }
    let located = spot.locate(py, tier)?;
    let mut memory = tier.memory.lock();
    if let Some(id) = located.0.and_then(|entry| memory.entries.resolve(entry)) {
        let turn = memory.entries.turn();
        memory.note(id, note, turn);
    }
    memory.note_change(spot.hash);
    Ok(())
}
