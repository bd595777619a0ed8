//! A lookup that loads nothing: memory, then the store. It takes no lease; what the store has comes into memory if nothing has
//! changed there since it was asked.

use super::super::held::Held;
use super::super::shared::Shared;
use super::packing::in_memory;
use super::writing::Entry;
use super::{Back, is_out_of_reach};
use crate::core::clock::Millis;
use crate::core::coherence::registers::Verdict;
use crate::core::policy::Policy;
use crate::core::remote::Version;
use crate::core::remote::cell::Framed;
use crate::core::remote::ledger::{Mark, Note};
use crate::error::{Error, StoreError};
use crate::io::store::drive::moment;
use crate::io::store::stored::Stored;
use crate::io::store::{Action, Answer, Reply, Request, unanswered};
use std::hash::Hash;
use std::sync::Arc;

/// What memory has to say of a key.
pub(in crate::cache) enum Looked<V> {
    Found(Arc<Held<V>>),
    /// There is known to be nothing.
    Nothing,
    /// It knows nothing.
    Ask,
}

/// A key that memory knows nothing of.
struct Asked<K> {
    /// Its place among those of the call.
    at: usize,
    hash: u64,
    key: K,
    name: Vec<u8>,
    behind: u64,
    mark: Mark,
}

impl<K, V> Shared<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The values of many keys, from memory or else from the store, in their order. All that memory does not have is asked for at once.
    ///
    /// # Errors
    ///
    /// What the store said, by its place, where it could not be asked.
    pub async fn fetch(self: &Arc<Self>, back: &Back<K, V>, keys: Vec<K>) -> (Vec<Option<V>>, Option<StoreError>) {
        let mut values: Vec<Option<V>> = keys.iter().map(|_| None).collect();
        let mut asked = Vec::new();
        for (at, key) in keys.into_iter().enumerate() {
            let hash = self.hash(&key);
            self.heed(hash);
            let looked = self.lock(hash).look(hash, &key, self.clock());
            match looked {
                Looked::Found(held) => values[at] = held.value().cloned(),
                Looked::Nothing => {}
                Looked::Ask => {
                    let name = back.tier.name(&key);
                    let behind = back.hash(&name);
                    let mark = self.lock(hash).memory.mark(hash, behind);
                    asked.push(Asked { at, hash, key, name, behind, mark });
                }
            }
        }
        let mut failed = None;
        for (asked, answer) in self.ask(back, asked).await {
            let at = asked.at;
            match answer {
                Ok(Reply::Read(stored)) => values[at] = self.found(back, asked, stored.as_ref()),
                Ok(_) => failed = Some(unanswered()),
                Err(error) => {
                    back.is_away(is_out_of_reach(&error));
                    let suspect = self.suspect(back, asked.hash, &asked.key);
                    values[at] = suspect.and_then(|(held, ..)| held.value().cloned());
                    failed = Some(error);
                }
            }
        }
        (values, failed)
    }

    /// Asks for all of these at once, and the clock with them where it is not known what has moved of late.
    async fn ask(&self, back: &Back<K, V>, asked: Vec<Asked<K>>) -> Vec<(Asked<K>, Answer)> {
        let read = |asked: &Asked<K>| Request { key: asked.name.clone().into(), action: Action::Read };
        let mut requests: Vec<Request> = asked.iter().map(read).collect();
        let clocks = self.clocks(back, asked.iter().map(|asked| asked.hash));
        requests.extend(clocks.iter().map(|&hash| self.ask_clock(back, hash)));
        let mut answers = back.tier.store().ask(requests).await;
        // What was read is judged by it.
        for (hash, told) in clocks.into_iter().zip(answers.split_off(asked.len())) {
            if let Ok(Reply::Told(told)) = told {
                self.learn(back, hash, &told);
            }
        }
        asked.into_iter().zip(answers).collect()
    }

    /// What the store gave.
    fn found(&self, back: &Back<K, V>, asked: Asked<K>, stored: Option<&Stored>) -> Option<V> {
        back.is_away(false);
        let (hash, now) = (asked.hash, self.clock().now());
        let fresh = stored.and_then(|stored| {
            let ends = (moment(self.clock(), stored.fresh_until()), moment(self.clock(), stored.expires()));
            let found = back.tier.unpack(&asked.name, stored.frame()).filter(|_| now < ends.0)?;
            let note = found.note(stored.version(), asked.behind);
            (self.judge(back, hash, &note) == Verdict::Good).then_some((found, note, ends))
        });
        let Some((found, mut note, ends)) = fresh else {
            self.refute(hash, &asked.key);
            return None;
        };
        note.began.here = Some(asked.mark.sequence);
        let load = found.value.as_ref().map_or(0, |(_, load)| *load);
        let value = found.value.map(|(value, _)| value);
        let (negative, policy) = (value.is_none(), Policy::forever());
        let life = policy.lifetime_left(negative, ends, load);
        let life = in_memory(&policy, negative, life, back.tier.terms().memory_ttl, now);
        let held = Arc::new(Held::found(value.clone()));
        self.promote(Entry { hash, key: asked.key, held, life }, (asked.mark, note), now);
        value
    }

    /// The version of what the store has under a key, if that is a value that counts.
    ///
    /// # Errors
    ///
    /// The store did not answer.
    pub async fn standing(&self, back: &Back<K, V>, key: &K) -> Result<Option<Version>, StoreError> {
        let (hash, name) = (self.hash(key), back.tier.name(key));
        let (behind, key) = (back.hash(&name), back.tier.copy(key));
        self.heed(hash);
        let asked = Asked { at: 0, hash, key, name, behind, mark: Mark::default() };
        match self.ask(back, vec![asked]).await.pop() {
            Some((asked, Ok(Reply::Read(Some(stored))))) => {
                let is_fresh = self.clock().now() < moment(self.clock(), stored.fresh_until()) && stored.has_value();
                let counts = is_fresh && self.counts(back, (hash, behind), &asked.name, &stored);
                Ok(counts.then(|| stored.version()))
            }
            Some((_, Ok(Reply::Read(None)))) => Ok(None),
            Some((_, Err(error))) => Err(error),
            _ => Err(unanswered()),
        }
    }

    /// Asks what has moved, if that is not known, before what the store says is judged by it.
    pub async fn know(&self, back: &Back<K, V>, key: &K) {
        let hash = self.hash(key);
        self.heed(hash);
        if !self.clocks(back, [hash].into_iter()).is_empty()
            && let Some(Ok(Reply::Told(told))) = back.tier.store().ask(vec![self.ask_clock(back, hash)]).await.pop()
        {
            self.learn(back, hash, &told);
        }
    }

    fn promote(&self, entry: Entry<K, V>, since: (Mark, Note), now: Millis) {
        let (mut out, mut weight) = (self.gone(), None);
        let (hash, expires) = (entry.hash, entry.life.span.expires);
        let mut state = self.lock_for(hash, &entry.held, &mut weight);
        let located = state.locate(hash, &entry.key);
        let written = entry.into_new(state.group, weight);
        state.memory.promote(written, located, since, now, &mut out.left);
        state.stats().note_remote_hits(1);
        drop(state);
        self.expect(Some(expires));
    }
}

impl<K, V> Shared<K, V> {
    /// True for what the store has and was not invalidated. What cannot be read may be another's.
    pub fn counts(&self, back: &Back<K, V>, (hash, behind): (u64, u64), name: &[u8], stored: &Stored) -> bool {
        let found = back.tier.unpack(name, stored.frame());
        found.is_none_or(|found| self.judge(back, hash, &found.note(stored.version(), behind)) == Verdict::Good)
    }
}

/// What a store's failure is to a caller.
pub(in crate::cache) fn told(error: Option<StoreError>, raises: bool) -> Result<(), Error> {
    error.filter(|_| raises).map_or(Ok(()), |error| Err(Error::Store(error)))
}
