//! What an input means.

use std::time::Duration;

use protocol::message::control::{Refusal, ToAgent, ToCluster, Welcome};
use protocol::message::version::SPOKEN;
use protocol::message::{Text, decode};

use super::Runner;
use super::control::Open;
use super::dial::Request;
use super::input::{Input, News};
use super::transport::{Fault, FaultKind};
use crate::labels;
use crate::state::membership::{HostCertificates, Membership, Trusted};
use crate::text::plain;

impl Runner {
    pub(super) fn handle(&mut self, input: Input) {
        match input {
            Input::Connection { attempt, news } if attempt == self.attempt => self.news(news),
            Input::Connection { .. } => {}
            Input::SessionEnded => self.sessions.ended(),
            Input::Labels(labels) => {
                self.labels = labels;
                self.send_labels();
            }
            Input::Query(query) => query.answer(&self.status()),
            // The loop ends for it before it gets here.
            Input::Stop => {}
        }
        self.act(self.monotonic.now());
    }

    fn news(&mut self, news: News) {
        let now = self.monotonic.now();
        match news {
            News::Opened { transport, control } => {
                self.connecting = None;
                self.open = Some(Open::start(transport, control, self.attempt, &self.inputs));
                self.supervisor.handle_connected(now);
            }
            News::Ended(fault) => self.ended(&fault, now),
            News::CameBack(given) => self.came_back(*given),
            News::TurnedAway { reason, text } => self.turned_away(reason, &text, now),
            News::Frame(body) => self.frame(&body, now),
            News::Dialled(request) => self.dialled(*request, now),
        }
    }

    fn ended(&mut self, fault: &Fault, now: Duration) {
        self.history.because(&fault.text);
        match fault.kind {
            FaultKind::Misbehaved => self.supervisor.handle_misbehaviour(now),
            FaultKind::CertificateRefused => {
                self.certificate_refused = true;
                self.supervisor.handle_closed(now);
            }
            _ => self.supervisor.handle_closed(now),
        }
    }

    /// With new certificates, the same attempt goes on to the link.
    fn came_back(&mut self, given: Membership) {
        log::info!(
            "new certificates, generation={}",
            given.certificates.generation
        );
        self.certificate_refused = false;
        self.node.come_back(given);
        self.show_host();
        self.connect();
    }

    /// To the supervisor, a cluster that refuses to renew is one that refuses a Hello: it waits as
    /// long, and asks again.
    fn turned_away(&mut self, reason: Refusal, text: &str, now: Duration) {
        self.supervisor.handle_connected(now);
        self.act(now);
        let text = Text::cut(text);
        self.refused(
            &ToAgent::Refused {
                reason,
                retry_after_s: 0,
                text,
            },
            now,
        );
    }

    fn frame(&mut self, body: &[u8], now: Duration) {
        match decode::<ToAgent<'_>>(body) {
            Ok(message) => self.message(&message, now),
            // Of a newer cluster: not for this agent, but a sign of life.
            Err(protocol::error::DecodeError::UnknownVariant) => self.supervisor.handle_heard(now),
            Err(error) => self.misbehaved(&error.to_string(), now),
        }
    }

    fn message(&mut self, message: &ToAgent<'_>, now: Duration) {
        let taken = match message {
            ToAgent::Welcome(welcome) if !self.supervisor.is_up() => self.welcome(welcome),
            ToAgent::Renewed(sent) if self.supervisor.is_up() => {
                self.renewed(HostCertificates::from(sent))
            }
            ToAgent::TrustChanged(sent) if self.supervisor.is_up() => {
                self.trust_changed(Trusted::from(sent))
            }
            ToAgent::Refused { .. } => return self.refused(message, now),
            _ => Ok(()),
        };
        match taken {
            Ok(()) => self.supervisor.handle_message(message, now),
            Err(error) => self.misbehaved(&format!("{error:#}"), now),
        }
    }

    fn welcome(&mut self, welcome: &Welcome<'_>) -> anyhow::Result<()> {
        let spoken = SPOKEN.oldest..=SPOKEN.newest;
        anyhow::ensure!(
            spoken.contains(&welcome.version),
            "a version that was not offered"
        );
        self.node.learn_time(welcome.time_s);
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

    /// A Hello is refused, or a renewal on a link that stays.
    fn refused(&mut self, message: &ToAgent<'_>, now: Duration) {
        let ToAgent::Refused {
            retry_after_s,
            text,
            ..
        } = message
        else {
            return;
        };
        let text = plain(text);
        if self.supervisor.is_up() {
            log::warn!("the cluster refused to renew the certificates: {text}");
            self.renewal
                .refused(Duration::from_secs(u64::from(*retry_after_s)), now);
        } else {
            self.history.because(&text);
        }
        self.supervisor.handle_message(message, now);
    }

    fn misbehaved(&mut self, what: &str, now: Duration) {
        self.history.because(&plain(what));
        self.supervisor.handle_misbehaviour(now);
    }

    fn dialled(&mut self, request: Request, now: Duration) {
        self.supervisor.handle_heard(now);
        self.node.learn_time(request.time_s);
        self.sessions.dialled(request, self.node.now());
    }

    /// Tells the cluster the labels, if it knows others.
    pub(super) fn send_labels(&mut self) {
        if self.supervisor.is_up() && self.labels != self.labels_sent {
            self.labels_sent.clone_from(&self.labels);
            self.send(&ToCluster::LabelsChanged(labels::message(
                &self.labels_sent,
            )));
        }
    }

    fn send(&self, message: &ToCluster<'_>) {
        if let Some(open) = &self.open {
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
