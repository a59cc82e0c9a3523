//! Everything that must not work: each its own sentence, its own exit code, its line in the audit
//! log.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use hil_tests::cluster::{Cluster, PASSWORD, READY, me, text};
use hil_tests::process::{Daemon, run};

#[test]
fn wrong_password_and_unknown_user_get_the_same_answer() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let log_in = |name, password| cluster.person(name).login(&cluster, password).unwrap();
    let wrong = log_in("operator", "not the password");
    let unknown = log_in("nobody-knows", PASSWORD);
    let sentence = "wrong user name or password";
    wrong.refused(248, sentence).unwrap();
    assert_eq!(unknown.code(), 248);
    assert_eq!(wrong.stderr, unknown.stderr);
    cluster.audited("T1000W", sentence).unwrap();
}

#[test]
fn a_user_is_locked_out_after_repeated_failures_until_reset() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let log_in = |name, password| cluster.person(name).login(&cluster, password).unwrap();
    for _ in 0..5 {
        log_in("operator", "wrong").refused(248, "wrong").unwrap();
    }
    let sentence = "too many failed attempts";
    log_in("operator", PASSWORD).refused(247, sentence).unwrap();
    cluster.audited("T1000W", sentence).unwrap();
    let users = cluster.tctl_json(&["users", "ls"]).unwrap();
    assert_eq!(text(&users[0], "state"), "locked out");
    for _ in 0..5 {
        log_in("nobody-knows", "wrong")
            .refused(248, "wrong")
            .unwrap();
    }
    let unknown = log_in("nobody-knows", PASSWORD);
    unknown.refused(247, sentence).unwrap();
    let reset = cluster.tctl(&["users", "reset", "operator"]).unwrap();
    reset.ok().unwrap();
    log_in("operator", PASSWORD).refused(248, "wrong").unwrap();
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
        let names = person.tsh(&["ls", "--format", "names"]).unwrap();
        assert_eq!(names.ok().unwrap(), format!("gateway-{own}\n"));
        let target = |env: &str| format!("{me}@gateway-{env}");
        let done = person.tsh(&["ssh", &target(own), "echo", user]).unwrap();
        assert_eq!(done.stdout.trim(), user, "{}", done.stderr);
        let sentence = format!("your roles do not allow you to reach gateway-{other}");
        let done = person.tsh(&["ssh", &target(other), "true"]).unwrap();
        done.refused(251, &sentence).unwrap();
        cluster.audited("T1006W", &sentence).unwrap();
    }
}

#[test]
fn a_login_that_no_role_allows_is_named_with_those_allowed() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let _agent = cluster.agent("gateway-1", "", None).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let done = operator.tsh(&["ssh", "somebody@gateway-1", "true"]);
    let sentence = format!(
        "you may not log in to gateway-1 as somebody; allowed: {}",
        me()
    );
    done.unwrap().refused(251, &sentence).unwrap();
    cluster.audited("T1006W", &sentence).unwrap();
}

#[test]
fn unknown_offline_and_ambiguous_nodes_are_told_apart() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let mut agent = cluster.agent("gateway-1", "", None).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let ssh = |node: &str| {
        let target = format!("{}@{node}", me());
        operator.tsh(&["ssh", &target, "true"]).unwrap()
    };
    let sentence = "there is no node \"gateway-9\"";
    ssh("gateway-9").refused(254, sentence).unwrap();
    cluster.audited("T1006W", "gateway-9").unwrap();

    agent.stop().unwrap();
    cluster.wait_online("gateway-1", false).unwrap();
    let sentence = "gateway-1 is offline: last seen";
    ssh("gateway-1").refused(252, sentence).unwrap();
    cluster.audited("T1006W", "is offline").unwrap();

    // By its id, as who comes back to a session does; the audit log knows both.
    let nodes = cluster.tctl_json(&["nodes", "ls"]).unwrap();
    let id = text(&nodes[0], "id");
    ssh(&id).refused(252, sentence).unwrap();
    let refusals = cluster.audit("T1006W").unwrap();
    assert_eq!(refusals.len(), 3);
    for event in &refusals[1..] {
        assert_eq!(text(event, "server_id"), id);
        assert_eq!(text(event, "server_hostname"), "gateway-1");
    }

    // The same name again, from another device.
    let token = cluster.tctl_json(&["tokens", "add"]).unwrap();
    let (secret, pin) = (text(&token, "token"), text(&token, "ca_pin"));
    let second = cluster.device("second", None).unwrap();
    let name = ["--node-name", "gateway-1"];
    let joined = second.join(&cluster, &secret, &pin, &name).unwrap();
    joined.ok().unwrap();
    let sentence = "several nodes are called \"gateway-1\"";
    ssh("gateway-1").refused(253, sentence).unwrap();
    cluster.audited("T1006W", "several nodes").unwrap();
}

