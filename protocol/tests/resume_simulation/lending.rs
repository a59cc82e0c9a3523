//! Streams that hold more while they are busy.

use std::time::Duration;

use protocol::resume::frame::Frame;
use protocol::resume::{Agent, Event, Generation, Reason, Sizes};

use crate::mac::TestMac;
use crate::pair::{Pair, frames};
use crate::world::ms;

const FIRST: Generation = Generation(0);

const fn kib(replay: u32, window: u32) -> Sizes {
    Sizes {
        replay: replay * 1024,
        window: window * 1024,
    }
}

/// A stream that may hold 128 KiB each way, and is promised 32.
fn pair() -> Pair {
    let mut pair = Pair::roomy(kib(32, 32));
    pair.agent.stream_mut().may_want(kib(128, 128));
    pair
}

/// Gives what is wanted; gives the last wish.
fn lend_all(pair: &mut Pair) -> Option<Sizes> {
    let mut last = None;
    for event in pair.agent_events() {
        if let Event::Wants(sizes) = event {
            pair.agent.stream_mut().lend(sizes, pair.now);
            last = Some(sizes);
        }
    }
    last
}

/// Longer than what is not used is kept.
const LONG: Duration = ms(40_000);

/// Time passes; gives what is wanted then.
fn wait(pair: &mut Pair) -> Option<Sizes> {
    let until = pair.now + LONG;
    let mut last = None;
    while pair.now < until {
        pair.now = pair.agent.poll_timeout().0.min(until);
        pair.agent.handle_timeout(pair.now);
        last = lend_all(pair).or(last);
    }
    last
}

/// A round trip of a copy from the agent: as much as it takes.
fn copy_down(pair: &mut Pair) -> usize {
    copy_down_over(pair, ms(200))
}

fn copy_down_over(pair: &mut Pair, trip: Duration) -> usize {
    let mut moved = 0;
    loop {
        let count = pair.agent.stream_mut().write(&[7; 5000], pair.now);
        let said = pair.agent_says(FIRST);
        if count == 0 {
            break;
        }
        moved += count;
        // All of it before any acknowledgement.
        pair.client_hears(FIRST, &said);
    }
    pair.read_client();
    pair.now += trip;
    pair.exchange(FIRST);
    moved
}

/// Copies from the agent until it has been lent all that it may want.
fn grow(pair: &mut Pair) {
    for _ in 0..20 {
        copy_down(pair);
        lend_all(pair);
    }
    assert_eq!(pair.agent.stream().held(), kib(128, 32));
}

/// The same of a copy to the agent.
fn copy_up(pair: &mut Pair) -> usize {
    pair.client.stream_mut().write(&[7; 400_000], pair.now);
    let said = pair.client_says(FIRST);
    pair.now += ms(200);
    pair.agent_hears(FIRST, &said);
    let moved = pair.read_agent().len();
    let answer = pair.agent_says(FIRST);
    pair.client_hears(FIRST, &answer);
    moved
}

#[test]
fn a_busy_replay_buffer_grows_and_an_idle_one_shrinks() {
    let mut pair = pair();
    let mut most = 0;
    for _ in 0..20 {
        most = most.max(copy_down(&mut pair));
        lend_all(&mut pair);
    }
    assert_eq!(most, 128 * 1024, "in one round trip");
    assert_eq!(pair.agent.stream().held(), kib(128, 32));
    assert_eq!(wait(&mut pair), Some(kib(32, 32)), "given back");
    assert_eq!(pair.agent.stream().held(), kib(32, 32));
    assert_eq!(pair.agent.stream().room(), 32 * 1024);
    assert_eq!(pair.agent.poll_timeout().1, "nothing");
}

#[test]
fn what_trickles_and_what_is_not_acknowledged_keep_no_more_than_they_need() {
    let mut pair = pair();
    grow(&mut pair);
    let mut wanted = None;
    for _ in 0..60 {
        pair.agent.stream_mut().write(b"tick", pair.now);
        pair.exchange(FIRST);
        pair.read_client();
        pair.now += ms(500);
        pair.agent.handle_timeout(pair.now);
        wanted = lend_all(&mut pair).or(wanted);
    }
    assert_eq!(wanted, Some(kib(32, 32)));
    grow(&mut pair);
    pair.agent.stream_mut().write(&[1; 50 * 1024], pair.now);
    pair.agent.handle_closed(FIRST, pair.now);
    assert_eq!(wait(&mut pair), Some(kib(50, 32)));
    assert_eq!(pair.agent.stream().memory(), 50 * 1024);
    let on = pair.attach_anew();
    pair.exchange(on);
    assert_eq!(pair.read_client(), [1; 50 * 1024]);
}

#[test]
fn a_stream_that_is_over_holds_only_the_frame_under_way() {
    let mut pair = pair();
    grow(&mut pair);
    while pair.agent.stream_mut().write(&[9; 5000], pair.now) > 0 {}
    let mut begun = [0; 50_000];
    let count = pair.agent.poll_transmit(FIRST, &mut begun, pair.now);
    pair.client_hears(FIRST, &begun[..count]);
    pair.agent.stream_mut().reset(Reason::Locked, pair.now);
    let left = pair.agent.stream().memory();
    assert!((1..=16 * 1024).contains(&left), "{left} bytes");
    pair.exchange(FIRST);
    assert!(pair.client.stream().end().is_some(), "the frame was whole");
    assert_eq!(pair.agent.stream().memory(), 0);
}

