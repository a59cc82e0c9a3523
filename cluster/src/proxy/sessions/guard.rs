//! A stream that carries a session: from its dial to its end.

use std::time::SystemTime;

use tokio::sync::watch;
use tokio::time::Instant;

use super::dialling::Dialling;
use super::{Key, LAST_BYTES, LAST_WORD, Left, Open, SessionId, Sessions, make_room};
use crate::proxy::splice::Moved;

/// One stream that carries a session, or may do so soon.
pub struct Guard {
    pub(super) table: Sessions,
    /// The session's id.
    pub id: SessionId,
    pub(super) key: Key,
    /// What goes on the list once the agent knows the session, if it is not there.
    pub(super) dialled: Option<(Open, Dialling)>,
    pub(super) end: watch::Receiver<bool>,
    pub(super) over: watch::Receiver<bool>,
    pub(super) returns: watch::Receiver<u32>,
    pub(super) leaving: watch::Receiver<bool>,
    /// Whether the session outlives its streams.
    pub(super) outlives: bool,
    pub(super) left: bool,
}

impl Guard {
    /// Returns when the session should end.
    pub async fn ended(&self) {
        let mut end = self.end.clone();
        if end.wait_for(|end| *end).await.is_err() {
            // Off the list: nobody can end it any more.
            std::future::pending::<()>().await;
        }
    }

    /// Returns when the stream should be detached, since this process is about to end.
    pub async fn leaving(&self) {
        let mut leaving = self.leaving.clone();
        if !self.outlives || leaving.wait_for(|leaving| *leaving).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the session outlives its streams.
    #[must_use]
    pub fn outlives(&self) -> bool {
        self.outlives
    }

    /// Returns when the agent has said that the session is over, and its stream should be, too.
    pub async fn is_over(&self) {
        let mut over = self.over.clone();
        if !self.outlives || over.wait_for(|over| *over).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(LAST_BYTES).await;
    }

    /// The agent knows the session: from now on this stream carries it. Tells whether another one did
    /// until now, which then does not say that the session was detached.
    pub fn begin(&mut self) -> bool {
        let Some((dialled, _)) = self.dialled.take() else {
            return false;
        };
        let mut table = self.table.lock();
        if !table.contains_key(&self.key)
            && let Some(forgotten) = make_room(&mut table, &self.key.holder)
        {
            self.table.marks.mark(&forgotten);
        }
        self.table.marks.mark(&self.key);
        let open = table.entry(self.key.clone()).or_insert(dialled);
        let replaces = open.carriers > 0;
        open.detached = None;
        open.carriers += 1;
        self.end = open.end.subscribe();
        self.over = open.over.subscribe();
        self.returns = open.returns.subscribe();
        replaces
    }

    /// The agent's end is lost, or found again, for a session that is kept here.
    pub fn set_lost(&self, lost: bool) {
        if let Some(open) = self.table.lock().get_mut(&self.key) {
            open.detached = lost.then(|| (SystemTime::now(), Instant::now()));
        }
    }

    /// The stream has ended, and has moved so much.
    pub async fn leave(mut self, moved: Moved) -> Left {
        self.left = true;
        self.returns.mark_unchanged();
        let alone = {
            let mut table = self.table.lock();
            table.get_mut(&self.key).is_none_or(|open| {
                open.moved.sent += moved.sent;
                open.moved.received += moved.received;
                open.carriers == 1
            })
        };
        if self.outlives && alone && !self.table.is_leaving() {
            // Whichever comes first, the end of the stream or the agent's word.
            let word = self.over.wait_for(|over| *over);
            tokio::select! {
                _ = tokio::time::timeout(LAST_WORD, word) => {}
                _ = self.returns.changed() => {}
            }
        }
        self.table.leave(&self.key)
    }
}

impl Guard {
    /// The stream has ended, nobody will come back, and the agent does not know: the session stays on
    /// the list until it does.
    pub async fn abandon(self, moved: Moved) -> Left {
        if let Some(open) = self.table.lock().get_mut(&self.key) {
            open.grace = open.at_agent;
            open.end.send_replace(true);
        }
        self.leave(moved).await
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.dialled.is_none() && !self.left {
            drop(self.table.leave(&self.key));
        }
    }
}
