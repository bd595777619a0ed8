//! Who waits for a load, and what they are told: the effects of `core::flight`, run.
//!
//! A caller is a [`Seat`], which leaves when it is dropped; the last one to leave stops the load. Whatever way a load's
//! task ends, its [`Report`] tells: a task dropped by its runtime reports too, so nobody is left waiting for a runtime
//! that is gone. (A runtime that exists and is not driven, a current-thread one outside `block_on`, keeps its loads
//! standing as it keeps all its tasks.)

use super::context::{Here, Said, Wait};
use super::failed::LoadFailed;
use super::held::Held;
use super::loading::{Grant, Wanted};
use super::remote::{Ending, Errand};
use super::shard::State;
use super::shared::Shared;
use crate::core::clock::{Millis, NEVER};
use crate::core::flight::{Done, Due, Effect, Effects, Ended, FlightId, Input, Keep, Lasting, Lease, Refresh, Ticket};
use crate::core::policy::Policy;
use crate::core::remote::ledger::Note;
use crate::error::Error;
use crate::io::alarm::Alarm;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;

/// Where a waiter hears from its load.
pub(super) type Waiter<V> = oneshot::Sender<Signal<V>>;
/// Dropped to stop a load.
pub(super) type Cancel = oneshot::Sender<Infallible>;
pub(super) type Cancelled = oneshot::Receiver<Infallible>;

/// What a waiter is told.
pub(super) enum Signal<V> {
    /// What the loader brought, or an old value in the place of it.
    Answer(Arc<Held<V>>),
    /// The loader panicked, with this message.
    Panicked(Arc<str>),
    /// It took too long.
    TimedOut,
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
            Signal::Answer(held) => Signal::Answer(Arc::clone(held)),
            Signal::Panicked(message) => Signal::Panicked(Arc::clone(message)),
            Signal::TimedOut => Signal::TimedOut,
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
    /// The hash of what its key is called in a store; 0 where there is none.
    behind: u64,
    pub lease: Lease,
    ending: Signal<V>,
    kept: Ending,
    said: Said,
}

impl<K, V> Report<K, V> {
    pub fn new(shared: &Arc<Shared<K, V>>, hash: u64, lease: Lease, policy: Policy) -> Self {
        let said = Said { policy, error_ttl: None };
        Report { shared: Arc::clone(shared), hash, behind: 0, lease, ending: Signal::Gone, kept: Ending::Loaded, said }
    }

    /// Its key is called so in a store: who hears that it was changed there knows of this load.
    pub fn is_of(&mut self, state: &mut State<K, V>, behind: u64) {
        self.behind = behind;
        if let Some(ledger) = &mut state.memory.ledger {
            ledger.begin_load(behind, self.lease.flight);
        }
    }

    /// The shard of its key, by address.
    pub fn shard(&self) -> usize {
        self.shared.shard(self.hash).address()
    }

    pub fn tell(mut self, (ending, kept): (Signal<V>, Ending), said: Said) {
        (self.ending, self.kept, self.said) = (ending, kept, said);
    }

    /// Its time may be up; when it will be, if it is not.
    pub fn expire(&self) -> Millis {
        self.shared.expire(self.hash, Due::Load(self.lease));
        self.shared.lock(self.hash).flights().ends(self.lease)
    }
}

impl<K, V> Drop for Report<K, V> {
    fn drop(&mut self) {
        let kept = std::mem::replace(&mut self.kept, Ending::Loaded);
        self.shared.finish((self.hash, self.behind), self.lease, (&self.ending, kept), self.said);
    }
}

/// A caller's place among those who wait for a load. Dropped, it is given up.
pub(super) struct Seat<'a, K, V> {
    shared: &'a Arc<Shared<K, V>>,
    hash: u64,
    /// `None` once the flight has answered.
    ticket: Option<Ticket>,
    news: oneshot::Receiver<Signal<V>>,
    /// When it is to be told something if the load has not ended before.
    alarm: Option<Box<Alarm>>,
    /// Noted while it waits, if a load does.
    _wait: Option<Wait>,
}

impl<'a, K, V> Seat<'a, K, V> {
    pub fn new(
        shared: &'a Arc<Shared<K, V>>,
        state: &mut State<K, V>,
        (hash, ticket): (u64, Option<Ticket>),
        news: oneshot::Receiver<Signal<V>>,
        wait: Option<Wait>,
    ) -> Self {
        let due = ticket.map_or(NEVER, |ticket| state.flights().patience(ticket));
        Seat { shared, hash, ticket, news, alarm: Alarm::at(shared.clock(), due), _wait: wait }
    }

    /// What it is told.
    pub async fn news(&mut self) -> Signal<V> {
        poll_fn(|context| self.poll_news(context)).await
    }

