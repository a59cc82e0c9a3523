//! QUIC, SSH, and the way between them.

use std::time::Duration;

use protocol::keepalive::Profile;
use protocol::link::{BETTER_TIMEOUT, CHANGED_SPREAD, CHANGED_TIMEOUT, Event, Memory, PROVE};
use protocol::transport::{FIRST_PROBE, Kind, LIVED, Policy, STAGGER};

use crate::s;
use crate::world::{Path, ROUND_TRIP, World};

#[test]
fn where_udp_is_blocked_ssh_takes_over_after_three_seconds() {
    let mut world = World::new(1);
    world.udp = Path::Dark;
    assert_eq!(world.run_until_event(), Event::Up(Kind::Ssh));
    assert_eq!(world.now, STAGGER + ROUND_TRIP * 2);
}

#[test]
fn quic_is_taken_back_once_it_holds() {
    let mut world = World::new(1);
    world.udp = Path::Dark;
    world.run_until_event();
    world.run(s(300));
    assert_eq!(world.kind(), Some(Kind::Ssh));
    world.udp = Path::Up;
    let allowed = world.now;
    assert_eq!(world.run_until_event(), Event::Up(Kind::Quic));
    assert!(
        world.moving,
        "the cluster was told to keep the old link's streams"
    );
    assert!(world.now - allowed >= PROVE);
    assert!(world.now - allowed <= s(300) + PROVE + ROUND_TRIP * 2);
}

#[test]
fn quic_that_only_lets_handshakes_through_is_not_taken() {
    let mut world = World::new(1);
    world.udp = Path::Dark;
    world.run_until_event();
    for _ in 0..6 {
        let tried = world.connects.len();
        while world.connects.len() == tried {
            world.udp = Path::Up;
            world.step(Duration::MAX);
        }
        world.run(ROUND_TRIP * 2);
        world.udp = Path::Dark;
        world.run(PROVE * 4);
        assert_eq!(world.kind(), Some(Kind::Ssh));
    }
    let gaps: Vec<_> = world.connects.windows(2).map(|w| w[1].0 - w[0].0).collect();
    assert!(gaps[1..].windows(2).all(|w| w[0] < w[1]), "{gaps:?}");
}

#[test]
fn udp_that_dies_while_tcp_lives_costs_a_minute_at_most() {
    let mut world = World::new(2);
    world.run_until_event();
    world.run(s(300));
    let silence = world.link.keepalive().unwrap();
    world.udp = Path::Dark;
    let took = world.run_until_serving();
    assert_eq!(world.kind(), Some(Kind::Ssh));
    assert!(took <= silence + s(20), "{took:?}");
}

#[test]
fn a_network_that_darkens_quic_twice_is_met_with_ssh_first() {
    let mut world = World::new(3);
    for _ in 0..2 {
        while world.kind() != Some(Kind::Quic) {
            world.udp = Path::Up;
            world.step(Duration::MAX);
        }
        world.run(s(30));
        world.udp = Path::Dark;
        while world.kind() != Some(Kind::Ssh) {
            world.step(Duration::MAX);
        }
    }
    assert_eq!(world.link.memory().worked, Some(Kind::Ssh));
    world.restart_cluster();
    let tried = world.connects.len();
    world.run_until_serving();
    assert_eq!(world.connects[tried].1.first, Kind::Ssh);
}

#[test]
fn a_young_link_that_goes_dark_and_is_heard_again_counts_for_quic() {
    let mut world = World::new(3);
    world.run_until_event();
    for _ in 0..3 {
        world.run(s(20));
        world.paths(Path::Dark);
        assert_eq!(world.run_until_event(), Event::Dark);
        world.paths(Path::Up);
        assert_eq!(world.run_until_event(), Event::Light);
    }
    assert_eq!(world.link.memory().worked, Some(Kind::Quic));
}

#[test]
fn quic_that_has_carried_a_link_for_long_is_looked_for_soon() {
    let mut world = World::new(1);
    world.udp = Path::Dark;
    world.run_until_event();
    world.run(s(1800));
    world.udp = Path::Up;
    assert_eq!(world.run_until_event(), Event::Up(Kind::Quic));
    world.run(LIVED * 2);
    world.drain(1000, 1);
    world.udp = Path::Dark;
    while world.kind() != Some(Kind::Ssh) {
        assert!(world.step(Duration::MAX));
    }
    let (up, tried) = (world.now, world.connects.len());
    world.run(FIRST_PROBE + s(1));
    assert_eq!(world.connects.len(), tried + 1);
    assert!(world.connects[tried].0 - up >= FIRST_PROBE - ROUND_TRIP);
}

