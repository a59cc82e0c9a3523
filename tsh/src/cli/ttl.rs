//! Spans of time as typed: `90s`, `30m`, `8h`, `2d`.

use std::time::Duration;

/// Reads a span.
///
/// # Errors
/// A sentence, for the command line's own error.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number and a unit, such as 30m, 8h or 2d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number = text.strip_suffix(unit).ok_or_else(wrong)?;
    let count: u32 = number.parse().map_err(|_| wrong())?;
    if count == 0 {
        return Err("must be more than nothing".to_owned());
    }
    Ok(Duration::from_secs(u64::from(count) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_number_and_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1_800), ("8h", 28_800), ("2d", 172_800)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
        }
        for wrong in ["", "8", "h", "8w", "-1h", "1.5h", "0h", "8h30m", "8ü"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
