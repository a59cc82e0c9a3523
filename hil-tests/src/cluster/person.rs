//! Somebody with `tsh` and OpenSSH, at a machine of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Cluster, PASSWORD, me};
use crate::net::Network;
use crate::openssh::SshAgent;
use crate::process::{Finished, run};
use crate::programs;

/// A user of a cluster.
pub struct Person {
    /// The Tether user.
    pub name: String,
    /// Where `tsh` keeps its things.
    pub home: PathBuf,
    bin: PathBuf,
    network: Option<Network>,
    ssh_agent: Option<PathBuf>,
}

impl Cluster {
    /// A person at a machine of their own.
    #[must_use]
    pub fn person(&self, name: &str) -> Person {
        Person {
            name: name.into(),
            home: self.dir.join(format!("home-{name}")),
            bin: self.bin.clone(),
            network: None,
            ssh_agent: None,
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

    /// Waits until a node is online, and runs a command on it as `operator`.
    ///
    /// # Errors
    /// If it does not come, or the command does not come through.
    pub fn check_reach(&self, node: &str) -> Result<()> {
        self.wait_online(node, true)?;
        let target = format!("{}@{node}", me());
        let operator = self.logged_in("operator")?;
        let said = operator.tsh(&["ssh", &target, "echo here"])?.ok()?;
        ensure!(said == "here\n", "{node} says {said:?}");
        Ok(())
    }
}

impl Person {
    /// Sits behind a router from now on.
    pub fn move_behind(&mut self, network: impl Into<Network>) {
        self.network = Some(network.into());
    }

    /// Has a running ssh-agent from now on.
    pub fn use_ssh_agent(&mut self, agent: &SshAgent) {
        self.ssh_agent = Some(agent.socket().to_owned());
    }

    /// Any program, where and as this person would run it.
    #[must_use]
    pub fn program(&self, program: &Path) -> Command {
        let mut command = match &self.network {
            Some(network) => network.command(program),
            None => Command::new(program),
        };
        command.env("TSH_HOME", &self.home);
        for of_whoever_runs_this in ["TSH_PROXY", "TSH_USER", "TSH_NO_AGENT"] {
            command.env_remove(of_whoever_runs_this);
        }
        match &self.ssh_agent {
            Some(socket) => command.env("SSH_AUTH_SOCK", socket),
            None => command.env_remove("SSH_AUTH_SOCK"),
        };
        command
    }

    /// `tsh` of this person.
    ///
    /// # Errors
    /// If it is not built.
    pub fn command(&self) -> Result<Command> {
        Ok(self.program(&programs::in_dir(&self.bin, "tsh")?))
    }

    /// Folder of the programs.
    #[must_use]
    pub fn bin(&self) -> &Path {
        &self.bin
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
        self.login_with(cluster, password, &["--ca-pin", &cluster.ca_pin()?])
    }

    /// Logs in with these options; without the pin, unless it is among them.
    ///
    /// # Errors
    /// If `tsh` cannot be run.
    pub fn login_with(&self, cluster: &Cluster, password: &str, more: &[&str]) -> Result<Finished> {
        let addr = cluster.addr_from(self.network.as_ref());
        let args = ["login", "--proxy", &addr, "--user", &self.name];
        let from = ["--password-file", "-"];
        self.tsh_with(&[&args[..], &from, more].concat(), password.as_bytes())
    }

    /// A file that `tsh` keeps for the only cluster it knows.
    ///
    /// # Errors
    /// If there is no login.
    pub fn kept(&self, name: &str) -> Result<PathBuf> {
        let entries = std::fs::read_dir(self.home.join("keys"))?;
        let paths = entries.map(|entry| Ok(entry?.path()));
        let paths: Result<Vec<_>> = paths.collect();
        let entry = paths?.into_iter().find(|path| path.is_dir());
        Ok(entry.context("tsh keeps nothing")?.join(name))
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

    /// OpenSSH, with what `tsh config` prints.
    ///
    /// # Errors
    /// If that fails.
    pub fn ssh(&self) -> Result<Command> {
        let mut ssh = self.program(Path::new("ssh"));
        ssh.arg("-F").arg(self.ssh_config()?);
        ssh.args(["-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]);
        Ok(ssh)
    }
}
