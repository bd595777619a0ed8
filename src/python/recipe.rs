//! How values are loaded and kept: a loader with its arguments, and what becomes of what it brings.

use super::adaptive;
use super::cache::bad_copy;
use super::coding::What;
use super::copy::{self, Mode};
use super::guarded::Guarded;
use super::options;
use super::pending::Holds;
use super::rulebook::Ruled;
use super::single_use;
use super::state::State;
use super::task;
use super::tier::{Object, Tier};
use crate::core::policy::{self, Policy};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// The function that loads, with its arguments.
pub struct Loader {
    /// What is called.
    pub callable: Object,
    /// Positional arguments, then the keyword ones.
    pub args: Vec<Object>,
    /// The names of the last arguments.
    pub names: Option<Py<PyTuple>>,
    /// The same call as a ttl callable is told of it: every parameter in order, defaults applied.
    pub bound: Told,
}

/// Positional values, then those of `**kwargs`, and the names of the latter.
pub type Told = (Vec<Object>, Option<Py<PyTuple>>);

impl Holds for Loader {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        let Loader { callable, args, names, bound } = self;
        visit(callable)
            && args.iter().all(&mut *visit)
            && bound.0.iter().all(&mut *visit)
            && [names, &bound.1].into_iter().flatten().all(|names| visit(names.as_any()))
    }
}

impl Loader {
    /// Calls it.
    pub fn call<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        call_with(py, self.callable.bind(py), None, &self.args, self.names.as_ref())
    }
}

/// Calls with an optional first argument before the given ones.
pub fn call_with<'py>(
    py: Python<'py>,
    callable: &Bound<'py, PyAny>,
    first: Option<&Bound<'py, PyAny>>,
    args: &[Object],
    names: Option<&Py<PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut row: Vec<*mut ffi::PyObject> = Vec::with_capacity(args.len() + 1);
    row.extend(first.map(|first| first.as_ptr()));
    row.extend(args.iter().map(Py::as_ptr));
    let named = names.map_or(0, |names| names.bind(py).len());
    let names = names.map_or(std::ptr::null_mut(), Py::as_ptr);
    // SAFETY: the row holds borrowed references that outlive the call; `names` is a tuple of the last ones' names.
    unsafe {
        let result = ffi::PyObject_Vectorcall(callable.as_ptr(), row.as_ptr(), row.len() - named, names);
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// What loads, and what refreshes behind in its place, as a policy protects them.
pub type Loaders = (Object, Option<Object>);

/// How loaded values are kept.
pub struct Recipe {
    /// Everything that is plain data.
    pub policy: Policy,
    /// Says how long a value is fresh, given it and the call's arguments; without it the policy does.
    pub ttl: Option<Object>,
    /// Says the same from what the value takes the place of.
    pub adaptive: Option<policy::Adaptive>,
    /// A predicate on the value; `None` = keep everything.
    pub cache_if: Option<Object>,
    /// Gives the tags of a value, given it and the call's arguments.
    pub tags: Option<Object>,
    /// Classes of exceptions that are kept, and for how long.
    pub errors: Vec<(Object, Duration)>,
    /// Answers when a load has failed and nothing else can: a value, or a function of the call's arguments.
    pub fallback: Option<Object>,
    /// Copies.
    pub copy: Mode,
    /// The `samovar.Policy` it was made of.
    pub source: Object,
    /// Gives the [`Loaders`] of a function under a policy.
    pub protects: Option<Object>,
    /// What loads where a rule protects the function in another way than its own policy does.
    pub loaders: Option<Loaders>,
    /// What the cache's rules make of it.
    pub ruled: Guarded<Ruled>,
    /// For messages.
    pub name: String,
}

/// A recipe for whoever follows it later, perhaps when nobody has the function any more whose it is. What is called is held here too: of a
/// recipe's own references the collector knows all that hold them, and clears what nobody else does.
pub struct HeldRecipe {
    recipe: Arc<Recipe>,
    held: Vec<Object>,
}

impl HeldRecipe {
    pub fn new(py: Python<'_>, recipe: Arc<Recipe>) -> Self {
        let Recipe { ttl, cache_if, tags, fallback, errors, .. } = &*recipe;
        let called = [ttl, cache_if, tags, fallback].into_iter().flatten();
        let held = called.chain(errors.iter().map(|(class, _)| class)).map(|object| object.clone_ref(py)).collect();
        HeldRecipe { recipe, held }
    }

    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Self::new(py, Arc::clone(&self.recipe))
    }
}

