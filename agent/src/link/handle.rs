//! What an input means.

use std::time::Duration;

use protocol::error::CloseCode;
use protocol::link::Which;
use protocol::message::control::{Refusal, ToAgent, ToCluster, Welcome};
use protocol::message::version::{NAMES_USERS, SPOKEN};
use protocol::message::{Text, decode};
use protocol::resume::{Reason, StreamId};
use protocol::transport::Kind;

use super::Runner;
use super::attempt::is_refused;
use super::connections::Role;
use super::dial::Request;
use super::input::{Input, News};
use super::sessions::Now;
use super::transport::{Fault, FaultKind};
use crate::clock;
use crate::labels;
use crate::state::membership::{HostCertificates, Membership, Trusted};
use crate::text::plain;

impl Runner {
    pub(super) fn handle(&mut self, input: Input) {
        match input {
            Input::Connection { number, news } => match self.connections.role(number) {
                Some(Role::Known(which)) => self.news(which, number, news),
                Some(Role::Left) => self.old_news(number, news),
                None => {}
            },
            Input::Labels(labels) => {
                self.labels = labels;
                self.send_labels();
            }
            Input::Network(network) => self.network(network, self.monotonic.now()),
            Input::Query(query) => query.answer(&self.status()),
            Input::Restart(asked) => self.restart(asked),
            Input::SessionEnded { .. }
            | Input::StreamEnded { .. }
            | Input::StreamForgotten { .. }
            | Input::KeptElsewhere { .. }
            | Input::KeeperGone { .. }
            | Input::ChildEnded => self.sessions.note_end(&input),
            // The loop does these itself.
            Input::Ready { .. } | Input::Stop => {}
        }
        self.act(self.monotonic.now());
        self.tell_ended();
    }

    /// Tells the cluster which sessions are over that may have outlived a link.
    pub(super) fn tell_ended(&mut self) {
        if !self.supervisor.is_up() {
            return;
        }
        for StreamId(session_id) in self.sessions.kept.untold() {
            self.send(&ToCluster::SessionEnded { session_id });
        }
    }

    /// Tells a cluster that may have been started anew whose sessions outlived it.
    pub(super) fn say_whose(&self) {
        if self.version >= NAMES_USERS {
            for user in self.sessions.users() {
                let user = Text::cut(&user);
                self.send(&ToCluster::Keeps { user });
            }
        }
    }

    fn news(&mut self, which: Which, number: u32, news: News) {
        let now = self.monotonic.now();
        match news {
            News::Opened { transport, control } => {
                let kind = match transport.kind() {
                    "quic" => Kind::Quic,
                    _ => Kind::Ssh,
                };
                self.route.last = transport.remote().or(self.route.last);
                // A closer look at the way would pass for a change of it, which ends TCP.
                if kind == Kind::Quic {
                    self.found(transport.remote());
                }
                self.connections.opened(transport, control, &self.inputs);
                self.supervisor.handle_connected(kind, now);
            }
            News::Ended(fault) => self.ended(which, &fault, now),
            News::CameBack(given) => self.came_back(*given),
            News::TurnedAway { reason, text } => self.turned_away(reason, &text, now),
            News::Frame(body) => self.frame(which, &body, now),
            News::Dialled(request) => self.dialled(*request, number, now),
        }
    }

    /// Of a connection that is being left.
    fn old_news(&mut self, number: u32, news: News) {
        match news {
            News::Ended(_) => self.connections.forget_left(),
            News::Dialled(request) => {
                let now = self.times();
                self.sessions.dialled(*request, number, now);
            }
            _ => {}
        }
    }

    /// Notes why the link ends, or cannot be had. Beside a link that lives it does not matter.
    fn because(&mut self, which: Which, text: &str) {
        if which == Which::Held || !self.supervisor.is_up() {
            self.history.because(text);
        } else if self.history.is_dark() {
            self.history.no_way_round(text, self.node.now());
        } else {
            log::debug!("the next connection: {text}");
        }
    }

    fn ended(&mut self, which: Which, fault: &Fault, now: Duration) {
        self.because(which, &fault.text);
        self.certificate_refused = is_refused(self.certificate_refused, fault);
        match fault.kind {
            FaultKind::Misbehaved => self.supervisor.handle_misbehaviour(which, now),
            _ => self.closed(which, now),
        }
    }

    /// What has ended by itself needs no end any more.
    fn closed(&mut self, which: Which, now: Duration) {
        self.connections.close(which, CloseCode::Done);
        self.supervisor.handle_closed(which, now);
    }

    /// With new certificates, the same attempt goes on to the link.
    fn came_back(&mut self, given: Membership) {
        log::info!(
            "new certificates, generation={}",
            given.certificates.generation
        );
        self.certificate_refused = false;
        self.node.come_back(given);
        clock::follow(self.node.clock());
        self.show_host();
        self.connect();
    }

    /// To the supervisor, a cluster that refuses to renew is one that refuses a Hello: it waits as
    /// long, and asks again.
    fn turned_away(&mut self, reason: Refusal, text: &str, now: Duration) {
        self.because(Which::Next, &plain(text));
        self.shut_out(reason);
        self.supervisor.handle_refused(reason, Duration::ZERO, now);
    }

