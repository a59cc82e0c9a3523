//! One connection of a light agent, as far as there is one.

use std::pin::Pin;
use std::sync::Arc;

use anyhow::Result;
use protocol::SERVER_NAME;
use protocol::error::CloseCode;
use protocol::message::control::ToCluster;
use quinn::{ConnectionError, RecvStream, SendStream, TransportErrorCode};

use super::Fleet;
use super::identity::Identity;
use super::wire::{Frames, send};

/// See the [module](self).
pub(super) enum Connection {
    None,
    Opening(Pin<Box<dyn Future<Output = Result<Open>> + Send>>),
    Open(Open),
}

/// A connection with its control stream.
pub(super) struct Open {
    connection: quinn::Connection,
    to: SendStream,
    from: Frames,
}

/// News of a connection.
pub(super) enum Happened {
    Opened(Open),
    Failed(anyhow::Error),
    Frame(Vec<u8>),
    Dialled(SendStream, RecvStream),
}

impl Connection {
    /// Waits for whatever comes next; for ever if there is nothing to come.
    pub(super) async fn next(&mut self) -> Happened {
        match self {
            Self::None => std::future::pending().await,
            Self::Opening(opening) => match opening.await {
                Ok(open) => Happened::Opened(open),
                Err(error) => Happened::Failed(error),
            },
            Self::Open(open) => tokio::select! {
                frame = open.from.next() => match frame {
                    Ok(body) => Happened::Frame(body),
                    Err(error) => Happened::Failed(error),
                },
                dial = open.connection.accept_bi() => match dial {
                    Ok((to, from)) => Happened::Dialled(to, from),
                    Err(error) => Happened::Failed(error.into()),
                },
            },
        }
    }

    /// Sends a message; a connection that broke is found by reading.
    pub(super) async fn send(&mut self, message: &ToCluster<'_>) {
        if let Self::Open(open) = self {
            send(&mut open.to, message).await.ok();
        }
    }

    pub(super) const fn take(&mut self) -> Self {
        std::mem::replace(self, Self::None)
    }

    pub(super) fn close(self, code: CloseCode) {
        if let Self::Open(open) = self {
            open.connection.close(code.code().into(), b"");
        }
    }
}

/// Opens a connection as an agent.
pub(super) async fn open(fleet: Arc<Fleet>, identity: Arc<Identity>) -> Result<Open> {
    let (socket, config) = (fleet.socket(identity.number)?, identity.config.clone());
    let connecting = socket.connect_with(config, fleet.target.addr, SERVER_NAME)?;
    let connection = connecting.await?;
    let (to, from) = connection.open_bi().await?;
    Ok(Open {
        connection,
        to,
        from: Frames::new(from),
    })
}

/// Whether the cluster said that it has no room, before any handshake.
pub(super) fn turned_away(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(ConnectionError::ConnectionClosed(close))
            if close.error_code == TransportErrorCode::CONNECTION_REFUSED
    )
}
