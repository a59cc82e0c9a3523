//! Sessions over emulated links that stop passing UDP, pass it again, and move, while bytes are under
//! way.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use hil_tests::cluster::{Cluster, PASSWORD, me};
use hil_tests::exchange::{comes_back_whole, pattern, piped};
use hil_tests::net::Network;
use hil_tests::net::emulator::{Emulator, Protocol, Rule};
use hil_tests::process::poll;
use hil_tests::scene::{NODE, REACH_LIMIT, Scene};

const SIZE: u32 = 24_000_000;

fn links() -> Option<Emulator> {
    let links = Emulator::new(7).ok();
    if links.is_none() {
        eprintln!("skipped: this machine does not let us emulate links");
    }
    links
}

fn udp() -> Rule {
    Rule::protocol(Protocol::Udp)
}

fn logged(scene: &Scene, words: &str, count: usize) {
    let enough = || (scene.agent.log().matches(words).count() >= count).then_some(());
    assert!(poll(REACH_LIMIT, enough).is_some(), "{}", scene.agent.log());
}

#[test]
fn a_copy_goes_on_when_its_device_falls_back_to_tcp_and_returns() {
    let Some(links) = links() else { return };
    let mut scene = Scene::behind(links, "keepalive = \"lan\"\n").unwrap();
    scene.start().unwrap();
    let target = format!("{}@{NODE}", me());
    let copy = piped(
        scene
            .operator
            .command()
            .unwrap()
            .args(["ssh", &target, "cat"]),
    );
    comes_back_whole(copy.unwrap(), &pattern(SIZE), 2, |part| {
        if part == 1 {
            scene.links.block(udp());
            logged(&scene, "link up over SSH", 1);
        } else {
            scene.links.unblock();
            logged(&scene, "link up over QUIC", 2);
        }
    })
    .unwrap();
}

#[test]
fn a_copy_goes_on_when_its_device_is_elsewhere_over_tcp() {
    let Some(links) = links() else { return };
    let mut scene = Scene::behind(links, "transport = \"ssh\"\n").unwrap();
    scene.start().unwrap();
    let target = format!("{}@{NODE}", me());
    let copy = piped(
        scene
            .operator
            .command()
            .unwrap()
            .args(["ssh", &target, "cat"]),
    );
    comes_back_whole(copy.unwrap(), &pattern(SIZE), 4, |part| {
        scene.wlan().roam().unwrap();
        logged(
            &scene,
            "link up over SSH",
            usize::try_from(part).unwrap() + 1,
        );
    })
    .unwrap();
}

#[test]
fn a_copy_goes_on_when_the_persons_network_stops_passing_udp() {
    let Some(links) = links() else { return };
    let links = std::sync::Arc::new(links);
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let _agent = cluster.agent(NODE, "", None).unwrap();
    let mut operator = cluster.person("operator");
    operator.move_behind(Network::from(&links));
    operator.login(&cluster, PASSWORD).unwrap().ok().unwrap();
    let target = format!("{}@{NODE}", me());
    let copy = piped(operator.command().unwrap().args(["ssh", &target, "cat"]));
    comes_back_whole(copy.unwrap(), &pattern(SIZE), 3, |part| match part {
        1 => links.block(udp()),
        2 => links.unblock(),
        _ => links.lose_mappings(),
    })
    .unwrap();
}
