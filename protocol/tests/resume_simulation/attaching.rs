//! How attachments follow each other.

use std::time::Duration;

use protocol::resume::frame::Frame;
use protocol::resume::{End, Event, Generation, LAST_FIN, LINGER, Reason, SUSPECT};

use crate::pair::{GRACE, Pair, frames};
use crate::world::ms;

const FIRST: Generation = Generation(0);

#[test]
fn data_flows_behind_the_open_frame_without_waiting() {
    use protocol::resume::frame::Opening;
    use protocol::resume::{Agent, Client, FIRST_CREDIT, Sizes};

    let (mut client, opening) = Client::open(crate::pair::start(1), &crate::mac::TestMac, ms(0));
    let mut out = vec![0; 100_000];
    client.stream_mut().write(&[5; 40_000], ms(0));
    let count = client.poll_transmit(FIRST, &mut out, ms(0));
    assert_eq!(
        count,
        FIRST_CREDIT as usize + 3,
        "as much as any agent takes"
    );
    let Ok(Opening::Open(open)) = Opening::decode(&opening) else {
        panic!("not OPEN");
    };
    let mut agent = Agent::accept(&open, Sizes::AGENT, GRACE, &crate::mac::TestMac, ms(0));
    agent.handle_received(FIRST, &out[..count], &mut [], ms(0));
    assert_eq!(agent.stream().readable(), [5; FIRST_CREDIT as usize]);
}

#[test]
fn an_attach_costs_one_round_trip() {
    let mut pair = Pair::new();
    pair.client.stream_mut().write(b"keys", pair.now);
    pair.agent.stream_mut().write(b"screen", pair.now);
    let on = pair.dial_anew();
    let challenge = pair.agent_says(on);
    assert!(matches!(frames(&challenge)[..], [Frame::Challenge(_)]));
    pair.client_hears(on, &challenge);
    let proof = pair.client_says(on);
    assert!(matches!(
        frames(&proof)[..],
        [
            Frame::Proof(_),
            Frame::Ack { .. },
            Frame::Data { length: 4 }
        ]
    ));
    pair.agent_hears(on, &proof);
    assert_eq!(pair.read_agent(), b"keys");
    let resumed = pair.agent_says(on);
    assert!(matches!(
        frames(&resumed)[..],
        [
            Frame::Resumed { from: 0 },
            Frame::Ack { .. },
            Frame::Data { length: 6 }
        ]
    ));
    pair.client_hears(on, &resumed);
    assert_eq!(pair.read_client(), b"screen");
}

#[test]
fn what_was_on_its_way_is_sent_again_and_nothing_else() {
    let mut pair = Pair::new();
    pair.client.stream_mut().write(b"0123456789", pair.now);
    let lost = pair.client_says(FIRST);
    // The header and four bytes arrive.
    pair.agent_hears(FIRST, &lost[..3 + 4]);
    pair.client.stream_mut().write(b"abc", pair.now);
    let on = pair.dial_anew();
    let challenge = pair.agent_says(on);
    pair.client_hears(on, &challenge);
    let sent = pair.client_says(on);
    assert!(sent.ends_with(b"456789abc"));
    pair.agent_hears(on, &sent);
    assert_eq!(pair.read_agent(), b"0123456789abc");
}

#[test]
fn the_newest_attachment_wins_and_late_data_of_older_ones_is_ignored() {
    let mut pair = Pair::new();
    pair.client.stream_mut().write(b"one", pair.now);
    let late = pair.client_says(FIRST);
    let on = pair.attach_anew();
    assert_eq!(pair.read_agent(), b"one");
    let events = pair.agent_events();
    assert_eq!(events, [Event::Close(FIRST, None), Event::Attached(on)]);
    pair.agent_hears(FIRST, &late);
    assert_eq!(pair.read_agent(), b"");
    assert!(pair.agent_says(FIRST).is_empty());
    pair.agent.handle_closed(FIRST, pair.now);
    assert_eq!(pair.agent.stream().attached(), Some(on));
}

#[test]
fn of_two_attachments_under_way_the_newer_stays_whoever_proves_first() {
    for newer_first in [true, false] {
        let mut pair = Pair::new();
        let older = pair.dial_anew();
        let challenge = pair.agent_says(older);
        // The client's end of the older one proves itself, then breaks.
        pair.client_hears(older, &challenge);
        let old_proof = pair.client_says(older);
        let newer = pair.dial_anew();
        pair.agent_events();
        if !newer_first {
            pair.agent_hears(older, &old_proof);
            assert_eq!(pair.agent.stream().attached(), Some(older));
        }
        pair.exchange(newer);
        assert_eq!(pair.agent.stream().attached(), Some(newer));
        let events = pair.agent_events();
        let gone = if newer_first {
            Event::Close(older, Some(Reason::Stale))
        } else {
            Event::Close(older, None)
        };
        assert!(events.contains(&gone), "{events:?}");
        pair.agent_hears(older, &old_proof);
        assert_eq!(pair.agent.stream().attached(), Some(newer));
    }
}

