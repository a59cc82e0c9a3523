//! Thousands of light agents in one process: they speak the real protocol over real QUIC, and the
//! real supervisor ([`protocol::link::Link`]) decides when each of them connects, waits and leaves.
//! A dial gets back whatever it sends; there is no SSH server behind it.
//!
//! What an agent has got by joining is kept in memory, so that a cluster may be killed and started
//! again under the same fleet.

mod agent;
mod connection;
mod dialler;
mod identity;
mod storm;
mod tally;
mod tls;
mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use dialler::{Dialled, Dialler};
pub use storm::Storm;
pub use tally::{Tally, share};

use crate::process::INTERRUPTED;
use agent::Agent;
use identity::{Identity, Joining};
use tally::Board;
use tls::Trusted;

/// Joins under way at once: enough that the cluster's store always has a full batch.
const JOINS: usize = 64;
/// Sockets that the agents share. A fleet comes from many ports; one for each agent would need as
/// many descriptors.
const SOCKETS: usize = 64;
/// Asked of the kernel for each socket: a cluster that comes back answers many agents at once.
const SOCKET_BUFFER: usize = 1 << 20;
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Where and how the agents join.
#[derive(Clone)]
pub struct Target {
    /// The cluster.
    pub addr: SocketAddr,
    /// Its host CA, PEM.
    pub ca: String,
    /// A join token that can be used often enough.
    pub token: String,
}

/// Agents that live until this is dropped.
pub struct Swarm {
    runtime: tokio::runtime::Runtime,
    fleet: Arc<Fleet>,
    identities: Vec<Arc<Identity>>,
}

/// What all agents of a swarm share.
struct Fleet {
    target: Target,
    trusted: Trusted,
    sockets: Vec<Endpoint>,
    board: Board,
    began: Instant,
    /// Counts how often all links were cut.
    cuts: watch::Sender<u32>,
    /// Whether no agent does anything by itself.
    hushed: watch::Sender<bool>,
}

impl Swarm {
    /// Joins and links `count` agents, and returns when all are welcome.
    ///
    /// # Errors
    /// If one is not.
    pub fn start(target: &Target, count: usize) -> Result<Self> {
        let swarm = Self::join(target, count, &|_| {})?;
        swarm.link();
        let limit = Duration::from_secs(60) + Duration::from_millis(20) * len(count);
        let all = swarm.wait(limit, |tally| tally.up == count);
        ensure!(all, "not all agents were welcomed: {:?}", swarm.tally());
        Ok(swarm)
    }

    /// Joins `count` agents, and tells how many have joined as it goes on. None of them links yet.
    ///
    /// # Errors
    /// If one cannot join.
    pub fn join(target: &Target, count: usize, joined: &dyn Fn(usize)) -> Result<Self> {
        let runtime = tokio::runtime::Runtime::new()?;
        let fleet = {
            let _inside = runtime.enter();
            Arc::new(Fleet::new(target)?)
        };
        let identities = runtime.block_on(join(&fleet, count, joined))?;
        Ok(Self {
            runtime,
            fleet,
            identities,
        })
    }

    /// Lets the agents go: from now on each has a link, or is on its way to one.
    pub fn link(&self) {
        for identity in &self.identities {
            let agent = Agent::new(Arc::clone(&self.fleet), Arc::clone(identity));
            self.runtime.spawn(agent.live());
        }
    }

    /// How many agents there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.identities.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of an agent's node.
    #[must_use]
    pub fn name(number: usize) -> String {
        format!("swarm-{number}")
    }

    /// Begins to count anew: who is back, and how long that took from now on.
    pub fn begin_count(&self) {
        self.fleet.board.begin(self.fleet.now());
    }

    /// What was counted.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.fleet.board.read()
    }

    /// The agent that was the first to be welcomed since the count began.
    #[must_use]
    pub fn first_back(&self) -> Option<usize> {
        self.fleet.board.first()
    }

    /// Breaks all links at once without a word to the cluster, and every agent notices.
    pub fn cut(&self) {
        self.fleet.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets no agent do anything by itself, or lets them all again.
    pub fn hush(&self, hushed: bool) {
        self.fleet.hushed.send_replace(hushed);
    }

    /// Waits until the count says so; tells whether that came in time.
    pub fn wait(&self, limit: Duration, until: impl Fn(&Tally) -> bool) -> bool {
        let deadline = std::time::Instant::now() + limit;
        while !until(&self.tally()) {
            if std::time::Instant::now() > deadline || INTERRUPTED.load(Ordering::Relaxed) {
                return false;
            }
            self.idle(LOOK);
        }
        true
    }

    /// Lets the agents live for a while.
    pub fn idle(&self, time: Duration) {
        self.runtime
            .block_on(async { tokio::time::sleep(time).await });
    }
}

impl Fleet {
    fn new(target: &Target) -> Result<Self> {
        let sockets = (0..SOCKETS).map(|_| socket());
        Ok(Self {
            target: target.clone(),
            trusted: Trusted::new(&target.ca)?,
            sockets: sockets.collect::<Result<_>>()?,
            board: Board::default(),
            began: Instant::now(),
            cuts: watch::Sender::new(0),
            hushed: watch::Sender::new(false),
        })
    }

    /// The time as the supervisors are told it.
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// A moment of theirs, for timers.
    fn at(&self, time: Duration) -> Instant {
        self.began + time
    }

    fn socket(&self, number: usize) -> Result<&Endpoint> {
        let at = number.checked_rem(self.sockets.len()).unwrap_or(0);
        self.sockets.get(at).context("no sockets")
    }
}

fn socket() -> Result<Endpoint> {
    use nix::sys::socket::{setsockopt, sockopt};
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // The kernel gives what it allows.
    setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER).ok();
    let runtime = Arc::new(TokioRuntime);
    Ok(Endpoint::new(
        EndpointConfig::default(),
        None,
        socket,
        runtime,
    )?)
}

async fn join(
    fleet: &Arc<Fleet>,
    count: usize,
    joined: &dyn Fn(usize),
) -> Result<Vec<Arc<Identity>>> {
    let turn = Arc::new(Semaphore::new(JOINS));
    let joining = Arc::new(Joining::new(fleet)?);
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let (fleet, turn) = (Arc::clone(fleet), Arc::clone(&turn));
        let joining = Arc::clone(&joining);
        tasks.spawn(async move {
            let _turn = turn.acquire().await?;
            let joined = joining.join(&fleet, number).await;
            joined.with_context(|| format!("agent {number}"))
        });
    }
    let mut identities = Vec::with_capacity(count);
    while let Some(identity) = tasks.join_next().await {
        ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
        identities.push(Arc::new(identity??));
        joined(identities.len());
    }
    Ok(identities)
}

fn len(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
