//! What is written by hand where there is a tier behind: to the store first, then to memory.
//!
//! A write goes on when its caller does not wait for it: what the store has taken must not find an older value in memory. So its end is
//! done where the store's answer arrives, on a thread of the store's. A write whose answer never arrives ends as one of unknown
//! outcome.

use super::super::held::Held;
use super::super::shard::State;
use super::super::shared::Shared;
use super::heeding::start;
use super::packing::{in_memory, kept, stamps};
use super::{Back, is_out_of_reach};
use crate::core::clock::Millis;
use crate::core::coherence::registers::Began;
use crate::core::flight::Written as New;
use crate::core::memory;
use crate::core::memory::{Placement, Reason, Turn, Worth};
use crate::core::policy::{Lifetime, Policy};
use crate::core::remote::cell::{Framed as _, Under};
use crate::core::remote::ledger::{Mark, Note};
use crate::core::remote::write::{Effect, Input, NEWEST, Outcome, What, Write};
use crate::core::remote::{Filled, TOMBSTONE_LIFE, Version};
use crate::error::{Error, StoreError};
use crate::io::store::{Action, Answer, Answers, Reply, Request, unanswered};
use parking_lot::Mutex;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How far a write came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cache) enum Come {
    /// This far.
    To(Outcome),
    /// What was to be so was not: nothing has changed.
    Nowhere,
    /// The same, but what is there counts as nothing, since it was invalidated: it may be written over under this condition.
    Again(Under),
}

/// What a caller is told: how far it came, and why no further.
pub(in crate::cache) type Word = (Come, Option<StoreError>);

/// What is to be written under a key.
pub(in crate::cache) enum Writing<V> {
    /// A value, or that there is none.
    Put(Held<V>, Policy),
    /// Nothing any more.
    Forget,
}

/// A write whose request is on its way.
struct Pending<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    shared: Arc<Shared<K, V>>,
    hash: u64,
    /// The hash of what it is called in the store.
    behind: u64,
    mark: Mark,
    write: Write<()>,
    under: Option<Under>,
    again: Option<Under>,
    /// Until it has ended.
    rest: Option<Rest<K, V>>,
}

/// What comes into memory when the store has it, if anything does.
type Coming<V> = Option<Arriving<V>>;

struct Arriving<V> {
    held: Arc<Held<V>>,
    life: Lifetime,
    /// What it is compared with in the store's order; 0: its version.
    start: u64,
}

struct Rest<K, V> {
    key: K,
    put: Coming<V>,
    tell: Option<oneshot::Sender<Word>>,
}

/// Where a caller hears of a write.
pub(in crate::cache) type Hearing = oneshot::Receiver<Word>;

impl<K, V> Shared<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Begins writes, which go to the store together. Each is heard of, in their order.
    ///
    /// # Errors
    ///
    /// [`Error::Codec`] of the first value that has no frame. Nothing is written then.
    pub fn write_through(
        self: &Arc<Self>,
        back: &Back<K, V>,
        writes: impl IntoIterator<Item = (K, Writing<V>)>,
        under: Option<Under>,
    ) -> Result<Vec<Hearing>, Error> {
        let framed = writes.into_iter().map(|(key, writing)| self.framed(back, key, writing, under));
        let framed = framed.collect::<Result<Vec<_>, Error>>()?;
        let (mut hearings, mut requests, mut pending) = (Vec::new(), Vec::new(), Vec::new());
        for (key, action, put) in framed {
            let (tell, hearing) = oneshot::channel();
            hearings.push(hearing);
            let name = back.tier.name(&key);
            pending.push(Some(self.pending(back, &name, Rest { key, put, tell: Some(tell) }, under)));
            requests.push(Request { key: name.into(), action });
        }
        submit(back, requests, pending);
        Ok(hearings)
    }

    /// Tells the store what it could not be told: these keys are no more. They are told again if it fails.
    pub fn bury_again(self: &Arc<Self>, back: &Back<K, V>, keys: Vec<(Vec<u8>, K)>) {
        let (mut requests, mut pending) = (Vec::new(), Vec::new());
        for (name, key) in keys {
            pending.push(Some(self.pending(back, &name, Rest { key, put: None, tell: None }, None)));
            requests.push(Request { key: name.into(), action: bury(back) });
        }
        submit(back, requests, pending);
    }

    fn pending(
        self: &Arc<Self>,
        back: &Back<K, V>,
        name: &[u8],
        rest: Rest<K, V>,
        under: Option<Under>,
    ) -> Pending<K, V> {
        let what = if rest.put.is_some() { What::Value(()) } else { What::Tombstone };
        let (hash, behind, (write, _)) = (self.hash(&rest.key), back.hash(name), Write::begin(what));
        self.heed(hash);
        back.heard().keeps_unasked(self.shard_of(hash), self.clock().now());
        let mark = self.lock(hash).memory.mark(hash, behind);
        Pending { shared: Arc::clone(self), hash, behind, mark, write, under, again: None, rest: Some(rest) }
    }

    /// What to ask the store for, and what comes into memory then.
    fn framed(
        &self,
        back: &Back<K, V>,
        key: K,
        writing: Writing<V>,
        under: Option<Under>,
    ) -> Result<Framed<K, V>, Error> {
        let (held, policy) = match writing {
            Writing::Put(held, policy) => (held, policy),
            Writing::Forget => return Ok((key, bury(back), None)),
        };
        let negative = held.value().is_none();
        let ttl = if negative { policy.negative_ttl } else { policy.ttl };
        if ttl == Some(Duration::ZERO) {
            return Ok((key, bury(back), None));
        }
        let now = self.clock().now();
        let life = policy.lifetime(ttl, negative, (now, now), 0.0);
        let name = back.tier.name(&key);
        let start = start(self, back, self.hash(&key));
        let frame = back.tier.pack(&name, held.value(), stamps(self.clock(), &life, 0, start))?;
        let (keep, tell) = (kept(&life, now), back.tell_others());
        let action = match under {
            None => Action::Put { frame, keep, tell },
            Some(under) => Action::Fill { under, newer_than: None, frame, keep, tell },
        };
        let life = in_memory(&policy, negative, life, back.tier.terms().memory_ttl, now);
        Ok((key, action, Some(Arriving { held: Arc::new(held), life, start })))
    }
}

