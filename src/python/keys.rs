//! From a call to its place in the table: by the arguments themselves, by their encoding, or by a name.

use super::args;
use super::encode::{self, Refused};
use super::errors;
use super::options::shown;
use super::signature::{Parameter, Signature};
use super::spot::{Alias, Spot};
use super::state::State;
use super::tier::Space;
use crate::core::key::{escape, stored_name};
use crate::core::memory::mix;
use pyo3::exceptions::PyUserWarning;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyFunction, PyInt, PyModule, PyString, PyTuple, PyType};
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Keys of different kinds never meet, though they share a space.
const ENCODED: u64 = 0xE7C0_DED0_0000_0001;
const ASKING: u64 = 0xA5C1_4600_0000_0003;

/// How the canonical key of a call is made.
pub enum KeyRule {
    /// Function id and typed encoding of the arguments.
    Call,
    /// A template: literal texts, and parameters by their position.
    Template(Vec<Part>),
    /// A function of some parameters.
    Callable {
        /// What is called.
        callable: Py<PyAny>,
        /// The parameters it takes, by position.
        takes: Vec<usize>,
    },
}

/// A piece of a template.
pub enum Part {
    /// Text that stands as it is.
    Text(String),
    /// The value of a parameter.
    Value(usize),
}

/// What names a function in keys, and what it warns about once.
pub struct Naming {
    /// Module, qualified name and version.
    pub id: String,
    /// The rule.
    pub rule: KeyRule,
    /// Whether the warning about identity was given.
    pub warned: AtomicBool,
}

/// What a key rule makes of a call.
pub enum Made<'py> {
    /// A name that people use, the same for every function of the namespace.
    Name(Bound<'py, PyString>),
    /// The encoding of a value; the function's own.
    Value(Bound<'py, PyBytes>),
}

impl Made<'_> {
    /// Where it is: a name among `names`, a value in the function's own space.
    pub fn spot(self, names: &Space, values: &Space) -> PyResult<Spot> {
        match self {
            Made::Name(name) => named(&name, names),
            Made::Value(bytes) => encoded(&bytes, values),
        }
    }
}

/// The spot of an encoding.
fn encoded(bytes: &Bound<'_, PyBytes>, space: &Space) -> PyResult<Spot> {
    let hash = mix(bytes.hash()? as u64, space.salt() ^ ENCODED);
    Ok(Spot { hash, key: bytes.clone().into_any().unbind(), asks: false })
}

/// A name as it is stored: a long one under a short one, whoever gives it.
#[inline]
pub fn short<'py>(name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: a valid str.
    if unsafe { args::is_short_name(name.as_ptr()) } {
        return Ok(name.clone());
    }
    let Ok(text) = name.to_str() else {
        let text = format!("key {} holds a lone surrogate, which cannot be stored; escape it", shown(name.as_any()));
        return Err(errors::key_type(name.py(), text));
    };
    Ok(PyString::new(name.py(), &stored_name(text)))
}

/// The canonical name of an entry of which only its place is known. `None` where there is none: calls on an instance, and
/// those with arguments that have no encoding.
pub fn name_of<'py>(
    state: &State,
    space: &Space,
    hash: u64,
    key: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyString>>> {
    if let (Ok(name), true) = (key.cast_exact::<PyString>(), space.has_names()) {
        return Ok(Some(name.clone()));
    }
    let Some(callee) = space.callee.as_ref().filter(|_| !space.of_instance) else { return Ok(None) };
    let mut bytes = Vec::new();
    match key.cast_exact::<PyBytes>() {
        // The encoding itself, unless it is the only argument of a call.
        Ok(encoding) if encoded(encoding, space)?.hash == hash => bytes.extend_from_slice(encoding.as_bytes()),
        _ => {
            let row = match key.cast_exact::<PyTuple>() {
                Ok(row) if !callee.takes_one => row.iter().collect(),
                _ => vec![key.clone()],
            };
            for value in &row {
                match encode::encode(state, value, &mut bytes) {
                    Ok(()) => {}
                    Err(Refused::Raised(error)) => return Err(error),
                    Err(Refused::NoEncoding) => return Ok(None),
                }
            }
        }
    }
    Ok(Some(PyString::new(key.py(), &call_name(&callee.id, &bytes))))
}

/// The encoding of a call as text, with the function's id.
fn call_name(id: &str, bytes: &[u8]) -> String {
    stored_name(&format!("{id}:{}", text(bytes)))
}

/// The spot of a name in a namespace's space.
#[inline]
pub fn named(name: &Bound<'_, PyString>, space: &Space) -> PyResult<Spot> {
    let hash = mix(name.hash()? as u64, space.salt());
    Ok(Spot { hash, key: name.clone().into_any().unbind(), asks: false })
}

