//! The processes of a program, for the signals that its user sends.

use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

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
    pub(super) fn new(leader: Pid, uid: u32) -> Self {
        Self {
            leader: AtomicI32::new(leader.as_raw()),
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

    /// The program is over, and with it the group.
    pub(super) fn is_over(&self) {
        self.leader.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command, Stdio};

    use nix::libc;
    use nix::sys::signal::kill;
    use nix::unistd::getuid;
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::process::ChildStdout;

    use super::super::program::{Program, Watch};
    use super::*;

    fn started(script: &str) -> (Child, Program) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).process_group(0);
        let watch = Watch::new().unwrap();
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        let leader = Pid::from_raw(child.id().cast_signed());
        (child, watch.started(leader, getuid().as_raw()))
    }

    #[tokio::test]
    async fn a_signal_reaches_a_program() {
        let (_child, mut program) = started("exec sleep 1000");
        assert!(program.group().signal(Signal::SIGTERM));
        assert_eq!(program.wait().await.signal(), Some(libc::SIGTERM));
    }

    #[tokio::test]
    async fn a_signal_reaches_nobody_once_the_program_is_over() {
        let (mut child, mut program) = started("sleep 1000 & echo $!");
        let stdout = ChildStdout::from_std(child.stdout.take().unwrap()).unwrap();
        let mut lines = BufReader::new(stdout).lines();
        let left = lines.next_line().await.unwrap().unwrap();
        program.wait().await;
        // The group has this one left, so its number is nobody else's yet.
        let reached = program.group().signal(Signal::SIGTERM);
        kill(Pid::from_raw(left.parse().unwrap()), Signal::SIGKILL).unwrap();
        assert!(!reached);
    }
}
