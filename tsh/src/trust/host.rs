//! Whether an SSH server is the node that was asked for: by its host certificate.

use std::time::SystemTime;

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Certificate, HashAlg, PublicKey};

/// What a node must show.
#[derive(Debug, Clone)]
pub(crate) struct ExpectedHost {
    /// The node as typed: name, `name.cluster` or id.
    pub(crate) target: String,
    /// The keys of the host CA.
    pub(crate) cas: Vec<PublicKey>,
}

/// Why a host certificate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is a user's certificate.
    NotAHost,
    /// Another CA signed it, or the signature is wrong.
    WrongCa,
    /// It is not valid yet, or no longer.
    OutOfTime,
    /// It names other hosts.
    WrongName,
    /// It makes a condition that this version does not know.
    Condition,
}

impl Refused {
    /// The reason, to stand behind "its host certificate".
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::NotAHost => "is not one for hosts",
            Self::WrongCa => "is not signed by the cluster's CA",
            Self::OutOfTime => "is not valid at this time (check the clock of this computer)",
            Self::WrongName => "is for another host",
            Self::Condition => "makes conditions unknown to this version of tsh",
        }
    }
}

impl ExpectedHost {
    /// Checks a host certificate; `now` is in seconds since the Unix epoch.
    pub(crate) fn check(&self, certificate: &Certificate, now: u64) -> Result<(), Refused> {
        if certificate.cert_type() != CertType::Host {
            return Err(Refused::NotAHost);
        }
        let fingerprints: Vec<_> = self
            .cas
            .iter()
            .map(|ca| ca.fingerprint(HashAlg::Sha256))
            .collect();
        // Time is checked below, to tell it from a wrong CA.
        let signed_at = certificate.valid_after();
        if certificate.validate_at(signed_at, &fingerprints).is_err() {
            return Err(Refused::WrongCa);
        }
        if !(certificate.valid_after()..certificate.valid_before()).contains(&now) {
            return Err(Refused::OutOfTime);
        }
        // Other than for OpenSSH, a certificate that names nobody is good for nobody.
        if !certificate.valid_principals().contains(&self.target) {
            return Err(Refused::WrongName);
        }
        if certificate.critical_options().iter().next().is_some() {
            return Err(Refused::Condition);
        }
        Ok(())
    }
}

/// The system's clock, in seconds since the Unix epoch.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Cas, NOW};

    fn expected(cas: &Cas) -> ExpectedHost {
        ExpectedHost {
            target: "gateway-1".into(),
            cas: vec![cas.ssh_public()],
        }
    }

    #[test]
    fn a_certificate_for_each_of_the_nodes_names_is_taken() {
        let cas = Cas::new();
        let certificate = cas.host_certificate(&["gateway-1", "gateway-1.lab"]);
        for target in ["gateway-1", "gateway-1.lab"] {
            let mut host = expected(&cas);
            host.target = target.into();
            assert_eq!(host.check(&certificate, NOW), Ok(()));
        }
    }

    #[test]
    fn another_name_ca_kind_or_time_is_refused() {
        let cas = Cas::new();
        let host = expected(&cas);
        let good = cas.host_certificate(&["gateway-1"]);
        let check = |certificate: &Certificate, now| host.check(certificate, now).unwrap_err();
        assert_eq!(
            check(&cas.host_certificate(&["gateway-2"]), NOW),
            Refused::WrongName
        );
        let foreign = Cas::new().host_certificate(&["gateway-1"]);
        assert_eq!(check(&foreign, NOW), Refused::WrongCa);
        let user = cas.identity(&["gateway-1"]).certificate;
        assert_eq!(check(&user, NOW), Refused::NotAHost);
        assert_eq!(check(&good, good.valid_before()), Refused::OutOfTime);
        assert_eq!(check(&good, good.valid_after() - 1), Refused::OutOfTime);
    }
}
