//! Devices that come from elsewhere all of a sudden, which only some of them can know: what is
//! under way goes on, and what is new is served.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what it measures"
)]

use std::time::Instant;

use hil_tests::net::emulator::Emulator;
use hil_tests::scene;
use hil_tests::scene::Scene;

/// A session that is there when it happens, and one after it.
fn goes_on(scene: &Scene, what: &str, happen: impl FnOnce()) {
    let terminal = scene.shell().unwrap();
    happen();
    let word = what.replace(' ', "_");
    let echo = scene.echo(&terminal, &word).unwrap();
    let dial = scene.reach().unwrap();
    println!("{what}: the session goes on after {echo:?}, a dial takes {dial:?}");
}

#[test]
fn another_address_of_the_device() {
    let scene = scene!();
    goes_on(&scene, "another address", || {
        scene.wlan().change_address().unwrap();
    });
}

#[test]
fn another_network_with_another_address_in_the_world() {
    let scene = scene!();
    goes_on(&scene, "another network", || scene.wlan().roam().unwrap());
}

#[test]
fn another_address_that_only_the_world_sees() {
    let scene = scene!();
    goes_on(&scene, "another NAT", || scene.wlan().change_nat());
}

#[test]
fn mappings_that_are_lost() {
    let scene = scene!();
    goes_on(&scene, "lost mappings", || scene.links.lose_mappings());
}

#[test]
fn from_wifi_to_the_modem_and_back() {
    let scene = scene!();
    goes_on(&scene, "to the modem", || {
        scene.wwan().bring_up().unwrap();
        scene.wlan().take_down().unwrap();
    });
    goes_on(&scene, "back to wifi", || {
        scene.wlan().bring_up().unwrap();
        scene.wwan().take_down().unwrap();
    });
    goes_on(&scene, "both to the modem", || {
        scene.wwan().bring_up().unwrap();
        scene.wwan().prefer().unwrap();
    });
}

#[test]
fn a_path_that_swallows_long_packets_from_now_on() {
    let scene = scene!();
    let bytes: String = (0..100_000)
        .map(|number| format!("{number:06}\n"))
        .collect();
    let there_and_back = || {
        let back = scene.ssh_with("cat", bytes.as_bytes()).unwrap();
        assert!(back.ok().unwrap() == bytes, "what came back is different");
    };
    // Both ends find out how long packets may be.
    there_and_back();
    goes_on(&scene, "short packets only", || {
        scene.links.filter(|filter| filter.longest = Some(1300));
        there_and_back();
    });
    let counters = scene.wlan().counters();
    for swallowed in [counters.up.filtered, counters.down.filtered] {
        assert!(swallowed.packets > 0, "{counters:?}");
    }
}

#[test]
fn where_bytes_cost_nothing_a_dial_after_another_nat_is_served_by_an_idle_device() {
    let Ok(links) = Emulator::new(7) else {
        eprintln!("skipped: this machine does not let us emulate links");
        return;
    };
    let mut scene = Scene::behind(links, "keepalive = \"lan\"\n").unwrap();
    scene.start().unwrap();
    for _ in 0..5 {
        // Sessions of dials are over before.
        scene.agent.wait_for_status(r#""sessions":0"#).unwrap();
        scene.wlan().change_nat();
        let start = Instant::now();
        let served = scene.ssh("echo served").unwrap();
        assert_eq!(served.ok().unwrap(), "served\n");
        println!("served {:?} after the change", start.elapsed());
    }
}
