//! Locks of nodes and of people: in force at once, and until they are lifted.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{Read, Write};
use std::process::{Child, Stdio};

use hil_tests::cluster::{Cluster, PASSWORD, Person, READY, me, text};
use hil_tests::process::{end_of, poll};
use serde_json::Value;

/// A session that is open, and stays so.
fn session(person: &Person, node: &str) -> Child {
    let target = format!("{}@{node}", me());
    let mut tsh = person.command().unwrap();
    tsh.args(["ssh", &target, "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = tsh.spawn().unwrap();
    let mut echoed = [0; 6];
    child.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
    let stdout = child.stdout.as_mut().unwrap();
    stdout.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"hello\n");
    child
}

fn ends(mut session: Child) {
    // Else its end would come from us.
    let _stdin = session.stdin.take();
    assert_ne!(end_of(session).unwrap().code(), 0);
}

#[test]
fn a_locked_node_is_cut_off_and_told_and_waits_until_somebody_lifts_the_lock() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let mut agent = cluster.agent("gateway-1", "", None).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let open = session(&operator, "gateway-1");

    let lock = ["lock", "node/gateway-1", "--message", "stolen"];
    let lock = cluster.tctl_json(&lock).unwrap();
    assert_eq!(text(&lock, "node"), "gateway-1");
    ends(open);
    let status = agent
        .wait_for_status("this node is locked: stolen")
        .unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(text(&status["link"], "state"), "waiting", "{status}");
    // The longest wait there is, less the time that has passed since.
    assert!(
        status["link"]["retry_in_s"].as_u64().unwrap() > 300,
        "{status}"
    );
    let target = format!("{}@gateway-1", me());
    let dial = operator.tsh(&["ssh", &target, "true"]).unwrap();
    let sentence = "gateway-1 is locked: stolen";
    dial.refused(247, sentence).unwrap();
    cluster.audited("T1006W", sentence).unwrap();
    cluster.audited("TLK00I", "stolen").unwrap();
    let shown = operator.tsh(&["ls", "-v"]).unwrap().ok().unwrap();
    assert!(shown.contains("locked: stolen"), "{shown}");

    let lifted = cluster.tctl(&["unlock", "node/gateway-1"]).unwrap();
    lifted.ok().unwrap();
    cluster.audited("TLK01I", &text(&lock, "name")).unwrap();
    let again = cluster.tctl(&["unlock", "node/gateway-1"]).unwrap();
    again.refused(3, "no lock").unwrap();
    agent.stop().unwrap();
    agent.start().unwrap();
    cluster.wait_online("gateway-1", true).unwrap();
    let dial = operator.tsh(&["ssh", &target, "true"]).unwrap();
    dial.ok().unwrap();
}

#[test]
fn a_locked_user_loses_sessions_and_gets_nothing_until_the_lock_is_gone() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    cluster.add_user("other", "access", &me()).unwrap();
    let _agent = cluster.agent("gateway-1", "", None).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let other = cluster.logged_in("other").unwrap();
    let open = session(&operator, "gateway-1");
    let mut unharmed = session(&other, "gateway-1");

    cluster
        .tctl(&["lock", "user/operator"])
        .unwrap()
        .ok()
        .unwrap();
    ends(open);
    let target = format!("{}@gateway-1", me());
    let sentence = "the user operator is locked";
    for args in [&["ssh", &target, "true"][..], &["ls"]] {
        operator.tsh(args).unwrap().refused(247, sentence).unwrap();
    }
    let login = operator.login(&cluster, PASSWORD).unwrap();
    login.refused(247, sentence).unwrap();
    // Who does not know the password does not learn of it.
    let wrong = operator.login(&cluster, "wrong").unwrap();
    wrong.refused(248, "wrong user name or password").unwrap();
    other.tsh(&["ls"]).unwrap().ok().unwrap();
    drop(unharmed.stdin.take());
    end_of(unharmed).unwrap().ok().unwrap();

    let locks = cluster.tctl_json(&["locks", "ls"]).unwrap();
    assert_eq!(text(&locks[0], "user"), "operator");
    let lifted = cluster.tctl(&["unlock", &text(&locks[0], "name")]).unwrap();
    lifted.ok().unwrap();
    operator.login(&cluster, PASSWORD).unwrap().ok().unwrap();
}

#[test]
fn a_lock_with_a_time_to_live_lifts_itself_and_nobody_locks_by_mistake() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let lock = |args: &[&str]| cluster.tctl(&[&["lock"], args].concat()).unwrap();
    lock(&["user/operator", "--ttl", "5s"]).ok().unwrap();
    operator
        .tsh(&["ls"])
        .unwrap()
        .refused(247, "locked")
        .unwrap();
    let free = poll(READY, || operator.tsh(&["ls"]).ok()?.ok().ok());
    assert!(free.is_some());

    lock(&["user/nobody"]).refused(3, "nobody").unwrap();
    lock(&["node/nowhere"]).refused(3, "nowhere").unwrap();
    lock(&["operator"])
        .refused(2, "node/NAME or user/NAME")
        .unwrap();
    assert_eq!(
        cluster.tctl_json(&["locks", "ls"]).unwrap(),
        Value::Array(vec![])
    );
}
