//! What a link costs that nobody uses, and how soon it shows that somebody does.

use std::time::Duration;

use protocol::cost;
use protocol::keepalive::Profile;
use protocol::transport::Policy;

use crate::s;
use crate::world::{ROUND_TRIP, World};

const HOUR: Duration = s(3600);
const DAY: Duration = s(24 * 3600);

/// Bytes that a day of silence may cost.
const fn budget(profile: Profile, mapping: u64) -> u64 {
    match (profile, mapping) {
        (Profile::Metered, 300..) => 50_000,
        (Profile::Metered, _) => 100_000,
        _ => 500_000,
    }
}

fn behind(profile: Profile, mapping: u64) -> World {
    let mut world = World::with(7, Policy::Auto, profile);
    world.nat.udp = s(mapping);
    world
}

#[test]
fn a_day_of_silence_fits_the_budget_from_the_first_on() {
    let metered = (120..=1200).map(|mapping| (Profile::Metered, mapping));
    let normal = (30..=1200).map(|mapping| (Profile::Normal, mapping));
    for (profile, mapping) in metered.chain(normal) {
        let mut world = behind(profile, mapping);
        let after = |world: &mut World, time| {
            world.run(time);
            world.bytes - cost::LINK
        };
        let first_hour = after(&mut world, HOUR);
        let first_day = after(&mut world, DAY - HOUR);
        let next_day = after(&mut world, DAY) - first_day;
        if matches!(mapping, 30 | 60 | 120 | 300 | 1200) {
            let interval = world.link.keepalive().unwrap();
            let lost = world.lost;
            println!(
                "{profile:?}, {mapping} s: first hour {first_hour}, first day {first_day}, \
                 next day {next_day}, {lost} lost, every {interval:?}"
            );
        }
        let most = budget(profile, mapping);
        assert!(first_day <= most, "{profile:?}, {mapping} s: {first_day}");
        assert!(next_day <= most, "{profile:?}, {mapping} s: {next_day}");
        assert_eq!(world.trace.len(), 1, "the link was never lost");
    }
}

#[test]
fn learning_costs_a_mapping_or_two() {
    for mapping in 60..=1200 {
        let mut world = behind(Profile::Metered, mapping);
        world.run(DAY);
        assert!(world.lost <= 2, "{mapping} s: lost {} times", world.lost);
    }
}

#[test]
fn a_person_who_uses_the_device_has_the_way_looked_at_every_second() {
    for profile in [Profile::Lan, Profile::Normal] {
        let mut world = behind(profile, 300);
        world.run(HOUR);
        let (interval, told) = (world.link.keepalive(), world.told_s);
        assert!(
            (15..=120).contains(&told),
            "{profile:?}: how long the cluster believes in a node that is gone: {told}"
        );
        world.link.handle_attended(true);
        // Another NAT each time: the agent has to send before anybody can reach it.
        for _ in 0..100 {
            let before = world.heartbeats;
            world.run(s(1) + ROUND_TRIP);
            assert!(world.heartbeats > before, "{profile:?}");
            world.change_nat();
        }
        world.link.handle_attended(false);
        world.run(s(2));
        assert_eq!(world.link.keepalive(), interval, "{profile:?}");
        assert_eq!(world.told_s, told, "{profile:?}");
        let before = world.heartbeats;
        world.run(HOUR);
        let beats = u32::try_from(world.heartbeats - before).unwrap();
        let most = HOUR.div_duration_f32(interval.unwrap()) as u32 + 1;
        assert!(beats <= most, "{profile:?}: {beats}");
        assert_eq!(world.trace.len(), 1, "the link was never lost");
    }
}

#[test]
fn where_bytes_cost_nothing_another_nat_is_found_out_within_a_second() {
    let mut world = behind(Profile::Lan, 300);
    world.run(HOUR);
    for step in 0..100 {
        world.run(Duration::from_millis(1000 + step * 37));
        let before = world.heartbeats;
        world.change_nat();
        world.run(Duration::from_millis(900));
        assert!(world.heartbeats > before);
    }
    assert_eq!(world.trace.len(), 1, "the link was never lost");
}

#[test]
fn where_packets_cost_money_nobody_is_worth_more_of_them() {
    let mut world = behind(Profile::Metered, 300);
    world.run(HOUR);
    let before = world.heartbeats;
    world.link.handle_attended(true);
    world.run(HOUR);
    assert!(world.heartbeats - before <= 20);
}
