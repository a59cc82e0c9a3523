//! How much is in flight on links of all kinds, in virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking, and prints what it measures"
)]

mod world;

use std::time::Duration;

use protocol::congestion::Congestion;
use world::{PACKET, Path, Seen, World, path};

const MBIT: u64 = 1_000_000;
const SEEDS: u64 = 3;

/// What a link of its own gives a copy that has found its rate, for the seed that suits it least.
fn settled(name: &str, path: Path) -> Seen {
    let mut worst: Option<Seen> = None;
    for seed in 0..SEEDS {
        let mut world = World::new(path, 1, seed);
        world.run(12);
        let seen = world.run(30);
        if worst.is_none_or(|worst| seen.used < worst.used) {
            worst = Some(seen);
        }
    }
    let worst = worst.unwrap();
    println!("{name}: {worst:?}");
    worst
}

#[test]
fn a_clean_link_is_full_and_has_hardly_a_queue() {
    for (bits, round_trip) in [(50, 20), (5, 200), (1, 600), (1, 40)] {
        let name = format!("{bits} Mbit/s, {round_trip} ms");
        let seen = settled(&name, path(bits * MBIT, round_trip, 0.0));
        assert!(seen.used > 0.9, "{name}: {seen:?}");
        let most = (round_trip / 2).max(60) as f64;
        assert!(seen.wait < most, "{name}: {seen:?}");
    }
}

#[test]
fn what_radio_loses_does_not_slow_it_down() {
    for (percent, least) in [(1, 0.9), (2, 0.9), (5, 0.8), (10, 0.5)] {
        let name = format!("5 Mbit/s, 200 ms, {percent} % loss");
        let seen = settled(&name, path(5 * MBIT, 200, f64::from(percent) / 100.0));
        assert!(seen.used > least, "{name}: {seen:?}");
        assert!(seen.wait < 100.0, "{name}: {seen:?}");
    }
}

#[test]
fn queues_may_be_shallow_or_deep() {
    for (kib, least) in [(8, 0.65), (32, 0.85), (4096, 0.85)] {
        let name = format!("1 Mbit/s, 600 ms, 1 % loss, a queue of {kib} KiB");
        let queue = kib << 10;
        let seen = settled(
            &name,
            Path {
                queue,
                ..path(MBIT, 600, 0.01)
            },
        );
        assert!(seen.used > least, "{name}: {seen:?}");
        assert!(seen.wait < 300.0, "{name}: {seen:?}");
        assert!(seen.lost < 0.08, "{name}: {seen:?}");
    }
}

#[test]
fn jitter_is_no_queue() {
    for (round_trip, jitter) in [(20, 20), (50, 30), (100, 50)] {
        let name = format!("10 Mbit/s, {round_trip} ms and up to {jitter} ms more");
        let jitter = Duration::from_millis(jitter);
        let seen = settled(
            &name,
            Path {
                jitter,
                ..path(10 * MBIT, round_trip, 0.005)
            },
        );
        assert!(seen.used > 0.7, "{name}: {seen:?}");
    }
}

#[test]
fn a_link_that_becomes_slower_has_its_queue_for_seconds_only() {
    for seed in 0..SEEDS {
        let mut world = World::new(path(5 * MBIT, 200, 0.01), 1, seed);
        world.run(20);
        world.change(path(MBIT / 2, 200, 0.01));
        world.run(15);
        let seen = world.run(30);
        println!("{seed}: {seen:?}");
        assert!(seen.used > 0.8 && seen.wait < 250.0, "{seed}: {seen:?}");
    }
}

#[test]
fn a_link_that_becomes_faster_is_full_in_seconds() {
    for seed in 0..SEEDS {
        let mut world = World::new(path(MBIT / 2, 100, 0.01), 1, seed);
        world.run(20);
        world.change(path(20 * MBIT, 100, 0.01));
        world.run(8);
        let seen = world.run(20);
        println!("{seed}: {seen:?}");
        assert!(seen.used > 0.85, "{seed}: {seen:?}");
    }
}

#[test]
fn another_path_may_be_longer_or_shorter() {
    for seed in 0..SEEDS {
        let mut world = World::new(path(10 * MBIT, 20, 0.005), 1, seed);
        world.run(20);
        for round_trip in [300, 30] {
            world.change(path(10 * MBIT, round_trip, 0.005));
            world.run(12);
            let seen = world.run(20);
            println!("{seed}, {round_trip} ms: {seen:?}");
            assert!(seen.used > 0.8, "{seed}, {round_trip} ms: {seen:?}");
            assert!(seen.wait < 150.0, "{seed}, {round_trip} ms: {seen:?}");
        }
    }
}

