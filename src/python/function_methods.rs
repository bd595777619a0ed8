//! The methods and attributes of a cached function. Each converts, calls once, and wraps; none decides.
//!
//! On an async function those that may have to wait are awaitable and do nothing before the first await.
//!
//! # Safety
//! The unsafe functions of this file are slots and methods that the interpreter calls, and their helpers: with objects of
//! the type they belong to, valid arguments for as long as the call lasts, and the interpreter held.

use super::anchor::Anchor;
use super::asyncio::Call;
use super::copy;
use super::far;
use super::function::{This, new_object};
use super::given::Given;
use super::many::{Bulk, Hits, handed_out};
use super::pending::{self, Deed, Holds, Todo};
use super::raw;
use super::recipe::Plan;
use super::request::Request;
use super::tier::Object;
use super::views;
use super::{blocking, errors};
use crate::core::flight::{Life, Refresh};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::ffi::{CStr, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

type Args = *const *mut ffi::PyObject;

/// Enters a method: reads the object, runs `body`, raises its error.
unsafe fn enter(object: *mut ffi::PyObject, body: impl FnOnce(&This<'_>) -> PyResult<Object>) -> *mut ffi::PyObject {
    let _anchor = Anchor::hold();
    raw::protect(null_mut(), || {
        Python::attach(|py| {
            // SAFETY: the caller is a method of the type and got `object` as its self.
            let done = unsafe { This::of(py, object) }.and_then(|this| body(&this));
            match done {
                Ok(result) => result.into_ptr(),
                Err(error) => {
                    error.restore(py);
                    null_mut()
                }
            }
        })
    })
}

macro_rules! call_method {
    ($name:ident, |$this:ident, $given:ident| $body:expr) => {
        unsafe extern "C" fn $name(
            object: *mut ffi::PyObject,
            args: Args,
            count: ffi::Py_ssize_t,
            names: *mut ffi::PyObject,
        ) -> *mut ffi::PyObject {
            // SAFETY: called by the interpreter as a method with keywords.
            unsafe {
                enter(object, |$this| $this.with_instance(Given::new(args, count as usize, names), |$given| $body))
            }
        }
    };
}

macro_rules! plain_method {
    ($name:ident, |$this:ident| $body:expr) => {
        unsafe extern "C" fn $name(object: *mut ffi::PyObject, _unused: *mut ffi::PyObject) -> *mut ffi::PyObject {
            // SAFETY: called by the interpreter as a method without arguments.
            unsafe { enter(object, |$this| $body) }
        }
    };
}

/// Done now on a sync function, at the first await on an async one.
fn deed<T: Holds + 'static>(
    this: &This<'_>,
    what: &'static str,
    needs: T,
    run: fn(Python<'_>, T) -> PyResult<Object>,
) -> PyResult<Object> {
    if !this.function.is_async {
        return run(this.py, needs);
    }
    let deed = Deed::new(this.function.plan().recipe.clone(), what, needs, run);
    pending::pending(this.py, this.state, Todo::Deed(Box::new(deed)))
}

fn request(this: &This<'_>, given: Given) -> PyResult<Request> {
    this.function.request(this.py, this.state, given)
}

call_method!(invalidate, |this, given| {
    let call = request(this, given)?;
    if let Some(done) = far::invalidate(this.py, this.state, &call, this.function.is_async)? {
        return Ok(done);
    }
    deed(this, "invalidate", call, |py, Request { tier, spot, space, .. }| {
        spot.delete(py, &tier, &space)?;
        Ok(py.None())
    })
});

call_method!(peek, |this, given| {
    let call = request(this, given)?;
    if let Some(done) = far::peek(this.py, this.state, &call, this.function.is_async)? {
        return Ok(done);
    }
    deed(this, "peek", call, |py, Request { tier, spot, space, .. }| views::entry(py, &tier, &space, &spot))
});

call_method!(explain, |this, given| {
    let request = request(this, given)?;
    let bound = request.life == Life::Bound && request.refresher.is_none();
    let refresh = if this.function.is_async && !bound { Refresh::Behind } else { Refresh::InPerson };
    let Request { tier, space, spot, recipe, loader, .. } = &request;
    views::explain(this.py, tier, space, spot, recipe, (Some(&loader.callable), refresh))
});

call_method!(refresh, |this, given| {
    let request = Request { refresh: true, ..request(this, given)? };
    if this.function.is_async {
        return pending::pending(this.py, this.state, Todo::Call(Call::new(this.state, request)));
    }
    blocking::answer(this.py, this.state, &request)
});

call_method!(uncached, |this, given| { given.call(this.py, &this.function.wrapped) });

call_method!(key, |this, given| {
    let key = this.function.key(this.py, this.state, given)?;
    Ok(PyString::new(this.py, &key).into_any().unbind())
});

/// `f.set(value, *args)`: the value stands before the instance.
unsafe extern "C" fn set(
    object: *mut ffi::PyObject,
    args: Args,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a method with keywords; a missing first argument is refused before use.
    unsafe {
        enter(object, |this| {
            if count < 1 {
                return Err(PyTypeError::new_err("set() needs the value, then the arguments of the call"));
            }
            let value = Bound::from_borrowed_ptr(this.py, *args).unbind();
            let rest = Given::new(args.add(1), count as usize - 1, names);
            let request = this.with_instance(rest, |given| request(this, given))?;
            let waits = this.function.is_async;
            if let Some(done) = far::set(this.py, this.state, &request, value.bind(this.py), waits)? {
                return Ok(done);
            }
            deed(this, "set", (request, value), |py, (request, value)| {
                let state = request.tier.state;
                let kept = request.recipe.keep(value.bind(py), &request.loader, &request.tier, state);
                let mut kept = kept.map_err(|error| errors::not_stop(py, error))?;
                kept.ttl = kept.ttl.filter(|_| !request.space.is_disabled());
                request.spot.put(py, &request.tier, &request.space, kept)?;
                Ok(py.None())
            })
        })
    }
}

/// `f._replan(policy, loaders)`: under another policy of its cache. The loaders are the function and what refreshes behind
/// or None, as that policy protects them; without them they stay.
unsafe extern "C" fn replan(
    object: *mut ffi::PyObject,
    args: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a method with `count` arguments.
    unsafe {
        enter(object, |this| {
            if count != 2 {
                return Err(PyTypeError::new_err("_replan() needs a policy and the loaders"));
            }
            let (py, before) = (this.py, this.function.plan());
            let (policy, loaders) = (Bound::from_borrowed_ptr(py, *args), Bound::from_borrowed_ptr(py, *args.add(1)));
            let kept = || (before.loader.clone_ref(py), before.refresher.as_ref().map(|own| own.clone_ref(py)));
            let (loader, refresher) = if loaders.is_none() { kept() } else { loaders.extract()? };
            let recipe = Arc::new(before.recipe.under(&policy)?);
            this.function.set_plan(Plan { recipe, loader, refresher });
            Ok(py.None())
        })
    }
}

/// The call that is meant for many ids: what stands behind the first `own` arguments, and where the ids stand in it.
unsafe fn of_many<R>(
    this: &This<'_>,
    args: Args,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    own: usize,
    body: impl FnOnce(Given, usize) -> PyResult<R>,
) -> PyResult<R> {
    // SAFETY: called as a method with `count` positional arguments.
    unsafe {
        if (count as usize) < own {
            return Err(PyTypeError::new_err(format!("needs {own} arguments, then those of the call")));
        }
        let slot: usize = Bound::from_borrowed_ptr(this.py, *args).extract()?;
        let rest = Given::new(args.add(own), count as usize - own, names);
        let slot = slot + usize::from(this.instance.is_some());
        this.with_instance(rest, |given| {
            if slot >= given.row().len() {
                return Err(PyTypeError::new_err("the call has no such argument"));
            }
            body(given, slot)
        })
    }
}

/// The hits of many ids, each in the place of the argument at `slot`.
unsafe fn hits_of<'py>(this: &This<'py>, given: Given, slot: usize, ids: &Bound<'py, PyAny>) -> PyResult<Hits<'py>> {
    this.function.learn(this.py, given);
    let mut row = given.row();
    Hits::of(ids, |id| {
        row[slot] = id.as_ptr();
        // SAFETY: the row holds the call's arguments, and the id outlives the lookup.
        unsafe { handed_out(this.py, this.function.hit(this.state, given.with_row(&row)), copy::SHARE) }
    })
}

/// `f._hits(slot, ids, *args)`: see `samovar/_many.py`.
unsafe extern "C" fn hits(
    object: *mut ffi::PyObject,
    args: Args,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a method with keywords; what is read of the arguments is there.
    unsafe {
        enter(object, |this| {
            of_many(this, args, count, names, 2, |given, slot| {
                hits_of(this, given, slot, &Bound::from_borrowed_ptr(this.py, *args.add(1)))?.into_pair()
            })
        })
    }
}

/// `f._answer_all(slot, ids, load, limit, refresh, *args)`: see `samovar/_many.py`.
unsafe extern "C" fn answer_all(
    object: *mut ffi::PyObject,
    args: Args,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as `hits`.
    unsafe {
        enter(object, |this| {
            of_many(this, args, count, names, 5, |given, slot| {
                let argument = |at| Bound::from_borrowed_ptr(this.py, *args.add(at));
                let bulk = Bulk { load: argument(2), limit: argument(3).extract()? };
                let refresh: bool = argument(4).extract()?;
                let ids = argument(1);
                let hits = if refresh { Hits::of(&ids, |_| Ok(None)) } else { hits_of(this, given, slot, &ids) }?;
                let mut row = given.row();
                hits.complete(this.state, &bulk, |id| {
                    row[slot] = id.as_ptr();
                    Ok(Request { refresh, ..request(this, given.with_row(&row))? })
                })
            })
        })
    }
}

/// `f._count_unasked(number)`.
unsafe extern "C" fn count_unasked(object: *mut ffi::PyObject, number: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a method with one argument.
    unsafe {
        enter(object, |this| {
            let number: u64 = Bound::from_borrowed_ptr(this.py, number).extract()?;
            this.function.tier.count_unasked(&this.function.space, number);
            Ok(this.py.None())
        })
    }
}

// Needs the object and not what is in it, so that the collector sees whose entries it keeps.
plain_method!(invalidate_all, |this| {
    match far::invalidate_all(this.py, this.state, this.function, this.function.is_async)? {
        Some(done) => Ok(done),
        None => deed(this, "invalidate_all", this.origin.clone().unbind(), forget_all),
    }
});

fn forget_all(py: Python<'_>, function: Object) -> PyResult<Object> {
    // SAFETY: the origin of a function is one.
    unsafe { This::of(py, function.as_ptr())? }.function.forget_all(py);
    Ok(py.None())
}

plain_method!(cache_clear, |this| {
    this.function.forget_all(this.py);
    this.function.reset_stats();
    Ok(this.py.None())
});

plain_method!(stats, |this| {
    let function = this.function;
    views::stats(this.py, &function.stats(), &function.tier, function.space.region)
});
plain_method!(cache_info, |this| views::cache_info(
    this.py,
    &this.function.stats(),
    this.state,
    this.function.max_entries()
));

call_method!(warm, |this, given| {
    let (all, _) = given.owned(this.py);
    let warm = this.py.import("samovar._warm")?.getattr("warm")?;
    let subject = match &this.instance {
        // The instance was put in front of the arguments.
        Some(instance) => {
            new_object(this.py, this.state, this.function.clone(), Some((instance.as_ptr(), this.origin.as_ptr())))?
        }
        None => this.origin.clone().unbind(),
    };
    let calls = all.last().filter(|_| all.len() > usize::from(this.instance.is_some()));
    let calls = calls.ok_or_else(|| PyTypeError::new_err("warm() needs the calls: an iterable of argument tuples"))?;
    Ok(warm.call1((subject, calls))?.unbind())
});

plain_method!(reduce, |this| {
    let Some(instance) = &this.instance else { return Ok(this.origin.getattr("__qualname__")?.unbind()) };
    let getattr = this.py.import("builtins")?.getattr("getattr")?;
    let name = this.origin.getattr("__name__")?;
    Ok((getattr, (instance, name)).into_pyobject(this.py)?.into_any().unbind())
});

/// A class body took it. If it was written there, its first parameter is an instance; a function from elsewhere that a
/// class body merely names stays what it is for everybody else.
unsafe extern "C" fn set_name(
    object: *mut ffi::PyObject,
    args: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a method with `count` arguments.
    unsafe {
        enter(object, |this| {
            if count < 1 {
                return Err(PyTypeError::new_err("__set_name__() needs the class and the name"));
            }
            let owner = Bound::from_borrowed_ptr(this.py, *args);
            let qualname = |of: &Bound<'_, PyAny>| of.getattr("__qualname__").and_then(|name| name.extract::<String>());
            let written_in = |owner: String, own: String| own.rsplit_once('.').is_some_and(|(class, _)| class == owner);
            if let (Ok(owner), Ok(own)) = (qualname(&owner), qualname(this.function.wrapped.bind(this.py)))
                && written_in(owner, own)
            {
                this.function.becomes_method();
            }
            Ok(this.py.None())
        })
    }
}

/// The table of methods.
pub fn methods() -> *mut c_void {
    let with = |name: &'static CStr, function: ffi::PyCFunctionFastWithKeywords, doc: &'static CStr| {
        raw::method(name, raw::Function::Keywords(function), doc)
    };
    let plain =
        |name: &'static CStr, function, doc: &'static CStr| raw::method(name, raw::Function::None(function), doc);
    raw::methods(vec![
        with(
            c"invalidate",
            invalidate,
            c"invalidate($self, /, *args, **kwargs)\n--\n\nForget the result of this call. A load that is under way answers its callers and stores nothing.",
        ),
        with(
            c"refresh",
            refresh,
            c"refresh($self, /, *args, **kwargs)\n--\n\nLoad anew, store, and return the result; until it is there others get the old one.\n\nThe load begins after this call does: if an older one is under way, that ends first, and all who ask for a new result\nmeanwhile share the next. It is stored unless the result is invalidated or set while it runs.",
        ),
        with(c"explain", explain, c"explain($self, /, *args, **kwargs)\n--\n\nReturn an Explanation of what this call would do now, and why. Loads nothing and counts as no use."),
        with(c"peek", peek, c"peek($self, /, *args, **kwargs)\n--\n\nReturn the Entry of this call, or None. Loads nothing and counts as no use."),
        with(c"set", set, c"set($self, value, /, *args, **kwargs)\n--\n\nStore a value as the result of this call: set(value, *args, **kwargs)."),
        with(
            c"key",
            key,
            c"key($self, /, *args, **kwargs)\n--\n\nReturn the canonical key of this call. Raises KeyTypeError naming the argument that has none.",
        ),
        with(c"uncached", uncached, c"uncached($self, /, *args, **kwargs)\n--\n\nCall the function itself, past the cache."),
        with(c"warm", warm, c"warm($self, calls, /)\n--\n\nLoad these calls in the background, a few at a time; return a WarmJob."),
        plain(c"invalidate_all", invalidate_all, c"invalidate_all($self, /)\n--\n\nForget all results of this function, in O(1)."),
        plain(c"cache_clear", cache_clear, c"cache_clear($self, /)\n--\n\nForget all results and set the counters to zero, as functools does."),
        plain(c"stats", stats, c"stats($self, /)\n--\n\nReturn this function's counters."),
        plain(c"cache_info", cache_info, c"cache_info($self, /)\n--\n\nReturn hits, misses, maxsize and currsize, as functools does."),
        with(c"_hits", hits, c"_hits($self, slot, ids, /, *args, **kwargs)\n--\n\nThe hits of many ids, and the missing ids."),
        with(
            c"_answer_all",
            answer_all,
            c"_answer_all($self, slot, ids, load, limit, refresh, /, *args, **kwargs)\n--\n\nThe results of many ids, by id.",
        ),
        raw::method(
            c"_count_unasked",
            raw::Function::One(count_unasked),
            c"_count_unasked($self, number, /)\n--\n\nCount ids that nobody asked for.",
        ),
        plain(c"__reduce__", reduce, c"Pickled by reference, as functions and methods are."),
        raw::method(c"_replan", raw::Function::Fast(replan), c"Another policy of the cache, as the function is under it."),
        raw::method(c"__set_name__", raw::Function::Fast(set_name), c"A class body took it as a method."),
    ])
}

unsafe fn forwarded(object: *mut ffi::PyObject, name: &str) -> *mut ffi::PyObject {
    // SAFETY: a getter's object.
    unsafe {
        enter(object, |this| {
            let wrapped = this.function.wrapped.bind(this.py);
            // A partial and an object with `__call__` have none themselves; what they call says what they are.
            let called = || wrapped.getattr("func").or_else(|_| wrapped.get_type().getattr("__call__"));
            let found = wrapped.getattr(name).or_else(|error| called()?.getattr(name).map_err(|_| error));
            Ok(found?.unbind())
        })
    }
}

macro_rules! forward {
    ($($getter:ident $name:literal),*) => { $(
        unsafe extern "C" fn $getter(object: *mut ffi::PyObject, _closure: *mut c_void) -> *mut ffi::PyObject {
            // SAFETY: called by the interpreter as a getter.
            unsafe { forwarded(object, $name) }
        }
    )* };
}

forward!(code "__code__", defaults "__defaults__", kwdefaults "__kwdefaults__");

unsafe extern "C" fn own_self(object: *mut ffi::PyObject, _closure: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a getter.
    unsafe {
        enter(object, |this| match &this.instance {
            Some(instance) => Ok(instance.clone().unbind()),
            None => Err(pyo3::exceptions::PyAttributeError::new_err("__self__")),
        })
    }
}

unsafe extern "C" fn own_func(object: *mut ffi::PyObject, _closure: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a getter.
    unsafe {
        enter(object, |this| match &this.instance {
            Some(_) => Ok(this.origin.clone().unbind()),
            None => Err(pyo3::exceptions::PyAttributeError::new_err("__func__")),
        })
    }
}

/// A bound method's signature is the function's without its first parameter.
unsafe extern "C" fn signature(object: *mut ffi::PyObject, _closure: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a getter.
    unsafe {
        enter(object, |this| {
            let whole = this.py.import("inspect")?.call_method1("signature", (&this.function.wrapped,))?;
            if this.instance.is_none() {
                return Ok(whole.unbind());
            }
            let parameters: Vec<Bound<'_, PyAny>> =
                whole.getattr("parameters")?.call_method0("values")?.try_iter()?.skip(1).collect::<PyResult<_>>()?;
            let options = pyo3::types::PyDict::new(this.py);
            options.set_item("parameters", parameters)?;
            Ok(whole.call_method("replace", (), Some(&options))?.unbind())
        })
    }
}

/// The table of computed attributes.
pub fn getsets() -> *mut c_void {
    // SAFETY: a plain C table; the dict's getter and setter are the interpreter's own.
    let dict = ffi::PyGetSetDef {
        name: c"__dict__".as_ptr(),
        get: Some(ffi::PyObject_GenericGetDict),
        set: Some(ffi::PyObject_GenericSetDict),
        doc: c"The function's own attributes.".as_ptr(),
        closure: null_mut(),
    };
    raw::getsets(vec![
        dict,
        raw::getter(c"__code__", code, c"The wrapped function's code: tools ask it whether a function is async."),
        raw::getter(c"__defaults__", defaults, c"The wrapped function's defaults."),
        raw::getter(c"__kwdefaults__", kwdefaults, c"The wrapped function's keyword defaults."),
        raw::getter(c"__self__", own_self, c"The instance it is bound to."),
        raw::getter(c"__func__", own_func, c"The unbound function."),
        raw::getter(c"__signature__", signature, c"The signature, without self if bound."),
    ])
}
