//! Events: who listens to what happens in a cache, and how they are told.
//!
//! A listener is called after the operation and outside the table, on the thread that did it; what the sweeper frees is
//! told on the sweeper's. One that raises harms nothing, and none is told of what it does itself, so that no event can
//! cause others for ever. While nobody listens an operation reads one number, and a hit not even that: see
//! [`Tier::look_where`].

use super::anchor::Anchor;
use super::guarded::Guarded;
use super::keys;
use super::options::shown;
use super::spot::Spot;
use super::tier::{Gone, Object, Space, Tier, let_go};
use super::{copy, errors};
use crate::core::clock::NEVER;
use crate::core::key::is_below;
use crate::core::memory::{Left, Reason};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A lookup was answered.
    Hit,
    /// A lookup was answered with a value past its freshness.
    Stale,
    /// A lookup found nothing usable.
    Miss,
    /// A load ended with a value.
    Load,
    /// A load ended with an error.
    LoadError,
    /// A value was put into memory.
    Store,
    /// An entry was dropped, whatever its time.
    Evict,
    /// An entry's time was over.
    Expire,
    /// A key, a function or a namespace was invalidated.
    Invalidate,
    /// A circuit breaker of a loader opened, is tried, or closed.
    Breaker,
    /// Warming came to its end.
    WarmCompleted,
}

/// Events that later versions will have.
const LATER: [&str; 2] = ["store_error", "lock_lost"];

impl Kind {
    const ALL: [Kind; 11] = [
        Kind::Hit,
        Kind::Stale,
        Kind::Miss,
        Kind::Load,
        Kind::LoadError,
        Kind::Store,
        Kind::Evict,
        Kind::Expire,
        Kind::Invalidate,
        Kind::Breaker,
        Kind::WarmCompleted,
    ];

    /// The name that users write.
    const fn name(self) -> &'static str {
        match self {
            Kind::Hit => "hit",
            Kind::Stale => "stale",
            Kind::Miss => "miss",
            Kind::Load => "load",
            Kind::LoadError => "load_error",
            Kind::Store => "store",
            Kind::Evict => "evict",
            Kind::Expire => "expire",
            Kind::Invalidate => "invalidate",
            Kind::Breaker => "breaker",
            Kind::WarmCompleted => "warm_completed",
        }
    }

    /// True for what the hit path would not tell of.
    const fn is_hit(self) -> bool {
        matches!(self, Kind::Hit | Kind::Stale)
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The event of this name.
    pub fn parse(event: &Bound<'_, PyAny>) -> PyResult<Kind> {
        let name = event.extract::<&str>().unwrap_or_default();
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Kind::name).join(", ");
            let yet = if LATER.contains(&name) { "this version does not have it yet; " } else { "" };
            errors::config(event.py(), format!("invalid event: {}; {yet}give one of {names}", shown(event)))
        })
    }
}

/// Checks the name of an event, for `samovar/_events.py`.
#[pyfunction]
pub fn _check_event(event: &Bound<'_, PyAny>) -> PyResult<()> {
    Kind::parse(event).map(drop)
}

struct Listener {
    number: u64,
    kind: Kind,
    /// It is told of this namespace and those below it.
    path: String,
    callable: Object,
    closed: AtomicBool,
    /// Whether it has raised, which is reported once.
    failed: AtomicBool,
}

static NUMBERS: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The listeners that this thread is in. Nothing to be freed: a thread that a fork leaves behind frees nothing.
    static INSIDE: Cell<Inside> = const { Cell::new(Inside { numbers: [0; DEPTH], depth: 0 }) };
}

/// Nobody is told of what happens within so many listeners one in the other.
const DEPTH: usize = 16;

/// Listeners by number, the outermost first.
#[derive(Clone, Copy)]
struct Inside {
    numbers: [u64; DEPTH],
    depth: usize,
}