    /// Nobody may come back to the sessions of a node that is locked or removed.
    fn shut_out(&mut self, reason: Refusal) {
        if matches!(reason, Refusal::Locked | Refusal::Removed) {
            self.sessions.kept.end_all(Reason::Locked);
            self.sessions.keepers.stop(0);
        }
    }

    fn frame(&mut self, which: Which, body: &[u8], now: Duration) {
        match decode::<ToAgent<'_>>(body) {
            Ok(message) => self.message(which, &message, now),
            // Of a newer cluster: not for this agent, but a sign of life.
            Err(protocol::error::DecodeError::UnknownVariant) if which == Which::Held => {
                self.supervisor.handle_heard(now);
            }
            Err(protocol::error::DecodeError::UnknownVariant) => {}
            Err(error) => self.misbehaved(which, &error.to_string(), now),
        }
    }

    fn message(&mut self, which: Which, message: &ToAgent<'_>, now: Duration) {
        let taken = match (which, message) {
            (Which::Next, ToAgent::Welcome(welcome)) => self.welcome(welcome),
            (Which::Next, ToAgent::Refused { reason, text, .. }) => {
                self.because(which, &plain(text));
                self.shut_out(*reason);
                Ok(())
            }
            (Which::Held, ToAgent::Renewed(sent)) => self.renewed(HostCertificates::from(sent)),
            (Which::Held, ToAgent::TrustChanged(sent)) => self.trust_changed(Trusted::from(sent)),
            (Which::Held, ToAgent::EndSession { session_id }) => {
                self.sessions.end(StreamId(*session_id), Reason::Locked);
                Ok(())
            }
            (Which::Held, ToAgent::EndUser { user }) => {
                log::info!("sessions of {} end: locked or removed", plain(user));
                self.sessions.end_user(user);
                Ok(())
            }
            (Which::Held, ToAgent::HeartbeatAck { seq }) => {
                if let Some(open) = self.connections.held_mut() {
                    open.answered(*seq, now);
                }
                Ok(())
            }
            (Which::Held, ToAgent::Refused { .. }) => {
                self.renewal_refused(message, now);
                Ok(())
            }
            _ => Ok(()),
        };
        match taken {
            Ok(()) => self.supervisor.handle_message(which, message, now),
            Err(error) => self.misbehaved(which, &format!("{error:#}"), now),
        }
    }

    fn welcome(&mut self, welcome: &Welcome<'_>) -> anyhow::Result<()> {
        let spoken = SPOKEN.oldest..=SPOKEN.newest;
        anyhow::ensure!(
            spoken.contains(&welcome.version),
            "a version that was not offered"
        );
        self.version = welcome.version;
        self.learn_time(welcome.time_s);
        self.node.learn_names(&welcome.cluster, &welcome.node_name);
        Ok(())
    }

    fn renewed(&mut self, certificates: HostCertificates) -> anyhow::Result<()> {
        let generation = certificates.generation;
        self.node.renew(certificates)?;
        log::info!("certificates renewed, generation={generation}");
        self.show_host();
        Ok(())
    }

    fn trust_changed(&mut self, trust: Trusted) -> anyhow::Result<()> {
        let serial = trust.serial;
        self.node.trust(trust)?;
        log::info!("the cluster's CAs have changed, serial={serial}");
        self.show_host();
        Ok(())
    }

    /// The link stays.
    fn renewal_refused(&mut self, message: &ToAgent<'_>, now: Duration) {
        let ToAgent::Refused {
            retry_after_s,
            text,
            ..
        } = message
        else {
            return;
        };
        let text = plain(text);
        log::warn!("the cluster refused to renew the certificates: {text}");
        self.renewal
            .refused(Duration::from_secs(u64::from(*retry_after_s)), now);
    }

    fn misbehaved(&mut self, which: Which, what: &str, now: Duration) {
        self.because(which, &plain(what));
        self.supervisor.handle_misbehaviour(which, now);
    }

    fn dialled(&mut self, request: Request, number: u32, now: Duration) {
        self.supervisor.handle_heard(now);
        self.learn_time(request.time_s);
        self.sessions.dialled(request, number, self.times());
    }

    fn times(&self) -> Now {
        Now {
            wall: self.node.now(),
            monotonic: self.monotonic.now(),
        }
    }

    /// The whole process lives by the cluster's time, libraries included.
    fn learn_time(&mut self, seconds: u64) {
        self.node.learn_time(seconds);
        clock::follow(self.node.clock());
    }

    /// Tells the cluster the labels, if it knows others.
    pub(super) fn send_labels(&mut self) {
        if self.supervisor.is_up() && self.told.tell(&self.labels) {
            self.send(&ToCluster::LabelsChanged(labels::message(&self.labels)));
        }
    }

    /// Sends on the link, if there is one.
    pub(super) fn send(&self, message: &ToCluster<'_>) {
        if let Some(open) = self.connections.held() {
            open.send(message);
        }
    }

    /// Gives the SSH server what the node holds now.
    pub(super) fn show_host(&mut self) {
        match self.node.host(self.machine.only_login.as_deref()) {
            Ok(host) => self.sessions.show(host),
            Err(error) => log::error!("SSH cannot be served: {error:#}"),
        }
    }
}
