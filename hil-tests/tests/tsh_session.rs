//! `tsh ssh` without a terminal: bytes, exit codes, refusals.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::io::Read;
use std::process::Stdio;
use std::thread;

use hil_tests::cluster::{Agent, Cluster, PASSWORD, Person, me, text};
use hil_tests::net::Nat;
use hil_tests::process::{Finished, end_of, run, run_for_bytes};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The cluster of these tests, a node, and somebody who may log in there.
struct Scene {
    operator: Person,
    node: String,
    agent: Agent,
    cluster: Cluster,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self::behind(None)
    }

    /// With the user behind a router.
    fn behind(network: Option<Nat>) -> Self {
        let (dir, cluster) = Cluster::with_clock("+0").unwrap();
        let logins = format!("{},ann-is-not-here", me());
        cluster.add_user("operator", "access", &logins).unwrap();
        let agent = cluster.agent("gateway-1", "", None).unwrap();
        let mut operator = cluster.person("operator");
        if let Some(network) = network {
            operator.move_behind(network);
        }
        operator.login(&cluster, PASSWORD).unwrap().ok().unwrap();
        Self {
            operator,
            node: format!("{}@gateway-1", me()),
            agent,
            cluster,
            _dir: dir,
        }
    }

    fn ssh(&self, command: &str) -> Finished {
        self.operator.tsh(&["ssh", &self.node, command]).unwrap()
    }
}

#[test]
fn a_session_over_quic_passes_everything_on() {
    let scene = Scene::new();
    let said = scene.operator.tsh(&["-d", "ssh", &scene.node, "true"]);
    let said = said.unwrap().stderr;
    assert!(!said.contains("using TCP"), "{said}");
    passes_everything_on(&scene);
}

#[test]
fn a_session_where_udp_is_blocked_passes_everything_on() {
    if !Nat::available() {
        eprintln!("skipped: this machine allows no network namespaces");
        return;
    }
    let nat = Nat::new().unwrap();
    nat.block_udp().unwrap();
    let scene = Scene::behind(Some(nat));
    let said = scene.operator.tsh(&["-d", "ssh", &scene.node, "true"]);
    let said = said.unwrap().stderr;
    assert!(said.contains("using TCP"), "{said}");
    passes_everything_on(&scene);
}

/// Each at the same time as the others, since every dial without UDP first waits for QUIC.
fn passes_everything_on(scene: &Scene) {
    make_nodes_that_cannot_be_reached(scene);
    thread::scope(|scope| {
        scope.spawn(|| streams_and_exit_codes(scene));
        scope.spawn(|| bytes_and_their_end(scene));
        scope.spawn(|| many_bytes_both_ways_at_once(scene));
        scope.spawn(|| openssh_trusts_the_node(scene));
        for (args, code, sentence) in [
            (
                &["ssh", "nowhere", "true"][..],
                254,
                "there is no node \"nowhere\"; `tsh ls` shows those you can reach",
            ),
            (
                &["ssh", "asleep", "true"],
                252,
                "asleep is offline: it has joined, but never linked; start its agent",
            ),
            (
                &["proxy", "ssh", "asleep:22"],
                252,
                "asleep is offline: it has joined, but never linked; start its agent",
            ),
        ] {
            scope.spawn(move || {
                let done = scene.operator.tsh(args).unwrap();
                assert_eq!(done.code(), code, "{args:?}");
                assert_eq!(done.stderr, format!("tsh: {sentence}\n"));
            });
        }
        scope.spawn(|| the_ids_of_twins_are_told(scene));
        scope.spawn(|| a_login_that_no_role_allows_is_refused(scene));
    });
    a_certificate_that_the_cluster_refuses_asks_for_a_login(scene);
}

fn make_nodes_that_cannot_be_reached(scene: &Scene) {
    let cluster = &scene.cluster;
    cluster.joined_agent("asleep", "", None).unwrap();
    cluster.joined_agent("twins", "", None).unwrap();
    let token = cluster.tctl_json(&["tokens", "add"]).unwrap();
    let (secret, pin) = (text(&token, "token"), text(&token, "ca_pin"));
    let other = cluster.device("other-twin", None).unwrap();
    let joined = other.join(cluster, &secret, &pin, &["--node-name", "twins"]);
    joined.unwrap().ok().unwrap();
}

