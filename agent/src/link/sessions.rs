//! The sessions that are served: how many there are, what they show to clients, and their end.

use std::sync::Arc;
use std::time::Duration;

use protocol::message::dial::{DialRefusal, DialReply};
use protocol::resume::frame::{Attach, Open, Opening};
use protocol::resume::{Limits, Reason, StreamId};
use resumable::Carrier;
use resumable::agent::Accepted;
use tokio::sync::{mpsc, watch};

use super::dial::{self, Refused, Request, Resumable};
use super::frame;
use super::input::Input;
use super::keepers::Keepers;
use super::kept::{self, KeptStreams, Visitor};
use super::transport::{Duplex, Stream};
use crate::ssh;

/// The time of a dial.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// By the cluster, for certificates. It may go back.
    pub(super) wall: Duration,
    /// Since the agent's start, for what is counted.
    pub(super) monotonic: Duration,
}

/// See the [module](self).
pub(super) struct Sessions {
    /// How many each connection carries, by its number; there are few connections. Those that
    /// outlive connections are bound to none.
    counts: Vec<(Option<u32>, usize)>,
    /// Streams that outlive connections.
    pub(super) kept: KeptStreams,
    /// Those of before a restart, in processes of their own.
    pub(super) keepers: Keepers,
    /// How many may be served at once.
    places: usize,
    only_login: Option<String>,
    /// Missing only if what the cluster gave cannot be used for SSH.
    host: Option<Arc<ssh::Host>>,
    /// Ends those that are bound to a connection.
    end_bound: watch::Sender<bool>,
    /// Ends the others.
    end_kept: watch::Sender<bool>,
    inputs: mpsc::Sender<Input>,
}

impl Sessions {
    pub(super) fn new(
        inputs: mpsc::Sender<Input>,
        only_login: Option<String>,
        limits: Limits,
        mut keepers: Keepers,
    ) -> Self {
        keepers.listen(&inputs);
        let mut kept = KeptStreams::new(limits);
        for id in keepers.over_before() {
            kept.is_over(id);
        }
        Self {
            counts: Vec::new(),
            kept,
            keepers,
            places: dial::places(limits.streams),
            only_login,
            host: None,
            end_bound: watch::Sender::new(false),
            end_kept: watch::Sender::new(false),
            inputs,
        }
    }

    /// All of them.
    pub(super) fn count(&self) -> usize {
        self.here() + self.keepers.count()
    }

