//! A tier behind a cache's memory, in a store that other processes share.
//!
//! [`Remote`] is what users say about it. Keys are text there and values frames; which type they are of is forgotten behind
//! [`Tier`], so that a cache without such a tier has neither bounds nor code for one. What is asked of the store, in which order,
//! and what comes of it is decided by `core::remote`; here its machines are driven, and what they say is done to the memory.
//!
//! - `packing` turns values into frames and back, with the life they have there.
//! - `filling` is the way of a miss, the store around a load; `bulk` that for many keys; `reading` that of a lookup that loads nothing.
//! - `writing` is what is written by hand; `recovery` tells the store later what it could not be told.
//! - `heeding` tells memory what others do.
//! - `face` is the operations on both tiers, as users call them.

mod bulk;
mod face;
mod filling;
mod heeding;
mod packing;
mod reading;
mod recovery;
mod writing;

pub(super) use bulk::LoadMany;
pub(super) use filling::{Brought, Ending, Errand};
pub use heeding::BusStats;
pub(super) use heeding::Spot;
pub(super) use reading::Looked;
pub(super) use recovery::Recovery;

use filling::Loading;
use packing::{Parcel, Unpacked};

use super::context::LoadContext;
use crate::codec::compress::Compression;
#[cfg(feature = "zstd")]
use crate::codec::dictionary::Dictionaries;
use crate::codec::frame::Stamps;
use crate::codec::framing::Framing;
use crate::codec::keyring::KeyRing;
use crate::codec::refusal::Refusals;
use crate::codec::serializer::Serializers;
use crate::codec::values::{Codec, MsgPack};
use crate::core::clock::Clock;
use crate::core::coherence::registers::Verdict;
use crate::core::coherence::{Origin, Told};
use crate::core::key::{escape, shared_name, stored_name};
use crate::core::memory::Alert;
use crate::core::remote::ledger::Note;
use crate::core::remote::{Frame, Sharing};
use crate::error::{Error, StoreError, StoreFailure};
use crate::io::process::PerProcess;
use crate::io::store::heard::{Heard, Signs};
use crate::io::store::{Request, Store, Tell};
use hashbrown::DefaultHashBuilder;
use std::convert::Infallible;
use std::fmt;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// What operations do that tell of the store's failures, when it fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// They go on without it: what is read is a miss, what is written is in memory alone, and the store is told later.
    #[default]
    Degrade,
    /// The same is done, and the caller is told with [`Error::Store`].
    Raise,
}

/// A tier behind the memory: a store that processes share, and how values are kept there.
///
/// Any [`Store`] is one with the defaults: MessagePack, which Python reads and writes too, neither compressed nor sealed.
///
/// ```
/// # use samovar::io::store::local::LocalStore;
/// # use samovar::{Cache, Remote};
/// # use samovar::codec::values::Json;
/// let sessions: Cache<String, u64> = Cache::builder().name("app").remote(LocalStore::default()).build();
/// let prices: Cache<String, f64> = Cache::builder()
///     .name("app")
///     .remote(Remote::over(LocalStore::default()).namespace("prices").codec(Json).max_value_bytes(1 << 20))
///     .build();
/// ```
pub struct Remote<C = MsgPack> {
    store: Arc<dyn Store>,
    codec: C,
    namespace: String,
    compression: Option<Compression>,
    #[cfg(feature = "zstd")]
    dictionaries: Option<Arc<Dictionaries>>,
    /// And whether what is written is sealed with it.
    ring: Option<(KeyRing, bool)>,
    max_value_bytes: Option<usize>,
    terms: Terms,
}

/// What is to be known of a tier whose values' type is forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    pub sharing: Sharing,
    pub on_error: OnError,
    /// The longest that memory keeps a value fresh.
    pub memory_ttl: Option<Duration>,
    /// Others are not heard.
    pub deaf: bool,
    /// Those are heard too who tell nobody.
    pub external: bool,
}

impl<S: Store + 'static> From<S> for Remote {
    fn from(store: S) -> Self {
        Remote::over(store)
    }
}

impl<C> fmt::Debug for Remote<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("namespace", &self.namespace).field("terms", &self.terms).finish_non_exhaustive()
    }
}

