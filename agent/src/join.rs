//! Joining: the one exchange in which a device becomes a node, or one that was away too long gets
//! new certificates.
//!
//! The device connects without a certificate, checks the cluster (by the pin at first, by the host
//! CA later), signs what only this connection's two ends know, and reads one answer.

pub(crate) mod command;
pub(crate) mod enrol;
pub(crate) mod plan;

use std::time::Duration;

use protocol::error::CloseCode;
use protocol::message::control::Refusal;
use protocol::message::join::{JoinReply, JoinRequest, Secret};
use protocol::message::{Blob, Text, decode};
use protocol::transport::{self, Choice};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::link::connect::{Route, Shown, connect};
use crate::link::frame;
use crate::link::transport::{Fault, FaultKind, Transport};
use crate::state::key::DeviceKey;
use crate::state::membership::Membership;
use crate::token::Token;
use crate::trust::{self, certificate};
use plan::Plan;

/// The cluster issues two certificates and writes to its store; a busy one takes a second or two.
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) enum Applicant {
    /// A new device.
    New { token: Token, node_name: String },
    /// A node whose certificate is of no use any more.
    Known { node_id: [u8; 16], generation: u32 },
}

/// Why there are no certificates.
#[derive(Debug)]
pub(crate) enum JoinError {
    /// The connection failed.
    Fault(Fault),
    /// The cluster said no.
    Refused { reason: Refusal, text: String },
}

impl From<Fault> for JoinError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Makes a new device a node of the cluster that the plan's pin names. `now` is the clock rule's.
pub(crate) async fn join(
    plan: &Plan,
    key: &DeviceKey,
    now: Duration,
    failures: u32,
) -> Result<Membership, JoinError> {
    let tls = trust::by_pin(plan.ca_pin, now).map_err(Fault::local)?;
    let applicant = Applicant::New {
        token: plan.token.clone(),
        node_name: plan.node_name.clone(),
    };
    let first = Choice::new(plan.route.policy).plan();
    let given = ask(&plan.route, first, tls, key, &applicant, failures).await?;
    certificate::check_pin(&given.trust, plan.ca_pin)
        .map_err(|error| Fault::new(FaultKind::Untrusted, error.to_string()))?;
    checked(given, key)
}

/// Gets new certificates for a node that was away too long.
pub(crate) async fn come_back(
    route: &Route,
    plan: transport::Plan,
    membership: &Membership,
    key: &DeviceKey,
    now: Duration,
    failures: u32,
) -> Result<Membership, JoinError> {
    let tls = trust::by_ca(membership, now).map_err(Fault::local)?;
    let applicant = Applicant::Known {
        node_id: membership.node_id.0,
        generation: membership.certificates.generation,
    };
    checked(ask(route, plan, tls, key, &applicant, failures).await?, key)
}

fn checked(given: Membership, key: &DeviceKey) -> Result<Membership, JoinError> {
    match certificate::check_membership(&given, &key.public()) {
        Ok(()) => Ok(given),
        Err(error) => Err(Fault::new(FaultKind::Misbehaved, format!("{error:#}")).into()),
    }
}

async fn ask(
    route: &Route,
    plan: transport::Plan,
    tls: rustls::ClientConfig,
    key: &DeviceKey,
    applicant: &Applicant,
    failures: u32,
) -> Result<Membership, JoinError> {
    let shown = Shown::Nothing(Box::new(tls));
    let transport = connect(route, &shown, plan, failures).await?;
    let reply = timeout(REPLY_TIMEOUT, exchange(&*transport, key, applicant))
        .await
        .unwrap_or_else(|_| {
            Err(Fault::new(
                FaultKind::Unreachable,
                "the cluster does not reply",
            ))
        });
    transport.close(CloseCode::Done);
    let reply = reply?;
    match decode(&reply) {
        Ok(JoinReply::Joined(joined)) => Ok(Membership::new(route.address.to_string(), &joined)),
        Ok(JoinReply::Refused { reason, text }) => Err(JoinError::Refused {
            reason,
            text: crate::text::plain(&text),
        }),
        Err(error) => {
            let text = format!("the cluster's reply cannot be read: {error}");
            Err(Fault::new(FaultKind::Misbehaved, text).into())
        }
    }
}

async fn exchange(
    transport: &dyn Transport,
    key: &DeviceKey,
    applicant: &Applicant,
) -> Result<Vec<u8>, Fault> {
    let proof = key.prove(&transport.exported()?).map_err(Fault::local)?;
    let request = Zeroizing::new(frame::encode(&request(key, applicant, &proof)?)?);
    // The connection knows better than the stream why there is no reply.
    talk(transport, &request)
        .await
        .map_err(|fault| transport.ended().unwrap_or(fault))
}

async fn talk(transport: &dyn Transport, request: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut stream = transport.open().await?;
    let writer = &mut stream.writer;
    writer.write_all(request).await.map_err(Fault::local)?;
    writer.flush().await.map_err(Fault::local)?;
    frame::read(&mut stream.reader).await
}

fn request<'a>(
    key: &DeviceKey,
    applicant: &'a Applicant,
    proof: &'a [u8; 64],
) -> Result<JoinRequest<'a>, Fault> {
    let proof = Blob::new(proof).ok_or_else(too_large)?;
    Ok(match applicant {
        Applicant::New { token, node_name } => JoinRequest::Token {
            token: Secret(Text::new(token.expose()).ok_or_else(too_large)?),
            node_name: Text::new(node_name).ok_or_else(too_large)?,
            public_key: key.public(),
            proof,
        },
        Applicant::Known {
            node_id,
            generation,
        } => JoinRequest::Return {
            node_id: *node_id,
            generation: *generation,
            proof,
        },
    })
}

fn too_large() -> Fault {
    Fault::local("token or node name too long")
}
