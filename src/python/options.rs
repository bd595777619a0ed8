//! Options as Python gives them: durations in all their forms, and the errors that name option, value and cure.

use super::anchor::Anchor;
use super::errors;
use crate::core::policy::parse_duration;
use pyo3::prelude::*;
use pyo3::types::{PyDelta, PyDeltaAccess, PyString};
use std::time::Duration;

const CURE: &str =
    "give seconds > 0, a timedelta, a text such as '5m', None for no expiry, or leave it out for the policy's";

/// A ttl: `None` is no expiry, zero is "do not store" where `zero` allows it.
pub fn ttl(value: &Bound<'_, PyAny>, option: &str, zero: bool) -> PyResult<Option<Duration>> {
    if value.is_none() {
        return Ok(None);
    }
    let refuse = || errors::config(value.py(), format!("invalid {option}: {}; {CURE}", shown(value)));
    let duration = if let Ok(text) = value.cast::<PyString>() {
        Some(parse_duration(text.to_str()?, option)?)
    } else if let Ok(delta) = value.cast::<PyDelta>() {
        let days = i64::from(delta.get_days());
        let seconds = days * 86_400 + i64::from(delta.get_seconds());
        let whole = u64::try_from(seconds).map_err(|_| refuse())?;
        Some(Duration::new(whole, delta.get_microseconds() as u32 * 1000))
    } else {
        if value.is_instance_of::<pyo3::types::PyBool>() {
            return Err(refuse());
        }
        match value.extract::<f64>().map_err(|_| refuse())? {
            seconds if seconds.is_nan() || seconds < 0.0 => return Err(refuse()),
            // Beyond what a Duration holds is as good as never.
            seconds => Duration::try_from_secs_f64(seconds).ok(),
        }
    };
    if !zero && duration == Some(Duration::ZERO) {
        return Err(refuse());
    }
    Ok(duration)
}

/// How a value is shown in an error: its `repr`, cut if it is long.
pub fn shown(value: &Bound<'_, PyAny>) -> String {
    let _anchor = Anchor::hold();
    let text = value.repr().map_or_else(|_| format!("a {}", value.get_type()), |repr| repr.to_string());
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

/// Checks a literal ttl when decorating, before the function is there.
#[pyfunction]
pub fn _check_ttl(ttl: &Bound<'_, PyAny>) -> PyResult<()> {
    self::ttl(ttl, "ttl", false).map(drop)
}
