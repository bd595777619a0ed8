//! A timer of an event loop that says when somebody's patience, or a load's time, is over.
//!
//! The loop's clock and the cache's need not agree: a timer that comes too early is set again, and while the cache's clock
//! stands still, whoever moves it looks for those whose time is up.

use super::effects;
use super::state::State;
use super::tier::{Object, Tier};
use crate::core::clock::{Millis, NEVER};
use crate::core::flight::Due;
use pyo3::prelude::*;
use std::sync::Arc;

/// What a loop calls when the time has come.
#[pyclass(frozen, module = "samovar._core")]
pub struct Alarm {
    tier: Arc<Tier>,
    state: &'static State,
    event_loop: Object,
    due: Due,
    at: Millis,
}

#[pymethods]
impl Alarm {
    fn __call__(this: &Bound<'_, Self>) -> PyResult<()> {
        let Alarm { tier, state, event_loop, due, at } = this.get();
        let now = tier.clock.now();
        if now >= *at {
            effects::expire(this.py(), state, tier, *due);
        } else if !tier.clock.is_frozen() {
            call_later(this, state, event_loop.bind(this.py()), at - now)?;
        }
        Ok(())
    }
}

/// Sets an alarm on a loop; `None` for what is never due. Cancel what it gives when it is not needed any more.
pub fn set(
    state: &'static State,
    tier: &Arc<Tier>,
    here: &Bound<'_, PyAny>,
    due: Due,
    at: Millis,
) -> PyResult<Option<Object>> {
    if at >= NEVER {
        return Ok(None);
    }
    let event_loop = here.clone().unbind();
    let alarm = Bound::new(here.py(), Alarm { tier: tier.clone(), state, event_loop, due, at })?;
    Ok(Some(call_later(&alarm, state, here, at.saturating_sub(tier.clock.now()))?.unbind()))
}

fn call_later<'py>(
    alarm: &Bound<'py, Alarm>,
    state: &State,
    event_loop: &Bound<'py, PyAny>,
    wait: Millis,
) -> PyResult<Bound<'py, PyAny>> {
    // A loop's clock has a resolution too: half a millisecond more than one less.
    let seconds = (wait as f64 + 0.5) / 1000.0;
    event_loop.call_method1(&state.names.call_later, (seconds, alarm))
}

/// Takes back an alarm on the loop that runs here.
pub fn cancel(py: Python<'_>, state: &State, timer: Option<Object>) {
    if let Some(timer) = timer {
        drop(timer.bind(py).call_method0(&state.names.cancel));
    }
}
