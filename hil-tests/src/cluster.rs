//! A cluster of one's own: its folder, its programs, its people.

use std::ffi::OsString;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::net::Nat;
use crate::process::{Daemon, Finished, poll, run};
use crate::programs;

/// A program must be ready, a node online or gone, within this time on a busy machine.
pub const READY: Duration = Duration::from_secs(60);
/// Name of every test cluster.
pub const NAME: &str = "lab";
/// Password of every test user.
pub const PASSWORD: &str = "correct horse battery";

/// A running cluster in a folder of its own.
pub struct Cluster {
    dir: PathBuf,
    bin: PathBuf,
    port: u16,
    host: String,
    daemon: Option<Daemon>,
    plain_accounts: bool,
}

impl Cluster {
    /// Starts a cluster below `dir` that agents reach as `host`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(dir: &Path, host: &str) -> Result<Self> {
        Self::start_with(dir, host, &programs::dir()?)
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

    /// Gives agents a list of OS users in which everybody has `/bin/sh` and an empty home: sessions
    /// then do not depend on the start-up files of whoever runs this. Only root can do so.
    ///
    /// # Errors
    /// If the list cannot be written.
    pub fn use_plain_accounts(&mut self) -> Result<()> {
        self.plain_accounts = nix::unistd::geteuid().is_root();
        let home = self.dir.join("os-home");
        std::fs::create_dir_all(&home)?;
        let accounts = std::fs::read_to_string("/etc/passwd")?;
        let plain =
            accounts.lines().map(
                |line| match line.splitn(6, ':').collect::<Vec<_>>().get(..5) {
                    Some(fields) => format!("{}:{}:/bin/sh\n", fields.join(":"), home.display()),
                    None => format!("{line}\n"),
                },
            );
        Ok(std::fs::write(self.passwd(), plain.collect::<String>())?)
    }

    fn passwd(&self) -> PathBuf {
        self.dir.join("passwd")
    }

    /// As [`Self::start`], with the programs of another folder.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_with(dir: &Path, host: &str, bin: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut cluster = Self {
            dir: dir.to_owned(),
            bin: bin.to_owned(),
            port: free_port()?,
            host: host.into(),
            daemon: None,
            plain_accounts: false,
        };
        cluster.resume()?;
        Ok(cluster)
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
        let mut daemon = Daemon::start(&mut command, &self.log_file())?;
        let before = daemon.log().matches("listening on TCP").count();
        let log = self.log_file();
        daemon.wait_until("listening", READY, || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let lines = text.matches("listening on TCP").count();
            (lines > before || (before == 0 && lines > 0)).then_some(())
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
        anyhow::ensure!(status.success(), "{status}");
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
        format!("{}:{}", self.host, self.port)
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

    /// Writes a resource from YAML.
    ///
    /// # Errors
    /// If that fails.
    pub fn create(&self, yaml: &str) -> Result<()> {
        self.tctl_with(&["create", "-f", "-"], yaml.as_bytes())?
            .ok()?;
        Ok(())
    }

    /// Joins an agent and starts it; waits until it is online.
    ///
    /// # Errors
    /// If any of that fails.
    pub fn agent(&self, name: &str, labels: &str, nat: Option<Nat>) -> Result<Agent> {
        let mut agent = self.joined_agent(name, labels, nat)?;
        agent.start()?;
        self.wait_online(name, true)?;
        Ok(agent)
    }

    /// Joins an agent without starting it.
    ///
    /// # Errors
    /// If it cannot join.
    pub fn joined_agent(&self, name: &str, labels: &str, nat: Option<Nat>) -> Result<Agent> {
        let mut args = vec!["tokens", "add", "--type", "node", "--ttl", "10m"];
        if !labels.is_empty() {
            args.extend(["--labels", labels]);
        }
        let token = self.tctl_json(&args)?;
        let agent = Agent {
            dir: self.dir.join(format!("agent-{name}")),
            bin: self.bin.clone(),
            nat,
            daemon: None,
            passwd: self.plain_accounts.then(|| self.passwd()),
        };
        std::fs::create_dir_all(&agent.dir)?;
        let host = agent.nat.as_ref().map_or(self.host.clone(), Nat::host_addr);
        let cluster = format!("{host}:{}", self.port);
        let mut join = agent.command()?;
        join.args([
            "join",
            "--cluster",
            &cluster,
            "--node-name",
            name,
            "--token-file",
            "-",
        ]);
        join.args(["--ca-pin", &text(&token, "ca_pin"), "--data-dir"])
            .arg(agent.data_dir());
        run(&mut join, text(&token, "token").as_bytes())?.ok()?;
        Ok(agent)
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

    /// A person at a machine of their own.
    #[must_use]
    pub fn person(&self, name: &str) -> Person {
        Person {
            name: name.into(),
            home: self.dir.join(format!("home-{name}")),
            bin: self.bin.clone(),
        }
    }

    /// A person who has logged in.
    ///
    /// # Errors
    /// If that fails.
    pub fn logged_in(&self, name: &str) -> Result<Person> {
        let person = self.person(name);
        person.login(self, PASSWORD)?.ok()?;
        Ok(person)
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("tether.log")
    }
}

/// A device with its agent.
pub struct Agent {
    dir: PathBuf,
    bin: PathBuf,
    nat: Option<Nat>,
    daemon: Option<Daemon>,
    passwd: Option<PathBuf>,
}

impl Agent {
    /// Starts the agent.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let mut command = self.command()?;
        command.args(["start", "--data-dir"]).arg(self.data_dir());
        self.daemon = Some(Daemon::start(&mut command, &self.dir.join("agent.log"))?);
        Ok(())
    }

    /// Stops it as an operator would.
    ///
    /// # Errors
    /// If it does not stop, or not with success.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.daemon.take().context("not running")?.stop()?;
        anyhow::ensure!(status.success(), "{status}\n{}", self.log());
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

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().map_or(0, Daemon::id)
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default()
    }

    /// The one folder it writes to.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The network it is in, if it has one of its own.
    #[must_use]
    pub fn nat(&self) -> Option<&Nat> {
        self.nat.as_ref()
    }

    /// `tether-agent` on this device, without the configuration of the machine we run on.
    ///
    /// # Errors
    /// If it is not built.
    pub fn command(&self) -> Result<Command> {
        let program = programs::in_dir(&self.bin, "tether-agent")?;
        let (first, rest) = match &self.passwd {
            // A mount of its own, which goes away with the process.
            Some(passwd) => (PathBuf::from("unshare"), in_own_mounts(passwd, &program)),
            None => (program, Vec::new()),
        };
        let mut command = match &self.nat {
            Some(nat) => nat.command(&first),
            None => Command::new(first),
        };
        command.args(rest);
        let config = self.dir.join("agent.toml");
        if !config.exists() {
            std::fs::write(&config, "")?;
        }
        command.env("TETHER_CONFIG", config);
        Ok(command)
    }

    /// Its configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("agent.toml")
    }
}

