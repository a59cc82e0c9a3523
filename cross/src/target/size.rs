//! Sizes as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// A number of bytes, written as `2.5 MiB` or `750 KiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// So many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a size such as \"750 KiB\" or \"2.5 MiB\"");
        let (number, unit) = text.split_once(' ').ok_or_else(wrong)?;
        let unit: u64 = match unit {
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        if !(0.0..1e6).contains(&number) {
            return Err(wrong());
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in range, as just checked; a fraction of a byte does not matter"
        )]
        let bytes = (number * unit as f64) as u64;
        Ok(Self(bytes))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} KiB", self.0 as f64 / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        assert_eq!("750 KiB".parse(), Ok(Size::new(768_000)));
        assert_eq!("1.9 MiB".parse(), Ok(Size::new(1_992_294)));
        assert_eq!(Size::new(768_000).to_string(), "750 KiB");
    }

    #[test]
    fn other_words_are_not_sizes() {
        for text in [
            "", "750", "750KiB", "x MiB", "-1 KiB", "1 GB", "1e30 MiB", "NaN KiB",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
