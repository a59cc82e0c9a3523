//! A stream to a node, through the proxy.
//!
//! QUIC comes first: one handshake, nothing blocks behind a lost packet, and the connection
//! survives a change of address. Where UDP does not pass, the same request goes over TLS on TCP.
//! Both ends show certificates; the server's must be of the host CA known from the login. A server
//! that is reached but not trusted, or that does not trust us, ends the attempt at once: TCP would
//! only lead to the same server.
//!
//! The proxy answers the request with yes or a sentence. After a yes the stream is that of the
//! node's SSH server.

use std::time::Duration;

use anyhow::Result;
use protocol::error::DecodeError;
use protocol::message::dial::{ClientRequest, DialReply};
use protocol::message::frame::{HEADER, MAX_FRAME, body_length};
use protocol::message::{Text, decode, encode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::cli::ssh::Destination;
use crate::error::{Exit, fail};
use crate::login::LoggedIn;
use crate::output;

mod quic;
mod refusal;
pub(crate) mod tcp;
mod tls;

/// The proxy refuses a dial over a dead link within seconds; this is for a proxy that is itself
/// in trouble.
const REPLY_DEADLINE: Duration = Duration::from_secs(30);

/// A duplex stream of bytes.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// An accepted dial.
pub(crate) struct Dialed {
    /// The bytes of the node's SSH server.
    pub(crate) stream: Box<dyn ByteStream>,
    /// What carries them.
    pub(crate) carrier: Carrier,
}

/// The connection under a stream.
#[derive(Debug)]
pub(crate) enum Carrier {
    /// QUIC.
    Quic(quic::Connection),
    /// TLS on TCP, which ends with its stream.
    Tls,
}

impl Carrier {
    /// Tells the proxy that this is over, without waiting for an answer.
    pub(crate) async fn close(&self) {
        if let Self::Quic(connection) = self {
            connection.close().await;
        }
    }
}

/// Dials a node.
pub(crate) async fn open(user: &LoggedIn, to: &Destination) -> Result<Dialed> {
    let request = frame(to)?;
    let mut dialed = connect(user).await?;
    let asked = timeout(REPLY_DEADLINE, ask(&mut dialed.stream, &request)).await;
    match asked.unwrap_or_else(|_| Err(silent())) {
        Ok(()) => Ok(dialed),
        Err(error) => {
            let error = dialed.explained(error, user);
            dialed.carrier.close().await;
            Err(error)
        }
    }
}

async fn connect(user: &LoggedIn) -> Result<Dialed> {
    let proxy = &user.profile.proxy;
    let addresses = tcp::resolve(proxy).await?;
    let tls = tls::config(user)?;
    match quic::connect(proxy, &addresses, &tls).await? {
        quic::Outcome::Connected(connection) => Ok(Dialed {
            stream: Box::new(connection.open(proxy).await?),
            carrier: Carrier::Quic(connection),
        }),
        quic::Outcome::Blocked(why) => {
            output::debug(|| format!("QUIC does not get through ({why}); using TCP"));
            Ok(Dialed {
                stream: Box::new(tls::connect(proxy, tls).await?),
                carrier: Carrier::Tls,
            })
        }
    }
}

impl Dialed {
    /// A broken stream may only be the sign of a connection that the proxy closed with a reason.
    fn explained(&self, error: anyhow::Error, user: &LoggedIn) -> anyhow::Error {
        let proxy = &user.profile.proxy;
        match (&self.carrier, error.downcast_ref::<std::io::Error>()) {
            (_, None) => error,
            (Carrier::Quic(connection), Some(broken)) => connection.close_reason().map_or_else(
                || refusal::broken(broken, proxy),
                |why| refusal::of_quic(&why, proxy),
            ),
            (Carrier::Tls, Some(broken)) => refusal::broken(broken, proxy),
        }
    }
}

fn silent() -> anyhow::Error {
    fail(
        Exit::ConnectionLost,
        "The proxy does not answer. Try again.",
    )
}

fn frame(to: &Destination) -> Result<Vec<u8>> {
    let too_long = |what| fail(Exit::Usage, format!("That {what} is too long."));
    let login = to
        .login
        .as_deref()
        .map(|login| Text::new(login).ok_or_else(|| too_long("login")));
    let request = ClientRequest::Ssh {
        target: Text::new(&to.node).ok_or_else(|| too_long("name of a node"))?,
        login: login.transpose()?,
    };
    let mut buffer = [0; HEADER + MAX_FRAME];
    Ok(encode(&request, &mut buffer)?.to_vec())
}

async fn ask(stream: &mut dyn ByteStream, request: &[u8]) -> Result<()> {
    stream.write_all(request).await?;
    stream.flush().await?;
    loop {
        let mut header = [0; HEADER];
        stream.read_exact(&mut header).await?;
        let mut body = vec![0; body_length(header).map_err(garbled)?];
        stream.read_exact(&mut body).await?;
        match decode::<DialReply<'_>>(&body) {
            Ok(DialReply::Accepted) => return Ok(()),
            Ok(DialReply::Refused { reason, text }) => {
                return Err(fail(reason.into(), text.as_str()));
            }
            Err(DecodeError::UnknownVariant) => {}
            Err(error) => return Err(garbled(error)),
        }
    }
}

fn garbled(error: DecodeError) -> anyhow::Error {
    fail(
        Exit::ConnectionLost,
        format!("The proxy sends what tsh does not understand: {error}."),
    )
}

#[cfg(test)]
mod tests;
