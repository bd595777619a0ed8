//! A store as Python sees it: bytes by key, from a loop or from a thread. For `samovar/_redis.py` and its tests; caches go through
//! the same bridge, with what they ask being decided by `core::remote`.

use super::StateHandle;
use super::bridge::{self, Few, Whom};
use super::future::Future;
use super::pending::Holds;
use super::state::State;
use super::tier::Object;
use super::user_store::UserStore;
use super::{clock, options};
use crate::error::{Error, Result as StoreResult};
use crate::io::store::keys::Keys;
use crate::io::store::redis::tls::Tls;
use crate::io::store::{Action, Answer, Cursor, Reply, Request, Store, Tally};
use crate::{Redis, RedisOptions};
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use smallvec::smallvec;
use std::sync::Arc;

/// See the module.
#[pyclass(frozen, module = "samovar._core")]
pub struct StoreCore {
    state: &'static State,
    store: Arc<dyn Store>,
    /// By its address.
    #[pyo3(get)]
    name: String,
    /// The same store, if it is one of the user's.
    user: Option<UserStore>,
}

/// Those to trust, ours, its key, and the name that the server's is for.
type Pems = (Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>, Option<String>);

fn redis(url: &str, options: RedisOptions) -> StoreResult<(Arc<dyn Store>, String)> {
    let redis = Redis::with(url, options)?;
    let name = redis.name().to_owned();
    Ok((Arc::new(redis), name))
}

const BUDGET: &str = "give seconds > 0, a timedelta or a text such as '250ms'";

#[pymethods]
impl StoreCore {
    /// Redis, from what was checked in `samovar/_redis.py`. Connects nowhere yet.
    #[staticmethod]
    #[pyo3(signature = (state, url, *, timeout, connect_timeout, username, password, tls, client_name, prefix, connections))]
    #[allow(clippy::too_many_arguments, reason = "one call in samovar/_redis.py")]
    fn _redis(
        state: &StateHandle,
        url: &str,
        timeout: &Bound<'_, PyAny>,
        connect_timeout: &Bound<'_, PyAny>,
        username: Option<String>,
        password: Option<String>,
        tls: Pems,
        client_name: Option<String>,
        prefix: String,
        connections: usize,
    ) -> PyResult<Self> {
        let (ca, certificate, key, server_name) = tls;
        let (store, name) = redis(
            url,
            RedisOptions {
                timeout: options::time(timeout, "timeout", BUDGET)?,
                connect_timeout: options::time(connect_timeout, "connect_timeout", BUDGET)?,
                username,
                password,
                tls: Tls { ca, certificate, key, server_name },
                client_name,
                prefix,
                connections,
                ..RedisOptions::default()
            },
        )?;
        Ok(StoreCore { state: state.0, store, name, user: None })
    }

    /// A user's own store: see `samovar.Store`. Nothing of it is called yet.
    #[staticmethod]
    #[pyo3(signature = (state, store, *, timeout))]
    fn _user(state: &StateHandle, store: &Bound<'_, PyAny>, timeout: &Bound<'_, PyAny>) -> PyResult<Self> {
        let user = UserStore::new(store, options::time(timeout, "timeout", BUDGET)?, clock::shared().clone())?;
        let (store, name) = (Arc::new(user.clone()), user.name().to_owned());
        Ok(StoreCore { state: state.0, store, name, user: Some(user) })
    }

