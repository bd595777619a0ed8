//! The store behind a cache's memory, and what an entry is called there.

use super::claims::Claims;
use super::coding::{Coding, Fetched, Packed};
use super::filling::random;
use super::hearing::Inbox;
use super::keys;
use super::recovery::Recovery;
use super::spot::Spot;
use super::state::State;
use super::tier::{PyMemory, Space, Tier};
use super::waiters::Waiters;
use crate::core::clock::{Clock, Millis, later};
use crate::core::coherence::registers::Verdict;
use crate::core::coherence::{Move, Origin, Told};
use crate::core::key::{escape, shared_name};
use crate::core::memory::Alert;
use crate::core::remote::Version;
use crate::core::remote::cell::Under;
use crate::error::{Error, StoreError};
use crate::io::process::PerProcess;
use crate::io::store::heard::{Heard, Signs};
use crate::io::store::{Action, Answers, Request, Store, Tell};
use hashbrown::DefaultHashBuilder;
use pyo3::prelude::*;
use std::convert::Infallible;
use std::hash::BuildHasher;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// See the module.
pub struct Remote {
    /// The store.
    pub store: Arc<dyn Store>,
    /// What it is called in messages.
    pub name: String,
    /// The cache's name.
    cache: String,
    /// Whether its errors are raised, or go for a miss.
    pub raises: bool,
    /// False where nothing is kept in memory.
    pub keeps: bool,
    /// Nothing stays longer in memory.
    pub most: Option<Duration>,
    /// The claims under which is being loaded.
    pub claims: Arc<Claims>,
    /// Who waits here for what other processes load.
    pub waiters: Arc<Waiters>,
    /// What it is to be told once it can be reached.
    recovery: Arc<Recovery>,
    /// How often it could not be asked, and its part was left out.
    pub errors: AtomicU64,
    hasher: DefaultHashBuilder,
    /// What its clock, and those who listen, know it by.
    escaped: Vec<u8>,
    /// Whether others are heard.
    listens: bool,
    /// Whether those are who tell nobody.
    pub external: bool,
    alert: OnceLock<Arc<Alert>>,
    inbox: PerProcess<Arc<Inbox>>,
    /// What is known of tags and namespaces is known until then; here, so that no look asks which process this is.
    known_until: Arc<AtomicU64>,
    /// The version of what this process wrote last.
    newest: AtomicU64,
    clock: Clock,
    /// Before this moment no more is said of that.
    quiet_until: AtomicU64,
}

/// Of a store that is away it is said once in so long.
const QUIET: Duration = Duration::from_secs(60);

/// How a cache is to use its store.
#[derive(Clone, Copy)]
pub struct Terms {
    /// Raise what it cannot do.
    pub raises: bool,
    /// Keep values in memory too.
    pub keeps: bool,
    /// But not for longer.
    pub most: Option<Duration>,
    /// Hear of others.
    pub listens: bool,
    /// Of those too who tell nobody.
    pub external: bool,
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(inbox) = self.inbox.get() {
            inbox.heard.stop();
        }
    }
}

impl Remote {
    /// That of a cache.
    pub fn new(store: Arc<dyn Store>, name: String, cache: &str, terms: &Terms, clock: &Clock) -> Arc<Self> {
        let claims = Claims::new(Arc::clone(&store), clock.clone());
        let recovery = Recovery::new(Arc::clone(&store), clock.clone(), escape(cache).into_bytes());
        let Terms { raises, keeps, most, listens, external } = *terms;
        let (escaped, cache, errors) = (escape(cache).into_bytes(), cache.to_owned(), AtomicU64::new(0));
        let (hasher, clock, quiet_until) = (DefaultHashBuilder::default(), clock.clone(), AtomicU64::new(0));
        let (alert, inbox, waiters) = (OnceLock::new(), PerProcess::new(), Arc::default());
        Arc::new(Remote {
            store,
            name,
            cache,
            raises,
            keeps,
            most,
            claims,
            waiters,
            recovery,
            errors,
            hasher,
            escaped,
            listens,
            external,
            alert,
            inbox,
            known_until: Arc::default(),
            newest: AtomicU64::new(0),
            clock,
            quiet_until,
        })
    }

