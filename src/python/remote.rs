//! The store behind a cache's memory, and what an entry is called there.

use super::claims::Claims;
use super::coding::{Coding, Packed};
use super::keys;
use super::recovery::Recovery;
use super::spot::Spot;
use super::state::State;
use super::tier::Space;
use crate::core::clock::{Clock, later};
use crate::core::key::{escape, shared_name};
use crate::core::remote::Version;
use crate::core::remote::cell::Under;
use crate::error::{Error, StoreError};
use crate::io::store::{Action, Answers, Request, Store};
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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
    /// What it is to be told once it can be reached.
    recovery: Arc<Recovery>,
    /// How often it could not be asked, and its part was left out.
    pub errors: AtomicU64,
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
}

impl Remote {
    /// That of a cache.
    pub fn new(store: Arc<dyn Store>, name: String, cache: &str, terms: &Terms, clock: &Clock) -> Arc<Self> {
        let claims = Claims::new(Arc::clone(&store), clock.clone());
        let recovery = Recovery::new(Arc::clone(&store), clock.clone());
        let (Terms { raises, keeps, most }, cache, errors) = (*terms, cache.to_owned(), AtomicU64::new(0));
        let (clock, quiet_until) = (clock.clone(), AtomicU64::new(0));
        Arc::new(Remote { store, name, cache, raises, keeps, most, claims, recovery, errors, clock, quiet_until })
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
        [space.begins(|path| shared_name(&self.cache, path, "")), name].concat().into_bytes()
    }

    /// What all its names begin with.
    pub fn begins(&self) -> String {
        escape(&self.cache) + ":"
    }

    /// Sends something that nobody waits for.
    pub fn tell(&self, key: Vec<u8>, action: Action) {
        self.store.submit(vec![Request { key, action }], Answers::new(drop));
    }

    /// Has what is there of this version kept as it would be written now.
    pub fn rewrite(&self, key: &[u8], version: Version, (frame, keep): Packed) {
        let under = Under::Version(version);
        self.tell(key.to_vec(), Action::Fill { under, newer_than: None, frame, keep });
    }

    /// The store is to hear as soon as it can that what it has under a key is no more.
    pub fn recover(&self, key: &[u8]) {
        self.recovery.put(key);
    }

    /// True if what it has under a key is no more, and it has yet to hear so.
    pub fn is_behind(&self, key: &[u8]) -> bool {
        self.recovery.has(key)
    }

    /// It has heard of a key.
    pub fn heard(&self, key: &[u8]) {
        self.recovery.forget(key);
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
