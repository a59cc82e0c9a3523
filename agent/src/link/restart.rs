//! A restart of the agent, as whoever asks for it meets it: see [`crate::handover`].

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Runner;
use super::input::Input;
use crate::handover::{self, Program};
use crate::sys;
use crate::text::counted;

/// A resolver that hangs gives up within this time.
const ALONE_LIMIT: Duration = Duration::from_secs(20);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Who asked is on the same machine, and waits.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Somebody asks for a restart, and waits for the answer: `ok` with what there is to say before the
/// agent goes, or `no` with why it does not.
pub(crate) struct Asked {
    answer: oneshot::Sender<String>,
    written: oneshot::Receiver<()>,
}

impl Asked {
    /// Gives what the answer comes by, too, and what to drop once it is written.
    pub(crate) fn new() -> (Self, oneshot::Receiver<String>, oneshot::Sender<()>) {
        let (answer, comes) = oneshot::channel();
        let (writes, written) = oneshot::channel();
        (Self { answer, written }, comes, writes)
    }

    /// Answers; comes back when the answer is written.
    pub(crate) async fn answer(self, text: String) {
        if self.answer.send(text).is_ok() {
            // Dropped, not sent.
            let _ = timeout(ANSWER_LIMIT, self.written).await;
        }
    }
}

impl Runner {
    /// Somebody asks for a restart.
    pub(super) fn restart(&mut self, asked: Option<Asked>) {
        log::info!("a restart is asked for");
        self.restarting = true;
        crate::spawn(prepare(self.program.clone(), asked, self.inputs.clone()));
    }

    /// Becomes the other program, if that is ready. Comes back with the keeper's socket in the
    /// keeper, and what to tell who asked.
    ///
    /// # Errors
    /// Why the agent stays.
    pub(super) fn hand_over(&self, ready: Result<(), String>) -> Result<(OwnedFd, String), String> {
        ready?;
        // The next program would show old ones, and pass for a clone.
        if let Some(problem) = self.node.unsaved() {
            return Err(format!("{problem}; new certificates would be lost"));
        }
        let Some(lock) = &self.lock else {
            return Err("the lock on the data folder is gone".to_owned());
        };
        let (all, bound) = (self.sessions.count(), self.sessions.bound());
        let outliving = self.sessions.here() - bound;
        let ended = bound + self.sessions.keepers.too_many(outliving);
        let keepers = self.sessions.keepers.sockets();
        let socket = handover::hand_over(&self.program, lock.as_fd(), &keepers)
            .map_err(|error| format!("this process cannot go over: {error}"))?;
        let kept = counted(all - ended, "session");
        let said = format!("ok {kept} kept, {ended} ended\n");
        Ok((socket, said))
    }

    /// Says why the agent stays.
    pub(super) fn stay(&mut self, asked: Option<Asked>, why: &str) {
        log::error!("no restart: {why}");
        self.restarting = false;
        if let Some(asked) = asked {
            crate::spawn(asked.answer(format!("no {why}\n")));
        }
    }
}

/// Looks whether the agent can restart; the loop learns it.
async fn prepare(program: Program, asked: Option<Asked>, inputs: mpsc::Sender<Input>) {
    let mut ready = program.check().await;
    if ready.is_ok() && timeout(ALONE_LIMIT, alone()).await.is_err() {
        ready = Err("a name is being looked up and does not come; try again".to_owned());
    }
    // Nobody listens any more only when the agent ends.
    let _ = inputs.send(Input::Ready { ready, asked }).await;
}

/// Threads that looked up names go by themselves.
async fn alone() {
    while !sys::is_alone() {
        tokio::time::sleep(LOOK).await;
    }
}
