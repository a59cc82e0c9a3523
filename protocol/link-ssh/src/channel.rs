//! One channel as a stream of bytes, and the state behind it that russh's callbacks change.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use russh::{ChannelId, ChannelMsg, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::outgoing::Outgoing;
use crate::table::Table;
use crate::window::{Overrun, Receiving, Sending};
use crate::{CHUNK, Gate};

/// Type of extended data that carries an allowance (RFC 4254 §5.2: private use).
pub(crate) const ALLOWANCE: u32 = 0xFE00_0001;
/// Small pieces are put together up to this, so that a queue of many costs no more than its bytes.
const BLOCK: usize = 32 << 10;

/// What russh's handles must be able to carry.
pub trait Message: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static {}

impl<M: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static> Message for M {}

/// What is known of a channel.
#[derive(Default)]
pub(crate) struct State {
    queue: VecDeque<BytesMut>,
    receiving: Receiving,
    sending: Sending,
    /// Nobody reads any more: what comes is dropped.
    deaf: bool,
    /// Nothing more will come.
    eof: bool,
    /// The peer was told that nothing more will come.
    told_eof: bool,
    /// Nothing can be sent any more, and the peer wants nothing.
    closed: bool,
    /// The connection is over.
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    ended: Vec<Waker>,
}

/// A channel, shared by its halves and the table.
#[derive(Default)]
pub(crate) struct Channel(Mutex<State>);

impl Channel {
    pub(crate) fn data(&self, data: &[u8]) -> Result<(), Overrun> {
        // To a reader, no bytes are the end.
        if data.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        state.receiving.received(data.len())?;
        if state.deaf {
            return Ok(());
        }
        match state.queue.back_mut() {
            Some(last) if last.len() + data.len() <= BLOCK => last.extend_from_slice(data),
            _ => state.queue.push_back(BytesMut::from(data)),
        }
        wake(state.reader.take());
        Ok(())
    }

    pub(crate) fn allow(&self, more: u32) -> Result<(), Overrun> {
        let mut state = self.lock();
        state.sending.allow(more)?;
        wake(state.writer.take());
        Ok(())
    }

    pub(crate) fn eof(&self) {
        let mut state = self.lock();
        state.eof = true;
        wake(state.reader.take());
    }

    /// The peer has closed the channel.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.eof = true;
        state.closed = true;
        state.wake_all();
    }

    /// The connection is over.
    pub(crate) fn break_off(&self) {
        let mut state = self.lock();
        state.broken = true;
        state.wake_all();
    }

    /// Whether the peer has yet to be told that nothing more will come; it is, then.
    fn tell_eof(&self) -> bool {
        !std::mem::replace(&mut self.lock().told_eof, true)
    }

    fn is_over(&self) -> bool {
        let state = self.lock();
        state.closed || state.broken
    }

    fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.closed || state.broken {
            return Poll::Ready(());
        }
        if !state.ended.iter().any(|w| w.will_wake(cx.waker())) {
            state.ended.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake_all(&mut self) {
        wake(self.reader.take());
        wake(self.writer.take());
        self.ended.drain(..).for_each(Waker::wake);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the link has ended")
}

/// What both halves hold of a channel: the way to the peer. The last of them closes it.
pub(crate) struct Shared<M: Message> {
    pub(crate) channel: Arc<Channel>,
    pub(crate) write: Arc<ChannelWriteHalf<M>>,
    pub(crate) table: Arc<Table>,
}

impl<M: Message> Drop for Shared<M> {
    fn drop(&mut self) {
        let (channel, write) = (Arc::clone(&self.channel), Arc::clone(&self.write));
        let table = Arc::clone(&self.table);
        if channel.is_over() {
            return table.forget(write.id());
        }
        let linger = table.bounds().linger;
        let closing = async move {
            if !linger.is_zero() {
                // The peer closes once it has read everything; one that goes on sending is told
                // to stop after a while.
                if channel.tell_eof() {
                    let _ = write.eof().await;
                }
                let over = std::future::poll_fn(|cx| channel.poll_over(cx));
                let _ = tokio::time::timeout(linger, over).await;
            }
            let _ = write.close().await;
            table.forget(write.id());
        };
        // Without a runtime, the connection is gone as well.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(closing);
        }
    }
}

/// The receiving half. Dropping it drops what comes.
pub struct Reader<M: Message> {
    shared: Arc<Shared<M>>,
    allowing: Outgoing,
}

/// The sending half. Shutting it down, or dropping it, ends its direction.
pub struct Writer<M: Message> {
    shared: Arc<Shared<M>>,
    sending: Outgoing,
    ended: bool,
    gate: Option<Gate>,
}

/// The end of a channel: the peer has everything and wants no more, or the connection is over.
#[derive(Clone)]
pub struct Ended(Arc<Channel>);

