//! What a link costs on the wire, packet by packet: simulations count whole days with these figures.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what it measures"
)]

use std::time::Duration;

use hil_tests::net::emulator::{Count, Emulator};
use hil_tests::process::poll;
use hil_tests::scene::{REACH_LIMIT, Scene};
use protocol::cost;

/// So long after the last packet, nothing follows from it any more. Less than between two
/// heartbeats.
const QUIET: Duration = Duration::from_secs(6);
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

#[test]
fn a_link_its_heartbeats_and_a_lost_mapping_cost_what_is_said() {
    let Ok(links) = Emulator::new(7) else {
        eprintln!("skipped: this machine does not let us emulate links");
        return;
    };
    // Heartbeats every 15 s, and nothing to learn.
    let mut scene = Scene::behind(links, "keepalive = \"lan\"\n").unwrap();
    if let Some(file) = std::env::var_os("TETHER_TRACE") {
        scene.links.trace(Some(file.as_ref())).unwrap();
    }
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
