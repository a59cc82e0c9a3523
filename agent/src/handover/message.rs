//! What agent and keeper say to each other. Each message is one packet; the enums only grow, since
//! the two may be of different releases.

use protocol::message::Blob;
use protocol::message::frame::{MAX_FRAME, body};
use protocol::message::{Message, Text, decode};
use protocol::resume::{MAX_STREAMS, Reason, StreamId};
use serde::{Deserialize, Serialize};

/// The largest packet: what a keeper keeps at most, with the longest names.
pub(crate) const MAX_PACKET: usize = 2 * MAX_FRAME;
/// Programs that a keeper can name: those of 32 sessions with 16 channels each, and its guard.
const MAX_PROGRAMS: usize = 32 * 16 + 1;

/// From the agent.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToKeeper<'a> {
    /// Asks for [`FromKeeper::State`].
    Hello,
    /// A client comes back; with the packet comes the stream. The cluster's request, as it came.
    Attach(#[serde(borrow)] Blob<'a, MAX_FRAME>),
    /// A stream is to end.
    End { id: [u8; 16], reason: u8 },
    /// A program has ended, as wait(2) tells it.
    Ended { program: i32, status: i32 },
    /// All is to end.
    Stop,
}

impl Message for ToKeeper<'_> {
    const VARIANTS: u32 = 5;
}

/// From a keeper.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromKeeper<'a> {
    /// All there is.
    State(#[serde(borrow)] State<'a>),
    /// A stream is over.
    Over([u8; 16]),
}

impl Message for FromKeeper<'_> {
    const VARIANTS: u32 = 2;
}

/// What a keeper keeps.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State<'a> {
    pub(crate) pid: i32,
    /// Its release.
    #[serde(borrow)]
    pub(crate) version: Text<'a, 32>,
    #[serde(borrow)]
    pub(crate) streams: Vec<KeptStream<'a>>,
    /// Children of the agent's process.
    #[serde(borrow)]
    programs: Blob<'a, { MAX_PROGRAMS * 4 }>,
}

/// A stream that a keeper keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptStream<'a> {
    pub(crate) id: [u8; 16],
    #[serde(borrow)]
    pub(crate) user: Text<'a, 64>,
    /// Memory that is set aside for it.
    pub(crate) bytes: u32,
}

/// What a [`State`] borrows.
pub(crate) struct Listed<'a> {
    streams: Vec<KeptStream<'a>>,
    programs: Vec<u8>,
}

impl<'a> Listed<'a> {
    /// Those beyond the limits are left out.
    pub(crate) fn new(
        streams: impl Iterator<Item = (StreamId, &'a str, u32)>,
        programs: impl Iterator<Item = i32>,
    ) -> Self {
        let streams = streams.map(|(id, user, bytes)| KeptStream {
            id: id.0,
            user: Text::cut(user),
            bytes,
        });
        Self {
            streams: streams.take(MAX_STREAMS).collect(),
            programs: programs
                .take(MAX_PROGRAMS)
                .flat_map(i32::to_le_bytes)
                .collect(),
        }
    }

    pub(crate) fn state(&self) -> State<'_> {
        State {
            pid: std::process::id().cast_signed(),
            version: Text::cut(crate::VERSION),
            streams: self.streams.clone(),
            programs: Blob::new(&self.programs).unwrap_or_default(),
        }
    }
}

impl State<'_> {
    pub(crate) fn programs(&self) -> impl Iterator<Item = i32> {
        let (programs, _) = self.programs.as_chunks::<4>();
        programs.iter().map(|bytes| i32::from_le_bytes(*bytes))
    }
}

impl ToKeeper<'_> {
    pub(crate) fn end(id: StreamId, reason: Reason) -> Self {
        Self::End {
            id: id.0,
            reason: reason.code(),
        }
    }
}

/// Lays a message out as a packet; none if it does not fit.
pub(crate) fn packet(message: &impl Serialize) -> Option<Vec<u8>> {
    let mut buffer = vec![0; MAX_PACKET];
    let length = body(message, &mut buffer).ok()?.len();
    buffer.truncate(length);
    Some(buffer)
}

/// Reads a packet. None if it cannot be read: the other end is of a newer release, or broken.
pub(crate) fn read<'a, T: Message + Deserialize<'a>>(packet: &'a [u8]) -> Option<T> {
    decode(packet).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "a-name-that-is-as-long-as-one-may-be.-that-is-64-letters-of-them";

    fn streams(count: u8) -> impl Iterator<Item = (StreamId, &'static str, u32)> {
        (0..count).map(|n| (StreamId([n; 16]), USER, u32::MAX))
    }

    #[test]
    fn messages_come_back_as_they_went() {
        let request = [9; 2000];
        for message in [
            ToKeeper::Hello,
            ToKeeper::Attach(Blob::new(&request).unwrap()),
            ToKeeper::end(StreamId([3; 16]), Reason::Locked),
            ToKeeper::Ended {
                program: 77,
                status: 0x100,
            },
            ToKeeper::Stop,
        ] {
            let packet = packet(&message).unwrap();
            assert_eq!(read::<ToKeeper<'_>>(&packet), Some(message));
        }
        let packet = packet(&FromKeeper::Over([4; 16])).unwrap();
        assert_eq!(read(&packet), Some(FromKeeper::Over([4; 16])));
    }

    #[test]
    fn a_state_names_streams_and_programs_up_to_their_limits() {
        let listed = Listed::new(streams(2), [5, 6, 7].into_iter());
        let packet = packet(&FromKeeper::State(listed.state())).unwrap();
        let Some(FromKeeper::State(state)) = read(&packet) else {
            panic!("no state");
        };
        let kept = |stream: &KeptStream<'_>| (stream.id, stream.user.len(), stream.bytes);
        let expected = [0, 1].map(|n| ([n; 16], 64, u32::MAX));
        assert!(state.streams.iter().map(kept).eq(expected));
        assert!(state.programs().eq([5, 6, 7]));
        assert_eq!(state.version.as_str(), crate::VERSION);
        let many = Listed::new(streams(200), 1..10_000);
        let packet = super::packet(&FromKeeper::State(many.state())).unwrap();
        assert!(packet.len() <= MAX_PACKET);
        let Some(FromKeeper::State(state)) = read(&packet) else {
            panic!("no state");
        };
        assert_eq!(state.streams.len(), MAX_STREAMS);
        assert_eq!(state.programs().count(), MAX_PROGRAMS);
    }

    #[test]
    fn what_is_unknown_too_long_or_cut_off_is_not_read() {
        let whole = packet(&ToKeeper::Attach(Blob::new(&[1; 100]).unwrap())).unwrap();
        for cut in 0..whole.len() {
            assert_eq!(read::<ToKeeper<'_>>(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(read::<ToKeeper<'_>>(&[5]), None, "of a newer release");
        assert_eq!(read::<ToKeeper<'_>>(&[0, 0]), None, "bytes behind it");
        let names = vec!["x".repeat(64); 300];
        let many: Vec<_> = names
            .iter()
            .map(|name| Text::<64>::new(name).unwrap())
            .collect();
        assert_eq!(packet(&many), None);
    }
}
