//! Redis as a store: one server, a cluster, or the master that sentinels name; TCP, TLS or a UNIX socket.
//!
//! The `redis` crate says what replies mean; its connections are not used. Its connection manager hides an outage for seconds, its
//! cluster client retries out of sight, its sentinel client does not follow a failover: each call has one time budget here, and each
//! server a breaker. The ways of a request:
//! - [`url`] and [`tls`] say where and how; `script` what is asked for, and what an answer means, `lua` what a server does then;
//! - `flow` takes requests to their servers and back, `topology` says which those are: `cluster`, `sentinel`, and `finder` for what has to
//!   be found out first;
//! - `node` is one server with its few connections, `link` one connection, `wire` its commands, `incoming` their replies, `resp` where one
//!   ends, `stream` and `socket` its bytes; `trouble` is what goes wrong, in words;
//! - `bus` hears what others do, on connections of its own.

mod bus;
mod cluster;
mod finder;
mod flow;
mod incoming;
mod link;
mod lua;
mod node;
mod resp;
mod script;
mod sentinel;
mod sizes;
mod socket;
mod stream;
pub mod tls;
mod topology;
mod trouble;
pub mod url;
mod wire;

use super::ear::{Ear, Listening};
use super::{Answers, Cursor, Page, Paging, Request, Store, Tally};
use crate::core::clock::Clock;
use crate::core::coherence::Origin;
use crate::core::draw::unit;
use crate::error::{Error, Result, StoreError, StoreFailure};
use crate::io::process::PerProcess;
use crate::io::runtime;
use ::redis::{Value, pipe};
use bytes::Bytes;
use node::{Lane, Settings};
use parking_lot::Mutex;
use sizes::Sizes;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tls::{Opener, Tls};
use tokio::runtime::Handle;
use tokio::time::Instant;
use topology::Topology;
use url::{Address, Layout, Url};

/// How to reach a Redis, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// The whole of what a call may take, connecting and trying again included; default 0.25 s.
    pub timeout: Duration,
    /// What a connection may take to come up, behind the calls that wait for it; default 1 s.
    pub connect_timeout: Duration,
    /// The ACL user, in the place of the URL's.
    pub username: Option<String>,
    /// The password, in the place of the URL's.
    pub password: Option<String>,
    /// User and password of the sentinels, if they ask for one.
    pub sentinel_login: Option<(Option<String>, String)>,
    /// Whom to trust and who we are, for `rediss://`.
    pub tls: Tls,
    /// What the connections call themselves.
    pub client_name: Option<String>,
    /// In front of every key.
    pub prefix: String,
    /// Connections to each server, however many callers there are: 2 to 4, one of them for values over 64 kB; default 2.
    pub connections: usize,
}

impl Default for RedisOptions {
    fn default() -> Self {
        RedisOptions {
            timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(1),
            username: None,
            password: None,
            sentinel_login: None,
            tls: Tls::default(),
            client_name: None,
            prefix: String::new(),
            connections: 2,
        }
    }
}

/// See the module. Opening it connects nowhere: that is done when it is first asked, and again after each failure. Cloning gives
/// another handle to the same connections, which are given back with the last, or by [`close`](Store::close).
#[derive(Clone)]
pub struct Redis(Arc<Opened>);

/// What outlives a fork; the rest each process has its own of.
struct Opened {
    url: Url,
    settings: Box<dyn Fn() -> [Arc<Settings>; 2] + Send + Sync>,
    timeout: Duration,
    prefix: String,
    name: String,
    inner: PerProcess<Arc<Inner>>,
    closed: AtomicBool,
}

/// What this process has of it.
pub(crate) struct Inner {
    topology: Topology,
    bus: Arc<bus::Bus>,
    settings: Arc<Settings>,
    prefix: Vec<u8>,
    sizes: Sizes,
    /// True once a server has refused to read several keys together.
    reads_apart: AtomicBool,
    tally: Mutex<Tally>,
    spent: Mutex<Vec<Vec<flow::Item>>>,
    closed: AtomicBool,
    /// Where all of it runs.
    runtime: Handle,
}

/// A random number from 0 up to 1.
fn draw() -> f64 {
    getrandom::u64().map_or(1.0, unit)
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("at", &self.0.name).finish_non_exhaustive()
    }
}

impl Redis {
    /// The Redis at this URL, see [`url`].
    ///
    /// # Errors
    ///
    /// A configuration error that says what is wrong with the URL. An unreachable server is none.
    pub fn open(url: &str) -> Result<Self> {
        Self::with(url, RedisOptions::default())
    }