    /// What an entry is called there; `None` for one that is of this process alone: a call on an instance, and one with
    /// arguments that have no encoding.
    pub fn key_of(&self, py: Python<'_>, state: &State, space: &Space, spot: &Spot) -> PyResult<Option<Vec<u8>>> {
        if spot.asks {
            return Ok(None);
        }
        let name = keys::name_of(state, space, spot.hash, spot.key.bind(py))?;
        Ok(match name {
            Some(name) => Some(self.key(space, name.to_str()?)),
            None => None,
        })
    }

    /// What a name of a space's namespace is there.
    pub fn key(&self, space: &Space, name: &str) -> Vec<u8> {
        let mut key = Vec::new();
        self.write_key(space, name, &mut key);
        key
    }

    /// Appends that.
    #[inline]
    pub fn write_key(&self, space: &Space, name: &str, out: &mut Vec<u8>) {
        let begins = space.begins(|path| shared_name(&self.cache, path, ""));
        out.reserve(begins.len() + name.len());
        out.extend_from_slice(begins.as_bytes());
        out.extend_from_slice(name.as_bytes());
    }

    /// What its clock is called there.
    pub fn clock_key(&self) -> &[u8] {
        &self.escaped
    }

    /// That this is the alert of its memory, in which nothing is yet. False if nobody is heard.
    pub fn rings(&self, alert: &Arc<Alert>) -> bool {
        drop(self.alert.set(Arc::clone(alert)));
        if self.listens {
            alert.ring();
        }
        self.listens
    }

    /// The alert of its memory.
    #[inline]
    pub fn alert(&self) -> &Arc<Alert> {
        self.alert.get_or_init(Arc::default)
    }

    /// True if the clock is to be asked what has moved before something is judged by that.
    #[inline]
    pub fn has_to_ask(&self, now: Millis) -> bool {
        now >= self.known_until.load(Acquire) || now >= self.alert().limit()
    }

    /// In a forked child: nothing is known there, and nobody heard.
    pub fn forget(&self) {
        self.claims.forget();
        self.known_until.store(0, Release);
        self.alert().ring();
    }

    /// What this process hears.
    pub fn inbox(&self) -> &Arc<Inbox> {
        let make = || {
            let bits = random().unwrap_or_else(|_| u128::from(self.hasher.hash_one(std::process::id())));
            let (alert, waiters) = (Arc::clone(self.alert()), Arc::clone(&self.waiters));
            let signs = [Signs { alert, known_until: Arc::clone(&self.known_until) }];
            let heard = Heard::new(Origin(bits), signs, (&self.clock, &self.hasher), self.listens);
            Ok::<_, Infallible>(Arc::new(Inbox::new(heard, waiters)))
        };
        match self.inbox.get_or_make(make) {
            Ok(inbox) => inbox,
            Err(never) => match never {},
        }
    }

    /// Who is told of a write: all others who use this cache.
    pub fn tell_others(&self) -> Option<Arc<Tell>> {
        Some(Arc::new(Tell { cache: self.escaped.clone(), origin: self.inbox().heard.origin }))
    }

    /// Asks what has moved, and for a stamp of now.
    pub fn ask_clock(&self, memory: &PyMemory) -> Request {
        self.inbox().asks();
        let known = memory.ledger.as_ref().map(|ledger| ledger.registers.known()).unwrap_or_default();
        Request { key: self.escaped.clone().into(), action: Action::Registers { known } }
    }

