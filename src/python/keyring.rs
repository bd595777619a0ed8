//! `samovar.KeyRing`, and which of its keys `encrypt=` asks for. Keys are copied into Rust and never come back out.

use super::anchor::Anchor;
use super::errors;
use super::options::{refuse, shown};
use crate::codec::keyring::{self, Algorithm};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyMapping, PyString};
use std::sync::Arc;

/// Keys by id, for frames that leave the process: one writes, all read.
///
/// To change keys, add the new one as the first, and take the old one out when what it sealed has expired. Entries that are
/// read with an old key are written again with the new one. Never use an id again for another key. Each namespace gets subkeys of
/// its own. A ring never shows its keys, and cannot be pickled.
///
/// Args:
///     keys: 32 random bytes for each id from 1 to 4294967295, such as ``{1: secrets.token_bytes(32)}``.
///     algorithm: What the keys do: ``"auto"`` or ``"xchacha20-poly1305"`` encrypts, and so does ``"aes-gcm"``, good for 2^32 entries
///         a key and namespace; ``"sign"`` only authenticates, with keyed BLAKE3.
///     algorithms: What single keys do, by id, if something else. It belongs to the key and is never read from what is stored.
///     primary: The id of the key that writes; None: the first.
///
/// Raises:
///     ConfigError: An id, a key or an algorithm that cannot be; the message shows no key.
///
/// Example:
///     >>> import secrets
///     >>> from samovar import KeyRing
///     >>> KeyRing({2: secrets.token_bytes(32), 1: secrets.token_bytes(32)})
///     KeyRing({2: 'xchacha20-poly1305', 1: 'xchacha20-poly1305'}, primary=2)
#[pyclass(frozen, module = "samovar")]
pub struct KeyRing(Arc<keyring::KeyRing>);

#[pymethods]
impl KeyRing {
    #[new]
    #[pyo3(signature = (keys, *, algorithm = None, algorithms = None, primary = None))]
    fn new(
        keys: &Bound<'_, PyAny>,
        algorithm: Option<&Bound<'_, PyAny>>,
        algorithms: Option<&Bound<'_, PyAny>>,
        primary: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let _anchor = Anchor::hold();
        let usual = algorithm.map_or(Ok(Algorithm::XChaCha20Poly1305), |name| named(name, "algorithm"))?;
        let mut single = match algorithms {
            None => Vec::new(),
            Some(algorithms) => pairs(algorithms, "algorithms")?
                .iter()
                .map(|(id, name)| Ok((number(id, "algorithms")?, named(name, "algorithms")?)))
                .collect::<PyResult<Vec<_>>>()?,
        };
        let mut taken = Vec::new();
        for (id, bytes) in pairs(keys, "key_ring")? {
            let id = number(&id, "key_ring")?;
            let at = single.iter().position(|(other, _)| *other == id);
            let algorithm = at.map_or(usual, |at| single.swap_remove(at).1);
            taken.push((id, algorithm, key(id, bytes)?));
        }
        if let Some((id, _)) = single.first() {
            let text = format!("invalid algorithms: key id {id}; name ids that are among the keys");
            return Err(errors::config(keys.py(), text));
        }
        let ring =
            keyring::KeyRing::new(taken.iter().map(|(id, algorithm, bytes)| (*id, *algorithm, bytes.as_bytes())))?;
        let ring = match primary {
            None => ring,
            Some(id) => ring.with_primary(number(id, "primary")?)?,
        };
        Ok(KeyRing(Arc::new(ring)))
    }

    /// The ids of all keys, in the order given.
    #[getter]
    fn ids(&self) -> Vec<u32> {
        self.0.ids().collect()
    }

    /// The id of the key that writes.
    #[getter]
    fn primary(&self) -> u32 {
        self.0.primary()
    }

    fn __repr__(&self) -> String {
        let algorithm = |id| self.0.algorithm(id).map_or("", Algorithm::name);
        let keys: Vec<_> = self.0.ids().map(|id| format!("{id}: '{}'", algorithm(id))).collect();
        format!("KeyRing({{{}}}, primary={})", keys.join(", "), self.0.primary())
    }
}

