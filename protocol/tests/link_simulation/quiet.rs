//! Idle links that leave QUIC for SSH where that costs less, and what it costs where it does not.

use std::time::Duration;

use protocol::cost;
use protocol::keepalive::{Known, Profile};
use protocol::link::{Event, Memory};
use protocol::transport::{Kind, Policy};

use crate::cuts::weather;
use crate::nat::Strays;
use crate::s;
use crate::world::{Path, World};

const DAY: Duration = s(24 * 3600);
/// What a try costs that comes to nothing.
const TRY: u64 = cost::SSH_LINK + 6 * cost::SSH_HEARTBEAT + cost::LINK;

/// How many seconds it keeps mappings, and what TCP is to it.
#[derive(Debug, Clone, Copy)]
struct Network {
    udp: u64,
    tcp: u64,
    strays: Strays,
    path: Path,
}

impl Network {
    const fn keeping(udp: u64, tcp: u64) -> Self {
        Self {
            udp,
            tcp,
            strays: Strays::Drop,
            path: Path::Up,
        }
    }

    const fn with_tcp(udp: u64, path: Path) -> Self {
        Self {
            path,
            ..Self::keeping(udp, 7200)
        }
    }

    /// A device in it.
    fn world(self, seed: u64, policy: Policy) -> World {
        let mut world = World::with(seed, policy, Profile::Metered);
        self.rule(&mut world);
        world
    }

    fn rule(self, world: &mut World) {
        world.nat.udp = s(self.udp);
        world.nat.tcp = s(self.tcp);
        world.nat.strays = self.strays;
        world.tcp = self.path;
    }

    /// Whether a mapping of TCP lasts so long that SSH is worth it.
    fn is_for_ssh(self, world: &World) -> bool {
        let quic = world.link.memory().known[0];
        let even = u64::from(quic.held_s) * cost::SSH_HEARTBEAT / cost::HEARTBEAT;
        self.path == Path::Up && self.tcp > even * 5 / 4
    }
}

/// The networks that were thought of.
const NETWORKS: [Network; 13] = [
    Network::keeping(30, 7200),
    Network::keeping(60, 7200),
    Network::keeping(120, 7200),
    Network::keeping(300, 7200),
    Network::keeping(900, 7200),
    Network::keeping(30, 30),
    Network::keeping(30, 75),
    Network::keeping(30, 200),
    Network::keeping(120, 60),
    Network::with_tcp(30, Path::Refusing),
    Network::with_tcp(30, Path::Dark),
    Network::with_tcp(30, Path::Swallowing),
    Network::with_tcp(120, Path::Swallowing),
];

/// Links that were welcomed, over SSH and in all.
fn links(world: &World) -> (usize, usize) {
    let up = |kind| {
        let up = world.trace.iter().filter(|e| e.1 == Event::Up(kind));
        up.count()
    };
    (up(Kind::Ssh), up(Kind::Ssh) + up(Kind::Quic))
}

/// Lives through some days beside a device that has QUIC alone; gives what each day has cost both.
fn days(network: Network, seed: u64, days: usize) -> (World, Vec<(u64, u64)>) {
    let mut alone = network.world(seed, Policy::Only(Kind::Quic));
    let mut world = network.world(seed, Policy::Auto);
    let mut costs = Vec::new();
    for day in 0..days {
        let before = (alone.bytes, world.bytes);
        alone.run(DAY);
        world.run(DAY);
        costs.push((alone.bytes - before.0, world.bytes - before.1));
        assert!(
            world.bytes * 100 <= alone.bytes * 105,
            "{network:?}, seed {seed}, day {day}: {costs:?}"
        );
    }
    (world, costs)
}

#[test]
fn no_network_makes_idle_links_dearer_than_quic_alone() {
    for network in NETWORKS {
        for strays in [Strays::Drop, Strays::Reset] {
            let network = Network { strays, ..network };
            let (world, costs) = days(network, 7, 10);
            println!("{network:?}: {costs:?}, {:?}", links(&world));
            for &(alone, cost) in &costs {
                assert!(cost * 100 <= alone * 105 + TRY * 100, "{network:?}");
            }
            assert!(world.serves(), "{network:?}");
        }
    }
}

