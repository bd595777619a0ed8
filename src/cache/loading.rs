//! The way of a miss on tokio: look again under the lock, take a seat or the lease, load on a task of the runtime.
//!
//! The task belongs to the cache and holds no caller: callers come and go. Who is told what about it is in `waiting`, on
//! whose behalf a caller asks in `context`. What to do is decided by `core::flight` alone.

use super::context::{Circle, Here, LOADING, LoadContext, Loading, load_of};
use super::failed::LoadFailed;
use super::held::Held;
use super::remote::{Behalf, Brought, Ending, Errand, Spot};
use super::shard::State;
use super::shared::Shared;
use super::waiting::{Cancel, Cancelled, Report, Seat, Signal};
use crate::core::budget::Room;
use crate::core::clock::Millis;
use crate::core::flight::{FlightId, Lease, Load, Located, Lookup, Newer, Refresh, Settled, Since, Wish};
use crate::core::memory::GroupId;
use crate::core::policy::Policy;
use crate::core::remote::{self, Version};
use crate::error::Error;
use crate::io::alarm::Alarm;
use std::any::Any;
use std::borrow::Borrow;
use std::future::poll_fn;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// A load about to start: its report, what tells its task to stop, and when its time is up.
pub(super) struct Grant<K, V> {
    report: Report<K, V>,
    cancelled: Option<Cancelled>,
    ends: Millis,
    /// What the tier behind is asked before anything is loaded.
    errand: Option<Box<Errand<V>>>,
    /// For one that runs behind, until it is over.
    _room: Option<Room<()>>,
}

impl<K, V> Grant<K, V> {
    /// The load of a lease that was just taken; `stop` is what its task will be stopped by.
    pub fn new(
        shared: &Arc<Shared<K, V>>,
        state: &mut State<K, V>,
        (hash, lease): (u64, Lease),
        stop: (Cancel, Cancelled),
        policy: Policy,
    ) -> Self {
        let (cancel, cancelled) = stop;
        // A cancel of an earlier attempt stops nothing any more, and runs no foreign code when it is dropped.
        state.loads.insert(lease.flight, cancel);
        let ends = state.flights().ends(lease);
        let report = Report::new(shared, hash, lease, policy);
        Grant { report, cancelled: Some(cancelled), ends, errand: None, _room: None }
    }

    /// Asks the tier behind first.
    pub fn on(mut self, errand: Option<Errand<V>>, state: &mut State<K, V>) -> Self {
        if let Some(errand) = &errand {
            self.report.is_of(state, errand.behind);
        }
        Grant { errand: errand.map(Box::new), ..self }
    }

    /// What is to be asked, and whom, if there is anybody.
    pub fn take_errand(&mut self) -> Option<Errand<V>> {
        self.errand.take().map(|errand| *errand)
    }

    /// Loads behind.
    fn behind(self, room: Option<Room<()>>) -> Self {
        Grant { _room: room, ..self }
    }

    /// Loads on a task of its own.
    pub fn start<L, F, T, E>(mut self, here: &Here, policy: Policy, load: L)
    where
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
        L: FnOnce(LoadContext) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Option<V>>,
        E: Send + Sync + 'static,
    {
        let (errand, shared) = (self.take_errand(), &self.report.shared);
        let behind = shared.back().map(|back| (Arc::clone(&back.tier), shared.clock().clone()));
        // Boxed, so that the task of a cache with memory alone need not have room for it.
        let ask = errand.zip(behind).map(Box::new);
        Grants(vec![self]).start(here, policy, |context| async move {
            let Some(ask) = ask else {
                return vec![Brought::loaded(Held::of(load(context).await.map(Into::into)))];
            };
            let (errand, (tier, clock)) = *ask;
            let behalf = Behalf { context: context.clone(), clock };
            let loading = Box::pin(async move { Held::of(load(context).await.map(Into::into)) });
            vec![tier.fill((errand, behalf), loading).await]
        });
    }

    fn is_stopped(&mut self, context: &mut Context<'_>) -> bool {
        let stopped = self.cancelled.as_mut().is_none_or(|cancelled| Pin::new(cancelled).poll(context).is_ready());
        if stopped {
            self.cancelled = None;
        }
        stopped
    }
}