impl Inside {
    fn is_full(&self) -> bool {
        self.depth == DEPTH
    }

    fn contains(&self, number: u64) -> bool {
        self.numbers[..self.depth].contains(&number)
    }

    /// One more, until what is returned is dropped. It is not full.
    fn enter(mut self, number: u64) -> Leaving {
        let before = Leaving(self);
        self.numbers[self.depth] = number;
        INSIDE.set(Inside { depth: self.depth + 1, ..self });
        before
    }
}

/// Where a thread returns to.
struct Leaving(Inside);

impl Drop for Leaving {
    fn drop(&mut self) {
        INSIDE.set(self.0);
    }
}

/// The listeners of one cache.
#[derive(Default)]
pub struct Listeners {
    /// A bit for each kind that somebody listens to.
    heard: AtomicU32,
    all: Guarded<Vec<Arc<Listener>>>,
}

impl Listeners {
    /// True if somebody listens to anything.
    #[inline]
    pub fn any(&self) -> bool {
        self.heard.load(Relaxed) != 0
    }

    /// True if somebody listens to this, somewhere in the cache.
    #[inline]
    pub fn hear(&self, kind: Kind) -> bool {
        self.heard.load(Relaxed) & kind.bit() != 0
    }

    /// True if somebody listens to the hits of a namespace.
    pub fn hear_hits(&self, path: &str) -> bool {
        let concerns = |listener: &Arc<Listener>| listener.kind.is_hit() && is_below(path, &listener.path);
        (self.hear(Kind::Hit) || self.hear(Kind::Stale)) && self.all.lock().iter().any(concerns)
    }

    fn add(&self, kind: Kind, path: &str, callable: Object) -> u64 {
        let number = NUMBERS.fetch_add(1, Relaxed);
        let listener =
            Listener { number, kind, path: path.to_owned(), callable, closed: false.into(), failed: false.into() };
        let mut all = self.all.lock();
        all.push(Arc::new(listener));
        self.count(&all);
        number
    }

    /// The listener is the caller's, to be dropped when nothing is locked.
    fn remove(&self, number: u64) -> Option<Arc<Listener>> {
        let mut all = self.all.lock();
        let at = all.iter().position(|listener| listener.number == number)?;
        let listener = all.remove(at);
        self.count(&all);
        listener.closed.store(true, Relaxed);
        Some(listener)
    }

    fn count(&self, all: &[Arc<Listener>]) {
        self.heard.store(all.iter().fold(0, |heard, listener| heard | listener.kind.bit()), Relaxed);
    }

    /// Who is to be told; not those who do this themselves.
    fn of(&self, kind: Kind, space: &Space, whole: bool) -> Vec<Arc<Listener>> {
        let concerns = |listener: &Listener| {
            is_below(&space.path, &listener.path) || (whole && is_below(&listener.path, &space.path))
        };
        let (inside, all) = (INSIDE.get(), self.all.lock());
        let told = |listener: &&Arc<Listener>| {
            listener.kind == kind && concerns(listener) && !inside.is_full() && !inside.contains(listener.number)
        };
        all.iter().filter(told).cloned().collect()
    }

    /// For the collector.
    pub fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        self.all.lock().iter().all(|listener| visit(&listener.callable))
    }

    /// Ends all of them; for the collector.
    pub fn clear(&self) {
        let all = std::mem::take(&mut *self.all.lock());
        self.heard.store(0, Relaxed);
        drop(all);
    }
}

