//! Processes before this one that still keep sessions: see [`crate::handover`].

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Pid;
use protocol::message::Blob;
use protocol::resume::{Reason, StreamId};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::dial::DELIVERY_TIMEOUT;
use super::input::Input;
use super::transport::Stream;
use crate::handover::message::{FromKeeper, KeptStream, ToKeeper, read};
use crate::handover::wire::Wire;
use crate::handover::{Inherited, KEEPERS};
use crate::status::KeeperStatus;
use crate::sys::{self, Child};
use crate::text::counted;

#[cfg(test)]
mod tests;

/// A keeper answers at once; one that does not is broken.
const HELLO_LIMIT: Duration = Duration::from_secs(5);

/// One of them.
struct Keeper {
    pid: Pid,
    version: String,
    wire: Arc<Wire>,
    /// Those that it knows. Whoever missed that one has ended may still ask.
    streams: Vec<Kept>,
    /// Its programs, as far as they are children of this process, and itself.
    children: Vec<Pid>,
    listening: Option<AbortHandle>,
}

/// A stream that a keeper keeps.
struct Kept {
    id: StreamId,
    user: String,
    /// Memory that is set aside for it.
    bytes: u32,
    life: Life,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Live,
    Over,
}

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Keepers {
    /// The oldest first.
    list: Vec<Keeper>,
    /// Other children of this process that it has not started as this program: of keepers that are
    /// gone, and what else the program before left behind.
    left: Vec<Pid>,
    /// Streams that they have said to be over, and nobody has noted.
    over: Vec<StreamId>,
}

impl Keepers {
    /// Asks those that the program before this one has named what they keep; forgets those that do
    /// not say.
    pub(crate) async fn meet(inherited: Inherited) -> Self {
        let mut keepers = Self {
            list: Vec::new(),
            left: inherited.children,
            over: Vec::new(),
        };
        for socket in inherited.keepers {
            let said_before = keepers.over.len();
            match timeout(HELLO_LIMIT, Keeper::meet(socket, &mut keepers.over)).await {
                Ok(Some(keeper)) => {
                    // Each belongs to one list: a number that is free may be another's.
                    keepers
                        .left
                        .retain(|child| !keeper.children.contains(child));
                    keepers.list.push(keeper);
                }
                // It has ended with its last session meanwhile.
                Ok(None) if keepers.over.len() > said_before => {}
                // Without its socket it ends.
                Ok(None) | Err(_) => log::warn!("an older process that kept sessions is lost"),
            }
        }
        keepers
    }

    /// Listens to them, and to the ends of their programs. Those that are too many are to end.
    pub(super) fn listen(&mut self, inputs: &mpsc::Sender<Input>) {
        for keeper in &mut self.list {
            let listening = listen(keeper.pid, Arc::clone(&keeper.wire), inputs.clone());
            keeper.listening = Some(crate::spawn(listening).abort_handle());
            let (pid, kept) = (keeper.pid, counted(keeper.live(), "session"));
            log::info!("the process {pid} keeps {kept}");
        }
        self.stop(KEEPERS);
        if !self.list.is_empty() || !self.left.is_empty() {
            crate::spawn(watch_children(inputs.clone()));
        }
    }

    /// Sessions that they keep.
    pub(super) fn count(&self) -> usize {
        self.live().count()
    }

    /// What there is to show.
    pub(super) fn status(&self) -> Vec<KeeperStatus> {
        let status = |keeper: &Keeper| KeeperStatus {
            pid: keeper.pid.as_raw(),
            version: keeper.version.clone(),
            sessions: keeper.live(),
            memory: sys::memory(keeper.pid),
        };
        self.list.iter().map(status).collect()
    }

    /// Streams that go on.
    pub(super) fn live(&self) -> impl Iterator<Item = StreamId> {
        self.kept().map(|kept| kept.id)
    }

    /// Whose they are; some may be named more than once.
    pub(super) fn users(&self) -> impl Iterator<Item = &str> {
        self.kept().map(|kept| kept.user.as_str())
    }

