//! The first words on a link: Hello, and Welcome or a refusal.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use bytes::Bytes;
use protocol::message::Text;
use protocol::message::control::{Hello, Refusal, ToAgent, ToCluster, Welcome};
use protocol::message::version::SPOKEN;
use tokio::sync::mpsc;

use super::Transport;
use super::live::{About, Device, Live};
use super::registry::CONTROL_QUEUE;
use super::serve::{KEEPALIVE_S, Links, TRUST_SERIAL, own_labels, reason_and_text, trust, unix};
use super::stream::{Stream, frame_bytes};
use crate::audit::{Event, code};
use crate::auth::ca::Authorities;
use crate::auth::ca::peer::NodePeer;
use crate::auth::join::JoinError;
use crate::printable::plain;
use crate::resource::node::NodeSpec;

/// Who is turned away since there is too much to do comes back after this; each adds a delay of
/// its own.
const BUSY_S: u32 = 10;
/// An agent must say Hello within this time.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// Time for a refusal to reach the agent before the connection is closed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A link that was welcomed, with the frames that others want to send on it.
pub(super) type Welcomed = (Arc<Live>, mpsc::Receiver<Bytes>);

impl Links {
    /// Reads the Hello and answers it.
    pub(super) async fn greet(
        &self,
        transport: &Arc<dyn Transport>,
        control: &mut Stream,
        peer: &NodePeer,
    ) -> Result<Welcomed> {
        let mut buffer = Vec::new();
        let hello = control.read.frame::<ToCluster<'_>>(&mut buffer);
        let hello = tokio::time::timeout(HELLO_DEADLINE, hello);
        let ToCluster::Hello(hello) = hello.await.context("no Hello")?? else {
            anyhow::bail!("the first message was not a Hello");
        };
        match self.admit(transport, peer, &hello).await {
            Ok((welcomed, first)) => {
                if let Err(error) = control.write.send(first).await {
                    self.registry.remove(&welcomed.0);
                    return Err(error.into());
                }
                Ok(welcomed)
            }
            Err(error) => Err(self.turn_away(control, peer, &**transport, error).await),
        }
    }

    /// Decides, and puts the link on the list; gives what the agent is to hear first.
    async fn admit(
        &self,
        transport: &Arc<dyn Transport>,
        peer: &NodePeer,
        hello: &Hello<'_>,
    ) -> Result<(Welcomed, Bytes), JoinError> {
        let addr = transport.remote().to_string();
        let spec = self.join.known(peer, &addr).await?;
        let version = SPOKEN.common(hello.versions).ok_or_else(|| {
            let text = "this cluster and this agent have no protocol version in common; upgrade the older of the two";
            JoinError::Refused { reason: Refusal::Version, text: text.into() }
        })?;
        let first = first_words(&self.join.authorities, version, &spec, hello)?;
        let device = Device {
            node: peer.id,
            boot_id: hello.boot_id,
            generation: peer.generation,
        };
        let (sender, outgoing) = mpsc::channel(CONTROL_QUEUE);
        let about = about(hello, version)?;
        match self
            .registry
            .add(device, Arc::clone(transport), sender, about)
        {
            Ok(live) => Ok(((live, outgoing), first)),
            Err(twin) => {
                let other = twin.other.to_string();
                Err(self.join.copied(peer.id, &spec, &addr, Some(&other)).await)
            }
        }
    }

    async fn turn_away(
        &self,
        control: &mut Stream,
        peer: &NodePeer,
        transport: &dyn Transport,
        error: JoinError,
    ) -> anyhow::Error {
        let (reason, text) = reason_and_text(&error);
        let event = Event::new(code::NODE_REFUSED)
            .server(&peer.id.to_string(), "")
            .field("error", text.clone())
            .field("addr.remote", transport.remote().to_string());
        self.audit.record(event).await;
        let refused = ToAgent::Refused {
            reason,
            retry_after_s: retry_after(reason),
            text: Text::cut(&text),
        };
        if control.write.frame(&refused).await.is_ok() {
            control.write.finish().await;
            control.write.delivered(LAST_WORDS).await;
        }
        error.into()
    }
}

/// Least wait before the next try, in seconds. Refusals that only an operator lifts have one that
/// agents know.
const fn retry_after(reason: Refusal) -> u32 {
    match reason {
        Refusal::Busy | Refusal::Internal => BUSY_S,
        _ => 0,
    }
}

/// Welcome, and the CAs if the agent has others.
fn first_words(
    authorities: &Authorities,
    version: u16,
    spec: &NodeSpec,
    hello: &Hello<'_>,
) -> Result<Bytes> {
    let welcome = frame_bytes(&ToAgent::Welcome(Welcome {
        version,
        time_s: unix(SystemTime::now()),
        cluster: Text::new(&authorities.cluster).context("cluster name too long")?,
        node_name: Text::new(&spec.hostname).context("node name too long")?,
        keepalive_s: KEEPALIVE_S,
    }))?;
    if hello.trust_serial == TRUST_SERIAL {
        return Ok(welcome);
    }
    let trust = frame_bytes(&ToAgent::TrustChanged(trust(authorities)?))?;
    Ok([welcome, trust].concat().into())
}

fn about(hello: &Hello<'_>, version: u16) -> Result<About> {
    Ok(About {
        labels: own_labels(&hello.labels)?,
        agent_version: plain(&hello.agent_version),
        os: plain(&hello.inventory.os),
        arch: plain(&hello.inventory.arch),
        kernel: plain(&hello.inventory.kernel),
        only_login: hello.only_login.map(|l| plain(&l)),
        version,
    })
}

#[cfg(test)]
mod tests {
    use protocol::message::Labels;
    use protocol::message::control::Inventory;

    use super::*;

    #[test]
    fn nothing_that_drives_a_terminal_is_kept_of_what_a_device_says() {
        let hello = Hello {
            versions: SPOKEN,
            boot_id: [0; 16],
            agent_version: Text::cut("1.0\x1b]0;owned\x07"),
            inventory: Inventory {
                hostname: Text::cut("gateway-1"),
                os: Text::cut("Linux\n"),
                arch: Text::cut("mips\u{9b}2J"),
                kernel: Text::cut("6.1\r"),
            },
            labels: Labels::default(),
            only_login: Some(Text::cut("ann\x7f")),
            trust_serial: TRUST_SERIAL,
        };
        let about = about(&hello, 1).unwrap();
        let kept = [about.agent_version, about.os, about.arch, about.kernel];
        for text in kept.iter().chain(&about.only_login) {
            assert!(!text.contains(char::is_control), "{text:?}");
            assert!(text.contains('\u{fffd}'), "{text:?}");
        }
    }
}
