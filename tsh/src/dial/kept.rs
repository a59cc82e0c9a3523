//! A stream that outlives what carries it: when its connection breaks, or the node's link does, the
//! node is dialled again, and both ends go on where they were.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use protocol::error::DecodeError;
use protocol::resume::{Client, Reason};
use resumable::client::{Dial, Dialling, Failure, Opened, Opening};
use resumable::{Handle, Resumable, Status};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{Answer, ByteStream, Carrier, Connected, ask, connect, request};
use crate::cli::ssh::Destination;
use crate::error::Exit;
use crate::login::LoggedIn;
use crate::output;

/// The proxy says within 5 s that a node's link is dead. If it does not say anything, the
/// connection to it is.
const ANSWER_LIMIT: Duration = Duration::from_secs(6);
/// How often the clocks are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// What they are ahead by after a sleep; less is a busy machine.
const SLEPT: Duration = Duration::from_secs(3);
/// How long the node may take to learn that the session is over.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// What keeps a stream going.
pub(crate) struct Kept {
    handle: Handle<Client>,
    driver: JoinHandle<()>,
    redial: JoinHandle<()>,
    sleep: JoinHandle<()>,
    again: Arc<Again>,
}

/// What is needed to dial again.
struct Again {
    user: Arc<LoggedIn>,
    to: Destination,
    /// The connection of the moment.
    carrier: Mutex<Option<Carrier>>,
    /// Why the proxy did not let the stream go on.
    refusal: Mutex<Option<anyhow::Error>>,
}

impl Kept {
    /// A stream over its first connection.
    pub(super) fn start(
        opening: Opening,
        stream: Box<dyn ByteStream>,
        carrier: Carrier,
        user: &Arc<LoggedIn>,
        to: &Destination,
    ) -> (Resumable<Client>, Self) {
        let again = Arc::new(Again {
            user: Arc::clone(user),
            to: to.clone(),
            carrier: Mutex::new(Some(carrier)),
            refusal: Mutex::new(None),
        });
        let Opened {
            stream,
            handle,
            driver,
            redial,
        } = opening.over(resumable::Carrier::of(stream));
        let kept = Self {
            sleep: tokio::spawn(notice_sleep(handle.clone())),
            handle,
            driver: tokio::spawn(driver),
            redial: tokio::spawn(redial.run(Redial(Arc::clone(&again)))),
            again,
        };
        (stream, kept)
    }

    /// Says it in one sentence if the node's agent has ended: the session then has no word of its
    /// own.
    pub(super) fn explained(&self, error: anyhow::Error, node: &str) -> anyhow::Error {
        let end = match *self.handle.status().borrow() {
            Status::Ended(end) => gone(end.reason(), node),
            _ => None,
        };
        let Some(failure) = end else { return error };
        output::debug(|| format!("{error:#}"));
        failure.into()
    }

    /// Tells the node that the session is over, so that it does not wait for us.
    pub(super) async fn close(self) -> Option<anyhow::Error> {
        self.sleep.abort();
        self.handle.reset(Reason::Finished);
        let said = timeout(GOODBYE_LIMIT, self.driver).await;
        if said.is_err() {
            output::debug(|| "the node could not be told that the session is over".to_owned());
        }
        self.redial.abort();
        if let Some(carrier) = self.again.carrier.lock().await.take() {
            carrier.close().await;
        }
        self.again.refusal.lock().await.take()
    }
}

/// Tells a stream when the machine has slept, or this process was stopped.
async fn notice_sleep(handle: Handle<Client>) {
    let mut before = (Instant::now(), SystemTime::now());
    loop {
        sleep(LOOK).await;
        let now = (Instant::now(), SystemTime::now());
        // One of them stands still while the machine sleeps.
        let steady = now.0.saturating_duration_since(before.0);
        let wall = now.1.duration_since(before.1).unwrap_or_default();
        if steady.max(wall) > LOOK + SLEPT {
            handle.network_changed();
        }
        before = now;
    }
}

struct Redial(Arc<Again>);

