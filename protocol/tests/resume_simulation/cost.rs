//! What a stream costs: bytes on the wire, wake-ups, memory.

use protocol::resume::frame::Frame;
use protocol::resume::{ACK_DELAY, Agent, Client, Event, Generation, PERSIST, Sizes, TRIM};

use crate::pair::{Pair, frames};
use crate::world::ms;

const FIRST: Generation = Generation(0);

#[test]
fn an_acknowledgement_goes_along_with_data() {
    let mut pair = Pair::new();
    pair.client.stream_mut().write(b"k", pair.now);
    let key = pair.client_says(FIRST);
    assert_eq!(frames(&key), [Frame::Data { length: 1 }]);
    pair.agent_hears(FIRST, &key);
    assert_eq!(pair.read_agent(), b"k");
    assert!(pair.agent_says(FIRST).is_empty(), "it waits");
    pair.agent.stream_mut().write(b"k", pair.now + ms(3));
    let echo = pair.agent_says(FIRST);
    assert!(matches!(
        frames(&echo)[..],
        [Frame::Ack { received: 1, .. }, Frame::Data { length: 1 }]
    ));
    assert_eq!(echo.len(), 9 + 3 + 1);
}

#[test]
fn an_acknowledgement_waits_half_a_second_at_most_and_is_sent_once() {
    let mut pair = Pair::new();
    pair.client.stream_mut().write(b"k", pair.now);
    let key = pair.client_says(FIRST);
    pair.agent_hears(FIRST, &key);
    let due = (pair.now + ACK_DELAY, "acknowledgement");
    assert_eq!(pair.agent.poll_timeout(), due);
    pair.now = due.0;
    pair.agent.handle_timeout(pair.now);
    let said = pair.agent_says(FIRST);
    assert!(matches!(
        frames(&said)[..],
        [Frame::Ack { received: 1, .. }]
    ));
    assert_ne!(pair.agent.poll_timeout().1, "acknowledgement");
    pair.client_hears(FIRST, &said);
    assert!(pair.client_says(FIRST).is_empty(), "nobody answers that");
}

#[test]
fn a_copy_costs_less_than_one_byte_in_five_hundred() {
    let mut pair = Pair::new();
    let (mut moved, mut wire) = (0, [0, 0]);
    while moved < 4_000_000 {
        moved += pair.agent.stream_mut().write(&[3; 100_000], pair.now);
        let [up, down] = pair.exchange(FIRST);
        wire = [wire[0] + up, wire[1] + down];
        pair.read_client();
        pair.now += ms(1);
    }
    let extra = wire[0] + wire[1] - moved;
    assert!(extra * 500 < moved, "{extra} bytes for {moved}");
}

/// Copies so much to the agent, whose application says something after each `answers` KiB, if it
/// ever does; tells after how many KiB each acknowledgement went, and whether alone.
fn acknowledged(pair: &mut Pair, kib: u32, answers: u32) -> Vec<(u32, bool)> {
    let mut all = Vec::new();
    for done in (16..=kib).step_by(16) {
        assert_eq!(
            pair.client.stream_mut().write(&[5; 16 * 1024], pair.now),
            16 * 1024
        );
        let said = pair.client_says(FIRST);
        pair.agent_hears(FIRST, &said);
        assert_eq!(pair.read_agent().len(), 16 * 1024);
        if done % answers == 0 {
            pair.agent.stream_mut().write(b"window adjusted", pair.now);
        }
        let said = pair.agent_says(FIRST);
        match frames(&said)[..] {
            [] => {}
            [Frame::Ack { .. }] => all.push((done, true)),
            [Frame::Ack { .. }, Frame::Data { .. }] => all.push((done, false)),
            ref other => panic!("{other:?}"),
        }
        pair.client_hears(FIRST, &said);
        pair.read_client();
        pair.now += ms(3);
    }
    all
}

#[test]
fn where_an_application_answers_acknowledgements_go_with_what_it_says() {
    let mib = Sizes {
        replay: 256 * 1024,
        window: 1024 * 1024,
    };
    let mut pair = Pair::roomy(mib);
    let alone = acknowledged(&mut pair, 1024, u32::MAX);
    assert_eq!(
        alone,
        [(256, true), (512, true), (768, true), (1024, true)],
        "nothing is said"
    );
    let along = acknowledged(&mut pair, 4096, 512);
    let first = [(256, true), (512, false), (1024, false), (1536, false)];
    assert_eq!(along[..4], first);
    assert!(along[1..].iter().all(|(_, alone)| !alone), "{along:?}");
    assert_eq!(along.len(), 9);
    // It stops to say anything.
    let alone = acknowledged(&mut pair, 1200, u32::MAX);
    assert_eq!(alone, [(640, true), (896, true), (1152, true)]);
}

#[test]
fn who_keeps_little_is_told_early_even_by_one_that_answers() {
    let sizes = Sizes {
        replay: 256 * 1024,
        window: 512 * 1024,
    };
    let mut pair = Pair::roomy(sizes);
    let along = acknowledged(&mut pair, 1024, 512);
    let all = [128, 256, 384, 512, 640, 768, 896, 1024];
    assert_eq!(along.iter().map(|(at, _)| *at).collect::<Vec<_>>(), all);
}

