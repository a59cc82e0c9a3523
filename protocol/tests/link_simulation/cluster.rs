//! The cluster's end: which of a node's connections it would dial.

use std::time::Duration;

/// Who says that it moves is replaced within this time.
const MOVE: Duration = Duration::from_secs(20);

/// What an agent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Hello,
    Moving,
    Heartbeat,
    /// The end of the connection.
    Close,
}

#[derive(Default)]
pub(crate) struct Cluster {
    current: Option<u32>,
    moving: Option<Duration>,
    /// Older connections are unknown.
    known_from: u32,
}

impl Cluster {
    /// The process dies, and all connections up to this one with it.
    pub(crate) fn restart(&mut self, last: u32) {
        *self = Self {
            known_from: last + 1,
            ..Self::default()
        };
    }

    pub(crate) const fn knows(&self, id: u32) -> bool {
        id >= self.known_from
    }

    /// Where a dial would go.
    pub(crate) const fn dials(&self) -> Option<u32> {
        self.current
    }

    /// Welcomes a connection; gives the one that is closed for it. One that has moved is retired
    /// instead: it keeps its streams, and is never dialled again.
    pub(crate) fn welcome(&mut self, id: u32, now: Duration) -> Option<u32> {
        let old = self.current.replace(id);
        let moved = self.moving.take().is_some_and(|at| now - at < MOVE);
        old.filter(|_| !moved)
    }

    pub(crate) fn moves(&mut self, id: u32, now: Duration) {
        if self.current == Some(id) {
            self.moving = Some(now);
        }
    }

    pub(crate) fn close(&mut self, id: u32) {
        self.current.take_if(|current| *current == id);
    }
}
