//! Whether the peer is the cluster.
//!
//! A TLS server is the cluster if
//! 1. its chain holds the pinned host CA (known from an earlier login, or from `--ca-pin`), which
//!    has signed its certificate for the proxy's host or for Tether's own server name, or
//! 2. its certificate is good on the public web for the proxy's host.
//!
//! Otherwise the handshake fails, before anything of the user's was sent. What was seen is kept
//! as a [`Verdict`], so that the caller can say it plainly: a cluster nobody knows yet may be asked
//! about (see [`ask`]), one that differs from what is known may not.
//!
//! Who came in by way 2 has shown no host CA. The pin is then compared with the one that the
//! cluster names itself, before a password is sent.

use std::sync::{Arc, Mutex, PoisonError};

use protocol::identity::CaPin;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use crate::address::ProxyAddr;
use crate::error::{Exit, fail};

pub(crate) mod ask;
pub(crate) mod chain;
pub(crate) mod crypto;
pub(crate) mod host;
pub(crate) mod pin;

/// What was seen of a server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It is the pinned cluster.
    Pinned(CaPin),
    /// It is who the public web says it is.
    Web,
    /// Nobody knows it, but its own CA vouches for it.
    Unknown(CaPin),
    /// It has another CA than the pinned one.
    Mismatch {
        /// The CA it showed, if any.
        seen: Option<CaPin>,
    },
    /// Its certificate is not good, whoever it is.
    Bad(Error),
}

/// Checks servers, and remembers what it saw of the last one.
#[derive(Debug)]
pub(crate) struct Verifier {
    proxy: ProxyAddr,
    pins: Vec<CaPin>,
    crypto: Arc<CryptoProvider>,
    seen: Mutex<Option<Verdict>>,
}

impl Verifier {
    /// A verifier for one proxy; without pins only the public web is trusted.
    pub(crate) fn new(proxy: ProxyAddr, pins: Vec<CaPin>) -> Arc<Self> {
        Arc::new(Self {
            proxy,
            pins,
            crypto: crypto::provider(),
            seen: Mutex::new(None),
        })
    }

    /// What was seen in the last handshake, if it came as far as a certificate.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    /// Why the last handshake failed, if the certificate was the reason.
    pub(crate) fn complaint(&self) -> Option<anyhow::Error> {
        let proxy = &self.proxy;
        Some(match self.verdict()? {
            Verdict::Pinned(_) | Verdict::Web => return None,
            Verdict::Unknown(pin) => fail(
                Exit::Untrusted,
                format!(
                    "The cluster at {proxy} is not known. Its CA pin is {pin}. Compare it with \
                     the one your administrator has (tctl status), and run: tsh login --proxy \
                     {proxy} --ca-pin {pin}"
                ),
            ),
            Verdict::Mismatch { seen } => mismatch(proxy, &self.pins, seen),
            Verdict::Bad(error) => fail(
                Exit::Untrusted,
                format!("The certificate of {proxy} is not good ({error}). Is the clock right?"),
            ),
        })
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Verdict, Error> {
        let shown = chain::Shown::new(leaf, rest, now, &self.crypto)?;
        let verdict = shown.judge(&self.pins, &self.proxy);
        Ok(match verdict {
            Verdict::Unknown(_) | Verdict::Mismatch { .. } | Verdict::Bad(_)
                if chain::web_vouches(leaf, rest, now, &self.proxy, &self.crypto) =>
            {
                Verdict::Web
            }
            verdict => verdict,
        })
    }
}

/// The error for a CA that is not the known one.
pub(crate) fn mismatch(proxy: &ProxyAddr, known: &[CaPin], seen: Option<CaPin>) -> anyhow::Error {
    let known = known.iter().map(CaPin::to_string).collect::<Vec<_>>();
    let seen = seen.map_or_else(|| "none".to_owned(), |pin| pin.to_string());
    fail(
        Exit::Untrusted,
        format!(
            "WARNING: {proxy} IS NOT THE CLUSTER YOU KNOW. Someone may be between you and it.\n\
             Known CA pin:  {}\n\
             CA pin shown:  {seen}\n\
             No secret was sent. If the cluster was set up anew, get its pin from your \
             administrator and run: tsh login --proxy {proxy} --ca-pin PIN",
            known.join(" or ")
        ),
    )
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.judge(leaf, rest, now).unwrap_or_else(Verdict::Bad);
        let outcome = match &verdict {
            Verdict::Pinned(_) | Verdict::Web => Ok(ServerCertVerified::assertion()),
            Verdict::Bad(error) => Err(error.clone()),
            _ => Err(CertificateError::UnknownIssuer.into()),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
        outcome
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
