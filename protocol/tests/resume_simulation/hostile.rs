//! Peers that lie, guess, repeat and flood.

use protocol::resume::frame::{Attach, Challenge, Frame, MAX_DATA, Opened, Opening, Proof};
use protocol::resume::{
    Agent, Client, End, Event, FIRST_CREDIT, Generation, Mac, Reason, Secret, Sizes, StreamId,
    Transcript,
};

use crate::mac::TestMac;
use crate::pair::{Pair, frames};
use crate::world::ms;

const FIRST: Generation = Generation(0);

/// Sends frames to an agent whose stream is open; gives how that ended.
fn end_after(said: &[Frame], data: &[u8]) -> Option<End> {
    let mut pair = Pair::new();
    pair.agent.stream_mut().write(b"screen", pair.now);
    pair.exchange(FIRST);
    let mut bytes = Vec::new();
    for frame in said {
        bytes.extend(frame.encode());
        if let Frame::Data { length } = frame {
            bytes.extend(data.iter().cycle().take(usize::from(*length)));
        }
    }
    pair.agent_hears(FIRST, &bytes);
    let end = pair.agent.stream().end();
    if end.is_some() {
        let told = frames(&pair.agent_says(FIRST));
        assert_eq!(told.last(), Some(&Frame::Reset(Reason::Misbehaved)));
        assert!(pair.agent_events().contains(&Event::Close(FIRST, None)));
        assert_eq!(pair.agent.stream().memory(), 0);
    }
    end
}

#[test]
fn a_client_that_breaks_the_protocol_is_reset_with_that_reason() {
    let data = |length| Frame::Data { length };
    let ack = |received, room| Frame::Ack { received, room };
    let most = u16::try_from(MAX_DATA).unwrap();
    let sizes = Sizes::LEAST;
    let (version, grace_s) = (1, 60);
    let opened = Frame::Opened(Opened {
        version,
        sizes,
        grace_s,
    });
    let proof = Frame::Proof(Proof {
        received: 0,
        from: 0,
        tag: [0; 32],
    });
    let wrong: &[&[Frame]] = &[
        // Beyond the window.
        &[data(most), data(1)],
        // Not sent yet.
        &[ack(7, 100)],
        &[ack(u32::MAX, 100)],
        // Backwards.
        &[ack(6, 100), ack(5, 100)],
        // Behind the end.
        &[Frame::Fin, data(1)],
        &[Frame::Fin, Frame::Fin],
        // At the wrong time.
        &[opened],
        &[proof],
        &[Frame::Resumed { from: 0 }],
        &[Frame::Attach(Attach {
            id: StreamId([7; 16]),
            generation: 1,
            nonce: [0; 16],
        })],
    ];
    for said in wrong {
        let end = end_after(said, b"x");
        assert_eq!(end, Some(End::GivenUp(Reason::Misbehaved)), "{said:?}");
    }
    let right: &[&[Frame]] = &[
        &[data(most)],
        &[ack(6, u32::MAX), Frame::Ping, Frame::Ping, data(1)],
        &[data(1), Frame::Fin],
    ];
    for said in right {
        assert_eq!(end_after(said, b"x"), None, "{said:?}");
    }
}

#[test]
fn bytes_that_are_no_frames_reset_the_stream() {
    for bytes in [&[0][..], &[99], &[16, 0, 0], &[16, 0x40, 1], &[255; 100]] {
        let mut pair = Pair::new();
        pair.agent_hears(FIRST, bytes);
        let end = End::GivenUp(Reason::Misbehaved);
        assert_eq!(pair.agent.stream().end(), Some(end), "{bytes:?}");
    }
}

#[test]
fn an_agent_that_breaks_the_protocol_is_reset_too() {
    for frame in [
        Frame::Ping,
        Frame::Data { length: 1 },
        Frame::Resumed { from: 0 },
    ] {
        // OPENED must come first.
        let (mut client, _) = Client::open(crate::pair::start(1), &TestMac, ms(0));
        client.handle_received(FIRST, &frame.encode(), &mut [], ms(0));
        let end = End::GivenUp(Reason::Misbehaved);
        assert_eq!(client.stream().end(), Some(end), "{frame:?}");
    }
}

#[test]
fn a_proof_with_any_bit_changed_is_refused_and_disturbs_nothing() {
    // The first byte says what frame it is.
    for bit in 8..49 * 8 {
        let mut pair = Pair::new();
        pair.client.stream_mut().write(b"one", pair.now);
        pair.exchange(FIRST);
        let on = pair.dial_anew();
        let challenge = pair.agent_says(on);
        pair.client_hears(on, &challenge);
        let mut proof = pair.client_says(on);
        proof[bit / 8] ^= 1 << (bit % 8);
        pair.agent_hears(on, &proof);
        assert_eq!(pair.agent.stream().attached(), Some(FIRST), "bit {bit}");
        assert_eq!(pair.agent.stream().end(), None);
        let closed = |e: &Event| matches!(e, Event::Close(g, Some(_)) if *g == on);
        assert!(pair.agent_events().iter().any(closed), "bit {bit}");
        assert!(pair.agent_says(on).is_empty());
        // The client comes back with a right one.
        pair.attach_anew();
    }
}

