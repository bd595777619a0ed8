//! What users look at: entries and counters, as the small Python classes of `samovar._views`.

use super::anchor::Anchor;
use super::copy;
use super::recipe::Recipe;
use super::spot::Spot;
use super::state::State;
use super::tier::{Object, Space, Tier};
use crate::core::clock::{Millis, NEVER};
use crate::core::flight::{self, Answer, Refresh, Sight};
use crate::core::memory::{RegionId, Served, Span};
use crate::core::policy;
use crate::core::stats::Stats;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The Entry at a spot, or None if there is none that could be of use.
pub fn entry(py: Python<'_>, tier: &Tier, space: &Space, spot: &Spot) -> PyResult<Object> {
    let (found, _) = spot.locate(py, tier)?;
    let now = tier.clock.now();
    let memory = tier.memory.lock();
    let id = found.filter(|_| !space.is_disabled()).and_then(|found| memory.entries.resolve(found));
    let sight = id.and_then(|id| Some((id, memory.entries.sight(id)?)));
    let Some((id, Sight { span, created, negative, .. })) = sight else { return Ok(py.None()) };
    let state = match (now < span.fresh_until, negative) {
        (true, false) => "fresh",
        (true, true) => "missing",
        (false, false) if now < span.expires => "stale",
        _ => return Ok(py.None()),
    };
    let Some(found) = memory.entries.peek(id).filter(|_| !negative) else {
        drop(memory);
        return make_entry(py, tier, (py.None(), state), created, &span);
    };
    let (value, kind) = (found.value.clone_ref(py), found.tag);
    drop(memory);
    make_entry(py, tier, (copy::hand_out(value.bind(py), kind)?.unbind(), state), created, &span)
}

fn make_entry(
    py: Python<'_>,
    tier: &Tier,
    (value, state): (Object, &str),
    created: Millis,
    span: &Span,
) -> PyResult<Object> {
    let _anchor = Anchor::hold();
    let seconds = |moment| tier.clock.wall(moment) as f64 / 1000.0;
    let ends = |moment| (moment < NEVER).then(|| seconds(moment));
    let class = &tier.state.views(py)?.entry;
    class.call1(py, (value, state, seconds(created), ends(span.fresh_until), ends(span.expires)))
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
        s.unasked,
    ];
    let _anchor = Anchor::hold();
    let stats = tier.state.views(py)?.stats.call_method1(py, "_make", (counted,))?;
    stats.setattr(py, "insight", insight(py, tier, region)?)?;
    Ok(stats)
}

/// What a region's order of eviction knows about itself.
pub fn insight(py: Python<'_>, tier: &Tier, region: RegionId) -> PyResult<Object> {
    let (eviction, insight) = {
        let memory = tier.memory.lock();
        (memory.entries.eviction(region), memory.entries.insight(region))
    };
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
    let _anchor = Anchor::hold();
    state.views(py)?.cache_info.call1(py, (hits, s.misses, max_entries, s.entries))
}

/// Why a lookup would do what it does: the entry's state and borders, who loads it, and what would happen now.
pub fn explain(
    py: Python<'_>,
    tier: &Tier,
    spot: &Spot,
    recipe: &Recipe,
    key: String,
    refresh: Refresh,
) -> PyResult<Object> {
    let _anchor = Anchor::hold();
    let (found, flight) = spot.locate(py, tier)?;
    let now = tier.clock.now();
    let memory = tier.memory.lock();
    let sight = found.and_then(|found| memory.entries.sight(memory.entries.resolve(found)?));
    let flight = flight.filter(|&flight| memory.flights.is_flying(flight));
    let waiting = flight.map(|flight| memory.flights.waiting(flight));
    drop(memory);
    let seconds = |moment: Millis| (0 < moment && moment < NEVER).then(|| tier.clock.wall(moment) as f64 / 1000.0);
    let rules = &recipe.policy;
    let state = match &sight {
        None => "absent",
        Some(sight) if sight.negative && now < sight.span.fresh_until => "missing",
        Some(sight) => match rules.state(&sight.span, sight.created, now, || 0.0) {
            policy::State::Fresh | policy::State::Early => "fresh",
            policy::State::Stale => "stale",
            policy::State::Grace if !sight.negative => "grace",
            policy::State::Grace | policy::State::Dead => "dead",
        },
    };
    let sight = sight.map(|sight| Sight { flying: flight.is_some(), ..sight });
    let answer = sight.as_ref().map_or(Answer::Load, |sight| flight::answer(rules, sight, refresh, now, || 0.0));
    let would = match (answer, flight) {
        (Answer::Serve { refresh: true, .. }, _) => "answer, and refresh behind",
        (Answer::Serve { how: Served::Negative, .. }, _) => "answer that there is nothing",
        (Answer::Serve { .. }, _) => "answer",
        (Answer::Load, Some(_)) => "wait for the load under way",
        (Answer::Load, None) => tier.writings.would(py, spot)?.unwrap_or("load"),
    };
    let span = sight.as_ref().map(|sight| sight.span).unwrap_or_default();
    let facts = PyDict::new(py);
    facts.set_item("key", key)?;
    facts.set_item("state", state)?;
    facts.set_item("would", would)?;
    facts.set_item("created", sight.as_ref().and_then(|sight| seconds(sight.created)))?;
    facts.set_item("fresh_until", seconds(span.fresh_until))?;
    facts.set_item("useful_until", seconds(rules.useful_until(span.fresh_until).min(span.expires)))?;
    facts.set_item("expires", seconds(span.expires))?;
    facts.set_item("retry_at", seconds(span.retry_at).filter(|_| now < span.retry_at))?;
    facts.set_item("load_time", f64::from(span.load) / 1000.0)?;
    facts.set_item("waiting", waiting)?;
    facts.set_item("now", seconds(now))?;
    let class = py.import("samovar._views")?.getattr("Explanation")?;
    Ok(class.call((), Some(&facts))?.unbind())
}
