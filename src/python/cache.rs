//! The engine behind `samovar.Cache` and its blocking face: entries under names, in one namespace.
//!
//! The methods here are plain functions of this process's memory: the async face awaits what has to wait, the blocking
//! face calls them as they are. Those that have to be fast are in `cache_methods`.

mod look;

use super::anchor::Anchor;
use super::asyncio::Call;
use super::cache_options::{MemoryOptions, RemoteOptions};
use super::coding::Coding;
use super::copy;
use super::errands::not_an_int;
use super::events::{Details, Kind};
use super::keys;
use super::listing::At;
use super::many::{Bulk, Hits, handed_out};
use super::options::{self, shown};
use super::owner::TierOwner;
use super::pending::{self, Todo};
use super::place::Home;
use super::recipe::{HeldRecipe, Kept, Labels, Loader, Recipe, labels};
use super::refresher::{self, RefresherCore};
use super::remote::Behind;
use super::request::Request;
use super::rulebook::{self, Rulebook};
use super::single_use;
use super::spot::{Current, Spot};
use super::stamp::Stamp;
use super::state::State;
use super::tier::{Object, Space, Tier};
use super::{blocking, clock, errors, hearing, reply, task, views};
use crate::core::clock::{NEVER, deadline};
use crate::core::coherence::{How, Name};
use crate::core::flight::{Life, Refresh};
use crate::core::memory::{RegionId, mix};
use crate::core::policy::Glob;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyEllipsis, PyInt, PyIterator, PyList, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::ptr::null_mut;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// See the module.
#[pyclass(frozen, subclass, weakref, module = "samovar._core")]
pub struct CacheCore {
    /// The cache.
    pub tier: Arc<Tier>,
    /// Its Python owner.
    pub owner: Py<TierOwner>,
    /// The names of this namespace.
    pub space: Arc<Space>,
    /// The module's state.
    pub state: &'static State,
    /// How its values are written to the store behind, if there is one.
    coding: Option<Py<Coding>>,
    /// What its places have in common, if it has such a store; made with the first.
    home: OnceLock<Arc<Home>>,
}

/// The same cache, for callers that do not await.
#[pyclass(frozen, extends = CacheCore, subclass, module = "samovar._core")]
pub struct SyncCore {}

/// The names in what was given as several: a single one would be taken for its letters.
pub fn several<'py>(keys: &Bound<'py, PyAny>, method: &str) -> PyResult<Bound<'py, PyIterator>> {
    if keys.is_instance_of::<PyString>() || keys.is_instance_of::<PyBytes>() || !keys.hasattr("__iter__")? {
        let given = shown(keys);
        let text = format!("keys of {method} must be several names, not {given}; give a list: [{given}]");
        return Err(errors::key_type(keys.py(), text));
    }
    keys.try_iter()
}

impl CacheCore {
    /// The store behind its memory, and how values are written there.
    pub fn behind(&self, py: Python<'_>) -> Option<Behind> {
        let (remote, coding) = (self.tier.remote()?, self.coding.as_ref()?);
        Some(Behind { remote: Arc::clone(remote), coding: coding.clone_ref(py) })
    }

    /// What its places in the store have in common.
    pub fn home(&self, py: Python<'_>) -> Option<&Arc<Home>> {
        if self.home.get().is_none() {
            let (tier, space) = (Arc::clone(&self.tier), Arc::clone(&self.space));
            let home = Arc::new(Home { tier, space, behind: self.behind(py)? });
            let _ = self.home.set(home);
        }
        self.home.get()
    }

    /// Forgets everything of this namespace and those below it that is in memory.
    pub fn clear_memory(&self, py: Python<'_>) {
        self.tier.clear(&self.space.path);
        self.tell_cleared(py);
    }

    /// Tells those who listen that this namespace is cleared.
    pub fn tell_cleared(&self, py: Python<'_>) {
        if self.tier.listeners.hear(Kind::Invalidate) {
            self.tier.tell(py, Kind::Invalidate, &self.space, None, Details::default());
        }
    }

