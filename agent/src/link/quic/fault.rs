//! What a QUIC connection's end means. The codes of TLS alerts (RFC 8446 §6) tell whether a
//! certificate was the reason, and who sent the alert tells whose.

use protocol::error::CloseCode;
use quinn::{ConnectionError, TransportErrorCode};

use super::super::transport::{Fault, FaultKind};

/// Crypto errors are 0x100 and the alert (RFC 9001 §4.8).
const CRYPTO: u64 = 0x100;

/// Reads an error.
pub(super) fn of(error: &ConnectionError) -> Fault {
    match error {
        ConnectionError::TransportError(own) => match alert(own.code) {
            Some(alert) if is_about_certificate(alert) => untrusted(&own.reason),
            _ => Fault::new(FaultKind::Unreachable, error.to_string()),
        },
        ConnectionError::ConnectionClosed(theirs) => from_peer(theirs.error_code),
        ConnectionError::ApplicationClosed(theirs) => closed(theirs.error_code.into_inner()),
        ConnectionError::TimedOut => Fault::new(
            FaultKind::Unreachable,
            "no answer over UDP within the time limit",
        ),
        ConnectionError::Reset => Fault::new(FaultKind::Closed(None), "the cluster was restarted"),
        ConnectionError::LocallyClosed => Fault::new(FaultKind::Closed(None), "closed here"),
        ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => {
            Fault::new(FaultKind::Unreachable, error.to_string())
        }
    }
}

fn untrusted(reason: &str) -> Fault {
    let text = format!("what answers is not the trusted cluster ({reason})");
    Fault::new(FaultKind::Untrusted, text)
}

fn from_peer(code: TransportErrorCode) -> Fault {
    const NO_APPLICATION_PROTOCOL: u64 = 120;
    if code == TransportErrorCode::CONNECTION_REFUSED {
        return Fault::new(
            FaultKind::Unreachable,
            "the cluster takes no more connections now",
        );
    }
    match alert(code) {
        Some(alert) if is_about_certificate(alert) => Fault::new(
            FaultKind::CertificateRefused,
            format!("the cluster does not accept this node's certificate (TLS alert {alert})"),
        ),
        Some(NO_APPLICATION_PROTOCOL) => Fault::new(
            FaultKind::Unreachable,
            "what answers is no Tether cluster, or one that serves no agents",
        ),
        _ => Fault::new(
            FaultKind::Closed(None),
            format!("closed by the cluster: {code}"),
        ),
    }
}

fn alert(code: TransportErrorCode) -> Option<u64> {
    u64::from(code)
        .checked_sub(CRYPTO)
        .filter(|&alert| alert < 0x100)
}

/// From bad_certificate to unknown_ca, access_denied, decrypt_error (a signature that does not
/// verify) and certificate_required.
const fn is_about_certificate(alert: u64) -> bool {
    matches!(alert, 42..=46 | 48 | 49 | 51 | 116)
}

fn closed(code: u64) -> Fault {
    let code = CloseCode::from_code(code);
    let text = match code {
        Some(CloseCode::Done) => "the cluster closed the link",
        Some(CloseCode::PeerMisbehaved) => "the cluster says that this agent broke the protocol",
        Some(CloseCode::PeerIncompatible) => "the cluster does not speak this agent's version",
        Some(CloseCode::Denied) => "the cluster does not accept this node",
        Some(CloseCode::Exhausted) => "the cluster is busy",
        Some(CloseCode::Draining) => "the cluster shuts down",
        Some(CloseCode::Replaced) => "this node has opened another link",
        Some(CloseCode::TimedOut) => "the cluster waited too long for this agent",
        Some(CloseCode::Internal) => "the cluster made an error",
        None => "the cluster closed the link for a reason this agent does not know",
    };
    Fault::new(FaultKind::Closed(code), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crypto(alert: u8) -> TransportErrorCode {
        TransportErrorCode::crypto(alert)
    }

    #[test]
    fn alerts_about_certificates_are_told_apart() {
        for alert in [42, 45, 48, 116] {
            assert_eq!(from_peer(crypto(alert)).kind, FaultKind::CertificateRefused);
        }
        assert_eq!(from_peer(crypto(120)).kind, FaultKind::Unreachable);
        assert_eq!(
            from_peer(TransportErrorCode::CONNECTION_REFUSED).kind,
            FaultKind::Unreachable
        );
        assert_eq!(
            from_peer(TransportErrorCode::NO_ERROR).kind,
            FaultKind::Closed(None)
        );
    }

    #[test]
    fn close_codes_are_kept() {
        assert_eq!(closed(6).kind, FaultKind::Closed(Some(CloseCode::Replaced)));
        assert_eq!(closed(9999).kind, FaultKind::Closed(None));
    }
}
