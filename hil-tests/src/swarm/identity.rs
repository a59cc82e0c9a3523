//! How an agent becomes a node, and what it keeps of that.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use protocol::backoff::Backoff;
use protocol::message::join::{EXPORTED, JoinReply, JoinRequest, Joined, PROOF_CONTEXT, Secret};
use protocol::message::{Blob, Text};
use protocol::{ALPN_AGENT, ALPN_JOIN, JOIN_EXPORTER_LABEL, SERVER_NAME};
use quinn::ClientConfig;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::CertificateDer;
use tokio::time::sleep;

use super::connection::turned_away;
use super::wire::{receive, send};
use super::{Fleet, Swarm};

/// Tries to join: some two minutes.
const TRIES: u32 = 8;

/// What a joined agent keeps: its certificate and key, ready to be shown.
pub(super) struct Identity {
    pub(super) number: usize,
    pub(super) config: ClientConfig,
    pub(super) trust_serial: u32,
}

/// Joins agents.
pub(super) struct Joining {
    config: ClientConfig,
}

impl Joining {
    pub(super) fn new(fleet: &Fleet) -> Result<Self> {
        let config = fleet.trusted.config(ALPN_JOIN, None)?;
        Ok(Self { config })
    }

    /// Joins the agent of this number.
    pub(super) async fn join(&self, fleet: &Fleet, number: usize) -> Result<Identity> {
        let pkcs8 =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| anyhow!("no key"))?;
        let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|e| anyhow!("{e}"))?;
        let (certificate, trust_serial) = self.enrol_at_last(fleet, &key, number).await?;
        let identity = Some((certificate, pkcs8.as_ref()));
        Ok(Identity {
            number,
            config: fleet.trusted.config(ALPN_AGENT, identity)?,
            trust_serial,
        })
    }

    /// Asks again, with a device's patience, while the cluster has no room.
    async fn enrol_at_last(
        &self,
        fleet: &Fleet,
        key: &Ed25519KeyPair,
        number: usize,
    ) -> Result<(CertificateDer<'static>, u32)> {
        let mut backoff = Backoff::new(u64::try_from(number)?);
        loop {
            match self.enrol(fleet, key, number).await {
                Err(error) if turned_away(&error) && backoff.failures() < TRIES => {
                    sleep(backoff.next_delay(Duration::ZERO)).await;
                }
                done => return done,
            }
        }
    }

    async fn enrol(
        &self,
        fleet: &Fleet,
        key: &Ed25519KeyPair,
        number: usize,
    ) -> Result<(CertificateDer<'static>, u32)> {
        let connection = fleet
            .socket(number)?
            .connect_with(self.config.clone(), fleet.target.addr, SERVER_NAME)?
            .await?;
        let mut exported = [0; EXPORTED];
        connection
            .export_keying_material(&mut exported, JOIN_EXPORTER_LABEL, b"")
            .map_err(|_| anyhow!("no keying material"))?;
        let proof = key.sign(&[PROOF_CONTEXT, &exported].concat());
        let name = Swarm::name(number);
        let request = JoinRequest::Token {
            token: Secret(Text::new(&fleet.target.token).context("token too long")?),
            node_name: Text::cut(&name),
            public_key: key.public_key().as_ref().try_into()?,
            proof: Blob::new(proof.as_ref()).context("proof too long")?,
        };
        let (mut to, mut from) = connection.open_bi().await?;
        send(&mut to, &request).await?;
        let mut buffer = Vec::new();
        match receive::<JoinReply<'_>>(&mut from, &mut buffer).await? {
            JoinReply::Joined(Joined {
                certificates,
                trust,
                ..
            }) => Ok((
                CertificateDer::from(certificates.x509.to_vec()),
                trust.serial,
            )),
            JoinReply::Refused { text, .. } => bail!("join refused: {text}"),
        }
    }
}
