//! Our side: a cluster, an agent and `tsh`, all on this machine.

use std::any::Any;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use hil_tests::cluster::{Accounts, Agent, Cluster, Person, READY};
use hil_tests::process::Daemon;
use hil_tests::swarm::{Swarm, Target};

use super::{Side, proc};

/// Agents idle this long before memory is read: past the first heartbeats.
const SETTLE: Duration = Duration::from_secs(40);

pub(super) struct Tether {
    agent: Agent,
    cluster: Cluster,
    operator: Person,
    target: String,
}

impl Tether {
    pub(super) fn start(dir: &Path, bin: &Path) -> Result<Self> {
        let mut cluster = Cluster::start_with(dir, "127.0.0.1", bin)?;
        cluster.use_plain_accounts()?;
        let me = hil_tests::cluster::me();
        cluster.add_user("operator", "access", &me)?;
        let agent = cluster.agent("gateway-1", "", None)?;
        let operator = cluster.logged_in("operator")?;
        Ok(Self {
            agent,
            cluster,
            operator,
            target: format!("{me}@gateway-1"),
        })
    }

    /// The OS users that both devices have: what a login shell does at its start would otherwise be
    /// most of a session's set-up.
    pub(super) fn accounts(&self) -> Option<&Accounts> {
        self.cluster.accounts().ok()
    }

    /// Memory of an agent that has linked and done nothing else.
    pub(super) fn fresh_agent_pss(&self) -> Result<f64> {
        let agent = self.cluster.agent("gateway-2", "", None)?;
        std::thread::sleep(SETTLE);
        Ok(proc::pss_kib(&[agent.pid()]))
    }

    /// What each of many idle agents adds to the cluster's memory.
    pub(super) fn memory_per_agent(&self, count: usize) -> Result<f64> {
        let token = self.cluster.tctl_json(&["tokens", "add", "--ttl", "1h"])?;
        let target = Target {
            addr: format!("127.0.0.1:{}", self.cluster.port()).parse()?,
            ca: self
                .cluster
                .tctl(&["auth", "export", "--type", "tls"])?
                .ok()?,
            token: hil_tests::cluster::text(&token, "token"),
        };
        let before = proc::pss_kib(&[self.cluster.pid()]);
        let swarm = Swarm::start(&target, count)?;
        swarm.idle(SETTLE);
        let after = proc::pss_kib(&[self.cluster.pid()]);
        Ok((after - before) / swarm.len() as f64)
    }

    fn tsh(&self, command: &str) -> Result<Command> {
        let mut tsh = self.operator.command()?;
        tsh.args(["ssh", &self.target, command]);
        Ok(tsh)
    }
}

impl Side for Tether {
    fn exec(&self, command: &str, stdin: &str, stdout: &str) -> Result<()> {
        super::openssh::to_end(&mut self.tsh(command)?, stdin, stdout)
    }

    fn daemons(&self) -> Vec<u32> {
        vec![self.cluster.pid(), self.agent.pid()]
    }

    fn device(&self) -> Vec<u32> {
        vec![self.agent.pid()]
    }

    fn hold_session(&self) -> Result<Box<dyn Any>> {
        let log = self.operator.home.join("held.log");
        let mut daemon = Daemon::start(&mut self.tsh("echo up; exec sleep 600")?, &log)?;
        daemon.wait_until("a session", READY, || {
            std::fs::read_to_string(&log)
                .unwrap_or_default()
                .contains("up")
                .then_some(())
        })?;
        Ok(Box::new(daemon))
    }

    fn size(&self) -> Result<u64> {
        let program = std::fs::read(self.cluster.bin().join("tether-agent"))?;
        Ok(::cross::elf::strip(&program)?.len() as u64)
    }
}
