//! From how a call is spelled to the row of its parameters' values, so that all spellings of one call meet in one entry.
//!
//! Call sites are few and constant: a small table of *shapes* (number of positional arguments, and the address of the
//! tuple of keyword names, which the calling code object owns) maps arguments to parameters without looking at a name.

use super::tier::Object;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// The most parameters the fast path binds; more take the slow one.
pub const WIDTH: usize = 12;
const SHAPES: usize = 8;
const DEFAULT: u8 = u8::MAX;

/// How a parameter may be given, as `inspect.Parameter.kind` numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `a, /`
    PositionalOnly,
    /// `a`
    Either,
    /// `*args`
    VarPositional,
    /// `*, a`
    KeywordOnly,
    /// `**kwargs`
    VarKeyword,
}

/// One parameter.
pub struct Parameter {
    /// Its name, interned.
    pub name: Py<PyString>,
    /// How it may be given.
    pub kind: Kind,
    /// Its default.
    pub default: Option<Py<PyAny>>,
    /// Whether it is part of the key.
    pub in_key: bool,
}

/// A function's parameters and the shapes seen so far.
pub struct Signature {
    /// All parameters, in order.
    pub parameters: Vec<Parameter>,
    /// True if `args, no keywords` can be used as it is when the count fits: every parameter is in the key.
    pub whole: bool,
    varied: bool,
    shapes: UnsafeCell<Vec<Shape>>,
}

// SAFETY: as below; the borrowed defaults belong to the same object.
unsafe impl Send for Signature {}
// SAFETY: the shapes are touched only by threads that hold the interpreter, and never across a call that could release it.
unsafe impl Sync for Signature {}

struct Shape {
    positional: usize,
    /// A reference of ours: the address cannot be used again while we hold it.
    names: Option<Py<PyAny>>,
    /// Where the value of each parameter of the key comes from: an argument, or `DEFAULT`.
    from: [u8; WIDTH],
    /// The defaults, borrowed from the parameters.
    defaults: [*mut ffi::PyObject; WIDTH],
    len: usize,
    /// The arguments as they were given are the values: all are in the key, in order.
    straight: bool,
}

/// Room for the values of the key's parameters, on the caller's stack: moving them would cost more than finding them.
pub struct Row([MaybeUninit<*mut ffi::PyObject>; WIDTH]);

impl Row {
    /// Nothing yet.
    #[inline(always)]
    pub fn new() -> Self {
        Row([const { MaybeUninit::uninit() }; WIDTH])
    }
}

impl Signature {
    /// A signature of these parameters.
    pub fn new(parameters: Vec<Parameter>) -> Self {
        let varied = parameters.iter().any(|p| matches!(p.kind, Kind::VarPositional | Kind::VarKeyword));
        let positional = parameters.iter().all(|p| p.kind != Kind::KeywordOnly && p.in_key);
        let whole = positional && !varied;
        Signature { parameters, whole, varied, shapes: UnsafeCell::new(Vec::new()) }
    }

