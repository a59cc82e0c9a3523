//! The processes of a program, for the signals that its user sends.

use std::io;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::process::Child;

use crate::sys;

/// The process group that a program leads, for as long as it does: after that, its number may be
/// another's.
pub(super) struct Group {
    /// Zero once the program is over.
    leader: AtomicI32,
    /// As whom the program was started.
    uid: u32,
}

impl Group {
    pub(super) fn new(child: &Child, uid: u32) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            leader: AtomicI32::new(leader.unwrap_or(0)),
            uid,
        }
    }

    /// Sends a signal with the user's rights. Says whether there was anybody to get it.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        let leader = self.leader();
        leader.is_some_and(|leader| sys::signal_as(self.uid, leader, signal).is_ok())
    }

    /// The program, while it runs.
    pub(super) fn leader(&self) -> Option<Pid> {
        let leader = self.leader.load(Ordering::Relaxed);
        (leader > 0).then(|| Pid::from_raw(leader))
    }

    /// Waits for the end of the program, and with it of the group.
    pub(super) async fn wait(&self, leader: &mut Child) -> io::Result<ExitStatus> {
        let status = leader.wait().await;
        self.leader.store(0, Ordering::Relaxed);
        status
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    use nix::libc;
    use nix::sys::signal::kill;
    use nix::unistd::getuid;
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::process::Command;

    use super::*;

    fn started(script: &str) -> (Child, Group) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).process_group(0);
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        let group = Group::new(&child, getuid().as_raw());
        (child, group)
    }

    #[tokio::test]
    async fn a_signal_reaches_a_program() {
        let (mut child, group) = started("exec sleep 1000");
        assert!(group.signal(Signal::SIGTERM));
        let status = group.wait(&mut child).await.unwrap();
        assert_eq!(status.signal(), Some(libc::SIGTERM));
    }

    #[tokio::test]
    async fn a_signal_reaches_nobody_once_the_program_is_over() {
        let (mut child, group) = started("sleep 1000 & echo $!");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let left = lines.next_line().await.unwrap().unwrap();
        group.wait(&mut child).await.unwrap();
        // The group has this one left, so its number is nobody else's yet.
        let reached = group.signal(Signal::SIGTERM);
        kill(Pid::from_raw(left.parse().unwrap()), Signal::SIGKILL).unwrap();
        assert!(!reached);
    }
}
