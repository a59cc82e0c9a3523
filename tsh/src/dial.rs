//! A stream to a node, through the proxy.
//!
//! QUIC comes first: one handshake, nothing blocks behind a lost packet, and the connection
//! survives a change of address. Where UDP does not pass, the same request goes over TLS on TCP.
//! Both ends show certificates; the server's must be of the host CA known from the login. A server
//! that is reached but not trusted, or that does not trust us, ends the attempt at once: TCP would
//! only lead to the same server.
//!
//! The proxy answers the request with yes or a sentence. After a yes the stream is that of the
//! node's SSH server. It outlives what carries it ([`kept`]), unless the node or a role does not
//! want that.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use protocol::error::DecodeError;
use protocol::identity::NodeId;
use protocol::message::dial::{ClientRequest, DialRefusal, DialReply};
use protocol::message::frame::{HEADER, MAX_FRAME, body_length};
use protocol::message::{Blob, Text, decode, encode};
use protocol::resume::Sizes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cli::ssh::Destination;
use crate::error::{Exit, fail};
use crate::login::LoggedIn;
use crate::output;
use kept::Kept;
use resumable::Status;
use resumable::client::Opening;

mod again;
pub(crate) mod kept;
mod lookout;
mod network;
mod pulse;
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
    pub(crate) line: Line,
}

/// What carries a stream.
pub(crate) enum Line {
    /// One connection; the stream ends with it.
    Plain(Carrier),
    /// One connection after the other.
    Kept(Kept),
}

impl Line {
    /// How the stream is that outlives its links, now and whenever that changes.
    pub(crate) fn status(&self) -> Option<watch::Receiver<Status>> {
        match self {
            Self::Plain(_) => None,
            Self::Kept(kept) => Some(kept.status()),
        }
    }

    /// The reason why the stream is over, if that is why there was an error.
    pub(crate) fn explained(&self, error: anyhow::Error, node: &str) -> anyhow::Error {
        match self {
            Self::Plain(_) => error,
            Self::Kept(kept) => kept.explained(error, node),
        }
    }

    /// Tells the other side that this is over, without waiting for long.
    pub(crate) async fn close(self) {
        match self {
            Self::Plain(carrier) => carrier.close().await,
            Self::Kept(kept) => kept.close().await,
        }
    }
}

/// A connection, and a stream on it.
struct Connected {
    stream: Box<dyn ByteStream>,
    carrier: Carrier,
}

/// The connection under a stream. Clones are of the same connection.
#[derive(Debug, Clone)]
pub(crate) enum Carrier {
    /// QUIC.
    Quic(quic::Connection),
    /// TLS on TCP, which ends with its stream, to this address.
    Tls(SocketAddr),
}

impl Carrier {
    /// Tells the proxy that this is over, without waiting for an answer.
    pub(crate) async fn close(&self) {
        if let Self::Quic(connection) = self {
            connection.close().await;
        }
    }

    /// Whether the proxy has closed it, or it is dead.
    fn is_closed(&self) -> bool {
        match self {
            Self::Quic(connection) => connection.close_reason().is_some(),
            // Its stream knows.
            Self::Tls(_) => false,
        }
    }

    /// The proxy's address.
    fn remote(&self) -> SocketAddr {
        match self {
            Self::Quic(connection) => connection.remote(),
            Self::Tls(address) => *address,
        }
    }
}

/// Dials a node.
pub(crate) async fn open(user: &Arc<LoggedIn>, to: &Destination) -> Result<Dialed> {
    let opening = Opening::new(Sizes::CLIENT)?;
    let mut connected = connect(user).await?;
    let asked = request(to, Some(opening.bytes()))?;
    match connected.ask(&asked, user).await? {
        Answer::Accepted(node) => {
            let Connected { stream, carrier } = connected;
            let node = node.map_or_else(|| to.node.clone(), |node| node.to_string());
            let login = to.login.clone();
            let to = Destination { login, node };
            let (stream, kept) = Kept::start(opening, stream, carrier, user, to);
            Ok(Dialed {
                stream: Box::new(stream),
                line: Line::Kept(kept),
            })
        }
        Answer::NotResumable(why) => {
            output::debug(|| format!("the session will not outlive its link: {why}"));
            plainly(connected, user, to).await
        }
    }
}

/// Dials a stream that ends with what carries it.
async fn plainly(before: Connected, user: &LoggedIn, to: &Destination) -> Result<Dialed> {
    let mut connected = match before.carrier {
        Carrier::Quic(connection) => Connected {
            stream: Box::new(connection.open(&user.profile.proxy).await?),
            carrier: Carrier::Quic(connection),
        },
        Carrier::Tls(_) => connect(user).await?,
    };
    match connected.ask(&request(to, None)?, user).await? {
        Answer::Accepted(_) => Ok(Dialed {
            stream: connected.stream,
            line: Line::Plain(connected.carrier),
        }),
        Answer::NotResumable(_) => Err(garbled(DecodeError::Malformed)),
    }
}

