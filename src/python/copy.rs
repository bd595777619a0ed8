//! Isolation: who may see the very object the cache holds. Decided once, when a value is stored.
//!
//! Immutable values are shared. A tree of exact dicts, lists and sets is kept as a copy of our own and rebuilt, natively,
//! for every reader. Any other object is shared, inside such a tree too: copying it is its owner's affair
//! (`copy="deep"`).

use super::anchor::Anchor;
use super::errors;
use super::sealed::Sealed;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet, PyTuple};
use std::collections::{HashMap, HashSet};

/// Hand out the object itself.
pub const SHARE: u32 = 0;
/// Hand out a copy of one dict, list or set whose members can be shared.
pub const FLAT: u32 = 1;
/// Hand out a rebuilt tree in which no container occurs twice.
pub const TREE: u32 = 2;
/// Hand out a rebuilt graph: containers may occur more than once, or hold themselves.
pub const GRAPH: u32 = 3;
/// Hand out `copy.deepcopy` of the object.
pub const DEEP: u32 = 4;
/// Raise a copy of the object, an exception.
pub const RAISE: u32 = 5;
/// Hand out the object itself, which says that there is nothing.
pub const NOTHING: u32 = 6;

/// Hand out what the object was sealed from.
pub const SEALED: u32 = 7;

/// True for what says that there is nothing, or why.
pub const fn is_negative(kind: u32) -> bool {
    matches!(kind, RAISE | NOTHING)
}

/// What a cache does about copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As the module says.
    Auto,
    /// A deep copy for every reader.
    Deep,
    /// A deep copy when storing, shared by readers.
    Write,
    /// Both.
    Both,
    /// The object itself, always.
    Off,
}

impl Mode {
    /// The mode an option names.
    pub fn parse(option: &Bound<'_, PyAny>) -> Option<Mode> {
        if let Ok(flag) = option.extract::<bool>() {
            return if flag { None } else { Some(Mode::Off) };
        }
        match option.extract::<String>().ok()?.as_str() {
            "auto" => Some(Mode::Auto),
            "deep" => Some(Mode::Deep),
            "write" => Some(Mode::Write),
            "both" => Some(Mode::Both),
            _ => None,
        }
    }
}

/// The object to store for a value, and how readers get it.
pub fn isolate<'py>(value: &Bound<'py, PyAny>, mode: Mode) -> PyResult<(Bound<'py, PyAny>, u32)> {
    match mode {
        Mode::Off => Ok((value.clone(), SHARE)),
        Mode::Auto if !needs_rebuilding(value) => Ok((value.clone(), SHARE)),
        Mode::Auto => {
            let kind = kind_of(value);
            match hand_out(value, kind) {
                Ok(own) => Ok((own, kind)),
                // Too deep to be copied: then it cannot be isolated, and is shared.
                Err(_) if kind == DEEP => Ok((value.clone(), SHARE)),
                Err(error) => Err(error),
            }
        }
        Mode::Deep => Ok((value.clone(), DEEP)),
        Mode::Write => Ok((deepcopy(value)?, SHARE)),
        Mode::Both => Ok((deepcopy(value)?, DEEP)),
    }
}

/// What a reader gets of a stored object.
pub fn hand_out<'py>(value: &Bound<'py, PyAny>, kind: u32) -> PyResult<Bound<'py, PyAny>> {
    match kind {
        SHARE => Ok(value.clone()),
        FLAT => flat(value),
        TREE => rebuild(value, &mut None),
        GRAPH => rebuild(value, &mut Some(HashMap::new())),
        RAISE => Err(PyErr::from_value(errors::copy_for_waiter(value))),
        NOTHING => Ok(value.clone()),
        SEALED => Ok(value.cast::<Sealed>()?.get().open(value.py())?.into_bound(value.py())),
        _ => deepcopy(value),
    }
}

/// What a listener gets of an object that is no longer needed here: itself if nobody else has it.
pub fn part_with(value: Bound<'_, PyAny>, kind: u32) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: a valid object.
    if kind != SEALED && unsafe { ffi::Py_REFCNT(value.as_ptr()) } == 1 { Ok(value) } else { hand_out(&value, kind) }
}

/// As [`hand_out`] for the raw hit path: steals a reference and gives one, or null with an error set.
///
/// # Safety
/// `value` is an owned reference and the interpreter is held.
#[cold]
pub unsafe fn own(value: *mut ffi::PyObject, kind: u32) -> *mut ffi::PyObject {
    Python::attach(|py| {
        // SAFETY: the caller gives us its reference.
        match hand_out(&unsafe { Bound::from_owned_ptr(py, value) }, kind) {
            Ok(copy) => copy.into_ptr(),
            Err(error) => {
                error.restore(py);
                std::ptr::null_mut()
            }
        }
    })
}

fn deepcopy<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let (py, _anchor) = (value.py(), Anchor::hold());
    py.import("copy")?.call_method1("deepcopy", (value,)).map_err(|error| errors::not_stop(py, error))
}

fn flat<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    // SAFETY: each call gets an object of the type just checked and gives a new reference, or null with an error set.
    unsafe {
        let copy = if value.is_exact_instance_of::<PyDict>() {
            ffi::PyDict_Copy(value.as_ptr())
        } else if value.is_exact_instance_of::<PyList>() {
            ffi::PyList_GetSlice(value.as_ptr(), 0, ffi::PY_SSIZE_T_MAX)
        } else {
            ffi::PySet_New(value.as_ptr())
        };
        Bound::from_owned_ptr_or_err(py, copy)
    }
}

