//! Devices whose network changes: another address, another uplink, none for a while.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it measures"
)]

use std::time::Instant;

use hil_tests::cluster::{Agent, Cluster, Person, me, text};
use hil_tests::net::{Nat, Network, Uplink};
use hil_tests::terminal::Terminal;
use serde_json::Value;

const ROUTER_KNOWN: &str = r#""gateway_hardware":""#;

/// Somebody in a shell on a device that has uplinks.
struct Scene {
    terminal: Terminal,
    operator: Person,
    agent: Agent,
    _cluster: Cluster,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Option<Self> {
        if !Nat::available() {
            eprintln!("skipped: this machine allows no network namespaces");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Cluster::start(dir.path(), "127.0.0.1").unwrap();
        cluster.use_plain_accounts().unwrap();
        cluster.add_user("operator", "access", &me()).unwrap();
        let agent = cluster.agent("gateway-1", "", Nat::new().ok().map(Network::from));
        let operator = cluster.logged_in("operator").unwrap();
        let terminal = Terminal::open(&operator, &format!("tsh ssh {}@gateway-1", me())).unwrap();
        terminal.enter("echo up=$TETHER_USER").unwrap();
        terminal.wait_for("up=operator").unwrap();
        Some(Self {
            terminal,
            operator,
            agent: agent.unwrap(),
            _cluster: cluster,
            _dir: dir,
        })
    }

    fn nat(&self) -> &Nat {
        match self.agent.network() {
            Some(Network::Nat(nat)) => nat,
            _ => panic!("the device is not behind a router"),
        }
    }

    /// The session goes on, a new one is served, and the link is the one it was.
    fn goes_on(&self, what: &str) {
        let start = Instant::now();
        self.terminal
            .enter(&format!("echo {what}=$((6 * 7))"))
            .unwrap();
        self.terminal.wait_for(&format!("{what}=42")).unwrap();
        let session = start.elapsed();
        let target = format!("{}@gateway-1", me());
        let dialled = self.operator.tsh(&["ssh", &target, "echo served"]);
        assert_eq!(dialled.unwrap().ok().unwrap(), "served\n");
        eprintln!(
            "{what}: an echo after {} ms, a dial served after {} ms",
            session.as_millis(),
            start.elapsed().as_millis()
        );
        let log = self.agent.log();
        assert!(!log.contains("link down"), "{log}");
        assert_eq!(log.matches("link up").count(), 1, "{log}");
    }

    fn status_with(&self, wanted: &str) -> Value {
        serde_json::from_str(&self.agent.wait_for_status(wanted).unwrap()).unwrap()
    }

    /// Where the cluster sees the device.
    fn seen_at(&self) -> String {
        let nodes = self.operator.tsh(&["ls", "--format", "json"]);
        let nodes: Value = serde_json::from_str(&nodes.unwrap().ok().unwrap()).unwrap();
        text(&nodes[0], "addr")
    }
}

#[test]
fn a_session_goes_on_from_another_address() {
    let Some(scene) = Scene::new() else { return };
    let before = scene.seen_at();
    assert!(before.contains(':'), "{before}");
    // The network's name is complete once the device has talked to the router.
    let status = scene.status_with(ROUTER_KNOWN);
    assert_eq!(text(&status["network"], "local"), "192.168.77.2");
    let interface = scene.nat().interface(Uplink::First);
    let network = &status["network"];
    assert_eq!(text(network, "kind"), "wired");
    assert_eq!(text(network, "interface"), interface);
    assert_eq!(text(network, "gateway"), "192.168.77.1");
    let id = text(network, "id");

    scene.nat().readdress(Uplink::First, 9).unwrap();
    scene.goes_on("another_address");
    scene.status_with(r#""local":"192.168.77.9""#);
    scene.status_with(&id);
    let shown = scene.agent.run(&["status"], b"").unwrap().ok().unwrap();
    let line = format!("network:     {interface} (wired), via 192.168.77.1\n");
    assert!(shown.contains(&line), "{shown}");
    assert_ne!(scene.seen_at(), before, "the cluster sees it elsewhere");
}

#[test]
fn a_session_goes_on_over_another_uplink_and_back() {
    let Some(scene) = Scene::new() else { return };
    let id = |status: &Value| text(&status["network"], "id");
    let first = scene.status_with(ROUTER_KNOWN);
    scene.nat().take_down(Uplink::First).unwrap();
    scene.nat().bring_up(Uplink::Second).unwrap();
    scene.goes_on("another_uplink");
    let second = scene.status_with(r#""gateway":"192.168.78.1""#);
    assert_ne!(id(&first), id(&second), "another network");
    // The old uplink is back before the new one has gone.
    scene.nat().bring_up(Uplink::First).unwrap();
    scene.nat().take_down(Uplink::Second).unwrap();
    scene.goes_on("the_first_uplink_again");
    // It is known again by its name.
    scene.status_with(&id(&first));
}

#[test]
fn a_session_goes_on_after_a_while_without_any_network() {
    let Some(scene) = Scene::new() else { return };
    scene.nat().pull(Uplink::First).unwrap();
    let none = r#""network":{"kind":"none"}"#;
    scene.status_with(none);
    scene.nat().plug(Uplink::First).unwrap();
    scene.goes_on("cable_back");
    scene.status_with(r#""gateway":"192.168.77.1""#);

    scene.nat().take_down(Uplink::First).unwrap();
    scene.status_with(none);
    scene.nat().bring_up(Uplink::First).unwrap();
    scene.goes_on("uplink_back");
    let log = scene.agent.log();
    assert_eq!(log.matches("there is no network").count(), 2, "{log}");
}

#[test]
fn bulk_in_both_directions_arrives_whole_from_another_address() {
    let Some(scene) = Scene::new() else { return };
    let target = format!("{}@gateway-1", me());
    let bytes: Vec<u8> = (0..8_000_000u32).flat_map(u32::to_le_bytes).collect();
    let back = std::thread::scope(|scope| {
        let copy = scope.spawn(|| {
            let args = ["ssh", &*target, "cat"];
            let done = hil_tests::process::run_for_bytes(
                scene.operator.command().unwrap().args(args),
                &bytes,
            );
            done.unwrap().stdout
        });
        // It is under way when the agent serves two.
        scene.status_with(r#""sessions":2"#);
        let start = Instant::now();
        scene.nat().readdress(Uplink::First, 9).unwrap();
        scene.terminal.enter("echo beside=$((6 * 7))").unwrap();
        scene.terminal.wait_for("beside=42").unwrap();
        eprintln!(
            "beside bulk: an echo after {} ms",
            start.elapsed().as_millis()
        );
        let back = copy.join().unwrap();
        eprintln!(
            "beside bulk: all there after {} ms",
            start.elapsed().as_millis()
        );
        back
    });
    assert!(back == bytes, "{} of {} bytes", back.len(), bytes.len());
    scene.goes_on("after_bulk");
}
