//! The claims under which this process loads, renewed in the store while it does: by the sweeper's thread, so that it matters neither
//! what an event loop is busy with nor that a blocked thread runs its own loader.

use super::guarded::Guarded;
use crate::core::clock::{Clock, Millis, later};
use crate::core::remote::{Sharing, Token};
use crate::io::store::{Action, Answers, Reply, Request, Store};
use crate::work::{Appointment, Sweep, register};
use hashbrown::HashMap;
use pyo3::Python;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// See the module.
pub struct Claims {
    store: Arc<dyn Store>,
    clock: Clock,
    appointment: Appointment,
    held: Guarded<HashMap<u128, Held>>,
}

struct Held {
    token: Token,
    key: Vec<u8>,
    sharing: Sharing,
    due: Millis,
    /// The store knows it no more.
    gone: Arc<AtomicBool>,
}

/// A claim is renewed until this is dropped.
pub struct Renewal {
    claims: Arc<Claims>,
    /// That claim's.
    pub token: Token,
    gone: Arc<AtomicBool>,
}

impl Renewal {
    /// True if the store knows the claim no more.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.claims.end(self.token);
    }
}

impl Claims {
    /// Those of a cache over this store.
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Arc<Self> {
        let claims = Arc::new(Claims { store, clock, appointment: Appointment::default(), held: Guarded::default() });
        let swept: Weak<Claims> = Arc::downgrade(&claims);
        register(swept);
        claims
    }

    /// A load begins under this claim.
    pub fn renew(self: &Arc<Self>, token: Token, key: &[u8], sharing: Sharing) -> Renewal {
        let (due, gone) = (later(self.clock.now(), sharing.renew_every()), Arc::default());
        let held = Held { token, key: key.to_vec(), sharing, due, gone: Arc::clone(&gone) };
        let before = self.held.lock().insert(token.bits(), held);
        drop(before);
        self.appointment.by(due);
        Renewal { claims: Arc::clone(self), token, gone }
    }

    /// In a forked child: they are the parent's.
    pub fn forget(&self) {
        std::mem::forget(std::mem::take(&mut *self.held.lock()));
    }

    fn end(&self, token: Token) {
        let held = self.held.lock().remove(&token.bits());
        drop(held);
    }

    /// Renews what is due, and tells when something is next.
    fn renew_all(&self) -> Option<Millis> {
        let (now, mut due) = (self.clock.now(), Vec::new());
        let mut held = self.held.lock();
        for claim in held.values_mut().filter(|claim| claim.due <= now) {
            claim.due = later(now, claim.sharing.renew_every());
            let action = Action::Renew { token: claim.token, life: claim.sharing.claim_life() };
            due.push((Arc::clone(&claim.gone), Request { key: claim.key.clone().into(), action }));
        }
        let next = held.values().map(|claim| claim.due).min();
        drop(held);
        let (gone, requests): (Vec<_>, Vec<_>) = due.into_iter().unzip();
        if !requests.is_empty() {
            let lost = move |(at, answer): (usize, _)| {
                if answer == Ok(Reply::Done(false))
                    && let Some(gone) = gone.get(at)
                {
                    gone.store(true, Relaxed);
                }
            };
            self.store.submit(requests, Answers::new(move |answers| answers.into_iter().for_each(&lost)));
        }
        next
    }
}

impl Sweep for Claims {
    fn sweep(&self) -> Option<Millis> {
        self.appointment.set(None);
        // What is guarded is taken only by threads that hold the interpreter.
        let due = Python::try_attach(|_| self.renew_all()).flatten();
        self.appointment.set(due);
        due
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}
