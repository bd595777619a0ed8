//! The canonical encoding of call arguments: typed, length-framed text, so that two rows of arguments have the same
//! encoding only if they are the same call, in any process.
//!
//! Never `repr`, never `id`: what has no encoding is refused with the argument's name and the cure, or laid aside for its
//! own `==` with a mark in its place. Sets and dicts are ordered by their members' encodings.

use super::StateHandle;
use super::errors;
use super::options::shown;
use super::state::State;
use super::tier::Object;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
    PyType,
};

/// Deeper nesting is refused: it is a cycle, or no key.
const DEPTH: u32 = 64;

/// Why an argument has no encoding.
pub enum Refused {
    /// Its type has none.
    NoEncoding,
    /// Its own code raised.
    Raised(PyErr),
}

impl From<PyErr> for Refused {
    fn from(error: PyErr) -> Self {
        Refused::Raised(error)
    }
}

type Encoded = Result<(), Refused>;

/// Appends one value.
pub fn encode(state: &State, value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Encoded {
    Encoder { state, out, asked: None, depth: 0 }.any(value)
}

/// Appends one value. Hashable objects in it that have no encoding leave a mark and are returned, in order: two values
/// are the same if these bytes are, and each of those objects has the type of its counterpart and equals it.
pub fn encode_rest_aside(state: &State, value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Result<Vec<Object>, Refused> {
    let mut encoder = Encoder { state, out, asked: Some(Vec::new()), depth: 0 };
    encoder.any(value)?;
    Ok(encoder.asked.unwrap_or_default())
}

/// The encoding of a value, None if it has none: for `samovar/_batch.py`, where calls meet that are alike.
#[pyfunction]
pub fn _encoded<'py>(state: &StateHandle, value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let mut bytes = Vec::new();
    match encode(state.0, value, &mut bytes) {
        Ok(()) => Ok(Some(PyBytes::new(value.py(), &bytes))),
        Err(Refused::NoEncoding) => Ok(None),
        Err(Refused::Raised(error)) => Err(error),
    }
}

/// Stands for an object laid aside; no encoding begins with it.
const ASIDE: u8 = b'?';

struct Encoder<'a> {
    state: &'a State,
    out: &'a mut Vec<u8>,
    /// Objects without an encoding, if they may be laid aside.
    asked: Option<Vec<Object>>,
    depth: u32,
}

