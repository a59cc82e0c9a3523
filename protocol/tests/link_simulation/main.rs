//! The link supervisor against simulated paths and a cluster, in virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod cluster;
mod cuts;
mod nat;
mod quiet;
mod silence;
mod transports;
mod world;

use std::time::Duration;

use protocol::keepalive::Profile;
use protocol::link::{CONNECT_TIMEOUT, Event, Loss, Memory, REFUSED_WAIT, WELCOME_TIMEOUT, Which};
use protocol::message::control::Refusal;
use protocol::transport::{Kind, Policy};

use world::{Path, ROUND_TRIP, World};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn loss(world: &mut World) -> Loss {
    match world.run_until_event() {
        Event::Down { loss, .. } => loss,
        other => panic!("{other:?} at {:?}", world.now),
    }
}

#[test]
fn a_link_is_up_after_two_round_trips() {
    let mut world = World::new(1);
    assert_eq!(world.run_until_event(), Event::Up(Kind::Quic));
    assert_eq!(world.now, ROUND_TRIP * 2);
    assert!(
        world.told_s >= 25,
        "the cluster knows how long silence may last"
    );
}

#[test]
fn traffic_takes_the_place_of_heartbeats() {
    let mut world = World::new(1);
    world.run_until_event();
    let silence = world.link.keepalive().unwrap();
    for _ in 0..100 {
        world.run(silence / 2);
        world.link.handle_heard(world.now);
        let due = (world.now + silence, "keepalive");
        assert_eq!(world.link.poll_timeout(), due);
    }
    assert_eq!(world.trace.len(), 1);
    assert_eq!(world.heartbeats, 0);
}

#[test]
fn a_handshake_into_the_dark_times_out() {
    let mut world = World::new(1);
    world.paths(Path::Dark);
    assert_eq!(loss(&mut world), Loss::ConnectTimedOut);
    assert_eq!(world.now, CONNECT_TIMEOUT);
}

#[test]
fn a_cluster_that_does_not_welcome_is_left() {
    let mut world = World::new(1);
    world.step(Duration::MAX);
    world.step(Duration::MAX);
    world.paths(Path::Dark);
    assert_eq!(loss(&mut world), Loss::NotWelcomed);
    assert_eq!(world.now, ROUND_TRIP + WELCOME_TIMEOUT);
}

#[test]
fn a_removed_node_asks_again_rarely_but_forever() {
    let mut world = World::new(9);
    world.refusal = Some((Refusal::Removed, 0));
    world.run(s(24 * 3600));
    let connects = &world.connects;
    assert!((100..=144).contains(&connects.len()), "{}", connects.len());
    assert!(connects.windows(2).all(|w| w[1].0 - w[0].0 >= REFUSED_WAIT));
    world.refusal = None;
    world.run_until_serving();
}

#[test]
fn a_busy_clusters_delay_is_kept() {
    let mut world = World::new(3);
    world.refusal = Some((Refusal::Busy, 40));
    world.run(s(3600));
    assert!(world.connects.len() > 30);
    let connects = &world.connects;
    assert!(connects.windows(2).all(|w| w[1].0 - w[0].0 >= s(40)));
}

#[test]
fn a_drained_link_is_used_to_its_end_and_then_replaced() {
    for seed in 0..100 {
        let mut world = World::new(seed);
        world.run_until_event();
        let asked = world.drain(1000, 4000);
        assert_eq!(loss(&mut world), Loss::Drained);
        let left = world.now - asked;
        let seconds = left.as_secs();
        assert!(
            (1..=5).contains(&seconds),
            "seed {seed}: left after {left:?}"
        );
        assert_eq!(world.run_until_event(), Event::Up(Kind::Quic));
        assert_eq!(world.now - asked - left, ROUND_TRIP * 2, "seed {seed}");
    }
}

#[test]
fn a_cluster_that_goes_before_the_drain_is_over_is_not_called_early() {
    let mut world = World::new(5);
    world.run_until_event();
    let asked = world.drain(8000, 1);
    world.link.handle_closed(Which::Held, world.now);
    world.act();
    assert_eq!(world.run_until_event(), Event::Up(Kind::Quic));
    assert!(world.connects[1].0 - asked >= s(8));
}

#[test]
fn what_the_cluster_asked_for_holds_in_another_network() {
    for (refusal, asked) in [
        ((Refusal::Removed, 0), REFUSED_WAIT),
        ((Refusal::Busy, 40), s(40)),
    ] {
        let mut world = World::new(3);
        world.refusal = Some(refusal);
        for _ in 0..1000 {
            world.run(s(7));
            // An attempt without an answer is free to be made again.
            if !world.link.is_trying() {
                world.change_network(Memory::default());
            }
        }
        let connects = &world.connects;
        assert!(connects.len() > 5, "{refusal:?}: {}", connects.len());
        assert!(connects.windows(2).all(|w| w[1].0 - w[0].0 >= asked));
    }
}

#[test]
fn a_drained_cluster_is_not_called_early_from_another_network() {
    for (kind, gone) in [(Kind::Quic, true), (Kind::Ssh, true), (Kind::Ssh, false)] {
        let mut world = World::with(5, Policy::Only(kind), Profile::Normal);
        world.run_until_event();
        let asked = world.drain(60_000, 1);
        if gone {
            world.link.handle_closed(Which::Held, world.now);
            world.act();
        }
        for _ in 0..10 {
            world.run(s(5));
            world.change_network(Memory::default());
        }
        assert_eq!(world.connects.len(), 1);
        world.run(s(60));
        assert!(world.serves());
        assert!(world.connects[1].0 - asked >= s(60), "{kind:?}");
    }
}

#[test]
fn a_second_welcome_ends_the_link() {
    let mut world = World::new(5);
    world.run_until_event();
    world
        .link
        .handle_message(Which::Held, &World::welcome(), world.now);
    world.act();
    let last = world.trace.last().unwrap().1;
    let misbehaved = Loss::PeerMisbehaved;
    assert!(matches!(last, Event::Down { loss, .. } if loss == misbehaved));
}
