//! The end of a session's program.
//!
//! The kernel tells the process that started it. After a restart of the agent that is not the
//! process any more that holds the session (see [`crate::handover`]): then it is told by the other.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal as Name, kill, killpg};
use nix::unistd::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::group::Group;
use super::guard::Guarded;
use crate::sys::{self, Child};

/// All that run, and who waits for them.
static RUNNING: Mutex<Vec<Running>> = Mutex::new(Vec::new());

/// The process that told of ends is gone.
static UNTOLD: AtomicBool = AtomicBool::new(false);

/// How a program has ended of which nobody will know: as wait(2) tells of one that was hung up.
const UNKNOWN: i32 = Name::SIGHUP as i32;
/// How often it is looked then whether a program has ended.
const LOOK: Duration = Duration::from_millis(100);

/// A program that runs. Its end is known to the guard as soon as here: its number is free by then.
struct Running {
    group: Arc<Group>,
    tell: oneshot::Sender<ExitStatus>,
    _guarded: Guarded,
}

/// A program that runs, or has ended.
pub(super) struct Program {
    pid: Pid,
    /// It leads it.
    group: Arc<Group>,
    ended: Option<ExitStatus>,
    /// Some child of this process has ended.
    children: Signal,
    /// Another process says how it has ended.
    told: oneshot::Receiver<ExitStatus>,
}

/// Waits for programs to end; made before they are started, so that no end is missed.
pub(super) struct Watch(Signal);

impl Watch {
    /// # Errors
    /// If signals cannot be received.
    pub(super) fn new() -> io::Result<Self> {
        signal(SignalKind::child()).map(Self)
    }

    /// A program that was just started as a user; it leads a group of its own.
    pub(super) fn started(self, pid: Pid, uid: u32) -> Program {
        let (tell, told) = oneshot::channel();
        let group = Arc::new(Group::new(pid, uid));
        let running = Running {
            group: Arc::clone(&group),
            tell,
            _guarded: Guarded::new(pid),
        };
        lock().push(running);
        Program {
            pid,
            group,
            ended: None,
            children: self.0,
            told,
        }
    }
}

impl Program {
    /// Its group.
    pub(super) fn group(&self) -> Arc<Group> {
        Arc::clone(&self.group)
    }

    /// The process, which leads the group, while it runs.
    pub(super) fn runs(&self) -> Option<Pid> {
        self.group.leader()
    }

    /// Waits for its end.
    pub(super) async fn wait(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.ended {
                return status;
            }
            let untold = UNTOLD.load(Ordering::Relaxed);
            match sys::reap(self.pid) {
                Child::Ended(status) => return self.ended(ExitStatus::from_raw(status)),
                Child::Strange if untold && is_free(kill(self.pid, None)) => {
                    return self.ended(ExitStatus::from_raw(UNKNOWN));
                }
                Child::Strange | Child::Runs => {}
            }
            tokio::select! {
                // The sender is there as long as it runs.
                Ok(status) = &mut self.told => return self.ended(status),
                _ = self.children.recv() => {}
                () = tokio::time::sleep(LOOK), if untold => {}
            }
        }
    }

    fn ended(&mut self, status: ExitStatus) -> ExitStatus {
        self.group.is_over();
        self.forget();
        *self.ended.insert(status)
    }

    fn forget(&self) {
        lock().retain(|running| !Arc::ptr_eq(&running.group, &self.group));
    }

    /// Kills it, and waits for its end.
    pub(super) async fn kill(&mut self) {
        let Some(process) = self.runs() else {
            return;
        };
        let status = match sys::reap(process) {
            Child::Ended(status) => status,
            // The number of another's child may be free, but not while its group has anybody.
            Child::Strange if is_free(killpg(process, None)) => UNKNOWN,
            Child::Strange | Child::Runs => {
                let _ = kill(process, Name::SIGKILL);
                self.wait().await;
                return;
            }
        };
        self.ended(ExitStatus::from_raw(status));
    }
}

/// Whether there was nobody to signal.
fn is_free(signalled: nix::Result<()>) -> bool {
    signalled == Err(Errno::ESRCH)
}

impl Drop for Program {
    fn drop(&mut self) {
        self.forget();
    }
}

/// All programs of this process's sessions.
pub(crate) fn running() -> Vec<i32> {
    let running = lock();
    let leaders = running.iter().filter_map(|running| running.group.leader());
    leaders.map(Pid::as_raw).collect()
}

/// Nobody says any more that a program has ended.
pub(crate) fn nobody_tells() {
    UNTOLD.store(true, Ordering::Relaxed);
}

/// Another process says that a program has ended, and how.
pub(crate) fn has_ended(program: i32, status: i32) {
    let mut running = lock();
    let leader = Some(Pid::from_raw(program));
    let there = running
        .iter()
        .position(|running| running.group.leader() == leader);
    if let Some(index) = there {
        let Running { group, tell, .. } = running.remove(index);
        // Its number is free already, whenever the session asks for its end.
        group.is_over();
        // Nobody waits any more only if the session is over.
        let _ = tell.send(ExitStatus::from_raw(status));
    }
}

fn lock() -> MutexGuard<'static, Vec<Running>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::guard;
    use super::*;
    use std::process::Command;

    #[tokio::test]
    #[expect(clippy::zombie_processes, reason = "this is what is tested")]
    async fn the_end_of_a_child_is_seen_and_that_of_anothers_is_told() {
        let watch = Watch::new().unwrap();
        let child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        let mut program = watch.started(pid, 0);
        assert!(running().contains(&pid.as_raw()));
        assert_eq!(program.wait().await.code(), Some(7));
        assert_eq!(program.wait().await.code(), Some(7), "as often as asked");
        assert!(!running().contains(&pid.as_raw()));
        // No child of this process.
        let mut strange = Watch::new().unwrap().started(Pid::from_raw(i32::MAX), 0);
        assert!(running().contains(&i32::MAX));
        assert!(guard::knows(Pid::from_raw(i32::MAX)));
        has_ended(i32::MAX, 9);
        assert!(!guard::knows(Pid::from_raw(i32::MAX)), "its number is free");
        assert_eq!(strange.runs(), None, "though nobody has asked for its end");
        assert_eq!(strange.wait().await.signal(), Some(9));
        has_ended(i32::MAX, 9);
        // Whose number is free is not killed, and its end is seen when nobody tells of it.
        let mut gone = Watch::new().unwrap().started(Pid::from_raw(i32::MAX), 0);
        gone.kill().await;
        assert_eq!(gone.runs(), None);
        let mut gone = Watch::new().unwrap().started(Pid::from_raw(i32::MAX), 0);
        nobody_tells();
        assert_eq!(gone.wait().await.signal(), Some(UNKNOWN));
    }
}
