//! Dials: streams that the cluster opens to reach this node.
//!
//! The first frame says who wants what, and has ten seconds to arrive. The loop decides
//! ([`admit`]); an accepted stream goes to the SSH server, which decides again for itself.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use protocol::identity::Fingerprint;
use protocol::message::dial::{DialHeader, DialRefusal, DialReply, LinkRequest, ResumableDial};
use protocol::message::{Text, decode};
use protocol::resume::Reason;
use protocol::resume::frame::Opening;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::timeout;

use super::control::Outlet;
use super::frame;
use super::input::News;
use super::transport::{Duplex, Fault, FaultKind, Stream, Transport};
use crate::ssh;

/// A header follows the stream's opening at once; a slow link may take a few round trips.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last bytes of a session may take to arrive before the stream is forgotten.
pub(super) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// Sessions served at once: at about 200 KiB each, what a device with 32 MB of RAM can spare. Who
/// lets more of them outlive their links has more.
const SESSIONS: usize = 32;

/// A dial that waits for its answer.
pub(crate) struct Request {
    pub(super) dial: ssh::Dial,
    /// The cluster's time when it dialled.
    pub(super) time_s: u64,
    /// If the stream is to outlive the link.
    pub(super) resumable: Option<Resumable>,
    pub(super) stream: Stream,
}

/// How a stream that outlives its links starts, or goes on.
pub(super) struct Resumable {
    pub(super) opening: Opening,
    /// How long it is kept without its client.
    pub(super) grace: Duration,
    /// The request as it came, for another process.
    pub(super) request: Vec<u8>,
}

/// What a dial's first frame says.
struct Understood {
    dial: ssh::Dial,
    time_s: u64,
    resumable: Option<Resumable>,
}

/// Why a dial is turned down.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: DialRefusal,
    pub(super) text: String,
}

/// Takes in what the cluster opens, until the connection ends.
pub(super) async fn accept(transport: Arc<dyn Transport>, news: Outlet) {
    loop {
        match transport.accept().await {
            Ok(stream) => drop(crate::spawn(receive(stream, news.clone()))),
            Err(fault) => return news.send(News::Ended(fault)).await,
        }
    }
}

async fn receive(mut stream: Stream, news: Outlet) {
    let Ok(read) = timeout(HEADER_TIMEOUT, frame::read(&mut stream.reader)).await else {
        log::debug!("a dial without a header was dropped");
        return;
    };
    match read.and_then(|body| understand(&body)) {
        Ok(Ok(Understood {
            dial,
            time_s,
            resumable,
        })) => {
            let request = Request {
                dial,
                time_s,
                resumable,
                stream,
            };
            news.send(News::Dialled(Box::new(request))).await;
        }
        Ok(Err(refused)) => refuse(stream, &refused).await,
        Err(fault) if fault.kind == FaultKind::Misbehaved => news.send(News::Ended(fault)).await,
        Err(fault) => log::debug!("a dial was given up: {fault}"),
    }
}

/// A dial that another process has taken in.
pub(super) fn handed_over(body: &[u8], stream: Stream) -> anyhow::Result<Request> {
    let Understood {
        dial,
        time_s,
        resumable,
    } = understand(body)?.map_err(|refused| anyhow::Error::msg(refused.text))?;
    Ok(Request {
        dial,
        time_s,
        resumable,
        stream,
    })
}

/// A request that is of a newer version, or that its user got wrong, is refused; one that the
/// cluster got wrong ends the link.
fn understand(body: &[u8]) -> Result<Result<Understood, Refused>, Fault> {
    match decode::<LinkRequest<'_>>(body) {
        Ok(LinkRequest::Ssh(header)) => Ok(Ok(Understood {
            dial: dial(&header),
            time_s: header.time_s,
            resumable: None,
        })),
        Ok(LinkRequest::Resumable(asked)) => Ok(resumable(&asked, body)),
        Err(protocol::error::DecodeError::UnknownVariant) => Ok(Err(Refused {
            reason: DialRefusal::Internal,
            text: "This node's agent is too old for that; update it.".to_owned(),
        })),
        Err(error) => Err(Fault::new(
            FaultKind::Misbehaved,
            format!("the cluster's dial: {error}"),
        )),
    }
}

fn resumable(asked: &ResumableDial<'_>, request: &[u8]) -> Result<Understood, Refused> {
    let opening = Opening::decode(&asked.opening).map_err(|error| Refused {
        reason: DialRefusal::Internal,
        text: format!("The client's request cannot be read: {error}."),
    })?;
    Ok(Understood {
        dial: dial(&asked.header),
        time_s: asked.header.time_s,
        resumable: Some(Resumable {
            opening,
            grace: Duration::from_secs(asked.grace_s.into()),
            request: request.to_vec(),
        }),
    })
}

fn dial(header: &DialHeader<'_>) -> ssh::Dial {
    let seconds = |s: u32| (s > 0).then(|| Duration::from_secs(s.into()));
    ssh::Dial {
        session_id: header.session_id,
        user: header.user.as_str().to_owned(),
        fingerprint: Fingerprint(header.fingerprint),
        logins: header
            .logins
            .iter()
            .map(|login| login.as_str().to_owned())
            .collect(),
        permits: header.permits,
        client_addr: header.client_addr.as_str().to_owned(),
        idle_timeout: seconds(header.idle_timeout_s),
        max_session: seconds(header.max_session_s),
        logged_in: Arc::new(OnceLock::new()),
    }
}

/// How many sessions are served at once, if so many of them may outlive their links.
pub(super) fn places(outliving: usize) -> usize {
    SESSIONS.max(outliving)
}

