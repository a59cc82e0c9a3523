//! What somebody sees who sits at a terminal: driven through tmux.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

use std::path::PathBuf;
use std::process::Command;

use hil_tests::cluster::{Cluster, Person, READY, me};
use hil_tests::process::{poll, run};

/// A terminal with a server of its own.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    fn open(cluster: &Cluster, person: &Person, line: &str) -> Self {
        let terminal = Self {
            socket: cluster.dir().join("tmux.sock"),
        };
        let path = format!(
            "{}:{}",
            cluster.bin().display(),
            std::env::var("PATH").unwrap()
        );
        let mut command = terminal.tmux();
        command.args([
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "100",
            "-y",
            "30",
            "-s",
            "t",
        ]);
        command.arg(format!("{line}; echo ended with $?; exec cat"));
        command
            .env("TSH_HOME", &person.home)
            .env("PATH", path)
            .env_remove("SSH_AUTH_SOCK");
        run(&mut command, b"").unwrap().ok().unwrap();
        terminal
    }

    fn tmux(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket);
        command
    }

    fn keys(&self, keys: &[&str]) {
        run(self.tmux().args(["send-keys", "-t", "t"]).args(keys), b"")
            .unwrap()
            .ok()
            .unwrap();
    }

    fn screen(&self) -> String {
        run(self.tmux().args(["capture-pane", "-p", "-t", "t"]), b"")
            .unwrap()
            .stdout
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        let seen = poll(READY, || self.screen().contains(text).then_some(()));
        assert!(
            seen.is_some(),
            "no {text:?} on the screen:\n{}",
            self.screen()
        );
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        run(self.tmux().arg("kill-server"), b"").ok();
    }
}

#[test]
fn a_shell_follows_the_window_and_ends_by_escape_or_exit() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let _agent = cluster.agent("gateway-1", "", None).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let line = format!("tsh ssh {}@gateway-1", me());

    let terminal = Terminal::open(&cluster, &operator, &line);
    terminal.keys(&["echo user=$TETHER_USER size=$(stty size)", "Enter"]);
    terminal.wait_for("user=operator size=30 100");
    run(
        terminal
            .tmux()
            .args(["resize-window", "-t", "t", "-x", "90", "-y", "20"]),
        b"",
    )
    .unwrap()
    .ok()
    .unwrap();
    // The size arrives when it does: ask until it is there.
    let resized = poll(READY, || {
        terminal.keys(&["echo now=$(stty size)", "Enter"]);
        terminal.screen().contains("now=20 90").then_some(())
    });
    assert!(resized.is_some(), "{}", terminal.screen());
    terminal.keys(&["exit 5", "Enter"]);
    terminal.wait_for("ended with 5");
    drop(terminal);

    let terminal = Terminal::open(&cluster, &operator, &line);
    terminal.keys(&["echo up=$TETHER_USER", "Enter"]);
    terminal.wait_for("up=operator");
    terminal.keys(&["Enter"]);
    terminal.keys(&["-l", "~."]);
    terminal.wait_for("ended with 255");
}

#[test]
fn the_first_login_asks_for_trust_and_takes_an_invite() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    let added = [
        "users",
        "add",
        "operator",
        "--roles",
        "access",
        "--logins",
        &me(),
    ];
    let invite = hil_tests::cluster::text(&cluster.tctl_json(&added).unwrap(), "invite");
    let operator = cluster.person("operator");
    let line = format!("tsh login --proxy {} --user operator", cluster.addr());
    let terminal = Terminal::open(&cluster, &operator, &line);
    terminal.wait_for(&cluster.ca_pin().unwrap()[..30]);
    terminal.keys(&["yes", "Enter"]);
    terminal.wait_for("Password");
    terminal.keys(&["-l", &invite]);
    terminal.keys(&["Enter"]);
    terminal.wait_for("New password");
    terminal.keys(&["-l", "a new password"]);
    terminal.keys(&["Enter"]);
    terminal.wait_for("Repeat it");
    terminal.keys(&["-l", "a new password"]);
    terminal.keys(&["Enter"]);
    terminal.wait_for("ended with 0");
    assert!(
        !terminal.screen().contains("a new password"),
        "the password shows"
    );
    assert!(!terminal.screen().contains(&invite), "the invite shows");
}
