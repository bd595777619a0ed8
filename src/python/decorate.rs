//! From the decorator's checked options to a cached function. `samovar/_cached.py` reads the signature and the options;
//! here they become a [`Function`].

use super::cache::CacheCore;
use super::coding::Coding;
use super::errors;
use super::function::{Function, new_object};
use super::guarded::Guarded;
use super::instances::Instances;
use super::keys::{KeyRule, Naming, Part};
use super::options::shown;
use super::recipe::{Plan, Recipe};
use super::remote::Behind;
use super::signature::{Kind, Parameter, Signature};
use super::tier::{Callee, Object};
use crate::core::flight::Life;
use crate::core::key::{Piece, parse_template};
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A parameter's name, kind, default (none or one), and whether it is part of the key.
type Described<'py> = (Bound<'py, PyString>, u8, Vec<Bound<'py, PyAny>>, bool);

/// What `samovar/_cached.py` found out about a function and its options.
#[derive(FromPyObject)]
pub struct Decoration<'py> {
    id: String,
    path: String,
    is_async: bool,
    parameters: Vec<Described<'py>>,
    key: Bound<'py, PyAny>,
    key_takes: Vec<usize>,
    policy: Bound<'py, PyAny>,
    loader: Object,
    refresh: Option<Object>,
    protects: Object,
    cache_if: Option<Bound<'py, PyAny>>,
    max_entries: Option<u32>,
    bound: bool,
    is_method: bool,
    takes_class: bool,
    canonical: bool,
    /// How its values are written to the store behind the memory, if there is one.
    coding: Option<Py<Coding>>,
}

/// Makes a cached function in this cache.
#[pyfunction]
pub fn _decorate(
    py: Python<'_>,
    core: &Bound<'_, CacheCore>,
    wrapped: Object,
    decoration: Decoration<'_>,
) -> PyResult<Object> {
    let core = core.get();
    let signature = signature(&decoration);
    let rule = rule(&decoration)?;
    let tier = core.tier.clone();
    let recipe = Recipe {
        cache_if: decoration.cache_if.map(Bound::unbind),
        protects: Some(decoration.protects),
        ..Recipe::new(&decoration.policy, decoration.id.clone())?
    };
    let takes_one = decoration.parameters.iter().filter(|(.., in_key)| *in_key).count() == 1;
    let callee = Callee { id: decoration.id.clone(), takes_one };
    let space = tier.add_space(&decoration.path, decoration.max_entries, Some(callee));
    let names = (!matches!(rule, KeyRule::Call)).then(|| tier.names(&decoration.path));
    if names.is_some() {
        space.holds_names();
    }
    let values = matches!(rule, KeyRule::Callable { .. }).then(|| tier.add_space_like(&space, false));
    let coding = decoration.coding.filter(|_| !decoration.takes_class);
    let behind = tier.remote().cloned().zip(coding).map(|(remote, coding)| Behind { remote, coding });
    let function = Function {
        behind,
        tier,
        owner: core.owner.clone_ref(py),
        wrapped,
        signature,
        is_async: decoration.is_async,
        space,
        names,
        values,
        naming: Naming { id: decoration.id, rule, warned: AtomicBool::new(false) },
        life: if decoration.bound { Life::Bound } else { Life::Shared },
        canonical: decoration.canonical,
        plan: Guarded::new(Arc::new(Plan {
            recipe: Arc::new(recipe),
            loader: decoration.loader,
            refresher: decoration.refresh,
        })),
        is_method: AtomicBool::new(false),
        takes_class: decoration.takes_class,
        instances: Instances::default(),
    };
    if decoration.is_method {
        function.becomes_method();
    }
    new_object(py, core.state, Arc::new(function), None)
}

/// Checks a template and names its fields, for `samovar/_cached.py`.
#[pyfunction]
pub fn _template_fields(template: &str) -> PyResult<Vec<String>> {
    let pieces = parse_template(template)?;
    Ok(pieces.into_iter().filter_map(|piece| if let Piece::Field(name) = piece { Some(name) } else { None }).collect())
}

fn signature(decoration: &Decoration<'_>) -> Signature {
    let kinds = [Kind::PositionalOnly, Kind::Either, Kind::VarPositional, Kind::KeywordOnly, Kind::VarKeyword];
    let parameters = decoration.parameters.iter().map(|(name, kind, default, in_key)| Parameter {
        name: name.clone().unbind(),
        kind: kinds[usize::from(*kind)],
        default: default.first().map(|default| default.clone().unbind()),
        in_key: *in_key,
    });
    Signature::new(parameters.collect())
}

fn rule(decoration: &Decoration<'_>) -> PyResult<KeyRule> {
    let key = &decoration.key;
    if key.is_none() {
        return Ok(KeyRule::Call);
    }
    let Ok(template) = key.cast::<PyString>() else {
        return Ok(KeyRule::Callable { callable: key.clone().unbind(), takes: decoration.key_takes.clone() });
    };
    let position = |name: &str| decoration.parameters.iter().position(|p| p.0.to_str().is_ok_and(|own| own == name));
    let parts = parse_template(template.to_str()?)?.into_iter().map(|piece| match piece {
        Piece::Text(text) => Ok(Part::Text(text)),
        Piece::Field(name) => position(&name).map(Part::Value).ok_or_else(|| {
            errors::config(
                key.py(),
                format!("invalid key: {}; {} has no parameter {name:?}", shown(key), decoration.id),
            )
        }),
    });
    Ok(KeyRule::Template(parts.collect::<PyResult<_>>()?))
}
