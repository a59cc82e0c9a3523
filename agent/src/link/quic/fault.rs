//! What a QUIC connection's end means.

use quinn::{ConnectionError, TransportErrorCode};

use super::super::fault::{closed, is_about_certificate, of_alert, untrusted};
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

fn from_peer(code: TransportErrorCode) -> Fault {
    if code == TransportErrorCode::CONNECTION_REFUSED {
        return Fault::new(
            FaultKind::Unreachable,
            "the cluster takes no more connections now",
        );
    }
    alert(code).and_then(of_alert).unwrap_or_else(|| {
        Fault::new(
            FaultKind::Closed(None),
            format!("closed by the cluster: {code}"),
        )
    })
}

fn alert(code: TransportErrorCode) -> Option<u8> {
    let alert = u64::from(code).checked_sub(CRYPTO)?;
    u8::try_from(alert).ok()
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
}