#[test]
fn a_device_that_takes_a_name_shuts_nobody_out_who_cannot_reach_it() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    let me = me();
    let lab_only = format!(
        "kind: role\nversion: v1\nmetadata: {{name: lab-only}}\nspec:\n  allow: {{logins: ['{me}'], node_labels: {{env: lab}}}}\n"
    );
    cluster.create(&lab_only).unwrap();
    cluster.add_user("ann", "lab-only", &me).unwrap();
    let _agent = cluster.agent("gateway-1", "env=lab", None).unwrap();
    let pin = cluster.ca_pin().unwrap();
    for (number, env) in ["prod", "stage"].into_iter().enumerate() {
        let labels = format!("env={env}");
        let token = cluster.tctl_json(&["tokens", "add", "--labels", &labels]);
        let secret = text(&token.unwrap(), "token");
        let device = cluster.device(&format!("other-{number}"), None).unwrap();
        let name = |name| ["--node-name", name];
        let taken = device.join(&cluster, &secret, &pin, &name("lab")).unwrap();
        let sentence = "node name \"lab\" is the cluster's own; choose another one";
        taken.refused(3, sentence).unwrap();
        let joined = device.join(&cluster, &secret, &pin, &name("gateway-1"));
        joined.unwrap().ok().unwrap();
    }
    let ann = cluster.logged_in("ann").unwrap();
    let target = format!("{me}@gateway-1");
    let done = ann.tsh(&["ssh", &target, "echo here"]).unwrap();
    assert_eq!(done.stdout, "here\n", "{done:?}");
    let removed = cluster.tctl(&["users", "update", "ann", "--set-roles", "auditor"]);
    removed.unwrap().ok().unwrap();
    let done = ann.tsh(&["ssh", &target, "true"]).unwrap();
    let sentence = "your roles do not allow you to reach gateway-1";
    done.refused(251, sentence).unwrap();
}

#[test]
fn an_expired_certificate_opens_nothing_not_even_on_an_open_connection() {
    let (dir, cluster) = Cluster::with_clock("+0").unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let _agent = cluster.agent("gateway-1", "", None).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let socket = dir.path().join("connection");
    let ssh = |args: &[&str]| {
        let mut ssh = operator.ssh().unwrap();
        ssh.arg("-S").arg(&socket).args(args).arg("127.0.0.1");
        ssh
    };
    let log = dir.path().join("connection.log");
    let mut connection = Daemon::start(&mut ssh(&["-M", "-N"]), &log).unwrap();
    let open = || socket.exists().then_some(());
    connection.wait_until("open", READY, open).unwrap();
    let node = ["-W", "gateway-1:22"];
    let greeting = run(&mut ssh(&node), b"").unwrap();
    assert!(greeting.stdout.starts_with("SSH-2.0-"), "{greeting:?}");

    // The certificate lasts twelve hours.
    cluster.set_clock("+13h").unwrap();
    let target = format!("{}@gateway-1", me());
    let done = operator.tsh(&["ssh", &target, "true"]).unwrap();
    let sentence = "does not accept your certificate. Run: tsh login";
    done.refused(249, sentence).unwrap();
    cluster.audited("T3007W", "certificate expired").unwrap();

    let greeting = run(&mut ssh(&node), b"").unwrap();
    assert_eq!(greeting.stdout, "");
    let sentence = "your certificate has expired; run `tsh login`";
    let told = || connection.log().contains(sentence).then_some(());
    let told = hil_tests::process::poll(READY, told);
    assert!(told.is_some(), "{}", connection.log());
    cluster.audited("T1006W", sentence).unwrap();
    // And alone, OpenSSH does not even get in.
    let done = run(
        &mut ssh(&["-o", "ControlPath=none", "-W", "gateway-1:22"]),
        b"",
    )
    .unwrap();
    done.refused(255, "Permission denied").unwrap();
    // It is written down when the connection has ended, which may be after `ssh` has.
    let sentence = "no valid certificate was shown";
    let audited = || cluster.audited("T3007W", sentence).ok();
    hil_tests::process::poll(READY, audited).expect(sentence);
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
    let done = operator.tsh(&["--proxy", &ours.addr(), "ssh", &target, "true"]);
    let done = done.unwrap();
    done.refused(249, "You are not logged in to").unwrap();

    let mut ssh = operator.program(Path::new("ssh"));
    ssh.args(["-F", "none", "-o", "BatchMode=yes"])
        .args(["-o", "StrictHostKeyChecking=no"])
        .args(["-o", "UserKnownHostsFile=/dev/null"])
        .args(["-o", "IdentitiesOnly=yes", "-i"])
        .arg(operator.kept("key").unwrap())
        .args(["-p", &ours.port().to_string(), "-W", "gateway-1:22"])
        .arg("operator@127.0.0.1");
    let done = run(&mut ssh, b"").unwrap();
    assert_eq!(done.code(), 255, "{}", done.stderr);
    ours.audited("T3007W", "of another CA").unwrap();
}

