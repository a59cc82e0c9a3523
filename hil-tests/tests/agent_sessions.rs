//! How many sessions a node serves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read;
use std::process::{Child, Stdio};

use hil_tests::cluster::{Cluster, me};
use hil_tests::process::end_of;

/// What one node serves at once.
const LIMIT: usize = 32;

#[test]
fn sessions_beyond_the_limit_are_told_to_wait() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let agent = cluster.agent("gateway-1", "", None).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let hold = || {
        let mut tsh = operator.command().unwrap();
        tsh.args(["proxy", "ssh", "gateway-1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = tsh.spawn().unwrap();
        let mut greeting = [0; 8];
        let stdout = child.stdout.as_mut().unwrap();
        stdout.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"SSH-2.0-");
        child
    };
    let mut held: Vec<_> = (0..LIMIT).map(|_| hold()).collect();
    agent.wait_for_status(r#""sessions":32"#).unwrap();
    let target = format!("{}@gateway-1", me());
    let ssh = || operator.tsh(&["ssh", &target, "true"]).unwrap();
    let sentence = "This node serves 32 sessions already; try again later.";
    ssh().refused(244, sentence).unwrap();
    cluster.audited("T1006W", sentence).unwrap();
    end(held.pop().unwrap());
    agent.wait_for_status(r#""sessions":31"#).unwrap();
    ssh().ok().unwrap();
    held.into_iter().for_each(end);
    agent.wait_for_status(r#""sessions":0"#).unwrap();
}

/// Hangs up.
fn end(mut tsh: Child) {
    drop(tsh.stdin.take());
    end_of(tsh).unwrap().ok().unwrap();
}