    pub fn poll_news(&mut self, context: &mut Context<'_>) -> Poll<Signal<V>> {
        loop {
            if let Poll::Ready(signal) = Pin::new(&mut self.news).poll(context) {
                let signal = signal.unwrap_or(Signal::Gone);
                self.alarm = None;
                if !matches!(signal, Signal::Lead) {
                    self.ticket = None;
                }
                return Poll::Ready(signal);
            }
            let Some(ringing) = &mut self.alarm else { return Poll::Pending };
            if ringing.poll(context).is_pending() {
                return Poll::Pending;
            }
            self.alarm = Alarm::at(self.shared.clock(), self.shared.relieve(self.hash, self.ticket));
        }
    }

    /// Takes the lease over, as [`Signal::Lead`] asked for; `None` if the flight is over by now.
    pub fn lead<Q: ?Sized>(
        &mut self,
        wanted: &Wanted<'_, Q>,
        here: &Here,
        errand: Option<Errand<V>>,
    ) -> Option<Grant<K, V>> {
        let (ticket, (wake, news), stop) = (self.ticket?, oneshot::channel(), oneshot::channel());
        let mut state = self.shared.lock(self.hash);
        let (wish, now) = (wanted.wish(state.group, here, Refresh::Behind), self.shared.clock().now());
        let lease = state.memory.take_over(&wish, ticket, here.home, wake, now)?;
        self.alarm = Alarm::at(self.shared.clock(), state.flights().patience(ticket));
        self.news = news;
        Some(Grant::new(self.shared, &mut state, (self.hash, lease), stop, wanted.policy).on(errand, &mut state))
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
    /// A load has ended: stores what it brought if it still may, and tells everyone.
    fn finish(&self, (hash, behind): (u64, u64), lease: Lease, (ending, kept): (&Signal<V>, Ending), said: Said) {
        let mut out = self.gone();
        let mut weight = None;
        let mut state = match ending {
            Signal::Answer(held) => self.lock_for(hash, held, &mut weight),
            _ => self.lock(hash),
        };
        let now = self.clock().now();
        let old = matches!(kept, Ending::Old(..));
        let (input, keep) = match ending {
            Signal::Answer(held) => {
                let (input, lasting, note) = how_kept(held, kept, &said, || state.memory.has_old(lease, now));
                let (value, negative) = (|| Arc::clone(held), held.value().is_none());
                let weight = weight.unwrap_or(1);
                (
                    input,
                    lasting.map(|lasting| Keep {
                        value,
                        tag: 0,
                        negative,
                        lasting,
                        weight,
                        adapted: None,
                        note: Note { key: behind, ..note },
                    }),
                )
            }
            Signal::Panicked(_) => (Input::Failed, None),
            Signal::TimedOut | Signal::Gone | Signal::Lead | Signal::Again => (Input::Aborted, None),
        };
        let ended = Ended { lease, input, keep, policy: &said.policy, group: state.group };
        let done = state.memory.finish(ended, now, || self.draws.draw(), &mut out.left);
        // The store's old value answers as one that was loaded would, and its load has failed.
        state.stats().load_errors += u64::from(done.counts && old);
        let stored = done.stored;
        let told = state.settle(lease.flight, done);
        state.end_load(behind, lease.flight);
        drop(state);
        told.tell(ending);
        self.expect(stored);
    }

    /// Somebody's time may be up.
    fn expire(&self, hash: u64, due: Due) {
        let flight = match due {
            Due::Load(lease) => lease.flight,
            Due::Waiter(ticket) => ticket.flight,
        };
        let mut out = self.gone();
        let mut state = self.lock(hash);
        let done = state.memory.expire(due, self.clock().now(), &mut out.left);
        let told = state.settle(flight, done);
        drop(state);
        told.tell(&Signal::TimedOut);
    }

    /// A waiter's time may be up; when it will be, if it is not.
    fn relieve(&self, hash: u64, ticket: Option<Ticket>) -> Millis {
        let Some(ticket) = ticket else { return NEVER };
        self.expire(hash, Due::Waiter(ticket));
        self.lock(hash).flights().patience(ticket)
    }

    /// A caller goes away.
    fn leave(&self, hash: u64, ticket: Ticket) {
        let mut state = self.lock(hash);
        let effects = state.flights().leave(ticket);
        let told = state.settle(ticket.flight, Done { effects, counts: false, stored: None, turn: false, old: None });
        drop(state);
        told.tell(&Signal::Gone);
    }

    /// A key, as errors name it: keys need not be printable.
    fn a_key(&self) -> String {
        format!("a key of the cache '{}'", self.name())
    }

    fn failed<E>(&self, reason: String) -> LoadFailed<E> {
        LoadFailed::Cache(Error::Load { key: self.a_key(), reason })
    }
}

impl<K, V: Clone> Shared<K, V> {
    /// What an answer means to a caller whose loader fails with `E`.
    pub fn outcome<E>(&self, answer: Signal<V>, policy: &Policy) -> Result<Option<V>, LoadFailed<E>>
    where
        E: Send + Sync + 'static,
    {
        Err(match answer {
            Signal::Answer(held) => match held.open() {
                Ok(opened) => return opened,
                Err(failure) => self.failed(failure.mismatch::<E>()),
            },
            Signal::Panicked(message) => self.failed(format!("its loader panicked: {message}")),
            Signal::TimedOut => LoadFailed::Cache(Error::LoadTimeout { key: self.a_key(), limit: policy.timeout }),
            Signal::Gone | Signal::Lead | Signal::Again => self.failed("its runtime was shut down".into()),
        })
    }
}

/// How a load ended, and how long what it brought is an answer to others; `None` = it is not kept.
fn how_kept<V>(
    held: &Held<V>,
    kept: Ending,
    said: &Said,
    has_old: impl FnOnce() -> bool,
) -> (Input, Option<Lasting>, Note) {
    let as_is = |life, note: &Note| Some(Lasting::As(life, note.version));
    let (ttl, note, unasked) = match kept {
        Ending::Loaded => (ttl_of(held, said, has_old), Note::default(), false),
        Ending::Stored(life, note) | Ending::Old(life, note) => return (Input::Loaded, as_is(life, &note), note),
        Ending::Found(life, note) => return (Input::Found, as_is(life, &note), note),
        Ending::Suspect(life, note) => return (Input::Found, Some(Lasting::Suspect(life, note.version)), note),
        Ending::Alone { life: Some(life), note, unasked } => {
            let lasting = if unasked { Lasting::Suspect(life, None) } else { Lasting::As(life, None) };
            return (Input::Loaded, Some(lasting), note);
        }
        Ending::Alone { life: None, note, unasked } => (ttl_of(held, said, has_old), note, unasked),
        Ending::Forgone => return (Input::Loaded, None, Note::default()),
    };
    let failed = ttl.is_none() && matches!(held, Held::Failed(_));
    let lasting = ttl.map(if unasked { Lasting::Unasked } else { Lasting::For });
    (if failed { Input::Failed } else { Input::Loaded }, lasting, note)
}

/// How long what a load brought is kept, as the policy says or the loader.
fn ttl_of<V>(held: &Held<V>, said: &Said, has_old: impl FnOnce() -> bool) -> Option<Option<Duration>> {
    match held {
        Held::Failed(_) => said.error_ttl.filter(|_| !has_old()).map(Some),
        held => kept_for(held.value(), &said.policy),
    }
}

/// How long a value, or its absence, is kept under a policy: its ttl; `None` = it is not kept.
pub(super) fn kept_for<V>(value: Option<&V>, policy: &Policy) -> Option<Option<Duration>> {
    match value {
        Some(_) => Some(policy.ttl).filter(|_| policy.stores()),
        None => policy.negative_ttl.map(Some),
    }
}

/// What is left to do after a step, without the lock.
pub(super) struct Told<K, V> {
    effects: Effects<K, Waiter<V>>,
    /// Answers in the place of the load.
    old: Option<Arc<Held<V>>>,
    stopped: Option<Cancel>,
}

impl<K, V> State<K, V> {
    /// The load of what has such a name behind is over, unless another attempt has begun.
    fn end_load(&mut self, behind: u64, flight: FlightId) {
        if behind != 0
            && !self.flights().is_flying(flight)
            && let Some(ledger) = &mut self.memory.ledger
        {
            ledger.end_load(behind, flight);
        }
    }

