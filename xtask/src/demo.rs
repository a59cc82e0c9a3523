//! `cargo xtask demo`: a cluster, a user, two devices behind NAT, and a shell on one of them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hil_tests::cluster::{Agent, Cluster, PASSWORD, Person};
use hil_tests::net::{Nat, Network};
use hil_tests::process::{Finished, INTERRUPTED, run as run_to_end};

use crate::tools;
use ::cross::shell::{cargo, check, root, say, shown};

/// Runs the demo; everything it starts is gone when it returns.
///
/// # Errors
/// At the first step that fails.
pub(crate) fn run(script: bool) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        // Without them the demo still works, in plain processes.
        ::cross::tools::packages(tools::DEMO, true).unwrap_or_else(|e| say(&format!("{e:#}")));
    }
    check(&mut cargo(&["build", "--workspace", "--locked"])?)?;
    let dir = root()?.join("target/demo");
    if dir.exists() {
        std::fs::remove_dir_all(&dir).context("the last demo's data cannot be removed")?;
    }
    let demo = Demo::start(&dir)?;
    demo.show()?;
    if script { demo.script() } else { demo.shell() }
}

struct Demo {
    // Dropped in this order: devices before the cluster they are linked to.
    _agents: Vec<Agent>,
    cluster: Cluster,
    operator: Person,
    login: String,
}

impl Demo {
    fn start(dir: &Path) -> Result<Self> {
        let login = hil_tests::cluster::me();
        say("\nStarting a cluster with its data under target/demo ...");
        let cluster = Cluster::start(dir, "127.0.0.1")?;
        say(&format!(
            "The cluster listens on port {}, TCP and UDP.",
            cluster.port()
        ));
        let mut agents = Vec::new();
        for (name, labels) in [
            ("gateway-1", "env=lab,site=attic"),
            ("gateway-2", "env=prod,site=cellar"),
        ] {
            let nat = Nat::new();
            match &nat {
                Ok(_) => say(&format!(
                    "{name}: in a network namespace of its own, behind NAT, no route inwards"
                )),
                Err(e) => say(&format!("{name}: as a plain process, since {e:#}")),
            }
            agents.push(cluster.agent(name, labels, nat.ok().map(Network::from))?);
        }
        let operator = cluster.person("operator");
        Ok(Self {
            _agents: agents,
            cluster,
            operator,
            login,
        })
    }

    /// What an administrator and a user type.
    fn show(&self) -> Result<()> {
        let pin = self.cluster.ca_pin()?;
        self.tctl(&[
            "users",
            "add",
            "operator",
            "--roles",
            "access",
            "--logins",
            &self.login,
            "--password-file",
            "-",
        ])?;
        self.tctl(&["nodes", "ls"])?;
        let addr = self.cluster.addr();
        let login = [
            "login",
            "--proxy",
            &addr,
            "--user",
            "operator",
            "--ca-pin",
            &pin,
            "--password-file",
            "-",
        ];
        self.tsh(&login, PASSWORD)?;
        self.tsh(&["ls"], "").map(drop)
    }

    fn script(&self) -> Result<()> {
        let target = format!("{}@gateway-1", self.login);
        self.tsh(&["ls", "env=lab", "--format", "json"], "")?;
        self.tsh(&["ssh", &target, "--", "uname", "-a"], "")?;
        self.tsh(
            &[
                "ssh",
                &target,
                "echo; (ip -4 -o addr || hostname) 2>/dev/null",
            ],
            "",
        )?;
        self.tctl(&["audit", "ls", "--last", "3"])?;
        say("\nThe demo worked.");
        Ok(())
    }

    fn shell(&self) -> Result<()> {
        let target = format!("{}@gateway-1", self.login);
        let mut command = self.operator.command()?;
        command.args(["ssh", &target]);
        say("\nA shell on gateway-1; leave it with `exit`, and everything is cleaned up.");
        say(&format!("$ {}", shown(&command)));
        let status = command.status()?;
        say(&format!("The shell ended ({status}); cleaning up."));
        Ok(())
    }

    fn tctl(&self, args: &[&str]) -> Result<()> {
        let mut command = Command::new(self.cluster.bin().join("tctl"));
        command.args(args);
        step(&command, self.cluster.tctl_with(args, PASSWORD.as_bytes())?)
    }

    fn tsh(&self, args: &[&str], input: &str) -> Result<()> {
        let mut command = self.operator.command()?;
        command.args(args);
        let finished = run_to_end(&mut command, input.as_bytes())?;
        step(&command, finished)
    }
}

/// Prints a command with its output, and fails if it has.
fn step(command: &Command, finished: Finished) -> Result<()> {
    let line = shown(command);
    say(format!("\n$ {line}\n{}{}", finished.stdout, finished.stderr).trim_end());
    ensure!(
        !INTERRUPTED.load(std::sync::atomic::Ordering::Relaxed),
        "interrupted"
    );
    ensure!(
        finished.status.success(),
        "`{line}` failed with exit code {}",
        finished.code()
    );
    Ok(())
}
