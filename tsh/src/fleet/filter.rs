//! Which nodes are meant: by labels and by words.

use crate::api::types::Node;

/// `key=value`, or `key=*` for any value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabelFilter {
    key: String,
    /// `None` for any.
    value: Option<String>,
}

impl LabelFilter {
    /// Reads `key=value`.
    ///
    /// # Errors
    /// A sentence, for the command line's own error.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self {
                key: key.to_owned(),
                value: (value != "*").then(|| value.to_owned()),
            }),
            _ => Err("expected KEY=VALUE, such as env=prod".to_owned()),
        }
    }

    fn takes(&self, node: &Node) -> bool {
        let found = node.labels.get(&self.key);
        match &self.value {
            Some(value) => found == Some(value),
            None => found.is_some(),
        }
    }
}

/// Everything that must match.
#[derive(Debug)]
pub(crate) struct Filter<'a> {
    labels: &'a [LabelFilter],
    words: Vec<String>,
}

impl<'a> Filter<'a> {
    /// All labels must match and all words occur; words are looked for without regard to case.
    pub(crate) fn new(labels: &'a [LabelFilter], words: &[String]) -> Self {
        let words = words.iter().map(|word| word.trim().to_lowercase());
        Self {
            labels,
            words: words.filter(|word| !word.is_empty()).collect(),
        }
    }

    /// Whether it takes every node.
    pub(crate) const fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.words.is_empty()
    }

    /// Whether it takes this one.
    pub(crate) fn takes(&self, node: &Node) -> bool {
        self.labels.iter().all(|label| label.takes(node))
            && self.words.iter().all(|word| mentions(node, word))
    }
}

fn mentions(node: &Node, word: &str) -> bool {
    let in_labels = || {
        node.labels
            .iter()
            .any(|(key, value)| format!("{key}={value}").to_lowercase().contains(word))
    };
    node.name.to_lowercase().contains(word) || in_labels()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::tests::node;

    fn takes(labels: &[&str], words: &[&str]) -> bool {
        let labels: Vec<_> = labels
            .iter()
            .map(|label| LabelFilter::parse(label).unwrap())
            .collect();
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        let node = node(
            "Gateway-1",
            &[("env", "prod"), ("city", "Berlin"), ("x", "a=b")],
        );
        Filter::new(&labels, &words).takes(&node)
    }

    #[test]
    fn all_given_labels_must_match() {
        assert!(takes(&[], &[]));
        assert!(takes(&["env=prod"], &[]));
        assert!(takes(&["env=prod", "city=Berlin"], &[]));
        assert!(!takes(&["env=prod", "city=Paris"], &[]));
        assert!(!takes(&["zone=1"], &[]));
    }

    #[test]
    fn a_star_matches_any_value_but_not_a_missing_label() {
        assert!(takes(&["city=*"], &[]));
        assert!(!takes(&["zone=*"], &[]));
    }

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        assert!(takes(&["x=a=b"], &[]));
    }

    #[test]
    fn all_words_must_occur_in_name_or_labels() {
        assert!(takes(&[], &["gate", "BERLIN"]));
        assert!(takes(&[], &["env=prod", ""]));
        assert!(!takes(&[], &["gate", "paris"]));
    }

    #[test]
    fn what_is_no_label_is_refused() {
        for wrong in ["env", "=prod", ""] {
            assert!(LabelFilter::parse(wrong).is_err(), "{wrong}");
        }
    }
}
