//! How long ago, and how long still, in words.

use std::time::Duration;

use time::OffsetDateTime;

/// The largest whole unit of a span: `12 s`, `5 min`, `3 h`, `2 d`.
pub(crate) fn span(span: Duration) -> String {
    match span.as_secs() {
        s @ ..60 => format!("{s} s"),
        s @ ..3_600 => format!("{} min", s / 60),
        s @ ..172_800 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}

/// `3 h ago`. A moment that lies ahead, because clocks differ, is `0 s ago`.
pub(crate) fn ago(then: OffsetDateTime, now: OffsetDateTime) -> String {
    format!("{} ago", span(between(then, now)))
}

/// The time from `from` to `to`, or nothing if `to` came first.
pub(crate) fn between(from: OffsetDateTime, to: OffsetDateTime) -> Duration {
    Duration::try_from(to - from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_shown_in_their_largest_unit() {
        for (seconds, shown) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_599, "59 min"),
            (3 * 3_600, "3 h"),
            (47 * 3_600, "47 h"),
            (48 * 3_600, "2 d"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn the_future_is_not_long_ago() {
        let now = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(ago(now + Duration::from_secs(9), now), "0 s ago");
        assert_eq!(ago(now, now + Duration::from_secs(9)), "9 s ago");
    }
}