impl Ended {
    /// Waits for it.
    pub async fn wait(&self) {
        std::future::poll_fn(|cx| self.0.poll_over(cx)).await;
    }
}

pub(crate) fn halves<M: Message>(
    shared: Shared<M>,
    gate: Option<Gate>,
) -> (Reader<M>, Writer<M>, Ended) {
    let shared = Arc::new(shared);
    let ended = Ended(Arc::clone(&shared.channel));
    let reader = Reader {
        shared: Arc::clone(&shared),
        allowing: Outgoing::default(),
    };
    let writer = Writer {
        shared,
        sending: Outgoing::default(),
        ended: false,
        gate,
    };
    (reader, writer, ended)
}

impl<M: Message> Reader<M> {
    /// The next bytes, as they came; `None` at the end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        self.poll_take(cx, |queue| queue.pop_front().map(BytesMut::freeze))
    }

    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut VecDeque<BytesMut>) -> Option<Bytes>,
    ) -> Poll<io::Result<Option<Bytes>>> {
        // What cannot be said any more is not needed: nobody is there.
        let said = self.allowing.poll(cx).is_ready();
        let (taken, more) = {
            let mut state = self.shared.channel.lock();
            let taken = match take(&mut state.queue) {
                Some(bytes) => {
                    state.receiving.consumed(bytes.len());
                    Poll::Ready(Ok(Some(bytes)))
                }
                None if state.eof => Poll::Ready(Ok(None)),
                None if state.broken => Poll::Ready(Err(lost())),
                None => {
                    state.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
            let wanted = said && !state.eof && !state.broken;
            let target = self.shared.table.target();
            let more = wanted.then(|| state.receiving.due(target)).flatten();
            (taken, more)
        };
        if let Some(more) = more {
            self.allow(more, cx);
        }
        taken
    }

    fn allow(&mut self, more: u32, cx: &mut Context<'_>) {
        let write = Arc::clone(&self.shared.write);
        let word = Bytes::copy_from_slice(&more.to_be_bytes());
        let saying = async move { write.extended_data_bytes(ALLOWANCE, word).await };
        self.allowing.start(saying);
        // Mostly there is room in russh's queue. If not, the next call sees it through.
        let _ = self.allowing.poll(cx);
    }
}

impl<M: Message> AsyncRead for Reader<M> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining();
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        let taken = self.get_mut().poll_take(cx, |queue| {
            let front = queue.front_mut()?;
            if front.len() > room {
                return Some(front.split_to(room).freeze());
            }
            queue.pop_front().map(BytesMut::freeze)
        });
        if let Some(bytes) = ready!(taken)? {
            buffer.put_slice(&bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<M: Message> Drop for Reader<M> {
    fn drop(&mut self) {
        let mut state = self.shared.channel.lock();
        state.deaf = true;
        state.queue = VecDeque::new();
    }
}

impl<M: Message> Writer<M> {
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sending.poll(cx).map_err(|_| lost())
    }

    /// How much of so many bytes may be sent now.
    fn poll_room(&self, cx: &Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        if let Some(gate) = &self.gate {
            ready!(gate.poll_open(cx));
        }
        let mut state = self.shared.channel.lock();
        if state.broken {
            return Poll::Ready(Err(lost()));
        }
        if state.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match state.sending.take(wanted.min(CHUNK)) {
            0 => {
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            room => Poll::Ready(Ok(room)),
        }
    }
}

impl<M: Message> AsyncWrite for Writer<M> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(this.poll_sent(cx))?;
        let room = ready!(this.poll_room(cx, bytes.len()))?;
        let piece = Bytes::copy_from_slice(bytes.get(..room).unwrap_or_default());
        let write = Arc::clone(&this.shared.write);
        this.sending
            .start(async move { write.data_bytes(piece).await });
        // Mostly there is room in russh's queue. If not, the next call sees it through.
        if let Poll::Ready(Err(error)) = this.poll_sent(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_sent(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_sent(cx))?;
        if !this.ended {
            this.ended = true;
            if this.shared.channel.tell_eof() {
                let write = Arc::clone(&this.shared.write);
                this.sending.start(async move { write.eof().await });
            }
        }
        this.poll_sent(cx)
    }
}

impl<M: Message> Drop for Writer<M> {
    fn drop(&mut self) {
        // The last half closes the channel, which needs no end then.
        let end = !self.ended && Arc::strong_count(&self.shared) > 1;
        if self.shared.channel.is_over() || !(end || self.sending.is_waiting()) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let sending = std::mem::take(&mut self.sending);
        let ending = async move {
            sending.finish().await;
            if end && shared.channel.tell_eof() {
                let _ = shared.write.eof().await;
            }
        };
        // Without a runtime, the connection is gone as well.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(ending);
        }
    }
}