    /// What has become of something that the store has, by what was invalidated since its load began.
    #[inline]
    pub fn judge(&self, tier: &Tier, space: &Space, fetched: &Fetched) -> Verdict {
        let tags = fetched.tags.iter().flatten().map(|tag| &**tag);
        // What the store has yet to hear of it cannot have compared with.
        let unheard = self.recovery.judge(&space.path, tags.clone());
        let memory = tier.memory.lock();
        let Some(ledger) = &memory.ledger else { return unheard };
        unheard.max(ledger.registers.judge(&space.path, tags, fetched.began))
    }

    /// The clock has told what it was asked just now: memory learns it, and lets go what can no longer be compared with it.
    pub fn learn(&self, tier: &Tier, told: &Told) {
        self.inbox().saw(told.stamp);
        let knows = self.inbox().heard.learn(0, told, &mut tier.memory.lock());
        if !knows {
            tier.forget_behind("");
        }
    }

    /// The hash by which memory knows what is called so there.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key).max(1)
    }

    /// What all its names begin with.
    pub fn begins(&self) -> String {
        escape(&self.cache) + ":"
    }

    /// Sends something that nobody waits for.
    pub fn tell(&self, key: Vec<u8>, action: Action) {
        self.store.submit(vec![Request { key: key.into(), action }], Answers::new(drop));
    }

    /// Has what is there of this version kept as it would be written now.
    pub fn rewrite(&self, key: &[u8], version: Version, (frame, keep): Packed) {
        let under = Under::Version(version);
        self.tell(key.to_vec(), Action::Fill { under, newer_than: None, frame, keep, tell: None });
    }

    /// The store is to hear as soon as it can that what it has under a key is no more.
    /// `undone`: it has certainly not been asked.
    pub fn recover(&self, key: &[u8], undone: bool) {
        self.recovery.put(key, undone, self.inbox());
    }

    /// True if what it has under a key is no more, and it has yet to hear so.
    #[inline]
    pub fn is_behind(&self, key: &[u8]) -> bool {
        self.recovery.has(key)
    }

    /// It has heard of a key, which somebody here may be waiting for.
    pub fn heard(&self, key: &[u8]) {
        self.recovery.forget(key);
        self.waiters.changed(key);
    }

    /// The store is to hear as soon as it can that these tags or namespaces were invalidated.
    pub fn recover_move(&self, moved: &Move, undone: bool) {
        self.recovery.put_move(moved, undone, self.inbox());
    }

    /// This process has written or invalidated something, of this version.
    pub fn note_written(&self, version: Option<Version>) {
        self.newest.fetch_max(version.map_or(0, |version| version.0), Relaxed);
    }

    /// The newest of what this process has written or invalidated; None if it has done nothing of the kind.
    pub fn newest(&self) -> Option<Version> {
        Some(Version(self.newest.load(Relaxed))).filter(|version| version.0 > 0)
    }

    /// How many keys it has yet to hear of.
    pub fn to_recover(&self) -> usize {
        self.recovery.len()
    }

    /// The store could not do what it was asked: an error where that is to be one; else counted, and said in the log now and then.
    pub fn failed(&self, py: Python<'_>, error: &StoreError) -> PyResult<()> {
        self.errors.fetch_add(1, Relaxed);
        if self.raises {
            return Err(Error::Store(error.clone()).into());
        }
        let now = self.clock.now();
        if self.quiet_until.load(Relaxed) <= now {
            self.quiet_until.store(later(now, QUIET), Relaxed);
            let said = py
                .import("samovar._bridge")
                .and_then(|bridge| bridge.call_method1("store_failed", (&self.cache, error.to_string())).map(drop));
            said.unwrap_or_else(|error| error.write_unraisable(py, None));
        }
        Ok(())
    }
}

/// The store behind a key, and how its values are written there.
pub struct Behind {
    /// The store.
    pub remote: Arc<Remote>,
    /// The coding.
    pub coding: Py<Coding>,
}

impl Behind {
    /// Another handle.
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Behind { remote: Arc::clone(&self.remote), coding: self.coding.clone_ref(py) }
    }
}
