//! What `@cached` makes of a function: a raw type whose vectorcall answers a hit by itself.
//!
//! The hit path is `call → hit`: bind the spelling, hash the arguments where they lie, look, count, hand out. Everything
//! else goes through [`Function::request`] to a driver. The same type, bound to an instance, is what `obj.method` gives.
//! It looks like the function it wraps: a dict for `update_wrapper`, and `__code__` and friends forwarded, so that
//! frameworks see an async function where there was one.
//!
//! # Safety
//! The unsafe functions of this file are slots and methods that the interpreter calls, and their helpers: with objects of
//! the type they belong to, valid arguments for as long as the call lasts, and the interpreter held.

use super::anchor::Anchor;
use super::asyncio::Call;
use super::events::{Details, Kind as Event};
use super::given::Given;
use super::guarded::Guarded;
use super::instances::Instances;
use super::keys::{KeyRule, Made, Naming};
use super::owner::TierOwner;
use super::pending::{self, Todo};
use super::raw::{self, protect};
use super::recipe::{HeldRecipe, Loader, Plan, Recipe, Told};
use super::remote::Behind;
use super::reply;
use super::request::Request;
use super::signature::{Kind, Row, Signature};
use super::spot::{Alias, Spot};
use super::state::State;
use super::tier::{Object, Space, Tier};
use super::{args, blocking, copy, errors, method, rulebook};
use crate::core::flight::Life;
use crate::core::memory::mix;
use crate::core::stats::Stats;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A decorated function, apart from any Python object.
pub struct Function {
    /// The cache.
    pub tier: Arc<Tier>,
    /// Keeps the cache's own objects visible to the collector.
    pub owner: Py<TierOwner>,
    /// The user's function.
    pub wrapped: Object,
    /// Its parameters.
    pub signature: Signature,
    /// True for `async def`.
    pub is_async: bool,
    /// Its calls, or the shortcuts to its names.
    pub space: Arc<Space>,
    /// Where its names are, if it has a key rule.
    pub names: Option<Arc<Space>>,
    /// Where its calls are for which a `key=` callable returned a value, not a name.
    pub values: Option<Arc<Space>>,
    /// Names and rules.
    pub naming: Naming,
    /// How long loads live.
    pub life: Life,
    /// True if the loader is told every parameter, defaults applied, however the call was spelled.
    pub canonical: bool,
    /// What its policy has made of it.
    pub plan: Guarded<Arc<Plan>>,
    /// Whether the first parameter is the instance a method was called on.
    pub is_method: AtomicBool,
    /// Whether the first parameter is the class of a class method.
    pub takes_class: bool,
    /// Spaces of instances.
    pub instances: Instances,
    /// The store behind its cache's memory, if there is one.
    pub behind: Option<Behind>,
}

/// The Python object; see the module.
#[repr(C)]
pub struct CachedFunction {
    ob_base: ffi::PyObject,
    vectorcall: Option<ffi::vectorcallfunc>,
    dict: *mut ffi::PyObject,
    weakrefs: *mut ffi::PyObject,
    /// The instance it is bound to, or null.
    instance: *mut ffi::PyObject,
    /// The unbound object, if this one is bound; it owns what the function owns.
    origin: *mut ffi::PyObject,
    function: Option<Arc<Function>>,
    state: *const State,
}

impl Function {
    /// A hit, answered without a lease, an allocation or a line of Python; null for everything else.
    ///
    /// # Safety
    /// A call's arguments, the interpreter held.
    #[inline(always)]
    pub unsafe fn hit(&self, state: &State, given: Given) -> *mut ffi::PyObject {
        // SAFETY: the caller vouches for the arguments.
        unsafe {
            let fits =
                given.names.is_null() && self.signature.whole && given.positional == self.signature.parameters.len();
            if fits && !self.is_method.load(Relaxed) {
                self.look(state, given.all(), self.space.read_salt())
            } else {
                self.hit_bound(state, given)
            }
        }
    }