/// Leases that one task loads for.
pub(super) struct Grants<K, V>(pub Vec<Grant<K, V>>);

impl<K, V> Grants<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Loads on a task of the caller's runtime. Without one, or if it is shutting down, the reports tell at once. `load` brings
    /// what is held of each lease, in their order.
    pub fn start<L, F>(mut self, here: &Here, policy: Policy, load: L)
    where
        L: FnOnce(LoadContext) -> F + Send + 'static,
        F: Future<Output = Vec<Brought<V>>> + Send + 'static,
    {
        let Here { runtime: Some(runtime), .. } = here else { return };
        let loads = self.0.iter().map(|grant| load_of(grant.report.shard(), grant.report.lease.flight));
        let loading: Loading = loads.collect();
        let context = LoadContext::new(policy, Some(Arc::clone(&loading)));
        runtime.spawn(LOADING.scope(loading, async move {
            let given = context.clone();
            if let Some(endings) = self.run(async move { load(given).await }).await {
                for (grant, ending) in self.0.into_iter().zip(endings) {
                    grant.report.tell(ending, context.said());
                }
            }
        }));
    }

    /// Polls a load to its end, panic or not; `None` if all of it was stopped, and nobody waits for a report any more.
    async fn run(&mut self, load: impl Future<Output = Vec<Brought<V>>>) -> Option<Vec<(Signal<V>, Ending)>> {
        let mut alarm = self.alarm();
        let mut load = pin!(load);
        poll_fn(|context| {
            loop {
                if self.are_stopped(context) {
                    return Poll::Ready(None);
                }
                match catch_unwind(AssertUnwindSafe(|| load.as_mut().poll(context))) {
                    Ok(Poll::Pending) => {}
                    Ok(Poll::Ready(brought)) => {
                        let answer = |Brought { held, ending }| (Signal::Answer(Arc::new(held)), ending);
                        return Poll::Ready(Some(brought.into_iter().map(answer).collect()));
                    }
                    Err(panic) => {
                        let message = message(&*panic);
                        return Poll::Ready(Some(vec![(Signal::Panicked(message), Ending::Loaded); self.0.len()]));
                    }
                }
                let Some(ringing) = &mut alarm else { return Poll::Pending };
                if ringing.poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.0.iter_mut().for_each(|grant| grant.ends = grant.report.expire());
                alarm = self.alarm();
            }
        })
        .await
    }

    /// When the first of them takes too long.
    fn alarm(&self) -> Option<Box<Alarm>> {
        let first = self.0.iter().min_by_key(|grant| grant.ends)?;
        Alarm::at(first.report.shared.clock(), first.ends)
    }

    fn are_stopped(&mut self, context: &mut Context<'_>) -> bool {
        // The first that is not wakes this task when it is.
        self.0.iter_mut().all(|grant| grant.is_stopped(context))
    }
}

fn message(panic: &(dyn Any + Send)) -> Arc<str> {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").into()
}

/// What a caller wants of a key.
pub(super) struct Wanted<'a, Q: ?Sized> {
    pub hash: u64,
    pub key: &'a Q,
    pub policy: Policy,
    /// Since when a load is wanted even though a value is there; `None` if it is not.
    pub anew: Option<Since>,
    /// It would be loaded along with others, which need no more room than one.
    pub along: bool,
}

impl<Q: ?Sized> Wanted<'_, Q> {
    pub fn wish(&self, group: GroupId, here: &Here, refresh: Refresh) -> Wish<'_> {
        Wish { policy: &self.policy, group, place: here.place(refresh), anew: self.anew.as_ref() }
    }
}