/// Whatever is there is no more.
fn bury<K, V>(back: &Back<K, V>) -> Action {
    Action::Invalidate { keep: TOMBSTONE_LIFE, by: None, tell: back.tell_others() }
}

/// What is asked of the store, and what comes of that.
type Framed<K, V> = (K, Action, Coming<V>);

fn submit<K, V>(back: &Back<K, V>, requests: Vec<Request>, pending: Vec<Option<Pending<K, V>>>)
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    if requests.is_empty() {
        return;
    }
    let pending = Mutex::new(pending);
    let give = move |answers: Vec<(usize, Answer)>| {
        for (at, answer) in answers {
            let one = pending.lock().get_mut(at).and_then(Option::take);
            if let Some(one) = one {
                one.end(answer);
            }
        }
    };
    back.tier.store().submit(requests, Answers::new(give));
}

/// What the store's answer is to a write; `None` if what was to be so was not.
fn input(answer: Answer) -> (Option<Input>, Option<StoreError>) {
    match answer {
        Ok(Reply::Written(version) | Reply::Buried(version, _) | Reply::Filled(Filled::Written(version))) => {
            (Some(Input::Written(version)), None)
        }
        Ok(Reply::Filled(Filled::Lost(_) | Filled::Gone)) => (None, None),
        Ok(_) => (Some(Input::Unknown), Some(unanswered())),
        Err(error) if error.undone => (Some(Input::Unreachable), Some(error)),
        Err(error) => (Some(Input::Unknown), Some(error)),
    }
}

impl<K, V> Pending<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn end(mut self, answer: Answer) {
        self.again = self.looks_again(&answer);
        let (input, error) = input(answer);
        if let Some(back) = self.shared.back() {
            back.is_away(error.as_ref().is_some_and(is_out_of_reach));
        }
        self.finish(input, error);
    }

    /// Under what condition a value may be written that was refused, by what is there.
    fn looks_again(&self, answer: &Answer) -> Option<Under> {
        let (back, under) = (self.shared.back()?, self.under.filter(|under| *under != Under::Something)?);
        match answer {
            Ok(Reply::Filled(Filled::Lost(stored))) => {
                let name = back.tier.name(&self.rest.as_ref()?.key);
                let counts = self.shared.counts(back, (self.hash, self.behind), &name, stored);
                (!counts).then_some(Under::Version(stored.version()))
            }
            // What was to be written over is not there any more.
            Ok(Reply::Filled(Filled::Gone)) if under != Under::Nothing => Some(Under::Nothing),
            _ => None,
        }
    }

    fn finish(&mut self, input: Option<Input>, error: Option<StoreError>) {
        let Some(Rest { key, put, tell }) = self.rest.take() else { return };
        let come = match input {
            None => self.again.map_or(Come::Nowhere, Come::Again),
            // Who makes conditions is told that nobody knows whether they held. The store is told nothing more: what is there may be
            // somebody else's. What memory has may be older.
            Some(Input::Unknown | Input::Unreachable) if self.under.is_some() => {
                let mut out = self.shared.gone();
                self.shared.lock(self.hash).drop_version(self.hash, &key, None, &mut out.left);
                Come::Nowhere
            }
            Some(input) => self.settle((key, put, tell.is_some()), input),
        };
        match (tell, self.shared.back()) {
            // Who does not wait need not be told.
            (Some(tell), _) => _ = tell.send((come, error)),
            (None, Some(back)) => back.recovery.answered(),
            (None, None) => {}
        }
    }

    /// `first`: it was not written for the store to be told what it was not told before.
    fn settle(&mut self, (key, put, first): (K, Coming<V>, bool), input: Input) -> Come {
        let Some(back) = self.shared.back() else { return Come::Nowhere };
        let (mut come, mut recovers, spare) = (Come::Nowhere, false, back.tier.copy(&key));
        for effect in self.shared.step_write((self.hash, self.behind), (key, put), (&mut self.write, self.mark), input)
        {
            match effect {
                Effect::Recover => recovers = true,
                Effect::Done(outcome) => come = Come::To(outcome),
                // The store has told the others when it wrote. The rest is done.
                Effect::Publish(_) | Effect::WriteTier(_) | Effect::PutMemory(..) | Effect::DropMemory(_) => {}
            }
        }
        if recovers {
            let due = back.recovery.add(back.tier.name(&spare), spare, self.shared.clock().now());
            self.shared.expect(due);
            // What will not be told is not queued.
            return if due.is_some() { come } else { Come::Nowhere };
        }
        if first {
            // The store answers: it can be told the rest.
            self.shared.recover(true);
        }
        come
    }
}

