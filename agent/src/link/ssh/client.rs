//! What the cluster may do on an SSH connection, and how the connection ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use link_ssh::{Misbehaved, Table};
use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::public::KeyData;
use russh::{Channel, ChannelId};
use tokio::sync::{mpsc, watch};

use super::super::fault::{closed, of_io, untrusted};
use super::super::transport::{Fault, FaultKind, Stream};
use crate::trust::certificate::check_cluster;

/// Why a connection has ended, once it has.
#[derive(Clone, Default)]
pub(super) struct Ended(Arc<Mutex<Option<Fault>>>);

impl Ended {
    pub(super) fn get(&self) -> Option<Fault> {
        self.lock().clone()
    }

    /// Keeps the first reason: it is the cause of those that follow.
    fn because(&self, fault: Fault) {
        self.lock().get_or_insert(fault);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers russh's questions.
pub(super) struct Client {
    pub(super) host_ca: KeyData,
    /// By the clock rule.
    pub(super) now: Duration,
    pub(super) table: Arc<Table>,
    pub(super) dials: mpsc::Sender<Stream>,
    pub(super) ended: Ended,
    /// Dropped with this.
    pub(super) _alive: watch::Sender<()>,
}

/// A channel as a stream. Its read half goes: what comes is taken from callbacks, which never wait.
pub(super) fn stream(table: &Arc<Table>, channel: Channel<Msg>) -> Option<Stream> {
    let (reader, writer, ended) = table.add(channel.split().1, None)?;
    Some(Stream {
        reader: Box::new(reader),
        writer: Box::new(writer),
        delivered: Box::pin(async move { ended.wait().await }),
    })
}

/// What an error of the connection means.
pub(super) fn fault_of(error: &anyhow::Error) -> Fault {
    if let Some(misbehaved) = error.downcast_ref::<Misbehaved>() {
        return Fault::new(FaultKind::Misbehaved, misbehaved.to_string());
    }
    match error.downcast_ref() {
        Some(russh::Error::IO(error)) => of_io(error),
        Some(russh::Error::NoAuthMethod) => refused(),
        Some(russh::Error::Disconnect | russh::Error::HUP) | None => broken(),
        Some(error) => Fault::new(FaultKind::Unreachable, format!("SSH failed: {error}")),
    }
}

/// The cluster has seen the node's certificate, and says no.
pub(super) fn refused() -> Fault {
    let text = "the cluster does not accept this node's certificate";
    Fault::new(FaultKind::CertificateRefused, text)
}

/// A connection that ended without a word.
pub(super) fn broken() -> Fault {
    let text = "the connection to the cluster broke off";
    Fault::new(FaultKind::Closed(None), text)
}

impl Drop for Client {
    fn drop(&mut self) {
        self.table.end();
    }
}

impl Handler for Client {
    type Error = anyhow::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> anyhow::Result<bool> {
        let checked = match shown.certificate() {
            Some(certificate) => check_cluster(certificate, &self.host_ca, self.now),
            None => Err("it has no SSH certificate"),
        };
        if let Err(reason) = checked {
            self.ended.because(untrusted(reason));
        }
        Ok(checked.is_ok())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> anyhow::Result<()> {
        // Dropping the reply refuses the channel.
        if let Some(stream) = stream(&self.table, channel)
            && self.dials.try_send(stream).is_ok()
        {
            reply.accept().await;
        }
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> anyhow::Result<()> {
        Ok(self.table.data(id, data)?)
    }

    async fn extended_data(
        &mut self,
        id: ChannelId,
        kind: u32,
        data: &[u8],
        _: &mut Session,
    ) -> anyhow::Result<()> {
        Ok(self.table.extended(id, kind, data)?)
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> anyhow::Result<()> {
        self.table.eof(id);
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> anyhow::Result<()> {
        self.table.close(id);
        Ok(())
    }

    async fn disconnected(&mut self, why: DisconnectReason<anyhow::Error>) -> anyhow::Result<()> {
        let fault = match &why {
            DisconnectReason::ReceivedDisconnect(said) => match said.message.parse() {
                Ok(code) => closed(code),
                Err(_) => broken(),
            },
            DisconnectReason::Error(error) => fault_of(error),
        };
        self.ended.because(fault);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn errors_are_told_apart() {
        for (error, kind) in [
            (Misbehaved::Overrun.into(), FaultKind::Misbehaved),
            (
                russh::Error::IO(io::ErrorKind::ConnectionReset.into()).into(),
                FaultKind::Unreachable,
            ),
            (russh::Error::Disconnect.into(), FaultKind::Closed(None)),
            (russh::Error::KexInit.into(), FaultKind::Unreachable),
            (
                russh::Error::NoAuthMethod.into(),
                FaultKind::CertificateRefused,
            ),
        ] {
            let error: anyhow::Error = error;
            assert_eq!(fault_of(&error).kind, kind, "{error}");
        }
    }

    #[test]
    fn the_first_reason_is_kept() {
        let ended = Ended::default();
        ended.because(untrusted("x"));
        ended.because(broken());
        assert_eq!(ended.get().unwrap().kind, FaultKind::Untrusted);
    }
}
