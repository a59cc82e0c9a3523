//! A device behind emulated links, with a cluster in the world and somebody who uses both. What a
//! scenario does to the links is a line; so is looking whether the device can still be reached.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::cluster::{Agent, Cluster, Person, me};
use crate::net::Network;
use crate::net::emulator::{Emulator, Interface, Link};
use crate::process::{Finished, poll};
use crate::terminal::Terminal;

/// A device must be reachable within this time once it can be: the longest pause between two tries
/// of an agent, and as much again for a bad link and a busy machine.
pub const REACH_LIMIT: Duration = Duration::from_mins(4);
/// Name of the device.
pub const NODE: &str = "gateway-1";

/// All of them.
pub struct Scene {
    /// Who has logged in; sits in the world.
    pub operator: Person,
    /// The device's agent.
    pub agent: Agent,
    /// The cluster.
    pub cluster: Cluster,
    /// The device's links.
    pub links: Arc<Emulator>,
    dir: TempDir,
}

impl Scene {
    /// A device that is linked over a perfect link; the seed decides what will be lost. Nothing, if
    /// this machine cannot emulate links.
    ///
    /// # Errors
    /// If the cluster or the agent does not start.
    pub fn new(seed: u64) -> Result<Option<Self>> {
        let mut scene = Self::stopped(seed)?;
        if let Some(scene) = &mut scene {
            scene.start()?;
        }
        Ok(scene)
    }

    /// As [`Self::new`], with an agent that has joined and waits for [`Self::start`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn stopped(seed: u64) -> Result<Option<Self>> {
        match Emulator::new(seed) {
            Ok(links) => Self::behind(links, "").map(Some),
            Err(_) => Ok(None),
        }
    }

    /// A device with this configuration that has joined over these links, and waits for
    /// [`Self::start`].
    ///
    /// # Errors
    /// If the cluster does not start, or the device cannot join.
    pub fn behind(links: Emulator, config: &str) -> Result<Self> {
        let links = Arc::new(links);
        let (dir, cluster) = Cluster::temporary()?;
        cluster.add_user("operator", "access", &me())?;
        let operator = cluster.logged_in("operator")?;
        let agent = cluster.device(NODE, Some(Network::from(&links)))?;
        agent.configure(config)?;
        cluster.admit(&agent, "")?;
        Ok(Self {
            operator,
            agent,
            cluster,
            links,
            dir,
        })
    }

    /// Starts the agent.
    ///
    /// # Errors
    /// If it does not link.
    pub fn start(&mut self) -> Result<()> {
        self.agent.start()?;
        self.cluster.wait_online(NODE, true)
    }

    /// The device's first link.
    #[must_use]
    pub fn wlan(&self) -> Link<'_> {
        self.links.link(Interface::Wlan)
    }

    /// The device's second link.
    #[must_use]
    pub fn wwan(&self) -> Link<'_> {
        self.links.link(Interface::Wwan)
    }

    /// Runs a command on the device by `tsh`.
    ///
    /// # Errors
    /// If `tsh` cannot be run, or does not end.
    pub fn ssh(&self, command: &str) -> Result<Finished> {
        self.ssh_with(command, b"")
    }

    /// As [`Self::ssh`], with standard input.
    ///
    /// # Errors
    /// As [`Self::ssh`].
    pub fn ssh_with(&self, command: &str, input: &[u8]) -> Result<Finished> {
        let target = format!("{}@{NODE}", me());
        self.operator.tsh_with(&["ssh", &target, command], input)
    }

    /// Waits until a command can be run on the device; says how long that took.
    ///
    /// # Errors
    /// If that does not come, with what `tsh`, agent and cluster say about it.
    pub fn reach(&self) -> Result<Duration> {
        let (start, mut last) = (Instant::now(), String::new());
        let reached = poll(REACH_LIMIT, || match self.ssh("true") {
            Ok(done) if done.code() == 0 => Some(()),
            Ok(done) => {
                last = done.stderr;
                None
            }
            Err(error) => {
                last = format!("{error:#}");
                None
            }
        });
        if reached.is_none() {
            let (agent, cluster) = (self.agent.log(), self.cluster.log());
            bail!("not reached: {last}\nthe agent:\n{agent}\nthe cluster:\n{cluster}");
        }
        Ok(start.elapsed())
    }

    /// A shell on the device, in a terminal.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn shell(&self) -> Result<Terminal> {
        let line = format!("tsh ssh {}@{NODE}", me());
        let terminal = Terminal::open(&self.operator, &line)?;
        terminal.enter("echo up=$TETHER_USER")?;
        terminal.wait_for("up=operator").context("no shell")?;
        Ok(terminal)
    }

    /// Waits until a line that is typed in a shell on the device gives its answer; says how long
    /// that took. The word makes it one of its own.
    ///
    /// # Errors
    /// If that does not come, with what the agent says about it.
    pub fn echo(&self, terminal: &Terminal, word: &str) -> Result<Duration> {
        let start = Instant::now();
        terminal.enter(&format!("echo {word}=$((6 * 7))"))?;
        let answer = format!("{word}=42");
        let seen = || terminal.screen().ok()?.contains(&answer).then_some(());
        if poll(REACH_LIMIT, seen).is_none() {
            bail!("no echo\n{}\n{}", terminal.screen()?, self.agent.log());
        }
        Ok(start.elapsed())
    }

    /// Lets time pass: for as long as something is to be gone, or idle.
    pub fn wait(&self, time: Duration) {
        // Only an interrupted run ends it early.
        let _: Option<()> = poll(time, || None);
    }

    /// A folder that goes away with this.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}

/// A scene for a test, which is skipped where links cannot be emulated.
#[macro_export]
macro_rules! scene {
    () => {{
        let Some(scene) = $crate::scene::Scene::new(7).unwrap() else {
            eprintln!("skipped: this machine does not let us emulate links");
            return;
        };
        scene
    }};
}
