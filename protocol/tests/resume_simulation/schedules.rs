//! Thousands of schedules, each from a seed, against what must hold for all of them.

use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;
use protocol::resume::{ACK_DELAY, End, Event, PERSIST, Reason, SUSPECT, Sizes};

use crate::app::App;
use crate::world::{AGENT, CLIENT, Faults, Holds, World, ms};

/// Prints the seed of a schedule that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {}", self.0);
        }
    }
}

/// What happened in many schedules: a test that sees little of it shows little.
#[derive(Debug, Default)]
struct Seen {
    attached: usize,
    stalled: usize,
    recovered: usize,
    refused: usize,
    /// How often the agent's end was lent to, and gave back.
    lent: usize,
    given_back: usize,
    /// Bytes that were passed on to where the applications wanted them.
    passed: usize,
}

impl Seen {
    fn note(&mut self, world: &World) {
        self.passed += world.passed;
        let mut held = Sizes::LEAST.total();
        for (_, side, event) in &world.events {
            match event {
                Event::Wants(sizes) if sizes.total() > held => {
                    self.lent += 1;
                    held = sizes.total();
                }
                Event::Wants(sizes) => {
                    self.given_back += 1;
                    held = sizes.total();
                }
                Event::Attached(_) if *side == AGENT => self.attached += 1,
                Event::Stalled => self.stalled += 1,
                Event::Recovered => self.recovered += 1,
                Event::Close(_, Some(_)) => self.refused += 1,
                _ => {}
            }
        }
    }
}

fn faults(rng: &mut Rng, restarts: bool) -> Faults {
    let every = ms([30, 400, 5_000][rng.usize(0..3)]);
    Faults {
        until: every * rng.u32(1..20),
        every,
        restarts,
    }
}

fn run(seeds: Range<u64>, restarts: bool) {
    let mut seen = Seen::default();
    for seed in seeds {
        let _seed = Seed(seed);
        let mut rng = Rng::with_seed(seed);
        let faults = faults(&mut rng, restarts);
        let apps = App::pair(&mut rng);
        let mut world = World::with(rng, apps, faults);
        world.run_to_end();
        ended_well(&world);
        seen.note(&world);
    }
    println!("{seen:?}");
    assert!(
        seen.attached > 1000 && seen.lent > 50 && seen.passed > 1_000_000,
        "{seen:?}"
    );
}

/// Everything has arrived, and each end knows, unless only the last word was lost.
fn ended_well(world: &World) {
    for app in &world.apps {
        let all = app.written == app.writes && app.read == app.reads;
        assert!(all, "{app:?} {:?}", world.ends);
    }
    match world.ends.map(Option::unwrap) {
        [End::Clean, End::Clean | End::GivenUp(Reason::GraceOver)] => {}
        // It came back after the agent had forgotten.
        [
            End::Reset(Reason::Gone) | End::GivenUp(Reason::GraceOver),
            End::Clean,
        ] => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_lost_or_doubled_by_cuts_at_any_byte_a() {
    run(0..6_000, false);
}

#[test]
fn nothing_is_lost_or_doubled_by_cuts_at_any_byte_b() {
    run(10_000..16_000, false);
}

#[test]
fn nothing_is_lost_or_doubled_by_cuts_at_any_byte_c() {
    run(20_000..26_000, false);
}

#[test]
fn nothing_is_lost_or_doubled_when_the_agents_process_is_replaced() {
    run(30_000..36_000, true);
}

/// As large as they are outside, so that acknowledgements go along with what is said.
#[test]
fn nothing_is_lost_or_doubled_where_the_ends_hold_much() {
    let mut seen = Seen::default();
    for seed in 40_000..41_000 {
        let _seed = Seed(seed);
        let mut rng = Rng::with_seed(seed);
        let faults = faults(&mut rng, seed % 3 == 0);
        let apps = App::busy_pair(&mut rng);
        let mut holds = Holds::USUAL;
        if seed % 2 == 0 {
            holds.agent = Sizes::BUSY;
        }
        let mut world = World::holding(holds, rng, apps, faults);
        world.run_to_end();
        ended_well(&world);
        seen.note(&world);
    }
    println!("{seen:?}");
    assert!(seen.attached > 500 && seen.lent > 500, "{seen:?}");
}

#[test]
fn without_faults_nobody_dials_again_and_both_ends_agree() {
    for seed in 0..2_000 {
        let _seed = Seed(seed);
        let mut world = World::new(seed);
        world.run_to_end();
        ended_well(&world);
        assert_eq!(world.ends, [Some(End::Clean); 2]);
        let mut events = world.events.iter().map(|(_, _, event)| event);
        assert!(events.all(|e| matches!(e, Event::Ended(_) | Event::Close(..) | Event::Wants(_))));
    }
}

#[test]
fn two_ends_that_write_and_do_not_read_for_long_do_not_lock_each_other() {
    for seed in 0..200 {
        let _seed = Seed(seed);
        let apps = [0, 1].map(|side| App::writes_only(300_000, 300_000, side));
        let mut world = World::wide(seed, apps);
        world.run_to_end();
        assert_eq!(world.ends, [Some(End::Clean); 2]);
    }
}

#[test]
fn an_end_that_stays_alone_gives_up_when_the_grace_time_is_over() {
    for seed in 0..1_000 {
        let _seed = Seed(seed);
        let apps = [0, 1].map(|side| App::writes_only(2_000_000, 2_000_000, side));
        let mut world = World::wide(seed, apps);
        world.grace = ms(60_000);
        world.run(ms(1_000 + seed));
        let cut = world.now;
        world.dark_until = Duration::from_secs(100_000);
        if seed % 2 == 0 {
            world.cut();
        }
        world.run(ms(400_000));
        let over = End::GivenUp(Reason::GraceOver);
        assert_eq!(world.ends, [Some(over); 2]);
        assert!(world.agent.is_none(), "forgotten");
        for side in [CLIENT, AGENT] {
            let at = world.first(side, |e| matches!(e, Event::Ended(_))).unwrap();
            let waited = at - cut;
            // What was sent before the cut may have been heard a little later.
            let most = world.grace + SUSPECT + ms(40_000) + ACK_DELAY;
            assert!(
                waited + ms(1_500) >= world.grace && waited <= most,
                "{waited:?} {:?}",
                world.events
            );
        }
    }
}

#[test]
fn a_path_that_comes_back_is_used_at_once() {
    let mut seen = Seen::default();
    for seed in 0..500 {
        let _seed = Seed(seed);
        let apps = [0, 1].map(|side| App::writes_only(20_000_000, 20_000_000, side));
        let mut world = World::wide(seed, apps);
        world.run(ms(2_000));
        let dark = ms(1_000 + seed * 100);
        world.dark_until = world.now + dark;
        world.run(dark + ms(3_000));
        let read = world.apps.clone().map(|app| app.read);
        world.run(ms(12_000));
        let client = world.client.stream();
        assert_eq!(client.alone_since(), None, "attached");
        assert!(
            world
                .apps
                .iter()
                .zip(read)
                .any(|(app, before)| app.read > before)
        );
        let stalled = world.first(CLIENT, |e| *e == Event::Stalled).is_some();
        assert!(stalled || dark <= SUSPECT + PERSIST + ms(7_000), "noticed");
        seen.note(&world);
    }
    assert!(seen.lent > 500 && seen.given_back > 50, "{seen:?}");
}
