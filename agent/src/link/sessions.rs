//! The sessions that are served: how many there are, what they show to clients, and their end.

use std::sync::Arc;
use std::time::Duration;

use protocol::message::dial::DialRefusal;
use tokio::sync::{mpsc, watch};

use super::dial::{self, Refused, Request};
use super::input::Input;
use crate::ssh;

/// See the [module](self).
pub(super) struct Sessions {
    /// How many each connection carries, by its number; there are few connections.
    counts: Vec<(u32, usize)>,
    only_login: Option<String>,
    /// Missing only if what the cluster gave cannot be used for SSH.
    host: Option<Arc<ssh::Host>>,
    shutdown: watch::Sender<bool>,
    inputs: mpsc::Sender<Input>,
}

impl Sessions {
    pub(super) fn new(inputs: mpsc::Sender<Input>, only_login: Option<String>) -> Self {
        Self {
            counts: Vec::new(),
            only_login,
            host: None,
            shutdown: watch::Sender::new(false),
            inputs,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// How many a connection carries.
    pub(super) fn on(&self, connection: u32) -> usize {
        let mut counts = self.counts.iter();
        counts
            .find(|(number, _)| *number == connection)
            .map_or(0, |(_, count)| *count)
    }

    /// Sessions from now on show this host.
    pub(super) fn show(&mut self, host: ssh::Host) {
        self.host = Some(Arc::new(host));
    }

    /// Serves a dial that came over a connection, or turns it down.
    pub(super) fn dialled(&mut self, request: Request, connection: u32, now: Duration) {
        match self.decide(&request) {
            Ok(host) => self.serve(host, request, connection, now),
            Err(refused) => {
                log::info!("dial refused: {}", refused.text);
                crate::spawn(async move { dial::refuse(request.stream, &refused).await });
            }
        }
    }

    fn decide(&self, request: &Request) -> Result<Arc<ssh::Host>, Refused> {
        dial::admit(
            self.count(),
            self.only_login.as_deref(),
            &request.dial.logins,
        )?;
        self.host.clone().ok_or_else(|| Refused {
            reason: DialRefusal::Internal,
            text: "This node has no usable SSH certificate.".to_owned(),
        })
    }

    fn serve(&mut self, host: Arc<ssh::Host>, request: Request, connection: u32, now: Duration) {
        match self.counts.iter_mut().find(|(n, _)| *n == connection) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((connection, 1)),
        }
        let (shutdown, inputs) = (self.shutdown.subscribe(), self.inputs.clone());
        crate::spawn(async move {
            if let Err(error) = dial::serve(host, request, now, shutdown).await {
                log::debug!("a session ended: {error:#}");
            }
            // Nobody listens any more only when the agent ends.
            let _ = inputs.send(Input::SessionEnded { connection }).await;
        });
    }

    /// A session is over.
    pub(super) fn ended(&mut self, connection: u32) {
        for (_, count) in self.counts.iter_mut().filter(|(n, _)| *n == connection) {
            *count = count.saturating_sub(1);
        }
        self.counts.retain(|(_, count)| *count > 0);
    }

    /// Asks all sessions to end.
    pub(super) fn shut_down(&self) {
        self.shutdown.send_replace(true);
    }
}
