//! Serves one join request: the only thing a device without a certificate can ask for.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use protocol::JOIN_EXPORTER_LABEL;
use protocol::error::CloseCode;
use protocol::identity::NodeId;
use protocol::message::Text;
use protocol::message::join::{EXPORTED, JoinReply, JoinRequest, Joined};
use quinn::Connection;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::Proxy;
use super::quic::REQUEST_DEADLINE;
use crate::auth::Secret;
use crate::auth::join::{Claim, Enrolled, JoinError};
use crate::tunnel::quic::close;
use crate::tunnel::serve::{certificates, encoded, reason_and_text, trust, unix};
use crate::tunnel::stream::{Stream, WriteHalf};

/// Time for the reply to reach the device before the connection is closed.
const DELIVERY: Duration = Duration::from_secs(10);

impl Proxy {
    /// Serves the one request of a QUIC connection with the join ALPN.
    ///
    /// # Errors
    /// If the request is none, or the connection broke.
    pub async fn serve_join(&self, connection: &Connection) -> Result<()> {
        let accept = tokio::time::timeout(REQUEST_DEADLINE, connection.accept_bi());
        let (send, recv) = accept.await.context("no request")??;
        let mut exported = [0; EXPORTED];
        connection
            .export_keying_material(&mut exported, JOIN_EXPORTER_LABEL, b"")
            .map_err(|_| anyhow!("no keying material"))?;
        let addr = connection.remote_address();
        self.answer_join(Stream::quic(send, recv), &exported, addr)
            .await?;
        close(connection, CloseCode::Done, "");
        Ok(())
    }

    /// Serves the one request of a TLS connection with the join ALPN.
    ///
    /// # Errors
    /// If the request is none, or the connection broke.
    pub async fn serve_join_tcp(&self, tls: TlsStream<TcpStream>, addr: SocketAddr) -> Result<()> {
        let exported = [0; EXPORTED];
        let (_, session) = tls.get_ref();
        let exported = session.export_keying_material(exported, JOIN_EXPORTER_LABEL, Some(b""))?;
        self.answer_join(Stream::io(tls), &exported, addr).await
    }

    async fn answer_join(
        &self,
        mut stream: Stream,
        exported: &[u8],
        addr: SocketAddr,
    ) -> Result<()> {
        let mut buffer = Vec::new();
        let request = stream.read.frame::<JoinRequest<'_>>(&mut buffer);
        let request = tokio::time::timeout(REQUEST_DEADLINE, request)
            .await
            .context("no request")??;
        let enrolled = self.enroll(&request, exported, &addr.to_string()).await;
        self.reply(&mut stream.write, enrolled).await?;
        stream.write.finish().await;
        stream.write.delivered(DELIVERY).await;
        Ok(())
    }

    async fn enroll(
        &self,
        request: &JoinRequest<'_>,
        exported: &[u8],
        addr: &str,
    ) -> Result<Enrolled, JoinError> {
        match request {
            JoinRequest::Token {
                token,
                node_name,
                public_key,
                proof,
            } => {
                let token = Secret::new(token.0.as_str().into());
                let claim = Claim {
                    proof,
                    exported,
                    addr,
                };
                self.join.join(&token, node_name, *public_key, &claim).await
            }
            JoinRequest::Return {
                node_id,
                generation,
                proof,
            } => {
                let claim = Claim {
                    proof,
                    exported,
                    addr,
                };
                self.join
                    .renew(NodeId(*node_id), *generation, addr, Some(&claim))
                    .await
            }
        }
    }

    async fn reply(
        &self,
        write: &mut WriteHalf,
        enrolled: Result<Enrolled, JoinError>,
    ) -> Result<()> {
        let node = match enrolled {
            Ok(node) => node,
            Err(error) => {
                let (reason, text) = reason_and_text(&error);
                let text = Text::cut(&text);
                return Ok(write.frame(&JoinReply::Refused { reason, text }).await?);
            }
        };
        let (ssh, x509) = encoded(&node.issued)?;
        let joined = Joined {
            node_id: node.id.0,
            time_s: unix(std::time::SystemTime::now()),
            cluster: Text::new(&self.authorities.cluster).context("cluster name too long")?,
            node_name: Text::new(&node.name).context("node name too long")?,
            certificates: certificates(&node, &ssh, &x509)?,
            trust: trust(&self.authorities)?,
        };
        Ok(write.frame(&JoinReply::Joined(joined)).await?)
    }
}