impl Encoder<'_> {
    fn framed(&mut self, tag: &str, bytes: &[u8]) {
        self.out.extend_from_slice(tag.as_bytes());
        self.out.extend_from_slice(bytes.len().to_string().as_bytes());
        self.out.push(b':');
        self.out.extend_from_slice(bytes);
    }

    fn text(&mut self, tag: &str, text: &Bound<'_, PyString>) -> Encoded {
        // Lone surrogates have no UTF-8, but are different all the same.
        let bytes = text.call_method1("encode", ("utf-8", "surrogatepass"))?;
        self.framed(tag, bytes.extract::<&[u8]>().map_err(PyErr::from)?);
        Ok(())
    }

    fn any(&mut self, value: &Bound<'_, PyAny>) -> Encoded {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Refused::NoEncoding);
        }
        let done = self.one(value);
        self.depth -= 1;
        done
    }

    fn one(&mut self, value: &Bound<'_, PyAny>) -> Encoded {
        if value.is_none() {
            self.out.push(b'N');
        } else if let Ok(flag) = value.cast_exact::<PyBool>() {
            self.out.push(if flag.is_true() { b'T' } else { b'F' });
        } else if value.is_exact_instance_of::<PyInt>() {
            self.out.extend_from_slice(whole(value)?.as_bytes());
        } else if value.is_exact_instance_of::<PyFloat>() {
            self.out.extend_from_slice(format!("f{:016x}", value.extract::<f64>()?.to_bits()).as_bytes());
        } else if let Ok(text) = value.cast_exact::<PyString>() {
            self.text("s", text)?;
        } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            self.hex("b", bytes.as_bytes());
        } else {
            return self.container(value);
        }
        Ok(())
    }

    fn hex(&mut self, tag: &str, bytes: &[u8]) {
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.framed(tag, text.as_bytes());
    }

    fn container(&mut self, value: &Bound<'_, PyAny>) -> Encoded {
        if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            self.row("t", tuple.iter())
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            self.row("l", list.iter())
        } else if value.is_exact_instance_of::<PySet>() || value.is_exact_instance_of::<PyFrozenSet>() {
            let tag = if value.is_exact_instance_of::<PySet>() { "S" } else { "Z" };
            let items = value.try_iter()?.collect::<PyResult<Vec<_>>>()?;
            self.sorted(tag, items.iter().map(|item| vec![item.clone()]).collect())
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            self.sorted("d", dict.iter().map(|(key, item)| vec![key, item]).collect())
        } else {
            self.object_or_aside(value)
        }
    }

    fn object_or_aside(&mut self, value: &Bound<'_, PyAny>) -> Encoded {
        let (length, count) = (self.out.len(), self.asked.as_ref().map_or(0, Vec::len));
        match (self.object(value), &mut self.asked) {
            (Err(Refused::NoEncoding), Some(asked)) if is_hashable(value) => {
                self.out.truncate(length);
                self.out.push(ASIDE);
                asked.truncate(count);
                asked.push(value.clone().unbind());
                Ok(())
            }
            (done, _) => done,
        }
    }

    fn row<'py>(&mut self, tag: &str, items: impl ExactSizeIterator<Item = Bound<'py, PyAny>>) -> Encoded {
        self.out.extend_from_slice(format!("{tag}{}(", items.len()).as_bytes());
        for item in items {
            self.any(&item)?;
        }
        self.out.push(b')');
        Ok(())
    }

    fn sorted(&mut self, tag: &str, members: Vec<Vec<Bound<'_, PyAny>>>) -> Encoded {
        let mut encodings = Vec::with_capacity(members.len());
        let mut unordered = Vec::new();
        for member in members {
            let py = member[0].py();
            let mut bytes = Vec::new();
            let asked = self.asked.as_ref().map(|_| Vec::new());
            let mut encoder = Encoder { state: self.state, out: &mut bytes, asked, depth: self.depth };
            member.iter().try_for_each(|part| encoder.any(part))?;
            match encoder.asked.filter(|asked| !asked.is_empty()) {
                None => encodings.push(bytes),
                Some(asked) => unordered.push(by_type_and_value(py, &bytes, &asked)?),
            }
        }
        encodings.sort_unstable();
        self.out.extend_from_slice(format!("{tag}{}(", encodings.len()).as_bytes());
        encodings.iter().for_each(|bytes| self.out.extend_from_slice(bytes));
        if let (Some(first), Some(asked)) = (unordered.first(), &mut self.asked) {
            // What has no encoding has no order: these members are compared as a set.
            self.out.push(ASIDE);
            asked.push(PyFrozenSet::new(first.py(), &unordered)?.into_any().unbind());
        }
        self.out.push(b')');
        Ok(())
    }

    /// Everything that is not a builtin container: by its class and what makes it up.
    fn object(&mut self, value: &Bound<'_, PyAny>) -> Encoded {
        let class = value.get_type();
        let names = &self.state.names;
        if let Ok(method) = class.getattr(&names.__cache_key__) {
            let own = method.call1((value,))?;
            return self.typed("k", &class, |encoder| encoder.own_key(&class, &own));
        }
        // SAFETY: a type object is valid as long as its instance is.
        if unsafe { self.state.is_enum_class(class.as_type_ptr()) } {
            let name = value.getattr("name")?;
            let shown = if name.is_none() { value.getattr("value")? } else { name };
            return self.typed("e", &class, |encoder| encoder.any(&shown));
        }
        if let Some(done) = self.standard(value, &class) {
            return done;
        }
        if class.hasattr("__dataclass_fields__")? && !value.is_instance_of::<PyType>() {
            return self.typed("c", &class, |encoder| encoder.dataclass(value));
        }
        if class.hasattr("model_fields")? && class.hasattr("__pydantic_validator__")? {
            let parts = ["__dict__", "__pydantic_extra__", "__pydantic_private__"];
            return self
                .typed("p", &class, |encoder| parts.iter().try_for_each(|part| encoder.any(&value.getattr(*part)?)));
        }
        self.subclass(value, &class)
    }

    /// What `__cache_key__` returned: that was the class's chance to say how it is encoded.
    fn own_key(&mut self, class: &Bound<'_, PyType>, own: &Bound<'_, PyAny>) -> Encoded {
        let asked = self.asked.take();
        let done = self.any(own);
        self.asked = asked;
        done.map_err(|refused| match refused {
            Refused::Raised(error) => Refused::Raised(error),
            Refused::NoEncoding => {
                let py = class.py();
                let name = class.qualname().map_or_else(|_| shown(class.as_any()), |name| name.to_string());
                let text = format!(
                    "__cache_key__ of {name} returned {}; return a str, or a tuple of plain values",
                    shown(own)
                );
                Refused::Raised(errors::key_type(py, text))
            }
        })
    }

    fn typed(&mut self, tag: &str, class: &Bound<'_, PyType>, body: impl FnOnce(&mut Self) -> Encoded) -> Encoded {
        let name = format!("{}.{}", class.module()?, class.qualname()?);
        self.framed(tag, name.as_bytes());
        self.out.push(b'(');
        body(self)?;
        self.out.push(b')');
        Ok(())
    }

    fn dataclass(&mut self, value: &Bound<'_, PyAny>) -> Encoded {
        let fields = value.getattr("__dataclass_fields__")?.call_method0("values")?;
        for field in fields.try_iter()? {
            let field = field?;
            let kept = field.getattr("compare")?.is_truthy()?;
            // ClassVar and InitVar pseudo-fields have no value of their own.
            let real = field.getattr("_field_type")?.getattr("name")?.extract::<String>()? == "_FIELD";
            if kept && real {
                let name = field.getattr("name")?.cast_into::<PyString>().map_err(PyErr::from)?;
                self.text("s", &name)?;
                self.any(&value.getattr(name)?)?;
            }
        }
        Ok(())
    }

    /// The standard library's own value types, by class name: importing their modules is left to the user.
    fn standard(&mut self, value: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> Option<Encoded> {
        let module = class.module().ok()?;
        let name = class.qualname().ok()?;
        let found = match (module.to_str().ok()?, name.to_str().ok()?) {
            ("datetime", "datetime") => self.datetime(value, class),
            ("datetime", "time") => self.datetime(value, class),
            ("datetime", "date") => self.by_methods(value, class, &["isoformat"]),
            ("datetime", "timedelta") => self.by_fields(value, class, &["days", "seconds", "microseconds"]),
            ("decimal", "Decimal") => self.by_methods(value, class, &["as_tuple"]),
            ("uuid", "UUID") => self.by_fields(value, class, &["int"]),
            ("fractions", "Fraction") => self.by_fields(value, class, &["numerator", "denominator"]),
            ("builtins", "range") => self.by_fields(value, class, &["start", "stop", "step"]),
            ("pathlib", "PosixPath" | "PurePosixPath" | "WindowsPath" | "PureWindowsPath") => {
                self.by_methods(value, class, &["__fspath__"])
            }
            ("pathlib._local", _) => self.by_methods(value, class, &["__fspath__"]),
            ("ipaddress", _) => self.by_methods(value, class, &["__str__"]),
            ("zoneinfo", "ZoneInfo") => self.by_fields(value, class, &["key"]),
            _ => return None,
        };
        Some(found)
    }

    fn by_fields(&mut self, value: &Bound<'_, PyAny>, class: &Bound<'_, PyType>, fields: &[&str]) -> Encoded {
        self.typed("o", class, |encoder| fields.iter().try_for_each(|field| encoder.any(&value.getattr(*field)?)))
    }

    fn by_methods(&mut self, value: &Bound<'_, PyAny>, class: &Bound<'_, PyType>, methods: &[&str]) -> Encoded {
        self.typed("o", class, |encoder| {
            methods.iter().try_for_each(|method| {
                let part = value.call_method0(*method)?;
                // A named tuple of plain parts: as the plain tuple it is.
                match part.cast::<PyTuple>() {
                    Ok(tuple) => encoder.row("t", tuple.iter()),
                    Err(_) => encoder.any(&part),
                }
            })
        })
    }

    /// 12:00Z and 14:00+02:00 are equal to Python but not the same argument; nor are the two folds of an hour.
    fn datetime(&mut self, value: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> Encoded {
        let zone = value.getattr("tzinfo")?;
        let key = if zone.is_none() {
            zone.clone()
        } else {
            zone.getattr("key").or_else(|_| value.call_method0("tzname"))?
        };
        self.typed("o", class, |encoder| {
            encoder.any(&value.call_method0("isoformat")?)?;
            encoder.any(&value.getattr("fold")?)?;
            encoder.any(&key)
        })
    }

    /// Subclasses of builtin types: the class, and the builtin value, if the class adds no state of its own.
    fn subclass(&mut self, value: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> Encoded {
        if value.is_instance_of::<PyTuple>() && class.hasattr("_fields")? {
            let tuple = value.cast::<PyTuple>().map_err(PyErr::from)?;
            return self.typed("n", class, |encoder| encoder.row("t", tuple.iter()));
        }
        if value.is_instance_of::<PyComplex>() {
            return self.by_fields(value, class, &["real", "imag"]);
        }
        if let Ok(array) = value.cast_exact::<PyByteArray>() {
            self.hex("B", &array.to_vec());
            return Ok(());
        }
        if has_state(value, class)? {
            return Err(Refused::NoEncoding);
        }
        self.typed("u", class, |encoder| encoder.builtin(value))
    }

    /// The builtin value inside a subclass's instance, whatever its class makes of `__int__`, `__str__` or `__iter__`.
    fn builtin(&mut self, value: &Bound<'_, PyAny>) -> Encoded {
        let py = value.py();
        if value.is_instance_of::<PyInt>() {
            self.any(&py.get_type::<PyInt>().call_method1("__int__", (value,))?)
        } else if value.is_instance_of::<PyFloat>() {
            self.any(&py.get_type::<PyFloat>().call_method1("__float__", (value,))?)
        } else if value.is_instance_of::<PyString>() {
            // SAFETY: a str or a subclass; the result is a new reference to an exact one.
            let plain = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_FromObject(value.as_ptr()))? };
            self.any(&plain)
        } else if let Ok(bytes) = value.cast::<PyBytes>() {
            self.hex("b", bytes.as_bytes());
            Ok(())
        } else if let Ok(tuple) = value.cast::<PyTuple>() {
            self.row("t", tuple.iter())
        } else if let Ok(list) = value.cast::<PyList>() {
            self.row("l", list.iter())
        } else if value.is_instance_of::<PyFrozenSet>() {
            self.any(&py.get_type::<PyFrozenSet>().call1((value,))?)
        } else if value.is_instance_of::<PySet>() {
            self.any(&py.get_type::<PySet>().call1((value,))?)
        } else if value.is_instance(&py.import("collections")?.getattr("OrderedDict")?)? {
            // Two of them are equal only if their order is.
            self.any(&py.get_type::<PyTuple>().call1((value.call_method0("items")?,))?)
        } else if value.is_instance_of::<PyDict>() {
            self.any(&py.get_type::<PyDict>().call1((value,))?)
        } else {
            Err(Refused::NoEncoding)
        }
    }
}

