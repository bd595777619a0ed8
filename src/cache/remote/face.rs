//! The operations on both tiers, as users call them. On a cache without a tier behind they are those on memory, and need no await.

use super::super::Cache;
use super::super::held::Held;
use super::super::shared::Over;
use super::reading::told;
use super::writing::{Come, Hearing, Word, Writing};
use super::{Back, BusStats, OnError};
use crate::codec::refusal::Refusal;
use crate::core::policy::Policy;
use crate::core::remote::cell::Under;
use crate::core::remote::write::Outcome;
use crate::error::{Error, Result};
use crate::io::store::unanswered;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// Both tiers: memory, and the [store behind it](super::Remote) if there is one. What is written goes to the store first, then into
/// memory, then its writer is told; and it goes on if its writer does not wait for that.
impl<K, V> Cache<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Stores a value, whatever was there before, in both tiers. A load of the key that is under way, in whatever process, will
    /// store nothing.
    ///
    /// [`Outcome::Applied`] says that the store has it. [`Outcome::Queued`] says that it could not be reached: then this process's
    /// memory alone has the value, or nobody if it is not known what the store did; and as soon as the store answers again it is
    /// told to forget the key, in memory too. Its windows after the ttl are those of `policy`; it is never jittered. With a ttl of zero the key is
    /// deleted.
    ///
    /// # Errors
    ///
    /// [`Error::Codec`] for a value that the codec cannot write, or that is too large: nothing is stored. [`Error::Store`] where
    /// [`OnError::Raise`] asks for it, after all of the above; and always if too many keys are queued already.
    ///
    /// ```
    /// # use samovar::io::store::local::LocalStore;
    /// # use samovar::{Cache, Outcome, Policy, minutes};
    /// # use std::sync::Arc;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// let store = Arc::new(LocalStore::default());
    /// let process = || Cache::<String, u64>::builder().name("app").remote(Arc::clone(&store)).build();
    /// let (here, there) = (process(), process());
    /// assert_eq!(here.set("a".into(), 1, Policy::ttl(minutes(5))).await, Ok(Outcome::Applied));
    /// assert_eq!(there.get("a"), None); // its memory has nothing
    /// assert_eq!(there.fetch("a").await, Ok(Some(1)));
    /// assert_eq!(there.get("a"), Some(1));
    /// # });
    /// ```
    pub async fn set(&self, key: K, value: V, policy: Policy) -> Result<Outcome> {
        self.write(key, Held::Value(value), policy).await
    }

    /// As many [`set`](Self::set)s, in one round trip. The outcome is that of the one that came least far.
    ///
    /// # Errors
    ///
    /// As `set`; for a value that cannot be written nothing of all this is stored.
    pub async fn set_many(&self, values: impl IntoIterator<Item = (K, V)>, policy: Policy) -> Result<Outcome> {
        let values = values.into_iter().map(|(key, value)| (key, Held::Value(value)));
        match self.0.back() {
            None => values.for_each(|(key, held)| {
                self.0.write(key, held, &policy, Over::Anything);
            }),
            Some(back) => {
                let puts = values.map(|(key, held)| (key, Writing::Put(held, policy)));
                return outcome(back, self.0.write_through(back, puts, None)?).await;
            }
        }
        Ok(Outcome::Applied)
    }

    /// Notes in both tiers for so long that there is nothing under `key`. See [`set_missing`](Self::set_missing).
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    pub async fn note_missing(&self, key: K, ttl: Duration) -> Result<Outcome> {
        let policy = Policy { negative_ttl: Some(ttl), ..Policy::forever() };
        self.write(key, Held::Nothing, policy).await
    }

    async fn write(&self, key: K, held: Held<V>, policy: Policy) -> Result<Outcome> {
        let Some(back) = self.0.back() else {
            self.0.write(key, held, &policy, Over::Anything);
            return Ok(Outcome::Applied);
        };
        outcome(back, self.0.write_through(back, [(key, Writing::Put(held, policy))], None)?).await
    }

    /// Stores a value in both tiers if the store has none that is fresh; tells whether it did. One of all processes that ask at once
    /// is told so.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the store did not answer: nobody knows then whether it did. [`Error::Config`] for a ttl of zero, else as
    /// [`set`](Self::set).
    pub async fn set_if_absent(&self, key: K, value: V, policy: Policy) -> Result<bool> {
        self.write_if(key, value, policy, Under::Nothing).await
    }

    /// Stores a value in both tiers if the store has one that is fresh; tells whether it had.
    ///
    /// # Errors
    ///
    /// As [`set_if_absent`](Self::set_if_absent).
    pub async fn set_if_present(&self, key: K, value: V, policy: Policy) -> Result<bool> {
        self.write_if(key, value, policy, Under::Something).await
    }

    async fn write_if(&self, key: K, value: V, policy: Policy, wanted: Under) -> Result<bool> {
        if !policy.stores() {
            return Err(Error::config("ttl", "0 s", "give more than zero: nothing would be stored"));
        }
        let Some(back) = self.0.back() else {
            let absent = wanted == Under::Nothing;
            return Ok(if absent { self.add(key, value, policy) } else { self.replace(key, value, policy) });
        };
        let mut under = Some(wanted);
        while let Some(condition) = under {
            let condition = match condition {
                Under::Something => match self.0.standing(back, &key).await.map_err(Error::Store)? {
                    Some(version) => Under::Version(version),
                    None => return Ok(false),
                },
                condition => condition,
            };
            self.0.know(back, &key).await;
            let write = (back.tier.copy(&key), Writing::Put(Held::Value(value.clone()), policy));
            let (come, error) = hear(self.0.write_through(back, [write], Some(condition))?).await;
            if let Some(error) = error {
                return Err(Error::Store(error));
            }
            under = match come {
                Come::To(Outcome::Applied) => return Ok(true),
                // Somebody has come between: whether there is a value is looked at anew.
                _ if wanted == Under::Something => Some(wanted),
                Come::Again(under) => Some(under),
                _ => None,
            };
        }
        Ok(false)
    }

    /// Forgets a key in both tiers. A load of it that is under way, in whatever process, will store nothing, and whoever asks from
    /// now on does not join it. Other processes that listen let go of what they have in memory; what those have that do not stays there
    /// until it ends, or for their [`memory_ttl`](super::Remote::memory_ttl).
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    ///
    /// ```
    /// # use samovar::io::store::local::LocalStore;
    /// # use samovar::{Cache, Outcome, Policy};
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// let cache: Cache<String, u64> = Cache::builder().remote(LocalStore::default()).build();
    /// cache.set("a".into(), 1, Policy::forever()).await.unwrap();
    /// assert_eq!(cache.delete("a").await, Ok(Outcome::Applied));
    /// assert_eq!(cache.fetch("a").await, Ok(None));
    /// # });
    /// ```
    pub async fn delete<Q>(&self, key: &Q) -> Result<Outcome>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned: Into<K>> + ?Sized,
    {
        self.delete_many([key]).await
    }

    /// As many [`delete`](Self::delete)s, in one round trip. The outcome is that of the one that came least far.
    ///
    /// # Errors
    ///
    /// As `delete`.
    pub async fn delete_many<'a, Q>(&self, keys: impl IntoIterator<Item = &'a Q>) -> Result<Outcome>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned: Into<K>> + ?Sized + 'a,
    {
        let keys = keys.into_iter();
        let Some(back) = self.0.back() else {
            keys.for_each(|key| {
                self.0.remove(key);
            });
            return Ok(Outcome::Applied);
        };
        let writes = keys.map(|key| (key.to_owned().into(), Writing::Forget));
        let hearings = self.0.write_through(back, writes, None)?;
        self.0.count_invalidations(hearings.len());
        outcome(back, hearings).await
    }

    /// A copy of the value of `key` if either tier has one that is fresh; nothing is loaded. What the store has comes into memory for
    /// the rest of its life, unless something has happened to the key meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] where [`OnError::Raise`] asks for it. Else a store that cannot be asked has nothing.
    pub async fn fetch<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned: Into<K>> + ?Sized,
    {
        let Some(back) = self.0.back() else { return Ok(self.get(key)) };
        let (mut values, error) = self.0.fetch(back, vec![key.to_owned().into()]).await;
        told(error, raises(back))?;
        Ok(values.pop().flatten())
    }

    /// As many [`fetch`](Self::fetch)es, where what memory does not have is asked for in one round trip: those that are there.
    ///
    /// # Errors
    ///
    /// As `fetch`.
    pub async fn fetch_many<'a, Q>(&self, keys: impl IntoIterator<Item = &'a Q>) -> Result<HashMap<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned: Into<K>> + ?Sized + 'a,
    {
        let keys: Vec<&Q> = keys.into_iter().collect();
        let values = match self.0.back() {
            None => self.get_many(keys.iter().copied()),
            Some(back) => {
                let (values, error) = self.0.fetch(back, keys.iter().map(|&key| key.to_owned().into()).collect()).await;
                told(error, raises(back))?;
                values
            }
        };
        Ok(keys.into_iter().zip(values).filter_map(|(key, value)| Some((key.to_owned().into(), value?))).collect())
    }

    /// How often something under a key of this cache's could not be read, and why; each was a miss. Reasons that never were are
    /// left out.
    pub fn refusals(&self) -> Vec<(Refusal, u64)> {
        let counts = |back: &Back<K, V>| back.tier.refusals().counts().filter(|(_, count)| *count > 0).collect();
        self.0.back().map_or_else(Vec::new, counts)
    }

    /// What was heard of others who use the same store, and what could not be asked of it. Nothing without a store.
    pub fn bus_stats(&self) -> BusStats {
        self.0.back().map_or_else(BusStats::default, |back| BusStats::of(back.heard()))
    }

    /// Keys that were written or deleted while the store could not be reached, and of which it has yet to be told.
    pub fn queued(&self) -> usize {
        self.0.back().map_or(0, |back| back.recovery.len())
    }
}

fn raises<K, V>(back: &Back<K, V>) -> bool {
    back.tier.terms().on_error == OnError::Raise
}

/// What the writes have come to, all in all.
async fn hear(hearings: Vec<Hearing>) -> Word {
    let mut all = (Come::To(Outcome::Applied), None);
    for hearing in hearings {
        let (come, error) = hearing.await.unwrap_or_else(|_| (Come::Nowhere, Some(unanswered())));
        if come != Come::To(Outcome::Applied) && all.0 != Come::Nowhere {
            all.0 = come;
        }
        all.1 = all.1.or(error);
    }
    all
}

async fn outcome<K, V>(back: &Back<K, V>, hearings: Vec<Hearing>) -> Result<Outcome> {
    match hear(hearings).await {
        (Come::To(outcome), error) => told(error, raises(back)).map(|()| outcome),
        (Come::Nowhere | Come::Again(_), error) => Err(Error::Store(error.unwrap_or_else(unanswered))),
    }
}