fn in_own_mounts(passwd: &Path, program: &Path) -> Vec<OsString> {
    let script = "mount --bind \"$0\" /etc/passwd && exec \"$@\"";
    let words = ["--mount", "--propagation", "private", "sh", "-c", script];
    let paths = [passwd, program].map(|path| path.as_os_str().to_owned());
    words.iter().map(OsString::from).chain(paths).collect()
}

/// Somebody with `tsh`.
pub struct Person {
    /// The Tether user.
    pub name: String,
    /// Where `tsh` keeps its things.
    pub home: PathBuf,
    bin: PathBuf,
}

impl Person {
    /// `tsh` of this person, without an ssh-agent.
    ///
    /// # Errors
    /// If it is not built.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(programs::in_dir(&self.bin, "tsh")?);
        command
            .env("TSH_HOME", &self.home)
            .env_remove("SSH_AUTH_SOCK");
        Ok(command)
    }

    /// Runs `tsh`.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn tsh(&self, args: &[&str]) -> Result<Finished> {
        self.tsh_with(args, b"")
    }

    /// Runs `tsh` with standard input.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn tsh_with(&self, args: &[&str], input: &[u8]) -> Result<Finished> {
        run(self.command()?.args(args), input)
    }

    /// Logs in.
    ///
    /// # Errors
    /// If `tsh` cannot be run.
    pub fn login(&self, cluster: &Cluster, password: &str) -> Result<Finished> {
        let (addr, pin) = (cluster.addr(), cluster.ca_pin()?);
        let args = [
            "login", "--proxy", &addr, "--user", &self.name, "--ca-pin", &pin,
        ];
        self.tsh_with(
            &[&args[..], &["--password-file", "-"]].concat(),
            password.as_bytes(),
        )
    }

    /// Writes what `tsh config` prints to a file, for `ssh -F`.
    ///
    /// # Errors
    /// If that fails.
    pub fn ssh_config(&self) -> Result<PathBuf> {
        let path = self.home.join("ssh_config");
        std::fs::write(&path, self.tsh(&["config"])?.ok()?)?;
        Ok(path)
    }
}

/// The OS user that this runs as, and so the agents it starts.
#[must_use]
pub fn me() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .ok()
        .flatten();
    user.map_or_else(|| "root".into(), |user| user.name)
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
