//! From connections that fail or break off to sentences and exit codes.

use std::io;

use protocol::error::CloseCode;
use quinn::ConnectionError;
use rustls::AlertDescription;

use crate::address::ProxyAddr;
use crate::api::refusal::{is_about_certificates, of_certificate, refuses_certificate};
use crate::error::{Exit, fail};

/// QUIC carries TLS alerts as error codes from here on (RFC 9001 §4.8).
const CRYPTO_ERROR: u64 = 0x100;

/// The error for a failed TLS handshake on TCP.
pub(super) fn of_tls(error: io::Error, proxy: &ProxyAddr) -> anyhow::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => untrusted(proxy, &format!("{why}")),
        _ => crate::api::refusal::of_tls(error, proxy),
    }
}

/// The error for a stream that broke off before the proxy answered.
pub(super) fn broken(error: &io::Error, proxy: &ProxyAddr) -> anyhow::Error {
    if refuses_certificate(error) {
        return of_certificate(proxy);
    }
    fail(
        Exit::ConnectionLost,
        format!("The connection to {proxy} broke off ({error}). Try again."),
    )
}

/// The error for a QUIC connection that failed or ended.
pub(super) fn of_quic(error: &ConnectionError, proxy: &ProxyAddr) -> anyhow::Error {
    match error {
        // Our own verdict on the proxy.
        ConnectionError::TransportError(error) if alert(error.code.into()).is_some() => {
            untrusted(proxy, &error.reason)
        }
        // The proxy's verdict on us.
        ConnectionError::ConnectionClosed(close)
            if alert(close.error_code.into()).is_some_and(is_about_certificates) =>
        {
            of_certificate(proxy)
        }
        ConnectionError::ApplicationClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason);
            of_close(close.error_code.into_inner(), &reason, proxy)
        }
        error => fail(
            Exit::ConnectionLost,
            format!("The connection to {proxy} broke off ({error}). Try again."),
        ),
    }
}

/// Whether a handshake failed by our own judgement of the peer, so that another transport would not
/// change it. Its judgement of us comes behind the handshake: until then, anybody on the way may
/// have said so.
pub(super) fn is_final(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::TransportError(error) if alert(error.code.into()).is_some())
}

fn of_close(code: u64, reason: &str, proxy: &ProxyAddr) -> anyhow::Error {
    let (exit, plain) = match CloseCode::from_code(code) {
        Some(CloseCode::Denied) => (Exit::Denied, "refuses you"),
        Some(CloseCode::Exhausted) => (Exit::Busy, "has too much to do; try again later"),
        Some(CloseCode::Draining) => (Exit::Busy, "is being restarted; try again in a moment"),
        Some(CloseCode::PeerIncompatible) => (Exit::Other, "speaks another version; update tsh"),
        _ => (Exit::ConnectionLost, "closed the connection"),
    };
    let reason = if reason.is_empty() {
        String::new()
    } else {
        format!(" ({reason})")
    };
    fail(exit, format!("{proxy} {plain}{reason}."))
}

fn untrusted(proxy: &ProxyAddr, why: &str) -> anyhow::Error {
    fail(
        Exit::Untrusted,
        format!(
            "{proxy} is not the cluster you logged in to ({why}). Nothing was sent. If it was set \
             up anew, get its CA pin from your administrator and run: tsh login --proxy {proxy} \
             --ca-pin PIN"
        ),
    )
}

fn alert(code: u64) -> Option<AlertDescription> {
    let alert = code.checked_sub(CRYPTO_ERROR)?;
    u8::try_from(alert).ok().map(AlertDescription::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_have_exit_codes() {
        let proxy = "h".parse().unwrap();
        for (code, exit) in [
            (CloseCode::Denied, Exit::Denied),
            (CloseCode::Exhausted, Exit::Busy),
            (CloseCode::Draining, Exit::Busy),
            (CloseCode::Internal, Exit::ConnectionLost),
        ] {
            let error = of_close(code.code().into(), "because", &proxy);
            assert_eq!(Exit::of(&error), exit);
            assert!(error.to_string().contains("because"));
        }
    }

    #[test]
    fn alerts_are_found_in_quic_error_codes() {
        assert_eq!(alert(0x12d), Some(AlertDescription::CertificateExpired));
        assert_eq!(alert(0x0a), None);
        assert_eq!(alert(0x200), None);
    }
}