impl Naming {
    /// What a template or callable makes of a call, `None` under the plain rule.
    pub fn made<'py>(
        &self,
        py: Python<'py>,
        state: &State,
        signature: &Signature,
        values: &[Bound<'py, PyAny>],
    ) -> PyResult<Option<Made<'py>>> {
        match &self.rule {
            KeyRule::Call => Ok(None),
            KeyRule::Template(parts) => {
                let mut name = String::new();
                for part in parts {
                    match part {
                        Part::Text(text) => name.push_str(text),
                        Part::Value(at) => {
                            name.push_str(&escape(&self.text_of(state, &signature.parameters[*at], &values[*at])?))
                        }
                    }
                }
                Ok(Some(Made::Name(PyString::new(py, &stored_name(&name)))))
            }
            KeyRule::Callable { callable, takes } => {
                let taken: Vec<_> = takes.iter().map(|&at| values[at].clone()).collect();
                self.read(state, callable.bind(py).call1(PyTuple::new(py, taken)?)?).map(Some)
            }
        }
    }

    /// What a `key=` callable returned.
    fn read<'py>(&self, state: &State, returned: Bound<'py, PyAny>) -> PyResult<Made<'py>> {
        let py = returned.py();
        if let Ok(name) = returned.cast_exact::<PyString>() {
            return Ok(Made::Name(short(name)?));
        }
        let mut bytes = Vec::new();
        match encode::encode(state, &returned, &mut bytes) {
            Ok(()) => Ok(Made::Value(PyBytes::new(py, &bytes))),
            Err(Refused::Raised(error)) => Err(error),
            Err(Refused::NoEncoding) => Err(errors::key_type(
                py,
                format!(
                    "key= of {} returned {}, which has no canonical encoding; return a str, or a tuple of plain values",
                    self.id,
                    shown(&returned)
                ),
            )),
        }
    }

    /// A parameter in the words of a template: `7` for 7 and for "7" alike.
    fn text_of(&self, state: &State, parameter: &Parameter, value: &Bound<'_, PyAny>) -> PyResult<String> {
        let exact_text = value.is_none()
            || value.is_exact_instance_of::<PyString>()
            || value.is_exact_instance_of::<PyInt>()
            || value.is_exact_instance_of::<PyBool>()
            || value.is_exact_instance_of::<PyFloat>();
        if exact_text {
            return self.written(parameter, value);
        }
        // SAFETY: a type object is valid as long as its instance is.
        if unsafe { state.is_enum_class(value.get_type().as_type_ptr()) } {
            return self.text_of(state, parameter, &value.getattr("value")?);
        }
        let class = value.get_type();
        let library = matches!(class.module()?.to_str()?, "datetime" | "uuid" | "decimal");
        if library {
            return self.written(parameter, value);
        }
        let mut bytes = Vec::new();
        match encode::encode(state, value, &mut bytes) {
            Ok(()) => Ok(text(&bytes)),
            Err(Refused::Raised(error)) => Err(error),
            Err(Refused::NoEncoding) => Err(self.refuse(parameter, value)),
        }
    }

    /// What `str` makes of a value. Of a whole number that is too long for it, hexadecimal.
    fn written(&self, parameter: &Parameter, value: &Bound<'_, PyAny>) -> PyResult<String> {
        let text = match value.str() {
            Err(_) if value.is_exact_instance_of::<PyInt>() => return encode::hexadecimal(value),
            text => text?,
        };
        let refuse = |_| {
            let (name, shown) = (parameter.name.bind(value.py()), shown(value));
            let text = format!("argument {name:?} of {} is {shown}, which holds a lone surrogate; escape it", self.id);
            errors::key_type(value.py(), text)
        };
        text.to_str().map(str::to_owned).map_err(refuse)
    }

    fn refuse(&self, parameter: &Parameter, value: &Bound<'_, PyAny>) -> PyErr {
        let py = value.py();
        let name = parameter.name.bind(py);
        errors::key_type(
            py,
            format!(
                "argument {name:?} of {} is {}, which cannot be part of a key; give its class a __cache_key__ method, \
             leave it out with ignore=[{name:?}], or name the key with key=",
                self.id,
                shown(value)
            ),
        )
    }

    /// The canonical key of a call as text; a KeyTypeError names the argument that has none.
    pub fn canonical(
        &self,
        py: Python<'_>,
        state: &State,
        signature: &Signature,
        values: &[Bound<'_, PyAny>],
    ) -> PyResult<String> {
        match self.made(py, state, signature, values)? {
            Some(Made::Name(name)) => return Ok(name.to_str()?.to_owned()),
            Some(Made::Value(bytes)) => return Ok(call_name(&self.id, bytes.as_bytes())),
            None => {}
        }
        let mut bytes = Vec::new();
        for (parameter, value) in signature.parameters.iter().zip(values).filter(|(p, _)| p.in_key) {
            match encode::encode(state, value, &mut bytes) {
                Ok(()) => {}
                Err(Refused::Raised(error)) => return Err(error),
                Err(Refused::NoEncoding) => return Err(self.refuse(parameter, value)),
            }
        }
        Ok(call_name(&self.id, &bytes))
    }

    /// The shortcut from a call to its name, if its arguments are plain.
    pub fn alias(
        &self,
        py: Python<'_>,
        state: &State,
        space: &Space,
        row: &[(&Parameter, &Bound<'_, PyAny>)],
    ) -> PyResult<Option<Alias>> {
        let Some(hash) = hash_row(state, row) else { return Ok(None) };
        Ok(Some(Alias { hash: mix(hash, space.salt()), key: row_key(py, row)? }))
    }

    /// The place of a call by its arguments.
    pub fn place(
        &self,
        py: Python<'_>,
        state: &State,
        space: &Space,
        row: &[(&Parameter, &Bound<'_, PyAny>)],
    ) -> PyResult<Spot> {
        if let Some(hash) = hash_row(state, row) {
            return Ok(Spot { hash: mix(hash, space.salt()), key: row_key(py, row)?, asks: false });
        }
        let (mut bytes, mut asked) = (Vec::new(), Vec::new());
        for (parameter, value) in row {
            match encode::encode_rest_aside(state, value, &mut bytes) {
                Ok(aside) => asked.extend(aside.into_iter().map(|object| (*parameter, object.into_bound(py)))),
                Err(Refused::Raised(error)) => return Err(error),
                Err(Refused::NoEncoding) => return Err(self.refuse(parameter, value)),
            }
        }
        let key = PyBytes::new(py, &bytes);
        if !asked.is_empty() {
            return self.asking(space, &key, asked);
        }
        encoded(&key, space)
    }

    /// Hashable objects without an encoding: by type and `==`, in this process only; everything else about the call is
    /// in `bytes`.
    fn asking<'py>(
        &self,
        space: &Space,
        bytes: &Bound<'py, PyBytes>,
        asked: Vec<(&Parameter, Bound<'py, PyAny>)>,
    ) -> PyResult<Spot> {
        let mut hash = bytes.hash()? as u64;
        let mut key = vec![bytes.as_any().clone()];
        for (parameter, object) in asked {
            self.warn_identity(parameter, &object)?;
            hash = args::chain(hash, object.hash()? as u64);
            key.push(object);
        }
        let key = PyTuple::new(bytes.py(), key)?;
        Ok(Spot { hash: mix(hash, space.salt() ^ ASKING), key: key.into_any().unbind(), asks: true })
    }

    /// A session or connection as an argument makes an entry of its own for each: say so, once.
    fn warn_identity(&self, parameter: &Parameter, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = value.py();
        let class = value.get_type();
        let object = py.get_type::<PyAny>();
        let by_identity = class.getattr("__eq__")?.is(object.getattr("__eq__")?)
            && class.getattr("__hash__")?.is(object.getattr("__hash__")?);
        let meant = value.is_instance_of::<PyType>()
            || value.is_instance_of::<PyFunction>()
            || value.is_instance_of::<PyModule>()
            || class.module()?.to_str()? == "builtins";
        if !by_identity || meant || self.warned.swap(true, Relaxed) {
            return Ok(());
        }
        let name = parameter.name.bind(py);
        let text = CString::new(format!(
            "argument {name:?} of {} is compared by identity ({}): every object has an entry of its own and is kept \
             alive by it; leave it out of the key with ignore=[{name:?}], or give its class a __cache_key__ method",
            self.id,
            class.name()?
        ))?;
        PyErr::warn(py, &py.get_type::<PyUserWarning>(), &text, 3)
    }
}

/// The hash of a row of plain values.
fn hash_row(state: &State, row: &[(&Parameter, &Bound<'_, PyAny>)]) -> Option<u64> {
    // SAFETY: the values are alive as long as the row.
    unsafe { args::hash_call(state, row.iter().map(|(_, value)| value.as_ptr())) }
}

/// A row as a key: its only value, or the tuple of all.
fn row_key(py: Python<'_>, row: &[(&Parameter, &Bound<'_, PyAny>)]) -> PyResult<Py<PyAny>> {
    match row {
        [(_, only)] => Ok((*only).clone().unbind()),
        _ => Ok(PyTuple::new(py, row.iter().map(|(_, value)| value))?.into_any().unbind()),
    }
}

/// Lone surrogates are no UTF-8: an encoding that holds one is written in hexadecimal.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
