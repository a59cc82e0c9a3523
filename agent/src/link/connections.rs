//! The connections there are: the one that is held, the next one, and one that is being left.
//!
//! Each has a number, so that what comes late from one that was given up can be told and dropped.

use std::sync::Arc;

use protocol::error::CloseCode;
use protocol::link::Which;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::control::Open;
use super::input::Input;
use super::transport::{Stream, Transport};

/// See the [module](self).
#[derive(Default)]
pub(super) struct Connections {
    /// Number of the next connection, made or not.
    number: u32,
    making: Option<AbortHandle>,
    next: Option<Open>,
    held: Option<Open>,
    /// It has streams, and goes with the last of them. There is one at most: who moves again while
    /// streams of the move before last are open loses those.
    left: Option<Open>,
    /// Bytes on the wire of all that have ended.
    ended: u64,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// One of the two that the supervisor knows.
    Known(Which),
    /// Its streams are still served.
    Left,
}

impl Connections {
    /// The number that the next connection will have.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// The next connection is being made by a task.
    pub(super) fn making(&mut self, task: AbortHandle) {
        self.making = Some(task);
    }

    /// The next connection is open.
    pub(super) fn opened(
        &mut self,
        transport: Arc<dyn Transport>,
        control: Stream,
        inputs: &mpsc::Sender<Input>,
    ) {
        self.making = None;
        self.next = Some(Open::start(transport, control, self.number, inputs));
    }

    /// Whose news these are; `None` if it was given up.
    pub(super) fn role(&self, number: u32) -> Option<Role> {
        let has = |open: &Option<Open>| open.as_ref().is_some_and(|open| open.number() == number);
        if has(&self.held) {
            Some(Role::Known(Which::Held))
        } else if has(&self.left) {
            Some(Role::Left)
        } else {
            (number == self.number).then_some(Role::Known(Which::Next))
        }
    }

    /// The next connection takes the place of the held one, which is closed, unless it `has_streams`.
    pub(super) fn promote(&mut self, has_streams: impl Fn(u32) -> bool) {
        let old = std::mem::replace(&mut self.held, self.next.take());
        self.number = self.number.wrapping_add(1);
        let Some(old) = old else { return };
        if has_streams(old.number()) {
            self.forget_left();
            self.left = Some(old);
        } else {
            self.end(old, CloseCode::Done);
        }
    }

    fn end(&mut self, open: Open, code: CloseCode) {
        self.ended = self.ended.saturating_add(open.traffic().total());
        open.close(code);
    }

    /// Bytes on the wire of all connections there have been.
    pub(super) fn spent(&self) -> u64 {
        let open = [&self.next, &self.held, &self.left];
        let open = open.into_iter().flatten().map(|o| o.traffic().total());
        open.fold(self.ended, u64::saturating_add)
    }

    /// Gives a connection up, made or not.
    pub(super) fn close(&mut self, which: Which, code: CloseCode) {
        let open = match which {
            Which::Held => self.held.take(),
            Which::Next => {
                self.number = self.number.wrapping_add(1);
                if let Some(making) = self.making.take() {
                    making.abort();
                }
                self.next.take()
            }
        };
        if let Some(open) = open {
            self.end(open, code);
        }
    }

    /// The last stream of a connection has ended.
    pub(super) fn emptied(&mut self, number: u32) {
        if self.role(number) == Some(Role::Left) {
            self.forget_left();
        }
    }

    /// Gives up the connection that is being left.
    pub(super) fn forget_left(&mut self) {
        if let Some(left) = self.left.take() {
            self.end(left, CloseCode::Done);
        }
    }

    pub(super) const fn get(&self, which: Which) -> Option<&Open> {
        match which {
            Which::Held => self.held.as_ref(),
            Which::Next => self.next.as_ref(),
        }
    }

    pub(super) const fn held(&self) -> Option<&Open> {
        self.held.as_ref()
    }

    pub(super) const fn held_mut(&mut self) -> Option<&mut Open> {
        self.held.as_mut()
    }

    /// Ends them all; the held one with a word.
    pub(super) async fn leave(mut self) {
        self.forget_left();
        self.close(Which::Next, CloseCode::Done);
        if let Some(held) = self.held.take() {
            held.leave().await;
        }
    }
}
