//! The Rust face: a named cache that loads what is missing once, on tokio.
//!
//! A thin driver. What is held and who loads is decided by `core`; this folder owns the locks around it, the tokio task
//! of each load, and the waiters' channels. One invariant matters: a shard's lock is never held across an await, while
//! another shard's is taken, while a key or value is dropped, or while foreign code runs other than `Eq` of a key. Values
//! therefore live in an `Arc`, and are cloned after unlocking.
//!
//! A hit takes one lock once, allocates nothing and needs no runtime; what it costs beyond that is `V::clone`.
//!
//! - `shared` is all shards and each operation on them, and the sweeping of expired entries.
//! - `shard` is what one lock guards, and what is done under it; `split` says whose a key is, and each shard's share.
//! - `resizing` changes bounds and order while the cache works; `insight` says what it knows about itself.
//! - `listener` hears of what left.
//! - `loading` is the way of a miss, and the task that loads; `context` is on whose behalf a caller asks.
//! - `many` is that for many keys by one call; `background` bounds what nobody waits for.
//! - `waiting` is who waits for that task, and what they are told.
//! - `remote` is a tier behind the memory, which processes share.
//! - `held` is what is kept under a key, `views` what users see of it.

mod background;
mod context;
mod failed;
mod held;
mod insight;
mod listener;
mod loading;
mod many;
mod options;
mod remote;
mod resizing;
mod shard;
mod shared;
mod split;
mod views;
mod waiting;

pub use background::Background;
pub use context::LoadContext;
pub use failed::LoadFailed;
pub use insight::Insight;
pub use options::{CacheBuilder, Memory, minutes};
pub use remote::{BusStats, OnError, Remote};
pub use views::Entry;

use crate::core::flight::{Explanation, Since};
use crate::core::policy::Policy;
use crate::core::stats::Stats;
use held::Held;
use loading::Wanted;
use many::Bulk;
use shared::{Over, Shared};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

/// A named cache. Cloning gives another handle to the same entries.
///
/// Keys are asked for by any borrowed form, as in a `HashMap`: a `Cache<String, V>` takes `&str`.
///
/// ```
/// use samovar::{Cache, Policy, minutes};
///
/// let cache: Cache<String, u32> = Cache::builder().name("visits").max_entries(1_000).build();
/// cache.insert("user:7".into(), 3, Policy::ttl(minutes(5)));
/// assert_eq!(cache.get("user:7"), Some(3));
/// assert!(cache.remove("user:7"));
/// assert_eq!(cache.get("user:7"), None);
/// ```
pub struct Cache<K, V>(Arc<Shared<K, V>>);

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Cache(Arc::clone(&self.0))
    }
}

impl<K, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("name", &self.0.name()).finish_non_exhaustive()
    }
}

