//! Everything that must not work: each its own sentence, its own exit code, its line in the audit
//! log.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use hil_tests::cluster::{Cluster, PASSWORD, me, text};
use hil_tests::process::Finished;

#[track_caller]
fn refused(done: &Finished, code: i32, sentence: &str) {
    assert!(
        done.stderr.contains(sentence),
        "expected {sentence:?} in: {}{}",
        done.stdout,
        done.stderr
    );
    assert_eq!(done.code(), code, "{}", done.stderr);
}

#[track_caller]
fn audited(cluster: &Cluster, code: &str, sentence: &str) {
    let events = cluster.tctl_json(&["audit", "ls"]).unwrap();
    let found = events
        .as_array()
        .unwrap()
        .iter()
        .any(|event| text(event, "code") == code && event.to_string().contains(sentence));
    assert!(found, "no {code} with {sentence:?} in {events:#}");
    assert!(
        cluster.log().contains(code),
        "the log has no line with {code}"
    );
}

#[test]
fn wrong_password_and_unknown_user_get_the_same_answer() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let sentence = "wrong user name or password";
    let wrong = cluster
        .person("operator")
        .login(&cluster, "not the password")
        .unwrap();
    let unknown = cluster
        .person("nobody-knows")
        .login(&cluster, PASSWORD)
        .unwrap();
    refused(&wrong, 248, sentence);
    refused(&unknown, 248, sentence);
    assert_eq!(wrong.stderr, unknown.stderr);
    audited(&cluster, "T1000W", sentence);
}

#[test]
fn a_user_is_locked_out_after_repeated_failures_until_reset() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let operator = cluster.person("operator");
    for _ in 0..5 {
        refused(
            &operator.login(&cluster, "a wrong one").unwrap(),
            248,
            "wrong",
        );
    }
    let sentence = "too many failed attempts";
    refused(&operator.login(&cluster, PASSWORD).unwrap(), 247, sentence);
    audited(&cluster, "T1000W", sentence);
    let users = cluster.tctl_json(&["users", "ls"]).unwrap();
    assert_eq!(text(&users[0], "state"), "locked out");
    let unknown = cluster.person("nobody-knows");
    for _ in 0..5 {
        unknown.login(&cluster, "a wrong one").unwrap();
    }
    refused(&unknown.login(&cluster, PASSWORD).unwrap(), 247, sentence);
    cluster
        .tctl(&["users", "reset", "operator"])
        .unwrap()
        .ok()
        .unwrap();
    refused(&operator.login(&cluster, PASSWORD).unwrap(), 248, "wrong");
}

#[test]
fn roles_and_labels_keep_two_users_apart() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    let me = me();
    for env in ["lab", "prod"] {
        cluster
            .create(&format!(
                "kind: role\nversion: v1\nmetadata: {{name: {env}-only}}\nspec:\n  allow: {{logins: ['{me}'], node_labels: {{env: {env}}}}}\n"
            ))
            .unwrap();
    }
    cluster.add_user("ann", "lab-only", &me).unwrap();
    cluster.add_user("bob", "prod-only", &me).unwrap();
    let _lab = cluster.agent("gateway-lab", "env=lab", None).unwrap();
    let _prod = cluster.agent("gateway-prod", "env=prod", None).unwrap();
    for (user, own, other) in [("ann", "lab", "prod"), ("bob", "prod", "lab")] {
        let person = cluster.logged_in(user).unwrap();
        let names = person
            .tsh(&["ls", "--format", "names"])
            .unwrap()
            .ok()
            .unwrap();
        assert_eq!(names, format!("gateway-{own}\n"));
        let target = |env: &str| format!("{me}@gateway-{env}");
        let done = person.tsh(&["ssh", &target(own), "echo", user]).unwrap();
        assert_eq!(done.stdout.trim(), user, "{}", done.stderr);
        let sentence = format!("your roles do not allow you to reach gateway-{other}");
        refused(
            &person.tsh(&["ssh", &target(other), "true"]).unwrap(),
            251,
            &sentence,
        );
        audited(&cluster, "T1006W", &sentence);
    }
}

#[test]
fn a_login_that_no_role_allows_is_named_with_those_allowed() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let _agent = cluster.agent("gateway-1", "", None).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let done = operator
        .tsh(&["ssh", "somebody@gateway-1", "true"])
        .unwrap();
    let sentence = format!(
        "you may not log in to gateway-1 as somebody; allowed: {}",
        me()
    );
    refused(&done, 251, &sentence);
    audited(&cluster, "T1006W", &sentence);
}

