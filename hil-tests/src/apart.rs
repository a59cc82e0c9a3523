//! A person and a device behind emulated links of their own, and a cluster between them in the
//! world.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::cluster::{Agent, Cluster, PASSWORD, Person, me, text};
use crate::net::Network;
use crate::net::emulator::Emulator;
use crate::process::poll;
use crate::scene::{NODE, REACH_LIMIT};

/// A session begins, goes on without its client, is come back to, and is over: codes of the audit
/// log.
pub const STARTED: &str = "T2000I";
/// See [`STARTED`].
pub const DETACHED: &str = "TS001I";
/// See [`STARTED`].
pub const ATTACHED: &str = "TS002I";
/// See [`STARTED`].
pub const ENDED: &str = "T2004I";

/// All of them.
pub struct Apart {
    /// Who has logged in.
    pub operator: Person,
    /// The device's agent.
    pub agent: Agent,
    /// The cluster.
    pub cluster: Cluster,
    /// The person's links.
    pub near: Arc<Emulator>,
    /// The device's links.
    pub far: Arc<Emulator>,
    dir: TempDir,
}

impl Apart {
    /// A person with these options of a role, such as `resume_grace: 3s`, and a linked device with
    /// this configuration. Nothing, if this machine cannot emulate links.
    ///
    /// # Errors
    /// If the cluster or the agent does not start.
    pub fn new(options: &str, config: &str) -> Result<Option<Self>> {
        let (Ok(near), Ok(far)) = (Emulator::new(7), Emulator::new(8)) else {
            return Ok(None);
        };
        let (near, far) = (Arc::new(near), Arc::new(far));
        let (dir, cluster) = Cluster::temporary()?;
        cluster.create(&format!(
            "kind: role\nversion: v1\nmetadata: {{name: apart}}\nspec:\n  options: {{{options}}}\n"
        ))?;
        cluster.add_user("operator", "access,apart", &me())?;
        let mut operator = cluster.person("operator");
        operator.move_behind(Network::from(&near));
        operator.login(&cluster, PASSWORD)?.ok()?;
        let mut agent = cluster.device(NODE, Some(Network::from(&far)))?;
        agent.configure(config)?;
        cluster.admit(&agent, "")?;
        agent.start()?;
        cluster.wait_online(NODE, true)?;
        Ok(Some(Self {
            operator,
            agent,
            cluster,
            near,
            far,
            dir,
        }))
    }

    /// The sessions that events of the audit log are about, one an event.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub fn sessions(&self, code: &str) -> Result<Vec<String>> {
        let events = self.cluster.audit(code)?;
        Ok(events.iter().map(|event| text(event, "sid")).collect())
    }

    /// Waits for so many of these events, in all.
    ///
    /// # Errors
    /// If they do not come, with what the agent says about it.
    pub fn wait_for(&self, code: &str, count: usize) -> Result<()> {
        let mut there = 0;
        let enough = poll(REACH_LIMIT, || {
            there = self.sessions(code).ok()?.len();
            (there >= count).then_some(())
        });
        if enough.is_none() {
            bail!("{there} of {count} {code}\n{}", self.agent.log());
        }
        Ok(())
    }

    /// A folder that goes away with this.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}

/// Lets nothing pass for a while.
pub fn cut_for(links: &[&Emulator], time: Duration) {
    for link in links {
        link.cut();
    }
    // Only an interrupted run ends it early.
    let _: Option<()> = poll(time, || None);
    for link in links {
        link.mend();
    }
}

/// Both ends apart, for a test that is skipped where links cannot be emulated.
#[macro_export]
macro_rules! apart {
    ($options:expr, $config:expr) => {{
        let Some(apart) = $crate::apart::Apart::new($options, $config).unwrap() else {
            eprintln!("skipped: this machine does not let us emulate links");
            return;
        };
        apart
    }};
}
