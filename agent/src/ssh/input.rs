//! What a client has sent and a program has not read yet.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use tokio::sync::Notify;

use super::{PACKET, WINDOW};

/// Smallest window: russh asks for the next one only when data comes, so a window of nothing would
/// never open again. A client with a full queue sends this much a round trip.
const TRICKLE: u32 = 2;
/// The most that comes from a client that keeps to its window: what was granted before the queue
/// filled, and what was in flight. russh itself takes more.
const FULL: usize = 2 * WINDOW as usize + PACKET as usize;
/// Beyond that only the trickle may go on, and not for ever: a million round trips get here.
const LIMIT: usize = 2 * FULL;

#[derive(Default)]
struct State {
    chunks: VecDeque<Vec<u8>>,
    queued: usize,
    ended: bool,
}

/// A queue between russh's callbacks and the task that feeds a program.
#[derive(Default)]
pub(super) struct Input {
    state: Mutex<State>,
    changed: Notify,
}

impl Input {
    /// Adds what has come in. Small pieces are put together, so that a queue of many costs no more
    /// than its bytes.
    ///
    /// # Errors
    /// If a client sends more than it may.
    pub(super) fn push(&self, data: &[u8]) -> Result<()> {
        let mut state = self.lock();
        if state.ended || data.is_empty() {
            return Ok(());
        }
        let limit = if data.len() > TRICKLE as usize {
            FULL
        } else {
            LIMIT
        };
        if state.queued + data.len() > limit {
            bail!("the client sends more than it may");
        }
        state.queued += data.len();
        match state.chunks.back_mut() {
            Some(last) if last.len() + data.len() <= PACKET as usize => {
                last.extend_from_slice(data);
            }
            _ => state.chunks.push_back(data.to_vec()),
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
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
        input.push(b"one").unwrap();
        input.push(b"").unwrap();
        input.push(b"two").unwrap();
        assert_eq!(input.next().await.as_deref(), Some(&b"onetwo"[..]));
        input.push(b"").unwrap();
        input.push(b"three").unwrap();
        input.end();
        input.push(b"late").unwrap();
        assert_eq!(input.next().await.as_deref(), Some(&b"three"[..]));
        assert_eq!(input.next().await, None);
    }

    #[tokio::test]
    async fn the_window_closes_as_the_queue_fills_and_opens_again() {
        let input = Input::default();
        assert_eq!(input.window(), WINDOW);
        input.push(&vec![0; WINDOW as usize / 2]).unwrap();
        assert_eq!(input.window(), WINDOW / 2);
        input.push(&vec![0; WINDOW as usize]).unwrap();
        assert_eq!(input.window(), TRICKLE);
        input.next().await;
        input.next().await;
        assert_eq!(input.window(), WINDOW);
    }

    #[test]
    fn a_full_queue_takes_a_trickle_and_that_not_for_ever() {
        let input = Input::default();
        let packet = vec![0; PACKET as usize];
        while input.lock().queued + packet.len() <= FULL {
            input.push(&packet).unwrap();
        }
        assert!(input.push(&packet).is_err());
        while input.lock().queued < LIMIT {
            input.push(&[0; TRICKLE as usize]).unwrap();
        }
        assert!(input.push(&[0]).is_err());
        let chunks = input.lock().chunks.len();
        assert!(chunks <= LIMIT / packet.len() + 1, "{chunks} pieces");
        input.discard();
        input.push(&packet).unwrap();
    }
}
