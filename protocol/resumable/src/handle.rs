//! A hold on a stream, beside its application's.

use std::sync::Arc;

use protocol::resume::Reason;
use tokio::sync::watch;

use crate::core::Shared;
use crate::end::End;
use crate::status::Status;

/// See the [module](self).
pub struct Handle<E: End> {
    pub(crate) shared: Arc<Shared<E>>,
}

impl<E: End> Clone for Handle<E> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<E: End> Handle<E> {
    /// How the stream is, now and whenever that changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status()
    }

    /// Ends the stream at once, and tells the other end if it can be told. What is under way may be
    /// lost.
    pub fn reset(&self, reason: Reason) {
        self.shared
            .change(|core, now| core.end.stream_mut().reset(reason, now));
    }

    /// Bytes of memory that the stream's buffers take.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.shared.lock().end.stream().memory()
    }
}
