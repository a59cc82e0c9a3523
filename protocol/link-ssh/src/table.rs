//! All channels of a connection. russh's callbacks put in what came; nothing here ever waits.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use russh::{ChannelId, ChannelWriteHalf};

use crate::channel::{ALLOWANCE, Channel, Ended, Message, Reader, Shared, Writer, halves};
use crate::window::{FIRST, MOST, Overrun};
use crate::{Gate, PACKET};

/// What one end can bear.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Channels at once, that for control messages included.
    pub channels: usize,
    /// The largest allowance of a channel, at most [`MOST`].
    pub window: u32,
    /// What the allowances of all channels come to, more or less: each has [`FIRST`] in any case.
    pub pool: u32,
    /// How long a channel that nobody uses here any more waits for the peer to close it, so that
    /// what was sent last arrives. Without it, the channel is closed at once.
    pub linger: Duration,
}

impl Bounds {
    /// The window that SSH must be given, so that it is never the limit.
    #[must_use]
    pub const fn ssh_window(&self) -> u32 {
        2 * self.window + PACKET
    }

    fn target(&self, channels: usize) -> u32 {
        let channels = u32::try_from(channels).unwrap_or(u32::MAX).max(1);
        let most = self.window.clamp(FIRST, MOST);
        (self.pool / channels).clamp(FIRST, most)
    }
}

/// The peer broke the rules of its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaved {
    /// It sent more than it may, or allowed more than anybody can mean.
    Overrun,
    /// It sent extended data that mean nothing.
    Unknown,
}

impl fmt::Display for Misbehaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overrun => "a channel's allowance was overrun",
            Self::Unknown => "a channel carries what it must not",
        })
    }
}

impl std::error::Error for Misbehaved {}

impl From<Overrun> for Misbehaved {
    fn from(Overrun: Overrun) -> Self {
        Self::Overrun
    }
}

#[derive(Default)]
struct State {
    channels: HashMap<ChannelId, Arc<Channel>>,
    /// Grows with everything that comes.
    heard: u64,
    over: bool,
}

/// See the [module](self).
pub struct Table {
    bounds: Bounds,
    state: Mutex<State>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            state: Mutex::default(),
        })
    }

    /// Takes a channel in, if there is room. Its own queue must not be read: russh would wait for
    /// the reader.
    pub fn add<M: Message>(
        self: &Arc<Self>,
        write: ChannelWriteHalf<M>,
        gate: Option<Gate>,
    ) -> Option<(Reader<M>, Writer<M>, Ended)> {
        let channel = Arc::new(Channel::default());
        let mut state = self.lock();
        if state.over || state.channels.len() >= self.bounds.channels {
            return None;
        }
        state.channels.insert(write.id(), Arc::clone(&channel));
        drop(state);
        let shared = Shared {
            channel,
            write: Arc::new(write),
            table: Arc::clone(self),
        };
        Some(halves(shared, gate))
    }

    /// Data came.
    ///
    /// # Errors
    /// If it is more than the peer may send.
    pub fn data(&self, id: ChannelId, data: &[u8]) -> Result<(), Misbehaved> {
        match self.heard(id) {
            Some(channel) => Ok(channel.data(data)?),
            None => Ok(()),
        }
    }

    /// Extended data came.
    ///
    /// # Errors
    /// If it is no allowance, or one that is too large.
    pub fn extended(&self, id: ChannelId, kind: u32, data: &[u8]) -> Result<(), Misbehaved> {
        let more = data.try_into().map(u32::from_be_bytes);
        match (self.heard(id), kind, more) {
            (None, ..) => Ok(()),
            (Some(channel), ALLOWANCE, Ok(more)) => Ok(channel.allow(more)?),
            _ => Err(Misbehaved::Unknown),
        }
    }

    /// The peer will send no more.
    pub fn eof(&self, id: ChannelId) {
        if let Some(channel) = self.heard(id) {
            channel.eof();
        }
    }

    /// The peer has closed a channel.
    pub fn close(&self, id: ChannelId) {
        if let Some(channel) = self.heard(id) {
            channel.close();
            self.forget(id);
        }
    }

    /// The connection is over.
    pub fn end(&self) {
        let channels = {
            let mut state = self.lock();
            state.over = true;
            std::mem::take(&mut state.channels)
        };
        channels.values().for_each(|channel| channel.break_off());
    }

    /// Grows whenever the peer itself was heard.
    #[must_use]
    pub fn heard_so_far(&self) -> u64 {
        self.lock().heard
    }

    /// How many channels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().channels.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.lock().over
    }

    pub(crate) const fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// What a channel may be allowed now.
    pub(crate) fn target(&self) -> u32 {
        let channels = self.lock().channels.len();
        self.bounds.target(channels)
    }

    /// Id of the only channel.
    #[cfg(test)]
    pub(crate) fn only(&self) -> ChannelId {
        *self.lock().channels.keys().next().unwrap()
    }

    pub(crate) fn forget(&self, id: ChannelId) {
        let mut state = self.lock();
        state.channels.remove(&id);
        if state.channels.capacity() > 16 && state.channels.len() < 4 {
            state.channels.shrink_to_fit();
        }
    }

    fn heard(&self, id: ChannelId) -> Option<Arc<Channel>> {
        let mut state = self.lock();
        state.heard = state.heard.wrapping_add(1);
        state.channels.get(&id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
