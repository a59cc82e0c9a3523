//! The link: the loop around [`protocol::link`], which decides, and the tasks that do I/O.
//!
//! The loop owns all state and handles one [`input::Input`] at a time; it never waits for anything
//! but the next input or the next deadline. Connecting, reading, writing and serving sessions are
//! tasks that own what they need and report back through the same queue.
//!
//! ```text
//!  attempt ─┐                        ┌─► attempt (connect, or come back with the bound key)
//!  reader ──┤      ┌────────────┐    ├─► writer  (control messages)
//!  dials ───┼────► │ Link, Node │ ───┤
//!  labels ──┤      └────────────┘    ├─► session (SSH server)
//!  network ─┤          time          └─► status's answer
//!  status ──┘
//! ```
//!
//! What comes late from a connection that was given up is told by its attempt's number, and
//! dropped.

mod act;
mod addresses;
mod attempt;
mod budget;
pub(crate) mod connect;
mod connections;
mod control;
mod dial;
mod fault;
pub(crate) mod frame;
mod handle;
mod history;
mod http;
pub(crate) mod input;
mod keep;
pub(crate) mod keepers;
mod kept;
mod lender;
pub(crate) mod quic;
mod race;
mod renewal;
pub(crate) mod restart;
pub(crate) mod roam;
mod sessions;
pub(crate) mod ssh;
mod tcp;
mod tls;
mod told;
pub(crate) mod transport;

use std::net::IpAddr;
use std::time::Duration;

use protocol::keepalive::Profile;
use protocol::link::{Config, Link};
use protocol::resume::Limits;
use protocol::transport::Plan;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::clock::{self, Monotonic};
use crate::handover::Program;
use crate::labels::Labels;
use crate::machine::Machine;
use crate::network::Network;
use crate::node::Node;
use crate::state::Lock;
use crate::status::{NodeStatus, Status};
use budget::Budget;
use connect::Route;
use connections::Connections;
use control::Open;
use history::History;
use input::Input;
use keepers::Keepers;
use renewal::Renewal;
use roam::{Memories, Thrift};
use sessions::Sessions;
use told::Told;

/// How often a link with sessions is looked at for signs of life: a heartbeat is late by that much
/// at most.
const LOOK: Duration = Duration::from_millis(500);
/// What was sent while sessions are open is to be acknowledged within this time; else the cluster
/// is asked, as often.
const URGE: Duration = Duration::from_secs(1);
/// How often a link is looked at while a sign of life is waited for: nothing else would tell that
/// a packet was acknowledged.
const LISTEN: Duration = Duration::from_millis(250);
/// How often it is tried again to write what could not be written.
const SAVE_AGAIN: Duration = Duration::from_secs(60);
/// How long sessions may take to end when the agent does; [`Open::leave`] comes after that, and
/// both must fit into 3 s.
const SESSIONS_END: Duration = Duration::from_millis(1500);

/// The loop's state.
pub(crate) struct Runner {
    supervisor: Link,
    node: Node,
    machine: Machine,
    route: Route,
    labels: Labels,
    told: Told,
    inputs: mpsc::Sender<Input>,
    monotonic: Monotonic,
    connections: Connections,
    budget: Budget,
    /// What the attempt under way tries.
    plan: Plan,
    /// Of the protocol, as the last Welcome says.
    version: u16,
    /// Whether the cluster turned the certificate down that the node holds.
    certificate_refused: bool,
    renewal: Renewal,
    save_again: Duration,
    sessions: Sessions,
    history: History,
    network: Network,
    /// Where the cluster was last seen.
    towards: watch::Sender<Option<IpAddr>>,
    thrift: Thrift,
    memories: Memories,
    /// What takes this one's place at a restart.
    program: Program,
    /// It is looked at whether that can be.
    restarting: bool,
    /// Goes along then.
    lock: Option<Lock>,
    /// Tasks that are the agent's, and not a keeper's.
    services: Vec<AbortHandle>,
}

/// What the loop starts with.
pub(crate) struct Start {
    pub(crate) node: Node,
    pub(crate) machine: Machine,
    pub(crate) route: Route,
    pub(crate) labels: Labels,
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) monotonic: Monotonic,
    pub(crate) towards: watch::Sender<Option<IpAddr>>,
    pub(crate) thrift: Thrift,
    /// What sessions that outlive their links may take.
    pub(crate) resume: Limits,
    pub(crate) program: Program,
    pub(crate) lock: Lock,
    pub(crate) services: Vec<AbortHandle>,
    pub(crate) keepers: Keepers,
}