#[test]
fn a_queue_from_before_is_not_taken_for_the_path() {
    for seed in 0..SEEDS {
        let mut world = World::new(path(50 * MBIT, 1, 0.0), 1, seed);
        world.run(5);
        world.change(path(MBIT, 600, 0.01));
        world.run(60);
        let seen = world.run(60);
        println!("{seed}: {seen:?}");
        assert!(seen.used > 0.8 && seen.wait < 400.0, "{seed}: {seen:?}");
    }
}

#[test]
fn a_copy_goes_on_after_a_cut() {
    for seed in 0..SEEDS {
        let whole = path(5 * MBIT, 200, 0.01);
        let mut world = World::new(whole, 1, seed);
        world.run(20);
        world.change(Path { cut: true, ..whole });
        world.run(10);
        world.change(whole);
        // QUIC asks ever more rarely; the last time before the end was up to 10 s ago.
        world.run(15);
        let seen = world.run(20);
        assert!(seen.used > 0.85, "{seed}: {seen:?}");
    }
}

#[test]
fn a_copy_after_minutes_without_one_starts_small_and_is_fast_soon() {
    for seed in 0..SEEDS {
        let mut world = World::new(path(5 * MBIT, 200, 0.01), 1, seed);
        world.run(20);
        world.keep_busy(0, false);
        world.run(300);
        world.change(path(MBIT, 200, 0.01));
        world.keep_busy(0, true);
        let first = world.run(3);
        // No burst of what the link held once.
        assert!(first.longest < 900.0, "{seed}: {first:?}");
        world.run(4);
        let seen = world.run(20);
        assert!(seen.used > 0.85, "{seed}: {seen:?}");
    }
}

#[test]
fn a_short_start_fills_the_link() {
    for (bits, round_trip) in [(5, 200), (50, 20), (1, 600)] {
        let mut world = World::new(path(bits * MBIT, round_trip, 0.01), 1, 1);
        let seen = world.run(6);
        println!("{bits} Mbit/s, {round_trip} ms: {seen:?}");
        assert!(seen.used > 0.55, "{bits}, {round_trip}: {seen:?}");
    }
}

#[test]
fn four_share_a_link() {
    for seed in 0..SEEDS {
        for queue in [32 << 10, 1 << 20] {
            let shared = Path {
                queue,
                ..path(8 * MBIT, 80, 0.005)
            };
            let mut world = World::new(shared, 4, seed);
            world.run(20);
            let before: Vec<u64> = (0..4).map(|who| world.arrived(who)).collect();
            let seen = world.run(60);
            let each: Vec<u64> = (0..4).map(|who| world.arrived(who) - before[who]).collect();
            println!("{seed}: {each:?} {seen:?}");
            assert!(seen.used > 0.85, "{seed}: {seen:?}");
            let (least, most) = (each.iter().min().unwrap(), each.iter().max().unwrap());
            assert!(most / least.max(&1) < 5, "{seed}: {each:?}");
        }
    }
}

#[test]
fn nonsense_does_no_harm() {
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..200 {
        let mut one = Congestion::new(random.u16(..), Duration::ZERO);
        for _ in 0..500 {
            let time = |random: &mut fastrand::Rng| match random.u8(..4) {
                0 => Duration::ZERO,
                1 => Duration::MAX,
                2 => Duration::from_nanos(random.u64(..)),
                _ => Duration::from_micros(random.u64(..10_000_000)),
            };
            let bytes = match random.u8(..3) {
                0 => u64::MAX,
                _ => random.u64(..100_000),
            };
            let (a, b) = (time(&mut random), time(&mut random));
            match random.u8(..5) {
                0 => one.handle_sent(a),
                1 => one.handle_arrived(bytes, random.bool(), a, b),
                2 => one.handle_arrived_all(a),
                3 => one.handle_lost(bytes, random.u8(..20) == 0, a),
                _ => one.handle_packet_size(random.u16(1200..)),
            }
            assert!(one.window() >= one.first_window().min(4 * PACKET) / 4);
        }
    }
}