    /// Memory lets a name go.
    pub fn forget(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let spot = self.spot(PyString::new(py, name).as_any())?;
        spot.delete(py, &self.tier, &self.space)?;
        self.tier.memory.lock().note_change(spot.hash);
        Ok(())
    }

    /// A note that there is nothing under a name, for so long or as its policy says.
    pub fn nothing(&self, key: &Bound<'_, PyAny>, ttl: &Bound<'_, PyAny>) -> PyResult<Kept> {
        let py = key.py();
        let given = if ttl.is(PyEllipsis::get(py)) { None } else { options::ttl(ttl, "ttl", false)? };
        let Some(ttl) = given.or(self.recipe_of(key)?.policy.negative_ttl) else {
            let text = format!(
                "no ttl for {}: nothing says how long it is missing; give ttl=, or the cache Policy(negative_ttl=...)",
                shown(key)
            );
            return Err(errors::config(py, text));
        };
        let error = self.state.not_found(py)?.call1((format!("nothing is under {}", shown(key)),))?.unbind();
        let mut kept = Kept::nothing(error, ttl);
        kept.ttl = kept.ttl.filter(|_| !self.space.is_disabled());
        Ok(kept)
    }

    pub fn spot(&self, key: &Bound<'_, PyAny>) -> PyResult<Spot> {
        keys::named(&key_name(key)?, &self.space)
    }

    /// A ttl as given, or that of the key's policy if left out.
    pub fn ttl_of(&self, given: &Bound<'_, PyAny>, key: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
        if !given.is(PyEllipsis::get(given.py())) {
            return options::ttl(given, "ttl", true);
        }
        Ok(self.recipe_of(key)?.policy.ttl)
    }

    /// How values of a key are kept.
    fn recipe_of(&self, key: &Bound<'_, PyAny>) -> PyResult<Arc<Recipe>> {
        if !self.tier.has_rules() {
            return Ok(self.tier.recipe());
        }
        rulebook::recipe_for(key.py(), &self.tier, &self.tier.recipe(), key_name(key)?.to_str()?)
    }

    pub fn kept(&self, value: &Bound<'_, PyAny>, ttl: Option<Duration>) -> PyResult<Kept> {
        single_use::refuse(self.tier.state, value, || "the value".to_owned())?;
        let (stored, kind) = self.tier.isolate(value, self.tier.keeps().1)?;
        let stores = ttl != Some(Duration::ZERO) && !self.space.is_disabled();
        let weight = if stores { self.tier.weigh(value)? } else { 1 };
        Ok(Kept { value: stored.unbind(), kind, ttl: stores.then_some(ttl), weight, since: 0, tags: None })
    }

    pub fn put(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        (ttl, tags): (Option<Duration>, Option<Labels>),
    ) -> PyResult<()> {
        self.spot(key)?.put(py, &self.tier, &self.space, Kept { tags, ..self.kept(value, ttl)? })
    }

    /// What of memory has one of these tags, in this namespace and those below it, is gone or stale from now on.
    pub fn move_here(&self, tags: &[String], how: How) {
        let names: Vec<Name> = tags.iter().map(|tag| Name::new(&self.space.path, tag)).collect();
        self.tier.memory.lock().move_here(&names, how);
    }

    /// What is served under a name, for methods that are no use of it.
    fn served(&self, py: Python<'_>, spot: &Spot) -> PyResult<Option<Current>> {
        spot.served(py, &self.tier, &self.space)
    }

    fn request(
        &self,
        key: &Bound<'_, PyAny>,
        factory: &Bound<'_, PyAny>,
        policy: &Bound<'_, PyAny>,
    ) -> PyResult<Request> {
        if !factory.is_callable() {
            return Err(PyTypeError::new_err(format!(
                "factory of {} must be a function that loads the value, not {}",
                shown(key),
                shown(factory)
            )));
        }
        let name = key_name(key)?.to_str()?.to_owned();
        let own = self.tier.recipe();
        let recipe = match policy.cast::<Prepared>() {
            Ok(prepared) => prepared.get().0.named(key.py(), name),
            Err(_) if policy.is(&own.source) => own.named(key.py(), name),
            Err(_) => Recipe::new(policy, name)?,
        };
        Ok(Request {
            tier: self.tier.clone(),
            spot: self.spot(key)?,
            space: self.space.clone(),
            alias: None,
            loader: Loader {
                callable: factory.clone().unbind(),
                args: Vec::new(),
                names: None,
                bound: Default::default(),
            },
            refresher: None,
            recipe: HeldRecipe::new(key.py(), Arc::new(recipe)),
            life: Life::Shared,
            refresh: false,
            since: Default::default(),
            // A factory knows what its caller has, which may be gone when it is called again.
            repeatable: false,
            began: Default::default(),
            is_behind: Default::default(),
            behind: self.behind(key.py()),
        })
    }
}