impl Listener {
    /// Calls it. What it raises is reported the first time, and stops nothing.
    fn call(&self, event: &Bound<'_, PyAny>) {
        if self.closed.load(Relaxed) {
            return;
        }
        let (py, inside) = (event.py(), INSIDE.get().enter(self.number));
        let called = self.callable.bind(py).call1((event,));
        drop(inside);
        let Err(error) = called else { return };
        if error.is_instance_of::<PyKeyboardInterrupt>(py) {
            // Not the listener's to swallow: it is raised again, where the program can see it.
            // SAFETY: always callable.
            unsafe { ffi::PyErr_SetInterrupt() };
        } else if !self.failed.swap(true, Relaxed) {
            let note = format!(
                "a listener of {:?} raised this; the cache goes on, and what it raises from now on is not reported",
                self.kind.name()
            );
            // The note is a courtesy: without it the error is reported all the same.
            drop(error.value(py).call_method1("add_note", (note,)));
            error.write_unraisable(py, Some(self.callable.bind(py)));
        }
    }
}

/// What is known of an event beside kind, place and key.
#[derive(Default)]
pub struct Details<'a> {
    /// A value, and how readers get it (see `copy`).
    pub value: Option<(Object, u32)>,
    /// Why.
    pub reason: Option<&'a str>,
    /// What it is about, if that is no function of the space.
    pub function: Option<&'a str>,
    /// How long it took.
    pub seconds: Option<f64>,
    /// What was raised.
    pub error: Option<Object>,
}

/// A value as an event tells of it; what says that there is none is no value.
fn told(value: Object, kind: u32) -> Option<(Object, u32)> {
    (!copy::is_negative(kind)).then_some((value, kind))
}

/// A value that was put into memory.
pub struct Stored<'a> {
    /// Whose entry it is.
    pub space: &'a Space,
    /// The salted hash of its key.
    pub hash: u64,
    /// The key as it is stored.
    pub key: Object,
    /// The object that is stored.
    pub value: Object,
    /// How readers get it.
    pub kind: u32,
}

impl<'a> Stored<'a> {
    /// What was just put into a slot, if it is still there.
    #[cold]
    pub fn at(py: Python<'_>, tier: &Tier, space: &'a Space, hash: u64, id: u32) -> Option<Stored<'a>> {
        let memory = tier.memory.lock();
        let (key, found) = (memory.entries.key(id)?.clone_ref(py), memory.entries.peek(id)?);
        Some(Stored { space, hash, key, value: found.value.clone_ref(py), kind: found.tag })
    }
}

impl Tier {
    /// Calls `callable` with each such event of a namespace from now on. The number is for [`off`](Self::off).
    pub fn on(&self, kind: Kind, path: &str, callable: Object) -> u64 {
        let number = self.listeners.add(kind, path, callable);
        if kind.is_hit() {
            self.look_where();
        }
        number
    }

    /// Ends that.
    pub fn off(&self, number: u64) {
        let listener = self.listeners.remove(number);
        if listener.is_some_and(|listener| listener.kind.is_hit()) {
            self.look_where();
        }
    }

    /// Tells of an event whose key, if it has one, is given as it is stored, with its hash.
    #[cold]
    pub fn tell(&self, py: Python<'_>, kind: Kind, space: &Space, key: Option<(u64, &Object)>, details: Details<'_>) {
        // Nobody is left who could hear of a cache that is given up.
        let Some(_owner) = self.owner(py) else { return };
        let listeners =
            self.listeners.of(kind, space, kind == Kind::Invalidate && key.is_none() && space.callee.is_none());
        if listeners.is_empty() {
            return;
        }
        let _anchor = Anchor::hold();
        match self.event(py, kind, space, key, details) {
            Ok(event) => listeners.iter().for_each(|listener| listener.call(event.bind(py))),
            Err(error) => error.write_unraisable(py, None),
        }
    }

    fn event(
        &self,
        py: Python<'_>,
        kind: Kind,
        space: &Space,
        key: Option<(u64, &Object)>,
        details: Details<'_>,
    ) -> PyResult<Object> {
        let Details { value, reason, function, seconds, error } = details;
        let key = key.map(|(hash, key)| keys::name_of(self.state, space, hash, key.bind(py))).transpose()?.flatten();
        let value = value.map(|(value, kind)| copy::part_with(value.into_bound(py), kind)).transpose()?;
        let function = function.or_else(|| space.callee.as_ref().map(|callee| callee.id.as_str()));
        let class = &self.state.views(py)?.event;
        class.call1(py, (kind.name(), &self.name, &*space.path, function, key, value, reason, seconds, error))
    }

