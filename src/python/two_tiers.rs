//! The operations of a cache with a store behind its memory, for `samovar/_two_tiers.py`: each gives an awaitable of its outcome
//! (`waits`), or waits on this thread and gives the outcome itself.
//!
//! Options are read and values written here, before anything is asked; what then happens is `errands`'.

use super::cache::{CacheCore, key_name, several};
use super::coding::Fetched;
use super::copy;
use super::errand::{self, Errand};
use super::errands::{
    Becomes, Cleared, Clearing, Gives, Glance, Look, Looks, Names, Update, Wanted, Writes, not_an_int,
};
use super::moving::Moving;
use super::options::shown;
use super::place::{Change, Home, Over, Place};
use super::recipe::{Kept, Labels, labels};
use super::remote::Behind;
use super::stamp::Stamp;
use super::tier::{Object, truth};
use super::{hearing, keys, reply, views};
use crate::core::clock::{NEVER, deadline};
use crate::core::coherence::{How, Name};
use crate::core::policy::Glob;
use crate::core::remote::ledger::Mark;
use crate::io::store::{Cursor, Request};
use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyEllipsis, PyInt, PyList};
use std::sync::Arc;
use std::time::Duration;

/// So long, in bytes, is what most keys are called in a store.
const USUAL_NAME: usize = 32;

/// See the module.
#[pyclass(frozen, module = "samovar._core")]
pub struct TwoTiers {
    core: Py<CacheCore>,
}

impl TwoTiers {
    fn core(&self) -> &CacheCore {
        self.core.get()
    }

    fn behind(&self, py: Python<'_>) -> PyResult<Behind> {
        self.core().behind(py).ok_or_else(no_store)
    }

    fn home(&self, py: Python<'_>) -> PyResult<&Arc<Home>> {
        self.core().home(py).ok_or_else(no_store)
    }

    /// Where a name is.
    pub fn place(&self, key: &Bound<'_, PyAny>) -> PyResult<Place> {
        hearing::heed(key.py(), &self.core().tier);
        Place::named(self.home(key.py())?, &key_name(key)?)
    }

    /// A value on its way in.
    pub fn kept(&self, _py: Python<'_>, value: &Bound<'_, PyAny>, ttl: Option<Duration>) -> PyResult<Kept> {
        self.core().kept(value, ttl)
    }

    fn run(&self, py: Python<'_>, errand: impl Errand + 'static, waits: bool) -> PyResult<Object> {
        errand::run(py, self.core().state, &self.home(py)?.behind.remote, errand, waits)
    }

    /// What is known already, as it would be given by an errand.
    fn ready(&self, py: Python<'_>, value: Object, waits: bool) -> PyResult<Object> {
        if !waits {
            return Ok(value);
        }
        // SAFETY: the value is owned, and the interpreter is held.
        unsafe { Ok(Bound::from_owned_ptr_or_err(py, reply::ready(self.core().state, value.into_ptr()))?.unbind()) }
    }

    fn change(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: &Bound<'_, PyAny>,
        over: Over,
    ) -> PyResult<(Change, Request)> {
        self.change_tagged(key, value, (ttl, None), over)
    }

