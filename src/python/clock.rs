//! The one clock of all Python caches of a process; tests stop it and move it by hand.

use super::options;
use crate::core::clock::Clock;
use pyo3::prelude::*;
use std::sync::LazyLock;

static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::system);

/// The shared clock.
pub fn shared() -> &'static Clock {
    &CLOCK
}

/// Stops the clock (True) or lets it run again (False).
#[pyfunction]
pub fn _freeze_clock(on: bool) {
    if on {
        CLOCK.freeze()
    } else {
        CLOCK.thaw()
    }
    crate::work::wake_if_running();
}

/// Moves the stopped clock forward by seconds, a timedelta or a text such as "5m".
#[pyfunction]
pub fn _advance_clock(by: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Some(by) = options::ttl(by, "advance", true)? {
        CLOCK.advance(by);
    }
    crate::work::wake_if_running();
    Ok(())
}

/// The present in seconds since 1970, as the caches see it.
#[pyfunction]
pub fn _clock_time() -> f64 {
    CLOCK.wall(CLOCK.now()) as f64 / 1000.0
}