    /// How many this process serves.
    pub(super) fn here(&self) -> usize {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// Bytes of memory that those served here may take to outlive their links.
    pub(super) fn memory(&self) -> u32 {
        self.kept.memory()
    }

    /// How many end with a connection.
    pub(super) fn bound(&self) -> usize {
        let bound = self.counts.iter().filter(|(number, _)| number.is_some());
        bound.map(|(_, count)| count).sum()
    }

    /// How many go on without one.
    pub(super) fn outliving(&self) -> usize {
        self.count() - self.bound()
    }

    /// How many a connection carries.
    pub(super) fn on(&self, connection: u32) -> usize {
        let mut counts = self.counts.iter();
        counts
            .find(|(number, _)| *number == Some(connection))
            .map_or(0, |(_, count)| *count)
    }

    /// Sessions from now on show this host.
    pub(super) fn show(&mut self, host: ssh::Host) {
        self.host = Some(Arc::new(host));
    }

    /// Serves a dial that came over a connection, or turns it down.
    pub(super) fn dialled(&mut self, request: Request, connection: u32, now: Now) {
        let Request {
            dial,
            stream,
            resumable,
            ..
        } = request;
        match resumable {
            None => match self.decide(&dial) {
                Ok(host) => self.serve(host, dial, stream, connection, now.wall),
                Err(refused) => turn_down(stream, refused),
            },
            Some(Resumable {
                opening: Opening::Open(open),
                grace,
                ..
            }) => match self.decide(&dial) {
                Ok(host) => self.keep(host, dial, stream, (&open, grace), now),
                Err(refused) => turn_down(stream, refused),
            },
            Some(Resumable {
                opening: Opening::Attach(attach),
                request,
                ..
            }) if self.keepers.know(attach.id) => {
                self.keepers.attach(attach.id, &request, stream);
            }
            Some(Resumable {
                opening: Opening::Attach(attach),
                ..
            }) => self.attach(&attach, &dial, stream, now.monotonic),
        }
    }

    fn decide(&self, dial: &ssh::Dial) -> Result<Arc<ssh::Host>, Refused> {
        let room = (self.count(), self.places);
        dial::admit(room, self.only_login.as_deref(), &dial.logins)?;
        self.host.clone().ok_or_else(|| Refused {
            reason: DialRefusal::Internal,
            text: "This node has no usable SSH certificate.".to_owned(),
        })
    }

    fn serve(
        &mut self,
        host: Arc<ssh::Host>,
        dial: ssh::Dial,
        stream: Stream,
        connection: u32,
        now: Duration,
    ) {
        let ending = self.started(Some(connection));
        let shutdown = self.end_bound.subscribe();
        crate::spawn(async move {
            if let Err(error) = dial::serve(host, (dial, stream), now, shutdown).await {
                log::debug!("a session ended: {error:#}");
            }
            ending.await;
        });
    }

    /// Serves a dial whose stream outlives the connection.
    fn keep(
        &mut self,
        host: Arc<ssh::Host>,
        dial: ssh::Dial,
        stream: Stream,
        (open, grace): (&Open, Duration),
        now: Now,
    ) {
        let user = (dial.user.as_str(), Arc::clone(&dial.logged_in));
        let carried = carried(stream);
        let Accepted {
            stream,
            handle,
            driver,
        } = match self
            .kept
            .accept(open, user, grace, &self.keepers, carried, now.monotonic)
        {
            Ok(accepted) => accepted,
            Err((carrier, reason)) => return not_resumable(carrier, reason),
        };
        let looked_after = kept::look_after(open.id, handle, driver, self.inputs.clone());
        crate::spawn(looked_after);
        let ending = self.started(None);
        let shutdown = self.end_kept.subscribe();
        crate::spawn(async move {
            let stream: Box<dyn Duplex> = Box::new(stream);
            if let Err(error) = ssh::serve(host, stream, dial, now.wall, shutdown).await {
                log::debug!("a session ended: {error:#}");
            }
            ending.await;
        });
    }

    /// A client comes back to its stream.
    fn attach(&mut self, attach: &Attach, dial: &ssh::Dial, stream: Stream, now: Duration) {
        let visitor = Visitor {
            user: &dial.user,
            logins: &dial.logins,
        };
        let (carrier, preamble) = carried(stream);
        let answer = preamble.clone();
        let attached = self.kept.attach(attach, &visitor, (carrier, preamble), now);
        if let Err((carrier, reason)) = attached {
            log::info!("{} cannot come back to a session: {reason:?}", dial.user);
            crate::spawn(async move {
                // A client that does not hear it asks again.
                let _ = resumable::agent::refuse(carrier, &answer, reason).await;
            });
        }
    }

    /// Counts a session; what comes back tells the loop that it is over.
    fn started(&mut self, connection: Option<u32>) -> impl Future<Output = ()> + Send + 'static {
        match self.counts.iter_mut().find(|(n, _)| *n == connection) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((connection, 1)),
        }
        let inputs = self.inputs.clone();
        async move {
            // Nobody listens any more only when the agent ends.
            let _ = inputs.send(Input::SessionEnded { connection }).await;
        }
    }

    /// Something has ended that sessions are made of.
    pub(super) fn note_end(&mut self, input: &Input) {
        match *input {
            Input::SessionEnded { connection } => self.ended(connection),
            Input::StreamEnded { id } => self.kept.ended(id),
            Input::StreamForgotten { id } => self.kept.forgotten(id),
            Input::KeptElsewhere { keeper, id } => {
                self.keepers.over(keeper, id);
                self.kept.is_over(id);
            }
            Input::KeeperGone { keeper } => {
                for id in self.keepers.gone(keeper) {
                    self.kept.is_over(id);
                }
            }
            Input::ChildEnded => self.keepers.reap(),
            _ => {}
        }
    }

    /// A session is over.
    fn ended(&mut self, connection: Option<u32>) {
        for (_, count) in self.counts.iter_mut().filter(|(n, _)| *n == connection) {
            *count = count.saturating_sub(1);
        }
        self.counts.retain(|(_, count)| *count > 0);
    }

    /// Ends a stream, wherever it is kept.
    pub(super) fn end(&self, id: StreamId, reason: Reason) {
        self.kept.end(id, reason);
        self.keepers.end(id, reason);
    }

    /// Ends all streams of a user, wherever they are kept.
    pub(super) fn end_user(&self, user: &str) {
        self.kept.end_user(user, Reason::Locked);
        self.keepers.end_user(user, Reason::Locked);
    }

    /// Whose streams are kept.
    pub(super) fn users(&self) -> Vec<String> {
        let here = self.kept.listed().into_iter().map(|(_, user, _)| user);
        let elsewhere = self.keepers.users().map(str::to_owned);
        let mut users: Vec<_> = here.chain(elsewhere).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Asks those to end that are bound to a connection.
    pub(super) fn end_bound(&self) {
        self.end_bound.send_replace(true);
    }

    /// Asks all sessions to end.
    pub(super) fn shut_down(&self) {
        self.keepers.stop(0);
        self.kept.end_lost(Reason::Stopping);
        self.end_bound();
        self.end_kept.send_replace(true);
    }

    /// This process ends, and all that outlive links with it.
    pub(super) fn all_over(&mut self) {
        self.kept.all_over();
        for id in self.keepers.live() {
            self.kept.is_over(id);
        }
    }

    /// Turns a dial down that comes while the agent goes.
    pub(super) fn turn_away(request: Request) {
        let refused = Refused {
            reason: DialRefusal::Busy,
            text: "This node's agent restarts; try again.".to_owned(),
        };
        turn_down(request.stream, refused);
    }
}

