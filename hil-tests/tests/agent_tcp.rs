//! Links of agents that UDP does not reach: over SSH, in TLS or without, straight or by a proxy.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;

use hil_tests::cluster::{Agent, Cluster, Person, READY, me, text};
use hil_tests::net::middlebox::Middlebox;
use hil_tests::net::portal::Portal;
use hil_tests::net::proxy::{Manners, Proxy};
use hil_tests::net::{Nat, Network};
use hil_tests::process::{run, run_for_bytes};
use hil_tests::terminal::Terminal;

const SSH: &str = r#""transport":"ssh""#;

/// A network of one's own; `None` if this machine has none to give.
fn network() -> Option<Nat> {
    if Nat::available() {
        return Some(Nat::new().unwrap());
    }
    eprintln!("skipped: this machine allows no network namespaces");
    None
}

/// A cluster with a user who may log in.
fn cluster() -> (tempfile::TempDir, Cluster) {
    let (dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    (dir, cluster)
}

/// A proxy that only `device` may use, with a password.
fn closed_proxy(addr: &str) -> Proxy {
    let proxy = Proxy::start(addr).unwrap();
    proxy.behave(Manners::Password("device".into(), "open sesame".into()));
    proxy
}

/// Joins and starts a device with this configuration.
fn linked(cluster: &Cluster, name: &str, nat: Option<Nat>, config: &str) -> Agent {
    let mut agent = cluster.device(name, nat.map(Network::from)).unwrap();
    agent.configure(config).unwrap();
    cluster.admit(&agent, "").unwrap();
    agent.start().unwrap();
    agent
}

/// A device that has joined by QUIC and is started with this configuration.
fn restarted(cluster: &Cluster, name: &str, config: &str) -> Agent {
    let mut agent = cluster.joined_agent(name, "", None).unwrap();
    agent.configure(config).unwrap();
    agent.start().unwrap();
    agent
}

fn serves(cluster: &Cluster, agent: &Agent, node: &str) {
    agent.wait_for_status(SSH).unwrap();
    cluster.wait_online(node, true).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let listed = operator.tsh(&["ls", "-v"]).unwrap().ok().unwrap();
    let line = listed.lines().find(|line| line.contains(node)).unwrap();
    assert!(line.contains("ssh"), "{listed}");
    let target = format!("{}@{node}", me());
    thread::scope(|scope| {
        scope.spawn(|| programs_end_as_they_do(&operator, &target));
        scope.spawn(|| many_bytes_both_ways_at_once(&operator, &target));
        scope.spawn(|| a_terminal_is_one(&operator, &target));
        scope.spawn(|| openssh_gets_in(&operator, &target));
    });
}

fn programs_end_as_they_do(operator: &Person, target: &str) {
    let words = ["ssh", target, "echo out; echo err >&2; exit 42"];
    let done = operator.tsh(&words).unwrap();
    assert_eq!(
        (done.code(), done.stdout.as_str(), done.stderr.as_str()),
        (42, "out\n", "err\n")
    );
}

fn many_bytes_both_ways_at_once(operator: &Person, target: &str) {
    let input: Vec<u8> = (0..64_u32 << 20).map(|i| (i % 251) as u8).collect();
    let mut cat = operator.command().unwrap();
    let done = run_for_bytes(cat.args(["ssh", target, "cat"]), &input).unwrap();
    assert_eq!(done.status.code(), Some(0), "{:?}", done.stderr);
    assert!(done.stdout == input, "{} bytes", done.stdout.len());
}

fn a_terminal_is_one(operator: &Person, target: &str) {
    let terminal = Terminal::open(operator, &format!("tsh ssh {target}")).unwrap();
    terminal.enter("echo up=$TETHER_USER").unwrap();
    terminal.wait_for("up=operator").unwrap();
    terminal.resize(90, 20).unwrap();
    terminal.enter("clear; stty size").unwrap();
    terminal.wait_for("20 90").unwrap();
    terminal.enter("exit 3").unwrap();
    terminal.wait_for("ended with 3").unwrap();
}

fn openssh_gets_in(operator: &Person, target: &str) {
    let mut ssh = operator.ssh().unwrap();
    ssh.args([&format!("{target}.lab"), "echo hello; exit 5"]);
    let done = run(&mut ssh, b"").unwrap();
    assert_eq!((done.stdout.as_str(), done.code()), ("hello\n", 5));
}

#[test]
fn a_device_without_udp_joins_links_and_serves() {
    let Some(nat) = network() else { return };
    nat.block_udp().unwrap();
    let (_dir, cluster) = cluster();
    let agent = linked(&cluster, "gateway-1", Some(nat), "");
    serves(&cluster, &agent, "gateway-1");
    cluster.audited("TJ001I", "gateway-1").unwrap();
}

#[test]
fn a_device_that_only_a_proxy_is_open_to_joins_links_and_serves() {
    let Some(nat) = network() else { return };
    let proxy = closed_proxy(&format!("{}:0", nat.host_addr()));
    nat.allow_only(proxy.addr().port()).unwrap();
    let (_dir, cluster) = cluster();
    let config = format!("proxy = \"http://device:open%20sesame@{}\"\n", proxy.addr());
    let agent = linked(&cluster, "gateway-1", Some(nat), &config);
    serves(&cluster, &agent, "gateway-1");
    let connected = proxy.connected();
    assert!(connected >= 2, "{connected} connections");
    for text in [agent.log(), agent.wait_for_status(SSH).unwrap()] {
        assert!(!text.contains("sesame"), "{text}");
    }
}

#[test]
fn a_box_that_refuses_tls_lets_ssh_pass() {
    let (_dir, cluster) = cluster();
    let middlebox = Middlebox::without_tls("127.0.0.1:0", cluster.port()).unwrap();
    let config = format!("cluster = \"{}\"\n", middlebox.addr());
    let agent = restarted(&cluster, "gateway-1", &config);
    serves(&cluster, &agent, "gateway-1");
    assert_eq!(middlebox.passed(), 1);
}

#[test]
fn users_jump_through_the_port_that_agents_link_to() {
    let (_dir, cluster) = cluster();
    let agent = restarted(&cluster, "gateway-1", "transport = \"ssh\"\n");
    agent.wait_for_status(SSH).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let config = operator.ssh_config().unwrap();
    let mut ssh = operator.program(std::path::Path::new("ssh"));
    ssh.arg("-F").arg(config).args(["-o", "BatchMode=yes"]);
    ssh.args(["-W", "gateway-1:22", "-p", &cluster.port().to_string()]);
    let done = run(ssh.arg("operator@127.0.0.1"), b"").unwrap();
    assert!(done.stdout.starts_with("SSH-2.0-Tether_"), "{done:?}");
}

#[test]
fn what_a_proxy_says_is_told() {
    let (_dir, cluster) = cluster();
    let proxy = closed_proxy("127.0.0.1:0");
    let through = |user: &str| {
        let address = proxy.addr();
        format!("transport = \"ssh\"\nproxy = \"http://{user}{address}\"\n")
    };
    for (name, user, sentence) in [
        (
            "nobody",
            "",
            "the HTTP proxy asks for a user name and password (407)",
        ),
        (
            "somebody",
            "device:wr0ng@",
            "the HTTP proxy does not accept the user name and password that it was given (407)",
        ),
    ] {
        let agent = restarted(&cluster, name, &through(user));
        let status = agent.wait_for_status(sentence).unwrap();
        assert!(!status.contains("wr0ng"), "{status}");
        assert!(!agent.log().contains("wr0ng"), "{}", agent.log());
    }
    let agent = restarted(&cluster, "known", &through("device:open%20sesame@"));
    agent.wait_for_status(SSH).unwrap();

    let mut gone = cluster.joined_agent("gone", "", None).unwrap();
    let lost = "cluster = \"127.0.0.1:1\"\n";
    let config = format!("{lost}{}", through("device:open%20sesame@"));
    gone.configure(&config).unwrap();
    gone.start().unwrap();
    let sentence = "the HTTP proxy cannot reach the cluster (502 Bad Gateway)";
    gone.wait_for_status(sentence).unwrap();
}

#[test]
fn a_proxy_of_the_environment_is_used_unless_it_is_excepted() {
    let (_dir, cluster) = cluster();
    let proxy = Proxy::start("127.0.0.1:0").unwrap();
    let join = |name: &str, except: &str| {
        let token = cluster.tctl_json(&["tokens", "add"]).unwrap();
        let (secret, pin) = (text(&token, "token"), text(&token, "ca_pin"));
        let device = cluster.device(name, None).unwrap();
        device.configure("transport = \"ssh\"\n").unwrap();
        let mut join = device.command().unwrap();
        join.args(["join", "--cluster", &cluster.addr(), "--ca-pin", &pin])
            .args(["--node-name", name, "--token-file", "-"])
            .env("HTTPS_PROXY", format!("http://{}", proxy.addr()))
            .env("NO_PROXY", except);
        run(&mut join, secret.as_bytes()).unwrap().ok().unwrap();
    };
    join("by-proxy", "example.com");
    assert_eq!(proxy.connected(), 1);
    join("straight", "127.0.0.0/8");
    assert_eq!(proxy.connected(), 1);
}

#[test]
fn a_captive_portal_is_told_as_such() {
    let (_dir, cluster) = cluster();
    let redirect = "HTTP/1.1 302 Found\r\nLocation: http://portal/\r\nContent-Length: 0\r\n\r\n";
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>Log in</html>";
    for (name, answer) in [("redirected", redirect), ("answered", page)] {
        let portal = Portal::with_answer("127.0.0.1:0", answer).unwrap();
        let here = portal.addr();
        let straight = restarted(&cluster, name, &format!("cluster = \"{here}\"\n"));
        let sentence = "speaks HTTP, as captive portals do: somebody must log in to this network";
        straight.wait_for_status(sentence).unwrap();
        let config = format!("transport = \"ssh\"\nproxy = \"http://{here}\"\n");
        let by_proxy = restarted(&cluster, &format!("{name}-by-proxy"), &config);
        let sentence = "as captive portals do: somebody must log in to this network";
        by_proxy.wait_for_status(sentence).unwrap();
    }
}

#[test]
fn another_cluster_is_not_believed_over_tcp() {
    let (_dir, mut cluster) = cluster();
    let middlebox = Middlebox::without_tls("127.0.0.1:0", cluster.port()).unwrap();
    let agent = restarted(&cluster, "gateway-1", "transport = \"ssh\"\n");
    agent.wait_for_status(SSH).unwrap();
    let config = format!("cluster = \"{}\"\n", middlebox.addr());
    let bare = restarted(&cluster, "gateway-2", &config);
    bare.wait_for_status(SSH).unwrap();

    let other = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let device = cluster.device("gateway-3", None).unwrap();
    device.configure("transport = \"ssh\"\n").unwrap();
    let done = device.join(&cluster, "tjoin-0123", other, &[]).unwrap();
    done.refused(5, "not the trusted cluster").unwrap();

    cluster.set_up_anew().unwrap();
    let told = "what answers is not the trusted cluster";
    agent.wait_for_status(told).unwrap();
    let told = "what answers is not the trusted cluster (its SSH certificate is of another CA)";
    bare.wait_for_status(told).unwrap();
}

#[test]
fn certificates_are_renewed_and_replaced_over_tcp() {
    let (_dir, cluster) = Cluster::with_clock("-8d").unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let only = "transport = \"ssh\"\n";
    let join = |name: &str| {
        let agent = cluster.device(name, None).unwrap();
        agent.configure(only).unwrap();
        cluster.admit(&agent, "").unwrap();
        agent
    };
    let mut expired = join("expired");
    cluster.set_clock("-4d").unwrap();
    let mut half = join("half");
    cluster.set_clock("+0").unwrap();
    for (agent, log) in [
        (&mut expired, "new certificates, generation=2"),
        (&mut half, "certificates renewed, generation=2"),
    ] {
        agent.start().unwrap();
        agent.wait_for_status(r#""generation":2"#).unwrap();
        agent.wait_for_status(SSH).unwrap();
        assert!(agent.log().contains(log), "{}", agent.log());
    }
    for node in ["half", "expired"] {
        cluster.audited("TJ003I", node).unwrap();
        cluster.wait_online(node, true).unwrap();
    }

    // The device takes its certificate for good; the cluster knows better.
    let mut fooled = join("fooled");
    cluster.set_clock("+8d").unwrap();
    fooled.start().unwrap();
    fooled.wait_for_status(r#""generation":2"#).unwrap();
    fooled.wait_for_status(SSH).unwrap();
    cluster.audited("T3007W", "certificate expired").unwrap();
}

#[test]
fn a_node_is_refused_and_its_link_ends_as_over_quic() {
    let (_dir, mut cluster) = cluster();
    let only = "transport = \"ssh\"\n";
    let mut agent = restarted(&cluster, "gateway-1", only);
    agent.wait_for_status(SSH).unwrap();
    // A restart is told before it comes.
    cluster.stop().unwrap();
    agent.wait_for_status(r#""state":"waiting""#).unwrap();
    let log = agent.log();
    assert!(log.contains("the cluster"), "{log}");
    cluster.resume().unwrap();
    agent.wait_for_status(SSH).unwrap();
    cluster.wait_online("gateway-1", true).unwrap();
    agent.stop().unwrap();
    cluster.wait_online("gateway-1", false).unwrap();
    assert!(cluster.log().contains("agent stopped"), "{}", cluster.log());

    agent.start().unwrap();
    cluster.wait_online("gateway-1", true).unwrap();
    let removed = cluster.tctl(&["nodes", "rm", "gateway-1"]).unwrap();
    removed.ok().unwrap();
    let told = "this node was removed and must join anew";
    agent.wait_for_status(told).unwrap();
}

#[test]
fn strangers_on_the_port_are_given_up() {
    let (_dir, cluster) = cluster();
    let agent = restarted(&cluster, "gateway-1", "transport = \"ssh\"\n");
    agent.wait_for_status(SSH).unwrap();
    // More than one address may have, some silent, some that say hello as agents do and no more.
    let strangers: Vec<_> = (0..200)
        .map(|n| {
            let mut tcp = TcpStream::connect(("127.0.0.1", cluster.port())).unwrap();
            // It may be turned away already.
            let hello: &[u8] = if n % 2 == 0 {
                b""
            } else {
                b"SSH-2.0-TetherAgent_0.1.0\r\n"
            };
            tcp.write_all(hello).ok();
            tcp.set_read_timeout(Some(READY)).unwrap();
            tcp
        })
        .collect();
    for mut tcp in strangers {
        let end = tcp.read_to_end(&mut Vec::new());
        let waited = end.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(!waited, "kept for longer than {READY:?}");
    }
    // All places are free again.
    let second = restarted(&cluster, "gateway-2", "transport = \"ssh\"\n");
    second.wait_for_status(SSH).unwrap();
    cluster.wait_online("gateway-1", true).unwrap();
}
