//! A lookup that loads nothing: memory, then the store. It takes no lease; what the store has comes into memory if nothing has
//! changed there since it was asked.

use super::super::held::Held;
use super::super::shared::Shared;
use super::Back;
use super::packing::in_memory;
use super::writing::Entry;
use crate::core::clock::Millis;
use crate::core::policy::Policy;

use crate::core::remote::cell::Framed;
use crate::core::remote::ledger::{Mark, Note};
use crate::error::{Error, StoreError};
use crate::io::store::drive::moment;
use crate::io::store::stored::Stored;
use std::hash::Hash;
use std::sync::Arc;

/// What memory has to say of a key.
pub(in crate::cache) enum Looked<V> {
    Found(Arc<Held<V>>),
    /// There is known to be nothing.
    Nothing,
    /// It knows nothing, and how things stand.
    Ask(Mark),
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
        let (mut asked, mut names) = (Vec::new(), Vec::new());
        for (at, key) in keys.into_iter().enumerate() {
            let hash = self.hash(&key);
            match self.look(hash, &key) {
                Looked::Found(held) => values[at] = held.value().cloned(),
                Looked::Nothing => {}
                Looked::Ask(mark) => {
                    names.push(back.tier.name(&key));
                    asked.push((at, hash, key, mark));
                }
            }
        }
        let found = back.tier.store().get_many(names.iter().cloned()).await;
        let mut failed = None;
        for (((at, hash, key, mark), name), found) in asked.into_iter().zip(names).zip(found) {
            match found {
                Ok(Some(stored)) => values[at] = self.found(back, (hash, key, mark), &name, &stored),
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
        }
        (values, failed)
    }

    fn look(&self, hash: u64, key: &K) -> Looked<V> {
        self.lock(hash).look(hash, key, self.clock())
    }

    /// A frame that the store gave.
    fn found(&self, back: &Back<K, V>, (hash, key, mark): (u64, K, Mark), name: &[u8], stored: &Stored) -> Option<V> {
        let now = self.clock().now();
        let (fresh_until, expires) =
            (moment(self.clock(), stored.fresh_until()), moment(self.clock(), stored.expires()));
        if fresh_until <= now {
            return None;
        }
        let found = back.tier.unpack(name, stored.frame())?;
        let load = found.as_ref().map_or(0, |(_, load)| *load);
        let value = found.map(|(value, _)| value);
        let (negative, policy) = (value.is_none(), Policy::forever());
        let life = policy.lifetime_left(negative, (fresh_until, expires), load);
        let life = in_memory(&policy, negative, life, back.tier.terms().memory_ttl, now);
        let held = Arc::new(Held::found(value.clone()));
        self.promote(Entry { hash, key, held, life }, (mark, Note::of(Some(stored.version()))), now);
        value
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

/// What a store's failure is to a caller.
pub(in crate::cache) fn told(error: Option<StoreError>, raises: bool) -> Result<(), Error> {
    error.filter(|_| raises).map_or(Ok(()), |error| Err(Error::Store(error)))
}
