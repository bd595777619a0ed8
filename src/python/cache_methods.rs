//! The methods of caches that are raw, for speed: `get` and the blocking `set`. Everything else is in `cache`.
//!
//! The usual spellings, `get(key)` and `set(key, value, ttl)`, are read here, argument by argument; any other goes through
//! a reader that knows names and complains.
//!
//! # Safety
//! The unsafe functions of this file are methods that the interpreter calls, and their helpers: with an instance of the
//! class they belong to, valid arguments for as long as the call lasts, and the interpreter held.

use super::anchor::Anchor;
use super::cache::{CacheCore, SyncCore, key_name};
use super::options::shown;
use super::raw;
use super::recipe::{Kept, labels};
use super::spot::Spot;
use super::stamp::Stamp;
use super::{args, copy, errors, reply, single_use, two_tiers};
use crate::core::memory::mix;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyEllipsis;
use pyo3::types::{PyTuple, PyType};
use std::ffi::CStr;
use std::ptr::{addr_of_mut, null_mut};
use std::time::Duration;

/// A method's arguments as the interpreter gives them: positional ones, then one for each name.
struct Spelling {
    row: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
}

impl Spelling {
    /// True for `least` to `most` positional arguments, an exact and short str the first of them.
    #[inline(always)]
    unsafe fn is_usual(&self, least: usize, most: usize) -> bool {
        // SAFETY: the interpreter gives `count` arguments.
        self.names.is_null()
            && (least..=most).contains(&self.count)
            && unsafe { ffi::Py_TYPE(*self.row) == addr_of_mut!(ffi::PyUnicode_Type) && args::is_short_name(*self.row) }
    }

    /// A positional argument that is there.
    #[inline(always)]
    unsafe fn at<'py>(&self, py: Python<'py>, at: usize) -> Bound<'py, PyAny> {
        // SAFETY: the caller knows that there are so many.
        unsafe { Bound::from_borrowed_ptr(py, *self.row.add(at)) }
    }

    /// The arguments by parameter, of which the first `required` must be there.
    unsafe fn read<'py, const N: usize>(
        &self,
        py: Python<'py>,
        method: &str,
        parameters: [&str; N],
        required: usize,
    ) -> PyResult<[Option<Bound<'py, PyAny>>; N]> {
        let refuse = |why: String| Err(PyTypeError::new_err(format!("{method}() {why}")));
        if self.count > N {
            return refuse(format!("takes at most {N} arguments: {}", parameters.join(", ")));
        }
        let mut read = [const { None }; N];
        for (at, place) in read.iter_mut().enumerate().take(self.count) {
            // SAFETY: there are `count`.
            *place = Some(unsafe { self.at(py, at) });
        }
        // SAFETY: `names` is null or a tuple of one name for each further argument.
        let names = unsafe { Bound::from_borrowed_ptr_or_opt(py, self.names) };
        let names = names.map(|names| names.cast_into::<PyTuple>()).transpose()?;
        for (number, name) in names.iter().flat_map(|names| names.iter()).enumerate() {
            let name = name.extract::<&str>()?;
            let Some(at) = parameters.iter().position(|parameter| *parameter == name) else {
                return refuse(format!("got an unexpected keyword argument '{name}'"));
            };
            // SAFETY: as above.
            if read[at].replace(unsafe { self.at(py, self.count + number) }).is_some() {
                return refuse(format!("got multiple values for argument '{name}'"));
            }
        }
        match read.iter().take(required).position(Option::is_none) {
            Some(at) => refuse(format!("missing required argument '{}'", parameters[at])),
            None => Ok(read),
        }
    }
}

/// What the interpreter expects: an owned reference, or null with an error set.
fn given_back(py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) -> *mut ffi::PyObject {
    match result {
        Ok(value) => value.into_ptr(),
        Err(error) => {
            error.restore(py);
            null_mut()
        }
    }
}

/// The engine in a Python object that is one.
unsafe fn core_of<'a>(object: *mut ffi::PyObject) -> &'a CacheCore {
    // SAFETY: a method descriptor lets only instances of its class through; the instance outlives the call.
    unsafe {
        let borrowed = pyo3::Borrowed::from_ptr(Python::assume_attached(), object);
        let core: *const CacheCore = borrowed.cast_unchecked::<CacheCore>().get();
        &*core
    }
}

/// What a get gives: on the async face an awaitable of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Face {
    Async,
    Blocking,
}

impl Face {
    /// A value that is there, as this face gives it. Steals it; null stays null.
    #[inline(always)]
    unsafe fn gives(self, core: &CacheCore, value: *mut ffi::PyObject) -> *mut ffi::PyObject {
        if self == Face::Blocking || value.is_null() {
            return value;
        }
        // SAFETY: the caller owns the value, and the interpreter is held.
        unsafe { reply::ready(core.state, value) }
    }
}

