//! The agent as a process.

use std::path::Path;
use std::process::{Output, Stdio};

use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::cluster::{Cluster, SOON, TOKEN};

/// A device: a folder for the agent's state.
pub(crate) struct Device {
    folder: tempfile::TempDir,
}

/// A running agent; killed when dropped.
pub(crate) struct Agent {
    _child: Child,
}

impl Device {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn state(&self) -> Vec<u8> {
        std::fs::read(self.path().join("data/node.state")).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tether-agent"));
        let config = self.path().join("agent.toml");
        // As on most networks: over loopback, nothing but heartbeats would be heard.
        std::fs::write(&config, "keepalive = \"normal\"\n").unwrap();
        command
            .env("TETHER_CONFIG", config)
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

    pub(crate) async fn join(&self, cluster: &Cluster) {
        let (address, pin) = (cluster.address.to_string(), cluster.authority.pin());
        let to = ["join", "--cluster", &address, "--ca-pin", &pin];
        let named = ["--token", TOKEN, "--node-name", "gateway-1"];
        let joined = self.run(&[&to[..], &named].concat()).await;
        assert_eq!(joined.code, 0, "{joined:?}");
    }

    pub(crate) fn start(&self) -> Agent {
        Agent {
            _child: self.command(&["start"]).spawn().unwrap(),
        }
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