#[test]
fn a_stalled_attachment_that_answers_first_is_kept() {
    let mut pair = Pair::new();
    pair.client.stream_mut().write(b"key", pair.now);
    let sent = pair.client_says(FIRST);
    pair.now = SUSPECT + ms(1);
    pair.client.handle_timeout(pair.now);
    assert_eq!(pair.client_events(), [Event::Stalled]);
    let attach = pair.dial();
    let next = Generation(attach.generation);
    pair.agent.attach(&attach, [9; 16], pair.now).unwrap();
    let challenge = pair.agent_says(next);
    // The path is back: the old attachment delivers, and its answer comes first.
    pair.agent_hears(FIRST, &sent);
    pair.now += ms(1000);
    pair.agent.handle_timeout(pair.now);
    let answer = pair.agent_says(FIRST);
    pair.client_hears(FIRST, &answer);
    assert_eq!(
        pair.client_events(),
        [Event::Recovered, Event::Close(next, None)]
    );
    pair.client_hears(next, &challenge);
    assert!(pair.client_says(next).is_empty(), "no proof");
    pair.agent.handle_closed(next, pair.now);
    assert_eq!(pair.agent.stream().attached(), Some(FIRST));
    assert_eq!(pair.read_agent(), b"key");
}

/// After a challenge named a position, the old attachment delivers 9000 bytes.
fn delivered_late() -> (Pair, Generation, Vec<u8>) {
    let mut pair = Pair::new();
    pair.client.stream_mut().write(&[1; 9000], pair.now);
    let old = pair.client_says(FIRST);
    let on = pair.dial_anew();
    let challenge = pair.agent_says(on);
    pair.agent_hears(FIRST, &old);
    (pair, on, challenge)
}

#[test]
fn what_still_arrived_on_the_old_attachment_is_not_handed_on_twice() {
    let (mut pair, on, challenge) = delivered_late();
    pair.client_hears(on, &challenge);
    pair.client.stream_mut().write(&[2; 10], pair.now);
    pair.exchange(on);
    let mut expected = vec![1; 9000];
    expected.extend([2; 10]);
    assert_eq!(pair.read_agent(), expected);
    let acked = |pair: &Pair| pair.client.stream().unacknowledged().0.is_empty();
    pair.now += ms(1000);
    pair.agent.handle_timeout(pair.now);
    pair.exchange(on);
    assert!(acked(&pair));
}

#[test]
fn what_goes_straight_to_the_application_is_new() {
    let (mut pair, on, challenge) = delivered_late();
    assert!(pair.read_agent() == [1; 9000]);
    pair.client_hears(on, &challenge);
    pair.client.stream_mut().write(&[2; 5000], pair.now);
    let (mut straight, mut got) = (0, Vec::new());
    loop {
        let (up, down) = (pair.client_says(on), pair.agent_says(on));
        if up.is_empty() && down.is_empty() {
            break;
        }
        for byte in up {
            if pair.agent.expects(on) > 0 {
                pair.agent.handle_passed(on, 1, pair.now);
                got.push(byte);
                straight += 1;
            } else {
                pair.agent_hears(on, &[byte]);
                got.extend(pair.read_agent());
            }
        }
        pair.client_hears(on, &down);
    }
    assert!(got == [2; 5000]);
    // What was known came first, in the same frame.
    assert_eq!(straight, 5000);
    pair.agent.stream_mut().discard(pair.now);
    assert_eq!(pair.agent.expects(on), 0);
}

#[test]
fn both_directions_end_on_their_own() {
    let mut pair = Pair::new();
    pair.client.stream_mut().write(b"request", pair.now);
    pair.client.stream_mut().finish(pair.now);
    pair.exchange(FIRST);
    assert_eq!(pair.read_agent(), b"request");
    assert!(pair.agent.stream().is_read_to_end());
    pair.agent.stream_mut().write(b"answer", pair.now);
    let on = pair.attach_anew();
    assert_eq!(pair.read_client(), b"answer");
    assert_eq!(pair.client.stream().end(), None);
    pair.agent.stream_mut().finish(pair.now);
    pair.exchange(on);
    assert_eq!(pair.client.stream().end(), Some(End::Clean));
    assert_eq!(pair.agent.stream().end(), Some(End::Clean));
    assert!(pair.client_events().contains(&Event::Close(on, None)));
}

/// A stream whose agent's application has gone, while the client has all and says nothing.
fn served() -> Pair {
    let mut pair = Pair::new();
    let stream = pair.agent.stream_mut();
    stream.write(b"screen", pair.now);
    stream.finish(pair.now);
    stream.discard(pair.now);
    pair.exchange(FIRST);
    pair
}

fn agent_at(pair: &mut Pair, now: Duration) -> Option<End> {
    pair.now = now;
    pair.agent.handle_timeout(now);
    pair.agent.stream().end()
}