/// An owned reference to what is given, or null with an error set.
#[inline(always)]
unsafe fn get_value(core: &CacheCore, call: &Spelling, face: Face) -> *mut ffi::PyObject {
    // SAFETY: a method call's arguments, and a reference that the hit gave us.
    unsafe {
        if !call.is_usual(1, 2) {
            return get_spelled(core, call, face);
        }
        let value = match core.hit(*call.row) {
            (value, copy::SHARE) if !value.is_null() => value,
            (value, kind) if !value.is_null() => copy::own(value, kind),
            _ => return get_missed(core, call, face),
        };
        face.gives(core, value)
    }
}

#[inline(never)]
unsafe fn get_missed(core: &CacheCore, call: &Spelling, face: Face) -> *mut ffi::PyObject {
    // SAFETY: as in `get_value`.
    unsafe {
        if core.tier.listeners.any() {
            return get_spelled(core, call, face);
        }
        let (value, kind) = core.second_look(*call.row, core.space.read_salt());
        if !value.is_null() {
            return face.gives(core, copy::own(value, kind));
        }
        let default = if call.count == 2 { *call.row.add(1) } else { ffi::Py_None() };
        if core.tier.remote().is_some() && !core.space.is_disabled() {
            return get_behind(core, *call.row, default, (None, face));
        }
        ffi::Py_INCREF(default);
        face.gives(core, default)
    }
}

/// Asks the store behind the memory.
unsafe fn get_behind(
    core: &CacheCore,
    key: *mut ffi::PyObject,
    default: *mut ffi::PyObject,
    (least, face): (Option<Stamp>, Face),
) -> *mut ffi::PyObject {
    Python::attach(|py| {
        // SAFETY: a method call's arguments.
        let (key, default) = unsafe { (Bound::from_borrowed_ptr(py, key), Bound::from_borrowed_ptr(py, default)) };
        let asked = two_tiers::look(py, core, &key, (default.unbind(), least), face == Face::Async);
        given_back(py, asked.map(|asked| asked.into_bound(py)))
    })
}

/// What a value is to be no older than.
fn stamp(given: &Bound<'_, PyAny>) -> PyResult<Option<Stamp>> {
    if given.is_none() {
        return Ok(None);
    }
    let text = || format!("invalid at_least: {}; give what set() or invalidate() returned", shown(given));
    given.extract::<Stamp>().map(Some).map_err(|_| errors::config(given.py(), text()))
}

#[inline(never)]
unsafe fn get_spelled(core: &CacheCore, call: &Spelling, face: Face) -> *mut ffi::PyObject {
    Python::attach(|py| {
        // SAFETY: passed on.
        let read = unsafe { call.read(py, "get", ["key", "default", "at_least"], 1) };
        let read =
            read.and_then(|[key, default, least]| Ok((key, default, least.map_or(Ok(None), |least| stamp(&least))?)));
        let (key, default, least) = match read {
            Ok(read) => read,
            Err(error) => return given_back(py, Err(error)),
        };
        let none = || py.None().into_bound(py);
        let (key, default) = (key.unwrap_or_else(none), default.unwrap_or_else(none));
        let behind = core.tier.remote().is_some() && !core.space.is_disabled();
        // What memory has may be older than that.
        let newer = least.filter(|_| behind);
        let found = key_name(&key).and_then(|name| match newer {
            Some(least) if !core.has_at_least(&name, least)? => Ok(None),
            _ => core.look(&name),
        });
        match found {
            // SAFETY: the key and the default outlive the call.
            Ok(None) if behind => unsafe { get_behind(core, key.as_ptr(), default.as_ptr(), (newer, face)) },
            // SAFETY: the value is owned.
            found => unsafe { face.gives(core, given_back(py, found.map(|found| found.unwrap_or(default)))) },
        }
    })
}

unsafe extern "C" fn get_async(
    object: *mut ffi::PyObject,
    row: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called as a method of CacheCore.
    unsafe {
        raw::protect(null_mut(), || {
            get_value(core_of(object), &Spelling { row, count: count as usize, names }, Face::Async)
        })
    }
}

unsafe extern "C" fn get_sync(
    object: *mut ffi::PyObject,
    row: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called as a method of SyncCore, which is a CacheCore.
    unsafe {
        raw::protect(null_mut(), || {
            get_value(core_of(object), &Spelling { row, count: count as usize, names }, Face::Blocking)
        })
    }
}

