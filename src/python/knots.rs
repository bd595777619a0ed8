//! Instances that only results of methods keep alive: found, and let go, when the collector looks at everything.
//!
//! A result may refer to its instance. The table owns the result and belongs to the function, so to the collector the
//! instance is in use for as long as its class is. What is meant is that a result lives as long as its instance does: an
//! ephemeron (Hayes 1997), which CPython's collector does not know. So before each full collection we do what it will do,
//! among the objects around the results only: count the references that are accounted for, and mark what is referred to
//! from elsewhere, where an instance marks its results. The results of the instances left unmarked are dropped, and the
//! collection that follows finds a plain cycle.
//!
//! A mistake costs entries, never memory safety, and there is one way to make it only: what is not looked at, because it is
//! too far away or belongs to the program (classes, modules), counts as elsewhere, and keeps what it refers to.

use super::function::{self, Function};
use super::state::State;
use super::tier::{Object, Space};
use hashbrown::HashMap;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};
use std::ffi::{c_int, c_void};
use std::ptr::{addr_of_mut, null_mut};
use std::sync::Arc;

type At = *mut ffi::PyObject;

/// Instances looked at in one collection; where there are more, each collection goes on where the last one stopped.
const WINDOW: usize = 5_000;
/// References followed in one collection: some 10 ms, within a collection that follows every reference there is.
const LIMIT: usize = 50_000;
/// What has more references than this, an instance by its results or a container, is not looked into.
const LARGE: usize = 10_000;

/// Has the collector call [`untie`] before a full collection.
pub fn watch(py: Python<'_>, state: &'static State) -> PyResult<()> {
    let callback =
        PyCFunction::new_closure(py, None, None, move |args, _: Option<&Bound<'_, PyDict>>| -> PyResult<()> {
            let (phase, info) = args.extract::<(Bound<'_, PyAny>, Bound<'_, PyDict>)>()?;
            let oldest =
                info.get_item(intern!(args.py(), "generation"))?.is_some_and(|number| number.eq(2).unwrap_or(false));
            if oldest && phase.eq("start")? {
                untie(state);
            }
            Ok(())
        })?;
    py.import("gc")?.getattr("callbacks")?.call_method1("append", (callback,))?;
    Ok(())
}

/// Drops the results of instances that nothing but results refers to.
fn untie(state: &State) {
    let functions = state.functions_of_instances();
    let mut looked = window(state, &functions);
    let mut graph = Graph::new(state);
    looked.retain(|(_, function, space)| {
        let fits = 2 * function.tier.entries_in(space) <= graph.left.min(LARGE);
        if fits {
            each(function, space, |object| graph.refer(object));
        }
        fits
    });
    graph.walk();
    let mut knotted: HashMap<At, Vec<(&Function, Arc<Space>)>> = HashMap::new();
    let mut alive = Vec::new();
    for (instance, function, space) in looked {
        if graph.has(instance) {
            knotted.entry(instance).or_default().push((function, space));
        } else {
            each(function, &space, |object| alive.push(object));
        }
    }
    if knotted.is_empty() {
        return;
    }
    graph.used_elsewhere(|object| alive.push(object));
    while let Some(object) = alive.pop() {
        if graph.mark(object) {
            graph.referents(object, |to| alive.push(to));
            for (function, space) in knotted.get(&object).into_iter().flatten() {
                each(function, space, |object| alive.push(object));
            }
        }
    }
    // From here on Python code may run, and the addresses mean nothing any more.
    knotted.retain(|&instance, _| !graph.is_marked(instance));
    for (function, space) in knotted.into_values().flatten() {
        function.tier.drain_space(&space);
    }
}

/// Some instances, each with one function that knows it and its space there; other ones the next time.
fn window<'f>(state: &State, functions: &'f [Arc<Function>]) -> Vec<(At, &'f Function, Arc<Space>)> {
    let mut found = Vec::new();
    let from = state.knots_from.get();
    let mut skip = from;
    for function in functions {
        let count = function.instances.count();
        let (start, room) = (skip.min(count), WINDOW - found.len());
        skip -= start;
        function.instances.some(start, room, |instance, space| found.push((instance, &**function, space.clone())));
    }
    state.knots_from.set(if found.len() < WINDOW { 0 } else { from + WINDOW });
    found
}

/// Every reference of a space's entries.
fn each(function: &Function, space: &Space, mut found: impl FnMut(At)) {
    function.tier.visit_space(space, &mut |object: &Object| {
        found(object.as_ptr());
        true
    });
}

/// The objects around results, and the references among them.
struct Graph<'a> {
    state: &'a State,
    nodes: HashMap<At, Node>,
    /// In the order they were found: near ones first.
    order: Vec<At>,
    /// How many more references may be followed.
    left: usize,
    /// The dict of the builtin names, to which every function refers.
    builtins: At,
}