impl Remote {
    /// Over this store, which other caches may share: what each keeps there has its [name](super::CacheBuilder::name) in its key.
    pub fn over(store: impl Store + 'static) -> Self {
        Remote {
            store: Arc::new(store),
            codec: MsgPack,
            namespace: String::new(),
            compression: None,
            #[cfg(feature = "zstd")]
            dictionaries: None,
            ring: None,
            max_value_bytes: None,
            terms: Terms::default(),
        }
    }
}

impl<C> Remote<C> {
    /// How values become bytes: [`Json`](crate::codec::values::Json), or a [`Codec`] of one's own. MessagePack if not given. What another
    /// codec has written is not read.
    pub fn codec<D>(self, codec: D) -> Remote<D> {
        Remote {
            store: self.store,
            codec,
            namespace: self.namespace,
            compression: self.compression,
            #[cfg(feature = "zstd")]
            dictionaries: self.dictionaries,
            ring: self.ring,
            max_value_bytes: self.max_value_bytes,
            terms: self.terms,
        }
    }

    /// The part of the cache's keys in the store that its name leaves open: entries are called `cache:namespace:key`. Empty if not
    /// given. Seals have a subkey for each.
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        Remote { namespace: namespace.into(), ..self }
    }

    /// Compresses what is written. Not if not given; what was compressed is read all the same, as far as this build can.
    pub fn compressed(self, how: Compression) -> Self {
        Remote { compression: Some(how), ..self }
    }

    /// Compresses with these dictionaries where it compresses with zstd, and reads what was.
    #[cfg(feature = "zstd")]
    pub fn with_dictionaries(self, dictionaries: Arc<Dictionaries>) -> Self {
        Remote { dictionaries: Some(dictionaries), ..self }
    }

    /// Seals what is written with the primary key of a ring, and reads nothing but what was sealed with one of its keys.
    pub fn sealed(self, ring: KeyRing) -> Self {
        Remote { ring: Some((ring, true)), ..self }
    }

    /// Seals nothing, and still reads what was sealed: the way back for a cache that used to seal.
    pub fn unsealing(self, ring: KeyRing) -> Self {
        Remote { ring: Some((ring, false)), ..self }
    }

    /// A larger value is neither written nor read: bytes, as the codec gives them, before compression. 64 MiB if not given.
    pub fn max_value_bytes(self, most: usize) -> Self {
        Remote { max_value_bytes: Some(most), ..self }
    }

    /// How many load a key that nobody has: one of each process, or one of all. [`Sharing::Process`] if not given.
    pub fn single_flight(self, sharing: Sharing) -> Self {
        Remote { terms: Terms { sharing, ..self.terms }, ..self }
    }

    /// The longest that memory keeps a value before it asks the store again; its ttl if not given. Over a store with a bus what others
    /// write or delete is let go within two seconds without it; over one that has none, or that is [not listened to](Self::bus), this is
    /// how long memory may go on with what was there before.
    pub fn memory_ttl(self, ttl: Duration) -> Self {
        Remote { terms: Terms { memory_ttl: Some(ttl), ..self.terms }, ..self }
    }

    /// Whether it hears of what others write and invalidate, where the store has a bus. It does if not given. Others are told of what is
    /// written here all the same; what is in memory stays there to the end of its ttl, or for [`memory_ttl`](Self::memory_ttl).
    pub fn bus(self, hears: bool) -> Self {
        Remote { terms: Terms { deaf: !hears, ..self.terms }, ..self }
    }

    /// Whether it hears too of what is written by programs that know nothing of caches, which costs the store a message for each key
    /// that is written, its own ones included. It does not if not given.
    pub fn external_writers(self, hears: bool) -> Self {
        Remote { terms: Terms { external: hears, ..self.terms }, ..self }
    }

    /// What operations do that tell of the store's failures. [`OnError::Degrade`] if not given. Loads never fail for it.
    pub fn on_error(self, on_error: OnError) -> Self {
        Remote { terms: Terms { on_error, ..self.terms }, ..self }
    }

    /// What the cache of this name has behind it.
    pub(super) fn open<K, V>(self, cache: &str) -> Arc<dyn Tier<K, V>>
    where
        K: AsRef<str> + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        C: Codec<V> + Send + Sync + 'static,
    {
        let framing = self.framing(Serializers::DATA.with(self.codec.id()));
        let Remote { store, codec, namespace, terms, .. } = self;
        let (prefix, refusals) = (shared_name(cache, &namespace, ""), Refusals::default());
        let (escaped, path) = (escape(cache).into_bytes(), namespace.into());
        Arc::new(Behind { store, codec, framing, escaped, path, prefix, terms, refusals })
    }

    fn framing(&self, serializers: Serializers) -> Framing {
        let mut framing = Framing::default().with_serializers(serializers);
        if let Some(how) = self.compression {
            framing = framing.compressed(how);
        }
        #[cfg(feature = "zstd")]
        if let Some(dictionaries) = &self.dictionaries {
            framing = framing.with_dictionaries(Arc::clone(dictionaries));
        }
        if let Some(most) = self.max_value_bytes {
            framing = framing.with_max_value_bytes(most);
        }
        match &self.ring {
            Some((ring, true)) => framing.sealed(ring, self.namespace.as_bytes()),
            Some((ring, false)) => framing.unsealing(ring, self.namespace.as_bytes()),
            None => framing,
        }
    }
}