type Pair<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

/// The items of a mapping. What else it is is not shown: it may be a key.
fn pairs<'py>(given: &Bound<'py, PyAny>, option: &str) -> PyResult<Vec<Pair<'py>>> {
    let Ok(mapping) = given.cast::<PyMapping>() else {
        let text = format!("invalid {option}: a {}; give a dict such as {{1: ...}}", kind(given));
        return Err(errors::config(given.py(), text));
    };
    mapping.items()?.iter().map(|pair| pair.extract()).collect()
}

fn number(given: &Bound<'_, PyAny>, option: &str) -> PyResult<u32> {
    let number = given.is_instance_of::<PyInt>() && !given.is_instance_of::<PyBool>();
    let id = if number { given.extract().ok() } else { None };
    // What is no number, or a very large one, might be a key in the wrong place.
    id.filter(|id| *id != 0).ok_or_else(|| {
        let shows = number && given.extract::<i64>().is_ok();
        let value = if shows { shown(given) } else { format!("of type {}", kind(given)) };
        let text = format!("invalid {option}: key id {value}; number keys from 1 to 4294967295");
        errors::config(given.py(), text)
    })
}

fn key<'py>(id: u32, given: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    given.cast_into::<PyBytes>().map_err(|error| {
        let given = error.into_inner();
        let text = format!(
            "invalid key_ring: a {} under id {id}; give 32 random bytes, such as secrets.token_bytes(32); a password is no key",
            kind(&given)
        );
        errors::config(given.py(), text)
    })
}

fn named(given: &Bound<'_, PyAny>, option: &str) -> PyResult<Algorithm> {
    let name = given.cast::<PyString>().ok().and_then(|name| name.to_str().ok().map(str::to_owned));
    let algorithm = name.and_then(|name| Algorithm::named(&name).ok());
    let cure = "use 'auto' (that is 'xchacha20-poly1305'), 'aes-gcm' or, to authenticate only, 'sign'";
    algorithm.ok_or_else(|| refuse_hidden(given, option, cure))
}

/// As [`refuse`], but shows texts only: anything else might be a key in the wrong place.
fn refuse_hidden(given: &Bound<'_, PyAny>, option: &str, cure: &str) -> PyErr {
    if given.is_instance_of::<PyString>() {
        return refuse(given, option, cure);
    }
    errors::config(given.py(), format!("invalid {option}: a {}; {cure}", kind(given)))
}

fn kind(given: &Bound<'_, PyAny>) -> String {
    given.get_type().name().map_or_else(|_| "value".into(), |name| name.to_string())
}

/// The ring that seals and unseals, and whether it seals what is written, as `key_ring=` and `encrypt=` say together.
pub fn sealing(
    key_ring: Option<&Bound<'_, PyAny>>,
    encrypt: &Bound<'_, PyAny>,
) -> PyResult<Option<(Arc<keyring::KeyRing>, bool)>> {
    let off = encrypt.is_instance_of::<PyBool>() && !encrypt.is_truthy()?;
    let cure = "use 'auto', 'aes-gcm', 'sign' or False";
    let asked =
        if off { None } else { Some(named(encrypt, "encrypt").map_err(|_| refuse_hidden(encrypt, "encrypt", cure))?) };
    let auto = encrypt.eq("auto")?;
    let Some(given) = key_ring else {
        return if off || auto {
            Ok(None)
        } else {
            Err(refuse(encrypt, "encrypt", "give key_ring={1: 32 random bytes} too"))
        };
    };
    let Ok(ring) = given.cast::<KeyRing>() else {
        let algorithm = if off { None } else { Some(encrypt) };
        return Ok(Some((KeyRing::new(given, algorithm, None, None)?.0, !off)));
    };
    let ring = &ring.get().0;
    match asked {
        Some(asked) if !auto && ring.algorithm(ring.primary()) != Some(asked) => {
            let cure =
                "the key that writes is for something else: leave encrypt out, or give the key_ring a primary for this";
            Err(refuse(encrypt, "encrypt", cure))
        }
        _ => Ok(Some((Arc::clone(ring), !off))),
    }
}
