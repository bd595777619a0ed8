//! The way of a miss on tokio: look again under the lock, take a seat or the lease, load on a task of the runtime.
//!
//! The task belongs to the cache and holds no caller: callers come and go. Who is told what about it is in `waiting`.
//! Same-key recursion is found by a task-local line of the loads that code runs for: flights are never numbered twice,
//! so a line that outlives its load means nothing.

use super::failed::LoadFailed;
use super::shared::Shared;
use super::waiting::{Cancelled, Report, Seat, Signal};
use crate::core::clock::NEVER;
use crate::core::flight::{Begin, Bounds, FlightId, Home, Life};
use crate::core::policy::Policy;
use crate::error::Error;
use parking_lot::Mutex;
use std::any::{Any, type_name};
use std::borrow::Borrow;
use std::collections::hash_map::DefaultHasher;
use std::future::poll_fn;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// What a loader may say about its load while it runs.
#[derive(Clone, Debug)]
pub struct LoadContext {
    policy: Arc<Mutex<Policy>>,
}

impl LoadContext {
    fn new(policy: Policy) -> Self {
        LoadContext { policy: Arc::new(Mutex::new(policy)) }
    }

    /// Has the loaded value kept under another policy than the caller's: for values that bring their own lifetime.
    pub fn keep(&self, policy: Policy) {
        *self.policy.lock() = policy;
    }

    /// The policy the loaded value will be kept under.
    pub fn policy(&self) -> Policy {
        *self.policy.lock()
    }
}

tokio::task_local! {
    /// The loads this code runs for, innermost first.
    static LINEAGE: Arc<Ancestor>;
}

struct Ancestor {
    /// The shard by address, for flights are numbered by shard; the load keeps it alive.
    shard: usize,
    flight: FlightId,
    parent: Option<Arc<Ancestor>>,
}

/// Where and on whose behalf a caller asks.
struct Here {
    runtime: Option<Handle>,
    home: Home,
    lineage: Option<Arc<Ancestor>>,
}

impl Here {
    fn now() -> Self {
        let runtime = Handle::try_current().ok();
        // The tasks of one runtime wander between its threads: only without a runtime a thread is a home.
        let home = match &runtime {
            Some(runtime) => Home { thread: 0, event_loop: number(runtime.id()) },
            None => Home { thread: number(std::thread::current().id()), event_loop: 0 },
        };
        Here { runtime, home, lineage: LINEAGE.try_with(Arc::clone).ok() }
    }

    /// True if `flight` waits for this caller, so that this caller must not wait for it.
    fn is_within(&self, shard: usize, flight: FlightId) -> bool {
        let mut line = std::iter::successors(self.lineage.as_ref(), |ancestor| ancestor.parent.as_ref());
        line.any(|ancestor| ancestor.shard == shard && ancestor.flight == flight)
    }
}

fn number(id: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// A load about to start: its report, and what tells its task to stop.
pub(super) struct Grant<K, V> {
    pub report: Report<K, V>,
    pub cancelled: Cancelled,
}

impl<K, V> Grant<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Loads on a task of the caller's runtime. Without one, or if it is shutting down, the report tells at once.
    fn start<L, F, E>(self, here: Here, policy: Policy, load: L)
    where
        L: FnOnce(LoadContext) -> F + Send + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let Grant { report, cancelled } = self;
        let Here { runtime: Some(runtime), lineage: parent, .. } = here else { return };
        let line = Ancestor { shard: report.shard(), flight: report.lease.flight, parent };
        runtime.spawn(LINEAGE.scope(Arc::new(line), async move {
            let context = LoadContext::new(policy);
            let given = context.clone();
            // `None`: stopped, nobody waits for the report any more.
            if let Some(ending) = run(cancelled, async move { load(given).await }).await {
                report.tell(ending, context.policy());
            }
        }));
    }
}

/// Polls a load to its end, panic or not; `None` if it was stopped.
async fn run<V, E>(mut cancelled: Cancelled, load: impl Future<Output = Result<V, E>>) -> Option<Signal<V>>
where
    E: Send + Sync + 'static,
{
    let mut load = pin!(load);
    poll_fn(|context| {
        if Pin::new(&mut cancelled).poll(context).is_ready() {
            return Poll::Ready(None);
        }
        match catch_unwind(AssertUnwindSafe(|| load.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(value))) => Poll::Ready(Some(Signal::Loaded(Arc::new(value)))),
            Ok(Poll::Ready(Err(error))) => Poll::Ready(Some(Signal::Failed(Arc::new(error), type_name::<E>()))),
            Err(panic) => Poll::Ready(Some(Signal::Panicked(message(&*panic)))),
        }
    })
    .await
}

