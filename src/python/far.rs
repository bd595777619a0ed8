//! What is done by hand with a call of a cached function whose entry may be in the store behind the memory.
//!
//! Each gives nothing where it cannot be there: then it is memory's affair alone.

use super::errand;
use super::errands::{Cleared, Clearing, Gives, Glance, Writes};
use super::errors;
use super::function::Function;
use super::keys::{KeyRule, Naming, Part};
use super::place::{Change, Over, Place};
use super::request::Request;
use super::state::State;
use super::tier::Object;
use super::views;
use crate::core::clock::deadline;
use crate::core::key::beginning;
use crate::core::policy::Glob;
use pyo3::prelude::*;
use std::sync::Arc;

/// `f.invalidate(...)`.
pub fn invalidate(py: Python<'_>, state: &'static State, call: &Request, waits: bool) -> PyResult<Option<Object>> {
    let Some(place) = Place::of(py, state, call)? else { return Ok(None) };
    let remote = Arc::clone(&place.behind.remote);
    let writes = Writes::new(vec![Change::removal(place)], Gives::Stamp, "invalidate");
    errand::run(py, state, &remote, writes, waits).map(Some)
}

/// `f.peek(...)`.
pub fn peek(py: Python<'_>, state: &'static State, call: &Request, waits: bool) -> PyResult<Option<Object>> {
    let Some(place) = Place::of(py, state, call)? else { return Ok(None) };
    let remote = Arc::clone(&place.behind.remote);
    let glance = Glance { place, here: views::here, tells: views::fetched };
    errand::run(py, state, &remote, glance, waits).map(Some)
}

/// `f.set(value, ...)`.
pub fn set(
    py: Python<'_>,
    state: &'static State,
    call: &Request,
    value: &Bound<'_, PyAny>,
    waits: bool,
) -> PyResult<Option<Object>> {
    let Some(place) = Place::of(py, state, call)? else { return Ok(None) };
    let kept = call.recipe.keep(value, &call.loader, &call.tier, state);
    let mut kept = kept.map_err(|error| errors::not_stop(py, error))?;
    kept.ttl = kept.ttl.filter(|_| !call.space.is_disabled());
    let (remote, end) = (Arc::clone(&place.behind.remote), deadline(call.tier.clock.now(), kept.ttl.flatten()));
    let change = Change::put(py, place, kept, end, Over::Anything)?;
    errand::run(py, state, &remote, Writes::new(vec![change], Gives::Stamp, "set"), waits).map(Some)
}

/// `f.invalidate_all()`. Not the names that a `key=` callable gives: nobody knows which those are.
pub fn invalidate_all(
    py: Python<'_>,
    state: &'static State,
    function: &Arc<Function>,
    waits: bool,
) -> PyResult<Option<Object>> {
    let Some(behind) = &function.behind else { return Ok(None) };
    let (begins, wanted) = names_of(&function.naming)?;
    let prefix = behind.remote.key(&function.space, &begins);
    let (remote, own) = (Arc::clone(&behind.remote), Arc::clone(function));
    let after = move |py: Python<'_>, cleared: Cleared<'_>| {
        if let Cleared::End { .. } = cleared {
            own.tier.note_all_changed();
            own.forget_all(py);
        }
        Ok(())
    };
    let clearing = Clearing::new(Arc::clone(&remote), vec![prefix], wanted, after);
    errand::run(py, state, &remote, clearing, waits).map(Some)
}

/// What the names of a function's entries begin with, and which of those that do are its.
fn names_of(naming: &Naming) -> PyResult<(String, Option<Glob>)> {
    let KeyRule::Template(parts) = &naming.rule else {
        return Ok((beginning(&format!("{}:", naming.id)).to_owned(), None));
    };
    let text = |part: &Part| if let Part::Text(text) = part { Some(text.clone()) } else { None };
    let literal: String = parts.iter().map_while(text).collect();
    // A pattern fits something, so the last character is its.
    let begins = beginning(&literal).chars().rev().skip(1).collect::<Vec<_>>().into_iter().rev().collect::<String>();
    let rest =
        parts.iter().skip_while(|part| text(part).is_some()).map(|part| text(part).map_or("*".into(), literally));
    let pattern = literally(literal[begins.len()..].to_owned()) + &rest.collect::<String>();
    Ok((begins, Some(Glob::new(&pattern, "key")?)))
}

/// A text as a pattern that it alone fits.
fn literally(text: String) -> String {
    let escaped = |c: char| if matches!(c, '*' | '?' | '[' | '\\') { vec!['\\', c] } else { vec![c] };
    text.chars().flat_map(escaped).collect()
}
