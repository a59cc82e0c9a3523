//! The keeper: what is left of an agent when another one has taken its place. It ends what ends
//! with the link, and then the link; it serves the sessions that go on, and ends with the last of
//! them, or with the agent. See [`crate::handover`].

use std::os::fd::OwnedFd;
use std::os::unix::net;
use std::time::Duration;

use protocol::resume::{Reason, StreamId};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::dial;
use super::input::{Input, News};
use super::keepers::Keepers;
use super::restart::Asked;
use super::sessions::{Now, Sessions};
use super::transport::Stream;
use super::{Runner, SESSIONS_END};
use crate::handover::message::{FromKeeper, Listed, ToKeeper, read};
use crate::handover::wire::Wire;
use crate::ssh;
use crate::text::counted;

/// How long programs may take to end when the agent has: longer than one that is hung up and does
/// not listen.
const PROGRAMS_END: Duration = Duration::from_secs(8);

/// Whether the keeper is still wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Yes,
    No,
}

impl Runner {
    /// Keeps sessions, as long as there are any and the agent lives.
    pub(super) async fn keep(
        mut self,
        socket: OwnedFd,
        mut queue: mpsc::Receiver<Input>,
        asked: Option<Asked>,
        said: String,
    ) {
        let wire = match Wire::new(socket) {
            Ok(wire) => wire,
            Err(error) => return log::error!("sessions cannot be kept: {error}"),
        };
        // Those of the agent, in this copy.
        drop(self.lock.take());
        self.sessions.keepers = Keepers::default();
        // The agent that takes over lends on its own.
        self.sessions.kept.stop_lending();
        self.say_state(&wire);
        self.say_untold(&wire);
        let kept = counted(self.sessions.outliving(), "session");
        log::info!("another agent takes over; {kept} kept");
        if let Some(asked) = asked {
            asked.answer(said).await;
        }
        for service in self.services.drain(..) {
            service.abort();
        }
        self.leave(&mut queue, &wire).await;
        let (mut end, mut listens) = (None, true);
        while self.is_needed(end) {
            let wanted = tokio::select! {
                Some(input) = queue.recv() => self.keep_on(input, &wire),
                packet = wire.receive(), if listens => match packet {
                    Ok(Some((packet, fd))) => self.told(&packet, fd, &wire),
                    Ok(None) | Err(_) => {
                        ssh::program::nobody_tells();
                        listens = false;
                        Wanted::No
                    }
                },
                () = until(end) => break,
            };
            if wanted == Wanted::No && end.is_none() {
                end = Some(Instant::now() + PROGRAMS_END);
                self.sessions.shut_down();
            }
        }
    }

    /// Without an end in sight, whoever missed that a stream has ended may still ask.
    fn is_needed(&self, end: Option<Instant>) -> bool {
        self.sessions.here() > 0 || end.is_none() && !self.sessions.kept.is_empty()
    }

    /// Ends the sessions that need the link, and the link.
    async fn leave(&mut self, queue: &mut mpsc::Receiver<Input>, wire: &Wire) {
        self.sessions.end_bound();
        let deadline = Instant::now() + SESSIONS_END;
        while self.sessions.bound() > 0 {
            match timeout_at(deadline, queue.recv()).await {
                Ok(Some(input)) => drop(self.keep_on(input, wire)),
                Ok(None) | Err(_) => break,
            }
        }
        std::mem::take(&mut self.connections).leave().await;
    }

    fn say_state(&self, wire: &Wire) {
        let programs = ssh::program::running().into_iter();
        let programs = programs.chain(ssh::guard::process());
        let streams = self.sessions.kept.listed();
        let streams = streams.iter();
        let streams = streams.map(|(id, user, bytes)| (*id, user.as_str(), *bytes));
        let listed = Listed::new(streams, programs);
        say(wire, &FromKeeper::State(listed.state()));
    }

    /// What the cluster was not told yet, the agent tells it.
    fn say_untold(&mut self, wire: &Wire) {
        for id in self.sessions.kept.untold() {
            say(wire, &FromKeeper::Over(id.0));
        }
    }

    fn keep_on(&mut self, input: Input, wire: &Wire) -> Wanted {
        match input {
            Input::Connection {
                news: News::Dialled(request),
                ..
            } => Sessions::turn_away(*request),
            Input::Stop => return Wanted::No,
            // Some came before this was a keeper. All else is the agent's.
            input => self.sessions.note_end(&input),
        }
        self.say_untold(wire);
        Wanted::Yes
    }

    fn told(&mut self, packet: &[u8], fd: Option<OwnedFd>, wire: &Wire) -> Wanted {
        match (read::<ToKeeper<'_>>(packet), fd) {
            (Some(ToKeeper::Hello), _) => self.say_state(wire),
            (Some(ToKeeper::Attach(request)), Some(fd)) => {
                if let Err(error) = self.attach(&request, fd) {
                    log::warn!("a client cannot come back: {error}");
                }
            }
            (Some(ToKeeper::End { id, reason }), _) => {
                self.sessions
                    .kept
                    .end(StreamId(id), Reason::from_code(reason));
            }
            (Some(ToKeeper::Ended { program, status }), _) => {
                ssh::program::has_ended(program, status);
            }
            (Some(ToKeeper::Stop), _) => return Wanted::No,
            // Of a newer agent, which knows how old this keeper is.
            (None | Some(ToKeeper::Attach(_)), _) => {}
        }
        Wanted::Yes
    }

    fn attach(&mut self, request: &[u8], fd: OwnedFd) -> anyhow::Result<()> {
        let stream = net::UnixStream::from(fd);
        stream.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(stream)?.into_split();
        let stream = Stream {
            reader: Box::new(reader),
            writer: Box::new(writer),
            delivered: Box::pin(std::future::ready(())),
        };
        let request = dial::handed_over(request, stream)?;
        let now = Now {
            wall: Duration::from_secs(request.time_s),
            monotonic: self.monotonic.now(),
        };
        self.sessions.dialled(request, 0, now);
        Ok(())
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// If the agent does not listen, it has ended, and that shows.
fn say(wire: &Wire, message: &FromKeeper<'_>) {
    if let Err(error) = wire.send(message, None) {
        log::debug!("the agent does not listen: {error}");
    }
}
