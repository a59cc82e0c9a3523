//! Durations as people write them: `90s`, `30m`, `12h`, `7d`, or several in a row (`1h30m`).

use std::time::Duration;

/// Reads a duration.
///
/// # Errors
/// A sentence that shows what was expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    match parse_or_none(text)? {
        Duration::ZERO => Err(wrong(text)),
        duration => Ok(duration),
    }
}

fn wrong(text: &str) -> String {
    format!("{text:?} is not a duration; write for example 90s, 30m, 12h or 7d")
}

/// As [`parse`], where `0s` has a meaning, too.
///
/// # Errors
/// A sentence that shows what was expected.
pub fn parse_or_none(text: &str) -> Result<Duration, String> {
    let wrong = || wrong(text);
    let mut seconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let mut chars = tail.chars();
        let unit = match chars.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part = number.checked_mul(unit).ok_or_else(wrong)?;
        seconds = seconds.checked_add(part).ok_or_else(wrong)?;
        rest = chars.as_str();
    }
    // A hundred years: far enough for anybody, and safe to add to the current time.
    match seconds {
        0..=3_153_600_000 if !text.is_empty() => Ok(Duration::from_secs(seconds)),
        _ => Err(wrong()),
    }
}

/// Writes a duration in whole seconds or larger units.
#[must_use]
pub fn format(duration: Duration) -> String {
    let mut seconds = duration.as_secs();
    let mut text = String::new();
    for (unit, length) in [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)] {
        if seconds >= length {
            text.push_str(&(seconds / length).to_string());
            text.push(unit);
            seconds %= length;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// For `#[serde(with = ...)]` on optional durations.
pub mod option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes it as text.
    ///
    /// # Errors
    /// As the serializer's.
    pub fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => serializer.serialize_str(&super::format(*duration)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads it from text.
    ///
    /// # Errors
    /// If the text is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::parse(&text).map_err(D::Error::custom))
            .transpose()
    }
}

/// For `#[serde(with = ...)]` on optional durations that may be zero.
pub mod option_or_none {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de::Error};

    pub use super::option::serialize;

    /// Reads it from text.
    ///
    /// # Errors
    /// If the text is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::parse_or_none(&text).map_err(D::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_what_they_write() {
        for seconds in [1, 59, 60, 5400, 43_200, 604_800, 90_061] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(parse(&format(duration)), Ok(duration));
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in [
            "",
            "0s",
            "12",
            "h",
            "12x",
            "-1h",
            "99999999999d",
            "18446744073709551615d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse_or_none("0s"), Ok(Duration::ZERO));
        assert!(parse_or_none("").is_err());
    }
}
