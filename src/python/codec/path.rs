//! Why a value cannot be written, and the path to the part that is to blame. Nothing of it is kept while all is well: the
//! way is noted on the way back.

use super::super::tier::Object;
use super::codec_error;
use crate::codec::msgpack::MAX_DEPTH;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString};

/// What is wrong with a part of a value.
pub enum Why {
    /// This is.
    Is(String),
    /// It is nested too deep; these are the containers around it, outermost first, by address.
    TooDeep(Vec<usize>),
    /// Its own code raised.
    Raised(PyErr),
}

/// One step from a container to its part.
pub enum Step {
    /// To an element.
    At(usize),
    /// To a value, by its key.
    Of(Object),
    /// To a key.
    Key,
    /// To a member of a set.
    Member,
    /// To an attribute.
    Field(Object),
}

/// See the module.
pub struct Bad {
    why: Why,
    /// The innermost step is the first.
    path: Vec<Step>,
}

/// The longest text of a key that is shown.
const SHOWN: usize = 60;

impl Bad {
    /// A part that is to blame itself.
    #[cold]
    pub fn new(why: Why) -> Box<Bad> {
        Box::new(Bad { why, path: Vec::new() })
    }

    /// A part of which this is to be said.
    #[cold]
    pub fn is(text: impl Into<String>) -> Box<Bad> {
        Bad::new(Why::Is(text.into()))
    }

    /// The same, seen from the container.
    #[cold]
    pub fn within(mut self: Box<Bad>, step: Step) -> Box<Bad> {
        self.path.push(step);
        self
    }

    /// The `CodecError`. What is no `Exception`, such as a `KeyboardInterrupt`, goes its own way.
    pub fn into_error(self, py: Python<'_>, name: &str) -> PyErr {
        let Bad { why, mut path } = self;
        path.reverse();
        let (text, cause) = match why {
            Why::Is(text) => (text, None),
            Why::Raised(error) if !error.is_instance_of::<PyException>(py) => return error,
            Why::Raised(error) => (error.value(py).to_string(), Some(error)),
            Why::TooDeep(around) => {
                let (text, steps) = too_deep(&around);
                path.truncate(steps);
                (text, None)
            }
        };
        let mut shown = name.to_owned();
        path.iter().for_each(|step| step.show(py, &mut shown));
        codec_error(py, format!("{shown}: {text}"), cause)
    }
}

impl From<PyErr> for Box<Bad> {
    #[cold]
    fn from(error: PyErr) -> Self {
        Bad::new(Why::Raised(error))
    }
}

/// What to say of a value that is too deep, and after how many steps: a container that holds itself does so soon.
fn too_deep(around: &[usize]) -> (String, usize) {
    let again =
        (0..around.len()).find_map(|at| around[..at].iter().position(|outer| *outer == around[at]).map(|up| (at, up)));
    match again {
        Some((at, up)) => {
            (format!("the container itself again, {} up; a value that holds itself has no end", at - up), at)
        }
        None => (format!("nested deeper than {MAX_DEPTH}; store its parts under keys of their own"), 0),
    }
}

impl Step {
    fn show(&self, py: Python<'_>, out: &mut String) {
        match self {
            Step::At(at) => out.push_str(&format!("[{at}]")),
            Step::Of(key) => out.push_str(&format!("[{}]", plain(key.bind(py)))),
            Step::Key => out.push_str(" (a key)"),
            Step::Member => out.push_str(" (a member)"),
            Step::Field(name) => out.push_str(&format!(".{}", name.bind(py))),
        }
    }
}

/// A key as it would be typed, if showing it runs nobody's code.
fn plain(key: &Bound<'_, PyAny>) -> String {
    let builtin = key.is_exact_instance_of::<PyString>()
        || key.is_exact_instance_of::<PyInt>()
        || key.is_exact_instance_of::<PyBool>()
        || key.is_none();
    let shown = if builtin { key.repr().ok().map(|shown| shown.to_string()) } else { None };
    match shown {
        Some(shown) if shown.chars().count() > SHOWN => shown.chars().take(SHOWN).chain("...".chars()).collect(),
        Some(shown) => shown,
        None => format!("<{}>", type_name(key)),
    }
}

/// The name of an object's class, with its module unless that is Python itself.
pub fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().fully_qualified_name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}