    /// A hit whose spelling has to be bound to the signature first, or whose first argument is an instance.
    #[inline(never)]
    unsafe fn hit_bound(&self, state: &State, given: Given) -> *mut ffi::PyObject {
        // SAFETY: as in `hit`.
        unsafe {
            let mut row = Row::new();
            let fits =
                given.names.is_null() && self.signature.whole && given.positional == self.signature.parameters.len();
            let values = if fits {
                given.all()
            } else {
                match self.signature.bind_known(given.args, given.positional, given.names, &mut row) {
                    Some(values) => values,
                    None => return null_mut(),
                }
            };
            if !self.is_method.load(Relaxed) {
                return self.look(state, values, self.space.read_salt());
            }
            let Some((&instance, rest)) = values.split_first() else { return null_mut() };
            match self.instances.find(instance) {
                Some(salt) => self.look(state, rest, salt),
                None => null_mut(),
            }
        }
    }

    /// Looks a row of key values up; a value found is a reference of the caller's.
    #[inline(always)]
    unsafe fn look(&self, state: &State, values: &[*mut ffi::PyObject], salt: u64) -> *mut ffi::PyObject {
        // SAFETY: a value is taken over before the lock is given back; comparing plain values runs no Python.
        unsafe {
            let Some(hash) = args::hash_call(state, values.iter().copied()) else { return null_mut() };
            let hash = mix(hash, salt);
            let is_over = |end| self.tier.clock.has_come(end);
            let same = |key: &Object| args::same_call(key.as_ptr(), values);
            let mut memory = self.tier.memory.lock();
            let found = if self.names.is_none() {
                memory.entries.hit(hash, same, is_over)
            } else {
                let memory = &mut *memory;
                let alias = memory.aliases.find(hash, same).and_then(|at| memory.aliases.peek(at));
                let entry = alias.and_then(|alias| memory.entries.resolve(*alias.value));
                entry.and_then(|entry| memory.entries.read(entry, is_over))
            };
            let Some(found) = found else { return null_mut() };
            let (value, kind) = (found.value.as_ptr(), found.tag);
            ffi::Py_INCREF(value);
            drop(memory);
            if kind == copy::SHARE { value } else { copy::own(value, kind) }
        }
    }

