//! What a client has sent and a program has not read yet.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::WINDOW;

/// Smallest window: russh asks for the next one only when data comes, so a window of nothing would
/// never open again. A client with a full queue sends this much a round trip.
const TRICKLE: u32 = 2;

#[derive(Default)]
struct State {
    chunks: VecDeque<Vec<u8>>,
    queued: usize,
    ended: bool,
}

/// A queue between russh's callbacks and the task that feeds a program. It holds at most two
/// windows: what was granted before it filled, and what was in flight.
#[derive(Default)]
pub(super) struct Input {
    state: Mutex<State>,
    changed: Notify,
}

impl Input {
    /// Adds what has come in.
    pub(super) fn push(&self, data: &[u8]) {
        let mut state = self.lock();
        if !state.ended {
            state.queued += data.len();
            state.chunks.push_back(data.to_vec());
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Nothing more will come.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_one();
    }

    /// Nobody will read any more: drops what is queued and whatever comes.
    pub(super) fn discard(&self) {
        *self.lock() = State {
            ended: true,
            ..State::default()
        };
    }

    /// The next bytes; `None` once there is nothing left and nothing to come.
    pub(super) async fn next(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut state = self.lock();
                if let Some(chunk) = state.chunks.pop_front() {
                    state.queued -= chunk.len();
                    return Some(chunk);
                }
                if state.ended {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// How much the client may send ahead.
    pub(super) fn window(&self) -> u32 {
        let queued = u32::try_from(self.lock().queued).unwrap_or(u32::MAX);
        WINDOW.saturating_sub(queued).max(TRICKLE)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_goes_in_comes_out_and_then_ends() {
        let input = Input::default();
        input.push(b"one");
        input.push(b"two");
        input.end();
        input.push(b"late");
        assert_eq!(input.next().await.as_deref(), Some(&b"one"[..]));
        assert_eq!(input.next().await.as_deref(), Some(&b"two"[..]));
        assert_eq!(input.next().await, None);
    }

    #[tokio::test]
    async fn the_window_closes_as_the_queue_fills_and_opens_again() {
        let input = Input::default();
        assert_eq!(input.window(), WINDOW);
        input.push(&vec![0; WINDOW as usize / 2]);
        assert_eq!(input.window(), WINDOW / 2);
        input.push(&vec![0; WINDOW as usize]);
        assert_eq!(input.window(), TRICKLE);
        input.next().await;
        input.next().await;
        assert_eq!(input.window(), WINDOW);
    }
}
