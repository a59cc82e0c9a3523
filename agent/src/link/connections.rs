//! The connections there are: the one that is held, the next one, and one that is being left.
//!
//! Each has a number, so that what comes late from one that was given up can be told and dropped.

use std::sync::Arc;
use std::time::Duration;

use protocol::error::CloseCode;
use protocol::link::Which;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::control::Open;
use super::input::Input;
use super::transport::{Stream, Transport};

/// The cluster may have dialled before it heard of the move: so long its dial may be on its way. It
/// waits no longer for the answer to one.
const LAST_DIALS: Duration = Duration::from_secs(5);

/// See the [module](self).
#[derive(Default)]
pub(super) struct Connections {
    /// Number of the next connection, made or not.
    number: u32,
    making: Option<AbortHandle>,
    next: Option<Open>,
    held: Option<Open>,
    /// It goes with the last of its streams, and not before this time. There is one at most: who
    /// moves again while streams of the move before last are open loses those.
    left: Option<(Open, Duration)>,
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
        let left = self
            .left
            .as_ref()
            .is_some_and(|(o, _)| o.number() == number);
        if has(&self.held) {
            Some(Role::Known(Which::Held))
        } else if left {
            Some(Role::Left)
        } else {
            (number == self.number).then_some(Role::Known(Which::Next))
        }
    }

    /// The next connection takes the place of the held one, which is left.
    pub(super) fn promote(&mut self, now: Duration) {
        let old = std::mem::replace(&mut self.held, self.next.take());
        self.number = self.number.wrapping_add(1);
        if let Some(old) = old {
            // It may have been dark, and the cluster not know yet that it is left and not lost.
            old.ping();
            self.forget_left();
            self.left = Some((old, now.saturating_add(LAST_DIALS)));
        }
    }

    /// Until when the connection that is being left is kept without streams.
    pub(super) fn left_until(&self) -> Option<Duration> {
        self.left.as_ref().map(|(_, until)| *until)
    }

    /// Lets the connection go that is being left, unless it `has_streams` or may get some.
    pub(super) fn let_go(&mut self, has_streams: impl Fn(u32) -> bool, now: Duration) {
        let over = |(open, until): &(Open, Duration)| now >= *until && !has_streams(open.number());
        if self.left.as_ref().is_some_and(over) {
            self.forget_left();
        }
    }

    fn end(&mut self, open: Open, code: CloseCode) {
        self.ended = self.ended.saturating_add(open.traffic().total());
        open.close(code);
    }

    /// Bytes on the wire of all connections there have been.
    pub(super) fn spent(&self) -> u64 {
        let open = [&self.next, &self.held].into_iter().flatten();
        let open = open.chain(self.left.as_ref().map(|(left, _)| left));
        let open = open.map(|o| o.traffic().total());
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

    /// Gives up the connection that is being left.
    pub(super) fn forget_left(&mut self) {
        if let Some((left, _)) = self.left.take() {
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

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::Mutex;

    use protocol::message::join::EXPORTED;

    use super::super::transport::{Fault, Pending, Traffic};
    use super::*;

    /// A connection that remembers how it was closed.
    #[derive(Default)]
    struct Wire(Mutex<Option<CloseCode>>);

    impl Transport for Wire {
        fn kind(&self) -> &'static str {
            "wire"
        }

        fn open(&self) -> Pending<'_, Result<Stream, Fault>> {
            Box::pin(pending())
        }

        fn accept(&self) -> Pending<'_, Result<Stream, Fault>> {
            Box::pin(pending())
        }

        fn ended(&self) -> Option<Fault> {
            None
        }

        fn exported(&self) -> Result<[u8; EXPORTED], Fault> {
            Err(Fault::local("no"))
        }

        fn close(&self, code: CloseCode) {
            self.0.lock().unwrap().get_or_insert(code);
        }

        fn closed(&self) -> Pending<'_, ()> {
            Box::pin(ready(()))
        }

        fn traffic(&self) -> Traffic {
            Traffic::default()
        }
    }

    /// Moves to one more connection.
    fn moved(connections: &mut Connections, now: Duration) -> Arc<Wire> {
        let wire = Arc::new(Wire::default());
        let control = Stream {
            reader: Box::new(tokio::io::empty()),
            writer: Box::new(tokio::io::sink()),
            delivered: Box::pin(ready(())),
        };
        let (inputs, _) = mpsc::channel(1);
        connections.opened(Arc::clone(&wire) as _, control, &inputs);
        connections.promote(now);
        wire
    }

    fn is_open(wire: &Wire) -> bool {
        wire.0.lock().unwrap().is_none()
    }

    #[tokio::test]
    async fn a_connection_that_is_left_is_kept_for_dials_on_their_way() {
        let mut connections = Connections::default();
        let old = moved(&mut connections, Duration::ZERO);
        let held = moved(&mut connections, Duration::ZERO);
        assert_eq!(connections.role(0), Some(Role::Left));
        connections.let_go(|_| false, LAST_DIALS - Duration::from_millis(1));
        assert!(is_open(&old));
        connections.let_go(|_| false, LAST_DIALS);
        assert!(!is_open(&old) && is_open(&held));
        assert_eq!(
            (connections.role(0), connections.left_until()),
            (None, None)
        );
    }

    #[tokio::test]
    async fn a_connection_that_is_left_goes_with_the_last_of_its_streams() {
        let mut connections = Connections::default();
        let old = moved(&mut connections, Duration::ZERO);
        moved(&mut connections, Duration::ZERO);
        connections.let_go(|number| number == 0, LAST_DIALS * 100);
        assert!(is_open(&old));
        connections.let_go(|_| false, LAST_DIALS * 100);
        assert!(!is_open(&old));
    }

    #[tokio::test]
    async fn one_connection_is_left_at_a_time() {
        let mut connections = Connections::default();
        let old: Vec<_> = (0..5)
            .map(|_| moved(&mut connections, Duration::ZERO))
            .collect();
        let open: Vec<_> = old.iter().map(|wire| is_open(wire)).collect();
        assert_eq!(open, [false, false, false, true, true]);
    }
}
