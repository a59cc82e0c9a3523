//! The node's labels: those of the configuration, and those that commands print.

mod command;
pub(crate) mod watch;

use std::collections::BTreeMap;

use protocol::message::{Label, Text};

/// Keys and values.
pub(crate) type Labels = BTreeMap<String, String>;

/// Bytes of the longest value.
const MAX_VALUE: usize = 256;

/// Whether a text can be a label's key.
pub(crate) fn check_key(key: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    if (1..=64).contains(&key.len()) && key.chars().all(allowed) {
        Ok(())
    } else {
        Err("expected 1 to 64 letters, digits or . _ / - as the key")
    }
}

/// Whether a text can be a label's value.
pub(crate) fn check_value(value: &str) -> Result<(), &'static str> {
    if value.len() <= MAX_VALUE && !value.chars().any(char::is_control) {
        Ok(())
    } else {
        Err("expected at most 256 bytes without control characters")
    }
}

/// What a command printed, made a value.
fn value(printed: &[u8]) -> String {
    let text = String::from_utf8_lossy(printed);
    let text = crate::text::plain(text.trim());
    crate::text::cut(&text, MAX_VALUE).trim_end().to_owned()
}

/// The labels as a message carries them. The configuration has checked that they fit.
pub(crate) fn message(labels: &Labels) -> protocol::message::Labels<'_> {
    labels
        .iter()
        .take(protocol::message::MAX_LABELS)
        .map(|(key, value)| Label {
            key: Text::cut(key),
            value: Text::cut(value),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_becomes_one_short_line() {
        assert_eq!(value(b"  up 3 days \n"), "up 3 days");
        assert_eq!(value(b"a\nb\tc\x1b[0m\n"), "a b c [0m");
        assert_eq!(value(&[b'x'; 1000]).len(), 256);
        assert_eq!(value("ü".repeat(300).as_bytes()).len(), 256);
        assert_eq!(value(b"\xff"), "\u{fffd}");
        assert!(check_value(&value(&[b'\n'; 1000])).is_ok());
    }

    #[test]
    fn keys_and_values_are_checked() {
        for key in ["a", "site/floor", "A.b_c-9", &"k".repeat(64)] {
            assert!(check_key(key).is_ok(), "{key}");
        }
        for key in ["", "a b", "ä", "a=b", &"k".repeat(65)] {
            assert!(check_key(key).is_err(), "{key}");
        }
        assert!(check_value("").is_ok());
        assert!(check_value(&"v".repeat(257)).is_err());
        assert!(check_value("a\nb").is_err());
    }

    #[test]
    fn a_message_carries_them_all() {
        let labels: Labels = [("env".to_owned(), "lab".to_owned())].into();
        let sent = message(&labels);
        assert_eq!(sent.len(), 1);
        assert_eq!(
            (sent[0].key.as_str(), sent[0].value.as_str()),
            ("env", "lab")
        );
    }
}
