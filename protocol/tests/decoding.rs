//! No bytes a stranger can send make a decoder panic, and what is decoded encodes back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;
use protocol::error::DecodeError;
use protocol::message::control::{ToAgent, ToCluster};
use protocol::message::dial::{ClientRequest, DialReply, LinkRequest};
use protocol::message::frame::{HEADER, body_length};
use protocol::message::join::{JoinReply, JoinRequest};
use protocol::message::{MAX_FRAME, Message, decode, encode};

/// Decodes `bytes`; if that works, the message must survive a round trip.
fn survives<T>(bytes: &'static [u8])
where
    T: Message + serde::Serialize + serde::Deserialize<'static> + PartialEq + std::fmt::Debug,
{
    if let Ok(message) = decode::<T>(bytes) {
        let mut buffer = vec![0; HEADER + MAX_FRAME];
        // Texts never grow by decoding, so a message that came in a frame fits into one.
        let frame = encode(&message, &mut buffer).expect("fits").to_vec();
        let frame: &'static [u8] = frame.leak();
        assert_eq!(decode::<T>(&frame[HEADER..]), Ok(message));
    }
}

fn every_decoder_survives(bytes: &[u8]) {
    // Leaked, since messages borrow from their frame: a few megabytes over the whole test.
    let bytes: &'static [u8] = bytes.to_vec().leak();
    survives::<ToCluster<'_>>(bytes);
    survives::<ToAgent<'_>>(bytes);
    survives::<JoinRequest<'_>>(bytes);
    survives::<JoinReply<'_>>(bytes);
    survives::<ClientRequest<'_>>(bytes);
    survives::<LinkRequest<'_>>(bytes);
    survives::<DialReply<'_>>(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        every_decoder_survives(&bytes);
    }

    /// Random bytes rarely get past the first fields; valid variants with random tails do.
    #[test]
    fn no_input_that_starts_well_panics(
        variant in 0u8..9,
        bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(5), any::<u8>()], 0..300),
    ) {
        let mut input = vec![variant];
        input.extend(bytes);
        every_decoder_survives(&input);
    }

    #[test]
    fn a_length_outside_its_bounds_is_refused_before_anything_is_read(header in any::<[u8; 2]>()) {
        let length = usize::from(u16::from_be_bytes(header));
        prop_assert_eq!(body_length(header).is_ok(), (1..=MAX_FRAME).contains(&length));
    }
}

#[test]
fn a_variant_of_a_newer_version_can_be_skipped() {
    assert_eq!(
        decode::<ToAgent<'_>>(&[99, 1, 2, 3]),
        Err(DecodeError::UnknownVariant)
    );
}

#[test]
fn bytes_behind_a_message_are_refused() {
    let mut buffer = [0; 16];
    let frame = encode(&ToAgent::HeartbeatAck { seq: 3 }, &mut buffer).unwrap();
    let mut body = frame[HEADER..].to_vec();
    assert_eq!(decode(&body), Ok(ToAgent::HeartbeatAck { seq: 3 }));
    body.push(0);
    assert_eq!(decode::<ToAgent<'_>>(&body), Err(DecodeError::Trailing));
}

#[test]
fn a_message_cut_short_at_any_byte_is_refused() {
    let mut buffer = [0; 64];
    let message = ToAgent::Drain {
        after_ms: 100_000,
        spread_ms: 300_000,
    };
    let body = &encode(&message, &mut buffer).unwrap()[HEADER..];
    for end in 0..body.len() {
        assert_eq!(
            decode::<ToAgent<'_>>(&body[..end]),
            Err(DecodeError::Malformed),
            "{end}"
        );
    }
}

#[test]
fn more_labels_than_allowed_are_refused() {
    let mut body = vec![2, 33];
    for _ in 0..33 {
        body.extend([1, b'k', 1, b'v']);
    }
    assert_eq!(decode::<ToCluster<'_>>(&body), Err(DecodeError::Malformed));
    body[1] = 32;
    body.truncate(2 + 32 * 4);
    assert!(decode::<ToCluster<'_>>(&body).is_ok());
}
