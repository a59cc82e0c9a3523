//! What makes this device a node: the cluster's address, and what the cluster gave at the join.
//!
//! The file: [`MAGIC`], the address with its length before it, the join reply's frame exactly as
//! the protocol lays it out, and the SHA-256 of all that. A file that is torn, damaged or longer
//! than it should be does not pass for a state. `time_s` of the reply is kept at the newest time
//! the cluster told: it is the clock's floor.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use protocol::identity::NodeId;
use protocol::message::frame::{HEADER, MAX_FRAME, body_length};
use protocol::message::join::{Certificates, JoinReply, Joined, Trust};
use protocol::message::{Blob, Text, decode, encode};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

/// Names the file's layout. A new layout gets a new number.
const MAGIC: &[u8] = b"tether-agent state 1\n";

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The cluster's address, as given at the join.
    pub(crate) address: String,
    pub(crate) node_id: NodeId,
    /// The newest time the cluster told, since the Unix epoch.
    pub(crate) time: Duration,
    pub(crate) cluster: String,
    pub(crate) node_name: String,
    pub(crate) certificates: HostCertificates,
    pub(crate) trust: Trusted,
}

/// [`Certificates`], to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostCertificates {
    pub(crate) generation: u32,
    pub(crate) not_before: Duration,
    pub(crate) not_after: Duration,
    pub(crate) ssh: Vec<u8>,
    pub(crate) x509: Vec<u8>,
}

/// [`Trust`], to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trusted {
    pub(crate) serial: u32,
    pub(crate) host_ca_x509: Vec<u8>,
    pub(crate) host_ca_ssh: [u8; 32],
    pub(crate) user_ca_ssh: [u8; 32],
}

impl From<&Certificates<'_>> for HostCertificates {
    fn from(sent: &Certificates<'_>) -> Self {
        Self {
            generation: sent.generation,
            not_before: Duration::from_secs(sent.not_before_s),
            not_after: Duration::from_secs(sent.not_after_s),
            ssh: sent.ssh.to_vec(),
            x509: sent.x509.to_vec(),
        }
    }
}

impl From<&Trust<'_>> for Trusted {
    fn from(sent: &Trust<'_>) -> Self {
        Self {
            serial: sent.serial,
            host_ca_x509: sent.host_ca_x509.to_vec(),
            host_ca_ssh: sent.host_ca_ssh,
            user_ca_ssh: sent.user_ca_ssh,
        }
    }
}

impl Membership {
    /// Keeps a join reply.
    pub(crate) fn new(address: String, joined: &Joined<'_>) -> Self {
        Self {
            address,
            node_id: NodeId(joined.node_id),
            time: Duration::from_secs(joined.time_s),
            cluster: joined.cluster.as_str().to_owned(),
            node_name: joined.node_name.as_str().to_owned(),
            certificates: HostCertificates::from(&joined.certificates),
            trust: Trusted::from(&joined.trust),
        }
    }

    /// The file's bytes.
    pub(crate) fn encode(&self) -> anyhow::Result<Vec<u8>> {
        let mut buffer = vec![0; HEADER + MAX_FRAME];
        let frame = encode(&JoinReply::Joined(self.joined()?), &mut buffer)?;
        let length = u16::try_from(self.address.len())?.to_be_bytes();
        let mut bytes = [MAGIC, &length, self.address.as_bytes(), frame].concat();
        let sum = digest(&SHA256, &bytes);
        bytes.extend_from_slice(sum.as_ref());
        Ok(bytes)
    }

    fn joined(&self) -> anyhow::Result<Joined<'_>> {
        const LARGE: &str = "too large";
        Ok(Joined {
            node_id: self.node_id.0,
            time_s: self.time.as_secs(),
            cluster: Text::new(&self.cluster).context(LARGE)?,
            node_name: Text::new(&self.node_name).context(LARGE)?,
            certificates: Certificates {
                generation: self.certificates.generation,
                not_before_s: self.certificates.not_before.as_secs(),
                not_after_s: self.certificates.not_after.as_secs(),
                ssh: Blob::new(&self.certificates.ssh).context(LARGE)?,
                x509: Blob::new(&self.certificates.x509).context(LARGE)?,
            },
            trust: Trust {
                serial: self.trust.serial,
                host_ca_x509: Blob::new(&self.trust.host_ca_x509).context(LARGE)?,
                host_ca_ssh: self.trust.host_ca_ssh,
                user_ca_ssh: self.trust.user_ca_ssh,
            },
        })
    }

    /// Reads the file's bytes.
    pub(crate) fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        const TORN: &str = "the file is damaged or not complete";
        let (body, sum) = bytes
            .split_last_chunk::<SHA256_OUTPUT_LEN>()
            .context(TORN)?;
        ensure!(digest(&SHA256, body).as_ref() == sum, TORN);
        let Some(body) = body.strip_prefix(MAGIC) else {
            bail!("a layout this agent does not know; was it written by a newer one?")
        };
        let (length, body) = body.split_first_chunk().context(TORN)?;
        let (address, frame) = body
            .split_at_checked(usize::from(u16::from_be_bytes(*length)))
            .context(TORN)?;
        let address = std::str::from_utf8(address).context(TORN)?.to_owned();
        let (header, body) = frame.split_first_chunk().context(TORN)?;
        ensure!(body_length(*header)? == body.len(), TORN);
        match decode(body)? {
            JoinReply::Joined(joined) => Ok(Self::new(address, &joined)),
            JoinReply::Refused { .. } => bail!(TORN),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A node of the cluster `lab`.
    pub(crate) fn sample() -> Membership {
        Membership {
            address: "lab.example.com:3080".into(),
            node_id: NodeId([0x55; 16]),
            time: Duration::from_secs(1_700_000_000),
            cluster: "lab".into(),
            node_name: "gateway-1".into(),
            certificates: HostCertificates {
                generation: 3,
                not_before: Duration::from_secs(1_700_000_000),
                not_after: Duration::from_secs(1_700_604_800),
                ssh: b"ssh".to_vec(),
                x509: b"x509".to_vec(),
            },
            trust: Trusted {
                serial: 2,
                host_ca_x509: b"ca".to_vec(),
                host_ca_ssh: [1; 32],
                user_ca_ssh: [2; 32],
            },
        }
    }

    #[test]
    fn a_state_reads_back_what_it_writes() {
        let bytes = sample().encode().unwrap();
        assert_eq!(Membership::decode(&bytes).unwrap(), sample());
    }

    #[test]
    fn a_file_torn_at_any_byte_is_noticed() {
        let bytes = sample().encode().unwrap();
        for length in 0..bytes.len() {
            assert!(
                Membership::decode(&bytes[..length]).is_err(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let bytes = sample().encode().unwrap();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert!(Membership::decode(&bytes).is_err(), "byte {at}");
        }
        assert!(Membership::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn the_layout_stays_as_it_is() {
        let bytes = sample().encode().unwrap();
        let start = b"tether-agent state 1\n\x00\x14lab.example.com:3080";
        assert_eq!(&bytes[..start.len()], start);
    }
}
