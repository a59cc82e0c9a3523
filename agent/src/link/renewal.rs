//! When to ask for new certificates: at half life, by the cluster's clock, and not too often.

use std::time::Duration;

use protocol::renewal::due;

use crate::state::membership::HostCertificates;

/// A cluster that says nothing is asked again after this; two certificates take it far less.
const UNANSWERED: Duration = Duration::from_secs(60);
/// A cluster that says no is left alone at least this long.
const REFUSED: Duration = Duration::from_secs(600);

/// Remembers when the cluster was asked last. Times are of the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    not_before: Duration,
}

impl Renewal {
    /// How long from now on there is nothing to ask; zero if it is time.
    pub(super) fn wait(
        &self,
        certificates: &HostCertificates,
        wall: Duration,
        now: Duration,
    ) -> Duration {
        let half_life = due(certificates.not_before, certificates.not_after).saturating_sub(wall);
        half_life.max(self.not_before.saturating_sub(now))
    }

    /// The cluster was asked.
    pub(super) fn asked(&mut self, now: Duration) {
        self.not_before = now.saturating_add(UNANSWERED);
    }

    /// The cluster said no.
    pub(super) fn refused(&mut self, retry_after: Duration, now: Duration) {
        self.not_before = now.saturating_add(retry_after.max(REFUSED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::membership::tests::sample;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn certificates_are_renewed_at_half_life() {
        let certificates = sample().certificates;
        let half = certificates.not_before + s(302_400);
        let renewal = Renewal::default();
        assert_eq!(renewal.wait(&certificates, half - s(7), s(5)), s(7));
        assert_eq!(renewal.wait(&certificates, half, s(5)), s(0));
    }

    #[test]
    fn the_cluster_is_not_asked_in_a_loop() {
        let certificates = sample().certificates;
        let late = certificates.not_after;
        let mut renewal = Renewal::default();
        renewal.asked(s(100));
        assert_eq!(renewal.wait(&certificates, late, s(100)), UNANSWERED);
        assert_eq!(renewal.wait(&certificates, late, s(160)), s(0));
        renewal.refused(s(5), s(160));
        assert_eq!(renewal.wait(&certificates, late, s(160)), REFUSED);
        renewal.refused(s(9000), s(160));
        assert_eq!(renewal.wait(&certificates, late, s(160)), s(9000));
    }
}