#[test]
fn an_agent_told_to_use_one_transport_uses_no_other() {
    for kind in [Kind::Quic, Kind::Ssh] {
        let mut world = World::with(5, Policy::Only(kind), Profile::Normal);
        match kind {
            Kind::Quic => world.udp = Path::Dark,
            Kind::Ssh => world.tcp = Path::Dark,
        }
        world.run(s(3600));
        assert_eq!(world.kind(), None);
        world.paths(Path::Up);
        world.run_until_serving();
        world.run(s(3600));
        assert_eq!(world.kind(), Some(kind));
        let others = world.connects.iter().filter(|c| c.1.first != kind);
        assert_eq!(others.count(), 0);
    }
}

#[test]
fn quic_follows_a_change_of_the_network_at_once() {
    let mut world = World::new(6);
    world.run_until_event();
    world.run(s(100));
    let changed = world.change_network(Memory::default());
    assert_eq!(world.rebinds, 1);
    world.run_until_serving();
    assert_eq!(world.now - changed, ROUND_TRIP);
    assert_eq!(world.trace.len(), 1);
}

#[test]
fn a_dark_link_is_heard_again_over_another_network_or_replaced_soon() {
    let mut world = World::new(6);
    world.run_until_event();
    world.paths(Path::Dark);
    assert_eq!(world.run_until_event(), Event::Dark);
    world.run(s(200));
    world.change_network(Memory::default());
    world.run(s(50));
    world.paths(Path::Up);
    let changed = world.change_network(Memory::default());
    assert_eq!(world.run_until_event(), Event::Light);
    assert_eq!(world.now - changed, ROUND_TRIP);

    world.paths(Path::Dark);
    assert_eq!(world.run_until_event(), Event::Dark);
    world.run(s(200));
    world.tcp = Path::Up;
    let changed = world.change_network(Memory::default());
    assert_eq!(world.run_until_event(), Event::Up(Kind::Ssh));
    assert!(world.now - changed <= CHANGED_TIMEOUT + STAGGER + ROUND_TRIP * 2);
}

#[test]
fn quic_that_cannot_follow_is_opened_anew_beside_the_old_link() {
    for seed in 0..50 {
        let mut world = World::new(seed);
        world.run_until_event();
        world.run(s(100));
        world.strands = true;
        let changed = world.change_network(Memory::default());
        assert_eq!(world.trace[1], (changed, Event::Dark));
        assert_eq!(world.run_until_event(), Event::Up(Kind::Quic));
        assert!(world.now - changed <= CHANGED_SPREAD + ROUND_TRIP * 2);
        world.run(s(100));
        assert_eq!(world.trace.len(), 3, "{:?}", world.trace);
    }
}

#[test]
fn a_link_that_cannot_follow_goes_on_if_its_own_network_returns_first() {
    let mut world = World::new(6);
    world.run_until_event();
    world.run(s(100));
    world.strands = true;
    world.paths(Path::Dark);
    let changed = world.change_network(Memory::default());
    assert_eq!(world.trace[1], (changed, Event::Dark));
    world.run(s(60));
    world.strands = false;
    world.paths(Path::Up);
    world.change_network(Memory::default());
    assert_eq!(world.run_until_event(), Event::Light);
    assert_eq!(world.rebinds, 1);
}

#[test]
fn ssh_is_opened_anew_beside_the_old_link() {
    let mut world = World::with(6, Policy::Only(Kind::Ssh), Profile::Normal);
    world.run_until_event();
    world.run(s(100));
    let changed = world.change_network(Memory::default());
    assert_eq!(world.run_until_event(), Event::Up(Kind::Ssh));
    assert!(world.now - changed <= CHANGED_SPREAD + ROUND_TRIP * 2);
}

#[test]
fn a_network_without_udp_is_found_out_soon() {
    let mut world = World::new(6);
    world.run_until_event();
    world.udp = Path::Dark;
    let changed = world.change_network(Memory::default());
    world.run_until_serving();
    assert_eq!(world.kind(), Some(Kind::Ssh));
    let most = CHANGED_TIMEOUT + s(5) + STAGGER + ROUND_TRIP * 2;
    assert!(world.now - changed <= most, "{:?}", world.now - changed);
}

#[test]
fn a_waiting_agent_tries_at_once_when_the_network_changes() {
    let mut world = World::new(8);
    world.paths(Path::Refusing);
    world.run(s(1800));
    world.paths(Path::Up);
    let memory = Memory {
        worked: Some(Kind::Ssh),
        ..Memory::default()
    };
    world.change_network(memory);
    assert!(world.run_until_serving() <= CHANGED_SPREAD + ROUND_TRIP * 2);
    assert_eq!(world.kind(), Some(Kind::Ssh), "what worked there before");
    world.run(FIRST_PROBE + BETTER_TIMEOUT + PROVE + s(1));
    assert_eq!(world.kind(), Some(Kind::Quic), "and then what is better");
}