#[test]
fn an_idle_stream_holds_no_buffers_and_wakes_nobody() {
    let mut pair = Pair::new();
    for _ in 0..100 {
        pair.client.stream_mut().write(&[1; 700], pair.now);
        pair.agent.stream_mut().write(&[2; 900], pair.now);
        pair.exchange(FIRST);
        pair.read_agent();
        pair.read_client();
        pair.now += ms(50);
    }
    assert!(pair.agent.stream().memory() > 0);
    let from = pair.now;
    for _ in 0..6 {
        let next = pair
            .agent
            .poll_timeout()
            .0
            .min(pair.client.poll_timeout().0);
        pair.now = next.min(from + TRIM * 3);
        pair.agent.handle_timeout(pair.now);
        pair.client.handle_timeout(pair.now);
        pair.exchange(FIRST);
    }
    let memory = [pair.agent.stream().memory(), pair.client.stream().memory()];
    assert_eq!(memory, [0, 0]);
    assert_eq!(pair.agent.poll_timeout().1, "nothing");
    assert_eq!(pair.client.poll_timeout().1, "nothing");
    let sizes = [size_of::<Agent>(), size_of::<Client>()];
    assert!(sizes.iter().all(|size| *size <= 1536), "{sizes:?}");
}

#[test]
fn who_may_not_send_asks_rarely() {
    let mut pair = Pair::new();
    pair.agent.stream_mut().write(&[1; 16 * 1024], pair.now);
    pair.exchange(FIRST);
    pair.agent.stream_mut().write(&[1; 1000], pair.now);
    assert_eq!(pair.exchange(FIRST), [0, 0], "the client does not read");
    for _ in 0..5 {
        let (at, why) = pair.agent.poll_timeout();
        assert_eq!((at - pair.now, why), (PERSIST, "persist"));
        pair.now = at;
        pair.agent.handle_timeout(at);
        pair.client.handle_timeout(at);
        assert_eq!(pair.exchange(FIRST), [9, 1]);
    }
    assert_eq!(pair.read_client().len(), 16 * 1024);
    pair.exchange(FIRST);
    assert_eq!(pair.read_client().len(), 1000, "and is told at once");
}

#[test]
fn a_write_beyond_the_buffer_waits_for_acknowledgements() {
    let mut pair = Pair::new();
    let taken = pair.agent.stream_mut().write(&[1; 50_000], pair.now);
    assert_eq!((taken, pair.agent.stream().room()), (16 * 1024, 0));
    pair.agent_says(FIRST);
    assert_eq!(pair.agent.stream().room(), 0, "sent is not arrived");
}

#[test]
fn a_network_that_changed_is_probed_and_left_sooner() {
    let mut pair = Pair::new();
    pair.client.handle_network_changed(pair.now);
    assert_eq!(frames(&pair.client_says(FIRST)), [Frame::Ping]);
    pair.now += ms(3001);
    pair.client.handle_timeout(pair.now);
    assert_eq!(pair.client_events(), [Event::Stalled]);
    // It answers in time.
    let mut pair = Pair::new();
    pair.client.handle_network_changed(pair.now);
    pair.exchange(FIRST);
    assert_eq!(pair.client.poll_timeout().1, "nothing");
}

#[test]
fn an_attachment_that_stalled_is_the_fastest_way_back_once_the_network_is_there() {
    let mut pair = Pair::new();
    pair.client.stream_mut().write(&[1; 10], pair.now);
    let lost = pair.client_says(FIRST);
    pair.now += ms(8001);
    pair.client.handle_timeout(pair.now);
    assert_eq!(pair.client_events(), [Event::Stalled]);
    let (at, why) = pair.client.poll_timeout();
    assert_eq!(why, "back-off");
    pair.now = at;
    pair.client.handle_timeout(at);
    assert_eq!(pair.client_events(), [Event::Dial(Generation(1))]);
    // The dial is under way, too, and no other starts.
    pair.client.handle_network_changed(pair.now);
    assert_eq!(pair.client_events(), []);
    pair.agent_hears(FIRST, &lost);
    pair.exchange(FIRST);
    let back = [Event::Recovered, Event::Close(Generation(1), None)];
    assert_eq!(pair.client_events(), back);
    // Without any attachment, it is dialled at once.
    pair.client.handle_closed(FIRST, pair.now);
    pair.client.handle_network_changed(pair.now);
    let (at, why) = pair.client.poll_timeout();
    assert_eq!(why, "back-off");
    assert!(at - pair.now <= ms(200), "{at:?}");
}

#[test]
fn who_comes_back_hears_at_once_if_what_there_was_is_still_there() {
    let mut pair = Pair::new();
    pair.client.handle_slept(ms(0), pair.now);
    let attach = pair.dial();
    assert!(pair.agent_says(FIRST).is_empty());
    let nonce = pair.nonce();
    assert_eq!(pair.agent.attach(&attach, nonce, pair.now), Ok(()));
    let said = pair.agent_says(FIRST);
    assert!(matches!(frames(&said)[..], [Frame::Ack { .. }]));
    pair.client_hears(FIRST, &said);
    let back = [Event::Recovered, Event::Close(Generation(1), None)];
    assert_eq!(pair.client_events(), back);
}

#[test]
fn who_has_slept_dials_at_once_and_asks_what_there_was() {
    let mut pair = Pair::new();
    pair.client.handle_slept(ms(0), pair.now);
    assert_eq!(
        pair.client_events(),
        [Event::Stalled, Event::Dial(Generation(1))]
    );
    // It is still there.
    assert_eq!(frames(&pair.client_says(FIRST)), [Frame::Ping]);
}