/// What a caller finds when it looks a second time, ready to wait.
pub(super) enum Found<'a, K, V> {
    Ready(Arc<Held<V>>),
    /// The same, and this caller has it loaded anew, behind.
    Refreshes(Arc<Held<V>>, Box<Grant<K, V>>),
    /// The caller is part of the load it asks for.
    Nested,
    /// It would wait in a circle.
    Circle(Vec<String>),
    Waits(Seat<'a, K, V>),
    Leads(Seat<'a, K, V>, Box<Grant<K, V>>),
    /// Nobody loads, and there is no runtime to load on.
    Homeless,
}

impl<K, V> Shared<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The way of a miss; see [`Cache::get_or_load`](super::Cache::get_or_load). `None` if there is known to be nothing.
    pub async fn load<Q, L, F, T, E>(
        self: &Arc<Self>,
        wanted: Wanted<'_, Q>,
        load: L,
    ) -> Result<Option<V>, LoadFailed<E>>
    where
        K: Borrow<Q>,
        Q: ToOwned<Owned: Into<K>> + ?Sized,
        L: FnOnce(LoadContext) -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Option<V>>,
        E: Send + Sync + 'static,
    {
        let policy = wanted.policy;
        policy.check()?;
        self.check_timer(&policy)?;
        loop {
            let here = Here::now();
            let mut seat = match self.find::<_, L>(&wanted, wanted.key.to_owned().into(), &here) {
                Found::Ready(held) => return self.outcome(Signal::Answer(held), &policy),
                Found::Refreshes(held, grant) => {
                    grant.start(&here, policy, load);
                    return self.outcome(Signal::Answer(held), &policy);
                }
                Found::Homeless => return Err(homeless().into()),
                Found::Nested => {
                    return self.load_directly(wanted.hash, here.context(policy), load).await;
                }
                Found::Circle(path) => return Err(Error::LoadCycle { path }.into()),
                Found::Leads(mut seat, grant) => {
                    grant.start(&here, policy, load);
                    return self.outcome(seat.news().await, &policy);
                }
                Found::Waits(seat) => seat,
            };
            match seat.news().await {
                Signal::Lead => {
                    let here = Here::now();
                    if here.runtime.is_none() {
                        return Err(homeless().into());
                    }
                    let errand = self.errand(&wanted, &wanted.key.to_owned().into());
                    if let Some(grant) = seat.lead(&wanted, &here, errand) {
                        grant.start(&here, policy, load);
                        return self.outcome(seat.news().await, &policy);
                    }
                }
                Signal::Again => {}
                answer => return self.outcome(answer, &policy),
            }
        }
    }

    /// What is to be asked of the tier behind for somebody who knows nothing of the key.
    pub fn errand<Q: ?Sized>(self: &Arc<Self>, wanted: &Wanted<'_, Q>, key: &K) -> Option<Errand<V>> {
        let back = self.back()?;
        let (hash, name) = (wanted.hash, back.tier.name(key));
        let wanted = if wanted.anew.is_some() { remote::Wanted::Anew } else { remote::Wanted::Newer(None) };
        let front = Box::new(Spot { shared: Arc::clone(self), hash, key: back.tier.copy(key) });
        Some(Errand { behind: back.hash(&name), name, front, wanted, draw: self.draws.draw() })
    }

    /// Refuses time limits where nothing can tell the time.
    pub fn check_timer(&self, policy: &Policy) -> Result<(), Error> {
        let limit = policy.timeout.or(policy.soft_timeout);
        if self.back().is_some() && !self.clock().is_frozen() && Handle::try_current().is_ok() && !has_timer() {
            let cure = "build the tokio runtime with enable_time(): a store is waited for no longer than it may take";
            return Err(Error::config("remote", "a runtime without time", cure));
        }
        match limit {
            Some(limit) if !self.clock().is_frozen() && Handle::try_current().is_ok() && !has_timer() => {
                let cure = "build the tokio runtime with enable_time(), or leave it out";
                Err(Error::config("timeout or soft_timeout", format!("{limit:?}"), cure))
            }
            _ => Ok(()),
        }
    }

    /// Decides again, under the lock, what a caller who found nothing does about it. `L` is its loader.
    pub fn find<Q: ?Sized, L>(self: &Arc<Self>, wanted: &Wanted<'_, Q>, key: K, here: &Here) -> Found<'_, K, V> {
        let ((wake, news), stop) = (oneshot::channel(), oneshot::channel());
        let &Wanted { hash, policy, .. } = wanted;
        // Declared before the lock is taken: what is not used of it is dropped after unlocking.
        let mut spare = Some(key);
        let needs_room = policy.refreshes_behind() && !wanted.along;
        let room = if needs_room { self.background.room() } else { None };
        let refresh = if needs_room && room.is_none() { Refresh::Later } else { Refresh::Behind };
        self.heed(hash);
        let mut errand = spare.as_ref().and_then(|key| self.errand(wanted, key));
        let mut state = self.lock(hash);
        let located = spare.as_ref().map_or((None, None), |key| state.locate(hash, key));
        if let Some(errand) = &mut errand {
            errand.knows(self.known(&mut state, located));
        }
        let (wish, now) = (wanted.wish(state.group, here, refresh), self.clock().now());
        let key = || spare.take().expect("a lookup takes one lease at most");
        match state.memory.look_up(&wish, (hash, key), located, now, || self.draws.draw()) {
            Lookup::Hit(id, newer) => {
                let held = Arc::clone(state.memory.entries.peek(id).expect("it has just been served").value);
                match newer {
                    Newer::Lead(lease) => {
                        let grant = Grant::new(self, &mut state, (hash, lease), stop, policy).behind(room);
                        let grant = grant.on(errand, &mut state);
                        Found::Refreshes(held, Box::new(grant))
                    }
                    Newer::Flying(_) | Newer::No => Found::Ready(held),
                }
            }
            Lookup::Flying(flight, _) => match here.wait_for::<L>(self.name_load(hash, flight)) {
                Err(Circle::Own) => {
                    state.stats().loads += 1;
                    Found::Nested
                }
                Err(Circle::Others(path)) => Found::Circle(path),
                Ok(wait) => {
                    let ticket = state.memory.wait(&wish, flight, here.home, now, wake);
                    Found::Waits(Seat::new(self, &mut state, (hash, ticket), news, wait))
                }
            },
            Lookup::Lead(lease) => {
                let led = state.memory.wait_for_own(&policy, lease, here.home, now, wake);
                // Nobody waits for a load that has just begun, so this closes no circle.
                let wait = here.wait_for::<L>(self.name_load(hash, lease.flight)).unwrap_or_default();
                let seat = Seat::new(self, &mut state, (hash, led.map(|(ticket, _)| ticket)), news, wait);
                let grant = Grant::new(self, &mut state, (hash, lease), stop, policy).on(errand, &mut state);
                Found::Leads(seat, Box::new(grant))
            }
            Lookup::Nowhere => Found::Homeless,
        }
    }

    /// The version of what memory has, where nothing but a newer one would do: the store's copy of it is no fresher. What is in doubt
    /// is asked for, whether it is the newest or not.
    fn known(&self, state: &mut State<K, V>, (entry, _): Located) -> Option<Version> {
        let id = state.memory.entries.resolve(entry?)?;
        if state.memory.settle(id, self.clock().now()) != Settled::Plain {
            return None;
        }
        let capped = self.back().is_some_and(|back| back.tier.terms().memory_ttl.is_some());
        let fresh = state.serves(Some(id), self.clock());
        state.memory.version(id).filter(|_| fresh || !capped)
    }

    fn name_load(&self, hash: u64, flight: FlightId) -> (&str, Load) {
        (self.name(), load_of(self.shard(hash).address(), flight))
    }

    /// For a loader that asks for the key it is loading: without a lease, and nothing is stored.
    async fn load_directly<L, F, T, E>(
        &self,
        hash: u64,
        context: LoadContext,
        load: L,
    ) -> Result<Option<V>, LoadFailed<E>>
    where
        L: FnOnce(LoadContext) -> F,
        F: Future<Output = Result<T, E>>,
        T: Into<Option<V>>,
    {
        // Boxed, so that every other caller's future need not have room for it.
        Box::pin(load(context)).await.map(Into::into).map_err(|error| {
            self.lock(hash).stats().load_errors += 1;
            LoadFailed::Loader(Arc::new(error))
        })
    }
}

/// A runtime does not tell whether its time is enabled; a timer of one that is not panics when it is made.
fn has_timer() -> bool {
    catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).is_ok()
}

pub(super) fn homeless() -> Error {
    Error::config("get_or_load", "called outside a tokio runtime", "await a miss inside one; hits need none")
}
