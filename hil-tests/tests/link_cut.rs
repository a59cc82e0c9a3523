//! Links that are gone for a while, and clusters.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what it measures"
)]

use std::io::Read;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hil_tests::cluster::me;
use hil_tests::net::emulator::{Direction, Emulator, Interface, Shape};
use hil_tests::process::poll;
use hil_tests::scene;
use hil_tests::scene::{NODE, REACH_LIMIT, Scene};

/// A dial over a dead path is refused within 5 s, and a busy machine may be slow.
const REFUSED: Duration = Duration::from_secs(30);

#[test]
fn a_device_is_back_after_a_minute_without_a_network() {
    let scene = scene!();
    println!(
        "before the cut, a command took {:?}",
        scene.reach().unwrap()
    );
    scene.links.cut();
    let start = Instant::now();
    let refused = scene.ssh("true").unwrap();
    let waited = start.elapsed();
    println!("a dial was refused after {waited:?}");
    assert!(waited < REFUSED, "{waited:?}");
    let sentence = "gateway-1 is offline: last seen";
    refused.refused(252, sentence).unwrap();
    scene.wait(Duration::from_mins(1).saturating_sub(start.elapsed()));
    scene.links.mend();
    let back = scene.reach().unwrap();
    println!("reached {back:?} after a cut of a minute");
}

#[test]
fn a_dial_that_was_given_up_leaves_no_session_on_the_device() {
    let scene = scene!();
    // The device hears of it, and is not heard.
    let link = scene.links.link(Interface::Wlan);
    link.set_cut_one(Direction::Up, true);
    std::thread::scope(|scope| {
        let dial = scope.spawn(|| scene.ssh("true"));
        scene.agent.wait_for_status(r#""sessions":1"#).unwrap();
        let sentence = "gateway-1 is offline: last seen";
        let refused = dial.join().unwrap().unwrap();
        refused.refused(252, sentence).unwrap();
    });
    scene.agent.wait_for_status(r#""sessions":0"#).unwrap();
    link.set_cut_one(Direction::Up, false);
    scene.reach().unwrap();
}

#[test]
fn a_killed_cluster_has_its_devices_back() {
    let mut scene = scene!();
    scene.cluster.kill().unwrap();
    scene.cluster.resume().unwrap();
    let back = scene.reach().unwrap();
    println!("reached {back:?} after the cluster's restart");
}

#[test]
fn a_copy_goes_on_after_twenty_seconds_without_a_network() {
    a_copy_goes_on("");
}

#[test]
fn a_copy_goes_on_where_only_who_is_there_is_asked() {
    a_copy_goes_on("keepalive = \"metered\"\n");
}

fn a_copy_goes_on(config: &str) {
    const MB: u64 = 1_000_000;
    const GONE: Duration = Duration::from_secs(20);
    // QUIC by itself asks again up to as long after that as it was dark.
    const SOON: Duration = Duration::from_secs(10);
    let Ok(links) = Emulator::new(7) else {
        eprintln!("skipped: this machine does not let us emulate links");
        return;
    };
    let mut scene = Scene::behind(links, config).unwrap();
    scene.start().unwrap();
    scene.links.shape(Shape::cellular());
    let mut tsh = scene.operator.command().unwrap();
    tsh.args(["ssh", &format!("{}@{NODE}", me()), "cat /dev/zero"]);
    let mut copy = tsh
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut bytes = copy.stdout.take().unwrap();
    let received = AtomicU64::new(0);
    let comes = |wanted: u64| {
        let enough = || (received.load(Ordering::Relaxed) >= wanted).then_some(());
        assert!(poll(REACH_LIMIT, enough).is_some(), "{}", scene.agent.log());
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(read @ 1..) = bytes.read(&mut buffer) {
                received.fetch_add(read as u64, Ordering::Relaxed);
            }
        });
        comes(MB);
        // What is in flight fills the window, and none of it arrives.
        scene.links.cut();
        scene.wait(GONE);
        let before = received.load(Ordering::Relaxed);
        scene.links.mend();
        let back = scene.reach().unwrap();
        println!("a dial beside the copy: {back:?}");
        assert!(back < SOON, "{}", scene.agent.log());
        comes(before + MB);
        copy.kill().unwrap();
    });
    copy.wait().unwrap();
}