/// A future whose type is forgotten.
pub(super) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a cache has behind its memory, whatever codec and store that is made of.
pub(super) trait Tier<K, V>: Send + Sync {
    fn store(&self) -> &dyn Store;
    fn terms(&self) -> &Terms;
    /// What an entry is called there.
    fn name(&self, key: &K) -> Vec<u8>;
    /// What its clock is called there, and those who listen know it by.
    fn clock_key(&self) -> &[u8];
    /// The namespace of its entries.
    fn path(&self) -> &Arc<str>;
    fn copy(&self, key: &K) -> K;
    /// The frame of a value, or of its absence.
    fn pack(&self, name: &[u8], value: Option<&V>, stamps: Stamps) -> Result<Vec<u8>, Error>;
    /// What a frame holds; `None` if it cannot be read.
    fn unpack(&self, name: &[u8], frame: &[u8]) -> Option<Unpacked<V>>;
    /// Why frames could not be read.
    fn refusals(&self) -> &Refusals;
    /// Fills a key: with what the store has, or with what the load brings.
    fn fill(self: Arc<Self>, errand: (Errand<V>, Behalf), load: Loading<V>) -> Boxed<'static, Brought<V>>;
    /// The same for many keys, in their order.
    fn fill_many(
        self: Arc<Self>,
        errands: (Vec<Errand<V>>, Behalf),
        load: LoadMany<V>,
    ) -> Boxed<'static, Vec<Brought<V>>>;
}

/// See [`Tier`].
struct Behind<C> {
    store: Arc<dyn Store>,
    codec: C,
    framing: Framing,
    /// The name of the cache, as it stands in keys.
    escaped: Vec<u8>,
    path: Arc<str>,
    /// What all names begin with.
    prefix: String,
    terms: Terms,
    refusals: Refusals,
}

impl<K, V, C> Tier<K, V> for Behind<C>
where
    K: AsRef<str> + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    C: Codec<V> + Send + Sync + 'static,
{
    fn store(&self) -> &dyn Store {
        &*self.store
    }

    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn name(&self, key: &K) -> Vec<u8> {
        [self.prefix.as_str(), &stored_name(key.as_ref())].concat().into_bytes()
    }

    fn clock_key(&self) -> &[u8] {
        &self.escaped
    }

    fn path(&self) -> &Arc<str> {
        &self.path
    }

    fn copy(&self, key: &K) -> K {
        key.clone()
    }

    fn pack(&self, name: &[u8], value: Option<&V>, stamps: Stamps) -> Result<Vec<u8>, Error> {
        packing::pack(&self.framing, &self.codec, name, value, stamps)
    }

    fn unpack(&self, name: &[u8], frame: &[u8]) -> Option<Unpacked<V>> {
        packing::unpack(&self.framing, &self.codec, name, frame, &self.path)
            .inspect_err(|&refusal| self.refusals.count(refusal))
            .ok()
    }

    fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    fn fill(self: Arc<Self>, (errand, behalf): (Errand<V>, Behalf), load: Loading<V>) -> Boxed<'static, Brought<V>> {
        Box::pin(async move { filling::fill::<K, V>(&*self, &*self.store, (&errand, &behalf), load).await })
    }

    fn fill_many(
        self: Arc<Self>,
        (errands, behalf): (Vec<Errand<V>>, Behalf),
        load: LoadMany<V>,
    ) -> Boxed<'static, Vec<Brought<V>>> {
        Box::pin(async move { bulk::fill_many::<K, V>(&*self, (&errands, &behalf), load).await })
    }
}