fn is_container(value: &Bound<'_, PyAny>) -> bool {
    value.is_exact_instance_of::<PyDict>()
        || value.is_exact_instance_of::<PyList>()
        || value.is_exact_instance_of::<PySet>()
}

/// Nested deeper than this, a tree is left to `copy.deepcopy`, which knows when to stop.
const DEPTH: usize = 200;

/// How a value has to be handed out.
fn kind_of(value: &Bound<'_, PyAny>) -> u32 {
    if is_flat(value) {
        return FLAT;
    }
    let mut scan = Scan::default();
    scan.look(value, 0);
    match scan {
        Scan { deep: true, .. } => DEEP,
        Scan { shared: true, .. } => GRAPH,
        Scan { nested: true, .. } => TREE,
        Scan { seen, .. } if seen.is_empty() => SHARE,
        _ => FLAT,
    }
}

/// A dict, list or set whose members are none and hold none: what nearly every container is.
fn is_flat(value: &Bound<'_, PyAny>) -> bool {
    let plain = |item: *mut ffi::PyObject| {
        // SAFETY: a borrowed member of `value`, which nothing changes meanwhile.
        let item = unsafe { pyo3::Borrowed::from_ptr(value.py(), item) };
        !needs_rebuilding(&item)
    };
    let container = value.as_ptr();
    // SAFETY: each branch reads the object as the type just checked; looking at types runs no Python.
    unsafe {
        if value.is_exact_instance_of::<PyDict>() {
            let (mut at, mut item) = (0, std::ptr::null_mut());
            while ffi::PyDict_Next(container, &raw mut at, std::ptr::null_mut(), &raw mut item) != 0 {
                if !plain(item) {
                    return false;
                }
            }
            true
        } else if value.is_exact_instance_of::<PyList>() {
            (0..ffi::PyList_GET_SIZE(container)).all(|at| plain(ffi::PyList_GET_ITEM(container, at)))
        } else {
            value.is_exact_instance_of::<PySet>()
        }
    }
}

#[derive(Default)]
struct Scan {
    seen: HashSet<usize>,
    nested: bool,
    shared: bool,
    deep: bool,
}

impl Scan {
    fn look(&mut self, value: &Bound<'_, PyAny>, depth: usize) {
        if depth > DEPTH {
            self.deep = true;
        } else if is_container(value) {
            self.nested |= depth > 0;
            if !self.seen.insert(value.as_ptr() as usize) {
                self.shared = true;
                return;
            }
            if let Ok(dict) = value.cast_exact::<PyDict>() {
                dict.iter().for_each(|(_, item)| self.look(&item, depth + 1));
            } else if let Ok(list) = value.cast_exact::<PyList>() {
                list.iter().for_each(|item| self.look(&item, depth + 1));
            }
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            tuple.iter().for_each(|item| self.look(&item, depth + 1));
        }
    }
}

type Memo<'py> = Option<HashMap<usize, Bound<'py, PyAny>>>;

fn rebuild<'py>(value: &Bound<'py, PyAny>, memo: &mut Memo<'py>) -> PyResult<Bound<'py, PyAny>> {
    if let Some(done) = memo.as_ref().and_then(|memo| memo.get(&(value.as_ptr() as usize))) {
        return Ok(done.clone());
    }
    if let Ok(dict) = value.cast_exact::<PyDict>() {
        let copy = dict.copy()?;
        remember(memo, value, copy.as_any());
        // Collected first: setting an item runs the key's `__hash__`, which may change the dict.
        let nested: Vec<_> = dict.iter().filter(|(_, item)| needs_rebuilding(item)).collect();
        for (key, item) in nested {
            copy.set_item(key, rebuild(&item, memo)?)?;
        }
        return Ok(copy.into_any());
    }
    if let Ok(list) = value.cast_exact::<PyList>() {
        let copy = list.get_slice(0, list.len());
        remember(memo, value, copy.as_any());
        for (at, item) in list.iter().enumerate() {
            if needs_rebuilding(&item) {
                copy.set_item(at, rebuild(&item, memo)?)?;
            }
        }
        return Ok(copy.into_any());
    }
    if value.is_exact_instance_of::<PySet>() {
        let copy = flat(value)?;
        remember(memo, value, &copy);
        return Ok(copy);
    }
    if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        let items = tuple.iter().map(|item| rebuild(&item, memo)).collect::<PyResult<Vec<_>>>()?;
        let same = items.iter().zip(tuple.iter()).all(|(new, old)| new.is(&old));
        return Ok(if same { value.clone() } else { PyTuple::new(value.py(), items)?.into_any() });
    }
    Ok(value.clone())
}

fn needs_rebuilding(value: &Bound<'_, PyAny>) -> bool {
    is_container(value) || value.is_exact_instance_of::<PyTuple>()
}

fn remember<'py>(memo: &mut Memo<'py>, original: &Bound<'py, PyAny>, copy: &Bound<'py, PyAny>) {
    if let Some(memo) = memo {
        memo.insert(original.as_ptr() as usize, copy.clone());
    }
}