impl Deref for HeldRecipe {
    type Target = Recipe;

    fn deref(&self) -> &Recipe {
        &self.recipe
    }
}

impl Holds for HeldRecipe {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        self.held.iter().all(visit)
    }
}

/// What depends on a function's policy, and changes with that of its cache.
pub struct Plan {
    /// How values are kept.
    pub recipe: Arc<Recipe>,
    /// What loads: the function, or something around it that protects it.
    pub loader: Object,
    /// Another that refreshes behind, opening what it needs itself.
    pub refresher: Option<Object>,
}

/// A value on its way into the table.
pub struct Kept {
    /// The object to store.
    pub value: Object,
    /// How readers get it.
    pub kind: u32,
    /// Its life, `None` for one that is answered but not stored.
    pub ttl: Option<Option<Duration>>,
    /// What it weighs (see [`Tier::weigh`]).
    pub weight: u64,
    /// Since when loads bring it, in seconds; 0 where nobody asks.
    pub since: u32,
    /// The tags it has, if any.
    pub tags: Option<Labels>,
}

/// The tags of a value.
pub type Labels = Box<[Box<str>]>;

/// Tags that Python has checked: a tuple of names.
pub fn labels(given: &Bound<'_, PyAny>) -> PyResult<Option<Labels>> {
    let names: Vec<String> = given.extract()?;
    Ok((!names.is_empty()).then(|| names.into_iter().map(String::into_boxed_str).collect()))
}

impl Kept {
    /// "Not found", to be raised for whoever would load it.
    pub fn nothing(error: Object, ttl: Duration) -> Kept {
        Kept { value: error, kind: copy::RAISE, ttl: Some(Some(ttl)), weight: 1, since: 0, tags: None }
    }

    /// The value itself, where memory is to hold it sealed.
    pub fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let value = self.value.bind(py);
        if self.kind == copy::SEALED { copy::hand_out(value, self.kind) } else { Ok(value.clone()) }
    }

    /// What is written of it for others, given that value.
    pub fn written<'a, 'py>(&self, plain: &'a Bound<'py, PyAny>) -> What<'a, 'py> {
        match self.is_negative() {
            true => What::Nothing { returned: self.kind == copy::NOTHING },
            false => What::Value(plain),
        }
    }

    /// True if it says that there is nothing, or why there is not.
    pub fn is_negative(&self) -> bool {
        copy::is_negative(self.kind)
    }
}

impl Recipe {
    /// What a `samovar.Policy` says, for values that `name` loads.
    pub fn new(policy: &Bound<'_, PyAny>, name: String) -> PyResult<Recipe> {
        let (ttl, copy) = (policy.getattr("ttl")?, policy.getattr("copy")?);
        // A tuple of one, so that None can be a fallback.
        let fallback: Vec<Object> = policy.getattr("_fallback")?.extract()?;
        Ok(Recipe {
            policy: options::policy(policy)?,
            ttl: ttl.is_callable().then(|| ttl.clone().unbind()),
            adaptive: adaptive::of(&ttl),
            cache_if: None,
            tags: policy.getattr("_tags")?.extract()?,
            errors: options::kept_errors(&policy.getattr("cache_errors")?)?,
            fallback: fallback.into_iter().next(),
            copy: Mode::parse(&copy).ok_or_else(|| bad_copy(&copy))?,
            source: policy.clone().unbind(),
            protects: None,
            loaders: None,
            ruled: Default::default(),
            name,
        })
    }

    /// The same for values of another name.
    pub fn named(&self, py: Python<'_>, name: String) -> Recipe {
        let same = |own: &Option<Object>| own.as_ref().map(|own| own.clone_ref(py));
        Recipe {
            policy: self.policy,
            ttl: same(&self.ttl),
            adaptive: self.adaptive,
            cache_if: same(&self.cache_if),
            tags: same(&self.tags),
            errors: self.errors.iter().map(|(class, ttl)| (class.clone_ref(py), *ttl)).collect(),
            fallback: same(&self.fallback),
            copy: self.copy,
            source: self.source.clone_ref(py),
            protects: same(&self.protects),
            loaders: None,
            ruled: Default::default(),
            name,
        }
    }