impl Dial for Redial {
    fn dial<'a>(&'a self, opening: &'a [u8]) -> Dialling<'a> {
        Box::pin(async {
            match self.0.dial(opening).await {
                Ok(stream) => Ok(resumable::Carrier::of(stream)),
                Err(error) => {
                    output::debug(|| format!("cannot go on yet: {error:#}"));
                    let failure = failure(&error);
                    if failure != Failure::Passing {
                        *self.0.refusal.lock().await = Some(error);
                    }
                    Err(failure)
                }
            }
        })
    }
}

impl Again {
    async fn dial(&self, opening: &[u8]) -> Result<Box<dyn ByteStream>> {
        let request = request(&self.to, Some(opening))?;
        let mut place = self.carrier.lock().await;
        if let Some(Carrier::Quic(connection)) = &*place {
            let asked = timeout(ANSWER_LIMIT, self.over(connection, &request)).await;
            match asked {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) if is_answer(&error) && connection.close_reason().is_none() => {
                    return Err(error);
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
        // Dropped first: the proxy forgets it sooner.
        *place = None;
        let mut connected = connect(&self.user).await?;
        accepted(&connected.ask(&request, &self.user).await?)?;
        let Connected { stream, carrier } = connected;
        *place = Some(carrier);
        Ok(stream)
    }

    /// Over a connection that there is.
    async fn over(
        &self,
        connection: &super::quic::Connection,
        request: &[u8],
    ) -> Result<Box<dyn ByteStream>> {
        let mut stream = connection.open(&self.user.profile.proxy).await?;
        accepted(&ask(&mut stream, request).await?)?;
        Ok(Box::new(stream))
    }
}

fn accepted(answer: &Answer) -> Result<()> {
    match answer {
        Answer::Accepted => Ok(()),
        // Not an answer to who comes back.
        Answer::NotResumable(_) => Err(super::garbled(DecodeError::Malformed)),
    }
}

/// Whether the proxy has decided, and would decide the same over another connection.
fn is_answer(error: &anyhow::Error) -> bool {
    !matches!(
        Exit::of(error),
        Exit::ConnectionLost | Exit::Unreachable | Exit::Other
    )
}

/// The end of the node's agent, which is the session's.
fn gone(reason: Reason, node: &str) -> Option<crate::error::Failure> {
    let what = match reason {
        Reason::Gone => "was restarted",
        Reason::Stopping => "was stopped",
        _ => return None,
    };
    let sentence =
        format!("The agent of {node} {what}, and the session has ended with it. Connect again.");
    Some(crate::error::Failure::new(Exit::SessionGone, sentence))
}

/// What an error means for the stream.
fn failure(error: &anyhow::Error) -> Failure {
    match Exit::of(error) {
        Exit::Denied => Failure::Refused(Reason::Denied),
        Exit::Locked => Failure::Refused(Reason::Locked),
        Exit::LoggedOut => Failure::Refused(Reason::Expired),
        Exit::UnknownNode => Failure::Refused(Reason::Gone),
        _ => Failure::Passing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::fail;

    #[test]
    fn the_end_of_the_agent_is_named() {
        let sentence = gone(Reason::Gone, "n").unwrap().to_string();
        assert!(sentence.starts_with("The agent of n was restarted"), "{sentence}");
        assert!(gone(Reason::Stopping, "n").is_some());
        assert!(gone(Reason::Finished, "n").is_none());
    }

    #[test]
    fn only_a_decision_ends_a_session() {
        for (exit, expected) in [
            (Exit::Offline, Failure::Passing),
            (Exit::Unreachable, Failure::Passing),
            (Exit::Busy, Failure::Passing),
            (Exit::Denied, Failure::Refused(Reason::Denied)),
            (Exit::Locked, Failure::Refused(Reason::Locked)),
        ] {
            assert_eq!(failure(&fail(exit, "x")), expected);
        }
        assert!(is_answer(&fail(Exit::Offline, "x")));
        assert!(!is_answer(&fail(Exit::ConnectionLost, "x")));
        assert!(!is_answer(
            &std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()
        ));
    }
}
