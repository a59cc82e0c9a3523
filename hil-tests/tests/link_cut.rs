//! Links that are gone for a while, and clusters.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what it measures"
)]

use std::time::{Duration, Instant};

use hil_tests::scene;

#[test]
fn a_device_is_back_after_twenty_seconds_without_a_network() {
    let scene = scene!();
    println!(
        "before the cut, a command took {:?}",
        scene.reach().unwrap()
    );
    scene.links.cut();
    let start = Instant::now();
    let refused = scene.ssh("true").unwrap();
    println!("a dial was refused after {:?}", start.elapsed());
    let sentence = "gateway-1 is offline: last seen";
    refused.refused(252, sentence).unwrap();
    scene.wait(Duration::from_secs(20).saturating_sub(start.elapsed()));
    scene.links.mend();
    let back = scene.reach().unwrap();
    println!("reached {back:?} after a cut of 20 s");
}

#[test]
fn a_killed_cluster_has_its_devices_back() {
    let mut scene = scene!();
    scene.cluster.kill().unwrap();
    scene.cluster.resume().unwrap();
    let back = scene.reach().unwrap();
    println!("reached {back:?} after the cluster's restart");
}
