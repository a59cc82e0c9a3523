//! What the supervisor asks for, done.

use std::time::Duration;

use protocol::error::CloseCode;
use protocol::link::{Action, Event, Which};
use protocol::message::control::ToCluster;

use super::attempt::{Attempt, way};
use super::control::{Open, Outlet, hello};
use super::{Runner, input::News};

impl Runner {
    pub(super) fn act(&mut self, now: Duration) {
        while let Some(action) = self.supervisor.poll_action() {
            self.perform(action, now);
        }
        while let Some(event) = self.supervisor.poll_event() {
            self.note(event, now);
        }
    }

    fn perform(&mut self, action: Action, now: Duration) {
        match action {
            Action::Connect(plan) => {
                self.plan = plan;
                self.connect();
            }
            Action::SendMoving => self.send(&ToCluster::Moving),
            Action::SendHello => self.send_hello(),
            Action::SendHeartbeat { seq } => {
                // An empty packet and its acknowledgement are the cheapest answer there is.
                if let Some(open) = self.connections.held_mut()
                    && !open.ping()
                {
                    open.ask(seq, now);
                }
            }
            Action::SendKeepalive { interval_s } => {
                self.send(&ToCluster::Keepalive { interval_s });
            }
            Action::Rebind => {
                if let Some(Err(fault)) = self.connections.held().map(Open::rebind) {
                    log::info!("the link cannot follow: {fault}");
                    self.supervisor.handle_stranded(now);
                }
            }
            Action::Promote => self.connections.promote(now),
            Action::Close(which, code) => self.connections.close(which, code),
        }
    }

    /// Starts an attempt; it lives in a task, and its number tells its news from older ones.
    pub(super) fn connect(&mut self) {
        if !self.supervisor.is_up() {
            self.history.connecting();
        }
        let now = self.node.now();
        let way = way(
            &self.node.membership.certificates,
            now,
            self.certificate_refused,
        );
        log::debug!("connecting by {way:?}");
        let route = self.route.clone();
        let failures = self.history.failures();
        let attempt = Attempt::new(way, &self.node, route, self.plan, failures);
        let news = Outlet::new(self.connections.number(), self.inputs.clone());
        let task = crate::spawn(async move {
            let outcome = match attempt {
                Ok(attempt) => attempt.run().await,
                Err(error) => News::Ended(super::transport::Fault::local(error)),
            };
            news.send(outcome).await;
        });
        self.connections.making(task.abort_handle());
    }

    fn send_hello(&mut self) {
        let Some(open) = self.connections.get(Which::Next) else {
            return;
        };
        let serial = self.node.membership.trust.serial;
        open.send(&hello(&self.machine, &self.labels, serial));
        self.told.greet(&self.labels);
    }

    fn note(&mut self, event: Event, now: Duration) {
        match event {
            Event::Up(kind) => {
                self.history.up(kind, self.node.now(), now);
                self.told.promote();
                self.send_labels();
                self.say_whose();
            }
            Event::Dark => self.history.dark(now),
            Event::Light => self.history.light(now),
            Event::Down { loss, retry_in } => {
                self.connections.close(Which::Held, CloseCode::Done);
                self.history.down(loss, retry_in, self.node.now(), now);
            }
        }
    }

    /// Asks for new certificates once it is time.
    pub(super) fn renew(&mut self, now: Duration) {
        if self.supervisor.is_up() && self.renewal_wait(now).is_zero() {
            let generation = self.node.membership.certificates.generation;
            self.send(&ToCluster::Renew { generation });
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
