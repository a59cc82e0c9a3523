//! Paths that are cut and come back, NATs that forget, clusters that are restarted.

use std::time::Duration;

use protocol::backoff::CAP;
use protocol::link::{
    BETTER_TIMEOUT, CONNECT_TIMEOUT, DARK_FOR, Event, LAST_DETOUR, Loss, Memory, PROBE_TIMEOUT,
    PROVE,
};
use protocol::transport::Kind;

use crate::s;
use crate::world::{Path, ROUND_TRIP, World};

#[test]
fn a_dark_path_is_noticed_within_keepalive_and_probe() {
    let mut world = World::new(1);
    world.run_until_event();
    world.run(s(600));
    let silence = world.link.keepalive().unwrap();
    let cut = world.now;
    world.paths(Path::Dark);
    assert_eq!(world.run_until_event(), Event::Dark);
    assert!(world.now - cut <= silence + PROBE_TIMEOUT);
}

#[test]
fn a_link_is_back_within_two_seconds_of_the_paths_return() {
    for seed in 0..200 {
        for cut in [10, 60, 600] {
            let mut world = World::new(seed);
            world.run_until_event();
            world.run(Duration::from_millis(200_000 + seed * 1371));
            world.paths(Path::Dark);
            world.run(s(cut));
            world.paths(Path::Up);
            let took = world.run_until_serving();
            assert!(took <= s(2), "seed {seed}: {took:?} after a cut of {cut} s");
            let downs = |e: &&(Duration, Event)| matches!(e.1, Event::Down { .. });
            assert_eq!(world.trace.iter().find(downs), None, "its streams live on");
        }
    }
}

#[test]
fn a_link_that_is_heard_again_says_so_at_once() {
    let mut world = World::new(3);
    world.run_until_event();
    world.run(s(100));
    world.paths(Path::Dark);
    assert_eq!(world.run_until_event(), Event::Dark);
    world.run(s(20));
    let before = world.heartbeats;
    world.paths(Path::Up);
    assert_eq!(world.run_until_event(), Event::Light);
    world.run(Duration::from_millis(1));
    assert_eq!(
        world.heartbeats,
        before + 2,
        "one that was answered, and a word back"
    );
}

/// Brings the paths back so that the old link is heard while the new one is greeted, or shortly
/// before or after that.
fn returning_during_a_detour(seed: u64, lag: Duration) -> World {
    let mut world = World::new(seed);
    world.run_until_event();
    world.run(s(100));
    world.paths(Path::Dark);
    assert_eq!(world.run_until_event(), Event::Dark);
    world.held_lags = lag;
    let tried = world.connects.len();
    // A detour is tried over paths that are up; what the old link sends gets lost before that.
    while world.connects.len() == tried {
        let (due, why) = world.link.poll_timeout();
        world.paths(if why == "back-off" {
            Path::Up
        } else {
            Path::Dark
        });
        assert!(world.step(due));
    }
    world.paths(Path::Up);
    world
}

#[test]
fn a_link_that_is_heard_while_another_is_greeted_is_kept_only_if_the_cluster_dials_it() {
    for seed in 0..500 {
        for lag in [0, 100, 400] {
            let mut world = returning_during_a_detour(seed, Duration::from_millis(lag));
            let took = world.run_until_serving();
            assert!(took <= s(2), "seed {seed}, {lag} ms: {took:?}");
            world.run(s(600));
            assert!(world.serves(), "seed {seed}, {lag} ms");
        }
    }
}

#[test]
fn a_cluster_that_may_have_taken_a_link_that_came_to_nothing_gets_another() {
    for seed in 0..100 {
        let mut world = returning_during_a_detour(seed, Duration::ZERO);
        // The Hello has gone or not, has arrived or not.
        world.run(ROUND_TRIP + Duration::from_millis(seed * 3));
        world.change_network(Memory::default());
        let took = world.run_until_serving();
        assert!(took <= s(30), "seed {seed}: {took:?}");
        world.run(s(600));
        assert!(world.serves(), "seed {seed}");
    }
}