    /// Takes out what the step needs of what the lock guards.
    fn settle(&mut self, flight: FlightId, done: Done<K, Waiter<V>>) -> Told<K, V> {
        let Done { effects, old, .. } = done;
        let old = old.and_then(|id| Some(Arc::clone(self.memory.entries.peek(id)?.value)));
        let stops = effects.iter().any(|effect| matches!(effect, Effect::CancelLoad));
        let ends = stops || !self.flights().is_flying(flight);
        let stopped = if ends { self.loads.remove(&flight) } else { None };
        Told { effects, old, stopped }
    }
}

impl<K, V> Told<K, V> {
    /// Stops the load that is to be stopped, and tells everyone; who has gone away meanwhile needs no answer.
    fn tell(self, ending: &Signal<V>) {
        let Told { effects, old, stopped } = self;
        drop(stopped);
        let instead = |signal: &Signal<V>| old.clone().map_or_else(|| signal.clone(), Signal::Answer);
        let all = |waiters: Vec<Waiter<V>>, signal: &Signal<V>| {
            for waiter in waiters {
                drop(waiter.send(instead(signal)));
            }
        };
        for effect in effects {
            match effect {
                Effect::Wake(waiters) => all(waiters, ending),
                Effect::TimeOut(waiters) => all(waiters, &Signal::TimedOut),
                Effect::Fail(waiters) => all(waiters, &Signal::Gone),
                // An old value is no answer for them.
                Effect::Again(waiters) => {
                    waiters.into_iter().for_each(|waiter| drop(waiter.send(Signal::Again)));
                }
                Effect::Give(_, waiter) => all(vec![waiter], &Signal::TimedOut),
                Effect::Lead(waiter) => drop(waiter.send(Signal::Lead)),
                Effect::CancelLoad | Effect::Release(_) => {}
                // Done by then.
                Effect::Store(_) | Effect::Relent(_) | Effect::Forget(_) => {}
            }
        }
    }
}
