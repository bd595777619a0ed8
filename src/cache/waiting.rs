//! Who waits for a load, and what they are told: the effects of `core::flight`, run.
//!
//! A caller is a [`Seat`], which leaves when it is dropped; the last one to leave stops the load. Whatever way a load's
//! task ends, its [`Report`] tells: a task dropped by its runtime reports too, so nobody is left waiting for a runtime
//! that is gone. (A runtime that exists and is not driven, a current-thread one outside `block_on`, keeps its loads
//! standing as it keeps all its tasks.)

use super::failed::LoadFailed;
use super::loading::Grant;
use super::shard::State;
use super::shared::Shared;
use crate::core::flight::{Effect, Effects, FlightId, Home, Input, Lease, Ticket};
use crate::core::policy::Policy;
use crate::error::Error;
use std::any::{Any, type_name};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Where a waiter hears from its load.
pub(super) type Waiter<V> = oneshot::Sender<Signal<V>>;
/// Dropped to stop a load.
pub(super) type Cancel = oneshot::Sender<Infallible>;
pub(super) type Cancelled = oneshot::Receiver<Infallible>;

/// What a waiter is told.
pub(super) enum Signal<V> {
    Loaded(Arc<V>),
    /// The loader's error and the name of its type.
    Failed(Arc<dyn Any + Send + Sync>, &'static str),
    /// The loader panicked, with this message.
    Panicked(Arc<str>),
    /// The runtime dropped the load.
    Gone,
    /// Load it yourself.
    Lead,
    /// Look the key up again.
    Again,
}

impl<V> Clone for Signal<V> {
    fn clone(&self) -> Self {
        match self {
            Signal::Loaded(value) => Signal::Loaded(Arc::clone(value)),
            Signal::Failed(error, of) => Signal::Failed(Arc::clone(error), of),
            Signal::Panicked(message) => Signal::Panicked(Arc::clone(message)),
            Signal::Gone => Signal::Gone,
            Signal::Lead => Signal::Lead,
            Signal::Again => Signal::Again,
        }
    }
}

/// The right to load, until the load has ended. Dropped before it was told how, the load has gone with its runtime.
pub(super) struct Report<K, V> {
    pub shared: Arc<Shared<K, V>>,
    hash: u64,
    pub lease: Lease,
    ending: Signal<V>,
    policy: Policy,
}

impl<K, V> Report<K, V> {
    /// The shard of its key, by address.
    pub fn shard(&self) -> usize {
        self.shared.shard(self.hash).address()
    }

    pub fn tell(mut self, ending: Signal<V>, policy: Policy) {
        (self.ending, self.policy) = (ending, policy);
    }
}

impl<K, V> Drop for Report<K, V> {
    fn drop(&mut self) {
        self.shared.finish(self.hash, self.lease, &self.ending, self.policy);
    }
}

/// A caller's place among those who wait for a load. Dropped, it is given up.
pub(super) struct Seat<'a, K, V> {
    pub shared: &'a Arc<Shared<K, V>>,
    pub hash: u64,
    /// `None` once the flight has answered.
    pub ticket: Option<Ticket>,
    pub news: oneshot::Receiver<Signal<V>>,
}

impl<K, V> Seat<'_, K, V> {
    pub async fn news(&mut self) -> Signal<V> {
        let signal = (&mut self.news).await.unwrap_or(Signal::Gone);
        if !matches!(signal, Signal::Lead) {
            self.ticket = None;
        }
        signal
    }

    /// For a caller whose loader is used up: whoever would have to load again gets no value.
    pub async fn answer<E: Send + Sync + 'static>(mut self) -> Result<Arc<V>, LoadFailed<E>> {
        let signal = self.news().await;
        self.shared.outcome(signal)
    }

    /// Takes the lease over, as [`Signal::Lead`] asked for; `None` if the flight is over by now.
    pub fn lead(&mut self, home: Home) -> Option<Grant<K, V>> {
        let (ticket, (wake, news), (cancel, cancelled)) = (self.ticket?, oneshot::channel(), oneshot::channel());
        let (lease, before) = {
            let mut state = self.shared.lock(self.hash);
            let lease = state.flights().lead(ticket, home, Some(wake), self.shared.clock().now())?;
            state.stats().loads += 1;
            (lease, state.loads.insert(ticket.flight, cancel))
        };
        drop(before);
        self.news = news;
        Some(Grant { report: self.shared.report(self.hash, lease), cancelled })
    }
}