/// A key as an exact str, as it is stored.
pub fn key_name<'py>(key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    match key.cast_exact::<PyString>() {
        Ok(text) => keys::short(text),
        Err(_) => keys::short(&exact_key(key)?),
    }
}

/// A key as an exact str, as it was given.
#[cold]
pub fn exact_key<'py>(key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    if let Ok(text) = key.cast_exact::<PyString>() {
        return Ok(text.clone());
    }
    if let Ok(text) = key.cast::<PyString>() {
        // SAFETY: a valid str; its characters as an exact one, whatever its class says.
        let exact = unsafe { Bound::from_owned_ptr_or_err(key.py(), ffi::PyUnicode_FromObject(text.as_ptr()))? };
        return Ok(exact.cast_into::<PyString>()?);
    }
    Err(errors::key_type(key.py(), format!("key must be a str, not {}; write the parts into one name", shown(key))))
}

#[pymethods]
impl CacheCore {
    #[new]
    #[pyo3(signature = (state, name, memory, policy, path, parent, remote = None, coding = None, sealing = None))]
    #[allow(clippy::too_many_arguments, reason = "one call in samovar/_cache.py")]
    fn new(
        py: Python<'_>,
        state: &Bound<'_, super::StateHandle>,
        name: String,
        memory: Option<MemoryOptions<'_>>,
        policy: Option<&Bound<'_, PyAny>>,
        path: &str,
        parent: Option<&Bound<'_, CacheCore>>,
        remote: Option<RemoteOptions<'_>>,
        coding: Option<Py<Coding>>,
        sealing: Option<Py<Coding>>,
    ) -> PyResult<Self> {
        let (tier, owner) = match parent {
            Some(parent) => (parent.get().tier.clone(), parent.get().owner.clone_ref(py)),
            None => {
                let (Some(memory), Some(policy)) = (memory, policy) else {
                    return Err(PyTypeError::new_err("a cache of its own needs memory options and a policy"));
                };
                let recipe = Recipe::new(policy, name.clone())?;
                let weigher = memory.weigher.as_ref().map(|own| own.clone().unbind());
                let (bound, eviction, apart) = (memory.bound(), memory.eviction.parse()?, memory.apart()?);
                let tier = Tier::new(state.get().0, recipe, (bound, eviction, apart), weigher, clock::shared().clone());
                remote.into_iter().for_each(|remote| tier.set_remote(remote.open(&name)));
                sealing.into_iter().for_each(|sealing| tier.set_sealing(sealing));
                (tier.clone(), TierOwner::of(py, tier)?)
            }
        };
        let coding = coding.or_else(|| parent.and_then(|parent| Some(parent.get().coding.as_ref()?.clone_ref(py))));
        let space = tier.names(path);
        Ok(CacheCore { tier, owner, space, state: state.get().0, coding, home: OnceLock::new() })
    }

