//! What users look at: entries and counters, as the small Python classes of `samovar._views`.

use super::anchor::Anchor;
use super::coding::Fetched;
use super::copy;
use super::hearing;
use super::keys;
use super::place::Place;
use super::recipe::Recipe;
use super::spot::Spot;
use super::state::State;
use super::tier::{Object, PyMemory, Space, Tier};
use crate::core::budget::Need;
use crate::core::clock::{Millis, NEVER};
use crate::core::flight::{Refresh, Settled, Sight, Standing, Would};
use crate::core::memory::{RegionId, Span};
use crate::core::remote::Version;
use crate::core::remote::ledger::Note;
use crate::core::stats::Stats;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// The Entry at a spot, or None if there is none that could be of use.
pub fn entry(py: Python<'_>, tier: &Tier, space: &Space, spot: &Spot) -> PyResult<Object> {
    hearing::heed(py, tier);
    let (found, _) = spot.locate(py, tier)?;
    let now = tier.clock.now();
    let mut memory = tier.memory.lock();
    let id = found.filter(|_| !space.is_disabled()).and_then(|found| memory.entries.resolve(found));
    let id = id.filter(|&id| memory.settle(id, now) == Settled::Plain);
    let Some((id, (state, sight))) = id.and_then(|id| Some((id, memory.inspect(id, now)?))) else {
        return Ok(py.None());
    };
    let Sight { span, created, negative, .. } = sight;
    let Some(found) = memory.entries.peek(id).filter(|_| !negative) else {
        let note = note_of(&memory, id);
        drop(memory);
        return make_entry(py, tier, (py.None(), state), (created, &span), (note.tags(), note.version));
    };
    let (value, kind, note) = (found.value.clone_ref(py), found.tag, note_of(&memory, id));
    drop(memory);
    let value = copy::hand_out(value.bind(py), kind)?.unbind();
    make_entry(py, tier, (value, state), (created, &span), (note.tags(), note.version))
}

/// The Entry of what memory has, if it has anything.
pub fn here(py: Python<'_>, place: &Place) -> PyResult<Option<Object>> {
    let entry = entry(py, &place.tier, &place.space, &place.spot)?;
    Ok((!entry.is_none(py)).then_some(entry))
}

/// The Entry of what a store has; None if it has nothing.
pub fn fetched(py: Python<'_>, place: &Place, there: Option<Fetched>) -> PyResult<Object> {
    let Some(Fetched { value, fresh_until, expires, created, tags, version, .. }) = there else { return Ok(py.None()) };
    let state = if value.is_some() { Standing::Fresh } else { Standing::Missing };
    let span = Span { fresh_until, expires, ..Span::until(expires) };
    let value = value.unwrap_or_else(|| py.None());
    make_entry(py, &place.tier, (value, state), (created, &span), (tags.as_deref().unwrap_or_default(), Some(version)))
}

/// What is noted of an entry, if anything is.
fn note_of(memory: &PyMemory, id: u32) -> Note {
    let noted = memory.ledger.as_ref().and_then(|ledger| ledger.of(memory.entries.target(id)));
    noted.cloned().unwrap_or_default()
}

fn make_entry(
    py: Python<'_>,
    tier: &Tier,
    (value, state): (Object, Standing),
    (created, span): (Millis, &Span),
    (tags, version): (&[Box<str>], Option<Version>),
) -> PyResult<Object> {
    let _anchor = Anchor::hold();
    let seconds = |moment| tier.clock.wall(moment) as f64 / 1000.0;
    let ends = |moment| (moment < NEVER).then(|| seconds(moment));
    let (fresh_until, expires) = (ends(span.fresh_until), ends(span.expires));
    let (tags, version) = (PyTuple::new(py, tags.iter().map(|tag| &**tag))?, version.map_or(0, |version| version.0));
    let class = &tier.state.views(py)?.entry;
    class.call1(py, (value, state.to_string(), seconds(created), fresh_until, expires, tags, version))
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
        s.remote_hits,
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

/// Why a lookup would do what it does: the entry's state and borders, who loads it, and what would happen now. A call
/// that has no key goes by its function's name. A loader that is protected knows what would hold up a load.
pub fn explain(
    py: Python<'_>,
    tier: &Tier,
    space: &Space,
    spot: &Spot,
    recipe: &Recipe,
    (loader, refresh): (Option<&Object>, Refresh),
) -> PyResult<Object> {
    let _anchor = Anchor::hold();
    hearing::heed(py, tier);
    let located = spot.locate(py, tier)?;
    let is_full = refresh == Refresh::Behind && !tier.budget().has_room(Need::Met);
    let refresh = if is_full { Refresh::Later } else { refresh };
    let explained = {
        let (mut memory, now) = (tier.memory.lock(), tier.clock.now());
        // What was invalidated is explained as what it is.
        if let Some(id) = located.0.and_then(|entry| memory.entries.resolve(entry)) {
            memory.settle(id, now);
        }
        memory.explain(&recipe.policy, located, refresh, now)
    };
    let would = match explained.would {
        // A write that is pending answers in the place of a load.
        Would::Load => tier.writings.would(py, spot)?.map(str::to_owned),
        _ => None,
    };
    let seconds = |moment: Millis| tier.clock.wall(moment) as f64 / 1000.0;
    let facts = PyDict::new(py);
    match keys::name_of(tier.state, space, spot.hash, spot.key.bind(py))? {
        Some(key) => facts.set_item("key", key)?,
        None => facts.set_item("key", &recipe.name)?,
    }
    facts.set_item("state", explained.state.to_string())?;
    facts.set_item("would", would.unwrap_or_else(|| explained.would.to_string()))?;
    facts.set_item("created", explained.created.map(seconds))?;
    facts.set_item("fresh_until", explained.fresh_until.map(seconds))?;
    facts.set_item("useful_until", explained.useful_until.map(seconds))?;
    facts.set_item("expires", explained.expires.map(seconds))?;
    facts.set_item("retry_at", explained.retry_at.map(seconds))?;
    facts.set_item("load_time", explained.load_time as f64 / 1000.0)?;
    facts.set_item("waiting", explained.waiting)?;
    facts.set_item("now", seconds(explained.now))?;
    let gates = loader.map(|loader| loader.bind(py).getattr_opt("_gates")).transpose()?.flatten();
    if let Some(gates) = gates {
        facts.set_item("gates", gates.call0()?)?;
    }
    let class = py.import("samovar._views")?.getattr("Explanation")?;
    Ok(class.call((), Some(&facts))?.unbind())
}
