//! Keys: short paths of a plain alphabet, so that they read well in logs and on a command line.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::StoreError;

/// Longest key in bytes, as much as a file system gives a file name. Ids take 36, and user names
/// are mail addresses.
pub const MAX_KEY: usize = 255;

/// A slash-separated path such as `/nodes/ab12`. Also used as a prefix, which covers the key
/// itself and all keys below it: `/nodes` covers `/nodes` and `/nodes/ab12`, not `/nodes-old`.
///
/// Keys are ordered by their bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    /// Joins segments. Each has at least one character of `A-Z a-z 0-9 . _ @ : + -`, and is
    /// neither `.` nor `..`.
    pub fn new(segments: &[&str]) -> Result<Self, StoreError> {
        let mut path = String::new();
        for segment in segments {
            path.push('/');
            path.push_str(segment);
        }
        if segments.iter().any(|segment| segment.contains('/')) {
            return Err(StoreError::bad_key(&path, "a segment contains a slash"));
        }
        path.parse()
    }

    /// The key one segment below this one.
    pub fn join(&self, segment: &str) -> Result<Self, StoreError> {
        let segments: Vec<&str> = self.segments().chain([segment]).collect();
        Self::new(&segments)
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path's segments from left to right.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.trim_start_matches('/').split('/')
    }

    /// Whether `key` is this key or below it.
    #[must_use]
    pub fn covers(&self, key: &Self) -> bool {
        key.0
            .strip_prefix(self.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for Key {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        match fault(text) {
            None => Ok(Self(text.into())),
            Some(detail) => Err(StoreError::bad_key(text, detail)),
        }
    }
}

fn fault(text: &str) -> Option<&'static str> {
    let Some(path) = text.strip_prefix('/') else {
        return Some("it does not begin with a slash");
    };
    if text.len() > MAX_KEY {
        return Some("it is longer than 255 bytes");
    }
    path.split('/').find_map(|segment| match segment {
        "" => Some("a segment is empty"),
        "." | ".." => Some("a segment is . or .."),
        _ if segment.bytes().all(allowed) => None,
        _ => Some("a segment has a character other than A-Z a-z 0-9 . _ @ : + -"),
    })
}

fn allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._@:+-".contains(&byte)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        text.parse().expect("a key")
    }

    #[test]
    fn segments_make_a_path_and_the_path_gives_them_back() {
        let key = Key::new(&["users", "ann@example.com", "mfa"]).expect("a key");
        assert_eq!(key.to_string(), "/users/ann@example.com/mfa");
        assert_eq!(
            key.segments().collect::<Vec<_>>(),
            ["users", "ann@example.com", "mfa"]
        );
        assert_eq!(key, "/users/ann@example.com/mfa".parse().expect("a key"));
        assert_eq!(key.join("totp").expect("a key").segments().count(), 4);
    }

    #[test]
    fn what_is_not_a_key_is_refused_with_the_rule_it_breaks() {
        for (text, rule) in [
            ("", "slash"),
            ("nodes/a", "slash"),
            ("/", "empty"),
            ("/nodes/", "empty"),
            ("/nodes//a", "empty"),
            ("/nodes/.", ". or .."),
            ("/nodes/../users", ". or .."),
            ("/nodes/a b", "character"),
            ("/nodes/é", "character"),
            ("/nodes/a\0", "character"),
        ] {
            let error = text.parse::<Key>().expect_err(text).to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
            assert!(error.contains(rule), "{error}");
        }
        assert!(Key::new(&[]).is_err());
        assert!(Key::new(&["nodes", ""]).is_err());
        assert!(Key::new(&["nodes/a"]).is_err());
        assert!(key("/nodes").join("../users").is_err());
    }

    #[test]
    fn a_key_of_255_bytes_is_accepted_and_one_of_256_is_not() {
        let longest = format!("/{}", "a".repeat(MAX_KEY - 1));
        assert!(longest.parse::<Key>().is_ok());
        assert!(format!("{longest}a").parse::<Key>().is_err());
    }

    #[test]
    fn an_overlong_text_is_cut_in_its_error() {
        let error = "x".repeat(1 << 20).parse::<Key>().expect_err("no key");
        assert!(error.to_string().len() < 2 * MAX_KEY);
    }

    #[test]
    fn a_prefix_covers_whole_segments_only() {
        let nodes = key("/nodes");
        assert!(nodes.covers(&nodes));
        assert!(nodes.covers(&key("/nodes/a")));
        assert!(nodes.covers(&key("/nodes/a/b")));
        assert!(!nodes.covers(&key("/nodes-old/a")));
        assert!(!nodes.covers(&key("/node")));
        assert!(!key("/nodes/a").covers(&nodes));
    }
}