    fn change_tagged(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        (ttl, tags): (&Bound<'_, PyAny>, Option<Labels>),
        over: Over,
    ) -> PyResult<(Change, Request)> {
        let (core, place) = (self.core(), self.place(key)?);
        let ttl = core.ttl_of(ttl, key)?;
        let end = deadline(core.tier.clock.now(), ttl);
        Change::put(key.py(), place, Kept { tags, ..core.kept(value, ttl)? }, end, over)
    }

    fn becomes(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: &Bound<'_, PyAny>,
        adds: bool,
    ) -> PyResult<Becomes> {
        Ok(Becomes::Value { value: value.clone().unbind(), ttl: self.core().ttl_of(ttl, key)?, adds })
    }

    fn glance(
        &self,
        key: &Bound<'_, PyAny>,
        waits: bool,
        here: fn(Python<'_>, &Place) -> PyResult<Option<Object>>,
        tells: fn(Python<'_>, &Place, Option<Fetched>) -> PyResult<Object>,
    ) -> PyResult<Object> {
        self.run(key.py(), Glance { place: self.place(key)?, here, tells }, waits)
    }
}

fn no_store() -> PyErr {
    PyTypeError::new_err("this cache has no store behind its memory")
}

fn is_here(py: Python<'_>, place: &Place) -> PyResult<Option<Object>> {
    place.served(py)?.map(|_| truth(py, true)).transpose()
}

fn left_here(py: Python<'_>, place: &Place) -> PyResult<Option<Object>> {
    let there = place.served(py)?.map(|there| Fetched::here(there.value, there.deadline));
    there.map(|there| left(py, place, Some(there))).transpose()
}

fn is_there(py: Python<'_>, _: &Place, there: Option<Fetched>) -> PyResult<Object> {
    truth(py, there.is_some_and(|there| there.value.is_some()))
}

fn left(py: Python<'_>, place: &Place, there: Option<Fetched>) -> PyResult<Object> {
    let Some(Fetched { value: Some(_), fresh_until, .. }) = there else { return Ok(py.None()) };
    let left = fresh_until.saturating_sub(place.tier.clock.now()) as f64 / 1000.0;
    Ok((if fresh_until >= NEVER { f64::INFINITY } else { left }).into_pyobject(py)?.into_any().unbind())
}

#[pymethods]
impl TwoTiers {
    #[new]
    fn new(core: Py<CacheCore>) -> Self {
        TwoTiers { core }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)
    }

    fn peek(&self, key: &Bound<'_, PyAny>, waits: bool) -> PyResult<Object> {
        self.glance(key, waits, views::here, views::fetched)
    }

    fn set(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: &Bound<'_, PyAny>,
        tags: &Bound<'_, PyAny>,
        waits: bool,
    ) -> PyResult<Object> {
        let change = self.change_tagged(key, value, (ttl, labels(tags)?), Over::Anything)?;
        self.run(py, Writes::new(vec![change], Gives::Stamp, "set"), waits)
    }

    fn add(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: &Bound<'_, PyAny>,
        waits: bool,
    ) -> PyResult<Object> {
        if self.core().space.is_disabled() || self.core().ttl_of(ttl, key)? == Some(Duration::ZERO) {
            return self.ready(py, truth(py, false)?, waits);
        }
        self.update(py, key, self.becomes(key, value, ttl, true)?, waits)
    }

    fn replace(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: &Bound<'_, PyAny>,
        waits: bool,
    ) -> PyResult<Object> {
        if self.core().space.is_disabled() || self.core().ttl_of(ttl, key)? == Some(Duration::ZERO) {
            return self.delete(py, key, waits);
        }
        self.update(py, key, self.becomes(key, value, ttl, false)?, waits)
    }

    fn delete(&self, py: Python<'_>, key: &Bound<'_, PyAny>, waits: bool) -> PyResult<Object> {
        let change = Change::removal(self.place(key)?);
        self.run(py, Writes::new(vec![change], Gives::WhetherThere, "delete"), waits)
    }

    /// What is there goes; gives a stamp.
    fn invalidate(&self, py: Python<'_>, key: &Bound<'_, PyAny>, waits: bool) -> PyResult<Object> {
        let change = Change::removal(self.place(key)?);
        self.run(py, Writes::new(vec![change], Gives::Stamp, "invalidate"), waits)
    }

    fn delete_many(&self, py: Python<'_>, keys: &Bound<'_, PyAny>, waits: bool) -> PyResult<Object> {
        let change = |key: PyResult<Bound<'_, PyAny>>| Ok(Change::removal(self.place(&key?)?));
        let changes = several(keys, "delete_many")?.map(change).collect::<PyResult<_>>()?;
        self.run(py, Writes::new(changes, Gives::HowMany, "delete_many"), waits)
    }

    fn set_many(
        &self,
        py: Python<'_>,
        items: &Bound<'_, PyAny>,
        ttl: &Bound<'_, PyAny>,
        waits: bool,
    ) -> PyResult<Object> {
        let change = |key: PyResult<Bound<'_, PyAny>>| {
            let key = key?;
            self.change(&key, &items.get_item(&key)?, ttl, Over::Anything)
        };
        let changes = items.try_iter()?.map(change).collect::<PyResult<_>>()?;
        self.run(py, Writes::new(changes, Gives::Stamp, "set_many"), waits)
    }

    fn set_missing(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        ttl: &Bound<'_, PyAny>,
        waits: bool,
    ) -> PyResult<Object> {
        let core = self.core();
        let change = |key: PyResult<Bound<'_, PyAny>>| {
            let key = key?;
            let kept = core.nothing(&key, ttl)?;
            let end = deadline(core.tier.clock.now(), kept.ttl.flatten());
            Change::put(py, self.place(&key)?, kept, end, Over::Anything)
        };
        let changes = several(keys, "set_missing_many")?.map(change).collect::<PyResult<_>>()?;
        self.run(py, Writes::new(changes, Gives::Nothing, "set_missing"), waits)
    }