fn turn_down(stream: Stream, refused: Refused) {
    log::info!("dial refused: {}", refused.text);
    crate::spawn(async move { dial::refuse(stream, &refused).await });
}

/// Tells a client to dial plainly.
fn not_resumable(carrier: Carrier, reason: Reason) {
    log::info!("a session will not outlive its link: {reason:?}");
    crate::spawn(async move { dial::not_resumable(carrier.writer, reason).await });
}

/// A stream to carry another, and what is said on it first.
fn carried(stream: Stream) -> (Carrier, Vec<u8>) {
    let carrier = Carrier {
        reader: stream.reader,
        writer: stream.writer,
    };
    // It always fits into a frame.
    let accepted = frame::encode(&DialReply::Accepted).unwrap_or_default();
    (carrier, accepted.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resume::DEFAULT;
    use protocol::message::dial::{DialHeader, LinkRequest, Permits, ResumableDial};
    use protocol::message::{Blob, Text};
    use protocol::resume::frame::Frame;
    use tokio::io::AsyncReadExt;

    const ATTACH: Attach = Attach {
        id: StreamId([1; 16]),
        generation: 1,
        nonce: [2; 16],
    };

    /// What somebody is told who comes back to a stream that there is not.
    async fn told(sessions: &mut Sessions, now: Now) -> Vec<u8> {
        let header = DialHeader {
            session_id: ATTACH.id.0,
            time_s: 0,
            user: Text::cut("ann"),
            fingerprint: [7; 32],
            logins: std::iter::empty().collect(),
            permits: Permits::ALL,
            client_addr: Text::cut("192.0.2.7 50000"),
            idle_timeout_s: 0,
            max_session_s: 0,
        };
        let opening = Frame::Attach(ATTACH).encode();
        let dial = ResumableDial {
            header,
            grace_s: 600,
            opening: Blob::new(&opening).unwrap(),
        };
        let frame = frame::encode(&LinkRequest::Resumable(dial)).unwrap();
        let (mut client, link) = tokio::io::duplex(1024);
        let (reader, writer) = tokio::io::split(link);
        let stream = Stream {
            reader: Box::new(reader),
            writer: Box::new(writer),
            delivered: Box::pin(std::future::ready(())),
        };
        let request = dial::handed_over(&frame[2..], stream).unwrap();
        sessions.dialled(request, 0, now);
        let mut told = Vec::new();
        client.read_to_end(&mut told).await.unwrap();
        told
    }

    #[tokio::test]
    async fn tries_are_counted_by_a_clock_that_does_not_go_back() {
        let (inputs, _queue) = mpsc::channel(1);
        let mut sessions = Sessions::new(inputs, None, DEFAULT, Keepers::default());
        let mut now = Now {
            wall: Duration::from_secs(1_700_000_000),
            monotonic: Duration::from_secs(60),
        };
        let busy = Reason::Busy.frame();
        for _ in 0..8 {
            assert!(!told(&mut sessions, now).await.ends_with(&busy));
        }
        assert!(told(&mut sessions, now).await.ends_with(&busy));
        now.wall -= Duration::from_secs(3600);
        now.monotonic += Duration::from_secs(2);
        assert!(!told(&mut sessions, now).await.ends_with(&busy));
    }
}