    /// Waits for so many seconds at most until the thread of a user's store that was closed has ended; true if it has.
    fn _wait_for_end(&self, py: Python<'_>, seconds: f64) -> bool {
        let limit = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
        py.detach(|| self.user.as_ref().is_none_or(|user| user.wait_for_end(limit)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.user.as_ref().filter(|_| Arc::strong_count(&self.store) == 1).map_or(Ok(()), |user| user.traverse(&visit))
    }

    fn __clear__(&self) {
        self.user.iter().for_each(UserStore::clear);
    }

    /// A future of the frame under a key, or None.
    fn get<'py>(&self, key: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.ask(key.py(), smallvec![read(key)?], Vec::new(), one_frame)
    }

    /// A future of the frames that are there, by key.
    fn get_many<'py>(&self, py: Python<'py>, keys: Vec<Bound<'py, PyString>>) -> PyResult<Bound<'py, PyAny>> {
        let (requests, given) = reads(keys)?;
        self.ask(py, requests, given, frames)
    }

    /// The same, waited for by this thread.
    fn get_many_sync<'py>(&self, py: Python<'py>, keys: Vec<Bound<'py, PyString>>) -> PyResult<Object> {
        let (requests, given) = reads(keys)?;
        frames(py, &given, replies(bridge::ask_blocking(py, &self.store, requests)?)?)
    }

    /// A future of nothing, when all of these are written: (frame, ttl or None) by key.
    fn set_many<'py>(&self, items: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
        self.ask(items.py(), writes(items)?, Vec::new(), nothing)
    }

    /// The same, waited for by this thread.
    fn set_many_sync(&self, items: &Bound<'_, PyDict>) -> PyResult<()> {
        replies(bridge::ask_blocking(items.py(), &self.store, writes(items)?)?).map(drop)
    }

    /// A future of nothing, when all of these are gone.
    fn delete_many<'py>(&self, py: Python<'py>, keys: Vec<Bound<'py, PyString>>) -> PyResult<Bound<'py, PyAny>> {
        let delete = |key: &Bound<'py, PyString>| Ok(Request { key: bytes_of(key)?.into(), action: Action::Delete });
        let requests = keys.iter().map(delete).collect::<PyResult<_>>()?;
        self.ask(py, requests, Vec::new(), nothing)
    }

    /// A future of some keys that begin so, and of where to go on, `None` after the last.
    fn _page<'py>(&self, py: Python<'py>, prefix: &str, from_: Option<(usize, u64)>) -> PyResult<Bound<'py, PyAny>> {
        let from = from_.map_or_else(Cursor::default, |(server, at)| Cursor { server, at });
        let here = bridge::here(py, self.state)?;
        let (given, convert, future) = (Vec::new(), page as Convert, Future::new(self.state, &here)?);
        let whom = Whom::Reader(Reader { future: future.clone_ref(py), given, convert });
        bridge::scan(self.state, &here, &self.store, (prefix.as_bytes(), from), whom)?;
        Ok(future.into_object().into_bound(py))
    }

    /// What it has been asked and has answered, by name.
    fn tally<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        tally(py, &*self.store)
    }

    /// Gives the connections back. What is under way ends with an error.
    fn close(&self) {
        self.store.close();
    }
}

/// What a store has been asked and has answered, by name.
pub fn tally<'py>(py: Python<'py>, store: &dyn Store) -> PyResult<Bound<'py, PyDict>> {
    let Tally {
        reads,
        claims,
        writes,
        others,
        found,
        retries,
        timeouts,
        unreachable,
        refused,
        connects,
        outages,
        untold,
        unheard,
        lost: _, // How often each cache may have missed something, it counts itself.
    } = store.tally();
    let dict = PyDict::new(py);
    for (name, count) in [
        ("reads", reads),
        ("claims", claims),
        ("writes", writes),
        ("others", others),
        ("found", found),
        ("retries", retries),
        ("timeouts", timeouts),
        ("unreachable", unreachable),
        ("refused", refused),
        ("connects", connects),
        ("outages", outages),
        ("untold", untold),
        ("unheard", unheard),
    ] {
        dict.set_item(name, count)?;
    }
    Ok(dict)
}

impl StoreCore {
    /// The store itself.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn ask<'py>(
        &self,
        py: Python<'py>,
        requests: Few<Request>,
        given: Vec<Object>,
        convert: Convert,
    ) -> PyResult<Bound<'py, PyAny>> {
        let here = bridge::here(py, self.state)?;
        let future = Future::new(self.state, &here)?;
        let reader = Reader { future: future.clone_ref(py), given, convert };
        if requests.is_empty() {
            reader.told(py, Few::new());
        } else {
            bridge::ask(self.state, &here, &self.store, requests, Whom::Reader(reader));
        }
        Ok(future.into_object().into_bound(py))
    }
}

