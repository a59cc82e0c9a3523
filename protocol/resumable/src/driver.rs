//! Keeps a stream's time, and moves what comes while its application does something else.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::core::Shared;
use crate::end::End;

/// Further away than any time limit; what a timer is set to when there is nothing to wait for.
const FAR: Duration = Duration::from_secs(24 * 3600);

/// Done once the stream is over and everything is said. To be spawned.
pub struct Driver<E: End> {
    shared: Arc<Shared<E>>,
    sleep: Pin<Box<Sleep>>,
}

impl<E: End> Driver<E> {
    pub(crate) fn new(shared: Arc<Shared<E>>) -> Self {
        Self {
            shared,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Looks after the stream; tells when to look again, or that there is nothing left to do.
    fn look(&self, raised: bool) -> Option<Instant> {
        let (next, news) = {
            let mut core = self.shared.lock();
            let now = core.now();
            let due = now >= core.next_timeout();
            if due {
                core.handle_timeout(now);
            }
            if due || raised {
                core.pump(&mut [], now);
            }
            let at = core.next_timeout();
            core.armed = at;
            let far = Instant::now() + FAR;
            let next = core.instant(at).map_or(far, |at| at.min(far));
            ((!core.is_done()).then_some(next), core.news())
        };
        self.shared.tell(news.without_driver());
        next
    }
}

impl<E: End> Future for Driver<E> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.signal.drives(cx.waker());
        loop {
            let raised = self.shared.signal.take();
            // Mostly the application has moved everything, and the timer may come too soon: looking
            // then costs less than setting it with each packet.
            if !raised && self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let Some(at) = self.look(raised) else {
                return Poll::Ready(());
            };
            if self.sleep.deadline() != at {
                self.sleep.as_mut().reset(at);
            }
        }
    }
}