    /// The same, with options.
    ///
    /// # Errors
    ///
    /// A configuration error that names the option.
    pub fn with(url: &str, options: RedisOptions) -> Result<Self> {
        lua::prepare();
        let mut url = url::parse(url)?;
        check(&options, &url)?;
        let name = name(&url);
        url.username = options.username.clone().or(url.username);
        url.password = options.password.clone().or(url.password);
        url.client_name = options.client_name.clone().or(url.client_name);
        let tls = if url.tls { Some(Opener::new(&options.tls)?) } else { None };
        let (timeout, prefix) = (options.timeout, options.prefix.clone());
        let of = url.clone();
        let settings = Box::new(move || settings(&of, &options, tls.as_ref()));
        let (inner, closed) = (PerProcess::new(), AtomicBool::new(false));
        Ok(Redis(Arc::new(Opened { url, settings, timeout, prefix, name, inner, closed })))
    }

    /// The store, by its address.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Why whoever listens hears nothing at present, if that is so.
    pub fn why_deaf(&self) -> Option<StoreError> {
        self.0.inner.get().and_then(|inner| inner.bus.why())
    }

    fn inner(&self) -> std::io::Result<&Arc<Inner>> {
        let opened = &*self.0;
        opened.inner.get_or_make(|| {
            let runtime = runtime::handle()?.clone();
            // What tasks there are later on are spawned from within the runtime.
            let within = runtime.enter();
            let [settings, asking] = (opened.settings)();
            let topology = Topology::new(&opened.url, &settings, &asking, &opened.name);
            let prefix = opened.prefix.clone().into_bytes();
            drop(within);
            let bus = bus::Bus::new(&topology, &prefix, settings.database);
            let (sizes, tally, spent) = (Sizes::default(), Mutex::default(), Mutex::default());
            let (reads_apart, closed) = (AtomicBool::new(false), AtomicBool::new(false));
            Ok(Arc::new(Inner { topology, bus, settings, prefix, sizes, reads_apart, tally, spent, closed, runtime }))
        })
    }

    fn no_thread(&self, error: &std::io::Error) -> StoreError {
        let what = format!("no thread for its connections: {error}");
        trouble::undone(StoreFailure::Unreachable, &self.0.name, what, "let the process have one more thread")
    }
}

fn check(options: &RedisOptions, url: &Url) -> Result<()> {
    for (option, time) in [("timeout", options.timeout), ("connect_timeout", options.connect_timeout)] {
        if time.is_zero() || time > Duration::from_secs(3600) {
            return Err(Error::config(option, format!("{time:?}"), "give more than zero and at most an hour"));
        }
    }
    if !(2..=4).contains(&options.connections) {
        return Err(Error::config("connections", options.connections.to_string(), "give 2 to 4"));
    }
    if let Some(name) = &options.client_name
        && !url::fits_as_name(name)
    {
        return Err(Error::config("client_name", format!("{name:?}"), url::NAME));
    }
    let has_password = options.password.is_some() || url.password.is_some();
    let has_user = options.username.is_some() || url.username.is_some();
    if has_user && !has_password {
        return Err(Error::config(
            "username",
            "one without a password",
            "give the user's password too, or leave both out",
        ));
    }
    Ok(())
}

fn name(url: &Url) -> String {
    let all: Vec<String> = url.addresses.iter().map(Address::to_string).collect();
    match &url.layout {
        Layout::Single => format!("redis at {}", all.join(",")),
        Layout::Cluster => format!("redis cluster at {}", all.join(",")),
        Layout::Sentinel(service) => format!("redis {service:?} by sentinels at {}", all.join(",")),
    }
}

/// For the servers, and for sentinels.
fn settings(url: &Url, options: &RedisOptions, tls: Option<&Opener>) -> [Arc<Settings>; 2] {
    let of = |username: Option<String>, password: Option<String>, database| {
        Arc::new(Settings {
            clock: Clock::system(),
            timeout: options.timeout,
            connect_timeout: options.connect_timeout,
            username,
            password,
            client_name: url.client_name.clone(),
            database,
            resp3: url.resp3,
            tls: tls.cloned(),
            connections: options.connections,
            connects: Default::default(),
            outages: Default::default(),
        })
    };
    let login = options.sentinel_login.clone();
    let (username, password) = login.map_or((None, None), |(username, password)| (username, Some(password)));
    [of(url.username.clone(), url.password.clone(), url.database), of(username, password, 0)]
}

impl Inner {
    fn prefix_key(&self, key: &mut Bytes) {
        if !self.prefix.is_empty() {
            *key = [&self.prefix[..], key].concat().into();
        }
    }

    fn place(&self) -> script::Place<'_> {
        let is_one = !matches!(self.topology, Topology::Cluster(..));
        script::Place { prefix: &self.prefix, database: self.settings.database, is_one }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    fn close(&self) {
        self.closed.store(true, Relaxed);
        self.bus.close();
        self.topology.close();
    }