#[test]
fn a_removed_node_is_told_so_and_must_join_anew() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    let agent = cluster.agent("gateway-1", "", None).unwrap();
    let removed = cluster.tctl(&["nodes", "rm", "gateway-1"]).unwrap();
    removed.ok().unwrap();
    let told = "this node was removed and must join anew: this node was removed from the cluster; \
                join it anew with a token";
    agent.wait_for_status(told).unwrap();
    let log = agent.log();
    assert!(log.contains(told), "{log}");
    cluster.audited("TN002W", "was removed").unwrap();
    cluster.audited("TN001I", "gateway-1").unwrap();
}

#[test]
fn join_tokens_run_out_and_wrong_ones_are_refused() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    let token = cluster.tctl_json(&["tokens", "add", "--uses", "1"]);
    let token = token.unwrap();
    let (secret, pin) = (text(&token, "token"), text(&token, "ca_pin"));
    let join = |name: &str, secret: &str, pin: &str| {
        let device = cluster.device(name, None).unwrap();
        let done = device.join(&cluster, secret, pin, &[]).unwrap();
        let state = device.data_dir().join("node.state");
        assert_eq!(state.exists(), done.code() == 0, "{done:?}");
        done
    };
    join("first", &secret, &pin).ok().unwrap();
    let sentence = "the join token is unknown, used up or expired";
    let hint = "Ask the cluster's administrator for a new join token.";
    for (name, secret) in [("second", secret.as_str()), ("third", "tjoin-0123")] {
        let done = join(name, secret, &pin);
        done.refused(3, sentence).unwrap();
        done.refused(3, hint).unwrap();
        assert!(!done.stderr.contains(secret), "{}", done.stderr);
    }
    cluster.audited("TJ001W", sentence).unwrap();
    let other = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let done = join("fourth", &secret, other);
    done.refused(5, "not the trusted cluster").unwrap();
}

#[test]
fn a_removed_user_is_refused_with_a_certificate_that_is_still_good() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let removed = cluster.tctl(&["users", "rm", "operator"]).unwrap();
    removed.ok().unwrap();
    let sentence = "the user operator no longer exists";
    let listed = operator.tsh(&["ls"]).unwrap();
    listed.refused(247, sentence).unwrap();
    let done = operator.tsh(&["ssh", "gateway-1", "true"]).unwrap();
    done.refused(247, sentence).unwrap();
    cluster.audited("T1006W", sentence).unwrap();
}

#[test]
fn a_certificate_of_a_removed_user_is_no_good_for_the_next_one_of_that_name() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let _agent = cluster.agent("gateway-1", "", None).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let removed = cluster.tctl(&["users", "rm", "operator"]).unwrap();
    removed.ok().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let target = format!("{}@gateway-1", me());
    let sentence = "the user operator was made anew since your certificate was issued";
    let done = operator.tsh(&["ssh", &target, "true"]).unwrap();
    done.refused(251, sentence).unwrap();
    cluster.audited("T1006W", sentence).unwrap();
    for list in ["ls", "sessions"] {
        let listed = operator.tsh(&[list]).unwrap();
        listed.refused(249, "made anew").unwrap();
    }
    operator.login(&cluster, PASSWORD).unwrap().ok().unwrap();
    let done = operator.tsh(&["ssh", &target, "echo here"]).unwrap();
    assert_eq!(done.stdout, "here\n", "{done:?}");
    // Written anew by hand, it is the same person.
    let role = format!("roles: [access], traits: {{logins: ['{}']}}", me());
    let user = format!("kind: user\nversion: v1\nmetadata: {{name: operator}}\nspec: {{{role}}}\n");
    let written = cluster.tctl_with(&["create", "--force", "-f", "-"], user.as_bytes());
    written.unwrap().ok().unwrap();
    let done = operator.tsh(&["ssh", &target, "echo here"]).unwrap();
    assert_eq!(done.stdout, "here\n", "{done:?}");
}