    /// True if a callable of the user's is told of the call's arguments.
    pub fn is_told(&self) -> bool {
        self.ttl.is_some() || self.tags.is_some()
    }

    /// What loads under another policy, where that protects it in another way.
    pub fn loaders_under(&self, policy: &Bound<'_, PyAny>) -> PyResult<Option<Loaders>> {
        let Some(protects) = &self.protects else { return Ok(None) };
        let py = policy.py();
        if policy.call_method1(intern!(py, "protects_as"), (&self.source,))?.is_truthy()? {
            return Ok(None);
        }
        protects.call1(py, (policy,))?.extract(py).map(Some)
    }

    /// Calls `visit` with every object it holds, under rules too; for the collector.
    pub fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        self.objects().all(&mut *visit) && self.ruled.lock().visit(visit)
    }

    /// All objects it holds itself.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        let optional = [&self.ttl, &self.cache_if, &self.tags, &self.fallback, &self.protects];
        let loaders = self.loaders.iter().flat_map(|(loader, refresher)| [loader].into_iter().chain(refresher));
        optional
            .into_iter()
            .flatten()
            .chain(loaders)
            .chain(self.errors.iter().map(|(class, _)| class))
            .chain([&self.source])
    }

    /// The same function's or cache's under another policy.
    pub fn under(&self, policy: &Bound<'_, PyAny>) -> PyResult<Recipe> {
        let same = |own: &Option<Object>| own.as_ref().map(|own| own.clone_ref(policy.py()));
        let (cache_if, protects) = (same(&self.cache_if), same(&self.protects));
        Ok(Recipe { cache_if, protects, ..Recipe::new(policy, self.name.clone())? })
    }

    /// How long an exception of a class to be kept is.
    pub fn error_ttl(&self, error: &Bound<'_, PyAny>) -> Option<Duration> {
        let mut classes = self.errors.iter();
        let found = classes.find(|(class, _)| error.is_instance(class.bind(error.py())).unwrap_or(false));
        found.map(|(_, ttl)| *ttl)
    }

    /// The tags of a value that a call has given, or of the class that says that there is none. Runs Python.
    pub fn tags_of(&self, value: &Bound<'_, PyAny>, loader: &Loader) -> PyResult<Option<Labels>> {
        let Some(tags) = &self.tags else { return Ok(None) };
        let (args, names) = &loader.bound;
        labels(&call_with(value.py(), tags.bind(value.py()), Some(value), args, names.as_ref())?)
    }

    /// Asks the user's callables and makes the store's own copy. Runs Python.
    pub fn keep<'py>(&self, value: &Bound<'py, PyAny>, loader: &Loader, tier: &Tier, state: &State) -> PyResult<Kept> {
        let py = value.py();
        let not_found = state.not_found(py)?;
        if value.is(not_found) || value.get_type().is(not_found) {
            let ttl = self.policy.negative_ttl.map(Some);
            let tags = if ttl.is_some() { self.tags_of(not_found, loader)? } else { None };
            let value = value.clone().unbind();
            return Ok(Kept { value, kind: copy::NOTHING, ttl, weight: 1, since: 0, tags });
        }
        let sealed = tier.isolate(value, self.copy);
        let (stored, kind, storable) = match sealed {
            Ok((stored, kind)) => (stored, kind, true),
            Err(error) if tier.seals() => {
                task::unstorable(tier, &self.name, &error);
                (value.clone(), copy::SHARE, false)
            }
            Err(error) => return Err(error),
        };
        let wanted = match &self.cache_if {
            Some(predicate) => predicate.bind(py).call1((value,))?.is_truthy()?,
            None => true,
        };
        let ttl = match &self.ttl {
            None => self.policy.ttl,
            Some(callable) if wanted => {
                let (args, names) = &loader.bound;
                let told = call_with(py, callable.bind(py), Some(value), args, names.as_ref())?;
                options::ttl(&told, &format!("result of ttl= of {}", self.name), true)?
            }
            Some(_) => None,
        };
        let stores = wanted && storable && ttl != Some(Duration::ZERO);
        if stores {
            single_use::refuse(state, value, || format!("the result of {}", self.name))?;
        }
        let weight = if stores { tier.weigh(value)? } else { 1 };
        let tags = if stores { self.tags_of(value, loader)? } else { None };
        Ok(Kept { value: stored.unbind(), kind, ttl: stores.then_some(ttl), weight, since: 0, tags })
    }
}
