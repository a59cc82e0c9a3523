//! Node ids, fingerprints, CA pins, and how identities are written into certificates.

use core::fmt;
use core::str::FromStr;

/// A node's id: 16 random bytes chosen by the cluster at its first join.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 16]);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not what it should name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseError(&'static str);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for ParseError {}

impl FromStr for NodeId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const WRONG: ParseError = ParseError("expected a node id: 32 hex digits in five groups");
        let dashes = text
            .bytes()
            .enumerate()
            .all(|(i, b)| (b == b'-') == matches!(i, 8 | 13 | 18 | 23));
        if text.len() != 36 || !dashes {
            return Err(WRONG);
        }
        let mut id = [0; 16];
        unhex(text.bytes().filter(|&b| b != b'-'), &mut id).ok_or(WRONG)?;
        Ok(Self(id))
    }
}

/// SHA-256 of a subject's SSH public key blob, as `ssh-keygen -l` shows it for keys and
/// certificates. Both forms of one identity share the key, hence the fingerprint.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(")?;
        hex(&self.0, f)?;
        f.write_str(")")
    }
}

/// SHA-256 of the host CA's X.509 public key (DER `SubjectPublicKeyInfo`), written
/// `sha256:<64 hex digits>`. Whoever knows it can tell the real cluster from any other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CaPin(pub [u8; 32]);

impl fmt::Display for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        hex(&self.0, f)
    }
}

impl fmt::Debug for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CaPin {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const WRONG: ParseError = ParseError("expected a CA pin: sha256: and 64 hex digits");
        let digits = text.strip_prefix("sha256:").ok_or(WRONG)?;
        let mut pin = [0; 32];
        if digits.len() != 64 {
            return Err(WRONG);
        }
        unhex(digits.bytes(), &mut pin).ok_or(WRONG)?;
        Ok(Self(pin))
    }
}

/// Scheme of the URI in a certificate's subject alternative name (RFC 5280 §4.2.1.6) that says
/// whom it names: `tether://<cluster>/node/<id>`, `.../user/<name>` or `.../cluster`.
pub const URI_SCHEME: &str = "tether://";

/// Whom an X.509 certificate of a Tether CA names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A node.
    Node(NodeId),
    /// A user.
    User(&'a str),
    /// The cluster's own proxy.
    Cluster,
}

impl<'a> Subject<'a> {
    /// Reads a certificate's URI; gives the cluster's name and the subject.
    ///
    /// # Errors
    /// If the URI is not one that a Tether CA writes.
    pub fn parse_uri(uri: &'a str) -> Result<(&'a str, Self), ParseError> {
        const WRONG: ParseError = ParseError("not a tether identity URI");
        let (cluster, path) = uri
            .strip_prefix(URI_SCHEME)
            .and_then(|rest| rest.split_once('/'))
            .ok_or(WRONG)?;
        let subject = match path.split_once('/') {
            None if path == "cluster" => Self::Cluster,
            Some(("node", id)) => Self::Node(id.parse()?),
            Some(("user", name)) if !name.is_empty() && !name.contains('/') => Self::User(name),
            _ => return Err(WRONG),
        };
        Ok((cluster, subject))
    }
}

/// Writes the path part of the identity URI, without scheme and cluster.
impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "node/{id}"),
            Self::User(name) => write!(f, "user/{name}"),
            Self::Cluster => f.write_str("cluster"),
        }
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn unhex(digits: impl Iterator<Item = u8>, out: &mut [u8]) -> Option<()> {
    let mut nibbles = digits.map(|d| {
        char::from(d)
            .to_digit(16)
            .and_then(|n| u8::try_from(n).ok())
    });
    for byte in out {
        *byte = nibbles.next()?? << 4 | nibbles.next()??;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_node_id_reads_back_what_it_writes() {
        let id = NodeId(*b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff");
        assert_eq!(id.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn what_is_not_a_node_id_is_refused() {
        for text in [
            "",
            "00112233",
            "00112233-4455-6677-8899-aabbccddeefg",
            "0011223344556677-8899-aabb-ccdd-eeff",
        ] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pin_reads_back_what_it_writes() {
        let pin = CaPin([0xa5; 32]);
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert!("sha256:a5".parse::<CaPin>().is_err());
        assert!("md5:a5".parse::<CaPin>().is_err());
    }

    #[test]
    fn identity_uris_name_one_subject_each() {
        let id = NodeId([7; 16]);
        let uri = std::format!("tether://lab/{}", Subject::Node(id));
        assert_eq!(Subject::parse_uri(&uri), Ok(("lab", Subject::Node(id))));
        assert_eq!(
            Subject::parse_uri("tether://lab/user/ann"),
            Ok(("lab", Subject::User("ann")))
        );
        assert_eq!(
            Subject::parse_uri("tether://lab/cluster"),
            Ok(("lab", Subject::Cluster))
        );
        for wrong in [
            "tether://lab",
            "http://lab/user/ann",
            "tether://lab/user/",
            "tether://lab/user/a/b",
        ] {
            assert!(Subject::parse_uri(wrong).is_err(), "{wrong}");
        }
    }
}