#[test]
fn unknown_offline_and_ambiguous_nodes_are_told_apart() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let mut agent = cluster.agent("gateway-1", "", None).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let ssh = |node: &str| {
        operator
            .tsh(&["ssh", &format!("{}@{node}", me()), "true"])
            .unwrap()
    };
    refused(&ssh("gateway-9"), 254, "there is no node \"gateway-9\"");
    audited(&cluster, "T1006W", "gateway-9");

    agent.stop().unwrap();
    cluster.wait_online("gateway-1", false).unwrap();
    refused(&ssh("gateway-1"), 252, "gateway-1 is offline: last seen");
    audited(&cluster, "T1006W", "is offline");
    let listed = operator.tsh(&["ls"]).unwrap().ok().unwrap();
    assert!(
        listed.contains("gateway-1") && listed.contains("offline"),
        "{listed}"
    );

    // The same name again, from another folder of the same device.
    let second = tempfile::tempdir().unwrap();
    let token = cluster.tctl_json(&["tokens", "add"]).unwrap();
    let mut join = agent.command().unwrap();
    join.args([
        "join",
        "--cluster",
        &cluster.addr(),
        "--node-name",
        "gateway-1",
    ]);
    join.args([
        "--token-file",
        "-",
        "--ca-pin",
        &text(&token, "ca_pin"),
        "--data-dir",
    ]);
    join.arg(second.path().join("data"));
    let input = text(&token, "token");
    hil_tests::process::run(&mut join, input.as_bytes())
        .unwrap()
        .ok()
        .unwrap();
    refused(
        &ssh("gateway-1"),
        253,
        "several nodes are called \"gateway-1\"",
    );
    audited(&cluster, "T1006W", "several nodes");
}

#[test]
fn an_expired_certificate_says_so() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    // A clock two days ahead, for tsh alone, makes the certificate as old as waiting would.
    let program = operator.command().unwrap().get_program().to_owned();
    let mut ahead = std::process::Command::new("faketime");
    ahead
        .args(["-f", "+2d"])
        .arg(program)
        .args(["ssh", &format!("{}@gateway-1", me()), "true"]);
    ahead
        .env("TSH_HOME", &operator.home)
        .env_remove("SSH_AUTH_SOCK");
    let done = hil_tests::process::run(&mut ahead, b"").unwrap();
    refused(&done, 249, "expired");
}

#[test]
fn a_certificate_of_another_cluster_is_refused() {
    let (_dir, ours) = Cluster::temporary().unwrap();
    let (_other_dir, theirs) = Cluster::temporary().unwrap();
    for cluster in [&ours, &theirs] {
        cluster.add_user("operator", "access", &me()).unwrap();
    }
    let _agent = ours.agent("gateway-1", "", None).unwrap();
    let operator = theirs.logged_in("operator").unwrap();
    // The other cluster's certificate at our door: the same name, the same user, another CA.
    let target = format!("{}@gateway-1", me());
    let done = operator
        .tsh(&["--proxy", &ours.addr(), "ssh", &target, "true"])
        .unwrap();
    assert!(
        [246, 249].contains(&done.code()),
        "{}: {}",
        done.code(),
        done.stderr
    );

    let key = std::fs::read_dir(operator.home.join("keys"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut ssh = std::process::Command::new("ssh");
    ssh.args([
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
    ]);
    ssh.args([
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "IdentitiesOnly=yes",
        "-i",
    ]);
    ssh.arg(key.join("key"))
        .args(["-p", &ours.port().to_string(), "-W", "gateway-1:22"]);
    ssh.arg("operator@127.0.0.1").env_remove("SSH_AUTH_SOCK");
    let done = hil_tests::process::run(&mut ssh, b"").unwrap();
    assert_eq!(done.code(), 255, "{}", done.stderr);
    audited(&ours, "T3007W", "of another CA");
}

#[test]
fn a_removed_node_is_told_so_and_must_join_anew() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    let agent = cluster.agent("gateway-1", "", None).unwrap();
    cluster
        .tctl(&["nodes", "rm", "gateway-1"])
        .unwrap()
        .ok()
        .unwrap();
    let told = hil_tests::process::poll(hil_tests::cluster::READY, || {
        agent
            .log()
            .contains("removed from the cluster")
            .then_some(())
    });
    assert!(told.is_some(), "{}", agent.log());
    audited(&cluster, "TN002W", "was removed");
    audited(&cluster, "TN001I", "gateway-1");
}

#[test]
fn join_tokens_run_out_and_wrong_ones_are_refused() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    let token = cluster
        .tctl_json(&["tokens", "add", "--uses", "1"])
        .unwrap();
    let agent = cluster.joined_agent("gateway-1", "", None).unwrap();
    let join = |name: &str, secret: &str, pin: &str| {
        let mut join = agent.command().unwrap();
        join.args([
            "join",
            "--cluster",
            &cluster.addr(),
            "--node-name",
            name,
            "--token-file",
            "-",
        ]);
        join.args(["--ca-pin", pin, "--data-dir"])
            .arg(cluster.dir().join(name));
        hil_tests::process::run(&mut join, secret.as_bytes()).unwrap()
    };
    let (secret, pin) = (text(&token, "token"), text(&token, "ca_pin"));
    join("second", &secret, &pin).ok().unwrap();
    let sentence = "the join token is unknown, used up or expired";
    refused(&join("third", &secret, &pin), 3, sentence);
    refused(&join("fourth", "tjoin-0123", &pin), 3, sentence);
    audited(&cluster, "TJ001W", sentence);
    let other = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    assert_eq!(join("fifth", &secret, other).code(), 5);
}
