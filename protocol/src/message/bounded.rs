//! Texts and byte strings that borrow from the frame and know their largest size.

use core::fmt;
use core::ops::Deref;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// UTF-8 text of at most `MAX` bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Text<'a, const MAX: usize>(&'a str);

impl<'a, const MAX: usize> Text<'a, MAX> {
    /// `None` if the text is longer than `MAX` bytes.
    #[must_use]
    pub const fn new(text: &'a str) -> Option<Self> {
        if text.len() <= MAX {
            Some(Self(text))
        } else {
            None
        }
    }

    /// The text, cut at a character boundary to fit.
    #[must_use]
    pub fn cut(text: &'a str) -> Self {
        let end = (0..=MAX.min(text.len()))
            .rev()
            .find(|&i| text.is_char_boundary(i))
            .unwrap_or(0);
        Self(text.get(..end).unwrap_or(""))
    }

    /// The text, living as long as the frame it came in.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl<const MAX: usize> Deref for Text<'_, MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        self.0
    }
}

impl<const MAX: usize> fmt::Debug for Text<'_, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl<const MAX: usize> fmt::Display for Text<'_, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl<const MAX: usize> Serialize for Text<'_, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de: 'a, 'a, const MAX: usize> Deserialize<'de> for Text<'a, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&'de str>::deserialize(deserializer)?;
        Self::new(text).ok_or_else(|| D::Error::custom("text too long"))
    }
}

/// Bytes, at most `MAX` of them.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Blob<'a, const MAX: usize>(&'a [u8]);

impl<'a, const MAX: usize> Blob<'a, MAX> {
    /// `None` if there are more than `MAX` bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() <= MAX {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// The bytes, living as long as the frame they came in.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl<const MAX: usize> Deref for Blob<'_, MAX> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0
    }
}

/// Shows the length only: a blob may be a signature or a key.
impl<const MAX: usize> fmt::Debug for Blob<'_, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl<const MAX: usize> Serialize for Blob<'_, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct BlobVisitor<const MAX: usize>;

impl<'de, const MAX: usize> Visitor<'de> for BlobVisitor<MAX> {
    type Value = Blob<'de, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX} bytes")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Blob::new(bytes).ok_or_else(|| E::custom("too many bytes"))
    }
}

impl<'de: 'a, 'a, const MAX: usize> Deserialize<'de> for Blob<'a, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BlobVisitor::<MAX>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_above_its_bound_is_refused() {
        assert!(Text::<3>::new("abcd").is_none());
        let mut frame = [0; 16];
        let bytes = postcard::to_slice("abcd", &mut frame).unwrap();
        assert!(postcard::from_bytes::<Text<'_, 3>>(bytes).is_err());
        assert_eq!(
            postcard::from_bytes::<Text<'_, 4>>(bytes).unwrap().as_str(),
            "abcd"
        );
    }

    #[test]
    fn cutting_keeps_whole_characters() {
        assert_eq!(Text::<4>::cut("abcü").as_str(), "abc");
        assert_eq!(Text::<5>::cut("abcü").as_str(), "abcü");
    }
}
