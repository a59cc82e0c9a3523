//! Whether a certificate opens the door: a pure decision.
//!
//! russh has verified the CA's signature on the certificate and the client's possession of the key
//! when this is asked; whose signature it is, and what it permits, is decided here.

use std::fmt;
use std::time::Duration;

use protocol::identity::Fingerprint;
use russh::keys::ssh_key::HashAlg;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Certificate, PublicKey};

/// What a certificate is held against.
pub(super) struct Door<'a> {
    /// The user CA's key.
    pub(super) user_ca: &'a KeyData,
    /// OS users that the proxy's decision allows.
    pub(super) logins: &'a [String],
    /// Of the key that the proxy saw.
    pub(super) fingerprint: Fingerprint,
    /// The only OS user on offer, if the agent does not run as root.
    pub(super) only_login: Option<&'a str>,
    /// The cluster's time, since the Unix epoch.
    pub(super) now: Duration,
}

/// Why a certificate does not open the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    NotForUsers,
    OtherCa,
    NotYetValid,
    Expired,
    UnknownCriticalOption,
    LoginNotInCertificate,
    LoginNotAllowedByProxy,
    OtherKeyThanProxySaw,
    LoginNotOnOffer,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotForUsers => "it is not a user certificate",
            Self::OtherCa => "it is signed by another CA",
            Self::NotYetValid => "it is not yet valid",
            Self::Expired => "it has expired",
            Self::UnknownCriticalOption => "it has a critical option that is not known here",
            Self::LoginNotInCertificate => "the login is not among its principals",
            Self::LoginNotAllowedByProxy => "the proxy's decision does not allow the login",
            Self::OtherKeyThanProxySaw => "it is for another key than the proxy saw",
            Self::LoginNotOnOffer => "the agent does not run as root and offers another login only",
        })
    }
}

impl Door<'_> {
    /// Decides.
    ///
    /// # Errors
    /// The first reason against it.
    pub(super) fn admit(&self, login: &str, certificate: &Certificate) -> Result<(), Refusal> {
        let unless = |fine: bool, refusal| if fine { Ok(()) } else { Err(refusal) };
        unless(
            certificate.cert_type() == CertType::User,
            Refusal::NotForUsers,
        )?;
        unless(
            certificate.signature_key() == self.user_ca,
            Refusal::OtherCa,
        )?;
        unless(
            self.now.as_secs() >= certificate.valid_after(),
            Refusal::NotYetValid,
        )?;
        unless(
            self.now.as_secs() < certificate.valid_before(),
            Refusal::Expired,
        )?;
        unless(
            certificate.critical_options().is_empty(),
            Refusal::UnknownCriticalOption,
        )?;
        // An empty list means "anybody" in OpenSSH; here it means nobody.
        let named = certificate
            .valid_principals()
            .iter()
            .any(|principal| principal == login);
        unless(named, Refusal::LoginNotInCertificate)?;
        unless(
            self.logins.iter().any(|allowed| allowed == login),
            Refusal::LoginNotAllowedByProxy,
        )?;
        unless(
            fingerprint(certificate) == self.fingerprint.0,
            Refusal::OtherKeyThanProxySaw,
        )?;
        unless(
            self.only_login.is_none_or(|only| only == login),
            Refusal::LoginNotOnOffer,
        )
    }
}

fn fingerprint(certificate: &Certificate) -> [u8; 32] {
    let key = PublicKey::from(certificate.public_key().clone());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(key.fingerprint(HashAlg::Sha256).as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Ca, issue, key};
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000_000);

    #[test]
    fn every_reason_against_a_certificate_is_found() {
        let (ca, other, user) = (Ca::new(), Ca::new(), key());
        let good = |change: &dyn Fn(&mut issue::Wanted)| {
            let mut wanted = issue::Wanted::new(&user, &["ann", "root"], NOW);
            change(&mut wanted);
            issue::certificate(&ca, &wanted)
        };
        let plain = good(&|_| {});
        let logins = ["ann".to_owned(), "bob".to_owned()];
        let door = Door {
            user_ca: &ca.public(),
            logins: &logins,
            fingerprint: Fingerprint(fingerprint(&plain)),
            only_login: None,
            now: NOW,
        };
        assert_eq!(door.admit("ann", &plain), Ok(()));
        for (certificate, login, refusal) in [
            (
                good(&|w| w.cert_type = CertType::Host),
                "ann",
                Refusal::NotForUsers,
            ),
            (
                issue::certificate(&other, &issue::Wanted::new(&user, &["ann"], NOW)),
                "ann",
                Refusal::OtherCa,
            ),
            (
                good(&|w| w.valid = (1_000_001, 1_000_100)),
                "ann",
                Refusal::NotYetValid,
            ),
            (good(&|w| w.valid = (0, 1_000_000)), "ann", Refusal::Expired),
            (
                good(&|w| w.critical = Some("force-command")),
                "ann",
                Refusal::UnknownCriticalOption,
            ),
            (plain.clone(), "bob", Refusal::LoginNotInCertificate),
            (plain.clone(), "root", Refusal::LoginNotAllowedByProxy),
            (
                issue::certificate(&ca, &issue::Wanted::new(&key(), &["ann"], NOW)),
                "ann",
                Refusal::OtherKeyThanProxySaw,
            ),
        ] {
            assert_eq!(door.admit(login, &certificate), Err(refusal));
        }
        let offers_bob = Door {
            only_login: Some("bob"),
            ..door
        };
        assert_eq!(
            offers_bob.admit("ann", &plain),
            Err(Refusal::LoginNotOnOffer)
        );
    }
}
