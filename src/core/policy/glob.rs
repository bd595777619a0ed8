//! Patterns of keys as people write them: `product:*`, `user:?:name`.
//!
//! `*` stands for any characters, `:` and `/` included, also for none; `?` for exactly one character; `\` takes the meaning
//! from the one after it. A pattern fits a whole key. There are no classes: a `[` is refused, so that `[0-9]`, which other
//! globs know, is never silently taken for itself.

use crate::error::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    One,
    Any,
}

/// A pattern, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
}

/// A stretch of a pattern without wildcards, and where in the key it has to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Literal {
    /// The text.
    pub text: Vec<u8>,
    /// The key begins with it.
    pub at_start: bool,
    /// The key ends with it.
    pub at_end: bool,
}

impl Glob {
    /// Takes a pattern apart; `option` names it in the error.
    pub fn new(pattern: &str, option: &str) -> Result<Self> {
        let refuse = |cure: &str| Err(Error::config(option, format!("{pattern:?}"), cure));
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut rest = pattern.chars();
        while let Some(c) = rest.next() {
            match c {
                // Two of them say what one says.
                '*' if tokens.last() == Some(&Token::Any) => {}
                '*' => tokens.push(Token::Any),
                '?' => tokens.push(Token::One),
                '[' => return refuse(r"classes are not known here; write \[ for the character itself"),
                '\\' => match rest.next() {
                    Some(c) => push_text(&mut tokens, c),
                    None => return refuse(r"a \ at the end; write \\ for the character itself"),
                },
                c => push_text(&mut tokens, c),
            }
        }
        if tokens.is_empty() {
            return refuse("it fits the empty key alone; write '*' for all keys");
        }
        Ok(Glob { tokens })
    }

    /// True if it fits the whole key.
    pub fn fits(&self, key: &str) -> bool {
        let key = key.as_bytes();
        let (mut token, mut at) = (0, 0);
        // Where to go on if what follows the last `*` does not fit: behind it, one character further into the key.
        let mut star = None;
        loop {
            match self.tokens.get(token) {
                None if at == key.len() => return true,
                Some(Token::Any) => {
                    token += 1;
                    star = Some((token, at));
                    continue;
                }
                Some(Token::Byte(byte)) if key.get(at) == Some(byte) => {
                    (token, at) = (token + 1, at + 1);
                    continue;
                }
                Some(Token::One) if at < key.len() => {
                    (token, at) = (token + 1, at + width(key[at]));
                    continue;
                }
                _ => {}
            }
            match star {
                Some((after, from)) if from < key.len() => {
                    let from = from + width(key[from]);
                    (token, at, star) = (after, from, Some((after, from)));
                }
                _ => return false,
            }
        }
    }

    /// Its stretches without wildcards.
    pub fn literals(&self) -> Vec<Literal> {
        let mut found = Vec::new();
        let mut at = 0;
        for run in self.tokens.chunk_by(|a, b| is_text(*a) == is_text(*b)) {
            let text: Vec<u8> = run.iter().filter_map(byte).collect();
            let (at_start, at_end) = (at == 0, at + run.len() == self.tokens.len());
            at += run.len();
            if !text.is_empty() {
                found.push(Literal { text, at_start, at_end });
            }
        }
        found
    }

    /// True if a key fits as soon as the pattern's only stretch of text is where it has to be.
    pub fn is_decided_by_its_literal(&self) -> bool {
        let wildcards = self.tokens.iter().filter(|token| !is_text(**token));
        let runs = self.tokens.chunk_by(|a, b| is_text(*a) == is_text(*b)).filter(|run| is_text(run[0]));
        wildcards.copied().all(|token| token == Token::Any) && runs.count() == 1
    }
}

fn push_text(tokens: &mut Vec<Token>, c: char) {
    tokens.extend(c.encode_utf8(&mut [0; 4]).bytes().map(Token::Byte));
}

fn is_text(token: Token) -> bool {
    matches!(token, Token::Byte(_))
}

fn byte(token: &Token) -> Option<u8> {
    if let Token::Byte(byte) = token { Some(*byte) } else { None }
}

/// How many bytes the character has that begins with this one.
fn width(first: u8) -> usize {
    match first {
        0..0x80 => 1,
        0x80..0xE0 => 2,
        0xE0..0xF0 => 3,
        _ => 4,
    }
}

/// The definition, as slow as it is short.
#[cfg(test)]
pub fn fits_slowly(pattern: &[char], key: &[char]) -> bool {
    match (pattern, key) {
        ([], key) => key.is_empty(),
        (['*', rest @ ..], key) => (0..=key.len()).any(|skip| fits_slowly(rest, &key[skip..])),
        (['?', rest @ ..], [_, key @ ..]) => fits_slowly(rest, key),
        (['\\', c, rest @ ..], [k, key @ ..]) => c == k && fits_slowly(rest, key),
        ([c, rest @ ..], [k, key @ ..]) => c == k && fits_slowly(rest, key),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_question_marks_and_escapes() {
        for (pattern, fits, does_not) in [
            ("product:*", vec!["product:", "product:7", "product:a:b/c"], vec!["product", "aproduct:7", ""]),
            ("*:name", vec![":name", "user:7:name"], vec!["name", "user:name:", "user:names"]),
            ("user:?:*", vec!["user:7:", "user:é:x", "user:😀:x"], vec!["user::x", "user:77:x"]),
            ("*a*b*", vec!["ab", "xaxbx", "aab"], vec!["ba", "a", "b", ""]),
            ("a??", vec!["abc", "aéü"], vec!["ab", "abcd"]),
            (r"a\*\?\\\[b", vec![r"a*?\[b"], vec!["axxxxb"]),
            ("***", vec!["", "a"], vec![]),
        ] {
            let glob = Glob::new(pattern, "rule").unwrap();
            assert!(fits.iter().all(|key| glob.fits(key)), "{pattern}");
            assert!(!does_not.iter().any(|key| glob.fits(key)), "{pattern}");
        }
    }

    #[test]
    fn what_it_cannot_do_is_refused_with_the_pattern_and_the_cure() {
        for (pattern, cure) in [("a[0-9]", r"write \["), (r"a\", r"write \\"), ("", "write '*'")] {
            let error = Glob::new(pattern, "rule").unwrap_err().to_string();
            assert!(error.contains(&format!("invalid rule: {pattern:?}")) && error.contains(cure), "{error}");
        }
    }

    #[test]
    fn its_literals_say_where_they_have_to_be() {
        let literals = |pattern| Glob::new(pattern, "rule").unwrap().literals();
        let literal = |text: &str, at_start, at_end| Literal { text: text.into(), at_start, at_end };
        assert_eq!(
            literals("a:*:b?c"),
            [literal("a:", true, false), literal(":b", false, false), literal("c", false, true)]
        );
        assert_eq!(literals("abc"), [literal("abc", true, true)]);
        assert_eq!(literals("*?*"), []);
    }

    proptest! {
        #[test]
        fn it_fits_what_the_definition_says(pattern in r"(a|b|é|\*|\?|\\\*){1,8}", key in "[abé*]{0,9}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = fits_slowly(&chars(&pattern), &chars(&key));
            prop_assert_eq!(Glob::new(&pattern, "rule").unwrap().fits(&key), expected);
        }
    }
}