#[test]
fn a_client_that_leaves_its_side_open_loses_its_place_and_nothing_that_it_has() {
    let mut pair = served();
    let over = pair.now + LAST_FIN;
    assert_eq!(agent_at(&mut pair, over - ms(1)), None);
    let given_up = End::GivenUp(Reason::Finished);
    assert_eq!(agent_at(&mut pair, over), Some(given_up));
    pair.exchange(FIRST);
    assert_eq!(pair.client.stream().end(), Some(End::Clean));
    assert_eq!(pair.read_client(), b"screen");
}

#[test]
fn one_that_is_away_meanwhile_learns_it_when_it_is_back() {
    let mut pair = served();
    pair.agent.handle_closed(FIRST, pair.now);
    let late = pair.now + LAST_FIN * 2;
    assert_eq!(agent_at(&mut pair, late), None);
    let on = pair.attach_anew();
    let now = pair.now;
    assert!(agent_at(&mut pair, now).is_some());
    pair.exchange(on);
    assert_eq!(pair.client.stream().end(), Some(End::Clean));
    assert_eq!(pair.read_client(), b"screen");
}

#[test]
fn a_client_that_missed_the_end_is_told() {
    let mut pair = Pair::new();
    pair.client.stream_mut().finish(pair.now);
    pair.agent.stream_mut().finish(pair.now);
    let (up, down) = (pair.client_says(FIRST), pair.agent_says(FIRST));
    pair.agent_hears(FIRST, &up);
    pair.client_hears(FIRST, &down);
    let ack = pair.client_says(FIRST);
    pair.agent_hears(FIRST, &ack);
    // The agent's acknowledgement is lost.
    pair.agent_says(FIRST);
    let over = pair.now;
    assert_eq!(pair.agent.stream().end(), Some(End::Clean));
    assert_eq!(pair.client.stream().end(), None);
    pair.client.handle_closed(FIRST, pair.now);
    let attach = pair.dial();
    let refused = pair.agent.attach(&attach, [9; 16], pair.now).unwrap_err();
    assert_eq!(refused, Reason::Finished);
    pair.client_hears(Generation(attach.generation), &refused.frame());
    assert_eq!(pair.client.stream().end(), Some(End::Clean));
    assert!(!pair.agent.is_forgotten(over + LINGER - ms(1)));
    assert!(pair.agent.is_forgotten(over + LINGER));
}

#[test]
fn a_reset_is_told_with_its_reason_now_or_at_the_next_attach() {
    let mut pair = Pair::new();
    pair.agent.stream_mut().write(&[1; 5000], pair.now);
    // In the middle of a frame.
    let mut begun = [0; 100];
    pair.agent.poll_transmit(FIRST, &mut begun, pair.now);
    pair.client_hears(FIRST, &begun);
    pair.agent.stream_mut().reset(Reason::Locked, pair.now);
    pair.exchange(FIRST);
    assert_eq!(pair.client.stream().end(), Some(End::Reset(Reason::Locked)));
    let ended = Event::Ended(End::GivenUp(Reason::Locked));
    assert_eq!(pair.agent_events(), [ended, Event::Close(FIRST, None)]);
    assert_eq!(pair.agent.stream().memory(), 0);

    let mut pair = Pair::new();
    pair.client.handle_closed(FIRST, pair.now);
    pair.agent.handle_closed(FIRST, pair.now);
    pair.agent.stream_mut().reset(Reason::Expired, pair.now);
    let attach = pair.dial();
    let refused = pair.agent.attach(&attach, [9; 16], pair.now).unwrap_err();
    pair.client
        .handle_refused(Generation(attach.generation), refused, pair.now);
    assert_eq!(
        pair.client.stream().end(),
        Some(End::Reset(Reason::Expired))
    );
}

#[test]
fn a_client_whose_agent_says_busy_dials_again() {
    let mut pair = Pair::new();
    pair.client.handle_closed(FIRST, pair.now);
    for n in 1..20 {
        let attach = pair.dial();
        assert_eq!(attach.generation, n);
        pair.client
            .handle_refused(Generation(n), Reason::Busy, pair.now);
    }
    assert!(pair.now > ms(20_000), "not in a hurry");
    assert_eq!(pair.client.stream().end(), None);
}

#[test]
fn a_snapshot_goes_on_where_the_other_process_was() {
    use crate::mac::TestMac;
    use protocol::resume::Agent;

    let mut pair = Pair::new();
    pair.client.stream_mut().write(b"typed", pair.now);
    pair.agent.stream_mut().write(b"shown", pair.now);
    pair.exchange(FIRST);
    pair.agent.stream_mut().write(b", and not sent", pair.now);
    let bytes = pair.agent.snapshot().unwrap();
    for end in 0..bytes.len() {
        assert!(Agent::restore(&bytes[..end], &TestMac, pair.now).is_err());
    }
    pair.agent = Agent::restore(&bytes, &TestMac, pair.now).unwrap();
    assert_eq!(pair.agent.stream().attached(), None);
    pair.attach_anew();
    assert_eq!(pair.read_client(), b"shown, and not sent");
    assert_eq!(pair.read_agent(), b"typed");
    pair.agent.stream_mut().reset(Reason::Stopping, pair.now);
    assert_eq!(pair.agent.snapshot(), None);
}
