//! A stream that outlives what carries it: when its connection breaks, or the node's link does, the
//! node is dialled again, and both ends go on where they were.

use std::sync::Arc;
use std::time::Duration;

use protocol::resume::{Client, End, Reason};
use resumable::client::{Opened, Opening};
use resumable::status::Broken;
use resumable::{Handle, Resumable, Status};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::again::{Again, Redial};
use super::{ByteStream, Carrier, lookout};
use crate::cli::ssh::Destination;
use crate::error::{Exit, fail};
use crate::login::LoggedIn;
use crate::output;

/// How long the node may take to learn that the session is over...
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);
/// ...and while it cannot be reached: whoever wants to leave has waited enough.
const LOST_GOODBYE_LIMIT: Duration = Duration::from_millis(100);

/// What keeps a stream going.
pub(crate) struct Kept {
    handle: Handle<Client>,
    driver: JoinHandle<()>,
    tasks: [JoinHandle<()>; 2],
    again: Arc<Again>,
}

impl Kept {
    /// A stream over its first connection.
    pub(super) fn start(
        opening: Opening,
        stream: Box<dyn ByteStream>,
        carrier: Carrier,
        user: &Arc<LoggedIn>,
        to: Destination,
    ) -> (Resumable<Client>, Self) {
        let again = Arc::new(Again::new(Arc::clone(user), to, carrier));
        let Opened {
            stream,
            handle,
            driver,
            redial,
        } = opening.over(resumable::Carrier::of(stream));
        let lookout = lookout::run(Arc::clone(&again), handle.clone());
        let kept = Self {
            handle,
            driver: tokio::spawn(driver),
            tasks: [
                tokio::spawn(redial.run(Redial(Arc::clone(&again)))),
                tokio::spawn(lookout),
            ],
            again,
        };
        (stream, kept)
    }

    /// How the stream is, now and whenever that changes.
    pub(super) fn status(&self) -> watch::Receiver<Status> {
        self.handle.status()
    }

    /// Why the stream is over, in a sentence, if that is why `error` came.
    pub(super) fn explained(&self, error: anyhow::Error, node: &str) -> anyhow::Error {
        match *self.status().borrow() {
            Status::Ended(end) => {
                let refused = self.again.refusal().map(|refused| named(refused, node));
                refused.or_else(|| over(end, node)).unwrap_or(error)
            }
            Status::Attached | Status::Lost { .. } => error,
        }
    }

    /// Tells the node that the session is over, so that it does not wait for us.
    pub(super) async fn close(self) {
        let limit = match *self.status().borrow() {
            Status::Lost { .. } => LOST_GOODBYE_LIMIT,
            Status::Attached | Status::Ended(_) => GOODBYE_LIMIT,
        };
        self.handle.reset(Reason::Finished);
        if timeout(limit, self.driver).await.is_err() {
            output::debug(|| "the node could not be told that the session is over".to_owned());
        }
        self.tasks.iter().for_each(JoinHandle::abort);
        if let Some(carrier) = self.again.carrier() {
            carrier.close().await;
        }
    }
}

/// A refusal for the eyes of who knows the node by its name: it was dialled by its id.
fn named(refused: anyhow::Error, node: &str) -> anyhow::Error {
    match Exit::of(&refused) {
        exit @ Exit::UnknownNode => {
            let sentence = format!("There is no node {node} any more, and its session is over.");
            fail(exit, sentence)
        }
        _ => refused,
    }
}

fn over(end: End, node: &str) -> Option<anyhow::Error> {
    let exit = match end.reason() {
        Reason::Finished => return None,
        Reason::Locked => Exit::Locked,
        Reason::Denied => Exit::Denied,
        _ => Exit::SessionOver,
    };
    let what = match end.reason() {
        Reason::Gone => Some("was restarted"),
        Reason::Stopping => Some("was stopped"),
        _ => None,
    };
    if let Some(what) = what {
        let sentence = format!("The agent of {node} {what}, and the session has ended with it.");
        return Some(fail(exit, sentence + " Connect again."));
    }
    let why = Broken(end);
    Some(fail(exit, format!("The session on {node} is over: {why}.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_kept_session_is_told_in_a_sentence() {
        for (end, exit, sentence) in [
            (
                End::GivenUp(Reason::GraceOver),
                Exit::SessionOver,
                "The session on n is over: the link was lost for too long.",
            ),
            (
                End::Reset(Reason::Denied),
                Exit::Denied,
                "The session on n is over: your roles no longer allow this session.",
            ),
            (
                End::Reset(Reason::Locked),
                Exit::Locked,
                "The session on n is over: locked.",
            ),
            (
                End::Reset(Reason::Gone),
                Exit::SessionOver,
                "The agent of n was restarted, and the session has ended with it. Connect again.",
            ),
            (
                End::Reset(Reason::Stopping),
                Exit::SessionOver,
                "The agent of n was stopped, and the session has ended with it. Connect again.",
            ),
        ] {
            let error = over(end, "n").unwrap();
            assert_eq!((Exit::of(&error), &*error.to_string()), (exit, sentence));
        }
        let gone = named(fail(Exit::UnknownNode, "there is no node \"0707\""), "n");
        let sentence = "There is no node n any more, and its session is over.";
        assert_eq!(gone.to_string(), sentence);
        assert!(over(End::Clean, "n").is_none());
        assert!(over(End::Reset(Reason::Finished), "n").is_none());
    }
}
