//! The operations of a cache with a store behind its memory, for `samovar/_two_tiers.py`: each gives an awaitable of its outcome
//! (`waits`), or waits on this thread and gives the outcome itself.
//!
//! Options are read and values written here, before anything is asked; what then happens is `errands`'.

use super::cache::{CacheCore, key_name, several};
use super::coding::Fetched;
use super::copy;
use super::errand::{self, Errand};
use super::errands::{Becomes, Cleared, Clearing, Gives, Glance, Look, Looks, Names, Update, Writes, not_an_int};
use super::options::shown;
use super::place::{Change, Over, Place};
use super::recipe::Kept;
use super::remote::Behind;
use super::tier::Object;
use super::{reply, views};
use crate::core::clock::{NEVER, deadline};
use crate::core::key::escape;
use crate::core::policy::Glob;
use crate::io::store::{Cursor, Request};
use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyEllipsis, PyInt, PyTuple};
use std::sync::Arc;
use std::time::Duration;

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
        self.core().behind(py).ok_or_else(|| PyTypeError::new_err("this cache has no store behind its memory"))
    }

    /// Where a name is.
    pub fn place(&self, key: &Bound<'_, PyAny>) -> PyResult<Place> {
        let (py, core) = (key.py(), self.core());
        let name = key_name(key)?;
        let behind = self.behind(py)?;
        let stored = behind.remote.key(&core.space, name.to_str()?);
        let (tier, space) = (Arc::clone(&core.tier), Arc::clone(&core.space));
        Ok(Place { tier, space, spot: core.spot(name.as_any())?, behind, key: stored })
    }

    /// A value on its way in.
    pub fn kept(&self, _py: Python<'_>, value: &Bound<'_, PyAny>, ttl: Option<Duration>) -> PyResult<Kept> {
        self.core().kept(value, ttl)
    }

    fn run(&self, py: Python<'_>, errand: impl Errand + 'static, waits: bool) -> PyResult<Object> {
        errand::run(py, self.core().state, &self.behind(py)?.remote, Box::new(errand), waits)
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
        let (core, place) = (self.core(), self.place(key)?);
        let ttl = core.ttl_of(ttl, key)?;
        let end = deadline(core.tier.clock.now(), ttl);
        Change::put(key.py(), place, core.kept(value, ttl)?, end, over)
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

    /// What the names of this namespace, and of those below it, begin with.
    fn prefixes(&self, py: Python<'_>) -> PyResult<Vec<Vec<u8>>> {
        let (core, remote) = (self.core(), self.behind(py)?.remote);
        let whole = remote.begins();
        if core.space.path.is_empty() {
            return Ok(vec![whole.into_bytes()]);
        }
        let path = escape(&core.space.path);
        Ok([":", "%3A"].map(|end| format!("{whole}{path}{end}").into_bytes()).to_vec())
    }
}

fn truth(py: Python<'_>, yes: bool) -> PyResult<Object> {
    Ok(yes.into_pyobject(py)?.to_owned().into_any().unbind())
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
        waits: bool,
    ) -> PyResult<Object> {
        let change = self.change(key, value, ttl, Over::Anything)?;
        self.run(py, Writes::new(vec![change], Gives::Nothing, "set"), waits)
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
        let change = self.change(key, value, ttl, Over::Nothing)?;
        self.run(py, Writes::new(vec![change], Gives::WhetherMade, "add"), waits)
    }

    fn replace(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: &Bound<'_, PyAny>,
        waits: bool,
    ) -> PyResult<Object> {
        let removes = self.core().space.is_disabled() || self.core().ttl_of(ttl, key)? == Some(Duration::ZERO);
        let gives = if removes { Gives::WhetherThere } else { Gives::WhetherMade };
        let change = self.change(key, value, ttl, Over::Something)?;
        self.run(py, Writes::new(vec![change], gives, "replace"), waits)
    }

    fn delete(&self, py: Python<'_>, key: &Bound<'_, PyAny>, waits: bool) -> PyResult<Object> {
        let change = Change::removal(self.place(key)?);
        self.run(py, Writes::new(vec![change], Gives::WhetherThere, "delete"), waits)
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
        self.run(py, Writes::new(changes, Gives::Nothing, "set_many"), waits)
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
        let core = self.core();
        let found = PyDict::new(py);
        let mut wanted = Vec::new();
        for given in several(keys, "get_many")? {
            let given = given?;
            let name = key_name(&given)?;
            match if keeps { core.look(&name)? } else { None } {
                Some(value) => found.set_item(&given, value)?,
                None if core.space.is_disabled() => {}
                None => {
                    let place = self.place(&given)?;
                    let mark = place.mark();
                    wanted.push((given.unbind(), place, mark));
                }
            }
        }
        self.run(py, Looks { found: found.unbind(), wanted, recipe: core.tier.recipe(), keeps }, waits)
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
        let (core, remote) = (self.core.clone_ref(py), self.behind(py)?.remote);
        let after = move |py: Python<'_>, cleared: Cleared<'_>| {
            if let Cleared::End { .. } = cleared {
                core.get().tier.note_all_changed();
                core.get().clear_memory(py);
            }
            Ok(())
        };
        self.run(py, Clearing::new(remote, self.prefixes(py)?, None, after), waits)
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
                    told.recover(&told.key(&core.space, name));
                }
            }
            Ok(())
        };
        self.run(py, Clearing::new(remote, vec![prefix], Some(glob), after), waits)
    }

    /// What the store has been asked and has answered; how many keys it has yet to hear of; how often it was left out.
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let remote = self.behind(py)?.remote;
        let errors = remote.errors.load(std::sync::atomic::Ordering::Relaxed);
        (super::store::tally(py, &*remote.store)?, remote.to_recover(), errors).into_pyobject(py)
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
    default: Object,
    waits: bool,
) -> PyResult<Object> {
    let Some(behind) = core.behind(py) else { return Ok(default) };
    let name = key_name(key)?;
    let (tier, space) = (Arc::clone(&core.tier), Arc::clone(&core.space));
    let (remote, stored) = (Arc::clone(&behind.remote), behind.remote.key(&space, name.to_str()?));
    let place = Place { spot: core.spot(name.as_any())?, tier, space, behind, key: stored };
    let look = Look { place, recipe: core.tier.recipe(), default, mark: Default::default() };
    errand::run(py, core.state, &remote, Box::new(look), waits)
}
