//! How often a command label is refreshed: `60s`, `5m`, `1h`.

use std::time::Duration;

/// A period shorter than this would keep a small device busy with its own labels.
const LEAST: u64 = 5;
/// Longer than a year is a mistake.
const MOST: u64 = 365 * 86_400;

/// Reads a period.
pub(super) fn parse(text: &str) -> Result<Duration, &'static str> {
    const WRONG: &str = "expected a duration of at least 5 s, for example 60s, 5m or 1h";
    let (digits, unit) = [("s", 1), ("m", 60), ("h", 3600)]
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))
        .ok_or(WRONG)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(WRONG);
    }
    let count: u64 = digits.parse().map_err(|_| WRONG)?;
    match count.saturating_mul(*unit) {
        seconds @ LEAST..=MOST => Ok(Duration::from_secs(seconds)),
        _ => Err(WRONG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_have_a_number_and_a_unit() {
        for (text, seconds) in [("5s", 5), ("60s", 60), ("5m", 300), ("1h", 3600)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
        }
        for text in [
            "",
            "s",
            "4s",
            "60",
            "+9s",
            "-5m",
            "1d",
            "9999999999999999999h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
