//! A ttl that follows the data: `samovar.Adaptive`, and what it makes of a value that is being stored.
//!
//! The rule is `core::policy::Adaptive`. What it asks for is taken from the entry that the new value takes the place of: since
//! when loads have brought this same value is kept in its span, and how often it was used in the mark of its eviction
//! order, so a hit pays for neither. Values are compared with no lock held.

use super::options;
use super::recipe::Kept;
use super::spot::Spot;
use super::tier::{Object, Tier};
use crate::core::clock::Millis;
use crate::core::policy;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use std::time::Duration;

/// A ttl that follows the data: longer for what rarely changes and for what is used often. Give it as ``ttl=``.
///
/// A loaded value is fresh for ``max(min, age / 10) * (1 + log2(1 + uses))``, at most `max`, before jitter.
///
/// *age* is how long loads have brought this same value: the same object, or one of the same type that is equal. An
/// ``__eq__`` that raises counts as a change. A tenth of it is what RFC 9111, 4.2.2, calls heuristic freshness. *uses* is
/// how often the key was used of late as the cache's eviction counts it: 14 at most, loads after the first included; the
/// orders ``"lru"``, ``"fifo"`` and ``"ttl"`` count none. To be compared the old value is kept until `max` after its load,
/// if there is room; it answers no longer than its ttl and its windows say. What is written by hand has just
/// changed, and is fresh for `min`.
///
/// Args:
///     min: No value is fresh for less: seconds, a timedelta or a text such as ``"10s"``.
///     max: And none for more.
///
/// Raises:
///     ConfigError: A duration that cannot be, or `max` is less than `min`.
///
/// Example:
///     >>> from samovar import Adaptive, cached
///     >>> @cached(ttl=Adaptive("10s", "1h"))
///     ... def price(item: str) -> int:
///     ...     return len(item)
///     >>> price("tea")
///     3
#[pyclass(frozen, eq, hash, module = "samovar")]
#[derive(PartialEq, Eq, Hash)]
pub struct Adaptive(policy::Adaptive);

#[pymethods]
impl Adaptive {
    #[new]
    fn new(min: &Bound<'_, PyAny>, max: &Bound<'_, PyAny>) -> PyResult<Self> {
        let min =
            options::time(min, "min", "give the shortest ttl: seconds above 0, a timedelta or a text such as '10s'")?;
        let max =
            options::time(max, "max", "give the longest ttl: seconds above 0, a timedelta or a text such as '1h'")?;
        Ok(Adaptive(policy::Adaptive::new(min, max)?))
    }

    /// The shortest ttl, in seconds.
    #[getter]
    fn min(&self) -> f64 {
        self.0.min().as_secs_f64()
    }

    /// The longest ttl, in seconds.
    #[getter]
    fn max(&self) -> f64 {
        self.0.max().as_secs_f64()
    }

    fn __getnewargs__(&self) -> (f64, f64) {
        (self.min(), self.max())
    }

    fn __repr__(&self) -> String {
        format!("Adaptive(min={}, max={})", self.min(), self.max())
    }
}

/// The rule, if this ttl is one.
pub fn of(ttl: &Bound<'_, PyAny>) -> Option<policy::Adaptive> {
    ttl.cast::<Adaptive>().ok().map(|adaptive| adaptive.get().0)
}

/// What a new value takes the place of.
struct Before {
    value: Object,
    since: Millis,
    uses: u8,
}

/// Says how long a value that was loaded is fresh, and since when loads bring it. Runs Python: the value's `__eq__`.
pub fn adapt(py: Python<'_>, rule: &policy::Adaptive, tier: &Tier, spot: &Spot, kept: &mut Kept) -> PyResult<()> {
    let now = tier.clock.now();
    let before = before(py, tier, spot, now)?;
    let uses = before.as_ref().map_or(0, |before| before.uses);
    let since = match before {
        Some(before) if is_same(before.value.bind(py), kept.value.bind(py))? => before.since,
        _ => now,
    };
    kept.ttl = Some(Some(rule.ttl(Duration::from_millis(now.saturating_sub(since)), uses.into())));
    // Rounded up: no value counts as older than it is.
    kept.since = u32::try_from(since.div_ceil(1000)).unwrap_or(u32::MAX);
    Ok(())
}

/// The value that is there, of use or not; what says that there is nothing is none.
fn before(py: Python<'_>, tier: &Tier, spot: &Spot, now: Millis) -> PyResult<Option<Before>> {
    let (found, _) = spot.locate(py, tier)?;
    let mut memory = tier.memory.lock();
    let id = found.and_then(|found| memory.entries.resolve(found));
    let sight = id.and_then(|id| Some((id, memory.entries.sight(id)?)));
    let Some((id, sight)) = sight.filter(|(_, sight)| !sight.negative && now < sight.span.expires) else {
        return Ok(None);
    };
    let since = match sight.span.since {
        0 => sight.created,
        seconds => Millis::from(seconds) * 1000,
    };
    // The first use that is counted is the store itself.
    let uses = memory.entries.uses(id).saturating_sub(1);
    Ok(memory.entries.peek(id).map(|found| Before { value: found.value.clone_ref(py), since, uses }))
}

fn is_same(old: &Bound<'_, PyAny>, new: &Bound<'_, PyAny>) -> PyResult<bool> {
    if old.is(new) {
        return Ok(true);
    }
    if !old.get_type().is(new.get_type()) {
        return Ok(false);
    }
    match old.eq(new) {
        Err(error) if error.is_instance_of::<PyException>(old.py()) => Ok(false),
        told => told,
    }
}
