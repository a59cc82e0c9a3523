//! When a certificate is due for renewal.

use core::time::Duration;

/// The time (since the Unix epoch) at which a certificate valid in `not_before..not_after` should
/// be renewed: at half life, so that a device may be offline for the other half.
#[must_use]
pub fn due(not_before: Duration, not_after: Duration) -> Duration {
    not_before.saturating_add(not_after.saturating_sub(not_before) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_is_renewed_after_half_a_week() {
        let day = Duration::from_secs(86_400);
        assert_eq!(due(day * 10, day * 17), day * 13 + day / 2);
    }

    #[test]
    fn a_certificate_that_ends_before_it_starts_is_due_at_once() {
        assert_eq!(
            due(Duration::from_secs(20), Duration::from_secs(10)),
            Duration::from_secs(20)
        );
    }
}
