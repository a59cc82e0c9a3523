//! Our side: an agent behind the links, a cluster and `tsh` in the world.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;
use hil_tests::cluster::{Accounts, Agent, Cluster, Person, me};
use hil_tests::net::Network;
use hil_tests::net::emulator::Emulator;
use hil_tests::scene::NODE;

use super::Side;

pub(in crate::bench) struct Ours {
    _agent: Agent,
    cluster: Cluster,
    operator: Person,
}

impl Ours {
    pub(in crate::bench) fn start(
        dir: &Path,
        bin: &Path,
        links: &Arc<Emulator>,
        keepalive: Option<&str>,
    ) -> Result<Self> {
        let mut cluster = Cluster::start_with(dir, "127.0.0.1", bin)?;
        cluster.use_plain_accounts()?;
        cluster.add_user("operator", "access", &me())?;
        let mut agent = cluster.joined_agent(NODE, "", Some(Network::from(links)))?;
        if let Some(profile) = keepalive {
            std::fs::write(agent.config_file(), format!("keepalive = \"{profile}\"\n"))?;
        }
        agent.start()?;
        cluster.wait_online(NODE, true)?;
        let operator = cluster.logged_in("operator")?;
        Ok(Self {
            _agent: agent,
            cluster,
            operator,
        })
    }

    /// The OS users that both sides have.
    pub(in crate::bench) fn accounts(&self) -> Option<&Accounts> {
        self.cluster.accounts().ok()
    }
}

impl Side for Ours {
    fn name(&self) -> &'static str {
        "Tether"
    }

    fn client_with(&self, options: &[&str], command: &str) -> Result<Command> {
        let mut tsh = self.operator.command()?;
        tsh.arg("ssh").args(options);
        tsh.args([&format!("{}@{NODE}", me()), command]);
        Ok(tsh)
    }

    fn port(&self) -> u16 {
        self.cluster.port()
    }
}
