//! Rules: patterns in order, of which the first that fits a key decides. Compiled once, never changed.
//!
//! A lookup does not try one rule after the other. Each rule has one stretch of text that a key must have, the one that fewest
//! other rules share; one pass over the key finds which occur where they have to, and only those rules are looked at. So
//! a hundred rules cost about what one costs (docs/decisions.md). Rules of wildcards alone, such as `*`, are tried in order.

use super::glob::{Glob, Literal};
use super::literals::Literals;
use crate::error::Result;
use std::collections::HashMap;

/// Patterns, each with what it decides.
#[derive(Clone, Debug)]
pub struct Rules<T> {
    rules: Vec<(Glob, T)>,
    literals: Literals,
    /// For each text of `literals`: its rule, and what has to be true of it.
    needs: Vec<Need>,
    /// Rules without text, in order.
    bare: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Need {
    rule: u32,
    len: u32,
    at_start: bool,
    at_end: bool,
    /// Where the text is right, the rule fits.
    decides: bool,
}

impl<T> Rules<T> {
    /// Compiles patterns in the order in which they are asked.
    pub fn new<'a>(rules: impl IntoIterator<Item = (&'a str, T)>) -> Result<Self> {
        let compile = |(pattern, value)| Ok((Glob::new(pattern, "rule")?, value));
        let rules: Vec<(Glob, T)> = rules.into_iter().map(compile).collect::<Result<_>>()?;
        let chosen = choose(&rules);
        let (mut needs, mut texts, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for (number, literal) in chosen.into_iter().enumerate() {
            let rule = number as u32;
            let Some(Literal { text, at_start, at_end }) = literal else {
                bare.push(rule);
                continue;
            };
            let decides = rules[number].0.is_decided_by_its_literal();
            needs.push(Need { rule, len: text.len() as u32, at_start, at_end, decides });
            texts.push(text);
        }
        let only_at_start = needs.iter().all(|need| need.at_start);
        let literals = Literals::new(texts.iter().map(Vec::as_slice), only_at_start);
        Ok(Rules { rules, literals, needs, bare })
    }

    /// The number of the first rule that fits, from 0, and what it decides.
    pub fn first(&self, key: &str) -> Option<(usize, &T)> {
        let mut first = self.rules.len() as u32;
        self.literals.find(key.as_bytes(), |end, texts| {
            for need in texts.iter().map(|&text| &self.needs[text as usize]) {
                if need.rule >= first {
                    break;
                }
                if self.fits(need, key, end) {
                    first = need.rule;
                }
            }
            first > 0
        });
        let mut bare = self.bare.iter().take_while(|&&rule| rule < first);
        let first = bare.find(|&&rule| self.rules[rule as usize].0.fits(key)).copied().unwrap_or(first) as usize;
        self.rules.get(first).map(|(_, value)| (first, value))
    }

    /// True if the rule fits, whose text ends at `end`.
    #[inline]
    fn fits(&self, need: &Need, key: &str, end: usize) -> bool {
        let right = (!need.at_start || need.len as usize == end) && (!need.at_end || key.len() == end);
        right && (need.decides || self.rules[need.rule as usize].0.fits(key))
    }

    /// The same patterns, each deciding something else.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Rules<U> {
        let Rules { rules, literals, needs, bare } = self;
        let rules = rules.into_iter().map(|(glob, value)| (glob, f(value))).collect();
        Rules { rules, literals, needs, bare }
    }

    /// What they decide, in order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.rules.iter().map(|(_, value)| value)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// Of each rule the text to look for: the one that fewest rules have, of these the longest.
fn choose<T>(rules: &[(Glob, T)]) -> Vec<Option<Literal>> {
    let literals: Vec<Vec<Literal>> = rules.iter().map(|(glob, _)| glob.literals()).collect();
    let mut shared: HashMap<&Literal, usize> = HashMap::new();
    for literal in literals.iter().flatten() {
        *shared.entry(literal).or_default() += 1;
    }
    let rank = |literal: &&Literal| (std::cmp::Reverse(shared[*literal]), literal.text.len());
    literals.iter().map(|of_rule| of_rule.iter().max_by_key(rank).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::glob::fits_slowly;
    use super::*;
    use proptest::prelude::*;

    fn rules<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Rules<&'a str> {
        Rules::new(patterns.into_iter().map(|pattern| (pattern, pattern))).unwrap()
    }

    #[test]
    fn the_first_that_fits_decides() {
        let rules = rules(["product:1:*", "product:*", "*:name", "exact", "*"]);
        for (key, expected) in [
            ("product:1:name", "product:1:*"),
            ("product:2:name", "product:*"),
            ("user:2:name", "*:name"),
            ("exact", "exact"),
            ("exactly", "*"),
            ("", "*"),
        ] {
            assert_eq!(rules.first(key).map(|(_, pattern)| *pattern), Some(expected), "{key}");
        }
    }

    #[test]
    fn no_rule_fits_where_there_is_none() {
        assert_eq!(rules([]).first("key"), None);
        assert_eq!(rules(["a*", "*b"]).first("key"), None);
        assert!(rules([]).is_empty() && rules(["a"]).len() == 1);
    }

    #[test]
    fn the_text_fewest_share_is_looked_for() {
        let patterns: Vec<String> = (0..100).map(|n| format!("product:*:{n}")).collect();
        let rules = rules(patterns.iter().map(String::as_str));
        let mut looked_at = 0;
        rules.literals.find(b"product:x:42", |_, texts| {
            looked_at += texts.len();
            true
        });
        assert_eq!(looked_at, 2, "`:4` and `:42`");
        assert_eq!(rules.first("product:x:42").map(|(number, _)| number), Some(42));
    }

    #[test]
    fn a_bad_pattern_is_refused() {
        let error = Rules::new([("a*", 1), ("b[0-9]", 2)]).unwrap_err().to_string();
        assert!(error.contains(r#"invalid rule: "b[0-9]""#), "{error}");
    }

    proptest! {
        #[test]
        fn it_is_the_rule_that_trying_one_after_the_other_finds(
            patterns in proptest::collection::vec(r"(a|b|:|é|\*|\?|\\\?){1,6}", 0..12),
            keys in proptest::collection::vec("[ab:é?]{0,8}", 1..20),
        ) {
            let rules = rules(patterns.iter().map(String::as_str));
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            for key in keys {
                let expected = patterns.iter().position(|pattern| fits_slowly(&chars(pattern), &chars(&key)));
                prop_assert_eq!(rules.first(&key).map(|(number, _)| number), expected, "{}", key);
            }
        }
    }
}
