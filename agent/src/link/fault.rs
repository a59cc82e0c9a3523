//! What a failure on the way to the cluster means, whatever the transport. TLS alerts (RFC 8446 §6)
//! tell whether a certificate was the reason, and who sent the alert tells whose.

use std::io;

use protocol::error::CloseCode;
use rustls::{AlertDescription, Error};

use super::transport::{Fault, FaultKind};

/// What answers could not prove to be the cluster.
pub(super) fn untrusted(reason: &str) -> Fault {
    let text = format!("what answers is not the trusted cluster ({reason})");
    Fault::new(FaultKind::Untrusted, text)
}

/// The peer ended a TLS handshake, or refused what was shown right after it.
pub(super) fn of_alert(alert: u8) -> Option<Fault> {
    const NO_APPLICATION_PROTOCOL: u8 = 120;
    if is_about_certificate(alert) {
        let text =
            format!("the cluster does not accept this node's certificate (TLS alert {alert})");
        return Some(Fault::new(FaultKind::CertificateRefused, text));
    }
    (alert == NO_APPLICATION_PROTOCOL).then(no_cluster)
}

/// What ended a handshake. Until that is done, nobody has shown to be the cluster, and the cluster
/// gives no verdict on a node's certificate before (RFC 8446 §2).
pub(super) fn of_stranger(fault: Fault) -> Fault {
    match fault.kind {
        FaultKind::CertificateRefused | FaultKind::Closed(Some(_)) => Fault::new(
            FaultKind::Unreachable,
            "what answers broke off the handshake",
        ),
        _ => fault,
    }
}

/// Something that speaks TLS, but none of our protocols.
pub(super) fn no_cluster() -> Fault {
    let text = "what answers is no Tether cluster, or one that serves no agents";
    Fault::new(FaultKind::Unreachable, text)
}

/// From bad_certificate to unknown_ca, access_denied, decrypt_error (a signature that does not
/// verify) and certificate_required.
pub(super) const fn is_about_certificate(alert: u8) -> bool {
    matches!(alert, 42..=46 | 48 | 49 | 51 | 116)
}

/// The cluster ended the connection with a code.
pub(super) fn closed(code: u64) -> Fault {
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

/// A TCP connection, or TLS on it, failed.
pub(super) fn of_io(error: &io::Error) -> Fault {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return of_tls(tls);
    }
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the connection was closed".to_owned(),
        io::ErrorKind::ConnectionReset => "the connection was reset".to_owned(),
        io::ErrorKind::TimedOut => "nobody answers any more".to_owned(),
        _ => error.to_string(),
    };
    Fault::new(FaultKind::Unreachable, text)
}

fn of_tls(error: &Error) -> Fault {
    match error {
        Error::InvalidCertificate(reason) => untrusted(&reason.to_string()),
        Error::AlertReceived(alert) => {
            of_alert(number(*alert)).unwrap_or_else(|| unreachable(error))
        }
        Error::NoApplicationProtocol => no_cluster(),
        _ => unreachable(error),
    }
}

fn number(alert: AlertDescription) -> u8 {
    alert.into()
}

fn unreachable(error: &Error) -> Fault {
    Fault::new(FaultKind::Unreachable, format!("TLS failed: {error}"))
}

/// Of several failures, the one that tells most; of equals the last.
pub(super) fn telling(faults: impl IntoIterator<Item = Fault>) -> Option<Fault> {
    faults.into_iter().max_by_key(|fault| match fault.kind {
        _ if tells_little(fault) => 0,
        FaultKind::Untrusted => 1,
        FaultKind::CertificateRefused => 3,
        _ => 2,
    })
}

/// Whether a failure may as well be one of the way there.
pub(super) const fn tells_little(fault: &Fault) -> bool {
    matches!(
        fault.kind,
        FaultKind::Unreachable | FaultKind::Local | FaultKind::Closed(None)
    )
}

/// Whether nothing else needs to be tried: the cluster itself has spoken.
pub(super) const fn is_final(fault: &Fault) -> bool {
    matches!(
        fault.kind,
        FaultKind::CertificateRefused | FaultKind::Misbehaved | FaultKind::Closed(Some(_))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_are_kept() {
        assert_eq!(closed(6).kind, FaultKind::Closed(Some(CloseCode::Replaced)));
        assert_eq!(closed(9999).kind, FaultKind::Closed(None));
    }

    #[test]
    fn errors_of_tls_are_found_in_those_of_the_socket() {
        let of = |error: Error| of_io(&io::Error::new(io::ErrorKind::InvalidData, error)).kind;
        for alert in [
            AlertDescription::CertificateExpired,
            AlertDescription::CertificateRequired,
            AlertDescription::UnknownCA,
        ] {
            assert_eq!(
                of(Error::AlertReceived(alert)),
                FaultKind::CertificateRefused
            );
        }
        let unknown = rustls::CertificateError::UnknownIssuer;
        assert_eq!(of(Error::InvalidCertificate(unknown)), FaultKind::Untrusted);
        let closed = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(of_io(&closed).kind, FaultKind::Unreachable);
    }

    #[test]
    fn the_most_telling_fault_is_kept() {
        let fault = |kind, text: &str| Fault::new(kind, text);
        let found = telling([
            fault(FaultKind::Unreachable, "one"),
            fault(FaultKind::Untrusted, "two"),
            fault(FaultKind::Unreachable, "three"),
        ]);
        assert_eq!(found.unwrap().text, "two");
        assert_eq!(telling([]), None);
    }
}