impl<K, V> Cache<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Begins a cache; every option has a default.
    pub fn builder() -> CacheBuilder<K, V> {
        CacheBuilder::default()
    }

    /// The name it was built with.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// A copy of the value of `key`, if it is there and fresh: past its ttl nobody would load it anew here, so it takes a
    /// [`get_or_load`](Self::get_or_load) to be given it. Counts as a use. Memory alone is asked: [`fetch`](Self::fetch) asks a
    /// [remote tier](CacheBuilder::remote) too.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.get(key)?.value().cloned()
    }

    /// As many [`get`](Self::get)s, in the order of the keys.
    pub fn get_many<'a, Q>(&self, keys: impl IntoIterator<Item = &'a Q>) -> Vec<Option<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized + 'a,
    {
        keys.into_iter().map(|key| self.get(key)).collect()
    }

    /// Returns the value of `key`, or loads it once and shares it with everyone who is waiting.
    ///
    /// `load` is called by one caller at a time per key, on a task of the runtime this is awaited on. The load belongs
    /// to the cache and not to its caller, so it owns what it uses. The value is kept under `policy`, or under what
    /// [`LoadContext::keep`] says; with a ttl of zero those who wait share it and it is not kept. A hit neither calls
    /// `load` nor needs a runtime.
    ///
    /// What a value is good for after its ttl, and before it ends, `policy` says: answered at once while one caller's `load`
    /// runs behind (`stale_while_revalidate`, `early`), or in the place of a load that fails or takes too long
    /// (`stale_if_error`, `soft_timeout`, `timeout`). Time-outs need a runtime whose time is enabled. Loads that run
    /// behind fail in silence, but for [`Stats::load_errors`].
    ///
    /// Dropping the returned future gives up this caller's place only: the load goes on for the others, and is aborted
    /// when the last of them has gone; one that runs behind goes on. An explicit write or removal of the key meanwhile lets
    /// the load answer those who wait and store nothing; whoever asks after it starts anew.
    ///
    /// A loader that asks for its own key again loads it directly instead of waiting for itself; loads that would wait for
    /// each other in a circle are told so. A task that a loader spawns is known to be part of it only
    /// [within its context](LoadContext::within).
    ///
    /// # Errors
    ///
    /// [`LoadFailed::Loader`] is the loader's own error, one object for all who waited. [`LoadFailed::NotFound`] says that
    /// there is known to be nothing. [`LoadFailed::Cache`] says that the load panicked or took too long, that its runtime was
    /// shut down, that it would wait in a circle, that the load this caller joined failed with an error of another type, that
    /// the policy contradicts itself, or that there is no runtime here. Nothing is stored then, and the next call loads anew,
    /// except that "not found" and [errors to be kept](LoadContext::keep_error) are remembered.
    ///
    /// ```
    /// # use samovar::{Cache, LoadFailed, Policy, minutes};
    /// # #[derive(Clone)] struct Database;
    /// # impl Database { async fn user(&self, id: u64) -> Result<String, std::io::Error> { Ok(format!("user {id}")) } }
    /// # async fn example(db: Database) -> Result<(), LoadFailed<std::io::Error>> {
    /// let cache: Cache<String, String> = Cache::builder().name("app").build();
    /// let policy = Policy::ttl(minutes(5));
    /// let user = cache.get_or_load("user:7", policy, move |_| async move { db.user(7).await }).await?;
    /// # assert_eq!(user, "user 7");
    /// # Ok(())
    /// # }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(example(Database)).unwrap();
    /// ```
    pub async fn get_or_load<Q, L, F, E>(&self, key: &Q, policy: Policy, load: L) -> Result<V, LoadFailed<E>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned: Into<K>> + ?Sized,
        L: FnOnce(LoadContext) -> F + Send + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let hash = self.0.hash(key);
        if let Some(held) = self.0.hit(hash, key)
            && let Some(value) = held.value()
        {
            return Ok(value.clone());
        }
        let wanted = Wanted { hash, key, policy, anew: None, along: false };
        self.0.load(wanted, load).await?.ok_or(LoadFailed::NotFound)
    }

    /// As [`get_or_load`](Self::get_or_load), for a source that may have nothing under `key`: a loader says so with `None`,
    /// which is remembered for [`Policy::negative_ttl`] and shared as a value is. Without that it is not remembered.
    ///
    /// Nothing found ends an old value, whatever its windows.
    ///
    /// # Errors
    ///
    /// As `get_or_load`, but never [`LoadFailed::NotFound`]: that is what `None` says here.
    ///
    /// ```
    /// # use samovar::{Cache, Policy, minutes};
    /// # use std::convert::Infallible;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let users: Cache<u64, String> = Cache::builder().build();
    /// let policy = Policy { negative_ttl: Some(minutes(1)), ..Policy::ttl(minutes(5)) };
    /// for _ in 0..3 {
    ///     let nobody = users.get_or_find(&7, policy, |_| async { Ok::<_, Infallible>(None) }).await;
    ///     assert_eq!(nobody.unwrap(), None);
    /// }
    /// assert_eq!((users.stats().loads, users.stats().negative_hits), (1, 2));
    /// # });
    /// ```
    pub async fn get_or_find<Q, L, F, E>(&self, key: &Q, policy: Policy, load: L) -> Result<Option<V>, LoadFailed<E>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned: Into<K>> + ?Sized,
        L: FnOnce(LoadContext) -> F + Send + 'static,
        F: Future<Output = Result<Option<V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let hash = self.0.hash(key);
        if let Some(held) = self.0.hit(hash, key)
            && let Some(value) = held.value()
        {
            return Ok(Some(value.clone()));
        }
        self.0.load(Wanted { hash, key, policy, anew: None, along: false }, load).await
    }

    /// The values of many keys: those that are there, and what one call of `load` finds of the others. Each key has a lease of
    /// its own, so callers who ask for some of the same keys at once share what they have in common; what somebody else
    /// loads is waited for and not asked for again.
    ///
    /// `load` is told the missing keys and gives a map: one that is not in it is "not found", left out of the answer and
    /// remembered for [`Policy::negative_ttl`]; keys that were not asked for are ignored. It runs on a task of the cache's, as
    /// in [`get_or_load`](Self::get_or_load), and is stopped when nobody waits for any of its keys. It may be called again for
    /// a key whose load another runtime took with it.
    ///
    /// # Errors
    ///
    /// As `get_or_load`, of the first key that fails; an error of `load` is that of all keys it was called for. Where old values
    /// answer in the place of a load, they answer key by key.
    ///
    /// ```
    /// # use samovar::{Cache, Policy, minutes};
    /// # use std::collections::HashMap;
    /// # use std::convert::Infallible;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let cache: Cache<u64, u64> = Cache::builder().build();
    /// let policy = Policy::ttl(minutes(5));
    /// cache.insert(2, 4, policy);
    /// let squares = cache.get_or_load_many([1, 2, 3], policy, |_, keys| async move {
    ///     assert_eq!(keys, [1, 3]);
    ///     Ok::<_, Infallible>(keys.into_iter().map(|key| (key, key * key)).collect())
    /// });
    /// assert_eq!(squares.await.unwrap(), HashMap::from([(1, 1), (2, 4), (3, 9)]));
    /// # });
    /// ```
    pub async fn get_or_load_many<L, F, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        policy: Policy,
        load: L,
    ) -> Result<HashMap<K, V>, LoadFailed<E>>
    where
        K: Clone,
        L: Fn(LoadContext, Vec<K>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<HashMap<K, V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        self.0.load_many(keys, &Bulk { policy, load: Arc::new(load) }).await
    }

    /// Loads `key` anew although a value is there, stores and returns it. Until it is there, others get the old one. The load
    /// begins after this call does: if an older one is under way, it ends first, and all who ask for a new value meanwhile
    /// share the one after it. What it brings is stored unless the key is written or removed while it runs.
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load). The value that is there stays then; it does not answer in the place of the
    /// load.
    pub async fn refresh<Q, L, F, E>(&self, key: &Q, policy: Policy, load: L) -> Result<V, LoadFailed<E>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned: Into<K>> + ?Sized,
        L: FnOnce(LoadContext) -> F + Send + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let anew = Some(Since::default());
        let wanted = Wanted { hash: self.0.hash(key), key, policy, anew, along: false };
        self.0.load(wanted, load).await?.ok_or(LoadFailed::NotFound)
    }

    /// Stores a value, whatever was there before. A load of the key that is under way will store nothing.
    ///
    /// Its windows after the ttl are those of `policy`; it is never jittered. With a ttl of zero the key is removed.
    ///
    /// # Panics
    ///
    /// On a cache with a [remote tier](CacheBuilder::remote), which it would leave as it was: [`set`](Self::set) is for both.
    #[track_caller]
    pub fn insert(&self, key: K, value: V, policy: Policy) {
        self.refuse_two_tiers("insert", "set");
        self.0.write(key, Held::Value(value), &policy, Over::Anything);
    }

    /// Stores a value if the key has none that [`get`](Self::get) would give; tells whether it did. With a ttl of zero it
    /// does nothing.
    ///
    /// # Panics
    ///
    /// On a cache with a [remote tier](CacheBuilder::remote), which it would leave as it was: [`set_if_absent`](Self::set_if_absent)
    /// asks both.
    #[track_caller]
    pub fn add(&self, key: K, value: V, policy: Policy) -> bool {
        self.refuse_two_tiers("add", "set_if_absent");
        self.0.write(key, Held::Value(value), &policy, Over::Nothing)
    }

    /// Stores a value if the key has one that [`get`](Self::get) would give; tells whether it had. With a ttl of zero that
    /// one is removed.
    ///
    /// # Panics
    ///
    /// On a cache with a [remote tier](CacheBuilder::remote), which it would leave as it was: [`set_if_present`](Self::set_if_present)
    /// asks both.
    #[track_caller]
    pub fn replace(&self, key: K, value: V, policy: Policy) -> bool {
        self.refuse_two_tiers("replace", "set_if_present");
        self.0.write(key, Held::Value(value), &policy, Over::Value)
    }

    /// Notes for so long that there is nothing under `key`: [`get`](Self::get) gives `None`,
    /// [`get_or_load`](Self::get_or_load) [`LoadFailed::NotFound`], and nothing is loaded. A load of the key that is under way
    /// will store nothing. With a ttl of zero the key is removed.
    ///
    /// # Panics
    ///
    /// On a cache with a [remote tier](CacheBuilder::remote), which it would leave as it was: [`note_missing`](Self::note_missing)
    /// is for both.
    #[track_caller]
    pub fn set_missing(&self, key: K, ttl: Duration) {
        self.refuse_two_tiers("set_missing", "note_missing");
        let policy = Policy { negative_ttl: Some(ttl), ..Policy::forever() };
        self.0.write(key, Held::Nothing, &policy, Over::Anything);
    }

    /// Forgets a key and tells whether it had a value. A load of it that is under way will store nothing, and
    /// whoever asks from now on does not join it.
    ///
    /// # Panics
    ///
    /// On a cache with a [remote tier](CacheBuilder::remote), of which it would leave the copy: [`delete`](Self::delete) is for both.
    #[track_caller]
    pub fn remove<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.refuse_two_tiers("remove", "delete");
        self.0.remove(key)
    }

    /// [`remove`](Self::remove) for those who need not know what was there.
    ///
    /// # Panics
    ///
    /// As `remove`.
    #[track_caller]
    pub fn invalidate<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.refuse_two_tiers("invalidate", "delete");
        self.0.remove(key);
    }

    /// What is there, fresh, stale or known to be missing, and since when and for how long. Not a use, and not counted.
    ///
    /// ```
    /// # use samovar::{Cache, Policy, Standing, minutes};
    /// # use std::time::Duration;
    /// let cache: Cache<u64, u64> = Cache::builder().build();
    /// cache.insert(7, 49, Policy { stale_if_error: minutes(60), ..Policy::ttl(minutes(5)) });
    /// let entry = cache.peek(&7).unwrap();
    /// assert_eq!((entry.value, entry.state), (Some(49), Standing::Fresh));
    /// assert_eq!(entry.expires.unwrap().duration_since(entry.created).unwrap(), minutes(65));
    /// ```
    pub fn peek<Q>(&self, key: &Q) -> Option<Entry<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let (state, sight, held) = self.0.peek(key)?;
        Some(Entry::of(state, &sight, held.value().cloned(), self.0.clock()))
    }

    /// Why a [`get_or_load`](Self::get_or_load) under `policy` would do what it does now: what the entry is good for, who
    /// loads it, what would happen. Not a use, and not counted. Moments are in milliseconds of the cache's
    /// [clock](CacheBuilder::clock).
    ///
    /// ```
    /// # use samovar::{Cache, Policy, minutes};
    /// let cache: Cache<u64, u64> = Cache::builder().build();
    /// let policy = Policy::ttl(minutes(5));
    /// assert_eq!(cache.explain(&7, &policy).to_string(), "is absent: a lookup would load");
    /// cache.insert(7, 49, policy);
    /// assert_eq!(cache.explain(&7, &policy).to_string(), "is fresh: a lookup would answer");
    /// ```
    pub fn explain<Q>(&self, key: &Q, policy: &Policy) -> Explanation
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.explain(key, policy)
    }

    /// True if [`get`](Self::get) would give a value. Not a use, and not counted.
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.contains(key)
    }

    /// Forgets everything, in one step for each shard, and every load under way as [`remove`](Self::remove) does. The
    /// memory of the entries is freed by the sweeper, a little at a time.
    ///
    /// # Panics
    ///
    /// On a cache with a [remote tier](CacheBuilder::remote), which it would leave as it was: name its keys to
    /// [`delete_many`](Self::delete_many).
    #[track_caller]
    pub fn clear(&self) {
        self.refuse_two_tiers("clear", "delete_many");
        self.0.clear();
    }

    #[inline]
    #[track_caller]
    fn refuse_two_tiers(&self, what: &str, instead: &str) {
        if self.0.back().is_some() {
            refuse(self.name(), what, instead);
        }
    }

    /// Entries held; one whose time is over counts until the sweeper has freed it, a moment later.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parts it is split into, each with a lock of its own; see [`CacheBuilder::shards`].
    pub fn shards(&self) -> usize {
        self.0.shards().len()
    }

    /// The memory tier's options in force.
    pub fn memory(&self) -> Memory {
        *self.0.memory.lock()
    }

    /// Gives the memory tier other bounds or another order, while the cache works. Nothing is dropped but what no longer
    /// fits, which has left when this returns.
    ///
    /// A bound in bytes where there was none has every entry weighed, on this thread. The shards stay as many as they
    /// were: with fewer entries to hold than shards, some of those keep nothing. Takes time in proportion to the entries
    /// if the order or the unit of the bound changes, and each shard is locked while its order does.
    ///
    /// ```
    /// # use samovar::{Cache, Eviction, Memory, Policy};
    /// let cache: Cache<u64, u64> = Cache::builder().max_entries(1_000).build();
    /// (0..1_000).for_each(|key| cache.insert(key, key, Policy::forever()));
    /// cache.resize(Memory::entries(500));
    /// assert_eq!(cache.len(), 500);
    /// cache.resize(cache.memory().eviction(Eviction::TinyLfu));
    /// assert_eq!((cache.len(), cache.insight().eviction), (500, Eviction::TinyLfu));
    /// ```
    pub fn resize(&self, memory: Memory) {
        self.0.resize(memory);
    }

    /// Which order is in force, and under [`Eviction::Adaptive`](crate::Eviction::Adaptive) which of its settings, how
    /// often that has changed, and what the other settings, and half and double the capacity, would hit: estimates from
    /// a sample of the requests.
    pub fn insight(&self) -> Insight {
        self.0.insight()
    }

    /// What was counted since the cache was built; [`clear`](Self::clear) resets nothing.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Recounts the structure and says what is wrong with it. For tests: it visits every entry under the lock.
    pub fn validate(&self) -> Result<(), String> {
        self.0.validate()
    }
}

#[cold]
#[track_caller]
fn refuse(cache: &str, what: &str, instead: &str) -> ! {
    panic!(
        "'{cache}' has a store behind its memory, which {what} would leave as it was; await {instead}, which is for both"
    )
}
