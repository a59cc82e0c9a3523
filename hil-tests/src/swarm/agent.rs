//! One light agent: the supervisor decides, this does what it asks for.

use std::sync::Arc;

use anyhow::Result;
use protocol::error::CloseCode;
use protocol::keepalive::Profile;
use protocol::link::{Action, Config, Event, Link, Loss, Which};
use protocol::message::control::{Hello, Inventory, ToAgent, ToCluster};
use protocol::message::dial::{DialReply, LinkRequest};
use protocol::message::version::Versions;
use protocol::message::{Labels, Text, decode};
use protocol::transport::{Kind, Policy};
use quinn::{RecvStream, SendStream};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::Fleet;
use super::connection::{Connection, Happened, open, turned_away};
use super::identity::Identity;
use super::wire::{receive, send};

/// Agents of the swarm know plain streams alone.
const VERSIONS: Versions = Versions {
    oldest: 1,
    newest: 1,
};
/// Bytes of a dial that are sent back at once.
const ECHO: usize = 4096;

pub(super) struct Agent {
    fleet: Arc<Fleet>,
    identity: Arc<Identity>,
    boot_id: [u8; 16],
    link: Link,
    held: Connection,
    next: Connection,
    cuts: watch::Receiver<u32>,
    hushed: watch::Receiver<bool>,
    up: bool,
    round: u32,
}

impl Agent {
    pub(super) fn new(fleet: Arc<Fleet>, identity: Arc<Identity>) -> Self {
        let mut random = [0; 24];
        // Without random numbers the agents would step in time, which the figures would show.
        SystemRandom::new().fill(&mut random).ok();
        let (boot_id, seed) = random.split_first_chunk().unwrap_or((&[0; 16], &[]));
        let config = Config {
            seed: seed.first_chunk().map_or(0, |s| u64::from_ne_bytes(*s)),
            policy: Policy::Only(Kind::Quic),
            profile: Profile::Normal,
        };
        Self {
            link: Link::new(config, fleet.now()),
            cuts: fleet.cuts.subscribe(),
            hushed: fleet.hushed.subscribe(),
            boot_id: *boot_id,
            fleet,
            identity,
            held: Connection::None,
            next: Connection::None,
            up: false,
            round: 0,
        }
    }

    /// Lives until its runtime ends.
    pub(super) async fn live(mut self) {
        loop {
            let hushed = *self.hushed.borrow_and_update();
            if !hushed {
                self.link.handle_timeout(self.fleet.now());
                self.act().await;
            }
            let wake = self.fleet.at(self.link.poll_timeout().0);
            tokio::select! {
                () = sleep_until(wake), if !hushed => {}
                hushed = self.hushed.changed() => if hushed.is_err() { return },
                cut = self.cuts.changed() => match cut {
                    Ok(()) => self.cut(),
                    Err(_) => return,
                },
                happened = self.held.next() => self.handle(Which::Held, happened),
                happened = self.next.next() => self.handle(Which::Next, happened),
            }
            // At once: what comes next may already be due, and would be undone by what came before.
            self.act().await;
        }
    }

    fn handle(&mut self, which: Which, happened: Happened) {
        let now = self.fleet.now();
        match happened {
            Happened::Opened(open) => {
                self.next = Connection::Open(open);
                self.link.handle_connected(Kind::Quic, now);
            }
            Happened::Failed(error) => {
                if turned_away(&error) {
                    self.fleet.board.turned_away();
                }
                *self.connection(which) = Connection::None;
                self.link.handle_closed(which, now);
            }
            Happened::Frame(body) => match decode::<ToAgent<'_>>(&body) {
                Ok(message) => self.link.handle_message(which, &message, now),
                Err(protocol::error::DecodeError::UnknownVariant) => self.heard(which),
                Err(_) => self.link.handle_misbehaviour(which, now),
            },
            Happened::Dialled(to, from) => {
                self.heard(which);
                tokio::spawn(async move {
                    // Who dialled sees what went wrong.
                    echo(to, from).await.ok();
                });
            }
        }
    }

    fn heard(&mut self, which: Which) {
        if which == Which::Held {
            self.link.handle_heard(self.fleet.now());
        }
    }

    async fn act(&mut self) {
        while let Some(action) = self.link.poll_action() {
            match action {
                Action::Connect(_) => self.connect(),
                Action::SendHello => self.send_hello().await,
                Action::SendMoving => self.held.send(&ToCluster::Moving).await,
                Action::SendHeartbeat { seq } => {
                    self.held.send(&ToCluster::Heartbeat { seq }).await;
                }
                Action::SendKeepalive { interval_s } => {
                    self.held.send(&ToCluster::Keepalive { interval_s }).await;
                }
                Action::Promote => {
                    let old = std::mem::replace(&mut self.held, self.next.take());
                    old.close(CloseCode::Done);
                }
                Action::Close(which, code) => self.connection(which).take().close(code),
                // All of a swarm's sockets stay where they are.
                Action::Rebind => {}
            }
        }
        while let Some(event) = self.link.poll_event() {
            self.note(event);
        }
    }

    const fn connection(&mut self, which: Which) -> &mut Connection {
        match which {
            Which::Held => &mut self.held,
            Which::Next => &mut self.next,
        }
    }

    fn connect(&mut self) {
        self.fleet.board.attempt();
        let (fleet, identity) = (Arc::clone(&self.fleet), Arc::clone(&self.identity));
        self.next = Connection::Opening(Box::pin(open(fleet, identity)));
    }

    async fn send_hello(&mut self) {
        let hello = Hello {
            versions: VERSIONS,
            boot_id: self.boot_id,
            agent_version: Text::cut("swarm"),
            inventory: Inventory {
                hostname: Text::cut("swarm"),
                os: Text::cut("Linux"),
                arch: Text::cut("swarm"),
                kernel: Text::cut("0"),
            },
            labels: Labels::new(),
            only_login: None,
            trust_serial: self.identity.trust_serial,
        };
        self.next.send(&ToCluster::Hello(hello)).await;
    }

    fn note(&mut self, event: Event) {
        let board = &self.fleet.board;
        match event {
            Event::Up(_) => {
                // One that takes the place of another came while that was dark.
                let was_up = std::mem::replace(&mut self.up, true);
                let now = self.fleet.now();
                board.up(self.identity.number, was_up, &mut self.round, now);
            }
            Event::Dark => board.lost("Dark"),
            Event::Light => {}
            Event::Down { loss, .. } => {
                let was_up = std::mem::take(&mut self.up);
                match loss {
                    Loss::Refused(reason) => board.down(was_up, format!("{reason:?}"), true),
                    loss => board.down(was_up, format!("{loss:?}"), false),
                }
                self.held.take().close(CloseCode::Done);
            }
        }
    }

    /// What a break of the network would show as, once it is noticed.
    fn cut(&mut self) {
        if self.up {
            self.held = Connection::None;
            self.link.handle_closed(Which::Held, self.fleet.now());
        }
    }
}

/// Answers a dial, and sends back what comes until the end.
async fn echo(mut to: SendStream, mut from: RecvStream) -> Result<()> {
    let mut buffer = Vec::new();
    receive::<LinkRequest<'_>>(&mut from, &mut buffer).await?;
    send(&mut to, &DialReply::Accepted).await?;
    while let Some(chunk) = from.read_chunk(ECHO, true).await? {
        to.write_chunk(chunk.bytes).await?;
    }
    Ok(to.finish()?)
}