unsafe extern "C" fn set_sync(
    object: *mut ffi::PyObject,
    row: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called as a method of SyncCore, by a thread that holds the interpreter.
    unsafe {
        raw::protect(null_mut(), || {
            // PyO3 does not count us in, so whatever we own on the usual way goes into the table or is a `Bound`.
            let (core, py) = (core_of(object), Python::assume_attached());
            let call = Spelling { row, count: count as usize, names };
            if !call.is_usual(2, 3) {
                return set_spelled(core, &call);
            }
            let (own, copies) = core.tier.keeps();
            let ttl = if call.count == 3 { plain_seconds(*row.add(2)).map(Some) } else { Some(own) };
            let plain = !core.space.is_disabled() && !core.tier.listeners.any() && !core.tier.has_rules();
            let Some(ttl) = ttl.filter(|_| plain) else { return set_spelled(core, &call) };
            let (key, value) = (call.at(py, 0), call.at(py, 1));
            let lasting = single_use::refuse(core.tier.state, &value, || "the value".to_owned());
            let stored = lasting.and_then(|()| core.tier.isolate(&value, copies)).and_then(|(stored, kind)| {
                let weight = core.tier.weigh(&value)?;
                let kept = Kept { value: stored.unbind(), kind, ttl: Some(ttl), weight, since: 0, tags: None };
                let hash = mix(args::hash_str(key.as_ptr()), core.space.salt());
                Spot { hash, key: key.unbind(), asks: false }.put(py, &core.tier, &core.space, kept)
            });
            given_back(py, stored.map(|()| py.None().into_bound(py)))
        })
    }
}

/// A ttl in plain seconds, more than 0 of them.
#[inline]
unsafe fn plain_seconds(ttl: *mut ffi::PyObject) -> Option<Duration> {
    // SAFETY: each branch reads the object as the type just checked.
    unsafe {
        let kind = ffi::Py_TYPE(ttl);
        if kind == addr_of_mut!(ffi::PyLong_Type) {
            let mut overflow = 0;
            let seconds = ffi::PyLong_AsLongAndOverflow(ttl, &raw mut overflow);
            u64::try_from(seconds).ok().filter(|&seconds| seconds > 0).map(Duration::from_secs)
        } else if kind == addr_of_mut!(ffi::PyFloat_Type) {
            let seconds = ffi::PyFloat_AS_DOUBLE(ttl);
            Duration::try_from_secs_f64(seconds).ok().filter(|ttl| !ttl.is_zero())
        } else {
            None
        }
    }
}

#[inline(never)]
unsafe fn set_spelled(core: &CacheCore, call: &Spelling) -> *mut ffi::PyObject {
    let _anchor = Anchor::hold();
    Python::attach(|py| {
        // SAFETY: passed on.
        let read = unsafe { call.read(py, "set", ["key", "value", "ttl", "tags"], 2) };
        let done = read.and_then(|[key, value, ttl, tags]| {
            let none = py.None().into_bound(py);
            let tags = tags.map(|tags| py.import("samovar._tags")?.call_method1("check_tags", (tags,)));
            let tags = tags.transpose()?.map_or(Ok(None), |tags| labels(&tags))?;
            let (key, value) = (key.as_ref().unwrap_or(&none), value.as_ref().unwrap_or(&none));
            let left_out = || PyEllipsis::get(py).to_owned().into_any();
            let ttl = core.ttl_of(&ttl.unwrap_or_else(left_out), key)?;
            core.put(py, key, value, (ttl, tags))?;
            Ok(none)
        });
        given_back(py, done)
    })
}

/// Puts the raw methods onto the classes.
pub fn add_to_classes(py: Python<'_>) -> PyResult<()> {
    let get = c"get($self, key, default=None, *, at_least=None)\n--\n\nReturn the value under key, or default. A hit in memory never touches the event loop.";
    let set = c"set($self, key, value, ttl=..., tags=())\n--\n\nStore a value; see Cache.set.";
    let (cache, sync) = (py.get_type::<CacheCore>(), py.get_type::<SyncCore>());
    add(&cache, c"get", get_async, get)?;
    add(&sync, c"get", get_sync, get)?;
    add(&sync, c"set", set_sync, set)
}

fn add(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    function: ffi::PyCFunctionFastWithKeywords,
    doc: &'static CStr,
) -> PyResult<()> {
    let def = Box::leak(Box::new(raw::method(name, raw::Function::Keywords(function), doc)));
    // SAFETY: the class is a type and the definition is never freed.
    let method = unsafe { Bound::from_owned_ptr_or_err(class.py(), ffi::PyDescr_NewMethod(class.as_type_ptr(), def))? };
    class.setattr(name.to_str().unwrap_or_default(), method)
}
