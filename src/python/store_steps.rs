//! Single steps on a store from Python: claims, fills, invalidations. What caches do through `core::remote` is here done by hand, for tests
//! that hold a store to its promises. Blocks; decides nothing.

use super::bridge;
use super::store::{StoreCore, replies};
use crate::core::remote::cell::Under;
use crate::core::remote::{Filled, Found, Token, Version, Wanted};
use crate::io::store::stored::Stored;
use crate::io::store::{Action, Reply, Request};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::time::Duration;

type Made<'py> = PyResult<Bound<'py, PyAny>>;

/// Has these done together: each a dict with `key`, `action` and what that needs. The replies as tuples that begin with what it is.
#[pyfunction]
pub fn _ask_store<'py>(
    core: &Bound<'py, StoreCore>,
    requests: Vec<Bound<'py, PyDict>>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let py = core.py();
    let requests = requests.iter().map(request).collect::<PyResult<Vec<_>>>()?;
    let answers = bridge::ask_blocking(py, core.get().store(), requests)?;
    replies(answers)?.into_iter().map(|reply| shown(py, reply)).collect()
}

fn request(given: &Bound<'_, PyDict>) -> PyResult<Request> {
    let get = |name: &str| given.get_item(name).map(|found| found.filter(|value| !value.is_none()));
    let must = |name: &str| get(name)?.ok_or_else(|| PyValueError::new_err(format!("{name} is missing")));
    let span = |name: &str| -> PyResult<Option<Duration>> {
        Ok(get(name)?.map(|value| value.extract::<f64>()).transpose()?.map(Duration::from_secs_f64))
    };
    let life = || span("life")?.ok_or_else(|| PyValueError::new_err("life is missing"));
    let token = || Ok::<_, PyErr>(Token::new(must("token")?.extract()?));
    let version = |name: &str| -> PyResult<_> { Ok(get(name)?.map(|value| value.extract()).transpose()?.map(Version)) };
    let frame = || must("frame")?.extract::<Vec<u8>>();
    let action = match &*must("action")?.extract::<String>()? {
        "read" => Action::Read,
        "claim" => {
            let wanted = if get("anew")?.is_some() { Wanted::Anew } else { Wanted::Newer(version("newer_than")?) };
            Action::Claim { token: token()?, wanted, life: life()? }
        }
        "fill" => {
            let under = match (get("token")?.is_some(), version("version")?) {
                (true, _) => Under::Claim(token()?),
                (_, Some(version)) => Under::Version(version),
                _ if get("replace")?.is_some() => Under::Something,
                _ => Under::Nothing,
            };
            Action::Fill { under, newer_than: version("newer_than")?, frame: frame()?, keep: span("keep")?, tell: None }
        }
        "put" => Action::Put { frame: frame()?, keep: span("keep")?, tell: None },
        "invalidate" => Action::Invalidate { keep: life()?, by: None, tell: None },
        "delete" => Action::Delete,
        "renew" => Action::Renew { token: token()?, life: life()? },
        "release" => Action::Release { token: token()? },
        other => return Err(PyValueError::new_err(format!("no action {other:?}"))),
    };
    Ok(Request { key: must("key")?.extract::<String>()?.into_bytes().into(), action })
}

fn shown(py: Python<'_>, reply: Reply) -> Made<'_> {
    let frame = |stored: &Stored| PyBytes::new(py, stored.frame());
    Ok(match reply {
        Reply::Read(found) => ("read", found.as_ref().map(frame)).into_pyobject(py)?,
        Reply::Claimed(Found::Fresh(found)) => ("fresh", Some(frame(&found))).into_pyobject(py)?,
        Reply::Claimed(Found::Claimed(token, old)) => {
            return Ok(("claimed", token.bits(), old.as_ref().map(frame)).into_pyobject(py)?.into_any());
        }
        Reply::Filled(Filled::Written(version)) | Reply::Written(version) => {
            return Ok(("written", version.0).into_pyobject(py)?.into_any());
        }
        Reply::Filled(Filled::Lost(found)) => ("lost", Some(frame(&found))).into_pyobject(py)?,
        Reply::Filled(Filled::Gone) => return Ok(("gone",).into_pyobject(py)?.into_any()),
        Reply::Buried(version, _) => return Ok(("written", version.0).into_pyobject(py)?.into_any()),
        Reply::Done(done) => return Ok(("done", done).into_pyobject(py)?.into_any()),
        Reply::Moved(stamp) => return Ok(("moved", stamp).into_pyobject(py)?.into_any()),
        Reply::Told(told) => return Ok(("told", told.stamp).into_pyobject(py)?.into_any()),
        Reply::Scanned((keys, _)) => return Ok(("scanned", keys).into_pyobject(py)?.into_any()),
    }
    .into_any())
}
