//! Messages on their way into russh's queue, at most one at a time.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

type Sent = Pin<Box<dyn Future<Output = Result<(), russh::Error>> + Send>>;

/// The message that waits for room. A lock makes it shareable; nobody ever waits for that.
#[derive(Default)]
pub(crate) struct Outgoing(Option<Mutex<Sent>>);

impl Outgoing {
    /// Starts to send. Only if nothing is on its way.
    pub(crate) fn start(
        &mut self,
        sending: impl Future<Output = Result<(), russh::Error>> + Send + 'static,
    ) {
        debug_assert!(self.0.is_none(), "one message at a time");
        self.0 = Some(Mutex::new(Box::pin(sending)));
    }

    pub(crate) const fn is_waiting(&self) -> bool {
        self.0.is_some()
    }

    /// Ready if nothing is on its way any more.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), russh::Error>> {
        let Some(sending) = &mut self.0 else {
            return Poll::Ready(Ok(()));
        };
        let sending = sending.get_mut().unwrap_or_else(PoisonError::into_inner);
        let done = sending.as_mut().poll(cx);
        if done.is_ready() {
            self.0 = None;
        }
        done
    }

    /// Sees it through.
    pub(crate) async fn finish(mut self) {
        // Whoever cannot be sent anything has gone.
        let _ = std::future::poll_fn(|cx| self.poll(cx)).await;
    }
}
