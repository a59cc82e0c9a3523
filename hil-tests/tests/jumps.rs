//! One SSH connection to the proxy, and many jumps through it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::process::Command;

use hil_tests::cluster::{Agent, Cluster, Person, READY, me};
use hil_tests::process::{Daemon, poll, run};

/// More than one connection may have open at once.
const JUMPS: usize = 20;

struct Scene {
    connection: Option<Daemon>,
    operator: Person,
    _agent: Agent,
    cluster: Cluster,
    _dir: tempfile::TempDir,
}

impl Scene {
    /// Somebody who is connected to the proxy.
    fn new() -> Self {
        let (dir, cluster) = Cluster::temporary().unwrap();
        cluster.add_user("operator", "access", &me()).unwrap();
        let mut scene = Self {
            _agent: cluster.agent("gateway-1", "", None).unwrap(),
            operator: cluster.logged_in("operator").unwrap(),
            cluster,
            connection: None,
            _dir: dir,
        };
        let log = scene.cluster.dir().join("connection.log");
        let mut connection = Daemon::start(&mut scene.ssh(&["-M", "-N"]), &log).unwrap();
        let socket = scene.cluster.dir().join("connection");
        let open = || socket.exists().then_some(());
        connection.wait_until("open", READY, open).unwrap();
        scene.connection = Some(connection);
        scene
    }

    fn ssh(&self, args: &[&str]) -> Command {
        let mut ssh = self.operator.ssh().unwrap();
        ssh.arg("-S").arg(self.cluster.dir().join("connection"));
        ssh.args(args).arg("127.0.0.1");
        ssh
    }

    /// What the kernel waits for with the connections of the cluster's port: `02` is a keepalive.
    fn timers(&self) -> Vec<String> {
        let port = format!(":{:04X}", self.cluster.port());
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = table
            .lines()
            .map(|row| row.split_whitespace().collect::<Vec<_>>());
        rows.filter(|row| row.len() > 5 && row[1].ends_with(&port) && row[3] == "01")
            .map(|row| row[5].chars().take(2).collect())
            .collect()
    }
}

#[test]
fn jumps_that_have_ended_do_not_count() {
    let scene = Scene::new();
    for number in 0..JUMPS {
        let greeting = run(&mut scene.ssh(&["-W", "gateway-1:22"]), b"").unwrap();
        assert!(
            greeting.stdout.starts_with("SSH-2.0-"),
            "{number}: {greeting:?}"
        );
    }
}

#[test]
fn the_kernel_asks_whether_a_silent_client_is_still_there() {
    let scene = Scene::new();
    let asked = poll(READY, || {
        let timers = scene.timers();
        (timers.len() == 1 && timers.contains(&"02".to_owned())).then_some(())
    });
    assert!(asked.is_some(), "{:?}", scene.timers());
}