    /// The values of all parameters, and of those that make the key, without the instance of a method that is one.
    fn bind<'py>(&self, py: Python<'py>, given: Given) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let (all, names) = given.owned(py);
        self.signature.bind(py, &all, names.as_ref())
    }

    /// Makes ready for many calls that are spelled like this one: their keywords' names are one tuple, not seen before.
    pub fn learn(&self, py: Python<'_>, given: Given) {
        if given.named() > 0 {
            // What does not fit is said by whoever calls.
            drop(self.bind(py, given));
        }
    }

    /// Where a call's entry is, whose it is, and the shortcut that leads there.
    #[allow(clippy::type_complexity, reason = "named in the doc comment")]
    fn place(
        self: &Arc<Self>,
        py: Python<'_>,
        state: &'static State,
        values: &[Bound<'_, PyAny>],
    ) -> PyResult<(Spot, Arc<Space>, Option<Alias>)> {
        let parameters = self.signature.parameters.iter();
        let mut row: Vec<_> = parameters.zip(values).filter(|(parameter, _)| parameter.in_key).collect();
        let mut space = self.space.clone();
        if self.is_method.load(Relaxed)
            && !row.is_empty()
            && let Some(own) = Instances::space(self, py, state, row[0].1)?
        {
            space = own;
            row.remove(0);
        }
        let made = self.naming.made(py, state, &self.signature, values)?;
        match (&self.names, made) {
            (Some(names), Some(made)) => {
                // A callable may read more than the arguments: it is asked each time, whatever they are.
                let lasts = matches!(self.naming.rule, KeyRule::Template(_));
                let alias = if lasts { self.naming.alias(py, state, &space, &row)? } else { None };
                let own = self.values.as_ref().filter(|_| matches!(made, Made::Value(_))).cloned().unwrap_or(space);
                Ok((made.spot(names, &own)?, own, alias))
            }
            _ => Ok((self.naming.place(py, state, &space, &row)?, space, None)),
        }
    }

    /// Everything a driver needs to answer this call.
    pub fn request(self: &Arc<Self>, py: Python<'_>, state: &'static State, given: Given) -> PyResult<Request> {
        let (all, names) = given.owned(py);
        let values = self.signature.bind(py, &all, names.as_ref())?;
        let placed = self.place(py, state, &values);
        let (spot, space, alias) = placed.map_err(|error| errors::not_stop(py, error))?;
        let plan = self.plan();
        let recipe = HeldRecipe::new(py, self.recipe_for(py, state, &plan.recipe, (&spot, &values))?);
        let (args, names) = if self.canonical {
            self.told(py, &values, true)?
        } else {
            (all.into_iter().map(Bound::unbind).collect(), names.map(Bound::unbind))
        };
        let (callable, refresher) = match &recipe.loaders {
            Some((loader, refresher)) => (loader, refresher),
            None => (&plan.loader, &plan.refresher),
        };
        let refresher = refresher.as_ref().map(|refresher| self.refresh(py, refresher, &values)).transpose()?;
        let bound = if recipe.is_told() { self.told(py, &values, false)? } else { Default::default() };
        let loader = Loader { callable: callable.clone_ref(py), args, names, bound };
        Ok(Request {
            tier: self.tier.clone(),
            spot,
            space,
            alias,
            loader,
            refresher: refresher.map(Box::new),
            recipe,
            life: self.life,
            refresh: false,
            since: Default::default(),
            repeatable: self.is_async,
            began: Default::default(),
            is_behind: Default::default(),
            behind: self.behind.as_ref().map(|behind| behind.clone_ref(py)),
        })
    }

    /// How this call's value is kept: by the rule that fits its name, if the cache has rules.
    fn recipe_for(
        &self,
        py: Python<'_>,
        state: &State,
        own: &Arc<Recipe>,
        (spot, values): (&Spot, &[Bound<'_, PyAny>]),
    ) -> PyResult<Arc<Recipe>> {
        if !self.tier.has_rules() {
            return Ok(own.clone());
        }
        match spot.key.bind(py).cast::<PyString>() {
            Ok(name) if self.names.is_some() => rulebook::recipe_for(py, &self.tier, own, name.to_str()?),
            _ => match self.naming.canonical(py, state, &self.signature, values) {
                Ok(key) => rulebook::recipe_for(py, &self.tier, own, &key),
                // A call that has no name fits no rule.
                Err(_) => Ok(own.clone()),
            },
        }
    }

    /// What its policy has made of it, at this moment.
    pub fn plan(&self) -> Arc<Plan> {
        self.plan.lock().clone()
    }

    /// Another plan, in force from now on; loads under way end as they began.
    pub fn set_plan(&self, plan: Plan) {
        let before = std::mem::replace(&mut *self.plan.lock(), Arc::new(plan));
        drop(before);
    }

    /// The call that refreshes behind: of the values that make the key, by name.
    fn refresh(&self, py: Python<'_>, refresher: &Object, values: &[Bound<'_, PyAny>]) -> PyResult<Loader> {
        let used = self.signature.parameters.iter().zip(values).filter(|(parameter, _)| parameter.in_key);
        let (names, args): (Vec<_>, Vec<_>) =
            used.map(|(parameter, value)| (parameter.name.clone_ref(py), value.clone().unbind())).unzip();
        let names = Some(PyTuple::new(py, names)?.unbind());
        Ok(Loader { callable: refresher.clone_ref(py), args, names, bound: Default::default() })
    }

    /// The values of all parameters as a callable of the user's is told of them; those that can only be given by name are
    /// given by name if it has the function's own parameters.
    fn told(&self, py: Python<'_>, values: &[Bound<'_, PyAny>], own: bool) -> PyResult<Told> {
        let (mut args, mut more, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for (parameter, value) in self.signature.parameters.iter().zip(values) {
            match parameter.kind {
                Kind::VarPositional => args.extend(value.cast::<PyTuple>()?.iter().map(Bound::unbind)),
                Kind::VarKeyword => {
                    for pair in value.cast::<PyTuple>()?.iter() {
                        let (name, value) = pair.extract::<(Bound<'_, PyAny>, Object)>()?;
                        names.push(name);
                        more.push(value);
                    }
                }
                Kind::KeywordOnly if own => {
                    names.push(parameter.name.bind(py).clone().into_any());
                    more.push(value.clone().unbind());
                }
                _ => args.push(value.clone().unbind()),
            }
        }
        args.extend(more);
        let names = (!names.is_empty()).then(|| PyTuple::new(py, names)).transpose()?;
        Ok((args, names.map(Bound::unbind)))
    }

    /// The canonical key of a call.
    pub fn key(self: &Arc<Self>, py: Python<'_>, state: &State, given: Given) -> PyResult<String> {
        let values = self.bind(py, given)?;
        let key = self.naming.canonical(py, state, &self.signature, &values);
        key.map_err(|error| errors::not_stop(py, error))
    }

    /// Answers a call that was no hit on the fast path.
    fn miss(self: &Arc<Self>, py: Python<'_>, state: &'static State, given: Given) -> PyResult<Object> {
        if self.space.is_disabled() && !self.tier.writings.any() {
            // SAFETY: we are within that call.
            return unsafe { given.call(py, &self.wrapped) };
        }
        let request = match self.request(py, state, given) {
            // A call that does not fit the signature gets the function's own TypeError.
            Err(error) if error.is_instance_of::<PyTypeError>(py) && self.misfits(py, given) => {
                // SAFETY: we are within that call.
                return unsafe { given.call(py, &self.wrapped) };
            }
            other => other?,
        };
        if self.is_async {
            pending::pending(py, state, Todo::Call(Call::new(state, request)))
        } else {
            blocking::answer(py, state, &request)
        }
    }

    /// Everywhere its entries and counters are.
    fn spaces(&self) -> Vec<Arc<Space>> {
        let own = [Some(&self.space), self.values.as_ref()].into_iter().flatten().cloned();
        self.instances.spaces().into_iter().chain(own).collect()
    }

    /// Forgets all results, those of instances too.
    pub fn forget_all(&self, py: Python<'_>) {
        self.spaces().iter().for_each(|space| self.tier.clear_space(space));
        if self.tier.listeners.hear(Event::Invalidate) {
            self.tier.tell(py, Event::Invalidate, &self.space, None, Details::default());
        }
    }

    /// The counters, those of living instances included.
    pub fn stats(&self) -> Stats {
        let spaces = self.spaces();
        let mut memory = self.tier.memory.lock();
        let mut stats = Stats::default();
        for space in &spaces {
            stats.add(&memory.entries.stats(space.group()));
        }
        stats
    }

    /// Sets the counters to zero.
    pub fn reset_stats(&self) {
        let spaces = self.spaces();
        let mut memory = self.tier.memory.lock();
        for space in &spaces {
            *memory.entries.stats_mut(space.group()) = Stats::default();
        }
    }

    /// The bound that its entries are under.
    pub fn max_entries(&self) -> u32 {
        self.tier.max_entries(&self.space)
    }

    /// It was written in a class body: its first parameter is an instance, unless that is not part of the key.
    pub fn becomes_method(&self) {
        if self.names.is_none() && self.signature.parameters.first().is_some_and(|first| first.in_key) {
            self.is_method.store(true, Relaxed);
        }
    }

    fn misfits(&self, py: Python<'_>, given: Given) -> bool {
        self.bind(py, given).is_err()
    }

    /// The spaces whose objects this function owns.
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        let rule = if let KeyRule::Callable { callable, .. } = &self.naming.rule { Some(callable) } else { None };
        let plan = self.plan.lock();
        visit(&self.wrapped)
            && visit(self.owner.as_any())
            && self.behind.as_ref().is_none_or(|behind| visit(behind.coding.as_any()))
            && plan.recipe.visit(visit)
            && [&plan.loader].into_iter().chain(&plan.refresher).chain(rule).all(&mut *visit)
            && self.signature.visit(visit)
            && self.tier.visit_space(&self.space, visit)
            && self.values.as_ref().is_none_or(|values| self.tier.visit_space(values, visit))
            && self.instances.visit(&self.tier, visit)
    }

    /// Drops all entries only this function can reach; for the collector.
    fn clear(&self) {
        self.instances.clear(self);
        self.tier.drain_space(&self.space);
        self.values.iter().for_each(|values| self.tier.drain_space(values));
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.instances.clear(self);
        self.values.iter().for_each(|values| self.tier.end_space(values, Some(&self.tier.names(""))));
        if self.names.is_some() {
            self.tier.adopt(&self.space);
        } else {
            self.tier.end_space(&self.space, Some(&self.tier.names("")));
        }
    }
}

// --- The raw type -----------------------------------------------------------------------------------------------------

/// Makes the type.
pub fn make_type(py: Python<'_>) -> PyResult<*mut ffi::PyTypeObject> {
    use std::mem::offset_of;
    let members = raw::members(vec![
        raw::offset(c"__vectorcalloffset__", offset_of!(CachedFunction, vectorcall)),
        raw::offset(c"__dictoffset__", offset_of!(CachedFunction, dict)),
        raw::offset(c"__weaklistoffset__", offset_of!(CachedFunction, weakrefs)),
    ]);
    let slots = [
        raw::slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        raw::slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        raw::slot(ffi::Py_tp_clear, clear as *mut c_void),
        raw::slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void),
        raw::slot(ffi::Py_tp_descr_get, get as *mut c_void),
        raw::slot(ffi::Py_tp_getattro, getattro as *mut c_void),
        raw::slot(ffi::Py_tp_repr, repr as *mut c_void),
        raw::slot(ffi::Py_tp_richcompare, compare as *mut c_void),
        raw::slot(ffi::Py_tp_hash, hash as *mut c_void),
        raw::slot(ffi::Py_tp_members, members),
        raw::slot(ffi::Py_tp_methods, super::function_methods::methods()),
        raw::slot(ffi::Py_tp_getset, super::function_methods::getsets()),
        raw::slot(ffi::Py_tp_doc, c"A function whose results are cached.".as_ptr() as *mut c_void),
    ];
    let flags = ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_HAVE_GC
        | ffi::Py_TPFLAGS_HAVE_VECTORCALL
        | ffi::Py_TPFLAGS_METHOD_DESCRIPTOR
        | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION
        | ffi::Py_TPFLAGS_IMMUTABLETYPE;
    raw::make_type(py, c"samovar._core.CachedFunction", size_of::<CachedFunction>(), flags, &slots)
}

