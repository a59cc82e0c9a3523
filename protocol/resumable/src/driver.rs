//! Keeps a stream's time, and moves what comes while its application does something else.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::core::Shared;
use crate::end::End;
use crate::signal::Pace;

/// Further away than any time limit; what a timer is set to when there is nothing to wait for.
const FAR: Duration = Duration::from_secs(24 * 3600);
/// How soon it looks after the application if that was woken: what it leaves undone is put off by
/// no more than that.
pub(crate) const TICK: Duration = Duration::from_millis(20);

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
    fn look(&self, raised: bool, pace: Pace) -> Option<Instant> {
        let (next, news) = {
            let mut core = self.shared.lock();
            let now = core.now();
            let due = now >= core.next_timeout();
            if due {
                core.handle_timeout(now);
            }
            if due || raised {
                core.pump(&mut [], &self.shared.waker, now);
            }
            let at = match pace {
                Pace::Woken => core.next_timeout(),
                Pace::Ticking(_) => core.next_timeout().min(now.saturating_add(TICK)),
            };
            core.armed = at;
            let far = Instant::now() + FAR;
            let next = core.instant(at).map_or(far, |at| at.min(far));
            ((!core.is_done()).then_some(next), core.news(now))
        };
        self.shared.tell(news.without_driver());
        next
    }
}

impl<E: End> Future for Driver<E> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut woken = true;
        loop {
            let (raised, pace) = self.shared.signal.drives(cx.waker());
            let elapsed = self.sleep.as_mut().poll(cx).is_ready();
            let pace = match pace {
                // Whoever was woken besides is mostly quicker, and will be with what comes next.
                Pace::Woken if raised || woken && !elapsed => Pace::Ticking(false),
                Pace::Ticking(true) if elapsed => Pace::Ticking(false),
                Pace::Ticking(false) if elapsed && !raised => Pace::Woken,
                _ if raised || elapsed => pace,
                _ => return Poll::Pending,
            };
            woken = false;
            self.shared.signal.set_pace(pace);
            let Some(at) = self.look(raised, pace) else {
                return Poll::Ready(());
            };
            if self.sleep.deadline() != at {
                self.sleep.as_mut().reset(at);
            }
        }
    }
}
