//! The one background thread of a process: it sweeps expired entries out of every registered table, a little at a time.
//!
//! It is started by the first table that has something to expire, sleeps until the next deadline of all, and ends when there
//! is none, or with [`stop`]. After a fork the child has no thread; [`ForkGuard::child`] starts a new one if there was one. What is swept decides
//! for itself how: this file knows neither tables nor Python.

use crate::core::clock::{Clock, Millis, NEVER};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// Something with entries that end.
pub trait Sweep: Send + Sync {
    /// Frees what has ended, for at most a millisecond or two, and tells when to come again: 0 = there is more,
    /// `None` = when [`wake`] is called.
    fn sweep(&self) -> Option<Millis>;
    /// The clock its deadlines are measured with.
    fn clock(&self) -> &Clock;
}

/// When the sweeper means to come to a table, so that an insert need not wake it for a deadline it knows of.
#[derive(Debug)]
pub struct Appointment(AtomicU64);

impl Default for Appointment {
    fn default() -> Self {
        Appointment(AtomicU64::new(u64::MAX))
    }
}

impl Appointment {
    /// An entry ends at `deadline`: wakes the sweeper if it means to come more than a moment later.
    pub fn by(&self, deadline: Millis) {
        if deadline < NEVER && deadline.saturating_add(SLACK) < self.0.load(Relaxed) {
            self.0.store(deadline, Relaxed);
            wake();
        }
    }

    /// There is something to free at once.
    pub fn now(&self) {
        self.by(0);
    }

    /// When the sweeper means to come, `None` if it does not.
    pub fn due(&self) -> Option<Millis> {
        Some(self.0.load(Relaxed)).filter(|&due| due != u64::MAX)
    }

    /// There is something due then, of which the sweeper need not be told: it asks itself.
    pub fn note(&self, due: Millis) {
        self.0.fetch_min(due, Relaxed);
    }

    /// The sweeper says when it will come again; 0 and `None` as in [`Sweep::sweep`].
    pub fn set(&self, due: Option<Millis>) {
        self.0.store(due.unwrap_or(u64::MAX), Relaxed);
    }
}

/// An entry may outstay its deadline in memory, never in service, by this many milliseconds more.
const SLACK: Millis = 64;
/// Between two visits to a table that has nothing due; also the longest a wake-up call can be missed.
const PAUSE: Duration = Duration::from_millis(50);
/// How long it stays when it has nothing to do.
const IDLE: Duration = Duration::from_secs(1);
/// Between two slices of a long clean-up, so that others get their turn.
const BREATH: Duration = Duration::from_micros(200);

#[derive(Default)]
struct Sweeper {
    tables: Vec<Weak<dyn Sweep>>,
    thread: Option<JoinHandle<()>>,
    stopping: bool,
    /// Set by [`wake`], cleared by the thread when it looks at all tables.
    due: bool,
    /// Set by [`let_end`]: not to stay when there is nothing to do.
    leaving: bool,
}

static SWEEPER: Mutex<Sweeper> =
    Mutex::new(Sweeper { tables: Vec::new(), thread: None, stopping: false, due: false, leaving: false });
static CALL: Condvar = Condvar::new();

fn state() -> MutexGuard<'static, Sweeper> {
    SWEEPER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has `table` swept until it is dropped. Starts no thread.
pub fn register(table: Weak<dyn Sweep>) {
    let mut sweeper = state();
    sweeper.tables.retain(|table| table.strong_count() > 0);
    sweeper.tables.push(table);
}

/// Tells that a table may have something to sweep sooner than before; starts the thread if there is none.
pub fn wake() {
    let mut sweeper = state();
    sweeper.due = true;
    if sweeper.thread.is_none() && !sweeper.stopping {
        sweeper.thread = start();
    }
    CALL.notify_one();
}

/// As [`wake`], but starts no thread.
pub fn wake_if_running() {
    state().due = true;
    CALL.notify_one();
}

/// Without a thread (the system may refuse one) entries are still swept by the operations that insert.
fn start() -> Option<JoinHandle<()>> {
    std::thread::Builder::new().name("samovar-sweep".into()).spawn(run).ok()
}

/// Somebody is done with a table: the thread ends as soon as no other has work for it, not a while after.
pub fn let_end() {
    let mut sweeper = state();
    sweeper.leaving = sweeper.thread.is_some();
    CALL.notify_one();
}

/// Ends the thread and waits for it. For the end of the process; a later [`wake`] does not start it again.
pub fn stop() {
    let thread = {
        let mut sweeper = state();
        sweeper.stopping = true;
        CALL.notify_one();
        sweeper.thread.take()
    };
    if let Some(thread) = thread {
        // A sweep that panicked has nothing left to tell here.
        drop(thread.join());
    }
}

/// True while the background thread runs.
pub fn is_running() -> bool {
    state().thread.is_some()
}

/// The state, held across a fork by the forking thread, so that no other thread is inside it.
pub struct ForkGuard(MutexGuard<'static, Sweeper>);

/// To be called before a fork; the guard goes to [`ForkGuard::parent`] or [`ForkGuard::child`].
pub fn forking() -> ForkGuard {
    ForkGuard(state())
}

impl ForkGuard {
    /// After the fork, in the parent.
    pub fn parent(self) {
        drop(self.0);
    }

    /// After the fork, in the child: the thread is gone, a new one takes its place.
    pub fn child(mut self) {
        if let Some(gone) = self.0.thread.take() {
            // Its handle names a thread of the parent: neither to be joined nor detached here.
            std::mem::forget(gone);
            self.0.due = true;
            self.0.thread = start();
        }
    }
}

fn run() {
    loop {
        let tables: Vec<Arc<dyn Sweep>> = {
            let mut sweeper = state();
            if sweeper.stopping {
                return;
            }
            sweeper.due = false;
            sweeper.tables.iter().filter_map(Weak::upgrade).collect()
        };
        let mut pause = None;
        for table in &tables {
            // One owner's panic must not end the sweep of all the others.
            let swept = catch_unwind(AssertUnwindSafe(|| table.sweep())).unwrap_or(None);
            if let Some(due) = swept {
                let left = Duration::from_millis(due.saturating_sub(table.clock().now()));
                let left = if due == 0 { BREATH } else { left.max(PAUSE) };
                pause = Some(pause.map_or(left, |pause: Duration| pause.min(left)));
            }
        }
        // Dropping the last handle of a table runs its owner's code: not under the lock.
        for table in tables {
            drop(catch_unwind(AssertUnwindSafe(|| drop(table))));
        }
        if rest(pause) {
            return;
        }
    }
}

/// Sleeps until the next deadline or call; true when it is time to end.
fn rest(pause: Option<Duration>) -> bool {
    let mut sweeper = state();
    // Called while it swept: breathe, so that a storm of calls is no busy loop.
    let called = sweeper.due;
    let pause = if called { Some(BREATH) } else { pause };
    if !sweeper.stopping && (pause.is_some() || !sweeper.leaving) {
        sweeper = CALL.wait_timeout(sweeper, pause.unwrap_or(IDLE)).unwrap_or_else(PoisonError::into_inner).0;
    }
    if pause.is_none() && !sweeper.due && !sweeper.stopping {
        // Nobody joins it: whoever needs one from now on starts another.
        (sweeper.thread, sweeper.leaving) = (None, false);
        return true;
    }
    sweeper.stopping
}
