//! Policies per key: a cache's rules, and what a function's or a cache's own policy becomes under the one that fits.
//!
//! A rule is looked for when a call has missed, never on a hit. What it makes of a policy is worked out once, in Python, and
//! kept beside the policy until the rules are changed.

use super::anchor::Anchor;
use super::recipe::Recipe;
use super::tier::{Object, Tier};
use crate::core::policy::{Glob, Rules};
use pyo3::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static EDITIONS: AtomicU64 = AtomicU64::new(1);

/// A cache's rules: patterns, and the `samovar.Policy` of each.
pub struct Rulebook {
    /// No two have the same.
    edition: u64,
    rules: Rules<Object>,
}

impl Rulebook {
    /// Compiles rules; `None` if there are none.
    pub fn new(rules: Vec<(String, Object)>) -> PyResult<Option<Arc<Rulebook>>> {
        if rules.is_empty() {
            return Ok(None);
        }
        let rules = Rules::new(rules.iter().map(|(pattern, policy)| (pattern.as_str(), policy)))?;
        let rules = rules.map(|policy| Python::attach(|py| policy.clone_ref(py)));
        Ok(Some(Arc::new(Rulebook { edition: EDITIONS.fetch_add(1, Relaxed), rules })))
    }

    /// The policy of the first rule that fits.
    pub fn first(&self, key: &str) -> Option<&Object> {
        self.rules.first(key).map(|(_, policy)| policy)
    }

    /// For the collector.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.rules.values()
    }
}

/// What rules have made of a policy so far, by number, for one edition of them.
#[derive(Default)]
pub struct Ruled {
    edition: u64,
    recipes: HashMap<usize, Arc<Recipe>>,
}

impl Ruled {
    /// Calls `visit` with every object; for the collector.
    pub fn visit(&self, visit: &mut dyn FnMut(&Object) -> bool) -> bool {
        self.recipes.values().all(|recipe| recipe.objects().all(&mut *visit))
    }
}

/// Checks a rule's pattern.
#[pyfunction]
pub fn _check_pattern(pattern: &str) -> PyResult<()> {
    Ok(Glob::new(pattern, "rule").map(drop)?)
}

/// How values of a key are kept: as its own recipe says, under the rule that fits.
pub fn recipe_for(py: Python<'_>, tier: &Tier, own: &Arc<Recipe>, key: &str) -> PyResult<Arc<Recipe>> {
    let Some(book) = tier.rules() else { return Ok(own.clone()) };
    let Some((number, rule)) = book.rules.first(key) else { return Ok(own.clone()) };
    let known = {
        let ruled = own.ruled.lock();
        if ruled.edition == book.edition { ruled.recipes.get(&number).cloned() } else { None }
    };
    if let Some(known) = known {
        return Ok(known);
    }
    let _anchor = Anchor::hold();
    let policy = rule.bind(py).call_method1("over", (&own.source,))?;
    let recipe = Arc::new(Recipe { loaders: own.loaders_under(&policy)?, ..own.under(&policy)? });
    let mut ruled = own.ruled.lock();
    let outdated = if ruled.edition == book.edition {
        HashMap::new()
    } else {
        ruled.edition = book.edition;
        std::mem::take(&mut ruled.recipes)
    };
    ruled.recipes.insert(number, recipe.clone());
    drop(ruled);
    drop(outdated);
    Ok(recipe)
}