#[test]
fn a_path_that_stays_dark_costs_the_link() {
    let mut world = World::new(4);
    world.run_until_event();
    let cut = world.now;
    world.paths(Path::Dark);
    assert_eq!(world.run_until_event(), Event::Dark);
    assert_eq!(crate::loss(&mut world), Loss::Silent);
    assert!(world.now - cut <= DARK_FOR + s(1));
    world.paths(Path::Up);
    assert!(world.run_until_serving() <= CAP + CONNECT_TIMEOUT + ROUND_TRIP * 2);
}

#[test]
fn a_restarted_cluster_is_found_out_by_the_next_heartbeat() {
    let mut world = World::new(4);
    world.run_until_event();
    world.run(s(600));
    let silence = world.link.keepalive().unwrap();
    world.restart_cluster();
    let took = world.run_until_serving();
    assert!(took <= silence + s(1) + ROUND_TRIP * 4, "{took:?}");
}

#[test]
fn a_cluster_restarted_in_the_dark_is_found_out_as_well() {
    let mut world = World::new(4);
    world.run_until_event();
    world.paths(Path::Dark);
    world.run(s(90));
    world.restart_cluster();
    world.paths(Path::Up);
    assert!(world.run_until_serving() <= s(4));
}

#[test]
fn an_agent_cut_off_for_a_week_hardly_stirs() {
    let mut world = World::new(11);
    world.run_until_event();
    world.paths(Path::Dark);
    world.run(s(7 * 24 * 3600));
    // An attempt lasts 15 s, and the wait for the next one 30 s on average.
    let per_hour = world.connects.len() / (7 * 24);
    assert!((40..=120).contains(&per_hour), "{per_hour}");
    assert!(world.heartbeats < 1000, "{}", world.heartbeats);
    world.paths(Path::Up);
    assert!(world.run_until_serving() <= CAP + CONNECT_TIMEOUT);
}

/// Thousands of schedules of cuts, refusals, restarts and changes. Whatever came before: paths
/// that stay good have the link up within the longest waits, and a device never knocks more often
/// than its back-off allows.
#[test]
fn whatever_the_paths_did_before_good_ones_bring_the_link_back() {
    for seed in 0..4000 {
        let mut weather = weather(seed);
        let mut world = World::new(seed);
        world.nat.udp = s(20 + weather() % 600);
        for _ in 0..(weather() % 20) {
            storm(&mut world, &mut weather);
        }
        world.paths(Path::Up);
        let silence = s(60);
        let limit = silence
            + PROBE_TIMEOUT
            + CONNECT_TIMEOUT
            + CAP.max(LAST_DETOUR)
            + BETTER_TIMEOUT
            + PROVE
            + ROUND_TRIP * 4;
        let took = world.run_until_serving();
        assert!(
            took <= limit,
            "seed {seed}: not up {took:?} after the return"
        );
        let most = 40.0 + world.now.as_secs_f64() / 5.0;
        let knocks = world.connects.len();
        assert!((knocks as f64) < most, "seed {seed}: {knocks} knocks");
        world.run(s(3 * 3600));
        assert_eq!(world.kind(), Some(Kind::Quic), "seed {seed}");
    }
}

fn storm(world: &mut World, weather: &mut impl FnMut() -> u64) {
    let mut path = || match weather() % 3 {
        0 => Path::Up,
        1 => Path::Dark,
        _ => Path::Refusing,
    };
    (world.udp, world.tcp) = (path(), path());
    match weather() % 8 {
        0 => world.restart_cluster(),
        1 => {
            let memory = world.link.memory();
            world.change_network(memory);
        }
        _ => {}
    }
    world.run(Duration::from_millis(weather() % 200_000));
}

/// A generator for the weather, apart from the one under test (xorshift64*).
pub(crate) fn weather(seed: u64) -> impl FnMut() -> u64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
    }
}
