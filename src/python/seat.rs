//! Where one caller waits for a load: an asyncio future on its own loop, or a thread on a condition variable.
//!
//! The outcome is laid into the seat before its owner is woken, so a future carries no value and a cancelled one loses
//! none. Every waiter has a seat of its own.

use super::pending::Holds;
use super::state::State;
use super::tier::Object;
use crate::core::flight::Home;
use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// What the flight tells a waiter.
pub enum Outcome {
    /// The value; the second is how it has to be copied before it is handed out (see `copy`).
    Value(Object, u32),
    /// The load failed with this exception.
    Error(Object),
    /// The load was ended from outside.
    Ended,
    /// The load took too long.
    TimedOut,
    /// Load, with your own arguments.
    Lead,
    /// Look the key up again.
    Again,
}

/// How a seat's owner is woken.
pub enum Wake {
    /// A future on a loop.
    Future {
        /// The future that the owner awaits.
        future: Object,
        /// Its loop.
        event_loop: Object,
    },
    /// A blocked thread.
    Thread(Condvar),
}

/// See the module.
pub struct Seat {
    outcome: Mutex<Option<Outcome>>,
    /// How its owner is woken.
    pub wake: Wake,
    /// Where its owner lives.
    pub home: Home,
}

/// What the flights hold of a waiter.
pub type Waiter = Arc<Seat>;

impl Holds for Seat {
    fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        // Nobody else has it, and the collector must not wait for anybody.
        let told = self.outcome.try_lock();
        let told = match told.as_deref() {
            Some(Some(Outcome::Value(told, _) | Outcome::Error(told))) => visit(told),
            _ => true,
        };
        match &self.wake {
            Wake::Future { future, event_loop } => told && visit(future) && visit(event_loop),
            Wake::Thread(_) => told,
        }
    }
}

impl Seat {
    /// An empty seat.
    pub fn new(wake: Wake, home: Home) -> Waiter {
        Arc::new(Seat { outcome: Mutex::new(None), wake, home })
    }

    /// True if its owner's loop is closed or stands still, so that it may never hear anything.
    pub fn is_stranded(&self, py: Python<'_>, state: &State, here: Option<&Bound<'_, PyAny>>) -> bool {
        match &self.wake {
            Wake::Thread(_) => false,
            Wake::Future { event_loop, .. } => {
                let event_loop = event_loop.bind(py);
                !here.is_some_and(|here| here.is(event_loop)) && super::task::is_stranded(event_loop, state)
            }
        }
    }

    /// Takes the outcome, if there is one.
    pub fn take(&self) -> Option<Outcome> {
        self.outcome.lock().take()
    }

    /// Lays the outcome down and wakes the owner. `here` is the loop that runs on this thread, if any.
    pub fn tell(&self, py: Python<'_>, state: &State, outcome: Outcome, here: Option<&Bound<'_, PyAny>>) {
        *self.outcome.lock() = Some(outcome);
        match &self.wake {
            Wake::Thread(bell) => {
                bell.notify_all();
            }
            Wake::Future { future, event_loop } => {
                let future = future.bind(py);
                let names = &state.names;
                let woken = if here.is_some_and(|here| here.is(event_loop)) {
                    future.call_method1(&names.set_result, (py.None(),)).map(drop)
                } else {
                    let set = state
                        .wake_future(py)
                        .and_then(|wake| event_loop.bind(py).call_method1(&names.call_soon_threadsafe, (wake, future)));
                    set.map(drop)
                };
                // The future was cancelled meanwhile, or its loop is closed: its owner has left or never comes back.
                drop(woken);
            }
        }
    }

    /// Blocks the thread, without the interpreter, until an outcome is there or `patience` is over.
    pub fn wait(&self, py: Python<'_>, patience: Duration) {
        if let Wake::Thread(bell) = &self.wake {
            py.detach(|| {
                let mut outcome = self.outcome.lock();
                if outcome.is_none() {
                    bell.wait_for(&mut outcome, patience);
                }
            });
        }
    }
}
