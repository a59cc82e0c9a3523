//! The frames of resumable streams, held still: a device may have been opened by a client that was
//! updated since.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use protocol::resume::frame::{Attach, Challenge, Frame, Open, Opened, Proof, length};
use protocol::resume::{Agent, Generation, Mac, Reason, Secret, Sizes, StreamId, TAG, Transcript};

const VECTORS: &str = include_str!("golden.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn committed(name: &str, found: &str) -> &'static str {
    VECTORS
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("no vector: {name} {found}"))
}

fn golden(name: &str, frame: &Frame) {
    let bytes = frame.encode();
    let hex = hex(&bytes);
    assert_eq!(hex, committed(name, &hex), "{name}");
    assert_eq!(Frame::decode(&bytes).as_ref(), Ok(frame), "{name}");
    assert_eq!(length(bytes[0]), Some(bytes.len()), "{name}");
    for end in 0..bytes.len() {
        assert!(Frame::decode(&bytes[..end]).is_err(), "{name} cut at {end}");
    }
}

const SIZES: Sizes = Sizes {
    replay: 0x0004_0000,
    window: 0x0020_0000,
};

#[test]
fn frames_that_attach_keep_their_bytes() {
    let id = StreamId([0x11; 16]);
    golden(
        "resume-open",
        &Frame::Open(Open {
            version: 1,
            id,
            secret: Secret([0x22; 32]),
            sizes: SIZES,
        }),
    );
    golden(
        "resume-attach",
        &Frame::Attach(Attach {
            id,
            generation: 3,
            nonce: [0x33; 16],
        }),
    );
    golden(
        "resume-opened",
        &Frame::Opened(Opened {
            version: 1,
            sizes: SIZES,
            grace_s: 600,
        }),
    );
    golden(
        "resume-challenge",
        &Frame::Challenge(Challenge {
            nonce: [0x44; 16],
            received: 0x0102_0304_0506,
            sizes: SIZES,
            grace_s: 600,
            tag: [0x55; TAG],
        }),
    );
    golden(
        "resume-proof",
        &Frame::Proof(Proof {
            received: 0x0102_0304_0506,
            from: 0x0708_090a_0b0c,
            tag: [0x66; TAG],
        }),
    );
    golden("resume-resumed", &Frame::Resumed { from: 513 });
}

#[test]
fn frames_that_carry_keep_their_bytes() {
    golden("resume-data", &Frame::Data { length: 0x1234 });
    let (received, room) = (0xdead_beef, 0x0004_0000);
    golden("resume-ack", &Frame::Ack { received, room });
    golden("resume-fin", &Frame::Fin);
    golden("resume-ping", &Frame::Ping);
    golden("resume-reset", &Frame::Reset(Reason::Locked));
}

#[test]
fn reasons_keep_their_numbers() {
    let reasons = [
        Reason::Unknown,
        Reason::Finished,
        Reason::Gone,
        Reason::Stale,
        Reason::Proof,
        Reason::Locked,
        Reason::Expired,
        Reason::Idle,
        Reason::GraceOver,
        Reason::Memory,
        Reason::Busy,
        Reason::Stopping,
        Reason::Misbehaved,
        Reason::Denied,
    ];
    for (code, reason) in (0..).zip(reasons) {
        assert_eq!((reason.code(), Reason::from_code(code)), (code, reason));
    }
    for code in 14..=u8::MAX {
        assert_eq!(Reason::from_code(code), Reason::Unknown);
    }
}

#[test]
fn what_is_tagged_keeps_its_bytes() {
    let transcript = Transcript {
        id: StreamId([0x11; 16]),
        generation: Generation(3),
        client_nonce: [0x33; 16],
        agent_nonce: [0x44; 16],
        received: 0x0102_0304_0506,
        sizes: SIZES,
        grace_s: 600,
    };
    let agent = hex(&transcript.of_agent());
    assert_eq!(agent, committed("resume-tagged-by-agent", &agent));
    let client = hex(&transcript.of_client(7, 8));
    assert_eq!(client, committed("resume-tagged-by-client", &client));
}

struct NoMac;

impl Mac for NoMac {
    fn tag(&self, _: &Secret, _: &[u8]) -> [u8; TAG] {
        [0; TAG]
    }

    fn verify(&self, _: &Secret, _: &[u8], _: &[u8; TAG]) -> bool {
        false
    }
}

#[test]
fn a_snapshot_keeps_its_bytes() {
    let open = Open {
        version: 1,
        id: StreamId([0x11; 16]),
        secret: Secret([0x22; 32]),
        sizes: SIZES,
    };
    let now = Duration::ZERO;
    let grace = Duration::from_secs(600);
    let mut agent = Agent::accept(&open, Sizes::AGENT, grace, &NoMac, now);
    agent.stream_mut().write(b"screen", now);
    let came = [
        &Frame::Data { length: 4 }.encode()[..],
        b"keys",
        &Frame::Fin.encode(),
    ];
    agent.handle_received(Generation(0), &came.concat(), &mut [], now);
    let mut out = [0; 14 + 9 + 3 + 4];
    agent.poll_transmit(Generation(0), &mut out, now);
    let bytes = agent.snapshot().unwrap();
    let found = hex(&bytes);
    assert_eq!(found, committed("resume-snapshot", &found));
    let restored = Agent::restore(&bytes, &NoMac, now).unwrap();
    assert_eq!(restored.stream().readable(), b"keys");
    assert_eq!(restored.snapshot(), Some(bytes));
}