#[test]
fn where_tcp_is_kept_for_hours_idle_links_cost_a_tenth() {
    let (world, costs) = days(Network::keeping(30, 7200), 7, 2);
    let [first, second] = [costs[0], costs[1]];
    assert!(first.0 > 350_000, "{first:?}");
    assert!(first.1 * 5 < first.0, "{first:?}");
    assert!(second.1 * 10 < second.0, "{second:?}");
    assert_eq!(world.kind(), Some(Kind::Ssh));
    assert_eq!(world.link.keepalive(), Some(Profile::Metered.most()));
    assert!(world.moving, "no session is lost");
    assert_eq!(links(&world), (1, 2));
}

/// Thousands of networks that nobody thought of.
#[test]
fn whatever_the_network_it_is_left_seldom_and_for_less() {
    let mut over_ssh = 0;
    for seed in 0..2000 {
        let mut weather = weather(seed);
        // From seconds to hours, as often in minutes as in hours.
        let mut time = |least: u64, doublings: u64| {
            let whole = least << (weather() % doublings);
            whole + weather() % whole
        };
        let network = Network {
            udp: time(15, 6),
            tcp: time(15, 10),
            strays: [Strays::Drop, Strays::Reset][(weather() % 2) as usize],
            path: match weather() % 8 {
                0 => Path::Dark,
                1 => Path::Refusing,
                2 => Path::Swallowing,
                _ => Path::Up,
            },
        };
        let (mut world, costs) = days(network, seed, 2);
        let (ssh, all) = links(&world);
        assert!(all <= 10, "seed {seed}: {network:?}: {:?}", world.trace);
        if world.kind() == Some(Kind::Ssh) {
            over_ssh += 1;
            let (alone, cost) = costs[1];
            let most = alone + 3 * cost::SSH_LINK;
            assert!(cost < most, "seed {seed}: {network:?}: {cost} of {alone}");
        } else if network.is_for_ssh(&world) {
            assert!(ssh == 0 && network.udp > 28, "seed {seed}: {network:?}");
        }
        assert!(world.run_until_serving() < s(60), "seed {seed}");
    }
    println!("{over_ssh} of 2000 networks are left for SSH within two days");
    assert!(over_ssh > 100, "{over_ssh}");
}

#[test]
fn where_tcp_is_kept_no_longer_quic_is_taken_back_and_kept() {
    for (udp, tcp) in [(30, 30), (30, 20), (120, 60), (20, 40)] {
        for strays in [Strays::Drop, Strays::Reset] {
            let network = Network {
                strays,
                ..Network::keeping(udp, tcp)
            };
            let (world, costs) = days(network, 3, 40);
            let (ssh, all) = links(&world);
            println!("{network:?}: {ssh} links over SSH in 40 days");
            assert!((1..=6).contains(&ssh), "{network:?}: {ssh}");
            assert!(all <= 2 * ssh + 1, "{network:?}: {all}");
            assert_eq!(world.kind(), Some(Kind::Quic), "{network:?}");
            let (alone, cost) = costs[39];
            assert!(cost * 100 <= alone * 105, "{network:?}: {costs:?}");
        }
    }
}

#[test]
fn a_nat_that_comes_to_keep_tcp_no_longer_is_noticed() {
    let mut world = Network::keeping(30, 7200).world(5, Policy::Auto);
    world.run(DAY);
    assert_eq!(world.kind(), Some(Kind::Ssh));
    let before = links(&world).1;
    world.nat.tcp = s(30);
    let spent = world.bytes;
    world.run(DAY);
    assert_eq!(world.kind(), Some(Kind::Quic));
    assert!(links(&world).1 - before <= 8, "{:?}", world.trace);
    assert!(world.bytes - spent <= 500_000, "{}", world.bytes - spent);
}

#[test]
fn a_try_waits_until_nobody_uses_the_device_and_who_comes_later_changes_nothing() {
    let mut world = Network::keeping(30, 7200).world(5, Policy::Auto);
    world.link.handle_attended(true);
    world.run(DAY);
    assert_eq!(links(&world), (0, 1));
    world.link.handle_attended(false);
    world.run(s(120));
    assert_eq!(world.kind(), Some(Kind::Ssh));
    world.link.handle_attended(true);
    let (tried, silence) = (world.connects.len(), world.link.keepalive());
    world.run(s(3600));
    assert_eq!(world.kind(), Some(Kind::Ssh));
    assert_eq!(world.connects.len(), tried);
    assert!(world.link.keepalive() > silence);
}

