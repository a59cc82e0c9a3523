//! OpenSSH's ssh-agent.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::cluster::READY;
use crate::process::{Daemon, run};

/// A running ssh-agent.
pub struct SshAgent {
    socket: PathBuf,
    _daemon: Daemon,
}

impl SshAgent {
    /// Starts one with its socket below `dir`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(dir: &Path) -> Result<Self> {
        let socket = dir.join("ssh-agent.sock");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket);
        let mut daemon = Daemon::start(&mut command, &dir.join("ssh-agent.log"))?;
        daemon.wait_until("ssh-agent's socket", READY, || {
            socket.exists().then_some(())
        })?;
        Ok(Self {
            socket,
            _daemon: daemon,
        })
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The keys and certificates it holds, one a line.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn keys(&self) -> Result<Vec<String>> {
        let mut list = Command::new("ssh-add");
        list.arg("-l").env("SSH_AUTH_SOCK", &self.socket);
        // Without a key it says so, with exit code 1.
        let listed = run(&mut list, b"")?.stdout;
        let keys = listed.lines().filter(|line| line.contains("ED25519"));
        Ok(keys.map(str::to_owned).collect())
    }
}