/// A Python object for a function; bound if an instance and its origin are given.
pub fn new_object(
    py: Python<'_>,
    state: &'static State,
    function: Arc<Function>,
    bound: Option<(*mut ffi::PyObject, *mut ffi::PyObject)>,
) -> PyResult<Object> {
    // SAFETY: the type is ours; every field behind the header is written before anyone else sees the object.
    unsafe {
        let object: *mut CachedFunction = ffi::PyType_GenericAlloc(state.function_type, 0).cast();
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        let (instance, origin) = bound.unwrap_or((null_mut(), null_mut()));
        ffi::Py_XINCREF(instance);
        ffi::Py_XINCREF(origin);
        (&raw mut (*object).vectorcall).write(Some(if bound.is_some() { call_bound } else { call }));
        (&raw mut (*object).dict).write(null_mut());
        (&raw mut (*object).weakrefs).write(null_mut());
        (&raw mut (*object).instance).write(instance);
        (&raw mut (*object).origin).write(origin);
        (&raw mut (*object).function).write(Some(function));
        (&raw mut (*object).state).write(state);
        Ok(Bound::from_owned_ptr(py, object.cast()).unbind())
    }
}

/// True for what `obj.method` gives, false for the function itself.
///
/// # Safety
/// `object` is a function object.
pub unsafe fn is_bound(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller vouches for the object.
    unsafe { !(*object.cast::<CachedFunction>()).origin.is_null() }
}

