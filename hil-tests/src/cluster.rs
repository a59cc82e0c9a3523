//! A cluster of one's own: its folder, its programs, its people.

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::net::Network;
use crate::process::{Daemon, Finished, poll, run};
use crate::programs;

mod accounts;
mod agent;
mod clock;
mod person;

pub use accounts::{Accounts, me};
pub use agent::Agent;
pub use person::Person;

use clock::Clock;

/// A program must be ready, a node online or gone, within this time on a busy machine.
pub const READY: Duration = Duration::from_secs(60);
/// Name of every test cluster.
pub const NAME: &str = "lab";
/// More events than any scenario makes.
const ALL: &str = "10000";
/// Password of every test user.
pub const PASSWORD: &str = "correct horse battery";

/// A running cluster in a folder of its own.
pub struct Cluster {
    dir: PathBuf,
    bin: PathBuf,
    port: u16,
    host: String,
    daemon: Option<Daemon>,
    accounts: Option<Accounts>,
    clock: Option<Clock>,
}

impl Cluster {
    /// Starts a cluster below `dir` that agents reach as `host`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(dir: &Path, host: &str) -> Result<Self> {
        Self::start_with(dir, host, &programs::dir()?)
    }

    /// As [`Self::start`], with the programs of another folder.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_with(dir: &Path, host: &str, bin: &Path) -> Result<Self> {
        let mut cluster = Self::stopped(dir, host, bin)?;
        cluster.resume()?;
        Ok(cluster)
    }

    /// Starts a cluster in a temporary folder, which goes away with the first returned value.
    ///
    /// # Errors
    /// If it does not start.
    pub fn temporary() -> Result<(tempfile::TempDir, Self)> {
        let dir = tempfile::tempdir()?;
        let mut cluster = Self::start(dir.path(), "127.0.0.1")?;
        cluster.use_plain_accounts()?;
        Ok((dir, cluster))
    }

    /// As [`Self::temporary`], with a clock that [`Self::set_clock`] sets, and that differs from
    /// everybody else's by `offset`, such as `-13h` or `+2d`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn with_clock(offset: &str) -> Result<(tempfile::TempDir, Self)> {
        let dir = tempfile::tempdir()?;
        let mut cluster = Self::stopped(dir.path(), "127.0.0.1", &programs::dir()?)?;
        cluster.clock = Some(Clock::new(dir.path(), offset)?);
        cluster.resume()?;
        cluster.use_plain_accounts()?;
        Ok((dir, cluster))
    }

    fn stopped(dir: &Path, host: &str, bin: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            bin: bin.to_owned(),
            port: free_port()?,
            host: host.into(),
            daemon: None,
            accounts: None,
            clock: None,
        })
    }

    /// Gives agents OS users of their own: see [`Accounts`]. Only root can do so.
    ///
    /// # Errors
    /// If their list cannot be written.
    pub fn use_plain_accounts(&mut self) -> Result<()> {
        if nix::unistd::geteuid().is_root() {
            self.accounts = Some(Accounts::plain(&self.dir)?);
        }
        Ok(())
    }

    /// The OS users that agents see.
    ///
    /// # Errors
    /// If they are those of this machine.
    pub fn accounts(&self) -> Result<&Accounts> {
        self.accounts
            .as_ref()
            .context("agents see the OS users of this machine")
    }

    /// Sets the cluster's clock, while it runs.
    ///
    /// # Errors
    /// If it was not started by [`Self::with_clock`].
    pub fn set_clock(&self, offset: &str) -> Result<()> {
        let clock = self.clock.as_ref();
        clock
            .context("this cluster has the clock of the machine")?
            .set(offset)
    }

    /// Starts the cluster again after [`Self::stop`] or [`Self::kill`].
    ///
    /// # Errors
    /// If it does not start.
    pub fn resume(&mut self) -> Result<()> {
        let mut command = Command::new(programs::in_dir(&self.bin, "tether")?);
        command
            .args(["start", "--data-dir"])
            .arg(self.data_dir())
            .args(["--public-addr", &self.addr()])
            .args(["--listen-addr", &format!("0.0.0.0:{}", self.port)])
            .args(["--cluster-name", NAME]);
        if let Some(clock) = &self.clock {
            clock.give_to(&mut command);
        }
        let before = self.log().matches("listening on TCP").count();
        let mut daemon = Daemon::start(&mut command, &self.log_file())?;
        let log = self.log_file();
        daemon.wait_until("listening", READY, || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            (text.matches("listening on TCP").count() > before).then_some(())
        })?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Stops it as an operator would.
    ///
    /// # Errors
    /// If it does not stop, or not with success.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.daemon.take().context("not running")?.stop()?;
        ensure!(status.success(), "{status}");
        Ok(())
    }

    /// Kills it as a power cut would.
    ///
    /// # Errors
    /// If it is not running.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.take().context("not running")?.kill();
        Ok(())
    }

    /// Stops it and sets it up anew at the same address: other CAs, no users, no nodes.
    ///
    /// # Errors
    /// If it does not stop or start.
    pub fn set_up_anew(&mut self) -> Result<()> {
        self.stop()?;
        std::fs::remove_dir_all(self.data_dir())?;
        self.resume()
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().map_or(0, Daemon::id)
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Folder of its data.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Its folder, for whatever else a scenario needs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Folder of the programs.
    #[must_use]
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// `host:port`.
    #[must_use]
    pub fn addr(&self) -> String {
        self.addr_from(None)
    }

    /// `host:port` as seen from behind a router.
    #[must_use]
    pub fn addr_from(&self, network: Option<&Network>) -> String {
        let host = network.map_or(self.host.clone(), Network::host_addr);
        format!("{host}:{}", self.port)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs `tctl`.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn tctl(&self, args: &[&str]) -> Result<Finished> {
        self.tctl_with(args, b"")
    }

    /// Runs `tctl` with standard input.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn tctl_with(&self, args: &[&str], input: &[u8]) -> Result<Finished> {
        let program = programs::in_dir(&self.bin, "tctl")?;
        run(
            Command::new(program)
                .arg("--data-dir")
                .arg(self.data_dir())
                .args(args),
            input,
        )
    }

    /// Runs `tctl` and reads its JSON.
    ///
    /// # Errors
    /// If it fails.
    pub fn tctl_json(&self, args: &[&str]) -> Result<Value> {
        let out = self.tctl(&[args, &["--format", "json"]].concat())?.ok()?;
        serde_json::from_str(&out).with_context(|| out)
    }

    /// The pin of its host CA.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub fn ca_pin(&self) -> Result<String> {
        Ok(text(&self.tctl_json(&["status"])?, "ca_pin"))
    }

    /// Makes a user with [`PASSWORD`].
    ///
    /// # Errors
    /// If that fails.
    pub fn add_user(&self, name: &str, roles: &str, logins: &str) -> Result<()> {
        let args = ["users", "add", name, "--roles", roles, "--logins", logins];
        let args = [&args[..], &["--password-file", "-"]].concat();
        self.tctl_with(&args, PASSWORD.as_bytes())?.ok()?;
        Ok(())
    }

    /// Makes a user who has yet to redeem the invite that is returned.
    ///
    /// # Errors
    /// If that fails.
    pub fn invite(&self, name: &str, roles: &str, logins: &str) -> Result<String> {
        let args = ["users", "add", name, "--roles", roles, "--logins", logins];
        Ok(text(&self.tctl_json(&args)?, "invite"))
    }

    /// Writes a resource from YAML.
    ///
    /// # Errors
    /// If that fails.
    pub fn create(&self, yaml: &str) -> Result<()> {
        self.tctl_with(&["create", "-f", "-"], yaml.as_bytes())?
            .ok()?;
        Ok(())
    }

    /// The events of a kind in the audit log, oldest first.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub fn audit(&self, code: &str) -> Result<Vec<Value>> {
        self.events(|event| text(event, "code") == code)
    }

    /// What became of a session, by the codes of its events in the audit log, oldest first.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub fn story(&self, sid: &str) -> Result<Vec<String>> {
        let events = self.events(|event| text(event, "sid") == sid)?;
        Ok(events.iter().map(|event| text(event, "code")).collect())
    }

    fn events(&self, wanted: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        let mut events = self.tctl_json(&["audit", "ls", "--last", ALL])?;
        let events = events.as_array_mut().context("not a list")?;
        events.retain(wanted);
        Ok(std::mem::take(events))
    }

    /// Makes sure that an event is in the audit log and in the log.
    ///
    /// # Errors
    /// If it is not, with what is there.
    pub fn audited(&self, code: &str, sentence: &str) -> Result<()> {
        let events = self.audit(code)?;
        let found = events
            .iter()
            .any(|event| event.to_string().contains(sentence));
        ensure!(found, "no {code} with {sentence:?} in {events:#?}");
        ensure!(self.log().contains(code), "the log has no line with {code}");
        Ok(())
    }

    /// Waits until the cluster lists a node as online or not.
    ///
    /// # Errors
    /// If that does not come.
    pub fn wait_online(&self, name: &str, online: bool) -> Result<()> {
        let seen = poll(READY, || {
            let nodes = self.tctl_json(&["nodes", "ls"]).ok()?;
            let node = nodes
                .as_array()?
                .iter()
                .find(|n| text(n, "name") == name)?
                .clone();
            (node.get("online") == Some(&Value::Bool(online))).then_some(())
        });
        if seen.is_none() {
            bail!(
                "{name} did not become {}\n{}",
                if online { "online" } else { "offline" },
                self.log()
            );
        }
        Ok(())
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("tether.log")
    }
}

/// A field as text.
#[must_use]
pub fn text(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// A port that nothing uses on TCP or UDP right now.
fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let tcp = TcpListener::bind("0.0.0.0:0")?;
        let port = tcp.local_addr()?.port();
        if UdpSocket::bind(("0.0.0.0", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port")
}
