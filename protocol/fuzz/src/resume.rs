//! Resumable streams: frames, and both ends with a peer that says anything, and may even know the
//! secret.

use std::time::Duration;

use protocol::resume::frame::{Attach, Frame, Open, Opening, Proof, length};
use protocol::resume::{
    Agent, Client, End, Event, Generation, Mac, Reason, Secret, Sizes, Start, Stream, StreamId,
    TAG, Transcript,
};

/// Fields that are given in the clear are enough to make a proof: the fuzzer must get past it.
struct Sum;

impl Mac for Sum {
    fn tag(&self, _: &Secret, message: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        for (i, byte) in message.iter().enumerate() {
            tag[i % TAG] ^= byte.rotate_left(u32::try_from(i / TAG).unwrap_or(0));
        }
        tag
    }

    fn verify(&self, secret: &Secret, message: &[u8], tag: &[u8; TAG]) -> bool {
        self.tag(secret, message) == *tag
    }
}

const ID: StreamId = StreamId([7; 16]);
const SECRET: Secret = Secret([9; 32]);

/// Whatever can be read is written the same.
pub(crate) fn frames(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some((frame, next)) = rest
        .first()
        .and_then(|kind| length(*kind))
        .and_then(|length| rest.split_at_checked(length))
    {
        rest = next;
        let Ok(decoded) = Frame::decode(frame) else {
            continue;
        };
        // A reason of a newer version is not kept.
        if decoded != Frame::Reset(Reason::Unknown) {
            assert_eq!(decoded.encode(), frame);
        }
        let opens = matches!(decoded, Frame::Open(_) | Frame::Attach(_));
        assert_eq!(Opening::decode(frame).is_ok(), opens);
    }
}

/// A snapshot is of this process, or of a file that somebody else has written.
pub(crate) fn snapshot(bytes: &[u8]) {
    if let Ok(agent) = Agent::restore(bytes, &Sum, Duration::ZERO) {
        bounded(agent.stream());
        let again = agent.snapshot().expect("it goes on");
        assert!(Agent::restore(&again, &Sum, Duration::ZERO).is_ok());
    }
}

/// An agent whose client says anything.
pub(crate) fn agent(mut bytes: &[u8]) {
    let open = Open {
        version: 1,
        id: ID,
        secret: SECRET,
        sizes: Sizes::LEAST,
    };
    let (grace, mut now) = (Duration::from_secs(60), Duration::ZERO);
    let mut agent = Agent::accept(&open, Sizes::LEAST, grace, &Sum, now);
    let (mut on, mut challenge) = (Generation(0), None);
    let mut out = [0; 2000];
    while let Some((&event, rest)) = bytes.split_first() {
        let (data, rest) = rest.split_at(rest.len().min(usize::from(event >> 4) * 3));
        bytes = rest;
        match event & 0x0f {
            0 => now += Duration::from_millis(u64::from(event >> 4) * 700),
            1 => agent.handle_closed(on, now),
            2 => app(agent.stream_mut(), data, now),
            3 => agent.stream_mut().finish(now),
            4 => on = Generation(u32::from(event >> 4)),
            5 => challenge = attach(&mut agent, Generation(u32::from(event >> 4)), now),
            6 => {
                let proof = challenge.take().map(|asked| prove(&asked, data));
                let proof = proof.map(|(g, frame)| agent.handle_received(g, &frame, &mut [], now));
                assert!(proof.unwrap_or(0) == 0);
            }
            7 => drop(agent.poll_transmit(on, &mut out[..data.len() * 40], now)),
            8 if event == 0xf8 => agent.stream_mut().reset(Reason::Locked, now),
            9 => {
                let (straight, rest) = data.split_at(agent.expects(on).min(data.len()));
                agent.handle_passed(on, straight.len(), now);
                agent.handle_received(on, rest, &mut [], now);
            }
            _ => drop(agent.handle_received(on, data, &mut out[..usize::from(event >> 5)], now)),
        }
        agent.handle_timeout(now);
        while agent.poll_event().is_some() {}
        bounded(agent.stream());
        assert!(agent.stream().end().is_some() || agent.poll_timeout().0 > now);
    }
}

/// A client whose agent says anything.
pub(crate) fn client(mut bytes: &[u8]) {
    let start = Start {
        id: ID,
        secret: SECRET,
        sizes: Sizes::LEAST,
        seed: 1,
    };
    let mut now = Duration::ZERO;
    let (mut client, _) = Client::open(start, &Sum, now);
    let mut on = Generation(0);
    let mut out = [0; 2000];
    while let Some((&event, rest)) = bytes.split_first() {
        let (data, rest) = rest.split_at(rest.len().min(usize::from(event >> 4) * 5));
        bytes = rest;
        match event & 0x0f {
            0 => now += Duration::from_millis(u64::from(event >> 4) * 700),
            1 => client.handle_closed(on, now),
            2 => app(client.stream_mut(), data, now),
            3 => client.stream_mut().finish(now),
            4 => client.handle_network_changed(now),
            5 => drop(client.poll_transmit(on, &mut out[..data.len() * 20], now)),
            6 if event == 0xf6 => client.handle_refused(on, Reason::Busy, now),
            7 => {
                let (straight, rest) = data.split_at(client.expects(on).min(data.len()));
                client.handle_passed(on, straight.len(), now);
                client.handle_received(on, rest, &mut [], now);
            }
            _ => drop(client.handle_received(on, data, &mut out[..usize::from(event >> 5)], now)),
        }
        client.handle_timeout(now);
        while let Some(event) = client.poll_event() {
            if let Event::Dial(generation) = event {
                on = generation;
                assert!(client.opening(on, [0; 16]).is_some());
            }
        }
        bounded(client.stream());
        assert!(client.stream().end().is_some() || client.poll_timeout().0 > now);
    }
}

fn app(stream: &mut Stream, data: &[u8], now: Duration) {
    let room = stream.room();
    assert_eq!(stream.write(data, now), data.len().min(room));
    stream.consume(data.len(), now);
}

fn attach(agent: &mut Agent, on: Generation, now: Duration) -> Option<Transcript> {
    let transcript = Transcript {
        id: ID,
        generation: on,
        client_nonce: [1; 16],
        agent_nonce: [2; 16],
        received: 0,
        sizes: Sizes::LEAST,
        grace_s: 60,
    };
    let attach = Attach {
        id: ID,
        generation: on.0,
        nonce: [1; 16],
    };
    agent.attach(&attach, [2; 16], now).ok()?;
    let mut out = [0; 100];
    let count = agent.poll_transmit(on, &mut out, now);
    let Ok(Frame::Challenge(challenge)) = Frame::decode(&out[..count]) else {
        panic!("a candidate is challenged");
    };
    let received = challenge.received;
    Some(Transcript {
        received,
        ..transcript
    })
}

/// A right proof of positions that may be wrong.
fn prove(asked: &Transcript, data: &[u8]) -> (Generation, Vec<u8>) {
    let byte = |i: usize| u64::from(data.get(i).copied().unwrap_or(0));
    let (received, from) = (byte(0), byte(1).min(asked.received + byte(2)));
    let tag = Sum.tag(&SECRET, &asked.of_client(received, from));
    let proof = Proof {
        received,
        from,
        tag,
    };
    (asked.generation, Frame::Proof(proof).encode().to_vec())
}

fn bounded(stream: &Stream) {
    assert!(stream.memory() <= 2 * Sizes::MOST.total() as usize);
    let ended = stream.end().is_some_and(|end| end != End::Clean);
    if ended && stream.attached().is_none() {
        assert_eq!(stream.memory(), 0);
    }
}