    /// The owner answers for the entries; every face of the cache leads to it.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.owner)?;
        // What is under way has it too.
        let home = self.home.get().filter(|home| Arc::strong_count(home) == 1);
        home.map_or(Ok(()), |home| visit.call(&home.behind.coding))?;
        visit.call(&self.coding)
    }

    /// The cache's policy.
    #[getter]
    fn _policy(&self, py: Python<'_>) -> Object {
        self.tier.recipe().source.clone_ref(py)
    }

    /// True if it has a store behind its memory, which other processes may have behind theirs.
    #[getter]
    fn _is_shared(&self) -> bool {
        self.tier.remote().is_some() && self.coding.is_some()
    }

    /// Another policy, checked in Python, here and in all namespaces.
    fn _set_policy(&self, policy: &Bound<'_, PyAny>) -> PyResult<()> {
        self.tier.set_recipe(self.tier.recipe().under(policy)?);
        Ok(())
    }

    /// The policy of a key, for those who lay another over it.
    fn _policy_of(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Object> {
        Ok(self.recipe_of(key)?.source.clone_ref(py))
    }

    /// Patterns with a policy each, the first that fits counts; in force at once, here and in all namespaces.
    fn _set_rules(&self, rules: Vec<(String, Object)>) -> PyResult<()> {
        self.tier.set_rules(Rulebook::new(rules)?);
        Ok(())
    }

    #[getter]
    fn name(&self) -> &str {
        &self.tier.name
    }

    #[getter]
    fn path(&self) -> &str {
        &self.space.path
    }

    fn _peek(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Object> {
        views::entry(py, &self.tier, &self.space, &self.spot(key)?)
    }

    #[pyo3(signature = (key, value, ttl, tags = None))]
    fn _set(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: &Bound<'_, PyAny>,
        tags: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.put(py, key, value, (self.ttl_of(ttl, key)?, tags.map_or(Ok(None), labels)?))
    }

    /// What has one of these tags is gone, or stale.
    fn _move(&self, tags: Vec<String>, stale: bool) {
        self.move_here(&tags, if stale { How::Stale } else { How::Gone });
    }

    fn _add(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let (spot, kept) = (self.spot(key)?, self.kept(value, self.ttl_of(ttl, key)?)?);
        let absent = self.served(py, &spot)?.is_none();
        let stores = kept.ttl.is_some();
        if absent && stores {
            spot.put(py, &self.tier, &self.space, kept)?;
        }
        Ok(absent && stores)
    }

    fn _replace(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let (spot, kept) = (self.spot(key)?, self.kept(value, self.ttl_of(ttl, key)?)?);
        let present = self.served(py, &spot)?.is_some();
        // What must not be stored removes what is there, so that no older value comes back.
        if present || self.space.is_disabled() {
            spot.put(py, &self.tier, &self.space, kept)?;
        }
        Ok(present)
    }

    fn _delete(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.spot(key)?.delete(py, &self.tier, &self.space)
    }

    fn _touch(&self, py: Python<'_>, key: &Bound<'_, PyAny>, ttl: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (spot, ttl) = (self.spot(key)?, self.ttl_of(ttl, key)?);
        let Some(Current { target, .. }) = self.served(py, &spot)? else { return Ok(false) };
        if ttl == Some(Duration::ZERO) {
            return spot.delete(py, &self.tier, &self.space);
        }
        let (_, flight) = spot.locate(py, &self.tier)?;
        let until = deadline(self.tier.clock.now(), ttl);
        let mut memory = self.tier.memory.lock();
        if let Some(flight) = flight {
            memory.flights.detach(flight);
        }
        if let Some(id) = memory.entries.resolve(target) {
            memory.entries.touch(id, until);
        }
        drop(memory);
        self.tier.appointment.by(until);
        Ok(true)
    }

    fn _contains(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.served(py, &self.spot(key)?)?.is_some())
    }

    /// Seconds left; infinity without expiry, None if it is not there.
    fn _ttl(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        let Some(Current { deadline, .. }) = self.served(py, &self.spot(key)?)? else { return Ok(None) };
        let left = deadline.saturating_sub(self.tier.clock.now());
        Ok(Some(if deadline == NEVER { f64::INFINITY } else { left as f64 / 1000.0 }))
    }

    fn _incr(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        by: &Bound<'_, PyAny>,
        ttl: &Bound<'_, PyAny>,
    ) -> PyResult<Object> {
        if !by.is_exact_instance_of::<PyInt>() {
            let text = format!("cannot increment {} by {}; give an int", shown(key), shown(by));
            return Err(PyTypeError::new_err(text));
        }
        let spot = self.spot(key)?;
        let Some(Current { value, kind, deadline, tags, .. }) = self.served(py, &spot)? else {
            self.put(py, key, by, (self.ttl_of(ttl, key)?, None))?;
            return Ok(by.clone().unbind());
        };
        let value = copy::hand_out(value.bind(py), kind)?;
        if !value.is_exact_instance_of::<PyInt>() {
            return Err(not_an_int(key, &value));
        }
        let sum = value.add(by)?;
        let tags = tags.map(|tags| tags.names.clone());
        if ttl.is(PyEllipsis::get(py)) {
            // A counter ends when it would have ended, however often it is incremented.
            spot.put_until(py, &self.tier, &self.space, Kept { tags, ..self.kept(&sum, None)? }, deadline)?;
        } else {
            spot.put(py, &self.tier, &self.space, Kept { tags, ..self.kept(&sum, self.ttl_of(ttl, key)?)? })?;
        }
        Ok(sum.unbind())
    }

    fn _get_many<'py>(&self, py: Python<'py>, keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        let _anchor = Anchor::hold();
        let found = PyDict::new(py);
        for key in several(keys, "get_many")? {
            let given = key?;
            let key = key_name(&given)?;
            if let Some(value) = self.look(&key)? {
                found.set_item(given, value)?;
            }
        }
        Ok(found)
    }

    fn _set_many(&self, py: Python<'_>, items: &Bound<'_, PyAny>, ttl: &Bound<'_, PyAny>) -> PyResult<()> {
        let _anchor = Anchor::hold();
        // All keys are checked before the first is stored: a bad one leaves nothing half done.
        let mut wanted = Vec::new();
        for key in items.try_iter()? {
            let key = key?;
            wanted.push((self.spot(&key)?, self.kept(&items.get_item(&key)?, self.ttl_of(ttl, &key)?)?));
        }
        wanted.into_iter().try_for_each(|(spot, kept)| spot.put(py, &self.tier, &self.space, kept))
    }

    /// Notes that there is nothing under these names, all of which are checked before the first is noted.
    fn _set_missing(&self, py: Python<'_>, keys: &Bound<'_, PyAny>, ttl: &Bound<'_, PyAny>) -> PyResult<()> {
        let _anchor = Anchor::hold();
        let one = |key: PyResult<Bound<'_, PyAny>>| {
            let key = key?;
            Ok((self.spot(&key)?, self.nothing(&key, ttl)?))
        };
        let wanted = several(keys, "set_missing_many")?.map(one).collect::<PyResult<Vec<_>>>()?;
        wanted.into_iter().try_for_each(|(spot, kept)| spot.put(py, &self.tier, &self.space, kept))
    }

    /// Why a lookup of this name would do what it does.
    fn _explain(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Object> {
        views::explain(py, &self.tier, &self.space, &self.spot(key)?, &*self.recipe_of(key)?, (None, Refresh::Behind))
    }

    /// Removes what has a name that fits; tells how much of it was there.
    fn _delete_match(&self, py: Python<'_>, pattern: &str) -> PyResult<u64> {
        let _anchor = Anchor::hold();
        let names = self.names(py, &Glob::new(pattern, "pattern")?);
        names.iter().try_fold(0, |count, name| {
            let spot = self.spot(PyString::new(py, name).as_any())?;
            Ok(count + u64::from(spot.delete(py, &self.tier, &self.space)?))
        })
    }

    fn _delete_many(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<u64> {
        let _anchor = Anchor::hold();
        let names = several(keys, "delete_many")?.map(|key| self.spot(&key?)).collect::<PyResult<Vec<_>>>()?;
        names.iter().try_fold(0, |count, spot| Ok(count + u64::from(spot.delete(py, &self.tier, &self.space)?)))
    }

    /// A reply (async) or the value (blocking): what is there, or what `factory` loads.
    fn _get_or_set(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        factory: &Bound<'_, PyAny>,
        policy: &Bound<'_, PyAny>,
        waits: bool,
    ) -> PyResult<Object> {
        let request = self.request(key, factory, policy)?;
        if waits {
            pending::pending(py, self.state, Todo::Call(Call::new(self.state, request)))
        } else {
            blocking::answer(py, self.state, &request)
        }
    }

    /// What is there under a name and needs no second thought, as an awaitable of it (`waits`) or as a tuple of one; None if
    /// nothing is.
    fn _there(&self, py: Python<'_>, key: &Bound<'_, PyAny>, waits: bool) -> PyResult<Option<Object>> {
        let (value, kind) = self.hit(key_name(key)?.as_ptr());
        // SAFETY: the hit gave us a reference, or null, and a ready reply takes one.
        unsafe {
            let Some(value) = handed_out(py, value, kind)? else { return Ok(None) };
            if !waits {
                return Ok(Some(PyTuple::new(py, [value])?.into_any().unbind()));
            }
            Bound::from_owned_ptr_or_err(py, reply::ready(self.state, value.into_ptr()))
                .map(|ready| Some(ready.unbind()))
        }
    }

    /// A policy as calls for many use it again and again.
    fn _prepared<'py>(&self, policy: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Prepared>> {
        Bound::new(policy.py(), Prepared(Recipe::new(policy, self.tier.name.clone())?))
    }

    /// The hits of many names that need no second thought, and the names of the others. Counts no misses.
    fn _hits(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<Object> {
        self.hits(py, keys)?.into_pair()
    }

    /// The values of many names: those that are there, and what `load` finds of the others; `one` loads one alone.
    #[allow(clippy::too_many_arguments, reason = "one call in samovar/_cache.py")]
    fn _answer_all(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        load: Bound<'_, PyAny>,
        limit: usize,
        one: &Bound<'_, PyAny>,
        policy: &Bound<'_, PyAny>,
    ) -> PyResult<Object> {
        // Only if something is missing.
        let mut prepared = None;
        self.hits(py, keys)?.complete(self.state, &Bulk { load, limit }, |key| {
            if prepared.is_none() {
                prepared = Some(self._prepared(policy)?);
            }
            let mut request = self.request(key, one, prepared.as_ref().map_or(policy, |prepared| prepared.as_any()))?;
            request.loader.args.push(key.clone().unbind());
            Ok(request)
        })
    }

    fn _count_unasked(&self, number: u64) {
        self.tier.count_unasked(&self.space, number);
    }

    /// Some (name, value) pairs, and where to go on; `None` at the end.
    fn _scan<'py>(&self, py: Python<'py>, from: Option<At>) -> PyResult<(Bound<'py, PyList>, Option<At>)> {
        self.some(py, from)
    }

    fn _clear(&self, py: Python<'_>) {
        self.clear_memory(py);
    }

    /// The loads that run as tasks here and below, and whether a caller waits for them.
    fn _loads(&self, py: Python<'_>) -> Vec<(Object, bool)> {
        task::below(py, &self.tier, &self.space.path)
    }

    /// A loader's circuit breaker has another state.
    fn _tell_breaker(&self, py: Python<'_>, function: &str, breaker: Object, state: &str) {
        let details = Details {
            value: Some((breaker, copy::SHARE)),
            reason: Some(state),
            function: Some(function),
            ..Details::default()
        };
        self.tier.tell(py, Kind::Breaker, &self.space, None, details);
    }

    /// Warming a function has come to its end.
    fn _tell_warmed(&self, py: Python<'_>, function: &str, job: Object, how: &str, seconds: f64) {
        let details = Details {
            value: Some((job, copy::SHARE)),
            reason: Some(how),
            function: Some(function),
            seconds: Some(seconds),
            error: None,
        };
        self.tier.tell(py, Kind::WarmCompleted, &self.space, None, details);
    }

    /// Has `listener` called with each such event here and below; the number is for `_off`.
    fn _on(&self, event: &Bound<'_, PyAny>, listener: Object) -> PyResult<u64> {
        Ok(self.tier.on(Kind::parse(event)?, &self.space.path, listener))
    }

    fn _off(&self, number: u64) {
        self.tier.off(number);
    }

    fn _reset_stats(&self) {
        self.tier.reset_stats(&self.space.path);
    }

    fn _stats(&self, py: Python<'_>) -> PyResult<Object> {
        views::stats(py, &self.tier.stats(&self.space.path), &self.tier, RegionId::default())
    }

    /// Other options for the memory tier, in force at once; the weigher stays.
    fn _resize(&self, py: Python<'_>, memory: MemoryOptions<'_>) -> PyResult<()> {
        let (eviction, apart) = (memory.eviction.parse()?, memory.apart()?);
        self.tier.resize(py, memory.bound(), apart);
        if eviction != self.tier.memory.lock().entries.eviction(RegionId::default()) {
            self.tier.reorder(eviction);
        }
        Ok(())
    }

    /// The bounds and the order in force.
    fn _bounds(&self) -> (u32, Option<u64>, &'static str) {
        let memory = self.tier.memory.lock();
        let bound = memory.entries.bound(RegionId::default());
        let bytes = Some(bound.weight).filter(|&weight| weight != u64::MAX);
        (bound.entries, bytes, memory.entries.eviction(RegionId::default()).name())
    }

    /// The same of what is missing, if it is bounded apart.
    fn _bounds_of_missing(&self) -> Option<(u32, &'static str)> {
        let memory = self.tier.memory.lock();
        let apart = memory.entries.apart(RegionId::default())?;
        Some((memory.entries.bound(apart).entries, memory.entries.eviction(apart).name()))
    }

    /// The order in force and what it knows about itself.
    fn _insight(&self, py: Python<'_>) -> PyResult<Object> {
        views::insight(py, &self.tier, RegionId::default())
    }

    /// Starts the refresher of the whole cache; `_stop_refresher` ends it, and gives the tasks to be awaited.
    fn _refresher<'py>(
        &self,
        top: usize,
        rate: Bound<'py, PyAny>,
        burst: Option<u32>,
        idle: Bound<'py, PyAny>,
        ahead: f64,
    ) -> PyResult<Bound<'py, RefresherCore>> {
        let given = refresher::Given { top, rate, burst, idle, ahead };
        refresher::start(self.state, &self.tier, &self.space.path, &given)
    }

    fn _stop_refresher(&self, py: Python<'_>) -> Vec<Object> {
        refresher::stop(py, self.state, &self.tier, &self.space.path)
    }

    fn _disable(&self, on: bool) {
        self.tier.disable(&self.space.path, on);
    }

    /// Numbers about the table for tests and benches: entries, bytes allocated, and the most one operation touched.
    fn _inspect<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let memory = self.tier.memory.lock();
        let work = memory.entries.work();
        let valid = memory.entries.validate().and_then(|()| memory.aliases.validate());
        let (entries, aliases, flights) = (memory.entries.len(), memory.aliases.len(), memory.flights.len());
        let bytes = memory.entries.allocated();
        drop(memory);
        let report = PyDict::new(py);
        report.set_item("entries", entries)?;
        report.set_item("aliases", aliases)?;
        report.set_item("flights", flights)?;
        report.set_item("tasks", self.tier.tasks.lock().len())?;
        report.set_item("bytes", bytes)?;
        report.set_item("entries_touched_at_most", work.entries_at_most)?;
        report.set_item("moved_at_most", work.moved_at_most)?;
        report.set_item("fault", valid.err())?;
        Ok(report)
    }
}

/// See [`CacheCore::_prepared`].
#[pyclass(frozen, module = "samovar._core")]
pub struct Prepared(Recipe);

#[pymethods]
impl Prepared {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.objects().try_for_each(|object| visit.call(object))
    }
}

#[pymethods]
impl SyncCore {
    #[new]
    #[pyo3(signature = (state, path, parent))]
    fn new(
        py: Python<'_>,
        state: &Bound<'_, super::StateHandle>,
        path: &str,
        parent: &Bound<'_, CacheCore>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let core = CacheCore::new(py, state, String::new(), None, None, path, Some(parent), None, None, None)?;
        Ok(PyClassInitializer::from(core).add_subclass(SyncCore {}))
    }
}

/// A bad `copy=`.
pub fn bad_copy(given: &Bound<'_, PyAny>) -> PyErr {
    errors::config(given.py(), format!("invalid copy: {}; give 'auto', 'deep', 'write', 'both' or False", shown(given)))
}
