//! What the supervisor asks for, done.

use std::time::Duration;

use protocol::error::CloseCode;
use protocol::link::{Action, Event};
use protocol::message::control::ToCluster;

use super::attempt::{Attempt, way};
use super::control::{Outlet, hello};
use super::{Runner, input::News};

impl Runner {
    pub(super) fn act(&mut self, now: Duration) {
        while let Some(action) = self.supervisor.poll_action() {
            self.perform(action);
        }
        while let Some(event) = self.supervisor.poll_event() {
            self.note(event, now);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Connect => self.connect(),
            Action::SendHello => self.send_hello(),
            Action::SendHeartbeat { seq } => {
                if let Some(open) = &self.open {
                    open.send(&ToCluster::Heartbeat { seq });
                }
            }
            Action::Close(code) => self.hang_up(code),
        }
    }

    /// Starts an attempt; it lives in a task, and its number tells its news from older ones.
    pub(super) fn connect(&mut self) {
        self.history.connecting();
        let now = self.node.now();
        let way = way(
            &self.node.membership.certificates,
            now,
            self.certificate_refused,
        );
        log::debug!("connecting by {way:?}");
        let route = self.route.clone();
        let attempt = Attempt::new(way, &self.node, route, self.history.failures());
        let news = Outlet::new(self.attempt, self.inputs.clone());
        let task = tokio::spawn(async move {
            let outcome = match attempt {
                Ok(attempt) => attempt.run().await,
                Err(error) => News::Ended(super::transport::Fault::local(error)),
            };
            news.send(outcome).await;
        });
        self.connecting = Some(task.abort_handle());
    }

    fn send_hello(&mut self) {
        let Some(open) = &self.open else { return };
        self.labels_sent.clone_from(&self.labels);
        let serial = self.node.membership.trust.serial;
        open.send(&hello(&self.machine, &self.labels_sent, serial));
    }

    /// Gives up the connection, made or not.
    fn hang_up(&mut self, code: CloseCode) {
        self.attempt = self.attempt.wrapping_add(1);
        if let Some(connecting) = self.connecting.take() {
            connecting.abort();
        }
        if let Some(open) = self.open.take() {
            open.close(code);
        }
    }

    fn note(&mut self, event: Event, now: Duration) {
        match event {
            Event::Up => {
                self.history.up(self.node.now(), now);
                self.send_labels();
            }
            Event::Down { loss, retry_in } => {
                self.hang_up(CloseCode::Done);
                self.history.down(loss, retry_in, self.node.now(), now);
            }
        }
    }

    /// Asks for new certificates once it is time.
    pub(super) fn renew(&mut self, now: Duration) {
        let Some(open) = self.open.as_ref().filter(|_| self.supervisor.is_up()) else {
            return;
        };
        if self.renewal_wait(now).is_zero() {
            let generation = self.node.membership.certificates.generation;
            open.send(&ToCluster::Renew { generation });
            self.renewal.asked(now);
        }
    }

    /// How long there is nothing to renew. A device that cannot keep new certificates would show
    /// old ones after a reboot, and pass for a clone; it asks for none.
    pub(super) fn renewal_wait(&self, now: Duration) -> Duration {
        if self.node.unsaved().is_some() {
            return Duration::MAX;
        }
        let certificates = &self.node.membership.certificates;
        self.renewal.wait(certificates, self.node.now(), now)
    }
}
