//! Signals that users send.

use std::io;

use nix::libc;
// On these CPUs the plain call takes ids of 16 bits.
#[cfg(not(any(target_arch = "arm", target_arch = "x86")))]
use nix::libc::SYS_setresuid as SETRESUID;
#[cfg(any(target_arch = "arm", target_arch = "x86"))]
use nix::libc::SYS_setresuid32 as SETRESUID;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, geteuid};

/// The last user id there is. Nobody has it.
const NOBODY: u32 = u32::MAX - 1;

/// Sends a signal to a process group with the rights of the user `uid`, as far as we may: an agent
/// that is not root's has one user, its own.
///
/// The real id counts as much as the effective one, both for whom a process may signal and for who
/// may signal it: ours must be neither root's, nor the user's, who could end the agent meanwhile.
///
/// # Errors
/// If there is nobody in the group whom the user may signal.
pub(crate) fn signal_as(uid: u32, group: Pid, signal: Signal) -> io::Result<()> {
    if uid == 0 || !geteuid().is_root() {
        return Ok(killpg(group, signal)?);
    }
    become_for_now(NOBODY, uid)?;
    let sent = killpg(group, signal);
    if become_for_now(0, 0).is_err() {
        // Root's id is saved, so it can be taken back. To go on without it would be worse than this.
        std::process::abort();
    }
    Ok(sent?)
}

/// Changes this thread alone, which the C library's function does not.
fn become_for_now(real: u32, effective: u32) -> io::Result<()> {
    let saved: u32 = 0;
    // SAFETY: the call takes three numbers and touches no memory of ours.
    match unsafe { libc::syscall(SETRESUID, real, effective, saved) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command};

    use nix::unistd::{getresuid, getuid};

    use super::*;

    fn asleep(uid: u32) -> (Child, Pid) {
        let mut command = Command::new("sleep");
        let child = command.arg("1000").process_group(0).uid(uid).spawn();
        let child = child.unwrap();
        let group = Pid::from_raw(child.id().try_into().unwrap());
        (child, group)
    }

    #[test]
    fn a_users_signal_reaches_the_users_processes_and_not_roots() {
        // Who is not root has no other users to try it with.
        let user = if getuid().is_root() {
            let before = getresuid().unwrap();
            let (mut roots, group) = asleep(0);
            let refused = signal_as(65_534, group, Signal::SIGKILL).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
            assert_eq!(getresuid().unwrap(), before);
            signal_as(0, group, Signal::SIGTERM).unwrap();
            let status = roots.wait().unwrap();
            assert_eq!(status.signal(), Some(libc::SIGTERM));
            65_534
        } else {
            getuid().as_raw()
        };
        let (mut theirs, group) = asleep(user);
        signal_as(user, group, Signal::SIGINT).unwrap();
        assert_eq!(theirs.wait().unwrap().signal(), Some(libc::SIGINT));
    }
}