/// The parts of a function object that methods need.
pub struct This<'py> {
    /// The interpreter.
    pub py: Python<'py>,
    /// The module's state.
    pub state: &'static State,
    /// The function.
    pub function: &'py Arc<Function>,
    /// The instance, if bound.
    pub instance: Option<Bound<'py, PyAny>>,
    /// The unbound object.
    pub origin: Bound<'py, PyAny>,
}

impl<'py> This<'py> {
    /// Reads them.
    ///
    /// # Safety
    /// `object` is a function object that outlives the result.
    pub unsafe fn of(py: Python<'py>, object: *mut ffi::PyObject) -> PyResult<This<'py>> {
        // SAFETY: the caller vouches for the object; state lives as long as the process.
        unsafe {
            let raw: *mut CachedFunction = object.cast();
            let function = (*raw).function.as_ref();
            let function =
                function.ok_or_else(|| pyo3::exceptions::PyReferenceError::new_err("the cached function is gone"))?;
            let instance = Bound::from_borrowed_ptr_or_opt(py, (*raw).instance);
            let origin = if (*raw).origin.is_null() { object } else { (*raw).origin };
            Ok(This { py, state: &*(*raw).state, function, instance, origin: Bound::from_borrowed_ptr(py, origin) })
        }
    }

    /// The call meant by a method's arguments: with the instance in front, if bound.
    pub fn with_instance<R>(&self, given: Given, body: impl FnOnce(Given) -> PyResult<R>) -> PyResult<R> {
        let Some(instance) = &self.instance else {
            self.check_class(given)?;
            return body(given);
        };
        let mut row = Vec::with_capacity(given.all().len() + 1);
        row.push(instance.as_ptr());
        row.extend_from_slice(given.all());
        body(Given::new(row.as_ptr(), given.positional + 1, given.names))
    }

    /// From 3.13 on a `classmethod` around a cached function gives it the class in calls, but not in calls of its methods:
    /// they would take the first argument for the class, and forget another entry than the one that was meant.
    fn check_class(&self, given: Given) -> PyResult<()> {
        let first = given.all().first().filter(|_| given.positional > 0);
        // SAFETY: a type check on a valid object.
        if !self.function.takes_class || first.is_none_or(|&first| unsafe { ffi::PyType_Check(first) } != 0) {
            return Ok(());
        }
        let text = format!(
            "a method of the class method {} was given no class; put @cached above @classmethod, so that it knows the \
             class, or give the class first",
            self.function.naming.id
        );
        Err(PyTypeError::new_err(text))
    }
}

unsafe extern "C" fn call(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    flagged: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a vectorcall.
    unsafe {
        let given = Given::new(args, ffi::PyVectorcall_NARGS(flagged) as usize, names);
        protect(null_mut(), || answer(object.cast(), given))
    }
}

unsafe extern "C" fn call_bound(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    flagged: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a vectorcall; the short row holds borrowed references for as long as the call lasts.
    unsafe {
        protect(null_mut(), || {
            let this: *mut CachedFunction = object.cast();
            let given = Given::new(args, ffi::PyVectorcall_NARGS(flagged) as usize, names);
            let all = given.all();
            let mut short = [null_mut(); 8];
            if all.len() < short.len() {
                short[0] = (*this).instance;
                short[1..=all.len()].copy_from_slice(all);
                return answer(this, Given::new(short.as_ptr(), given.positional + 1, names));
            }
            let mut row = Vec::with_capacity(all.len() + 1);
            row.push((*this).instance);
            row.extend_from_slice(all);
            answer(this, Given::new(row.as_ptr(), given.positional + 1, names))
        })
    }
}

#[inline]
unsafe fn answer(this: *mut CachedFunction, given: Given) -> *mut ffi::PyObject {
    // SAFETY: a function object and its call's arguments.
    unsafe {
        let state = &*(*this).state;
        let Some(function) = &(*this).function else { return null_mut() };
        let value = function.hit(state, given);
        if value.is_null() {
            return missed(this, given);
        }
        if function.is_async { reply::ready(state, value) } else { value }
    }
}

#[cold]
unsafe fn missed(this: *mut CachedFunction, given: Given) -> *mut ffi::PyObject {
    let _anchor = Anchor::hold();
    Python::attach(|py| {
        // SAFETY: as in `answer`.
        let answered = unsafe {
            if ffi::PyErr_Occurred().is_null() {
                This::of(py, this.cast()).and_then(|this| this.function.clone().miss(py, this.state, given))
            } else {
                Err(PyErr::fetch(py))
            }
        };
        match answered {
            Ok(object) => object.into_ptr(),
            Err(error) => {
                error.restore(py);
                null_mut()
            }
        }
    })
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: at reference count zero; the collector must not see a half-dead object.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let this: *mut CachedFunction = object.cast();
        if !(*this).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        // A bound object gives its share of the function back, no more.
        if let Some(function) = (*this).function.take() {
            let _anchor = (*this).origin.is_null().then(Anchor::hold);
            protect((), || Python::attach(|_| drop(function)));
        }
        ffi::Py_CLEAR(&raw mut (*this).dict);
        ffi::Py_CLEAR(&raw mut (*this).instance);
        ffi::Py_CLEAR(&raw mut (*this).origin);
        let kind = ffi::Py_TYPE(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: the collector calls with a function object; `visit` runs no Python.
    unsafe {
        let this: *mut CachedFunction = object.cast();
        let own = [ffi::Py_TYPE(object).cast(), (*this).dict, (*this).instance, (*this).origin];
        for object in own.into_iter().filter(|object| !object.is_null()) {
            let result = visit(object, arg);
            if result != 0 {
                return result;
            }
        }
        let mut result = 0;
        // A bound object shares the function; only the unbound one answers for what it owns.
        if let (Some(function), true) = (&(*this).function, (*this).origin.is_null()) {
            function.visit(&mut |object| {
                result = visit(object.as_ptr(), arg);
                result == 0
            });
        }
        result
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: the collector calls with a function object that nobody can reach any more.
    unsafe {
        let this: *mut CachedFunction = object.cast();
        if let Some(function) = (*this).function.take() {
            let (_anchor, is_bound) = (Anchor::hold(), !(*this).origin.is_null());
            protect((), || {
                Python::attach(|_| {
                    if !is_bound {
                        function.clear();
                    }
                    drop(function);
                })
            });
        }
        ffi::Py_CLEAR(&raw mut (*this).dict);
        ffi::Py_CLEAR(&raw mut (*this).instance);
        ffi::Py_CLEAR(&raw mut (*this).origin);
    }
    0
}

/// `obj.method`: the same function, bound.
unsafe extern "C" fn get(
    object: *mut ffi::PyObject,
    instance: *mut ffi::PyObject,
    _class: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a descriptor call with valid or null objects.
    unsafe {
        let this: *mut CachedFunction = object.cast();
        if instance.is_null() || instance == ffi::Py_None() || !(*this).instance.is_null() {
            ffi::Py_INCREF(object);
            return object;
        }
        let Some(function) = &(*this).function else { return null_mut() };
        Python::attach(|py| match new_object(py, &*(*this).state, function.clone(), Some((instance, object))) {
            Ok(bound) => bound.into_ptr(),
            Err(error) => {
                error.restore(py);
                null_mut()
            }
        })
    }
}

/// Bound to one instance twice is the same method, as for plain methods; everything else is compared by identity.
unsafe extern "C" fn compare(object: *mut ffi::PyObject, other: *mut ffi::PyObject, how: c_int) -> *mut ffi::PyObject {
    // SAFETY: called with a function object and any other.
    unsafe {
        let answer = if !matches!(how, ffi::Py_EQ | ffi::Py_NE) || ffi::Py_TYPE(object) != ffi::Py_TYPE(other) {
            ffi::Py_NotImplemented()
        } else {
            let (a, b): (*mut CachedFunction, *mut CachedFunction) = (object.cast(), other.cast());
            let bound = !(*a).origin.is_null() && (*a).origin == (*b).origin && (*a).instance == (*b).instance;
            if (object == other || bound) == (how == ffi::Py_EQ) { ffi::Py_True() } else { ffi::Py_False() }
        };
        ffi::Py_INCREF(answer);
        answer
    }
}

unsafe extern "C" fn hash(object: *mut ffi::PyObject) -> ffi::Py_hash_t {
    // SAFETY: called with a function object.
    let (instance, origin) = unsafe {
        let this: *mut CachedFunction = object.cast();
        ((*this).instance as u64, (*this).origin as u64)
    };
    let hash = if origin == 0 { mix(object as u64, 0) } else { mix(instance, origin) };
    // -1 would mean an error.
    (hash >> 1) as ffi::Py_hash_t
}

/// What a bound object does not have itself, its origin has; what its type has for all functions is never meant.
unsafe extern "C" fn getattro(object: *mut ffi::PyObject, name: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: attribute access with valid objects.
    unsafe {
        let this: *mut CachedFunction = object.cast();
        let names = &(*(*this).state).names;
        if !(*this).origin.is_null() && (name == names.__doc__.as_ptr() || name == names.__module__.as_ptr()) {
            return ffi::PyObject_GetAttr((*this).origin, name);
        }
        let found = ffi::PyObject_GenericGetAttr(object, name);
        if !found.is_null() {
            return method::shown(&*(*this).state, object, found);
        }
        if !(*this).origin.is_null() && ffi::PyErr_ExceptionMatches(ffi::PyExc_AttributeError) != 0 {
            ffi::PyErr_Clear();
            return ffi::PyObject_GetAttr((*this).origin, name);
        }
        found
    }
}

unsafe extern "C" fn repr(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called with a function object.
    unsafe {
        Python::attach(|py| {
            let text = This::of(py, object).map(|this| {
                let kind = if this.function.is_async { "async function" } else { "function" };
                let bound = this.instance.map(|instance| format!(" of a {}", instance.get_type())).unwrap_or_default();
                format!("<cached {kind} {}{bound}>", this.function.naming.id)
            });
            match text {
                Ok(text) => pyo3::types::PyString::new(py, &text).into_ptr(),
                Err(error) => {
                    error.restore(py);
                    null_mut()
                }
            }
        })
    }
}