#[test]
fn only_where_bytes_are_paid_for_and_both_are_allowed() {
    for (policy, profile) in [
        (Policy::Auto, Profile::Normal),
        (Policy::Only(Kind::Quic), Profile::Metered),
    ] {
        let mut world = World::with(5, policy, profile);
        Network::keeping(30, 7200).rule(&mut world);
        world.run(DAY * 2);
        assert_eq!(links(&world), (0, 1), "{policy:?}, {profile:?}");
    }
}

#[test]
fn a_device_that_moves_on_soon_tries_nothing() {
    let mut world = Network::keeping(30, 7200).world(5, Policy::Auto);
    world.enter(Profile::Metered, Memory::default());
    for _ in 0..100 {
        world.run(s(1800));
        assert_eq!(links(&world), (0, 1));
        world.enter(Profile::Metered, Memory::default());
    }
    world.run(s(3 * 3600));
    assert_eq!(world.kind(), Some(Kind::Ssh));
}

#[test]
fn what_was_learnt_of_silence_over_both_is_remembered() {
    let mut world = Network::keeping(30, 200).world(5, Policy::Auto);
    world.run(DAY);
    assert_eq!(world.kind(), Some(Kind::Ssh));
    let (memory, silence) = (world.link.memory(), world.link.keepalive().unwrap());
    assert_eq!(memory.worked, Some(Kind::Ssh));
    assert!((150..200).contains(&silence.as_secs()), "{silence:?}");
    world.enter(Profile::Normal, Memory::default());
    world.run(s(3600));
    assert_eq!(world.kind(), Some(Kind::Quic));
    world.enter(Profile::Metered, memory);
    let spent = world.bytes;
    world.run(DAY);
    assert_eq!(world.kind(), Some(Kind::Ssh));
    assert!(
        silence
            .as_secs()
            .abs_diff(world.link.keepalive().unwrap().as_secs())
            <= 2
    );
    assert!(world.bytes - spent <= 180_000, "{}", world.bytes - spent);
}

#[test]
fn a_connection_that_is_reset_at_a_heartbeat_had_no_mapping() {
    for strays in [Strays::Drop, Strays::Reset] {
        let network = Network {
            strays,
            ..Network::keeping(30, 100)
        };
        let mut world = network.world(5, Policy::Only(Kind::Ssh));
        world.run(DAY);
        let Known { held_s, lost_s } = world.link.memory().known[1];
        assert!((75..=100).contains(&held_s), "{strays:?}: {held_s}");
        assert!((100..=130).contains(&lost_s), "{strays:?}: {lost_s}");
        assert!(links(&world).0 <= 4, "{strays:?}: {:?}", world.trace);
    }
}

#[test]
fn silence_is_not_blamed_while_there_is_no_network() {
    for seed in 0..200 {
        let mut world = Network::keeping(30, 7200).world(seed, Policy::Auto);
        while world.kind() != Some(Kind::Ssh) {
            assert!(world.step(DAY));
        }
        world.run(s(600 + seed * 10));
        for _ in 0..5 {
            let before = world.link.memory();
            let losses = world.trace.len();
            world.paths(Path::Dark);
            while world.trace.len() == losses {
                assert!(world.step(DAY * 2));
            }
            world.run(s(30));
            world.paths(Path::Up);
            world.run_until_serving();
            let known = world.link.memory().known[1];
            assert_eq!((world.kind(), known.lost_s), (Some(Kind::Ssh), 0));
            assert!(known.held_s >= before.known[1].held_s);
            world.run(s(2000));
        }
        assert_eq!(world.kind(), Some(Kind::Ssh));
    }
}

#[test]
fn a_device_is_reachable_soon_after_a_try_that_was_swallowed() {
    let mut world = Network::with_tcp(30, Path::Swallowing).world(5, Policy::Auto);
    while world.kind() != Some(Kind::Quic) || world.connects.len() < 2 {
        assert!(world.step(DAY));
    }
    world.run(s(60));
    assert!(world.serves());
    world.run(DAY);
    assert_eq!(world.trace.len(), 2, "{:?}", world.trace);
    assert!(
        !world
            .trace
            .iter()
            .any(|e| matches!(e.1, Event::Down { .. }))
    );
}