    /// What they take, of whom.
    pub(super) fn taken(&self) -> impl Iterator<Item = (&str, u32)> {
        self.kept().map(|kept| (kept.user.as_str(), kept.bytes))
    }

    fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.list.iter().flat_map(Keeper::kept)
    }

    /// Whether one of them knows a stream.
    pub(super) fn know(&self, id: StreamId) -> bool {
        self.of(id).is_some()
    }

    /// Hands a stream over that its client comes back by, with what the cluster said.
    pub(super) fn attach(&self, id: StreamId, request: &[u8], stream: Stream) {
        if let Some(keeper) = self.of(id)
            && let Err(error) = keeper.attach(request, stream)
        {
            log::warn!("a session cannot be gone on with: {error}");
        }
    }

    /// Ends a stream.
    pub(super) fn end(&self, id: StreamId, reason: Reason) {
        if let Some(keeper) = self.of(id) {
            keeper.tell(&ToKeeper::end(id, reason));
        }
    }

    /// Ends all streams of a user.
    pub(super) fn end_user(&self, user: &str, reason: Reason) {
        for keeper in &self.list {
            for kept in keeper.kept().filter(|kept| kept.user == user) {
                keeper.tell(&ToKeeper::end(kept.id, reason));
            }
        }
    }

    /// All that have sessions, but the newest so many.
    fn beyond(&self, newest: usize) -> impl Iterator<Item = &Keeper> {
        let live = || self.list.iter().filter(|keeper| keeper.live() > 0);
        live().take(live().count().saturating_sub(newest))
    }

    /// Sessions that another restart will end, if there are some of this process, too.
    pub(super) fn too_many(&self, here: usize) -> usize {
        let newest = KEEPERS - usize::from(here > 0);
        self.beyond(newest).map(Keeper::live).sum()
    }

    /// Asks all of them to end, but the newest so many.
    pub(super) fn stop(&self, but: usize) {
        for keeper in self.beyond(but) {
            keeper.tell(&ToKeeper::Stop);
        }
    }

    /// A keeper says that a stream is over.
    pub(super) fn over(&mut self, keeper: Pid, id: StreamId) {
        let keepers = self.list.iter_mut().filter(|k| k.pid == keeper);
        for kept in keepers.flat_map(|k| &mut k.streams) {
            if kept.id == id {
                kept.life = Life::Over;
            }
        }
    }

    /// Those that were said to be over before anybody listened.
    pub(super) fn over_before(&mut self) -> Vec<StreamId> {
        std::mem::take(&mut self.over)
    }

    /// A keeper has ended; gives the streams that it has not ended before.
    pub(super) fn gone(&mut self, keeper: Pid) -> Vec<StreamId> {
        log::info!("the process {keeper} keeps no session any more");
        let mut lost = Vec::new();
        for mut gone in self.list.extract_if(.., |k| k.pid == keeper) {
            lost.extend(gone.kept().map(|kept| kept.id));
            // They may run yet, itself included.
            self.left.append(&mut gone.children);
        }
        self.reap();
        lost
    }

    /// Takes in which children have ended, and tells keepers of their programs.
    pub(super) fn reap(&mut self) {
        for keeper in &mut self.list {
            keeper.reap();
        }
        self.left.retain(|child| sys::reap(*child) == Child::Runs);
    }

    /// The sockets of those that have sessions, for the next program in this process. Others have
    /// ended, or are about to.
    pub(super) fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        let keep = self.list.iter().filter(|keeper| keeper.live() > 0);
        keep.map(|keeper| keeper.wire.as_fd()).collect()
    }

    fn of(&self, id: StreamId) -> Option<&Keeper> {
        let knows = |keeper: &&Keeper| keeper.streams.iter().any(|kept| kept.id == id);
        self.list.iter().find(knows)
    }
}