/// True if an instance holds more than the builtin value it extends: attributes or slots.
fn has_state(value: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<bool> {
    if let Ok(attributes) = value.getattr("__dict__")
        && attributes.is_truthy()?
    {
        return Ok(true);
    }
    for class in class.mro().iter() {
        let slots = class.getattr("__dict__")?.call_method1("get", ("__slots__",))?;
        if slots.is_truthy()? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A whole number: decimal, or hexadecimal beyond 64 bits, where Python limits how many decimals it writes.
fn whole(value: &Bound<'_, PyAny>) -> PyResult<String> {
    match value.extract::<i64>() {
        Ok(number) => Ok(format!("i{number};")),
        Err(_) => Ok(format!("i{};", hexadecimal(value)?)),
    }
}

/// A whole number as `0x...`, which Python writes at any length.
pub fn hexadecimal(value: &Bound<'_, PyAny>) -> PyResult<String> {
    value.call_method1("__format__", ("#x",))?.extract()
}

/// A member that holds objects laid aside, as something that Python compares by their types and values.
fn by_type_and_value<'py>(py: Python<'py>, bytes: &[u8], asked: &[Object]) -> PyResult<Bound<'py, PyTuple>> {
    let mut parts = vec![PyBytes::new(py, bytes).into_any()];
    for object in asked {
        let object = object.bind(py);
        parts.push(PyTuple::new(py, [object.get_type().as_any(), object])?.into_any());
    }
    PyTuple::new(py, parts)
}

/// True if Python can hash the value, so that a cache of this process can use it as it is.
pub fn is_hashable(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a look at the type of a valid object.
    unsafe {
        let none = ffi::PyObject_HashNotImplemented as *const ();
        (*ffi::Py_TYPE(value.as_ptr())).tp_hash.is_some_and(|hash| hash as *const () != none)
    }
}
