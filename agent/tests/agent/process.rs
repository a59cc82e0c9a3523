//! The agent as a process.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::cluster::{Cluster, SOON, TOKEN};

/// A device: a folder for the agent's state and configuration.
pub(crate) struct Device {
    folder: tempfile::TempDir,
}

/// A running agent; killed when dropped.
pub(crate) struct Agent(Child);

impl Device {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn state(&self) -> Vec<u8> {
        std::fs::read(self.path().join("data/node.state")).unwrap()
    }

    /// Writes the configuration that all commands of this device use.
    pub(crate) fn configure(&self, text: &str) {
        std::fs::write(self.path().join("agent.toml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tether-agent"));
        let config = self.path().join("agent.toml");
        if config.exists() {
            command.env("TETHER_CONFIG", config);
        }
        command
            .env_remove("TETHER_TOKEN")
            .env("TETHER_LOG", "debug")
            .env("TETHER_DATA_DIR", self.path().join("data"))
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        let output = timeout(SOON * 3, self.command(arguments).output()).await;
        Ran::from(output.expect("the agent does not end").unwrap())
    }

    pub(crate) async fn join(&self, cluster: &Cluster) -> Ran {
        self.join_with(cluster, TOKEN, &cluster.authority.pin())
            .await
    }

    pub(crate) async fn join_with(&self, cluster: &Cluster, token: &str, pin: &str) -> Ran {
        let address = cluster.address.to_string();
        let join = [
            "join",
            "--cluster",
            &address,
            "--token",
            token,
            "--ca-pin",
            pin,
        ];
        self.run(&[&join[..], &["--node-name", "gateway-1"]].concat())
            .await
    }

    pub(crate) fn start(&self) -> Agent {
        Agent(self.command(&["start"]).spawn().unwrap())
    }

    /// Asks for the status until it says so.
    pub(crate) async fn status_says(&self, wanted: &str) -> String {
        let patience = Instant::now();
        loop {
            let ran = self.run(&["status", "--format", "json"]).await;
            if ran.out.contains(wanted) {
                return ran.out;
            }
            assert!(patience.elapsed() < SOON, "{wanted} / {}", ran.out);
            tokio::task::yield_now().await;
        }
    }
}

impl Agent {
    /// Asks the agent to end; gives its exit code and how long it took.
    pub(crate) async fn stop(mut self) -> (i32, Duration) {
        let id = i32::try_from(self.0.id().unwrap()).unwrap();
        let asked = Instant::now();
        kill(Pid::from_raw(id), Signal::SIGTERM).unwrap();
        let status = timeout(SOON, self.0.wait())
            .await
            .expect("the agent does not end")
            .unwrap();
        (status.code().unwrap_or(-1), asked.elapsed())
    }
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            error: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
