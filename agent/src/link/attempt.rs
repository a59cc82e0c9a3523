//! One attempt to reach the cluster, as a task of its own; what comes of it is an input.

use std::sync::Arc;
use std::time::Duration;

use protocol::transport::Plan;

use super::connect::{Route, Shown, connect};
use super::input::News;
use super::transport::{Fault, FaultKind};
use crate::join::{self, JoinError};
use crate::node::Node;
use crate::state::key::DeviceKey;
use crate::state::membership::{HostCertificates, Membership};
use crate::trust;

/// What the node can show to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Its certificate.
    Link,
    /// Only its key: the certificate is over, or the cluster says so.
    Return,
}

/// Chooses the way. A device without a clock may take a certificate for valid that is not, so the
/// cluster's word counts as much as the date.
pub(super) fn way(certificates: &HostCertificates, now: Duration, refused: bool) -> Way {
    if refused || now >= certificates.not_after {
        Way::Return
    } else {
        Way::Link
    }
}

/// Whether the cluster is taken to refuse the certificate after a connection has ended like this. A
/// way back that leads nowhere is not the only one for good: bare SSH takes certificates alone.
pub(super) const fn is_refused(before: bool, fault: &Fault) -> bool {
    match fault.kind {
        FaultKind::CertificateRefused => true,
        FaultKind::Unreachable => false,
        _ => before,
    }
}

/// All that an attempt needs, so that it borrows nothing.
pub(super) enum Attempt {
    Link {
        route: Route,
        shown: Shown,
        plan: Plan,
        failures: u32,
    },
    Return {
        route: Route,
        plan: Plan,
        membership: Box<Membership>,
        key: Arc<DeviceKey>,
        now: Duration,
        failures: u32,
    },
}

impl Attempt {
    pub(super) fn new(
        way: Way,
        node: &Node,
        route: Route,
        plan: Plan,
        failures: u32,
    ) -> anyhow::Result<Self> {
        let now = node.now();
        Ok(match way {
            Way::Link => Self::Link {
                route,
                shown: Shown::Certificates {
                    tls: Box::new(trust::for_link(&node.membership, &node.key, now)?),
                    ssh: Box::new(trust::for_ssh(&node.membership, &node.key, now)?),
                },
                plan,
                failures,
            },
            Way::Return => Self::Return {
                route,
                plan,
                membership: Box::new(node.membership.clone()),
                key: Arc::clone(&node.key),
                now,
                failures,
            },
        })
    }

    pub(super) async fn run(self) -> News {
        match self {
            Self::Link {
                route,
                shown,
                plan,
                failures,
            } => link(&route, &shown, plan, failures)
                .await
                .unwrap_or_else(News::Ended),
            Self::Return {
                route,
                plan,
                membership,
                key,
                now,
                failures,
            } => match join::come_back(&route, plan, &membership, &key, now, failures).await {
                Ok(given) => News::CameBack(Box::new(given)),
                Err(JoinError::Refused { reason, text }) => News::TurnedAway { reason, text },
                Err(JoinError::Fault(fault)) => News::Ended(fault),
            },
        }
    }
}

async fn link(route: &Route, shown: &Shown, plan: Plan, failures: u32) -> Result<News, Fault> {
    let transport = connect(route, shown, plan, failures).await?;
    let control = transport.open().await?;
    Ok(News::Opened { transport, control })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::membership::tests::sample;

    #[test]
    fn an_expired_or_refused_certificate_means_to_come_back() {
        let certificates = sample().certificates;
        let (valid, over) = (certificates.not_before, certificates.not_after);
        assert_eq!(way(&certificates, valid, false), Way::Link);
        assert_eq!(way(&certificates, valid, true), Way::Return);
        assert_eq!(way(&certificates, over, false), Way::Return);
        assert_eq!(way(&certificates, Duration::ZERO, false), Way::Link);
    }

    #[test]
    fn a_refusal_counts_until_there_is_no_way_back() {
        let after = |before, kind| is_refused(before, &Fault::new(kind, "x"));
        for before in [false, true] {
            assert!(after(before, FaultKind::CertificateRefused));
            assert!(!after(before, FaultKind::Unreachable));
            assert_eq!(after(before, FaultKind::Closed(None)), before);
        }
    }
}
