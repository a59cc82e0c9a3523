//! When to say that the link is lost, and that it is back.

use std::convert::Infallible;
use std::future::pending;
use std::io::{IsTerminal, stderr};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::termios::{LocalFlags, tcgetattr};
use resumable::Status;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::output;
use crate::output::age::span;

/// Nothing is said of a loss that does not last: most do not.
const QUIET: Duration = Duration::from_secs(2);
/// How often the line is drawn anew.
const TICK: Duration = Duration::from_secs(1);

/// What to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// For how long the link is lost, and for how much longer the session is kept.
    Lost {
        /// Since it was lost.
        lost_for: Duration,
        /// Until the session is over.
        left: Duration,
    },
    /// The link is back, after it was said to be lost.
    Back,
}

/// What becomes of a link.
#[derive(Debug)]
pub(crate) struct Loss {
    /// Nothing, if the session ends with its link.
    status: Option<watch::Receiver<Status>>,
    /// When it was last said that it is lost.
    said: Option<Instant>,
}

impl Loss {
    pub(crate) const fn of(status: Option<watch::Receiver<Status>>) -> Self {
        Self { status, said: None }
    }

    /// Waits until there is something to say.
    pub(crate) async fn news(&mut self) -> News {
        let Some(status) = &mut self.status else {
            return pending().await;
        };
        loop {
            let now = *status.borrow_and_update();
            let changed = status.changed();
            match now {
                Status::Lost { since, until } => {
                    let at = self.said.map_or(since + QUIET, |said| said + TICK);
                    tokio::select! {
                        () = sleep_until(at) => {
                            let now = Instant::now();
                            self.said = Some(now);
                            return News::Lost {
                                lost_for: now.saturating_duration_since(since),
                                left: until.saturating_duration_since(now),
                            };
                        }
                        // Nobody changes it any more: the session's end says so.
                        changed = changed => if changed.is_err() { return pending().await },
                    }
                }
                Status::Attached if self.said.take().is_some() => return News::Back,
                Status::Attached | Status::Ended(_) => {
                    if changed.await.is_err() {
                        return pending().await;
                    }
                }
            }
        }
    }

    /// Says it in plain lines on standard error, where somebody sees them and nobody else draws.
    pub(crate) async fn tell(mut self, node: &str) -> Infallible {
        let mut said = false;
        loop {
            let news = self.news().await;
            if !is_plain_terminal() {
                continue;
            }
            match news {
                News::Lost { left, .. } if !said => {
                    said = true;
                    let left = span(left);
                    output::note(&format!(
                        "The link to {node} is lost; the session is kept for {left}."
                    ));
                }
                News::Lost { .. } => {}
                News::Back => {
                    said = false;
                    output::note(&format!("The link to {node} is back."));
                }
            }
        }
    }
}

/// Whether standard error is a terminal, and no program has it for itself: that of the OpenSSH above
/// `tsh proxy ssh` belongs to the node.
fn is_plain_terminal() -> bool {
    let raw =
        |termios: nix::sys::termios::Termios| !termios.local_flags.contains(LocalFlags::ICANON);
    stderr().is_terminal() && !tcgetattr(stderr().as_fd()).is_ok_and(raw)
}

#[cfg(test)]
mod tests {
    use protocol::resume::{End, Reason};

    use super::*;

    const GRACE: Duration = Duration::from_secs(600);

    fn lost() -> Status {
        let since = Instant::now();
        Status::Lost {
            since,
            until: since + GRACE,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_loss_is_told_every_second_until_the_link_is_back() {
        let (status, receiver) = watch::channel(Status::Attached);
        let mut loss = Loss::of(Some(receiver));
        status.send_replace(lost());
        for seconds in 2..5 {
            let News::Lost { lost_for, left } = loss.news().await else {
                panic!("it is not back");
            };
            assert_eq!((lost_for.as_secs(), lost_for + left), (seconds, GRACE));
        }
        status.send_replace(Status::Attached);
        assert_eq!(loss.news().await, News::Back);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_loss_is_not_mentioned() {
        let (status, receiver) = watch::channel(Status::Attached);
        let mut loss = Loss::of(Some(receiver));
        status.send_replace(lost());
        let soon = tokio::time::timeout(QUIET / 2, loss.news()).await;
        assert!(soon.is_err());
        status.send_replace(Status::Attached);
        let never = tokio::time::timeout(GRACE, loss.news()).await;
        assert!(never.is_err(), "{never:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_told_by_the_session() {
        let (status, receiver) = watch::channel(lost());
        let mut loss = Loss::of(Some(receiver));
        assert!(matches!(loss.news().await, News::Lost { .. }));
        status.send_replace(Status::Ended(End::GivenUp(Reason::GraceOver)));
        let never = tokio::time::timeout(GRACE, loss.news()).await;
        assert!(never.is_err(), "{never:?}");
        drop(status);
        let never = tokio::time::timeout(GRACE, loss.news()).await;
        assert!(never.is_err(), "{never:?}");
    }
}