#[test]
fn a_busy_window_grows_and_what_was_allowed_stays_so() {
    let mut pair = pair();
    let mut most = 0;
    for _ in 0..20 {
        most = most.max(copy_up(&mut pair));
        lend_all(&mut pair);
    }
    assert_eq!(most, 128 * 1024, "in one round trip");
    assert_eq!(pair.agent.stream().held(), kib(32, 128));
    assert_eq!(wait(&mut pair), None);
    // The client may still send all that.
    let said = pair.client_says(FIRST);
    pair.agent_hears(FIRST, &said);
    assert_eq!(pair.agent.stream().end(), None);
    assert_eq!(pair.agent.stream().readable().len(), 128 * 1024);
    pair.now += LONG;
    pair.read_agent();
    assert_eq!(wait(&mut pair), Some(kib(32, 32)), "now it is given back");
}

#[test]
fn who_is_given_nothing_goes_on_and_asks_once_a_second() {
    let mut pair = pair();
    let mut wishes = 0;
    for _ in 0..50 {
        assert_eq!(copy_down(&mut pair), 32 * 1024);
        let events = pair.agent_events();
        wishes += events.len();
        assert!(events.iter().all(|e| *e == Event::Wants(kib(64, 32))));
    }
    assert!((9..=10).contains(&wishes), "{wishes} in 10 s");
    assert_eq!(pair.agent.stream().held(), kib(32, 32));
}

#[test]
fn only_what_a_larger_buffer_would_mend_asks_for_one() {
    // A slow path: five seconds for what it holds.
    let mut slow = pair();
    for _ in 0..20 {
        copy_down_over(&mut slow, ms(5000));
    }
    assert_eq!(slow.agent_events(), []);
    // A client that reads at once, and allows no more than is kept.
    let mut narrow = Pair::new();
    narrow.agent.stream_mut().may_want(kib(128, 128));
    for _ in 0..20 {
        assert_eq!(copy_down(&mut narrow), 16 * 1024);
    }
    assert_eq!(narrow.agent_events(), []);
    // A client that never comes to the end of what it is allowed.
    let mut steady = pair();
    for _ in 0..200 {
        steady.client.stream_mut().write(&[1; 20_001], steady.now);
        steady.exchange(FIRST);
        steady.read_agent();
        steady.exchange(FIRST);
        steady.now += ms(50);
    }
    assert_eq!(steady.agent_events(), []);
    // Nobody who would read.
    let mut dropped = pair();
    dropped.agent.stream_mut().discard(dropped.now);
    for _ in 0..20 {
        copy_up(&mut dropped);
    }
    assert_eq!(dropped.agent_events(), []);
    // An application that writes more than the attachment takes.
    let mut full = pair();
    for _ in 0..20 {
        while full.agent.stream_mut().write(&[1; 5000], full.now) > 0 {}
        let mut out = [0; 10_000];
        let count = full.agent.poll_transmit(FIRST, &mut out, full.now);
        full.client_hears(FIRST, &out[..count]);
        full.read_client();
        let said = full.client_says(FIRST);
        full.agent_hears(FIRST, &said);
        full.now += ms(50);
    }
    assert_eq!(full.agent_events(), []);
    // Nobody is there.
    let mut alone = pair();
    copy_down(&mut alone);
    alone.agent.handle_closed(FIRST, alone.now);
    while alone.agent.stream_mut().write(&[1; 5000], alone.now) > 0 {}
    assert_eq!(alone.agent_events(), [Event::Detached]);
}

#[test]
fn a_snapshot_takes_what_was_lent_along() {
    let mut pair = pair();
    for _ in 0..20 {
        copy_down(&mut pair);
        copy_up(&mut pair);
        lend_all(&mut pair);
    }
    while pair.agent.stream_mut().write(&[9; 5000], pair.now) > 0 {}
    let bytes = pair.agent.snapshot().unwrap();
    pair.agent = Agent::restore(&bytes, &TestMac, pair.now).unwrap();
    assert_eq!(pair.agent.stream().held(), kib(128, 128));
    let on = pair.attach_anew();
    pair.exchange(on);
    let unread = pair.read_client();
    assert!(unread.ends_with(&[9; 128 * 1024]));
}

/// How many bytes come between two acknowledgements that the agent asks for.
fn asked_every(pair: &mut Pair) -> Vec<usize> {
    let (mut every, mut since) = (Vec::new(), 0);
    while pair.agent.stream_mut().write(&[7; 4096], pair.now) > 0 {
        for frame in frames(&pair.agent_says(FIRST)) {
            match frame {
                Frame::Data { length } => since += usize::from(length),
                Frame::Ping => every.push(std::mem::take(&mut since)),
                _ => {}
            }
        }
    }
    every
}

#[test]
fn who_keeps_less_than_the_other_takes_asks_for_acknowledgements_in_time() {
    let mut small = Pair::roomy(kib(32, 32));
    assert_eq!(asked_every(&mut small), [8192; 4]);
    let mut usual = Pair::roomy(Sizes::AGENT);
    assert_eq!(asked_every(&mut usual), [64 * 1024; 4]);
    // Here the client does so by itself.
    let mut large = Pair::roomy(Sizes::BUSY);
    assert_eq!(asked_every(&mut large), []);
    let mut equal = Pair::new();
    assert_eq!(asked_every(&mut equal), []);
}