    fn touch(&self, py: Python<'_>, key: &Bound<'_, PyAny>, ttl: &Bound<'_, PyAny>, waits: bool) -> PyResult<Object> {
        let ttl = self.core().ttl_of(ttl, key)?;
        if ttl == Some(Duration::ZERO) {
            return self.delete(py, key, waits);
        }
        self.update(py, key, Becomes::Touched(ttl), waits)
    }

    fn incr(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        by: &Bound<'_, PyAny>,
        ttl: &Bound<'_, PyAny>,
        waits: bool,
    ) -> PyResult<Object> {
        if !by.is_exact_instance_of::<PyInt>() {
            let text = format!("cannot increment {} by {}; give an int", shown(key), shown(by));
            return Err(PyTypeError::new_err(text));
        }
        let own = self.core().ttl_of(PyEllipsis::get(py).to_owned().as_any(), key)?;
        let given = if ttl.is(PyEllipsis::get(py)) { None } else { Some(self.core().ttl_of(ttl, key)?) };
        self.update(py, key, Becomes::More { by: by.clone().unbind(), given, own }, waits)
    }

    fn contains(&self, key: &Bound<'_, PyAny>, waits: bool) -> PyResult<Object> {
        self.glance(key, waits, is_here, is_there)
    }

    fn ttl(&self, key: &Bound<'_, PyAny>, waits: bool) -> PyResult<Object> {
        self.glance(key, waits, left_here, left)
    }

    /// The values that are there. Where nothing is kept (`keeps`), it is no use of them: the store alone is asked.
    fn get_many(&self, py: Python<'_>, keys: &Bound<'_, PyAny>, keeps: bool, waits: bool) -> PyResult<Object> {
        let (core, home) = (self.core(), self.home(py)?);
        let found = PyDict::new(py);
        let about = keys.cast::<PyList>().map_or(0, |keys| keys.len());
        let (mut wanted, mut names) = (Vec::with_capacity(about), Vec::with_capacity(about * USUAL_NAME));
        let (misses_all, marks, mut missed) = (keeps && core.misses_all(py), home.behind.remote.keeps, 0);
        for given in several(keys, "get_many")? {
            let given = given?;
            let name = key_name(&given)?;
            missed += usize::from(misses_all);
            match if keeps && !misses_all { core.look(&name)? } else { None } {
                Some(value) => found.set_item(&given, value)?,
                None if core.space.is_disabled() => {}
                None => {
                    let (from, spot) = (names.len(), keys::named(&name, &home.space)?);
                    home.behind.remote.write_key(&home.space, name.to_str()?, &mut names);
                    let mark = if marks { home.mark(&spot, &names[from..]) } else { Mark::default() };
                    let given = (!given.is(&name)).then(|| given.unbind());
                    wanted.push(Wanted { given, spot, name: from..names.len(), mark });
                }
            }
        }
        core.count_misses(missed);
        let (found, names, home, recipe) = (found.unbind(), names.into(), Arc::clone(home), core.tier.recipe());
        self.run(py, Looks { found, wanted, names, home, recipe, keeps }, waits)
    }

    /// Some of the names of this namespace, and where to go on.
    fn names(&self, py: Python<'_>, from_: Option<(usize, u64)>, waits: bool) -> PyResult<Object> {
        let remote = self.behind(py)?.remote;
        let prefix = remote.key(&self.core().space, "");
        let from = from_.map_or_else(Cursor::default, |(server, at)| Cursor { server, at });
        self.run(py, Names { remote, prefix, from }, waits)
    }

