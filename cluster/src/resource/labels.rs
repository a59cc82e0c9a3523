//! Labels, and the selectors that roles match them with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Labels of a node.
pub type Labels = BTreeMap<String, String>;

/// Selects nodes by label: every entry must match; an empty selector matches nothing.
/// `'*': '*'` matches every node.
pub type Selector = BTreeMap<String, OneOrMany>;

/// A value, or any of several. `*` stands for any text, also within a value (`prod-*`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One pattern.
    One(String),
    /// Any of these patterns.
    Many(Vec<String>),
}

impl OneOrMany {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::One(pattern) => glob(pattern, value),
            Self::Many(patterns) => patterns.iter().any(|p| glob(p, value)),
        }
    }
}

/// Whether `selector` selects a node with these labels.
#[must_use]
pub fn selects(selector: &Selector, labels: &Labels) -> bool {
    !selector.is_empty()
        && selector.iter().all(|(key, wanted)| match labels.get(key) {
            Some(value) => wanted.matches(value),
            None => key == "*" && wanted.matches(""),
        })
}

/// Matches `*` against any run of characters, everything else against itself.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut rest = rest;
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or(""),
            None => return false,
        }
    }
    true
}

/// Checks a label's key and value.
///
/// # Errors
/// A sentence that names the label.
pub fn check(key: &str, value: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    if key.is_empty() || key.len() > 64 || !key.chars().all(allowed) {
        return Err(format!(
            "label key {key:?}: expected 1 to 64 letters, digits or . _ / -"
        ));
    }
    if value.len() > 256 || value.chars().any(char::is_control) {
        return Err(format!(
            "label {key}: the value must be printable and at most 256 bytes"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect()
    }

    fn selector(pairs: &[(&str, &[&str])]) -> Selector {
        let many = |v: &[&str]| OneOrMany::Many(v.iter().map(|s| (*s).into()).collect());
        pairs.iter().map(|(k, v)| ((*k).into(), many(v))).collect()
    }

    #[test]
    fn selectors_match_as_the_table_says() {
        let node = labels(&[("env", "prod-eu"), ("board", "gl-mt300")]);
        for (wanted, expect) in [
            (selector(&[]), false),
            (selector(&[("*", &["*"])]), true),
            (selector(&[("env", &["prod-eu"])]), true),
            (selector(&[("env", &["prod-*"])]), true),
            (selector(&[("env", &["*-eu"])]), true),
            (selector(&[("env", &["p*d*eu"])]), true),
            (selector(&[("env", &["lab", "prod-eu"])]), true),
            (selector(&[("env", &["prod"])]), false),
            (
                selector(&[("env", &["prod-eu"]), ("board", &["x86"])]),
                false,
            ),
            (selector(&[("site", &["*"])]), false),
            (selector(&[("env", &[])]), false),
        ] {
            assert_eq!(selects(&wanted, &node), expect, "{wanted:?}");
        }
    }

    #[test]
    fn every_node_is_selected_by_a_star_even_without_labels() {
        assert!(selects(&selector(&[("*", &["*"])]), &Labels::new()));
    }

    #[test]
    fn a_star_in_the_middle_does_not_overlap() {
        assert!(!glob("ab*ba", "aba"));
        assert!(glob("ab*ba", "abba"));
    }
}