    /// Drops what an operation has displaced. Where somebody listens, tells of that and of what was stored, in the order it
    /// happened.
    #[inline]
    pub fn release<'a>(&self, py: Python<'_>, gone: Gone, stored: impl FnOnce() -> Option<Stored<'a>>) {
        if self.listeners.any() { self.tell_change(py, gone, stored()) } else { let_go(py, gone) }
    }

    #[cold]
    fn tell_change(&self, py: Python<'_>, mut gone: Gone, mut stored: Option<Stored<'_>>) {
        // Whose they are is asked before the first listener runs, which may change that.
        let mut left = Vec::with_capacity(gone.len());
        while let Some(one) = gone.take() {
            let space = self.holder(one.group);
            left.push((one, space));
        }
        for (one, space) in left.into_iter().rev() {
            // The value under a key that stays: its successor was stored at this moment.
            let replaced = one.reason == Reason::Replaced;
            if let Some(space) = space {
                let key = one.key.as_ref().or(stored.as_ref().map(|stored| &stored.key)).map(|key| key.clone_ref(py));
                self.tell_left(py, &space, key.as_ref(), one);
            }
            if replaced {
                self.tell_stored(py, stored.take());
            }
        }
        self.tell_stored(py, stored);
    }

    fn tell_stored(&self, py: Python<'_>, stored: Option<Stored<'_>>) {
        let Some(Stored { space, hash, key, value, kind }) = stored else { return };
        let details = Details { value: told(value, kind), ..Details::default() };
        self.tell(py, Kind::Store, space, Some((hash, &key)), details);
    }

    fn tell_left(&self, py: Python<'_>, space: &Space, key: Option<&Object>, left: Left<Object, Object>) {
        let cause = self.cause(space, &left);
        let (Some((kind, reason)), Some(key), Some(value)) = (cause, key, left.value) else { return };
        let details = Details { value: told(value, left.tag), reason: Some(reason), ..Details::default() };
        self.tell(py, kind, space, Some((left.hash, key)), details);
    }

    /// The event that an entry's leaving is, if it is one of its own.
    fn cause(&self, space: &Space, left: &Left<Object, Object>) -> Option<(Kind, &'static str)> {
        match left.reason {
            Reason::Evicted if self.is_shrinking(space) => Some((Kind::Evict, "resize")),
            Reason::Evicted => Some((Kind::Evict, "capacity")),
            Reason::Refused => Some((Kind::Evict, "refused")),
            Reason::Cleared => Some((Kind::Evict, "cleared")),
            Reason::Expired => Some((Kind::Expire, "ttl")),
            Reason::Removed | Reason::Replaced => self.is_over(left).then_some((Kind::Expire, "ttl")),
            Reason::Unused => None,
        }
    }

    fn is_over(&self, left: &Left<Object, Object>) -> bool {
        left.end != NEVER && self.clock.has_come(left.end)
    }

    /// Drops what an invalidation has removed, one entry at most, and tells of both.
    pub fn tell_deleted(&self, py: Python<'_>, space: &Space, spot: &Spot, mut gone: Gone) {
        let removed = gone.take();
        let holder = removed.as_ref().and_then(|removed| self.holder(removed.group));
        let space = holder.as_deref().unwrap_or(space);
        let mut details = Details::default();
        match removed {
            Some(removed) if self.is_over(&removed) => self.tell_left(py, space, Some(&spot.key), removed),
            Some(Left { value: Some(value), tag, .. }) => details.value = told(value, tag),
            _ => {}
        }
        self.tell(py, Kind::Invalidate, space, Some((spot.hash, &spot.key)), details);
    }
}