#[test]
fn a_challenge_with_any_bit_changed_ends_that_dial_only() {
    for bit in 8..69 * 8 {
        let mut pair = Pair::new();
        let on = pair.dial_anew();
        let mut challenge = pair.agent_says(on);
        challenge[bit / 8] ^= 1 << (bit % 8);
        pair.client_hears(on, &challenge);
        assert!(pair.client_says(on).is_empty(), "bit {bit}: no proof");
        assert_eq!(pair.client.stream().end(), None);
        assert_eq!(pair.client_events(), [Event::Close(on, None)], "bit {bit}");
        pair.agent.handle_closed(on, pair.now);
        pair.attach_anew();
    }
}

#[test]
fn whoever_does_not_know_the_secret_gets_no_byte() {
    let mut pair = Pair::new();
    pair.agent
        .stream_mut()
        .write(b"for the user only", pair.now);
    let (generation, nonce) = (1, [1; 16]);
    let id = StreamId([7; 16]);
    let attach = Attach {
        id,
        generation,
        nonce,
    };
    pair.agent.attach(&attach, [2; 16], pair.now).unwrap();
    let on = Generation(generation);
    let said = pair.agent_says(on);
    let [Frame::Challenge(challenge)] = frames(&said)[..] else {
        panic!("{said:?}");
    };
    // Its own tag, sent back.
    let (received, from, tag) = (0, 0, challenge.tag);
    let proof = Frame::Proof(Proof {
        received,
        from,
        tag,
    });
    pair.agent_hears(on, &proof.encode());
    let refused = Event::Close(on, Some(Reason::Proof));
    assert_eq!(pair.agent_events(), [refused]);
    assert!(pair.agent_says(on).is_empty());
    assert_eq!(pair.agent.stream().attached(), Some(FIRST));
}

#[test]
fn an_attach_of_another_stream_is_refused() {
    let mut ann = Pair::named(1);
    let mut bob = Pair::named(2);
    bob.client.handle_closed(FIRST, bob.now);
    let attach = bob.dial();
    let refused = ann.agent.attach(&attach, [9; 16], ann.now);
    assert_eq!(refused, Err(Reason::Gone));
    // With the other stream's name, his proof is wrong: it is about another stream and secret.
    let id = StreamId([1; 16]);
    let on = Generation(attach.generation);
    let renamed = Attach { id, ..attach };
    ann.agent.attach(&renamed, [9; 16], ann.now).unwrap();
    let challenge = ann.agent_says(on);
    bob.client_hears(on, &challenge);
    assert!(
        bob.client_says(on).is_empty(),
        "he does not know this agent"
    );
}

#[test]
fn what_was_sent_once_to_attach_is_worth_nothing_again() {
    let mut pair = Pair::new();
    pair.client.stream_mut().write(b"rm -r /tmp/x\n", pair.now);
    pair.client.handle_closed(FIRST, pair.now);
    let attach = pair.dial();
    let on = Generation(attach.generation);
    pair.agent.attach(&attach, [8; 16], pair.now).unwrap();
    let challenge = pair.agent_says(on);
    pair.client_hears(on, &challenge);
    let proof = pair.client_says(on);
    // It did not arrive, and is sent by somebody else later.
    pair.agent.handle_closed(on, pair.now);
    pair.agent.attach(&attach, [9; 16], pair.now).unwrap();
    pair.agent_hears(on, &proof);
    assert_eq!(pair.agent.stream().attached(), Some(FIRST));
    assert_eq!(pair.read_agent(), b"");
    // Once it was accepted, not even the opening is.
    let newer = pair.attach_anew();
    assert!(newer > on);
    let stale = pair.agent.attach(&attach, [9; 16], pair.now);
    assert_eq!(stale, Err(Reason::Stale));
}

#[test]
fn a_flood_of_attaches_holds_two_places() {
    let mut pair = Pair::new();
    let id = StreamId([7; 16]);
    for generation in 1..1000 {
        let nonce = [0; 16];
        let attach = Attach {
            id,
            generation,
            nonce,
        };
        assert_eq!(pair.agent.attach(&attach, nonce, pair.now), Ok(()));
        let events = pair.agent_events();
        if generation > 2 {
            let oldest = Generation(generation - 2);
            assert_eq!(events, [Event::Close(oldest, Some(Reason::Busy))]);
        }
    }
    pair.now = pair.agent.poll_timeout().0;
    pair.agent.handle_timeout(pair.now);
    assert_eq!(pair.agent_events().len(), 2, "none waits for ever");
    assert_eq!(pair.agent.stream().attached(), Some(FIRST));
}

