//! Options as Python gives them: durations in all their forms, and the errors that name option, value and cure.

use super::anchor::Anchor;
use super::{adaptive, errors};
use crate::core::clock::NEVER;
use crate::core::policy::{OnRefreshError, Policy, parse_duration};
use crate::core::remote::Sharing;
use pyo3::prelude::*;
use pyo3::types::{PyDelta, PyDeltaAccess, PyString};
use std::time::Duration;

const CURE: &str =
    "give seconds > 0, a timedelta, a text such as '5m', None for no expiry, or leave it out for the policy's";

/// For durations that are no ttl: a window, a time limit, a pause.
const SPAN_CURE: &str = "give seconds, a timedelta, a text such as '5m', or None for none";
const TIME_CURE: &str = "give seconds > 0, a timedelta, a text such as '5m', or None for none";

/// A limit that is not zero, `None` if there is none or it is without end.
fn limit(given: &Bound<'_, PyAny>, option: &str) -> PyResult<Option<Duration>> {
    Ok(ttl(&given.getattr(option)?, option, true)?.filter(|span| !span.is_zero()))
}

/// A window, zero if there is none. One without end is as long as can be.
fn window(given: &Bound<'_, PyAny>, option: &str) -> PyResult<Duration> {
    let given = given.getattr(option)?;
    if given.is_none() { Ok(Duration::ZERO) } else { Ok(ttl(&given, option, true)?.unwrap_or(Duration::MAX)) }
}

/// A `samovar.Policy` in which nothing is left out, checked there.
pub fn policy(given: &Bound<'_, PyAny>) -> PyResult<Policy> {
    let own = given.getattr("ttl")?;
    Ok(Policy {
        // Callables and "not stored" are the caller's affair; what is written by hand has just changed.
        ttl: match adaptive::of(&own) {
            Some(rule) => Some(rule.min()),
            None if own.is_callable() => None,
            None => ttl(&own, "ttl", false)?,
        },
        stale_while_revalidate: window(given, "stale_while_revalidate")?,
        stale_if_error: window(given, "stale_if_error")?,
        retry_after: window(given, "retry_after")?,
        on_refresh_error: match given.getattr("on_refresh_error")?.extract::<String>()?.as_str() {
            "drop" => OnRefreshError::Drop,
            _ => OnRefreshError::Keep,
        },
        soft_timeout: limit(given, "soft_timeout")?,
        timeout: limit(given, "timeout")?,
        early: given.getattr("early")?.extract()?,
        jitter: given.getattr("jitter")?.extract()?,
        negative_ttl: Some(window(given, "negative_ttl")?).filter(|window| !window.is_zero()),
        min_refresh_interval: window(given, "min_refresh_interval")?,
        single_flight: match given.getattr("single_flight")?.extract::<String>()?.as_str() {
            "cluster" => Sharing::Cluster,
            _ => Sharing::Process,
        },
        wait: limit(given, "wait")?,
    })
}

/// Classes of exceptions that are kept, and for how long.
pub fn kept_errors(given: &Bound<'_, PyAny>) -> PyResult<Vec<(Py<PyAny>, Duration)>> {
    let mut errors = Vec::new();
    for pair in given.call_method0("items")?.try_iter()? {
        let (class, life) = pair?.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
        let life = ttl(&life, "cache_errors", true)?.unwrap_or(Duration::MAX);
        errors.push((class.unbind(), life));
    }
    Ok(errors)
}

/// A ttl: `None` is no expiry, zero is "do not store" where `zero` allows it.
pub fn ttl(value: &Bound<'_, PyAny>, option: &str, zero: bool) -> PyResult<Option<Duration>> {
    // Beyond what a Duration holds is as good as never.
    if value.is_none() { Ok(None) } else { duration(value, option, zero, CURE) }
}

/// A duration above zero and within reason, or an error with this cure.
pub fn time(value: &Bound<'_, PyAny>, option: &str, cure: &str) -> PyResult<Duration> {
    let found = duration(value, option, false, cure)?.filter(|time| time.as_secs() < NEVER / 1000);
    found.ok_or_else(|| refuse(value, option, cure))
}

/// A duration with an end, which may be no time at all, or an error with this cure.
pub fn step(value: &Bound<'_, PyAny>, option: &str, cure: &str) -> PyResult<Duration> {
    duration(value, option, true, cure)?.ok_or_else(|| refuse(value, option, cure))
}

/// A duration in any of its forms; `None` if it is longer than a Duration can be.
fn duration(value: &Bound<'_, PyAny>, option: &str, zero: bool, cure: &str) -> PyResult<Option<Duration>> {
    let refuse = || refuse(value, option, cure);
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
            seconds => Duration::try_from_secs_f64(seconds).ok(),
        }
    };
    if !zero && duration == Some(Duration::ZERO) {
        return Err(refuse());
    }
    Ok(duration)
}

/// The error about an option: what it is, what it was given, and what to do.
pub fn refuse(value: &Bound<'_, PyAny>, option: &str, cure: &str) -> PyErr {
    errors::config(value.py(), format!("invalid {option}: {}; {cure}", shown(value)))
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

/// Checks a literal ttl before anybody uses it. Zero, which is "do not store", is for values alone, and an Adaptive is not.
#[pyfunction]
#[pyo3(signature = (ttl, zero = false))]
pub fn _check_ttl(ttl: &Bound<'_, PyAny>, zero: bool) -> PyResult<()> {
    if adaptive::of(ttl).is_some() && !zero { Ok(()) } else { self::ttl(ttl, "ttl", zero).map(drop) }
}

/// Checks a duration other than a ttl: none, or positive; zero too where it means "none".
#[pyfunction]
pub fn _check_span(given: &Bound<'_, PyAny>, option: &str, zero: bool) -> PyResult<()> {
    let cure = if zero { SPAN_CURE } else { TIME_CURE };
    if given.is_none() { Ok(()) } else { duration(given, option, zero, cure).map(drop) }
}

/// A duration in seconds; without end if there is none.
#[pyfunction]
pub fn _seconds(given: &Bound<'_, PyAny>) -> PyResult<f64> {
    Ok(self::ttl(given, "duration", true)?.map_or(f64::INFINITY, |span| span.as_secs_f64()))
}