fn message(panic: &(dyn Any + Send)) -> Arc<str> {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").into()
}

/// What a caller finds when it looks a second time, ready to wait.
enum Place<'a, K, V> {
    Ready(Arc<V>),
    /// The caller is part of the load it asks for.
    Nested,
    Waits(Seat<'a, K, V>),
    Leads(Seat<'a, K, V>, Box<Grant<K, V>>),
    /// Nobody loads, and there is no runtime to load on.
    Homeless,
}

impl<K, V> Shared<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// The way of a miss; see [`Cache::get_or_load`](super::Cache::get_or_load).
    pub async fn get_or_load<Q, L, F, E>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        policy: Policy,
        load: L,
    ) -> Result<Arc<V>, LoadFailed<E>>
    where
        K: Borrow<Q>,
        Q: ToOwned<Owned: Into<K>> + ?Sized,
        L: FnOnce(LoadContext) -> F + Send + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        loop {
            let here = Here::now();
            let mut seat = match self.take_place(hash, key.to_owned().into(), &here) {
                Place::Ready(value) => return Ok(value),
                Place::Homeless => return Err(homeless().into()),
                Place::Nested => return self.load_directly(hash, policy, load).await,
                Place::Leads(seat, grant) => {
                    grant.start(here, policy, load);
                    return seat.answer().await;
                }
                Place::Waits(seat) => seat,
            };
            match seat.news().await {
                Signal::Lead => {
                    let here = Here::now();
                    if here.runtime.is_none() {
                        return Err(homeless().into());
                    }
                    if let Some(grant) = seat.lead(here.home) {
                        grant.start(here, policy, load);
                        return seat.answer().await;
                    }
                }
                Signal::Again => {}
                answer => return self.outcome(answer),
            }
        }
    }

    /// Decides again, under the lock, what a caller who found nothing does about it.
    fn take_place(self: &Arc<Self>, hash: u64, key: K, here: &Here) -> Place<'_, K, V> {
        let ((wake, news), (cancel, cancelled)) = (oneshot::channel(), oneshot::channel());
        let mut state = self.lock(hash);
        if let Some(value) = state.read(hash, &key, self.clock()) {
            return Place::Ready(value);
        }
        let (entry, flight) = (state.find(hash, &key), state.flight(hash, &key));
        state.stats().misses += 1;
        match flight {
            Some(flight) if here.is_within(self.shard(hash).address(), flight) => {
                state.stats().loads += 1;
                Place::Nested
            }
            Some(flight) => {
                state.stats().coalesced += 1;
                let ticket = state.flights().join(flight, here.home, NEVER, wake);
                Place::Waits(Seat { shared: self, hash, ticket, news })
            }
            None if here.runtime.is_none() => Place::Homeless,
            None => {
                state.stats().loads += 1;
                let seen = entry.map(|id| state.memory.entries.target(id));
                let (group, home, began) = (state.group, here.home, self.clock().now());
                let (life, bounds) = (Life::Shared, Bounds::default());
                let lease = state.flights().begin(Begin { hash, key, group, seen, home, life, bounds, began });
                state.loads.insert(lease.flight, cancel);
                let ticket = state.flights().join(lease.flight, home, NEVER, wake);
                let lease = ticket.and_then(|ticket| state.flights().lead(ticket, home, None, began)).unwrap_or(lease);
                let seat = Seat { shared: self, hash, ticket, news };
                Place::Leads(seat, Box::new(Grant { report: self.report(hash, lease), cancelled }))
            }
        }
    }

    /// For a loader that asks for the key it is loading: without a lease, and nothing is stored.
    async fn load_directly<L, F, E>(&self, hash: u64, policy: Policy, load: L) -> Result<Arc<V>, LoadFailed<E>>
    where
        L: FnOnce(LoadContext) -> F,
        F: Future<Output = Result<V, E>>,
    {
        // Boxed, so that every other caller's future need not have room for it.
        let loaded = Box::pin(load(LoadContext::new(policy))).await;
        loaded.map(Arc::new).map_err(|error| {
            self.lock(hash).stats().load_errors += 1;
            LoadFailed::Loader(Arc::new(error))
        })
    }
}

fn homeless() -> Error {
    Error::config("get_or_load", "called outside a tokio runtime", "await a miss inside one; hits need none")
}
