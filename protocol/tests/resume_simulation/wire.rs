//! What carries an attachment: two pipes that keep the order, until they break at some byte.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;
use protocol::resume::Generation;

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    chunks: VecDeque<(Duration, Vec<u8>)>,
    flying: usize,
    /// Nothing more goes in; once it is empty, the reader learns of the end then.
    pub(crate) ends_at: Option<Duration>,
    /// The reader is gone, or has been told of the end.
    pub(crate) unread: bool,
}

impl Pipe {
    pub(crate) fn is_open(&self) -> bool {
        self.ends_at.is_none()
    }

    pub(crate) fn room(&self, capacity: usize) -> usize {
        if self.is_open() {
            capacity.saturating_sub(self.flying)
        } else {
            0
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8], at: Duration) {
        if !self.is_open() || bytes.is_empty() {
            return;
        }
        let at = self.chunks.back().map_or(at, |(last, _)| at.max(*last));
        self.flying += bytes.len();
        self.chunks.push_back((at, bytes.to_vec()));
    }

    /// When the next bytes, or the end, arrive.
    pub(crate) fn next_at(&self) -> Duration {
        match self.chunks.front() {
            _ if self.unread => Duration::MAX,
            Some((at, _)) => *at,
            None => self.ends_at.unwrap_or(Duration::MAX),
        }
    }

    /// Bytes, or the end.
    pub(crate) fn pop(&mut self) -> Option<Vec<u8>> {
        let (_, bytes) = self.chunks.pop_front()?;
        self.flying -= bytes.len();
        Some(bytes)
    }

    /// Holds everything up.
    pub(crate) fn delay(&mut self, until: Duration) {
        for (at, _) in &mut self.chunks {
            *at = until.max(*at);
        }
    }

    /// Loses everything from some byte on.
    pub(crate) fn cut(&mut self, rng: &mut Rng, notice: Duration) {
        let mut left = rng.usize(0..=self.flying);
        for (_, bytes) in &mut self.chunks {
            bytes.truncate(left);
            left -= bytes.len();
        }
        self.chunks.retain(|(_, bytes)| !bytes.is_empty());
        self.flying = self.chunks.iter().map(|(_, bytes)| bytes.len()).sum();
        self.end(notice);
    }

    /// Ends behind what is in it.
    pub(crate) fn end(&mut self, at: Duration) {
        let last = self.chunks.back().map_or(at, |(last, _)| at.max(*last));
        self.ends_at.get_or_insert(last);
    }
}

/// An attachment under way.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) generation: Generation,
    /// The opening, until it has arrived at the agent.
    pub(crate) opening: Option<(Duration, Vec<u8>)>,
    /// From the client.
    pub(crate) up: Pipe,
    /// From the agent.
    pub(crate) down: Pipe,
    pub(crate) capacity: usize,
}

impl Wire {
    pub(crate) fn new(
        generation: Generation,
        opening: &[u8],
        at: Duration,
        capacity: usize,
    ) -> Self {
        Self {
            generation,
            opening: Some((at, opening.to_vec())),
            up: Pipe::default(),
            down: Pipe::default(),
            capacity,
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        let over =
            |pipe: &Pipe| pipe.next_at() == Duration::MAX && (pipe.unread || !pipe.is_open());
        over(&self.up) && over(&self.down)
    }
}