/// Decides on a dial, where so many of all places are taken.
pub(super) fn admit(
    (taken, places): (usize, usize),
    only_login: Option<&str>,
    logins: &[String],
) -> Result<(), Refused> {
    if taken >= places {
        let text = format!("This node serves {places} sessions already; try again later.");
        return Err(Refused {
            reason: DialRefusal::Busy,
            text,
        });
    }
    match only_login {
        Some(only) if !logins.iter().any(|login| login == only) => {
            let text = format!(
                "The agent on this node does not run as root: the only login it offers is {only}."
            );
            Err(Refused {
                reason: DialRefusal::LoginUnavailable,
                text,
            })
        }
        _ => Ok(()),
    }
}

/// Turns a dial down.
pub(super) async fn refuse(mut stream: Stream, refused: &Refused) {
    let reply = DialReply::Refused {
        reason: refused.reason,
        text: Text::cut(&refused.text),
    };
    let sent = async {
        if let Ok(frame) = frame::encode(&reply)
            && stream.writer.write_all(&frame).await.is_ok()
        {
            let _ = stream.writer.shutdown().await;
            stream.delivered.await;
        }
    };
    let _ = timeout(DELIVERY_TIMEOUT, sent).await;
}

/// Says that the stream cannot outlive the link: the client may dial plainly.
pub(super) async fn not_resumable(mut writer: resumable::Writer, reason: Reason) {
    let text = match reason {
        Reason::Memory => {
            "This node has no memory left to keep another session over a loss of its link."
        }
        _ => "This node keeps as many sessions as it may over a loss of its link.",
    };
    let reply = DialReply::Refused {
        reason: DialRefusal::NotResumable,
        text: Text::cut(text),
    };
    let sent = async {
        if let Ok(frame) = frame::encode(&reply)
            && writer.write_all(&frame).await.is_ok()
        {
            let _ = writer.shutdown().await;
        }
    };
    let _ = timeout(DELIVERY_TIMEOUT, sent).await;
}

/// Serves an accepted dial until its session is over and the last bytes have arrived.
pub(super) async fn serve(
    host: Arc<ssh::Host>,
    (dial, stream): (ssh::Dial, Stream),
    now: Duration,
    shutdown: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let Stream {
        reader,
        mut writer,
        delivered,
    } = stream;
    writer
        .write_all(&frame::encode(&DialReply::Accepted)?)
        .await?;
    writer.flush().await?;
    // The SSH server drops the stream when it is done, and dropping ends it.
    let stream: Box<dyn Duplex> = Box::new(tokio::io::join(reader, writer));
    let served = ssh::serve(host, stream, dial, now, shutdown).await;
    let _ = timeout(DELIVERY_TIMEOUT, delivered).await;
    served.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::message::dial::Permits;

    fn header() -> DialHeader<'static> {
        DialHeader {
            session_id: [6; 16],
            time_s: 1_700_000_000,
            user: Text::cut("operator"),
            fingerprint: [7; 32],
            logins: [Text::cut("root"), Text::cut("ann")].into_iter().collect(),
            permits: Permits::ALL,
            client_addr: Text::cut("192.0.2.7 50000"),
            idle_timeout_s: 0,
            max_session_s: 60,
        }
    }

    #[test]
    fn a_header_becomes_a_dial() {
        let frame = frame::encode(&LinkRequest::Ssh(header())).unwrap();
        let understood = understand(&frame[2..]).unwrap().ok().unwrap();
        let dial = understood.dial;
        assert_eq!(understood.time_s, 1_700_000_000);
        assert!(understood.resumable.is_none());
        assert_eq!(dial.logins, ["root", "ann"]);
        assert_eq!(dial.idle_timeout, None);
        assert_eq!(dial.max_session, Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_newer_request_is_no_misbehaviour_but_garbage_is() {
        let newer = understand(&[99, 1, 2]).unwrap().err().unwrap();
        assert!(newer.text.contains("too old"));
        assert_eq!(
            understand(&[0, 1]).err().unwrap().kind,
            FaultKind::Misbehaved
        );
    }

    #[test]
    fn an_opening_comes_from_the_user_so_a_bad_one_does_not_end_the_link() {
        let asked = |opening: &[u8]| {
            let asked = ResumableDial {
                header: header(),
                grace_s: 600,
                opening: protocol::message::Blob::new(opening).unwrap(),
            };
            let frame = frame::encode(&LinkRequest::Resumable(asked)).unwrap();
            understand(&frame[2..]).unwrap()
        };
        assert!(
            asked(b"garbage")
                .err()
                .unwrap()
                .text
                .contains("cannot be read")
        );
        let attach = protocol::resume::frame::Attach {
            id: protocol::resume::StreamId([1; 16]),
            generation: 1,
            nonce: [2; 16],
        };
        let bytes = protocol::resume::frame::Frame::Attach(attach).encode();
        let resumable = asked(&bytes).ok().unwrap().resumable.unwrap();
        assert_eq!(resumable.grace, Duration::from_secs(600));
        assert_eq!(resumable.opening, Opening::Attach(attach));
    }

    #[test]
    fn dials_are_admitted_by_number_and_login() {
        let logins = ["root".to_owned(), "ann".to_owned()];
        let few = places(4);
        assert_eq!(admit((0, few), None, &logins), Ok(()));
        assert_eq!(admit((31, few), Some("ann"), &logins), Ok(()));
        assert_eq!(
            admit((32, few), None, &logins).unwrap_err().reason,
            DialRefusal::Busy
        );
        assert_eq!(admit((99, places(100)), None, &logins), Ok(()));
        assert!(admit((100, places(100)), None, &logins).is_err());
        let refused = admit((0, few), Some("bob"), &logins).unwrap_err();
        assert_eq!(refused.reason, DialRefusal::LoginUnavailable);
        assert!(refused.text.contains("bob"));
    }
}
