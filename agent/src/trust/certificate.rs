//! What the cluster issues to this node, looked at before it is believed.

use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use protocol::PROXY_KEY_ID;
use protocol::identity::CaPin;
use ring::digest::{SHA256, digest};
use russh::keys::Certificate;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::{Ed25519PublicKey, KeyData};

use rustls::pki_types::{CertificateDer, TrustAnchor};
use webpki::anchor_from_trusted_cert;

use crate::state::membership::{HostCertificates, Membership, Trusted};

/// Contents of the `SubjectPublicKeyInfo` of an Ed25519 key, before the key (RFC 8410 §4).
const ED25519_SPKI: [u8; 10] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The pin of a certificate's key; `None` if it is no certificate.
pub(super) fn pin_of(certificate: &CertificateDer<'_>) -> Option<CaPin> {
    let anchor = anchor_from_trusted_cert(certificate).ok()?;
    let sum = digest(&SHA256, &sequence(&anchor.subject_public_key_info)?);
    sum.as_ref().try_into().ok().map(CaPin)
}

/// A DER SEQUENCE with this content: `webpki` gives the key without its outer header.
fn sequence(content: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(content.len()).ok()?;
    let [high, low] = length.to_be_bytes();
    let header: &[u8] = match length {
        0..=0x7f => &[0x30, low],
        0x80..=0xff => &[0x30, 0x81, low],
        _ => &[0x30, 0x82, high, low],
    };
    Some([header, content].concat())
}

/// Whether a join gave what it should.
pub(crate) fn check_membership(given: &Membership, public: &[u8; 32]) -> anyhow::Result<()> {
    check_trust(&given.trust)?;
    check_certificates(&given.certificates, public)
}

/// Whether the host CA is a certificate at all; believing in anything else would end all links.
pub(crate) fn check_trust(trust: &Trusted) -> anyhow::Result<()> {
    let der = CertificateDer::from(trust.host_ca_x509.as_slice());
    anchor(&der).context("the host CA")?;
    Ok(())
}

/// Whether the host CA is the pinned one.
pub(crate) fn check_pin(trust: &Trusted, pin: CaPin) -> anyhow::Result<()> {
    let given = pin_of(&CertificateDer::from(trust.host_ca_x509.as_slice()));
    ensure!(
        given == Some(pin),
        "the cluster's host CA is not the one that was pinned"
    );
    Ok(())
}

/// Whether both certificates are for the device's own key.
pub(crate) fn check_certificates(
    certificates: &HostCertificates,
    public: &[u8; 32],
) -> anyhow::Result<()> {
    let der = CertificateDer::from(certificates.x509.as_slice());
    let spki = anchor(&der)
        .context("the X.509 certificate")?
        .subject_public_key_info;
    ensure!(
        spki.as_ref() == [ED25519_SPKI.as_slice(), public].concat(),
        "the X.509 certificate is not for this device's key"
    );
    let ssh = ssh(certificates)?;
    let key = ssh
        .public_key()
        .ed25519()
        .context("the SSH certificate's key is not Ed25519")?;
    ensure!(
        &key.0 == public,
        "the SSH certificate is not for this device's key"
    );
    match ssh.cert_type() {
        CertType::Host => Ok(()),
        CertType::User => bail!("the SSH certificate is for a user"),
    }
}

fn anchor<'a>(certificate: &'a CertificateDer<'a>) -> anyhow::Result<TrustAnchor<'a>> {
    anchor_from_trusted_cert(certificate).map_err(|error| anyhow!("not a certificate: {error}"))
}

/// The SSH form.
pub(crate) fn ssh(certificates: &HostCertificates) -> anyhow::Result<Certificate> {
    Certificate::from_bytes(&certificates.ssh).context("the SSH certificate cannot be read")
}

