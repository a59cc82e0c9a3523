//! A device with its agent.

use std::ffi::OsString;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::User;

use super::clock::Clock;
use super::{Accounts, Cluster, READY, text};
use crate::net::Network;
use crate::process::{Daemon, Finished, poll, run};
use crate::programs;

/// A device: a folder, a network, a program that may run.
pub struct Agent {
    name: String,
    dir: PathBuf,
    program: PathBuf,
    network: Option<Network>,
    daemon: Option<Daemon>,
    accounts: Option<Accounts>,
    user: Option<User>,
    clock: Option<Clock>,
}

impl Cluster {
    /// Joins an agent and starts it; waits until it is online.
    ///
    /// # Errors
    /// If any of that fails.
    pub fn agent(&self, name: &str, labels: &str, network: Option<Network>) -> Result<Agent> {
        let mut agent = self.joined_agent(name, labels, network)?;
        agent.start()?;
        self.wait_online(name, true)?;
        Ok(agent)
    }

    /// Joins an agent without starting it.
    ///
    /// # Errors
    /// If it cannot join.
    pub fn joined_agent(
        &self,
        name: &str,
        labels: &str,
        network: Option<Network>,
    ) -> Result<Agent> {
        let agent = self.device(name, network)?;
        self.admit(&agent, labels)?;
        Ok(agent)
    }

    /// A device that has not joined.
    ///
    /// # Errors
    /// If its folder cannot be made.
    pub fn device(&self, name: &str, network: Option<Network>) -> Result<Agent> {
        let dir = self.dir.join(format!("agent-{name}"));
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("agent.toml"), "")?;
        Ok(Agent {
            name: name.into(),
            dir,
            program: programs::in_dir(&self.bin, "tether-agent")?,
            network,
            daemon: None,
            accounts: self.accounts.clone(),
            user: None,
            clock: None,
        })
    }

    /// Joins a device with a token of its own.
    ///
    /// # Errors
    /// If it cannot join.
    pub fn admit(&self, agent: &Agent, labels: &str) -> Result<()> {
        let mut args = vec!["tokens", "add", "--type", "node", "--ttl", "10m"];
        if !labels.is_empty() {
            args.extend(["--labels", labels]);
        }
        let token = self.tctl_json(&args)?;
        let (secret, pin) = (text(&token, "token"), text(&token, "ca_pin"));
        agent.join(self, &secret, &pin, &[])?.ok()?;
        Ok(())
    }
}

impl Agent {
    /// Makes it run as an ordinary user from now on. Only root can do so, and only for agents with
    /// [`Accounts`] of their own.
    ///
    /// # Errors
    /// If there is no such user.
    pub fn run_as(&mut self, user: &str) -> Result<()> {
        ensure!(self.accounts.is_some(), "this needs accounts of its own");
        let user = User::from_name(user)?.with_context(|| format!("no user {user}"))?;
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        chown(&self.dir, Some(uid), Some(gid))?;
        // Wherever it was built, that user may not look.
        self.install()?;
        self.user = Some(user);
        Ok(())
    }

    /// Gives it a program of its own, in place of the one that it has there, as an update would.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn install(&mut self) -> Result<PathBuf> {
        let program = self.dir.join("tether-agent");
        let newer = self.dir.join("tether-agent.new");
        std::fs::copy(&self.program, &newer)?;
        std::fs::rename(&newer, &program)?;
        self.program.clone_from(&program);
        Ok(program)
    }

    /// Sends its process a signal.
    ///
    /// # Errors
    /// If it is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.daemon.as_ref().context("not running")?.signal(signal)
    }

    /// Sets its clock, in seconds since the Unix epoch, from the next start on.
    ///
    /// # Errors
    /// If this machine cannot give it a clock of its own.
    pub fn set_clock(&mut self, time: u64) -> Result<()> {
        self.clock = Some(Clock::new(&self.dir, &Clock::offset(time))?);
        Ok(())
    }

    /// Gives it this configuration, from the next start on.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn configure(&self, text: &str) -> Result<()> {
        Ok(std::fs::write(self.config_file(), text)?)
    }

    /// Runs `tether-agent join` with a token.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn join(
        &self,
        cluster: &Cluster,
        token: &str,
        pin: &str,
        more: &[&str],
    ) -> Result<Finished> {
        let addr = cluster.addr_from(self.network.as_ref());
        let args = ["join", "--cluster", &addr, "--ca-pin", pin];
        let named = ["--node-name", &self.name, "--token-file", "-"];
        self.run(&[&args[..], &named, more].concat(), token.as_bytes())
    }

    /// Starts the agent.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let mut command = self.command()?;
        self.daemon = Some(Daemon::start(command.arg("start"), &self.log_file())?);
        Ok(())
    }

    /// Stops it as an operator would.
    ///
    /// # Errors
    /// If it does not stop, or not with success.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.daemon.take().context("not running")?.stop()?;
        ensure!(status.success(), "{status}\n{}", self.log());
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

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The one folder it writes to.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Its configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("agent.toml")
    }

    /// The network it is in, if it has one of its own.
    #[must_use]
    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// Runs `tether-agent` on this device.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn run(&self, args: &[&str], input: &[u8]) -> Result<Finished> {
        run(self.command()?.args(args), input)
    }

    /// Asks for its status until it says so; gives all of it, as JSON.
    ///
    /// # Errors
    /// If that does not come, with the last status and the log.
    pub fn wait_for_status(&self, wanted: &str) -> Result<String> {
        let mut last = String::new();
        let seen = poll(READY, || {
            last = self.run(&["status", "--format", "json"], b"").ok()?.stdout;
            last.contains(wanted).then_some(())
        });
        match seen {
            Some(()) => Ok(last),
            None => bail!("no {wanted} in {last}\n{}", self.log()),
        }
    }

    /// `tether-agent` on this device, without the configuration of the machine we run on.
    ///
    /// # Errors
    /// If it cannot be named.
    pub fn command(&self) -> Result<Command> {
        let before = self.accounts.as_ref().map(|a| a.before(self.user.as_ref()));
        let program = OsString::from(&self.program);
        let mut words = before.unwrap_or_default().into_iter().chain([program]);
        let first = PathBuf::from(words.next().context("no program")?);
        let mut command = match &self.network {
            Some(network) => network.command(&first),
            None => Command::new(first),
        };
        command
            .args(words)
            .env("TETHER_CONFIG", self.config_file())
            .env("TETHER_DATA_DIR", self.data_dir())
            .env_remove("TETHER_TOKEN");
        if let Some(clock) = &self.clock {
            clock.give_to(&mut command);
        }
        Ok(command)
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("agent.log")
    }
}
