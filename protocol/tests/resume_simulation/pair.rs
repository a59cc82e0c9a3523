//! Two ends and nothing between them: for tests that look at each message.

use std::time::Duration;

use protocol::resume::frame::{Attach, Frame, Opening, length};
use protocol::resume::{Agent, Client, Event, Generation, Nonce, Secret, Sizes, Start, StreamId};

use crate::mac::TestMac;
use crate::world::ms;

pub(crate) const GRACE: Duration = ms(600_000);

pub(crate) struct Pair {
    pub(crate) client: Client,
    pub(crate) agent: Agent,
    pub(crate) now: Duration,
    nonces: u8,
}

pub(crate) fn start(id: u8) -> Start {
    Start {
        id: StreamId([id; 16]),
        secret: Secret([id ^ 0x55; 32]),
        sizes: Sizes::LEAST,
        seed: 1,
    }
}

impl Pair {
    /// A stream that was opened; nothing is under way.
    pub(crate) fn new() -> Self {
        Self::named(7)
    }

    pub(crate) fn named(id: u8) -> Self {
        Self::opened(start(id), Sizes::LEAST)
    }

    /// One whose client holds as much as real ones do.
    pub(crate) fn roomy(agent: Sizes) -> Self {
        let sizes = Sizes::CLIENT;
        Self::opened(Start { sizes, ..start(7) }, agent)
    }

    fn opened(start: Start, sizes: Sizes) -> Self {
        let now = Duration::ZERO;
        let (client, opening) = Client::open(start, &TestMac, now);
        let Ok(Opening::Open(open)) = Opening::decode(&opening) else {
            panic!("not OPEN");
        };
        let agent = Agent::accept(&open, sizes, GRACE, &TestMac, now);
        let mut pair = Self {
            client,
            agent,
            now,
            nonces: 0,
        };
        pair.exchange(Generation(0));
        pair
    }

    pub(crate) fn client_says(&mut self, on: Generation) -> Vec<u8> {
        let mut out = vec![0; 400_000];
        let count = self.client.poll_transmit(on, &mut out, self.now);
        out.truncate(count);
        out
    }

    pub(crate) fn agent_says(&mut self, on: Generation) -> Vec<u8> {
        let mut out = vec![0; 400_000];
        let count = self.agent.poll_transmit(on, &mut out, self.now);
        out.truncate(count);
        out
    }

    pub(crate) fn client_hears(&mut self, on: Generation, bytes: &[u8]) {
        let direct = self.client.handle_received(on, bytes, &mut [], self.now);
        assert_eq!(direct, 0);
    }

    pub(crate) fn agent_hears(&mut self, on: Generation, bytes: &[u8]) {
        let direct = self.agent.handle_received(on, bytes, &mut [], self.now);
        assert_eq!(direct, 0);
    }

    /// Moves bytes until there are none; gives how many went each way.
    pub(crate) fn exchange(&mut self, on: Generation) -> [usize; 2] {
        let mut moved = [0, 0];
        loop {
            let (up, down) = (self.client_says(on), self.agent_says(on));
            if up.is_empty() && down.is_empty() {
                return moved;
            }
            moved[0] += up.len();
            moved[1] += down.len();
            self.agent_hears(on, &up);
            self.client_hears(on, &down);
        }
    }

    pub(crate) fn nonce(&mut self) -> Nonce {
        self.nonces += 1;
        [self.nonces; 16]
    }

    /// Waits until the client dials, and gives what it dials with.
    pub(crate) fn dial(&mut self) -> Attach {
        loop {
            while let Some(event) = self.client.poll_event() {
                if let Event::Dial(on) = event {
                    let nonce = self.nonce();
                    let opening = self.client.opening(on, nonce).expect("asked for");
                    match Opening::decode(&opening) {
                        Ok(Opening::Attach(attach)) => return attach,
                        other => panic!("{other:?}"),
                    }
                }
            }
            let (at, _) = self.client.poll_timeout();
            assert!(at < Duration::MAX, "it does not dial");
            self.now = self.now.max(at);
            self.client.handle_timeout(self.now);
        }
    }

    /// The client loses its attachment, and the agent accepts its next dial; not proved yet.
    pub(crate) fn dial_anew(&mut self) -> Generation {
        if let Some(on) = self.client.stream().attached() {
            self.client.handle_closed(on, self.now);
        }
        let attach = self.dial();
        let nonce = self.nonce();
        assert_eq!(self.agent.attach(&attach, nonce, self.now), Ok(()));
        Generation(attach.generation)
    }

    /// The same, with the proof.
    pub(crate) fn attach_anew(&mut self) -> Generation {
        let on = self.dial_anew();
        self.exchange(on);
        assert_eq!(self.agent.stream().attached(), Some(on));
        assert_eq!(self.client.stream().attached(), Some(on));
        on
    }

    pub(crate) fn agent_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.agent.poll_event()).collect()
    }

    pub(crate) fn client_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    pub(crate) fn read_agent(&mut self) -> Vec<u8> {
        let bytes = self.agent.stream().readable().to_vec();
        self.agent.stream_mut().consume(bytes.len(), self.now);
        bytes
    }

    pub(crate) fn read_client(&mut self) -> Vec<u8> {
        let bytes = self.client.stream().readable().to_vec();
        self.client.stream_mut().consume(bytes.len(), self.now);
        bytes
    }
}

/// The frames in some bytes, without data.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(kind) = bytes.first() {
        let (frame, rest) = bytes.split_at(length(*kind).expect("a frame"));
        let frame = Frame::decode(frame).expect("a frame");
        let data = match frame {
            Frame::Data { length } => usize::from(length),
            _ => 0,
        };
        bytes = &rest[data..];
        frames.push(frame);
    }
    frames
}
