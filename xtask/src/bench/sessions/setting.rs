//! One device, one cluster, and somebody whose sessions are kept or not, as roles say.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Result, ensure};
use hil_tests::cluster::{Agent, Cluster, PASSWORD, Person, me};
use hil_tests::net::Network;
use hil_tests::net::emulator::Emulator;
use hil_tests::process::run;
use hil_tests::scene::NODE;

use crate::bench::links::ORDINARY;

/// Ends sessions with their links.
const PLAIN: &str = "kind: role\nversion: v1\nmetadata: {name: plain}\n\
                     spec:\n  options: {resume_grace: 0s}\n";
/// What `tsh -d` says of a session without the layer.
const WILL_NOT: &str = "the session will not outlive its link";

/// Who uses the device, from the world and from behind links.
pub(super) struct User {
    near: Person,
    far: Person,
}

/// See the [module](self).
pub(super) struct Setting {
    /// Sessions are kept.
    pub(super) with: User,
    /// They are not.
    pub(super) without: User,
    pub(super) agent: Agent,
    cluster: Cluster,
    /// The device's links.
    pub(super) links: Arc<Emulator>,
    /// Those of people who are not in the world.
    pub(super) away: Arc<Emulator>,
}

impl Setting {
    pub(super) fn new(dir: &Path, bin: &Path) -> Result<Self> {
        let [links, away] = [(); 2].map(|()| Emulator::new(super::SEED).map(Arc::new));
        let (links, away) = (links?, away?);
        links.use_congestion_control(ORDINARY)?;
        let mut cluster = Cluster::start_with(dir, "127.0.0.1", bin)?;
        cluster.use_plain_accounts()?;
        cluster.create(PLAIN)?;
        cluster.add_user("with", "access", &me())?;
        cluster.add_user("without", "access,plain", &me())?;
        let agent = cluster.agent(NODE, "", Some(Network::from(&links)))?;
        let setting = Self {
            with: User::new(&cluster, "with", &away)?,
            without: User::new(&cluster, "without", &away)?,
            agent,
            cluster,
            links,
            away,
        };
        ensure!(setting.with.is_kept()?, "sessions are not kept");
        ensure!(!setting.without.is_kept()?, "sessions are kept");
        Ok(setting)
    }

    /// The programs on both sides of the client's.
    pub(super) fn daemons(&self) -> [u32; 2] {
        [self.cluster.pid(), self.agent.pid()]
    }

    /// Starts the agent anew.
    pub(super) fn restart_agent(&mut self) -> Result<()> {
        self.agent.stop()?;
        self.cluster.wait_online(NODE, false)?;
        self.agent.start()?;
        self.cluster.wait_online(NODE, true)
    }
}

impl User {
    fn new(cluster: &Cluster, name: &str, away: &Arc<Emulator>) -> Result<Self> {
        let near = cluster.logged_in(name)?;
        let mut far = cluster.person(name);
        far.home = cluster.dir().join(format!("home-{name}-away"));
        far.move_behind(Network::from(away));
        far.login(cluster, PASSWORD)?.ok()?;
        Ok(Self { near, far })
    }

    /// `tsh ssh` from the world.
    pub(super) fn near(&self, command: &str) -> Result<Command> {
        ssh(&self.near, &[], command)
    }

    /// The same from behind links.
    pub(super) fn far(&self, command: &str) -> Result<Command> {
        ssh(&self.far, &[], command)
    }

    fn is_kept(&self) -> Result<bool> {
        let told = run(&mut ssh(&self.near, &["-d"], "true")?, b"")?;
        ensure!(told.status.success(), "{told:?}");
        Ok(!told.stderr.contains(WILL_NOT))
    }
}

fn ssh(person: &Person, options: &[&str], command: &str) -> Result<Command> {
    let mut tsh = person.command()?;
    tsh.args(options);
    tsh.args(["ssh", &format!("{}@{NODE}", me()), command]);
    Ok(tsh)
}
