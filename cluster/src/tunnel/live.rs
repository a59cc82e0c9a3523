//! One live link, as the rest of the cluster sees it.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use protocol::error::CloseCode;
use protocol::identity::NodeId;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};

use super::Transport;
use crate::resource::labels::Labels;

/// A link that says that another one is on its way is replaced within this time: that one has to
/// prove itself, and to be welcomed. Later ones have nothing to do with it.
const MOVE: Duration = Duration::from_secs(20);
/// What an agent says on a link that was dark for long waits behind what that link has swallowed.
/// Its new link may be here first by this much.
const LATE_WORD: Duration = Duration::from_secs(30);

/// What an agent says of its machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The agent's own labels.
    pub labels: Labels,
    /// Release of the agent.
    pub agent_version: String,
    /// As `uname -s`.
    pub os: String,
    /// As `uname -m`.
    pub arch: String,
    /// As `uname -r`.
    pub kernel: String,
    /// The only login it can offer, if it does not run as root.
    pub only_login: Option<String>,
    /// The protocol version that both ends speak.
    pub version: u16,
}

/// Which device is at the other end, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Its node.
    pub node: NodeId,
    /// Changes with every boot; zero if the device cannot tell.
    pub boot_id: [u8; 16],
    /// Generation of the certificate it linked with.
    pub generation: Option<u32>,
}

/// One live link.
pub struct Live {
    /// Whose.
    pub node: NodeId,
    /// Which device.
    pub device: Device,
    /// Tells this link from the node's next one.
    pub serial: u64,
    /// The connection.
    pub transport: Arc<dyn Transport>,
    /// Frames to send on the control stream.
    pub control: mpsc::Sender<Bytes>,
    about: Mutex<Arc<About>>,
    last_seen: Mutex<SystemTime>,
    moving: Mutex<Option<Instant>>,
    /// Until when the agent must have said that it has moved; none if it has, or need not.
    word_by: Mutex<Option<Instant>>,
    closed: Mutex<Option<&'static str>>,
    streams: AtomicU32,
    retired: AtomicBool,
    leaving: AtomicBool,
    silent: AtomicBool,
    /// Something of the above has changed that the link's own task waits for.
    changed: Notify,
    /// There is a stream.
    used: Notify,
}

impl Live {
    pub(super) fn new(
        device: Device,
        serial: u64,
        transport: Arc<dyn Transport>,
        control: mpsc::Sender<Bytes>,
        about: About,
    ) -> Self {
        Self {
            node: device.node,
            device,
            serial,
            transport,
            control,
            about: Mutex::new(Arc::new(about)),
            last_seen: Mutex::new(SystemTime::now()),
            moving: Mutex::new(None),
            word_by: Mutex::new(None),
            closed: Mutex::new(None),
            streams: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            changed: Notify::new(),
            used: Notify::new(),
        }
    }

    /// What the agent last said of its machine.
    #[must_use]
    pub fn about(&self) -> Arc<About> {
        Arc::clone(&lock(&self.about))
    }

    /// Takes over new labels.
    pub fn relabel(&self, labels: Labels) {
        let mut about = lock(&self.about);
        *about = Arc::new(About {
            labels,
            ..(**about).clone()
        });
    }

    /// Notes a sign of life.
    pub fn seen(&self) {
        *lock(&self.last_seen) = SystemTime::now();
        self.silent.store(false, Ordering::Relaxed);
    }

    /// The agent has been silent for longer than it said it would be.
    pub fn fell_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Whether the agent was heard as lately as it should have been.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        !self.silent.load(Ordering::Relaxed)
    }

    /// The last sign of life.
    #[must_use]
    pub fn last_seen(&self) -> SystemTime {
        *lock(&self.last_seen)
    }

    /// Ends the connection from here; `why` is for listings.
    pub fn close(&self, code: CloseCode, why: &'static str) {
        lock(&self.closed).get_or_insert(why);
        self.transport.close(code);
    }

    /// Why the connection was ended from here, if it was.
    pub(super) fn closed(&self) -> Option<&'static str> {
        *lock(&self.closed)
    }

    /// The agent is about to open another link, or has.
    pub fn moves(&self) {
        *lock(&self.moving) = Some(Instant::now());
        *lock(&self.word_by) = None;
    }

    /// Whether another link was announced, and may still come.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        lock(&self.moving).is_some_and(|since| since.elapsed() < MOVE)
    }

    /// Counts a stream for as long as the returned value lives.
    #[must_use]
    pub fn stream(self: &Arc<Self>) -> OpenStream {
        self.streams.fetch_add(1, Ordering::AcqRel);
        self.used.notify_one();
        OpenStream(Arc::clone(self))
    }

    /// Streams that are open.
    #[must_use]
    pub fn streams(&self) -> u32 {
        self.streams.load(Ordering::Acquire)
    }

    /// Looks after the link as long as it carries streams. To be dropped.
    pub(super) async fn attend(&self) -> Infallible {
        loop {
            if self.streams() == 0 {
                self.used.notified().await;
            } else {
                self.transport.attend().await;
            }
        }
    }

    /// Another link has taken over; this one only carries its streams to their end. If the agent has
    /// not said that it moves, it must soon: else it has given the streams up.
    pub(super) fn retire(&self) {
        if !self.is_moving() {
            *lock(&self.word_by) = Some(Instant::now() + LATE_WORD);
        }
        self.retired.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Whether another link has taken over.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Asks the link's task to let the agent go, once all that was queued is delivered.
    pub fn leave(&self) {
        if !self.leaving.swap(true, Ordering::AcqRel) {
            self.changed.notify_one();
        }
    }

    /// Returns when the link has nothing left to do: it was asked to leave, or another one has taken
    /// over and its last stream has ended, or the agent has given it up.
    pub async fn done(&self) -> Done {
        loop {
            if self.leaving.load(Ordering::Acquire) {
                return Done::Leave;
            }
            if self.is_retired() && self.streams() == 0 {
                return Done::Replaced;
            }
            let word_by = *lock(&self.word_by);
            match word_by.filter(|_| self.is_retired()) {
                None => self.changed.notified().await,
                Some(late) if late <= Instant::now() => return Done::Abandoned,
                Some(late) => _ = timeout_at(late, self.changed.notified()).await,
            }
        }
    }
}

/// Why a link has nothing left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// The cluster stops.
    Leave,
    /// Another link of the node has taken over.
    Replaced,
    /// The same, and the agent knows nothing of this one any more.
    Abandoned,
}

/// A stream that is open on a link.
pub struct OpenStream(Arc<Live>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_one();
    }
}

/// No code panics while it holds one of these locks, so a poisoned one holds good data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
