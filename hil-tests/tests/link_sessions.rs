//! Sessions over emulated links that stop passing UDP, pass it again, and move, while bytes are under
//! way; and whose clients are stopped meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::panic,
    reason = "a test fails by panicking, and prints what it measures"
)]

use std::io::{Read, Write};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use hil_tests::apart;
use hil_tests::apart::{ATTACHED, Apart, DETACHED, ENDED, STARTED};
use hil_tests::cluster::{Cluster, PASSWORD, me};
use hil_tests::exchange::{LIMIT, comes_back_whole, pattern, piped};
use hil_tests::net::Network;
use hil_tests::net::emulator::{Emulator, Protocol, Rule, Shape};
use hil_tests::process::poll;
use hil_tests::scene::{NODE, REACH_LIMIT, Scene};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SIZE: u32 = 24_000_000;
/// QUIC between tsh and the cluster ends after three minutes of silence, a little sooner than this;
/// everything else that asks for a sign of life gives up before: TCP after one minute, a stream that
/// outlives its links after 8 s.
const KEEPALIVES: Duration = Duration::from_secs(180);

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

/// A program on the device that gives back what it is given.
fn copied(scene: &Scene) -> Child {
    let mut tsh = scene.operator.command().unwrap();
    tsh.args(["ssh", &format!("{}@{NODE}", me()), "cat"]);
    piped(&mut tsh).unwrap()
}

#[test]
fn a_copy_goes_on_when_its_device_falls_back_to_tcp_and_returns() {
    let Some(links) = links() else { return };
    let mut scene = Scene::behind(links, "keepalive = \"lan\"\n").unwrap();
    scene.start().unwrap();
    comes_back_whole(copied(&scene), &pattern(SIZE), 2, |part| {
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
    comes_back_whole(copied(&scene), &pattern(SIZE), 4, |part| {
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

/// Bytes that a session is promised, both ways.
const PROMISED: u64 = 512 << 10;
/// Enough for several round trips of as much as may be borrowed.
const LONG: usize = 32_000_000;

/// Bytes that the device sets aside for its sessions.
fn set_aside(scene: &Scene) -> u64 {
    let status = scene.agent.wait_for_status("session_memory").unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    status.get("session_memory").unwrap().as_u64().unwrap()
}

#[test]
fn a_session_borrows_memory_while_a_long_path_needs_it_and_gives_it_back() {
    let Some(links) = links() else { return };
    let mut scene = Scene::behind(links, "").unwrap();
    scene.start().unwrap();
    // Of that, 600 KiB are under way if nothing holds them up.
    scene.links.shape(Shape {
        rate: Some(50_000_000),
        queue: 1 << 20,
        ..Shape::lossy(Duration::from_millis(100), 0.0)
    });
    let mut tsh = scene.operator.command().unwrap();
    let command = format!("head -c {LONG} /dev/zero; exec cat");
    tsh.args(["ssh", &format!("{}@{NODE}", me()), &command]);
    let mut tsh = piped(&mut tsh).unwrap();
    let mut output = tsh.stdout.take().unwrap();
    let mut output = thread::scope(|scope| {
        let reading = scope.spawn(move || {
            output.read_exact(&mut vec![0; LONG]).unwrap();
            output
        });
        let lent = || Some(set_aside(&scene)).filter(|bytes| *bytes > PROMISED);
        let lent = poll(LIMIT, lent);
        println!("{lent:?} bytes at most, as far as it was seen");
        assert!(lent.is_some(), "nothing was lent");
        reading.join().unwrap()
    });
    let back = || (set_aside(&scene) == PROMISED).then_some(());
    assert!(poll(LIMIT, back).is_some(), "{}", set_aside(&scene));
    let mut input = tsh.stdin.take().unwrap();
    input.write_all(b"still here").unwrap();
    drop(input);
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!(said, "still here");
    assert!(tsh.wait().unwrap().success());
    let none = || (set_aside(&scene) == 0).then_some(());
    assert!(poll(LIMIT, none).is_some(), "{}", set_aside(&scene));
}

/// A session that gives back what it is given, once it has begun.
fn session(apart: &Apart) -> Child {
    let mut tsh = apart.operator.command().unwrap();
    let target = format!("{}@{NODE}", me());
    let mut tsh = piped(tsh.args(["ssh", &target, "echo; exec cat"])).unwrap();
    let mut begun = [0];
    tsh.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    tsh
}

#[test]
fn clients_that_are_stopped_for_longer_than_every_keepalive_go_on() {
    let apart = apart!("", "");
    apart.near.block(udp());
    let over_tcp = session(&apart);
    apart.near.unblock();
    let over_quic = session(&apart);
    let started = apart.sessions(STARTED).unwrap();
    let [_, of_quic] = &started[..] else {
        panic!("{started:?}");
    };
    // Both at once, since it takes so long.
    thread::scope(|scope| {
        for tsh in [over_tcp, over_quic] {
            scope.spawn(|| {
                let pid = Pid::from_raw(tsh.id().try_into().unwrap());
                comes_back_whole(tsh, &pattern(SIZE), 1, |_| {
                    kill(pid, Signal::SIGSTOP).unwrap();
                    let asleep = Instant::now();
                    let given_up = poll(LIMIT, || {
                        let detached = apart.sessions(DETACHED).unwrap();
                        let long = asleep.elapsed() > KEEPALIVES;
                        (long && detached.contains(of_quic)).then_some(detached)
                    });
                    println!("stopped for {:?}: {given_up:?}", asleep.elapsed());
                    kill(pid, Signal::SIGCONT).unwrap();
                    assert!(given_up.is_some());
                })
                .unwrap();
            });
        }
    });
    apart.wait_for(ENDED, 2).unwrap();
    let attached = apart.sessions(ATTACHED).unwrap();
    assert!(attached.contains(of_quic), "{attached:?}");
}

#[test]
fn a_stream_that_the_cluster_believes_in_is_detached_when_the_next_one_comes() {
    let apart = apart!("", "");
    apart.near.block(udp());
    let mut tsh = session(&apart);
    let mut answers = tsh.stdout.take().unwrap();
    for times in 1..=3 {
        // A reset tells the client that its connection is gone; nothing tells the cluster.
        apart.near.lose_mappings();
        tsh.stdin
            .as_mut()
            .unwrap()
            .write_all(b"still here")
            .unwrap();
        let mut answer = [0; 10];
        answers.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"still here");
        apart.wait_for(ATTACHED, times).unwrap();
    }
    drop(tsh.stdin.take());
    assert!(tsh.wait().unwrap().success());
    apart.wait_for(ENDED, 1).unwrap();
    let started = apart.sessions(STARTED).unwrap();
    let story = apart.cluster.story(&started[0]).unwrap();
    let moves = [DETACHED, ATTACHED].repeat(3);
    let whole = [&[STARTED], &moves[..], &[ENDED]].concat();
    assert_eq!(story, whole);
}
