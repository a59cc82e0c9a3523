//! What the application reads and writes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use protocol::resume::End as Ending;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::core::{SCRATCH, Shared};
use crate::end::End;
use crate::status::Broken;

/// A stream that outlives what carries it. Dropping it ends it; what was written still goes out.
pub struct Resumable<E: End> {
    shared: Arc<Shared<E>>,
}

impl<E: End> Resumable<E> {
    pub(crate) const fn new(shared: Arc<Shared<E>>) -> Self {
        Self { shared }
    }
}

impl<E: End> AsyncRead for Resumable<E> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let (read, news) = {
            let mut core = self.shared.lock();
            let now = core.now();
            let out = buffer.initialize_unfilled_to(buffer.remaining().min(SCRATCH));
            let waiting = core.end.stream_mut().read(out, now);
            let rest = out.get_mut(waiting..).unwrap_or_default();
            let direct = core.pump(rest, &self.shared.waker, now);
            let read = match (waiting + direct, core.end.stream()) {
                (count @ 1.., _) => Poll::Ready(Ok(count)),
                (0, stream) if stream.is_read_to_end() => Poll::Ready(Ok(0)),
                (0, stream) => match stream.end() {
                    None => Poll::Pending,
                    Some(Ending::Clean) => Poll::Ready(Ok(0)),
                    Some(end) => Poll::Ready(Err(Broken::error(end))),
                },
            };
            if read.is_pending() {
                self.shared.signal.reads(cx.waker());
            }
            (read, core.news(now))
        };
        // A reader that has its bytes, or waits for more, needs no word of them.
        self.shared.tell(news.without_reader());
        read.map_ok(|count| buffer.advance(count))
    }
}

impl<E: End> AsyncWrite for Resumable<E> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let (written, news) = {
            let mut core = self.shared.lock();
            let now = core.now();
            let mut taken = core.end.stream_mut().write(bytes, now);
            core.pump(&mut [], &self.shared.waker, now);
            if taken == 0 {
                taken = core.end.stream_mut().write(bytes, now);
                core.pump(&mut [], &self.shared.waker, now);
            }
            let stream = core.end.stream();
            let written = match (taken, stream.end()) {
                (1.., None) => Poll::Ready(Ok(taken)),
                (_, Some(Ending::Clean)) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                (_, Some(end)) => Poll::Ready(Err(Broken::error(end))),
                (0, None) if stream.is_finishing() => {
                    Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
                }
                (0, None) => Poll::Pending,
            };
            if written.is_pending() {
                self.shared.signal.writes(cx.waker());
            }
            (written, core.news(now))
        };
        // What was acknowledged or lent at the last moment makes room for one that waits.
        let waits = written.is_pending();
        self.shared
            .tell(if waits { news } else { news.without_writer() });
        written
    }

    /// Does not wait: what is written is kept until the other end has it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Does not wait, either.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared
            .change(|core, now| core.end.stream_mut().finish(now));
        Poll::Ready(Ok(()))
    }
}

impl<E: End> Drop for Resumable<E> {
    fn drop(&mut self) {
        self.shared.signal.leave_alone();
        self.shared.change(|core, now| {
            core.end.stream_mut().finish(now);
            core.end.stream_mut().discard(now);
        });
    }
}