#[derive(Default)]
struct Node {
    /// References from results and from objects that were looked into.
    known: ffi::Py_ssize_t,
    is_open: bool,
    is_marked: bool,
}

impl<'a> Graph<'a> {
    fn new(state: &'a State) -> Self {
        // SAFETY: the interpreter is held; a borrowed reference.
        let builtins = unsafe { ffi::PyEval_GetBuiltins() };
        Graph { state, nodes: HashMap::new(), order: Vec::new(), left: LIMIT, builtins }
    }

    /// Notes one reference to an object.
    fn refer(&mut self, to: At) {
        self.left = self.left.saturating_sub(1);
        if let Some(node) = self.nodes.get_mut(&to) {
            node.known += 1;
        } else if self.is_of_interest(to) {
            self.nodes.insert(to, Node { known: 1, ..Node::default() });
            self.order.push(to);
        }
    }

    /// It may refer to an instance, or be one, and does not belong to the program.
    fn is_of_interest(&self, object: At) -> bool {
        // SAFETY: a look at a valid object and its type.
        unsafe {
            let kind = ffi::Py_TYPE(object);
            let flags = ffi::PyType_GetFlags(kind);
            let tracked = flags & ffi::Py_TPFLAGS_HAVE_GC != 0 && ffi::PyObject_GC_IsTracked(object) != 0;
            (tracked || flags & ffi::Py_TPFLAGS_HEAPTYPE != 0)
                && flags & ffi::Py_TPFLAGS_TYPE_SUBCLASS == 0
                && kind != addr_of_mut!(ffi::PyModule_Type)
                && (kind != self.state.function_type || function::is_bound(object))
        }
    }

    /// Looks into everything that can be reached, nearest first, until there is nothing more or it has been enough.
    fn walk(&mut self) {
        let (mut walked, mut found) = (0, Vec::new());
        while walked < self.order.len() && self.left > 0 {
            let object = self.order[walked];
            walked += 1;
            let most = self.left.min(LARGE);
            let whole = self.look_into(object, |to| {
                found.push(to);
                found.len() < most
            });
            if whole && let Some(node) = self.nodes.get_mut(&object) {
                node.is_open = true;
                found.drain(..).for_each(|to| self.refer(to));
            }
            self.left -= found.len();
            found.clear();
        }
    }

    /// What an object that was looked into refers to.
    fn referents(&self, object: At, mut found: impl FnMut(At)) {
        if self.nodes.get(&object).is_some_and(|node| node.is_open) {
            self.look_into(object, |to| {
                found(to);
                true
            });
        }
    }

    /// What an object refers to, until `found` says to stop; then false. The names that a function sees belong to the
    /// program.
    fn look_into(&self, object: At, mut found: impl FnMut(At) -> bool) -> bool {
        // SAFETY: a valid object; if the collector tracks it, its type has a traversal that runs no Python.
        unsafe {
            let kind = ffi::Py_TYPE(object);
            let Some(traverse) = (*kind).tp_traverse.filter(|_| ffi::PyObject_IS_GC(object) != 0) else { return true };
            let is_function = kind == addr_of_mut!(ffi::PyFunction_Type);
            let globals = if is_function { ffi::PyFunction_GetGlobals(object) } else { null_mut() };
            let mut found = |to: At| to == globals || to == self.builtins || found(to);
            let mut found: &mut dyn FnMut(At) -> bool = &mut found;
            traverse(object, note, (&raw mut found).cast()) == 0
        }
    }

    fn has(&self, object: At) -> bool {
        self.nodes.contains_key(&object)
    }

    /// Objects that somebody refers to who was not looked into.
    fn used_elsewhere(&self, mut found: impl FnMut(At)) {
        for (&object, node) in &self.nodes {
            // SAFETY: a valid object.
            if unsafe { ffi::Py_REFCNT(object) } > node.known {
                found(object);
            }
        }
    }

    /// True if it is one of these and was not marked before.
    fn mark(&mut self, object: At) -> bool {
        self.nodes.get_mut(&object).is_some_and(|node| !std::mem::replace(&mut node.is_marked, true))
    }

    fn is_marked(&self, object: At) -> bool {
        self.nodes.get(&object).is_none_or(|node| node.is_marked)
    }
}

/// Calls the closure that `found` points to; not 0 stops the traversal.
///
/// # Safety
/// `object` is valid, and `found` points to a `&mut dyn FnMut(At) -> bool`.
unsafe extern "C" fn note(object: At, found: *mut c_void) -> c_int {
    // SAFETY: the caller vouches for it.
    c_int::from(!unsafe { (*found.cast::<&mut dyn FnMut(At) -> bool>())(object) })
}