fn streams_and_exit_codes(scene: &Scene) {
    let words = ["echo", "out;", "echo err >&2; exit 42"];
    let done = scene
        .operator
        .tsh(&[&["ssh", &scene.node], &words[..]].concat())
        .unwrap();
    assert_eq!(done.code(), 42, "{done:?}");
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        ("out\n", "err\n")
    );
}

fn bytes_and_their_end(scene: &Scene) {
    let input: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let node = format!("{}.lab", scene.node);
    let mut cat = scene.operator.command().unwrap();
    let done = run_for_bytes(cat.args(["ssh", &node, "cat"]), &input).unwrap();
    assert_eq!(done.status.code(), Some(0));
    assert!(
        done.stdout == input,
        "{} bytes came back",
        done.stdout.len()
    );
}

fn many_bytes_both_ways_at_once(scene: &Scene) {
    let input = vec![b'Z'; 40 << 20];
    let done = scene
        .operator
        .tsh_with(&["ssh", &scene.node, "cat"], &input);
    let done = done.unwrap();
    assert_eq!(done.code(), 0, "{}", done.stderr);
    assert_eq!(done.stdout.len(), input.len());
}

fn openssh_trusts_the_node(scene: &Scene) {
    let mut ssh = scene.operator.ssh().unwrap();
    ssh.args([&format!("{}.lab", scene.node), "echo hello; exit 5"]);
    let done = run(&mut ssh, b"").unwrap();
    assert_eq!(
        (done.stdout.as_str(), done.code()),
        ("hello\n", 5),
        "{done:?}"
    );
}

fn the_ids_of_twins_are_told(scene: &Scene) {
    let done = scene.operator.tsh(&["ssh", "twins", "true"]).unwrap();
    let sentence = "tsh: several nodes are called \"twins\"; use an id:\n";
    assert!(done.stderr.starts_with(sentence), "{done:?}");
    assert_eq!(done.code(), 253, "{done:?}");
    let nodes = scene.cluster.tctl_json(&["nodes", "ls"]).unwrap();
    let nodes = nodes.as_array().unwrap().iter();
    let twins: Vec<_> = nodes.filter(|node| text(node, "name") == "twins").collect();
    assert_eq!(twins.len(), 2);
    for node in twins {
        assert!(done.stderr.contains(&text(node, "id")), "{done:?}");
    }
}

fn a_login_that_no_role_allows_is_refused(scene: &Scene) {
    let done = scene.operator.tsh(&["ssh", "toor@gateway-1"]).unwrap();
    let mut allowed = ["ann-is-not-here".to_owned(), me()];
    allowed.sort();
    let sentence = format!(
        "tsh: you may not log in to gateway-1 as toor; allowed: {}\n",
        allowed.join(", ")
    );
    assert_eq!((done.code(), done.stderr), (251, sentence));
}

/// To `tsh`, whose clock is right, the certificate is good.
fn a_certificate_that_the_cluster_refuses_asks_for_a_login(scene: &Scene) {
    scene.cluster.set_clock("+2d").unwrap();
    for args in [&["ls"][..], &["ssh", &scene.node, "true"]] {
        let done = scene.operator.tsh(args).unwrap();
        let sentence = "does not accept your certificate. Run: tsh login";
        done.refused(249, sentence).unwrap();
    }
    let refused = "certificate expired";
    scene.cluster.audited("T3007W", refused).unwrap();
    assert_eq!(scene.cluster.audit("T3007W").unwrap().len(), 2);
}

#[test]
fn standard_input_feeds_a_shell_or_is_left_alone() {
    let scene = Scene::new();
    let shell = b"echo from the shell\nexit 3\n";
    let done = scene.operator.tsh_with(&["ssh", &scene.node], shell);
    let done = done.unwrap();
    assert_eq!(
        (done.stdout.as_str(), done.code()),
        ("from the shell\n", 3),
        "{done:?}"
    );

    let openssh_options = ["ssh", "-q", "-n", "-p", "22", "-o", "BatchMode=yes"];
    let remote = [&scene.node, "--", "cat; echo -n end"];
    let done = scene
        .operator
        .tsh_with(&[&openssh_options[..], &remote].concat(), b"not read");
    let done = done.unwrap();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("end", ""));

    // Nobody writes or closes it.
    let mut tsh = scene.operator.command().unwrap();
    tsh.args(["ssh", &scene.node, "true"]).stdin(Stdio::piped());
    let mut child = tsh.spawn().unwrap();
    let _unread = child.stdin.take();
    assert_eq!(end_of(child).unwrap().code(), 0);
}

