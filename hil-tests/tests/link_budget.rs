//! What a link costs on the wire, packet by packet: simulations count whole days with these figures.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what it measures"
)]

use std::time::Duration;

use hil_tests::net::emulator::{Count, Emulator};
use hil_tests::net::middlebox::Middlebox;
use hil_tests::process::poll;
use hil_tests::scene::{REACH_LIMIT, Scene};
use protocol::cost;
use serde_json::Value;

/// So long after the last packet, nothing follows from it any more. Less than between two
/// heartbeats.
const QUIET: Duration = Duration::from_secs(6);
/// Over SSH: heartbeats every 15 s, and nothing to learn.
const OFTEN: &str = "keepalive = \"lan\"\n";
/// Over QUIC: heartbeats every 25 s, and then a little less often each time.
const NORMAL: &str = "keepalive = \"normal\"\n";
/// A busy machine repeats a packet now and then.
const TRIES: usize = 5;

/// What has gone over the wire, once there was something and it is quiet again.
fn burst(scene: &Scene) -> Count {
    let count = || {
        let counters = scene.wlan().counters();
        Count {
            packets: counters.up.offered.packets + counters.down.offered.packets,
            bytes: counters.bytes(),
        }
    };
    let begun = poll(REACH_LIMIT, || (count().packets > 0).then_some(()));
    assert!(begun.is_some(), "nothing was sent: {}", scene.agent.log());
    loop {
        let before = count();
        scene.wait(QUIET);
        if count() == before {
            scene.wlan().reset_counters();
            return before;
        }
    }
}

/// The cheapest of some tries, since only that is without repetitions.
fn cheapest(what: &str, most: u64, mut happen: impl FnMut() -> Count) {
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let count = happen();
        println!("{what}: {count:?}");
        if count.bytes <= most {
            return;
        }
        seen.push(count);
    }
    panic!("{what} costs more than {most} bytes: {seen:?}");
}

fn trace(scene: &Scene) {
    if let Some(file) = std::env::var_os("TETHER_TRACE") {
        scene.links.trace(Some(file.as_ref())).unwrap();
    }
}

/// Bytes on the wire by the agent's own count.
fn counted(scene: &Scene) -> u64 {
    let status = scene.agent.wait_for_status(r#""transport":"ssh""#).unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    status["bytes_spent"].as_u64().unwrap()
}

/// The agent learns of its packets from the kernel, options of a SYN excepted.
fn agrees(what: &str, counted: u64, seen: Count) {
    println!("{what}: the agent counts {counted} of {seen:?}");
    assert!(counted.abs_diff(seen.bytes) * 20 <= seen.bytes, "{what}");
}

#[test]
fn a_link_its_heartbeats_and_a_lost_mapping_cost_what_is_said() {
    let Ok(links) = Emulator::new(7) else {
        eprintln!("skipped: this machine does not let us emulate links");
        return;
    };
    let mut scene = Scene::behind(links, NORMAL).unwrap();
    trace(&scene);
    scene.start().unwrap();
    burst(&scene);
    cheapest("a link", cost::LINK, || {
        scene.agent.stop().unwrap();
        burst(&scene);
        scene.start().unwrap();
        burst(&scene)
    });
    cheapest("a heartbeat", cost::HEARTBEAT, || burst(&scene));
    cheapest("a lost mapping", cost::HEARTBEAT + cost::REBOUND, || {
        scene.links.lose_mappings();
        burst(&scene)
    });
    assert!(!scene.agent.log().contains("link down"));
}

#[test]
fn a_link_over_ssh_and_its_heartbeats_cost_what_is_said_and_what_the_agent_counts() {
    let Ok(links) = Emulator::new(7) else {
        eprintln!("skipped: this machine does not let us emulate links");
        return;
    };
    let in_tls = format!("{OFTEN}transport = \"ssh\"\n");
    let mut scene = Scene::behind(links, &in_tls).unwrap();
    let addr = format!("{}:0", scene.links.host_addr());
    let middlebox = Middlebox::without_tls(&addr, scene.cluster.port()).unwrap();
    let bare = format!("{in_tls}cluster = \"{}\"\n", middlebox.addr());
    trace(&scene);
    for (around, config) in [("in TLS", &in_tls), ("bare", &bare)] {
        scene.agent.configure(config).unwrap();
        scene.wlan().reset_counters();
        scene.start().unwrap();
        let link = burst(&scene);
        if around == "in TLS" {
            agrees("a link", counted(&scene), link);
        }
        cheapest(&format!("a link, {around}"), cost::SSH_LINK, || {
            scene.agent.stop().unwrap();
            burst(&scene);
            scene.start().unwrap();
            burst(&scene)
        });
        cheapest(
            &format!("a heartbeat, {around}"),
            cost::SSH_HEARTBEAT,
            || {
                let before = counted(&scene);
                let seen = burst(&scene);
                agrees("a heartbeat", counted(&scene) - before, seen);
                seen
            },
        );
        scene.agent.stop().unwrap();
        burst(&scene);
    }
    assert!(middlebox.passed() > 0, "without TLS at last");
}