#[test]
fn an_end_that_has_lost_what_the_other_relies_on_is_told_so() {
    let secret = Secret([7 ^ 0x55; 32]);
    let mut pair = Pair::new();
    pair.client.stream_mut().write(b"0123456789", pair.now);
    pair.exchange(FIRST);
    pair.now += ms(1000);
    pair.agent.handle_timeout(pair.now);
    pair.exchange(FIRST);
    assert!(pair.client.stream().unacknowledged().0.is_empty());
    pair.client.handle_closed(FIRST, pair.now);
    let attach = pair.dial();
    // An agent that knows the secret, but has forgotten ten bytes that it acknowledged.
    let transcript = Transcript {
        id: attach.id,
        generation: Generation(attach.generation),
        client_nonce: attach.nonce,
        agent_nonce: [3; 16],
        received: 0,
        sizes: Sizes::LEAST,
        grace_s: 60,
    };
    let challenge = Challenge {
        nonce: [3; 16],
        received: 0,
        sizes: Sizes::LEAST,
        grace_s: 60,
        tag: TestMac.tag(&secret, &transcript.of_agent()),
    };
    let on = Generation(attach.generation);
    pair.client_hears(on, &Frame::Challenge(challenge).encode());
    let [Frame::Proof(proof), ..] = frames(&pair.client_says(on))[..] else {
        panic!("no proof");
    };
    assert_eq!(proof.from, 10, "it does not pretend to have them");
    // And the same the other way round: the client is told that it goes on at 10.
    let resumed = Frame::Resumed { from: 10 };
    pair.client_hears(on, &resumed.encode());
    let gone = End::GivenUp(Reason::Gone);
    assert_eq!(pair.client.stream().end(), Some(gone));
    assert!(pair.client_events().contains(&Event::Ended(gone)));
}

#[test]
fn a_proved_client_with_impossible_positions_ends_the_stream() {
    for (received, from) in [(1, 0), (0, 1), (u64::MAX, 0), (0, u64::MAX)] {
        let mut pair = Pair::new();
        let (id, generation, nonce) = (StreamId([7; 16]), 1, [1; 16]);
        let attach = Attach {
            id,
            generation,
            nonce,
        };
        pair.agent.attach(&attach, [2; 16], pair.now).unwrap();
        let transcript = Transcript {
            id,
            generation: Generation(1),
            client_nonce: nonce,
            agent_nonce: [2; 16],
            received: 0,
            sizes: Sizes::LEAST,
            grace_s: 600,
        };
        let secret = Secret([7 ^ 0x55; 32]);
        let tag = TestMac.tag(&secret, &transcript.of_client(received, from));
        let proof = Proof {
            received,
            from,
            tag,
        };
        pair.agent_hears(Generation(1), &Frame::Proof(proof).encode());
        let gone = End::GivenUp(Reason::Gone);
        assert_eq!(pair.agent.stream().end(), Some(gone), "{received} {from}");
    }
}

#[test]
fn an_opening_is_one_frame_with_sizes_within_bounds() {
    let (_, opening) = Client::open(crate::pair::start(1), &TestMac, ms(0));
    assert!(Opening::decode(&opening).is_ok());
    for end in 0..opening.len() {
        assert!(Opening::decode(&opening[..end]).is_err());
    }
    let mut more = opening.to_vec();
    more.push(0);
    assert!(Opening::decode(&more).is_err());
    assert!(Opening::decode(&Frame::Ping.encode()).is_err());
    for size in [0, FIRST_CREDIT - 1, Sizes::MOST.window + 1, u32::MAX] {
        let mut wrong = opening.to_vec();
        wrong[50..54].copy_from_slice(&size.to_be_bytes());
        assert!(Opening::decode(&wrong).is_err(), "{size}");
    }
    let newer = [&[1, 9][..], &opening[2..]].concat();
    let Ok(Opening::Open(open)) = Opening::decode(&newer) else {
        panic!("a newer client");
    };
    let mut agent = Agent::accept(&open, Sizes::AGENT, ms(1000), &TestMac, ms(0));
    let mut out = [0; 64];
    let count = agent.poll_transmit(FIRST, &mut out, ms(0));
    let [Frame::Opened(opened)] = frames(&out[..count])[..] else {
        panic!("not opened");
    };
    assert_eq!((opened.version, opened.grace_s), (1, 1));
}