/// Its answer never came.
impl<K, V> Drop for Pending<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.finish(Some(Input::Unknown), Some(unanswered()));
    }
}

impl<K, V> Shared<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// What a write has come to, decided and done to the memory in one step; gives what is left to do.
    fn step_write(
        &self,
        (hash, behind): (u64, u64),
        (key, put): (K, Coming<V>),
        (write, mark): (&mut Write<()>, Mark),
        input: Input,
    ) -> Vec<Effect<()>> {
        let mut out = self.gone();
        let mut weight = None;
        let mut key = Some(key);
        let mut state = match &put {
            Some(Arriving { held, .. }) => self.lock_for(hash, held, &mut weight),
            None => self.lock(hash),
        };
        if !state.memory.is_unchanged(mark) {
            write.step(Input::Overtaken(NEWEST));
        }
        let effects = write.step(input);
        let now = self.clock().now();
        for effect in &effects {
            match effect {
                Effect::PutMemory((), version) => {
                    if let (Some(key), Some(Arriving { held, life, start })) = (key.take(), &put) {
                        let entry = Entry { hash, key, held: Arc::clone(held), life: *life };
                        let stamp = version.map(|version| if *start > 0 { *start } else { version.0 });
                        let began = Began { here: Some(mark.sequence), store: stamp };
                        let note = Note { version: *version, key: behind, tags: None, began };
                        state.put_version((entry, weight), (note, mark.turn), now, &mut out.left);
                    }
                }
                Effect::DropMemory(version) => {
                    if let Some(key) = &key {
                        state.drop_version(hash, key, *version, &mut out.left);
                    }
                }
                _ => {}
            }
        }
        drop(state);
        self.expect(put.map(|put| put.life.span.expires));
        effects
    }
}

/// A value that comes into memory.
pub(in crate::cache) struct Entry<K, V> {
    pub hash: u64,
    pub key: K,
    pub held: Arc<Held<V>>,
    pub life: Lifetime,
}

impl<K, V> Entry<K, V> {
    /// As the memory is given it, which weighs it or not.
    pub fn into_new(self, group: memory::GroupId, weight: Option<u64>) -> New<K, Arc<Held<V>>> {
        let Entry { hash, key, held, life } = self;
        let negative = held.value().is_none();
        let worth = Worth::new(weight.unwrap_or(1), Duration::from_millis(life.span.load.into()));
        let placement = Placement::new(group, life.span.expires, 0).worth(worth).negative(negative);
        New { new: memory::New { hash, key, value: held, placement }, lifetime: life }
    }
}

impl<K: Eq, V> State<K, V> {
    /// Puts a value in the place of what it replaces; a load of the key stores nothing.
    fn put_version(
        &mut self,
        (entry, weight): (Entry<K, V>, Option<u64>),
        (note, turn): (Note, Turn),
        now: Millis,
        out: &mut memory::Discard<K, Arc<Held<V>>>,
    ) {
        let hash = entry.hash;
        let located = self.locate(hash, &entry.key);
        self.memory.note_change(hash);
        if !self.is_replaced(located.0, note.version) {
            located.1.into_iter().for_each(|flight| self.memory.flights.detach(flight));
            out.keep(Some(entry.key), Some(entry.held));
            return;
        }
        let written = entry.into_new(self.group, weight);
        if let Some(id) = self.memory.write(written, located, now, out) {
            self.memory.note(id, note, turn);
        }
    }

    /// Removes what a tombstone of this version replaces, or whatever is there; a load of the key stores nothing.
    pub fn drop_version(
        &mut self,
        hash: u64,
        key: &K,
        version: Option<Version>,
        out: &mut memory::Discard<K, Arc<Held<V>>>,
    ) {
        let (entry, flight) = self.locate(hash, key);
        self.memory.note_change(hash);
        flight.into_iter().for_each(|flight| self.memory.flights.detach(flight));
        if let Some(id) = entry.and_then(|entry| self.memory.entries.resolve(entry))
            && self.is_replaced(entry, version)
        {
            self.memory.entries.remove(id, Reason::Removed, out);
        }
    }

    /// True if what has this version takes the place of what is there.
    fn is_replaced(&self, entry: Option<memory::Target>, version: Option<Version>) -> bool {
        let there = entry.and_then(|entry| self.memory.entries.resolve(entry)).and_then(|id| self.memory.version(id));
        version.is_none_or(|version| version.replaces(there))
    }
}