impl<K, V> Drop for Seat<'_, K, V> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            // Leaving drops the sender under the lock; closed, it wakes nobody from there.
            self.news.close();
            self.shared.leave(self.hash, ticket);
        }
    }
}

impl<K, V> Shared<K, V> {
    pub fn report(self: &Arc<Self>, hash: u64, lease: Lease) -> Report<K, V> {
        Report { shared: Arc::clone(self), hash, lease, ending: Signal::Gone, policy: Policy::default() }
    }

    /// A load has ended: stores its value if it still may, and tells everyone.
    fn finish(&self, hash: u64, lease: Lease, ending: &Signal<V>, policy: Policy) {
        let (input, mut arrival) = match ending {
            Signal::Loaded(value) => (Input::Loaded, Some(self.arrival(Arc::clone(value), policy))),
            Signal::Failed(..) | Signal::Panicked(_) => (Input::Failed, None),
            Signal::Gone | Signal::Lead | Signal::Again => (Input::Aborted, None),
        };
        let (mut out, mut deadline) = (self.gone(), None);
        let mut rest = Vec::new();
        let stopped = {
            let mut state = match &mut arrival {
                Some(arrival) => self.lock_for(hash, arrival),
                None => self.lock(hash),
            };
            for effect in state.flights().step(lease, input, self.clock().now()) {
                match effect {
                    Effect::Store(fill) => {
                        if let Some(arrival) = arrival.take() {
                            deadline = arrival.deadline;
                            state.fill(fill, arrival, &mut out.left);
                        }
                    }
                    effect => rest.push(effect),
                }
            }
            state.stats().load_errors += u64::from(input == Input::Failed && !rest.is_empty());
            state.unload(lease.flight, &rest)
        };
        drop(stopped);
        tell(rest, ending);
        self.expect(deadline);
    }

    /// A caller goes away.
    fn leave(&self, hash: u64, ticket: Ticket) {
        let (effects, stopped) = {
            let mut state = self.lock(hash);
            let effects = state.flights().leave(ticket);
            let stopped = state.unload(ticket.flight, &effects);
            (effects, stopped)
        };
        drop(stopped);
        tell(effects, &Signal::Gone);
    }

    fn failed<E>(&self, reason: String) -> LoadFailed<E> {
        LoadFailed::Cache(Error::Load { key: format!("a key of the cache '{}'", self.name()), reason })
    }

    /// What an answer means to a caller whose loader fails with `E`.
    pub fn outcome<E: Send + Sync + 'static>(&self, answer: Signal<V>) -> Result<Arc<V>, LoadFailed<E>> {
        Err(match answer {
            Signal::Loaded(value) => return Ok(value),
            Signal::Failed(error, of) => match error.downcast() {
                Ok(error) => LoadFailed::Loader(error),
                Err(_) => {
                    self.failed(format!("the caller who loaded it got a {of}, this one expects a {}", type_name::<E>()))
                }
            },
            Signal::Panicked(message) => self.failed(format!("its loader panicked: {message}")),
            Signal::Gone | Signal::Lead | Signal::Again => self.failed("its runtime was shut down".into()),
        })
    }
}

impl<K, V> State<K, V> {
    /// What stops the load of `flight`, if these effects ask for it or the flight is over.
    fn unload(&mut self, flight: FlightId, effects: &Effects<K, Waiter<V>>) -> Option<Cancel> {
        let stops = effects.iter().any(|effect| matches!(effect, Effect::CancelLoad));
        if stops || !self.flights().is_flying(flight) { self.loads.remove(&flight) } else { None }
    }
}

/// Runs the effects that are for after unlocking. Who has gone away meanwhile needs no answer.
fn tell<K, V>(effects: Effects<K, Waiter<V>>, ending: &Signal<V>) {
    let all = |waiters: Vec<Waiter<V>>, signal: &Signal<V>| {
        for waiter in waiters {
            drop(waiter.send(signal.clone()));
        }
    };
    for effect in effects {
        match effect {
            Effect::Wake(waiters) => all(waiters, ending),
            Effect::Fail(waiters) => all(waiters, &Signal::Gone),
            Effect::Lead(waiter) => drop(waiter.send(Signal::Lead)),
            Effect::Again(waiters) => all(waiters, &Signal::Again),
            Effect::Store(_) | Effect::Release(_) | Effect::CancelLoad => {}
            // Nothing here is bounded in time yet.
            Effect::Relent(_) | Effect::Forget(_) | Effect::TimeOut(_) | Effect::Give(..) => {}
        }
    }
}
