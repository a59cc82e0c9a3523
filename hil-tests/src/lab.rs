//! A laboratory: a device, a cluster that it joins, and somebody with `tsh`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{Cluster, Person, text};
use crate::device::{Device, boot};
use crate::process::{Finished, poll};

/// A device must be reachable within this time once it is up and its link works: what a board in an
/// emulator needs to join, and the longest pause between two tries.
pub const REACH_LIMIT: Duration = Duration::from_secs(180);
/// The user who may log in as root everywhere.
const OPERATOR: &str = "operator";

/// A device with all that is around it.
pub struct Lab {
    /// The cluster.
    pub cluster: Cluster,
    /// Who has logged in.
    pub operator: Person,
    /// The device.
    pub device: Box<dyn Device>,
    /// The cluster's folder, which goes away with this.
    _dir: TempDir,
}

impl Lab {
    /// Starts a cluster and prepares the device to join it at its next start.
    ///
    /// # Errors
    /// If any of that fails.
    pub fn new(mut device: Box<dyn Device>) -> Result<Self> {
        let (dir, cluster) = Cluster::with_clock("+0s")?;
        cluster.add_user(OPERATOR, "access", "root")?;
        let operator = cluster.logged_in(OPERATOR)?;
        let token = cluster.tctl_json(&["tokens", "add", "--type", "node", "--ttl", "1h"])?;
        let config = config(&*device, &cluster, &text(&token, "ca_pin"));
        device.install(&[
            ("config/agent.toml", &config),
            ("config/token", &text(&token, "token")),
        ])?;
        Ok(Self {
            cluster,
            operator,
            device,
            _dir: dir,
        })
    }

    /// Switches the device on and waits until it is reachable; says how long that took.
    ///
    /// # Errors
    /// If it does not start or cannot be reached, with what it says about that.
    pub fn start(&mut self) -> Result<Duration> {
        let started = Instant::now();
        boot(&mut *self.device)?;
        self.reach()?;
        Ok(started.elapsed())
    }

    /// Waits until a command can be run on the device.
    ///
    /// # Errors
    /// If that does not come, with what the device says about it.
    pub fn reach(&mut self) -> Result<()> {
        let mut last = String::new();
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
        if reached.is_some() {
            return Ok(());
        }
        let name = self.device.name().to_owned();
        let inside = self.device.console().and_then(|console| {
            let look = "ps; tether-agent status; dmesg | tail -n 40";
            Ok(console.run(look)?.stdout)
        });
        let inside = inside.unwrap_or_else(|error| format!("{error:#}"));
        bail!("{name} cannot be reached: {last}\non its console:\n{inside}")
    }

    /// Runs a command on the device by `tsh`, as root.
    ///
    /// # Errors
    /// If `tsh` cannot be run.
    pub fn ssh(&self, command: &str) -> Result<Finished> {
        let login = format!("root@{}", self.device.name());
        self.operator.tsh(&["ssh", &login, "--", command])
    }

    /// Runs a command in the shell on the serial console.
    ///
    /// # Errors
    /// If it fails.
    pub fn inside(&mut self, command: &str) -> Result<String> {
        let done = self.device.console()?.run(command)?;
        done.ok()
            .with_context(|| format!("on the console: {command}"))
    }

    /// The node, as the cluster lists it.
    ///
    /// # Errors
    /// If it is not there.
    pub fn node(&self) -> Result<Value> {
        let nodes = self.cluster.tctl_json(&["nodes", "ls"])?;
        let nodes = nodes.as_array().context("a list")?;
        ensure!(nodes.len() == 1, "expected one node: {nodes:?}");
        nodes.first().cloned().context("a node")
    }

    /// Its identity: the id that the cluster gave, and the key that never leaves it.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn identity(&mut self) -> Result<(String, String)> {
        let id = text(&self.node()?, "id");
        ensure!(!id.is_empty(), "a node has an id");
        let key = self.inside("sha256sum < /var/lib/tether-agent/node.key")?;
        Ok((id, key))
    }
}

fn config(device: &dyn Device, cluster: &Cluster, pin: &str) -> String {
    format!(
        "cluster = \"{host}:{port}\"\n\
         ca_pin = \"{pin}\"\n\
         token_file = \"/etc/tether/token\"\n\
         node_name = \"{name}\"\n\
         [labels]\n\
         board = \"{name}\"\n\
         [[command_labels]]\n\
         name = \"kernel\"\n\
         command = [\"uname\", \"-r\"]\n\
         period = \"1h\"\n",
        host = device.host(),
        port = cluster.port(),
        name = device.name(),
    )
}
