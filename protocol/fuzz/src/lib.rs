//! What must hold for any bytes a stranger can send. The fuzzer looks for bytes for which it does
//! not; `tests/corpus.rs` replays those that were found, and one good message of each kind.

mod resume;

use std::time::Duration;

use protocol::keepalive::Profile;
use protocol::link::{Action, Config, Link, Memory, Which};
use protocol::message::control::{ToAgent, ToCluster};
use protocol::message::dial::{ClientRequest, DialReply, LinkRequest};
use protocol::message::frame::{HEADER, body_length};
use protocol::message::join::{JoinReply, JoinRequest};
use protocol::message::{MAX_FRAME, Message, decode, encode};
use protocol::opening::{Opening, opening};
use protocol::transport::{Kind, Policy};

/// A check, by the name of its folder in `corpus/`.
pub type Check = (&'static str, fn(&[u8]));

/// All of them.
pub const CHECKS: &[Check] = &[
    ("to_cluster", |bytes| decoded::<ToCluster<'_>>(bytes)),
    ("to_agent", |bytes| decoded::<ToAgent<'_>>(bytes)),
    ("join_request", |bytes| decoded::<JoinRequest<'_>>(bytes)),
    ("join_reply", |bytes| decoded::<JoinReply<'_>>(bytes)),
    ("client_request", |bytes| {
        decoded::<ClientRequest<'_>>(bytes)
    }),
    ("link_request", |bytes| decoded::<LinkRequest<'_>>(bytes)),
    ("dial_reply", |bytes| decoded::<DialReply<'_>>(bytes)),
    ("frames", frames),
    ("opening", sniffed),
    ("link", supervised),
    ("resume_frames", resume::frames),
    ("resume_agent", resume::agent),
    ("resume_client", resume::client),
    ("resume_snapshot", resume::snapshot),
];

/// Runs the check of that name.
///
/// # Panics
/// If there is none, or if it finds something.
pub fn run(name: &str, bytes: &[u8]) {
    let check = CHECKS.iter().find(|(known, _)| *known == name);
    check.expect("a check of that name").1(bytes);
}

/// What can be decoded can be encoded again, and is the same then.
fn decoded<'a, T>(bytes: &'a [u8])
where
    T: Message + serde::Serialize + serde::Deserialize<'a> + PartialEq + std::fmt::Debug,
{
    let Ok(message) = decode::<T>(bytes) else {
        return;
    };
    let mut first = [0; HEADER + MAX_FRAME];
    let frame = encode(&message, &mut first).expect("what came in a frame fits into one");
    // Not the same bytes: numbers may have been written longer than they need to be.
    assert!(frame.len() <= HEADER + bytes.len());
}

/// A stream is cut into frames without reading beyond what was announced.
fn frames(mut bytes: &[u8]) {
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
        let Ok(length) = body_length(*header) else {
            return;
        };
        assert!((1..=MAX_FRAME).contains(&length));
        let Some((body, next)) = rest.split_at_checked(length) else {
            return;
        };
        decoded::<ToCluster<'_>>(body);
        decoded::<ToAgent<'_>>(body);
        bytes = next;
    }
}

/// More bytes never change a verdict.
fn sniffed(bytes: &[u8]) {
    let mut verdict = Opening::Unclear;
    for end in 0..=bytes.len() {
        let now = opening(&bytes[..end]);
        assert!(verdict == Opening::Unclear || now == verdict);
        verdict = now;
    }
}

/// Whatever happens, in whatever order: the supervisor asks for nothing senseless.
fn supervised(mut bytes: &[u8]) {
    let config = Config {
        seed: 1,
        policy: Policy::Auto,
        profile: Profile::Metered,
    };
    let mut now = Duration::ZERO;
    let mut link = Link::new(config, now);
    let (mut held, mut next) = (false, false);
    while let Some((&event, rest)) = bytes.split_first() {
        bytes = happen(&mut link, event, rest, &mut now);
        // What has ended by itself is not closed, and another may follow at once.
        match (event & 0x07, which(event)) {
            (CLOSED, Which::Held) => held = false,
            (CLOSED, Which::Next) => next = false,
            _ => {}
        }
        while let Some(action) = link.poll_action() {
            match action {
                Action::Connect(_) => assert!(!std::mem::replace(&mut next, true)),
                Action::Promote => {
                    assert!(std::mem::replace(&mut next, false));
                    held = true;
                }
                Action::SendHello => assert!(next),
                Action::SendHeartbeat { .. } | Action::SendMoving => assert!(held),
                Action::SendKeepalive { interval_s } => assert!(held && interval_s > 0),
                Action::Rebind => assert!(held),
                Action::Close(Which::Held, _) => held = false,
                Action::Close(Which::Next, _) => next = false,
            }
        }
        while link.poll_event().is_some() {}
        (held, next) = (link.is_up(), next && link.is_trying());
    }
}

/// A connection has ended.
const CLOSED: u8 = 4;

const fn which(event: u8) -> Which {
    if event & 0x80 == 0 {
        Which::Held
    } else {
        Which::Next
    }
}

fn happen<'a>(link: &mut Link, event: u8, rest: &'a [u8], now: &mut Duration) -> &'a [u8] {
    let which = which(event);
    match event & 0x07 {
        0 => *now += Duration::from_millis(u64::from(event >> 3) * 500),
        1 => *now = (*now).max(link.poll_timeout().0.min(*now + Duration::from_secs(3600))),
        2 => link.handle_connected(Kind::Quic, *now),
        3 => link.handle_connected(Kind::Ssh, *now),
        CLOSED => link.handle_closed(which, *now),
        5 => link.handle_heard(*now),
        6 => link.handle_network_changed(Profile::Normal, Memory::default(), *now),
        _ => {
            let (message, rest) = rest.split_at(rest.len().min(usize::from(event >> 3 & 0x0f) + 8));
            if let Ok(message) = decode::<ToAgent<'_>>(message) {
                link.handle_message(which, &message, *now);
            }
            return rest;
        }
    }
    link.handle_timeout(*now);
    rest
}