/// The memory in front of a key that is being filled.
pub(super) trait Front<V>: Send + Sync {
    /// What to ask the cache's clock.
    fn ask_clock(&self) -> Option<Request>;
    /// What that was answered.
    fn learn(&self, told: &Told);
    /// What has become of something that the store has.
    fn judge(&self, note: &Note) -> Verdict;
    /// What answers where the store cannot be asked: what memory has and is in doubt of.
    fn suspect(&self) -> Option<(Frame<Arc<Parcel<V>>>, Note)>;
    /// The store has nothing fresh: what memory is in doubt of is no more.
    fn refute(&self);
    /// The store was asked, and whether it is out of reach.
    fn answered(&self, away: bool);
}

/// What a cache of two tiers has more than one with memory alone.
pub(super) struct Back<K, V> {
    pub tier: Arc<dyn Tier<K, V>>,
    /// What the store has not been told.
    pub recovery: Recovery<K>,
    clock: Clock,
    /// Those of the shards.
    alerts: Box<[Arc<Alert>]>,
    hasher: DefaultHashBuilder,
    /// What this process hears. A child that was forked is another: it has to hear what its parent does, too.
    heard: PerProcess<Arc<Heard>>,
    /// The store was out of reach when it was asked last.
    away: AtomicBool,
}

impl<K, V> Back<K, V> {
    pub fn new(tier: Arc<dyn Tier<K, V>>, alerts: Box<[Arc<Alert>]>, clock: Clock) -> Self {
        let (recovery, hasher, heard) = (Recovery::default(), DefaultHashBuilder::default(), PerProcess::new());
        Back { tier, recovery, clock, alerts, hasher, heard, away: AtomicBool::new(false) }
    }

    /// What this process hears.
    pub fn heard(&self) -> &Arc<Heard> {
        let make = || {
            let (origin, hears) = (Origin(unique()), !self.tier.terms().deaf);
            let signs = |alert| Signs { alert: Arc::clone(alert), known_until: Arc::default() };
            let heard = Heard::new(origin, self.alerts.iter().map(signs), (&self.clock, &self.hasher), hears);
            Ok::<_, Infallible>(Arc::new(heard))
        };
        match self.heard.get_or_make(make) {
            Ok(heard) => heard,
            Err(never) => match never {},
        }
    }

    /// The hash by which memory knows what is called so in the store.
    pub fn hash(&self, name: &[u8]) -> u64 {
        self.heard().hash(name)
    }

    /// Who is told of a write: all others who use this cache.
    pub fn tell_others(&self) -> Option<Arc<Tell>> {
        Some(Arc::new(Tell { cache: self.tier.clock_key().to_vec(), origin: self.heard().origin }))
    }

    /// The store was asked, and whether it is out of reach.
    pub fn is_away(&self, away: bool) {
        self.away.store(away, Relaxed);
    }

    /// True if nobody can be asked: the store was out of reach, and nothing was heard of it since.
    pub fn is_alone(&self) -> bool {
        self.away.load(Relaxed) && !self.heard().trusts(self.clock.now())
    }
}

impl<K, V> Drop for Back<K, V> {
    fn drop(&mut self) {
        if let Some(heard) = self.heard.get() {
            heard.stop();
        }
    }
}

/// True if a store is out of reach that fails so: one that refuses can still be listened to.
pub(super) fn is_out_of_reach(error: &StoreError) -> bool {
    matches!(error.kind, StoreFailure::Timeout | StoreFailure::Unreachable)
}

/// Bits that nobody else has: the system's, or else such as a hash map's keys are made of.
fn unique() -> u128 {
    let mut bits = [0; 16];
    match getrandom::fill(&mut bits) {
        Ok(()) => u128::from_be_bytes(bits),
        Err(_) => DefaultHashBuilder::default().hash_one(std::process::id()).into(),
    }
}

/// On whose behalf, and by which clock.
#[derive(Clone)]
pub(super) struct Behalf {
    pub context: LoadContext,
    pub clock: Clock,
}
