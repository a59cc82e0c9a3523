//! From refusals of the proxy, on whichever layer, to sentences and exit codes.

use std::error::Error;
use std::io;

use hyper::StatusCode;
use rustls::AlertDescription;

use super::types::ErrorAnswer;
use crate::address::ProxyAddr;
use crate::error::{Exit, fail};

/// The error for an HTTP status other than 200.
pub(crate) fn of_status(status: StatusCode, body: &[u8], proxy: &ProxyAddr) -> anyhow::Error {
    match serde_json::from_slice::<ErrorAnswer>(body) {
        Ok(answer) => fail(exit_of(&answer.error.code), answer.error.message),
        Err(_) => fail(
            Exit::Unreachable,
            format!("{proxy} answers {status}; it does not seem to be a Tether proxy."),
        ),
    }
}

fn exit_of(code: &str) -> Exit {
    match code {
        "bad_credentials" | "bad_invite" => Exit::BadCredentials,
        "locked_out" | "locked" => Exit::Locked,
        "weak_password" | "invalid" => Exit::Usage,
        "unauthenticated" => Exit::LoggedOut,
        "denied" => Exit::Denied,
        "busy" => Exit::Busy,
        _ => Exit::Other,
    }
}

/// The error for a failed TLS handshake that was not about the server's certificate.
pub(crate) fn of_tls(error: io::Error, proxy: &ProxyAddr) -> anyhow::Error {
    if refuses_certificate(&error) {
        return of_certificate(proxy);
    }
    fail(
        Exit::Unreachable,
        format!("Cannot talk to {proxy} ({error}). Is it the address of a Tether proxy?"),
    )
}

/// The error for an HTTP exchange that broke off. In TLS 1.3 the proxy judges the client's
/// certificate after the handshake, so its verdict comes here.
pub(crate) fn of_http(error: hyper::Error, proxy: &ProxyAddr) -> anyhow::Error {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(refuses_certificate)
        {
            return of_certificate(proxy);
        }
        cause = error.source();
    }
    fail(
        Exit::Unreachable,
        format!("The connection to {proxy} broke off: {error}."),
    )
}

/// The error for a certificate that the proxy does not accept.
pub(crate) fn of_certificate(proxy: &ProxyAddr) -> anyhow::Error {
    fail(
        Exit::LoggedOut,
        format!("{proxy} does not accept your certificate. Run: tsh login --proxy {proxy}"),
    )
}

/// Whether a TLS error is the peer's verdict on our certificate.
pub(crate) fn refuses_certificate(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::AlertReceived(alert)) if is_about_certificates(*alert))
}

/// Whether an alert is about the certificate of the side that receives it (RFC 8446 §6.2).
pub(crate) const fn is_about_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_api_has_an_exit_code() {
        let proxy = "h".parse().unwrap();
        for (code, exit) in [
            ("bad_credentials", 248),
            ("bad_invite", 248),
            ("locked_out", 247),
            ("weak_password", 2),
            ("invalid", 2),
            ("unauthenticated", 249),
            ("denied", 251),
            ("busy", 244),
            ("internal", 1),
            ("of_the_future", 1),
        ] {
            let body = format!(r#"{{"error":{{"code":"{code}","message":"So it is."}}}}"#);
            let error = of_status(StatusCode::BAD_REQUEST, body.as_bytes(), &proxy);
            assert_eq!(Exit::of(&error).code(), exit, "{code}");
            assert_eq!(error.to_string(), "So it is.");
        }
    }

    #[test]
    fn an_answer_that_is_no_api_says_so() {
        let proxy = "h".parse().unwrap();
        let error = of_status(StatusCode::NOT_FOUND, b"<html>", &proxy);
        assert_eq!(Exit::of(&error), Exit::Unreachable);
    }

    #[test]
    fn a_refused_certificate_is_told_from_a_broken_line() {
        let alert = |alert| io::Error::other(rustls::Error::AlertReceived(alert));
        assert!(refuses_certificate(&alert(
            AlertDescription::CertificateExpired
        )));
        assert!(!refuses_certificate(&alert(
            AlertDescription::NoApplicationProtocol
        )));
        assert!(!refuses_certificate(&io::Error::other("broken pipe")));
    }
}
