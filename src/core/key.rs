//! Keys as stores and people know them: templates, escaping, and names that are never too long.

use crate::error::{Error, Result};

/// A name longer than this, in bytes of UTF-8, is replaced by its digest.
pub const NAME_LIMIT: usize = 200;

/// A value inside a name: `:` separates parts and `%` escapes, so neither may come from a value.
pub fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            ':' => out.push_str("%3A"),
            '%' => out.push_str("%25"),
            c => out.push(c),
        }
    }
    out
}

/// The 128-bit digest of a canonical key: the first half of its BLAKE3 hash.
pub fn digest(key: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&blake3::hash(key).as_bytes()[..16]);
    out
}

/// A canonical key as it is stored: itself, or beginning and digest if it is too long.
pub fn stored_name(key: &str) -> String {
    if key.len() <= NAME_LIMIT {
        return key.to_owned();
    }
    let hex: String = digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}~{hex}", beginning(key))
}

/// As much of a key's beginning as its name keeps, however long the key is: at most 64 bytes.
pub fn beginning(key: &str) -> &str {
    let most = key.len().min(64);
    let cut = (0..=most).rev().find(|&at| key.is_char_boundary(at)).unwrap_or(0);
    &key[..cut]
}

/// What an entry is called in a store that caches, namespaces and processes share: `cache:namespace:key`. Neither name can be
/// mistaken for part of another, as neither has a `:` of its own there; the key, which is as [`stored_name`] gives it, may.
pub fn shared_name(cache: &str, namespace: &str, key: &str) -> String {
    format!("{}:{}:{key}", escape(cache), escape(namespace))
}

/// True for the namespace itself and those below it; a name that merely begins alike is another.
pub fn is_below(path: &str, namespace: &str) -> bool {
    namespace.is_empty() || path.strip_prefix(namespace).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text that stands as it is.
    Text(String),
    /// The name of a field.
    Field(String),
}

/// Takes a template such as `user:{user_id}` apart; `{{` and `}}` stand for the braces themselves.
pub fn parse_template(template: &str) -> Result<Vec<Piece>> {
    let refuse = |cure: &str| Err(Error::config("key", format!("{template:?}"), cure));
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = template.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '{' | '}' if rest.peek() == Some(&c) => {
                rest.next();
                text.push(c);
            }
            '}' => return refuse("a '}' without '{'; write '}}' for the character itself"),
            '{' => {
                let mut closed = false;
                let field: String = rest
                    .by_ref()
                    .take_while(|&c| {
                        closed = c == '}';
                        !closed
                    })
                    .collect();
                if !closed || field.is_empty() || !field.chars().all(|c| c.is_alphanumeric() || c == '_') {
                    return refuse("a field is the name of a parameter in braces, such as 'user:{user_id}'");
                }
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Field(field));
            }
            c => text.push(c),
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_namespace_is_below_itself_and_those_it_lies_in() {
        for (path, other, goes) in [
            ("", "", true),
            ("a", "", true),
            ("a:b", "a", true),
            ("a", "a", true),
            ("ab", "a", false),
            ("a", "a:b", false),
        ] {
            assert_eq!(is_below(path, other), goes, "{path} in {other}");
        }
    }

    #[test]
    fn a_template_is_text_and_fields() {
        let pieces = parse_template("user:{user_id}:{{x}}").unwrap();
        let expected = [Piece::Text("user:".into()), Piece::Field("user_id".into()), Piece::Text(":{x}".into())];
        assert_eq!(pieces, expected);
    }

    proptest! {
        #[test]
        fn no_two_places_share_a_name(a in "[a:%]{0,4}", b in "[a:%]{0,4}", c in "[a:%]{0,4}", d in "[a:%]{0,4}", k in "[a:]{0,3}", l in "[a:]{0,3}") {
            let same = shared_name(&a, &b, &k) == shared_name(&c, &d, &l);
            prop_assert_eq!(same, (a, b, k) == (c, d, l));
        }
    }

    #[test]
    fn a_bad_template_is_refused_with_itself_and_the_cure() {
        for template in ["user:{", "user:{user_id", "user:{}", "{a.b}", "user:}", "{a!r}"] {
            let error = parse_template(template).unwrap_err().to_string();
            assert!(error.contains("key") && error.contains(template), "{error}");
        }
    }

    #[test]
    fn long_names_become_their_digest_and_stay_apart() {
        let (a, b) = ("k".repeat(300) + "a", "k".repeat(300) + "b");
        assert!(stored_name(&a).len() <= NAME_LIMIT);
        assert_ne!(stored_name(&a), stored_name(&b));
        assert_eq!(stored_name("user:7"), "user:7");
    }

    proptest! {
        #[test]
        fn escaped_values_never_run_into_each_other(a in ".*", b in ".*", c in ".*", d in ".*") {
            let name = |x: &str, y: &str| format!("{}:{}", escape(x), escape(y));
            prop_assert_eq!(name(&a, &b) == name(&c, &d), (a, b) == (c, d));
        }
    }
}