/// Makes of all replies to one call what its caller gets.
type Convert = fn(Python<'_>, &[Object], Few<Reply>) -> PyResult<Object>;

/// Who waits for what is made of the replies.
pub struct Reader {
    /// For this.
    pub future: Future,
    /// What `convert` needs of the call.
    given: Vec<Object>,
    convert: Convert,
}

impl Holds for Reader {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        visit(self.future.object()) && self.given.iter().all(visit)
    }
}

impl Reader {
    /// Makes it of the answers.
    pub fn told(&self, py: Python<'_>, answers: Few<Answer>) {
        self.future.settle(py, replies(answers).and_then(|replies| (self.convert)(py, &self.given, replies)));
    }
}

/// What was answered, or the first error.
pub fn replies(answers: Few<Answer>) -> PyResult<Few<Reply>> {
    answers.into_iter().collect::<Result<_, _>>().map_err(|error| PyErr::from(Error::Store(error)))
}

fn reads(keys: Vec<Bound<'_, PyString>>) -> PyResult<(Few<Request>, Vec<Object>)> {
    let mut all = Keys::default();
    for key in &keys {
        let text = key.to_str()?;
        all.add(|out| out.extend_from_slice(text.as_bytes()));
    }
    let requests = all.into_slices().map(|key| Request { key, action: Action::Read }).collect();
    Ok((requests, keys.into_iter().map(|key| key.into_any().unbind()).collect()))
}

fn bytes_of(key: &Bound<'_, PyString>) -> PyResult<Vec<u8>> {
    Ok(key.to_str()?.as_bytes().to_vec())
}

fn read(key: &Bound<'_, PyString>) -> PyResult<Request> {
    Ok(Request { key: bytes_of(key)?.into(), action: Action::Read })
}

fn writes(items: &Bound<'_, PyDict>) -> PyResult<Few<Request>> {
    let write = |(key, item): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
        let (frame, ttl) = item.extract::<(Bound<'_, PyBytes>, Bound<'_, PyAny>)>()?;
        let keep = options::ttl(&ttl, "ttl", false)?;
        let action = Action::Put { frame: frame.as_bytes().to_vec(), keep, tell: None };
        Ok(Request { key: bytes_of(key.cast::<PyString>()?)?.into(), action })
    };
    items.iter().map(write).collect()
}

fn frame(py: Python<'_>, reply: &Reply) -> Option<Object> {
    match reply {
        Reply::Read(Some(stored)) => Some(PyBytes::new(py, stored.frame()).into_any().unbind()),
        _ => None,
    }
}

fn one_frame(py: Python<'_>, _: &[Object], replies: Few<Reply>) -> PyResult<Object> {
    Ok(replies.first().and_then(|reply| frame(py, reply)).unwrap_or_else(|| py.None()))
}

fn frames(py: Python<'_>, keys: &[Object], replies: Few<Reply>) -> PyResult<Object> {
    let found = PyDict::new(py);
    for (key, reply) in keys.iter().zip(&replies) {
        if let Some(frame) = frame(py, reply) {
            found.set_item(key, frame)?;
        }
    }
    Ok(found.into_any().unbind())
}

fn nothing(py: Python<'_>, _: &[Object], _: Few<Reply>) -> PyResult<Object> {
    Ok(py.None())
}

fn page(py: Python<'_>, _: &[Object], replies: Few<Reply>) -> PyResult<Object> {
    let Some(Reply::Scanned((keys, next))) = replies.into_iter().next() else {
        return Err(PyRuntimeError::new_err("a scan was answered with something else"));
    };
    // A key that is no text is nobody's of ours.
    let keys: Vec<String> = keys.into_iter().filter_map(|key| String::from_utf8(key).ok()).collect();
    let next = next.map(|cursor| (cursor.server, cursor.at));
    Ok((keys, next).into_pyobject(py)?.into_any().unbind())
}