/// Whether an SSH server is the cluster: none of its nodes, and nobody else. `now` is the clock
/// rule's.
pub(crate) fn check_cluster(
    certificate: &Certificate,
    host_ca: &KeyData,
    now: Duration,
) -> Result<(), &'static str> {
    let unless = |fine: bool, reason| if fine { Ok(()) } else { Err(reason) };
    let signed = certificate.signature_key() == host_ca && certificate.verify_signature().is_ok();
    unless(signed, "its SSH certificate is of another CA")?;
    let for_it = certificate.cert_type() == CertType::Host && certificate.key_id() == PROXY_KEY_ID;
    unless(for_it, "its SSH certificate is not the cluster's")?;
    let valid = certificate.valid_after()..certificate.valid_before();
    unless(
        valid.contains(&now.as_secs()),
        "its SSH certificate is not valid now",
    )?;
    unless(
        certificate.critical_options().is_empty(),
        "its SSH certificate makes conditions",
    )
}

/// A CA's SSH key.
pub(crate) const fn ssh_key(public: &[u8; 32]) -> KeyData {
    KeyData::Ed25519(Ed25519PublicKey(*public))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::state::key::DeviceKey;
    use crate::state::membership::tests::sample;
    use rcgen::{
        BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose,
        PKCS_ECDSA_P256_SHA256, PublicKeyData, date_time_ymd,
    };

    /// A certificate authority as a cluster has one.
    pub(crate) struct Ca {
        pub(crate) certificate: rcgen::Certificate,
        pub(crate) issuer: Issuer<'static, KeyPair>,
    }

    impl Ca {
        pub(crate) fn new(name: &str) -> Self {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
            let mut params = params(&[]);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
            let certificate = params.self_signed(&key).unwrap();
            Self {
                certificate,
                issuer: Issuer::new(params, key),
            }
        }

        /// Computed from the key itself, not from the certificate.
        pub(crate) fn pin(&self) -> CaPin {
            let spki = self.issuer.key().subject_public_key_info();
            CaPin(digest(&SHA256, &spki).as_ref().try_into().unwrap())
        }
    }

    fn params(names: &[&str]) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2100, 1, 1);
        params
    }

    /// A certificate for a new P-256 key.
    pub(crate) fn leaf(ca: &Ca, name: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        params(&[name])
            .signed_by(&key, &ca.issuer)
            .unwrap()
            .der()
            .clone()
    }

    /// A node's X.509 certificate.
    pub(crate) fn node(ca: &Ca, key: &DeviceKey) -> Vec<u8> {
        let pkcs8 = rustls::pki_types::PrivatePkcs8KeyDer::from(key.pkcs8());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519).unwrap();
        params(&[])
            .signed_by(&pair, &ca.issuer)
            .unwrap()
            .der()
            .to_vec()
    }

    fn ssh(key: &DeviceKey, kind: CertType) -> Vec<u8> {
        let ca = DeviceKey::generate().unwrap().ssh();
        let public = key.ssh().public_key().key_data().clone();
        let mut builder =
            russh::keys::ssh_key::certificate::Builder::new([7; 16], public, 1, 1 << 40).unwrap();
        builder
            .cert_type(kind)
            .unwrap()
            .valid_principal("gateway-1")
            .unwrap();
        builder.sign(&ca).unwrap().to_bytes().unwrap()
    }

    /// What a cluster gives to a node with this key.
    pub(crate) fn given(ca: &Ca, key: &DeviceKey) -> Membership {
        let mut given = sample();
        given.certificates.x509 = node(ca, key);
        given.certificates.ssh = ssh(key, CertType::Host);
        given.trust.host_ca_x509 = ca.certificate.der().to_vec();
        given
    }

    #[test]
    fn only_the_clusters_own_ssh_certificate_is_believed() {
        use russh::keys::ssh_key::certificate::Builder;
        let new = || DeviceKey::generate().unwrap().ssh();
        let (ca, other, key) = (new(), new(), new());
        let certificate = |ca: &russh::keys::PrivateKey, id: &str, kind, condition: bool| {
            let public = key.public_key().key_data().clone();
            let mut builder = Builder::new([7; 16], public, 100, 200).unwrap();
            builder.cert_type(kind).unwrap().key_id(id).unwrap();
            // What a node is called does not make it the cluster.
            builder.valid_principal("lab").unwrap();
            if condition {
                builder.critical_option("x", "").unwrap();
            }
            builder.sign(ca).unwrap()
        };
        let host = |id| certificate(&ca, id, CertType::Host, false);
        let check = |certificate: &Certificate, at| {
            let host_ca = ca.public_key().key_data();
            check_cluster(certificate, host_ca, Duration::from_secs(at)).is_ok()
        };
        let good = host(PROXY_KEY_ID);
        for (at, fine) in [(99, false), (100, true), (199, true), (200, false)] {
            assert_eq!(check(&good, at), fine, "{at}");
        }
        for bad in [
            host("55555555-5555-5555-5555-555555555555"),
            certificate(&other, PROXY_KEY_ID, CertType::Host, false),
            certificate(&ca, PROXY_KEY_ID, CertType::User, false),
            certificate(&ca, PROXY_KEY_ID, CertType::Host, true),
        ] {
            assert!(!check(&bad, 150), "{bad:?}");
        }
        let mut bytes = good.to_bytes().unwrap();
        let at = bytes.windows(3).position(|w| w == b"lab").unwrap();
        bytes[at] = b'x';
        assert!(!check(&Certificate::from_bytes(&bytes).unwrap(), 150));
    }

    #[test]
    fn the_pin_is_the_hash_of_the_whole_key() {
        let ca = Ca::new("lab");
        assert_eq!(pin_of(ca.certificate.der()), Some(ca.pin()));
        assert_eq!(pin_of(&CertificateDer::from(vec![1, 2, 3])), None);
    }

    #[test]
    fn long_keys_get_long_headers() {
        assert_eq!(sequence(&[9; 3]).unwrap(), [0x30, 3, 9, 9, 9]);
        assert_eq!(sequence(&[9; 0x80]).unwrap()[..3], [0x30, 0x81, 0x80]);
        assert_eq!(
            sequence(&[9; 0x126]).unwrap()[..4],
            [0x30, 0x82, 0x01, 0x26]
        );
    }

    #[test]
    fn what_a_join_should_give_is_accepted() {
        let (ca, key) = (Ca::new("lab"), DeviceKey::generate().unwrap());
        let given = given(&ca, &key);
        check_membership(&given, &key.public()).unwrap();
        check_pin(&given.trust, ca.pin()).unwrap();
        assert!(check_pin(&given.trust, Ca::new("lab").pin()).is_err());
    }

    #[test]
    fn certificates_of_another_key_are_refused() {
        let (ca, key) = (Ca::new("lab"), DeviceKey::generate().unwrap());
        let other = given(&ca, &DeviceKey::generate().unwrap()).certificates;
        let own = given(&ca, &key).certificates;
        let user = HostCertificates {
            ssh: ssh(&key, CertType::User),
            ..own.clone()
        };
        for (wrong, said) in [
            (
                HostCertificates {
                    x509: other.x509,
                    ..own.clone()
                },
                "X.509 certificate is not for",
            ),
            (
                HostCertificates {
                    ssh: other.ssh,
                    ..own.clone()
                },
                "SSH certificate is not for",
            ),
            (
                HostCertificates {
                    x509: vec![1],
                    ..own.clone()
                },
                "X.509 certificate",
            ),
            (
                HostCertificates {
                    ssh: vec![1],
                    ..own.clone()
                },
                "cannot be read",
            ),
            (user, "for a user"),
        ] {
            let error = format!(
                "{:#}",
                check_certificates(&wrong, &key.public()).unwrap_err()
            );
            assert!(error.contains(said), "{error} / {said}");
        }
    }
}