#[test]
fn a_session_ends_when_its_reader_or_its_user_has_had_enough() {
    let scene = Scene::new();
    let start = |command| {
        let mut tsh = scene.operator.command().unwrap();
        tsh.args(["ssh", &scene.node, command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = tsh.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 2]).unwrap();
        (child, stdout)
    };
    let (child, stdout) = start("yes");
    drop(stdout);
    assert_eq!(end_of(child).unwrap().code(), 128 + Signal::SIGPIPE as i32);

    let (child, _stdout) = start("echo up; sleep 600");
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(end_of(child).unwrap().code(), 128 + Signal::SIGINT as i32);
}

#[test]
fn what_the_node_does_not_have_or_do_is_said() {
    let scene = Scene::new();
    assert_eq!(scene.ssh("kill -9 $$").code(), 137);

    let login = ["ssh", "-l", "ann-is-not-here", "gateway-1", "true"];
    let done = scene.operator.tsh(&login).unwrap();
    let sentence = "tsh: gateway-1 does not let you in as ann-is-not-here. Does it have that user?";
    done.refused(250, sentence).unwrap();
    let log = scene.agent.log();
    let said = "operator may not log in as \"ann-is-not-here\"";
    assert!(log.contains(said), "{log}");

    let mut tsh = scene.operator.command().unwrap();
    tsh.args(["ssh", "-tt", &scene.node, "true"]);
    let done = run(tsh.env("TERM", "no name of a terminal"), b"").unwrap();
    let sentence = "tsh: gateway-1 does not give you a terminal. Try -T, with a command.";
    done.refused(251, sentence).unwrap();
}

#[test]
fn another_node_than_the_one_asked_for_is_not_logged_in_to() {
    let mut scene = Scene::new();
    // The device gets another name, and then an old backup of its folder.
    scene.agent.stop().unwrap();
    let backup = scene.agent.dir().join("backup");
    std::fs::rename(scene.agent.data_dir(), &backup).unwrap();
    copy(&backup, &scene.agent.data_dir());
    let token = scene.cluster.tctl_json(&["tokens", "add"]).unwrap();
    let (secret, pin) = (text(&token, "token"), text(&token, "ca_pin"));
    let rename = ["--force", "--node-name", "gateway-2"];
    let joined = scene.agent.join(&scene.cluster, &secret, &pin, &rename);
    joined.unwrap().ok().unwrap();
    std::fs::remove_dir_all(scene.agent.data_dir()).unwrap();
    std::fs::rename(&backup, scene.agent.data_dir()).unwrap();
    scene.agent.start().unwrap();
    scene.cluster.wait_online("gateway-2", true).unwrap();
    let target = format!("{}@gateway-2", me());
    let done = scene.operator.tsh(&["ssh", &target, "true"]).unwrap();
    done.refused(246, "its host certificate is for another host")
        .unwrap();

    // The host CA of another cluster, with which this one's nodes have nothing to do.
    let (_dir, other) = Cluster::temporary().unwrap();
    let ca = other.tctl(&["auth", "export", "--type", "host"]).unwrap();
    let ca = ca.ok().unwrap();
    let key = ca.lines().next().unwrap().splitn(3, ' ').nth(2).unwrap();
    let known_hosts = scene.operator.kept("known_hosts").unwrap();
    // As tsh keeps it.
    std::fs::write(known_hosts, format!("@cert-authority * {key}\n")).unwrap();
    let done = scene.operator.tsh(&["ssh", &target, "true"]).unwrap();
    done.refused(246, "is not signed by the cluster's CA")
        .unwrap();
    let mut ssh = scene.operator.ssh().unwrap();
    let done = run(ssh.args([&format!("{target}.lab"), "true"]), b"").unwrap();
    done.refused(255, "Host key verification failed").unwrap();
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let mut cp = std::process::Command::new("cp");
    run(cp.arg("-a").arg(from).arg(to), b"")
        .unwrap()
        .ok()
        .unwrap();
}