impl Runner {
    pub(crate) fn new(start: Start) -> Self {
        let Start {
            node,
            machine,
            route,
            labels,
            inputs,
            monotonic,
            towards,
            thrift,
            resume,
            program,
            lock,
            services,
            keepers,
        } = start;
        clock::follow(node.clock());
        let network = Network::look(*towards.borrow());
        let config = Config {
            seed: crate::machine::seed(),
            policy: route.policy,
            profile: thrift.profile(network.kind),
        };
        let mut runner = Self {
            supervisor: Link::new(config, monotonic.now()),
            sessions: Sessions::new(inputs.clone(), machine.only_login.clone(), resume, keepers),
            node,
            machine,
            route,
            labels,
            told: Told::default(),
            inputs,
            monotonic,
            connections: Connections::default(),
            budget: Budget::default(),
            plan: Plan::only(protocol::transport::Kind::Quic),
            version: 0,
            certificate_refused: false,
            renewal: Renewal::default(),
            save_again: Duration::ZERO,
            history: History::default(),
            network,
            towards,
            thrift,
            memories: Memories::default(),
            program,
            restarting: false,
            lock: Some(lock),
            services,
        };
        runner.show_host();
        runner
    }

    /// Holds the link until the system asks the agent to end, or another program has taken its place.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<Input>) {
        loop {
            self.tick();
            match timeout_at(self.monotonic.at(self.wake()), queue.recv()).await {
                Ok(Some(Input::Stop) | None) => break,
                Ok(Some(Input::Ready { ready, asked })) => match self.hand_over(ready) {
                    Ok((socket, said)) => return self.keep(socket, queue, asked, said).await,
                    Err(why) => self.stay(asked, &why),
                },
                Ok(Some(input)) => self.handle(input),
                Err(_) => {}
            }
        }
        self.stop(queue).await;
    }

    /// Does what is due.
    fn tick(&mut self) {
        let now = self.monotonic.now();
        self.observe(now);
        let heard = self.connections.held_mut().is_some_and(Open::was_heard);
        // Else all that comes are answers that the loop has seen itself, and late acknowledgements
        // of them, which would put the next heartbeat off.
        if heard && (self.sessions.count() > 0 || self.supervisor.is_listening()) {
            self.supervisor.handle_heard(now);
        }
        let attended = self.sessions.count() > 0;
        let asked = self.connections.held_mut().is_some_and(Open::was_asked);
        // Where bytes cost money, only who is there is asked.
        let free = self.thrift.profile(self.network.kind) != Profile::Metered;
        if let Some(open) = self.connections.held_mut()
            && attended
            && (heard || asked || free)
            && !self.supervisor.is_listening()
        {
            open.urge(URGE, now);
        }
        self.supervisor.handle_attended(attended);
        self.supervisor.handle_timeout(now);
        self.act(now);
        let sessions = &self.sessions;
        self.connections
            .let_go(|number| sessions.on(number) > 0, now);
        self.renew(now);
        if self.node.unsaved().is_some() && now >= self.save_again {
            self.save_again = now.saturating_add(SAVE_AGAIN);
            self.node.save();
        }
    }

    fn observe(&mut self, now: Duration) {
        let spent = self.connections.spent();
        self.budget.observe(spent, self.sessions.count(), now);
    }

    /// When to tick next, on the monotonic clock.
    fn wake(&self) -> Duration {
        let now = self.monotonic.now();
        let mut wake = self.supervisor.poll_timeout().0;
        if self.supervisor.is_up() {
            wake = wake.min(now.saturating_add(self.renewal_wait(now)));
        }
        if self.supervisor.is_listening() {
            wake = wake.min(now.saturating_add(LISTEN));
        } else if self.supervisor.is_up() && self.sessions.count() > 0 {
            wake = wake.min(now.saturating_add(LOOK));
        }
        if self.node.unsaved().is_some() {
            wake = wake.min(self.save_again);
        }
        // After that, the end of a session wakes the loop.
        match self.connections.left_until() {
            Some(until) if until > now => wake.min(until),
            _ => wake,
        }
    }

    /// Ends sessions, says goodbye, and closes the connections, in bounded time.
    async fn stop(mut self, mut queue: mpsc::Receiver<Input>) {
        log::info!("stopping, sessions={}", self.sessions.count());
        self.sessions.shut_down();
        let deadline = Instant::now() + SESSIONS_END;
        while self.sessions.count() > 0 {
            match timeout_at(deadline, queue.recv()).await {
                Ok(Some(input)) => self.sessions.note_end(&input),
                Ok(None) | Err(_) => break,
            }
        }
        // With this process they are over, whoever is attached.
        self.sessions.all_over();
        self.tell_ended();
        self.connections.leave().await;
    }

    /// All there is to show.
    fn status(&self) -> Status {
        let now = self.monotonic.now();
        let address = self.route.address.to_string();
        let signs = (self.supervisor.heard_at(), self.supervisor.keepalive());
        Status {
            uptime: Some(now),
            restarting: self.restarting,
            node: Some(NodeStatus::new(
                &self.node.membership,
                address,
                self.node.now(),
            )),
            link: self.history.link(self.connections.held(), signs, now),
            network: Some(self.network.clone()),
            last_loss: self.history.last_loss().cloned(),
            spent: self.connections.spent(),
            idle_a_day: self.budget.a_day(),
            sessions: self.sessions.count(),
            session_memory: self.sessions.memory(),
            keepers: self.sessions.keepers.status(),
            only_login: self.machine.only_login.clone(),
            problems: self.node.unsaved().map(str::to_owned).into_iter().collect(),
            ..Status::of_stopped()
        }
    }
}