    async fn page(self: Arc<Self>, prefix: Vec<u8>, from: Cursor) -> Result<Page, StoreError> {
        let deadline = Instant::now() + self.settings.timeout;
        let masters = self.topology.masters(deadline).await?;
        let Some(master) = masters.get(from.server) else { return Ok((Vec::new(), None)) };
        let pattern = [escaped(&self.prefix), escaped(&prefix), b"*".to_vec()].concat();
        let mut scan = pipe();
        scan.cmd("SCAN").arg(from.at).arg("MATCH").arg(pattern).arg("COUNT").arg(SCANNED);
        let replies = master.ask(Lane::Large, &scan, deadline).await?;
        let (next, keys) = match replies.into_iter().next() {
            Some(Value::ServerError(error)) => return Err(trouble::not_let_in(&master.name, &error)),
            Some(value) => page(value).ok_or_else(|| trouble::nonsense(&master.name))?,
            None => return Err(trouble::nonsense(&master.name)),
        };
        let own = |key: Vec<u8>| key.strip_prefix(&*self.prefix).map(<[u8]>::to_vec);
        let cursor = match next {
            0 if from.server + 1 < masters.len() => Some(Cursor { server: from.server + 1, at: 0 }),
            0 => None,
            at => Some(Cursor { at, ..from }),
        };
        Ok((keys.into_iter().filter_map(own).collect(), cursor))
    }
}

/// Keys that a server looks at for one page of a scan.
const SCANNED: u32 = 1000;

fn page(value: Value) -> Option<(u64, Vec<Vec<u8>>)> {
    let Value::Array(parts) = value else { return None };
    let [Value::BulkString(next), Value::Array(keys)] = parts.as_slice() else { return None };
    let bytes = |key: &Value| if let Value::BulkString(bytes) = key { Some(bytes.clone()) } else { None };
    Some((std::str::from_utf8(next).ok()?.parse().ok()?, keys.iter().map(bytes).collect::<Option<_>>()?))
}

/// A pattern that matches these bytes.
fn escaped(text: &[u8]) -> Vec<u8> {
    let special = |byte: &u8| b"*?[]^-\\".contains(byte);
    text.iter().flat_map(|byte| special(byte).then_some(b'\\').into_iter().chain([*byte])).collect()
}

impl Store for Redis {
    fn submit(&self, requests: Vec<Request>, answers: Answers) {
        let fail =
            |count: usize, error: &StoreError| answers.give((0..count).map(|at| (at, Err(error.clone()))).collect());
        if self.0.closed.load(Relaxed) {
            return fail(requests.len(), &trouble::closed(&self.0.name));
        }
        match self.inner() {
            Ok(inner) => {
                {
                    let mut tally = inner.tally.lock();
                    requests.iter().for_each(|request| tally.ask(&request.action));
                }
                flow::submit(inner, requests, &answers, Instant::now() + self.0.timeout);
            }
            Err(error) => fail(requests.len(), &self.no_thread(&error)),
        }
    }

    fn scan(&self, prefix: &[u8], from: Cursor) -> Paging {
        match self.inner() {
            Ok(inner) => {
                let paging = inner.runtime.spawn(Arc::clone(inner).page(prefix.to_vec(), from));
                let name = self.0.name.clone();
                Box::pin(async move { paging.await.unwrap_or_else(|_| Err(trouble::closed(&name))) })
            }
            Err(error) => Box::pin(std::future::ready(Err(self.no_thread(&error)))),
        }
    }

    fn tally(&self) -> Tally {
        self.0.inner.get().map_or(Tally::default(), |inner| {
            let (connects, outages) = (inner.settings.connects.load(Relaxed), inner.settings.outages.load(Relaxed));
            let (lost, unheard) = inner.bus.counts();
            Tally { connects, outages, lost, unheard, ..*inner.tally.lock() }
        })
    }

    fn listen(&self, cache: &[u8], origin: Origin, external: bool, ear: Arc<dyn Ear>) -> Option<Listening> {
        // Without a thread nothing is ever heard.
        let deaf = |_| Listening::until_dropped(());
        Some(self.inner().map_or_else(deaf, |inner| inner.bus.listen(inner, cache, origin, external, ear)))
    }

    fn counts_messages(&self) -> bool {
        self.inner().is_ok_and(|inner| inner.place().is_one)
    }

    fn close(&self) {
        self.0.close();
    }
}

impl Opened {
    fn close(&self) {
        self.closed.store(true, Relaxed);
        if let Some(inner) = self.inner.get() {
            inner.close();
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.close();
    }
}
