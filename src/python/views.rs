//! What users look at: entries and counters, as the small Python classes of `samovar._views`.

use super::anchor::Anchor;
use super::copy;
use super::request::{Served, Spot};
use super::tier::{Object, Space, Tier};
use crate::core::clock::NEVER;
use crate::core::memory::{Eviction, Insight};
use crate::core::stats::Stats;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The Entry at a spot, or None.
pub fn entry(py: Python<'_>, tier: &Tier, space: &Space, spot: &Spot) -> PyResult<Object> {
    let Some(Served { value, kind, created, deadline, .. }) = spot.served(py, tier, space)? else {
        return Ok(py.None());
    };
    let _anchor = Anchor::hold();
    let value = copy::hand_out(value.bind(py), kind)?;
    let seconds = |moment| tier.clock.wall(moment) as f64 / 1000.0;
    let ends = (deadline < NEVER).then(|| seconds(deadline));
    let class = py.import("samovar._views")?.getattr("Entry")?;
    Ok(class.call1((value, "fresh", seconds(created), ends, ends))?.unbind())
}

/// The counters.
pub fn stats(py: Python<'_>, s: &Stats) -> PyResult<Object> {
    let _anchor = Anchor::hold();
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
    ];
    Ok(class.call_method1("_make", (counted,))?.unbind())
}

/// What the order of eviction knows about itself.
pub fn insight(py: Python<'_>, eviction: Eviction, insight: &Insight) -> PyResult<Object> {
    let _anchor = Anchor::hold();
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
    let _anchor = Anchor::hold();
    let class = py.import("samovar._views")?.getattr("CacheInfo")?;
    let hits = s.hits + s.stale_hits + s.negative_hits;
    Ok(class.call1((hits, s.misses, max_entries, s.entries))?.unbind())
}