impl Keeper {
    /// What it said to the program before this one may come first: the ends of streams go to `over`.
    async fn meet(socket: OwnedFd, over: &mut Vec<StreamId>) -> Option<Self> {
        let wire = Wire::new(socket).ok()?;
        // One that has ended since has said all before.
        let _ = wire.send(&ToKeeper::Hello, None);
        loop {
            let (packet, _) = wire.receive().await.ok()??;
            let said = read(&packet);
            if let Some(FromKeeper::Over(id)) = said {
                over.push(StreamId(id));
            }
            if let Some(FromKeeper::State(state)) = said {
                let pid = Pid::from_raw(state.pid);
                let programs = state.programs().map(Pid::from_raw);
                return Some(Self {
                    pid,
                    version: state.version.as_str().to_owned(),
                    wire: Arc::new(wire),
                    streams: state.streams.iter().map(Kept::of).collect(),
                    children: programs.chain([pid]).collect(),
                    listening: None,
                });
            }
        }
    }

    /// Those that go on.
    fn kept(&self) -> impl Iterator<Item = &Kept> {
        let streams = self.streams.iter();
        streams.filter(|kept| kept.life == Life::Live)
    }

    fn live(&self) -> usize {
        self.kept().count()
    }

    fn tell(&self, message: &ToKeeper<'_>) {
        if let Err(error) = self.wire.send(message, None) {
            log::warn!("the process {} does not listen: {error}", self.pid);
        }
    }

    fn reap(&mut self) {
        let mut children = std::mem::take(&mut self.children);
        children.retain(|child| match sys::reap(*child) {
            Child::Runs => true,
            Child::Strange => false,
            Child::Ended(status) => {
                let program = child.as_raw();
                if *child != self.pid {
                    self.tell(&ToKeeper::Ended { program, status });
                }
                false
            }
        });
        self.children = children;
    }

    fn attach(&self, request: &[u8], stream: Stream) -> std::io::Result<()> {
        let request = Blob::new(request).ok_or(std::io::ErrorKind::InvalidInput)?;
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = OwnedFd::from(theirs.into_std()?);
        self.wire.send(&ToKeeper::Attach(request), Some(theirs))?;
        crate::spawn(carry(stream, ours));
        Ok(())
    }
}

impl Kept {
    fn of(stream: &KeptStream<'_>) -> Self {
        Self {
            id: StreamId(stream.id),
            user: stream.user.as_str().to_owned(),
            bytes: stream.bytes,
            life: Life::Live,
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

/// Moves bytes until the keeper has had enough: it ends its side when the client does.
async fn carry(stream: Stream, keeper: UnixStream) {
    let Stream {
        mut reader,
        mut writer,
        delivered,
    } = stream;
    let (mut from, mut to) = keeper.into_split();
    let inward = async {
        let _ = tokio::io::copy(&mut reader, &mut to).await;
        drop(to);
        std::future::pending::<()>().await;
    };
    let outward = async {
        let _ = tokio::io::copy(&mut from, &mut writer).await;
        let _ = writer.shutdown().await;
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
    let _ = timeout(DELIVERY_TIMEOUT, delivered).await;
}

async fn listen(keeper: Pid, wire: Arc<Wire>, inputs: mpsc::Sender<Input>) {
    while let Ok(Some((packet, _))) = wire.receive().await {
        if let Some(FromKeeper::Over(id)) = read(&packet) {
            let id = StreamId(id);
            // Nobody listens any more only when the agent ends.
            let _ = inputs.send(Input::KeptElsewhere { keeper, id }).await;
        }
    }
    let _ = inputs.send(Input::KeeperGone { keeper }).await;
}

async fn watch_children(inputs: mpsc::Sender<Input>) {
    let Ok(mut children) = signal(SignalKind::child()) else {
        return;
    };
    loop {
        // The first time without a signal: it may have come before this listened.
        if inputs.send(Input::ChildEnded).await.is_err() || children.recv().await.is_none() {
            return;
        }
    }
}