    /// Binds without looking at names: the values of the key's parameters, in order, borrowed from the call. `None` if this shape
    /// is new, wrong, or beyond the fast path.
    ///
    /// # Safety
    /// A vectorcall's arguments, valid for `'a`, the interpreter held.
    #[inline]
    pub unsafe fn bind_known<'a>(
        &self,
        args: *const *mut ffi::PyObject,
        positional: usize,
        names: *mut ffi::PyObject,
        row: &'a mut Row,
    ) -> Option<&'a [*mut ffi::PyObject]> {
        // SAFETY: the interpreter is held and nothing in this function can release it; indices were checked when the
        // shape was made, for this very count and these very names. As many values are written as are read.
        unsafe {
            let shapes = &*self.shapes.get();
            let known = shapes.iter().find(|shape| {
                let held = shape.names.as_ref().map_or(std::ptr::null_mut(), Py::as_ptr);
                shape.positional == positional && held == names
            })?;
            if known.straight {
                return Some(std::slice::from_raw_parts(args, known.len));
            }
            let sources = known.from[..known.len].iter().zip(&known.defaults);
            for (value, (&from, &default)) in row.0.iter_mut().zip(sources) {
                value.write(if from == DEFAULT { default } else { *args.add(from as usize) });
            }
            Some(std::slice::from_raw_parts(row.0.as_ptr().cast(), known.len))
        }
    }

    /// Binds by name, the long way. Values come in the order of all parameters; a TypeError says what does not fit.
    pub fn bind<'py>(
        &self,
        py: Python<'py>,
        args: &[Bound<'py, PyAny>],
        names: Option<&Bound<'py, PyTuple>>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let positional = args.len() - names.map_or(0, |names| names.len());
        let (values, from) = self.assign(py, args, positional, names)?;
        self.learn(positional, names, from);
        Ok(values)
    }

    /// The values, and where each came from if all came straight from an argument or a default.
    #[allow(clippy::type_complexity, reason = "a pair named in the doc comment")]
    fn assign<'py>(
        &self,
        py: Python<'py>,
        args: &[Bound<'py, PyAny>],
        positional: usize,
        names: Option<&Bound<'py, PyTuple>>,
    ) -> PyResult<(Vec<Bound<'py, PyAny>>, Option<[u8; WIDTH]>)> {
        let mut values: Vec<Option<Bound<'py, PyAny>>> = vec![None; self.parameters.len()];
        let mut from = [DEFAULT; WIDTH];
        let simple = !self.varied && self.parameters.len() <= WIDTH;
        let mut next = 0;
        let mut more = Vec::new();
        for (at, parameter) in self.parameters.iter().enumerate() {
            match parameter.kind {
                Kind::PositionalOnly | Kind::Either if next < positional => {
                    values[at] = Some(args[next].clone());
                    if simple {
                        from[at] = next as u8;
                    }
                    next += 1;
                }
                Kind::VarPositional => {
                    values[at] = Some(PyTuple::new(py, &args[next..positional])?.into_any());
                    next = positional;
                }
                _ => {}
            }
        }
        if next < positional {
            return Err(PyTypeError::new_err(format!("takes {next} positional arguments but {positional} were given")));
        }
        for (offset, name) in names.into_iter().flat_map(|names| names.iter()).enumerate() {
            let value = args[positional + offset].clone();
            let taken = |p: &Parameter| matches!(p.kind, Kind::Either | Kind::KeywordOnly);
            let found = self.parameters.iter().position(|p| taken(p) && name.eq(p.name.bind(py)).unwrap_or(false));
            match found {
                Some(at) if values[at].is_some() => {
                    return Err(PyTypeError::new_err(format!("got multiple values for argument {name:?}")));
                }
                Some(at) => {
                    values[at] = Some(value);
                    if simple {
                        from[at] = (positional + offset) as u8;
                    }
                }
                None => more.push((name, value)),
            }
        }
        self.rest(py, more, &mut values)?;
        let bound = values.into_iter().zip(&self.parameters).map(|(value, parameter)| {
            let value = value.or_else(|| parameter.default.as_ref().map(|default| default.bind(py).clone()));
            value.ok_or_else(|| {
                PyTypeError::new_err(format!("missing a required argument: {}", parameter.name.bind(py)))
            })
        });
        Ok((bound.collect::<PyResult<_>>()?, simple.then_some(from)))
    }

    /// Keywords without a parameter go to `**kwargs`, sorted by name, or are too many.
    fn rest<'py>(
        &self,
        py: Python<'py>,
        mut more: Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
        values: &mut [Option<Bound<'py, PyAny>>],
    ) -> PyResult<()> {
        match self.parameters.iter().position(|p| p.kind == Kind::VarKeyword) {
            Some(at) => {
                more.sort_by_cached_key(|(name, _)| name.to_string());
                values[at] = Some(PyTuple::new(py, more)?.into_any());
                Ok(())
            }
            None => match more.first() {
                Some((name, _)) => Err(PyTypeError::new_err(format!("got an unexpected keyword argument {name:?}"))),
                None => Ok(()),
            },
        }
    }

    /// Remembers a shape. A constant tuple of names is held by its code object too; one that was made for a single call is
    /// soon held by us alone, and makes room for the next.
    fn learn(&self, positional: usize, names: Option<&Bound<'_, PyTuple>>, from: Option<[u8; WIDTH]>) {
        let Some(from) = from else { return };
        // SAFETY: the interpreter is held; neither a push nor the end of a tuple of str runs Python.
        let shapes = unsafe { &mut *self.shapes.get() };
        let held = |shape: &Shape| shape.names.as_ref().map(Py::as_ptr);
        let given = names.map(|names| names.as_ptr());
        if shapes.iter().any(|shape| shape.positional == positional && held(shape) == given) {
            return;
        }
        // SAFETY: a look at an object that the shape holds.
        let forgotten =
            shapes.iter().position(|shape| held(shape).is_some_and(|names| unsafe { ffi::Py_REFCNT(names) } == 1));
        let shape = self.shape(positional, names, from);
        match forgotten {
            Some(at) => shapes[at] = shape,
            None if shapes.len() < SHAPES => shapes.push(shape),
            None => {}
        }
    }

    fn shape(&self, positional: usize, names: Option<&Bound<'_, PyTuple>>, sources: [u8; WIDTH]) -> Shape {
        let names = names.map(|names| names.clone().into_any().unbind());
        let (from, defaults) = ([DEFAULT; WIDTH], [null_mut(); WIDTH]);
        let mut shape = Shape { positional, names, from, defaults, len: 0, straight: false };
        for (parameter, source) in self.parameters.iter().zip(sources).filter(|(parameter, _)| parameter.in_key) {
            shape.from[shape.len] = source;
            shape.defaults[shape.len] = parameter.default.as_ref().map_or(null_mut(), Py::as_ptr);
            shape.len += 1;
        }
        shape.straight = shape.len > 0 && shape.from[..shape.len].iter().zip(0..).all(|(&from, at)| from == at);
        shape
    }

    /// Everything the collector has to know of.
    pub fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        self.parameters.iter().filter_map(|p| p.default.as_ref()).all(visit)
    }
}