async fn connect(user: &LoggedIn) -> Result<Connected> {
    let proxy = &user.profile.proxy;
    let addresses = tcp::resolve(proxy).await?;
    let tls = tls::config(user)?;
    match quic::connect(proxy, &addresses, &tls).await? {
        quic::Outcome::Connected(connection) => Ok(Connected {
            stream: Box::new(connection.open(proxy).await?),
            carrier: Carrier::Quic(connection),
        }),
        quic::Outcome::Blocked(why) => {
            output::debug(|| format!("QUIC does not get through ({why}); using TCP"));
            let (stream, address) = tls::connect(proxy, &addresses, tls).await?;
            Ok(Connected {
                stream: Box::new(stream),
                carrier: Carrier::Tls(address),
            })
        }
    }
}

impl Connected {
    /// Asks for a node; an error closes the connection.
    async fn ask(&mut self, request: &[u8], user: &LoggedIn) -> Result<Answer> {
        let asked = timeout(REPLY_DEADLINE, ask(&mut self.stream, request)).await;
        match asked.unwrap_or_else(|_| Err(silent())) {
            Ok(answer) => Ok(answer),
            Err(error) => {
                let error = self.explained(error, user);
                self.carrier.close().await;
                Err(error)
            }
        }
    }

    /// A broken stream may only be the sign of a connection that the proxy closed with a reason.
    fn explained(&self, error: anyhow::Error, user: &LoggedIn) -> anyhow::Error {
        let proxy = &user.profile.proxy;
        match (&self.carrier, error.downcast_ref::<std::io::Error>()) {
            (_, None) => error,
            (Carrier::Quic(connection), Some(broken)) => connection.close_reason().map_or_else(
                || refusal::broken(broken, proxy),
                |why| refusal::of_quic(&why, proxy),
            ),
            (Carrier::Tls(_), Some(broken)) => refusal::broken(broken, proxy),
        }
    }
}

fn silent() -> anyhow::Error {
    fail(
        Exit::ConnectionLost,
        "The proxy does not answer. Try again.",
    )
}

fn request(to: &Destination, opening: Option<&[u8]>) -> Result<Vec<u8>> {
    let too_long = |what| fail(Exit::Usage, format!("That {what} is too long."));
    let target = Text::new(&to.node).ok_or_else(|| too_long("name of a node"))?;
    let login = to
        .login
        .as_deref()
        .map(|login| Text::new(login).ok_or_else(|| too_long("login")))
        .transpose()?;
    let request = match opening {
        None => ClientRequest::Ssh { target, login },
        Some(opening) => ClientRequest::Resumable {
            target,
            login,
            opening: Blob::new(opening).ok_or_else(|| garbled(DecodeError::Length))?,
        },
    };
    let mut buffer = [0; HEADER + MAX_FRAME];
    Ok(encode(&request, &mut buffer)?.to_vec())
}

/// The proxy's yes, or the one no that leads to another question.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Names may change; the proxy says which node it is.
    Accepted(Option<NodeId>),
    /// The stream would have to end with its link, for this reason.
    NotResumable(String),
}

async fn ask(stream: &mut dyn ByteStream, request: &[u8]) -> Result<Answer> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut named = None;
    loop {
        let mut header = [0; HEADER];
        match stream.read_exact(&mut header).await {
            // It does not say a word to a request that it does not know.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof && is_new(request) => {
                let why = "the proxy does not know how".to_owned();
                return Ok(Answer::NotResumable(why));
            }
            read => read?,
        };
        let mut body = vec![0; body_length(header).map_err(garbled)?];
        stream.read_exact(&mut body).await?;
        match decode::<DialReply<'_>>(&body) {
            Ok(DialReply::Accepted) => return Ok(Answer::Accepted(named)),
            Ok(DialReply::Named { node }) => named = Some(NodeId(node)),
            Ok(DialReply::Refused {
                reason: DialRefusal::NotResumable,
                text,
            }) => return Ok(Answer::NotResumable(text.as_str().to_owned())),
            Ok(DialReply::Refused { reason, text }) => {
                return Err(fail(reason.into(), text.as_str()));
            }
            Err(DecodeError::UnknownVariant) => {}
            Err(error) => return Err(garbled(error)),
        }
    }
}

/// Whether proxies of the first version do not know a request.
fn is_new(request: &[u8]) -> bool {
    let request = request.get(HEADER..).unwrap_or_default();
    matches!(
        decode::<ClientRequest<'_>>(request),
        Ok(ClientRequest::Resumable { .. })
    )
}

fn garbled(error: DecodeError) -> anyhow::Error {
    fail(
        Exit::ConnectionLost,
        format!("The proxy sends what tsh does not understand: {error}."),
    )
}

#[cfg(test)]
mod tests;
