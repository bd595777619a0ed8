//! What users look at: entries and counters, as the small Python classes of `samovar._views`.

use super::copy;
use super::request::Spot;
use super::state::State;
use super::tier::{Object, Space, Tier};
use crate::core::clock::NEVER;
use crate::core::memory::RegionId;
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
    let (created, deadline) = memory.entries.life(id);
    drop(memory);
    let value = copy::hand_out(value.bind(py), kind)?;
    let seconds = |moment| tier.clock.wall(moment) as f64 / 1000.0;
    let ends = (deadline < NEVER).then(|| seconds(deadline));
    tier.state.views(py)?.entry.call1(py, (value, "fresh", seconds(created), ends, ends))
}

/// The counters, and the insight into a region.
pub fn stats(py: Python<'_>, s: &Stats, tier: &Tier, region: RegionId) -> PyResult<Object> {
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
    let stats = tier.state.views(py)?.stats.call_method1(py, "_make", (counted,))?;
    stats.setattr(py, "insight", insight(py, tier, region)?)?;
    Ok(stats)
}

/// What a region's order of eviction knows about itself.
pub fn insight(py: Python<'_>, tier: &Tier, region: RegionId) -> PyResult<Object> {
    let (eviction, insight) = tier.memory.lock().entries.insight(region);
    let settings = PyDict::new(py);
    for (name, ratio) in &insight.settings {
        settings.set_item(name, ratio)?;
    }
    let curve = PyDict::new(py);
    for (multiple, ratio) in &insight.curve {
        curve.set_item(multiple, ratio)?;
    }
    let class = &tier.state.views(py)?.insight;
    class.call1(py, (eviction.name(), insight.setting, insight.switches, settings, curve))
}

/// The counters in `functools`' words.
pub fn cache_info(py: Python<'_>, s: &Stats, state: &State, max_entries: u32) -> PyResult<Object> {
    let hits = s.hits + s.stale_hits + s.negative_hits;
    state.views(py)?.cache_info.call1(py, (hits, s.misses, max_entries, s.entries))
}