    /// Everything of this namespace and those below it goes.
    fn clear(&self, py: Python<'_>, waits: bool) -> PyResult<Object> {
        let core = self.core();
        core.tell_cleared(py);
        let names = vec![Name::new(&core.space.path, "")];
        self.run(py, Moving::new(&core.tier, &self.behind(py)?.remote, names, How::Gone, "clear"), waits)
    }

    /// What has one of these tags is gone, or stale.
    fn move_tags(&self, py: Python<'_>, tags: Vec<String>, stale: bool, waits: bool) -> PyResult<Object> {
        let core = self.core();
        let names = tags.iter().map(|tag| Name::new(&core.space.path, tag)).collect();
        let (how, name) = if stale { (How::Stale, "expire_tags") } else { (How::Gone, "invalidate_tags") };
        self.run(py, Moving::new(&core.tier, &self.behind(py)?.remote, names, how, name), waits)
    }

    /// The newest of what this process has written or invalidated.
    fn stamp(&self, py: Python<'_>) -> PyResult<Option<Stamp>> {
        Ok(self.behind(py)?.remote.newest().map(|version| Stamp::of(Some(version))))
    }

    /// What has a name that fits the pattern goes, in this namespace.
    fn delete_match(&self, py: Python<'_>, pattern: &str, waits: bool) -> PyResult<Object> {
        let (core, remote) = (self.core.clone_ref(py), self.behind(py)?.remote);
        let glob = Glob::new(pattern, "pattern")?;
        let prefix = remote.key(&core.get().space, "");
        let (told, fits) = (Arc::clone(&remote), Glob::new(pattern, "pattern")?);
        let after = move |py: Python<'_>, cleared: Cleared<'_>| {
            let core = core.get();
            let all = match cleared {
                Cleared::Name(name) => return core.forget(py, name),
                Cleared::End { all } => all,
            };
            // What the store does not have, or could not be asked about.
            for name in &core.names(py, &fits) {
                core.forget(py, name)?;
                if !all {
                    told.recover(&told.key(&core.space, name), false);
                }
            }
            Ok(())
        };
        self.run(py, Clearing::new(remote, vec![prefix], Some(glob), after), waits)
    }

    /// What the store has been asked and has answered, what was heard of others, how many keys the store has yet to hear of, and how
    /// often it was left out: by name, as in `RemoteStats`.
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let remote = self.behind(py)?.remote;
        let report = super::store::tally(py, &*remote.store)?;
        for (name, count) in ["heard", "lost", "strange", "unasked"].into_iter().zip(remote.inbox().heard.counts()) {
            report.set_item(name, count)?;
        }
        report.set_item("errors", remote.errors.load(std::sync::atomic::Ordering::Relaxed))?;
        report.set_item("to_recover", remote.to_recover())?;
        Ok(report)
    }
}

impl TwoTiers {
    fn update(&self, py: Python<'_>, key: &Bound<'_, PyAny>, becomes: Becomes, waits: bool) -> PyResult<Object> {
        // A bad key or value of memory is told before anything is asked.
        let place = self.place(key)?;
        if let (Becomes::More { .. }, Some(there)) = (&becomes, place.served(py)?) {
            let value = copy::hand_out(there.value.bind(py), there.kind)?;
            if !value.is_exact_instance_of::<PyInt>() {
                return Err(not_an_int(key, &value));
            }
        }
        let own = Py::new(py, TwoTiers { core: self.core.clone_ref(py) })?;
        self.run(py, Update::new(own, key.clone().unbind(), becomes), waits)
    }
}

/// A get that memory has nothing for, of a cache that has a store behind it.
pub fn look(
    py: Python<'_>,
    core: &CacheCore,
    key: &Bound<'_, PyAny>,
    (default, least): (Object, Option<Stamp>),
    waits: bool,
) -> PyResult<Object> {
    let Some(home) = core.home(py) else { return Ok(default) };
    let place = Place::named(home, &key_name(key)?)?;
    let look = Look { place, recipe: core.tier.recipe(), default, mark: Default::default(), is_bound: least.is_some() };
    errand::run(py, core.state, &home.behind.remote, look, waits)
}
