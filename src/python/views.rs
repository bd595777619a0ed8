//! What users look at: entries and counters, as the small Python classes of `samovar._views`.

use super::copy;
use super::request::Spot;
use super::tier::{Object, Space, Tier};
use crate::core::clock::NEVER;
use crate::core::memory::{Eviction, Insight};
use crate::core::stats::Stats;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The Entry at a spot, or None.
pub fn entry(py: Python<'_>, tier: &Tier, space: &Space, spot: &Spot) -> PyResult<Object> {
    let (found, _) = spot.locate(py, tier)?;
    let memory = tier.memory.lock();
    let id = found.filter(|_| !space.is_disabled()).and_then(|found| memory.entries.resolve(found));
    let id = id.filter(|&id| memory.entries.is_served(id, |end| tier.clock.has_come(end)));
    let Some((id, found)) = id.and_then(|id| Some((id, memory.entries.peek(id)?))) else { return Ok(py.None()) };
    let (value, kind) = (found.value.clone_ref(py), found.tag);
    let (created, span) = (memory.entries.created(id), memory.entries.span(id));
    drop(memory);
    let value = copy::hand_out(value.bind(py), kind)?;
    let seconds = |moment| tier.clock.wall(moment) as f64 / 1000.0;
    let ends = |moment| (moment < NEVER).then(|| seconds(moment));
    let class = py.import("samovar._views")?.getattr("Entry")?;
    let state = if tier.clock.now() < span.fresh_until { "fresh" } else { "stale" };
    Ok(class.call1((value, state, seconds(created), ends(span.fresh_until), ends(span.expires)))?.unbind())
}

/// The counters.
pub fn stats(py: Python<'_>, s: &Stats) -> PyResult<Object> {
    let class = py.import("samovar._views")?.getattr("Stats")?;
    let counted = [
        s.hits,
        s.stale_hits,
        s.negative_hits,
        s.misses,
        s.loads,
        s.load_errors,
        s.coalesced,
        s.refreshes,
        s.evictions,
        s.expired,
        s.invalidations,
        s.entries,
        s.bytes,
        s.refused,
        s.unasked,
    ];
    Ok(class.call_method1("_make", (counted,))?.unbind())
}

/// What the order of eviction knows about itself.
pub fn insight(py: Python<'_>, eviction: Eviction, insight: &Insight) -> PyResult<Object> {
    let class = py.import("samovar._views")?.getattr("Insight")?;
    let settings = PyDict::new(py);
    for (name, ratio) in &insight.settings {
        settings.set_item(name, ratio)?;
    }
    let curve = PyDict::new(py);
    for (multiple, ratio) in &insight.curve {
        curve.set_item(multiple, ratio)?;
    }
    Ok(class.call1((eviction.name(), insight.setting, insight.switches, settings, curve))?.unbind())
}

/// The counters in `functools`' words.
pub fn cache_info(py: Python<'_>, s: &Stats, max_entries: u32) -> PyResult<Object> {
    let class = py.import("samovar._views")?.getattr("CacheInfo")?;
    let hits = s.hits + s.stale_hits + s.negative_hits;
    Ok(class.call1((hits, s.misses, max_entries, s.entries))?.unbind())
}
