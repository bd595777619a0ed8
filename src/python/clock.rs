//! The one clock of all Python caches of a process; tests stop it and move it by hand.

use super::options;
use crate::core::clock::Clock;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::system);
/// How many have stopped it. Changed by threads that hold the interpreter only.
static STOPPED: AtomicU32 = AtomicU32::new(0);

/// The shared clock.
pub fn shared() -> &'static Clock {
    &CLOCK
}

/// Stops the clock (True), or lets it run again (False) once everyone who stopped it has said so.
#[pyfunction]
pub fn _freeze_clock(on: bool) {
    match (on, STOPPED.load(Relaxed)) {
        (true, 0) => CLOCK.freeze(),
        (false, 0 | 1) => CLOCK.thaw(),
        _ => {}
    }
    let counted = |count: u32| Some(if on { count + 1 } else { count.saturating_sub(1) });
    // Always Ok: the closure never declines.
    STOPPED.fetch_update(Relaxed, Relaxed, counted).ok();
    crate::work::wake_if_running();
}

/// Moves the stopped clock forward by seconds, a timedelta or a text such as "5m".
#[pyfunction]
pub fn _advance_clock(by: &Bound<'_, PyAny>) -> PyResult<()> {
    if !CLOCK.is_frozen() {
        let text = "the clock of the caches runs; stop it with frozen_clock() or the fixture cache_clock to move it";
        return Err(PyRuntimeError::new_err(text));
    }
    let step = options::step(by, "advance", "give seconds, a timedelta, or a text such as '5m'")?;
    CLOCK.advance(step);
    crate::work::wake_if_running();
    let state = by.py().import("samovar._core")?.getattr("_state")?.cast_into::<super::StateHandle>()?;
    for (tier, due) in super::tier::overdue() {
        super::effects::expire(by.py(), state.get().0, &tier, due);
    }
    super::tier::all().iter().for_each(|tier| super::refresher::wake(by.py(), tier.state, tier));
    Ok(())
}

/// The present in seconds since 1970, as the caches see it.
#[pyfunction]
pub fn _clock_time() -> f64 {
    CLOCK.wall(CLOCK.now()) as f64 / 1000.0
}

/// The present in milliseconds on a line of its own: for durations and deadlines.
#[pyfunction]
pub fn _clock_millis() -> u64 {
    CLOCK.now()
}

/// True while it stands still.
#[pyfunction]
pub fn _clock_is_frozen() -> bool {
    CLOCK.is_frozen()
}
