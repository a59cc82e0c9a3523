//! A copy of this process, and descriptors that pass from process to process.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getpid};

/// Whether this process has no thread but this one.
pub(crate) fn is_alone() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

/// Copies this process; gives the copy's number, or nothing to the copy.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    if !is_alone() {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    // SAFETY: the copy has this thread alone. There is no other, and nobody but it could make one:
    // so the copy lacks nothing, and holds no lock that nobody gives back.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Takes a descriptor that the program before this one in the same process has left open. To be
/// called before this one opens any.
pub(crate) fn inherited(number: RawFd) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: the number is only asked about, and nobody closes it meanwhile.
    let there = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(there, FcntlArg::F_GETFD).ok()?;
    // SAFETY: it is open, and as this program has opened nothing yet, nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    set_inherited(fd.as_fd(), false).ok()?;
    Some(fd)
}

/// Whether the next program in this process shall have a descriptor.
pub(crate) fn set_inherited(fd: BorrowedFd<'_>, inherited: bool) -> io::Result<()> {
    let flags = if inherited {
        FdFlag::empty()
    } else {
        FdFlag::FD_CLOEXEC
    };
    fcntl(fd, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// Sends bytes, and a descriptor with them if there is one.
pub(crate) fn send_with(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let raw = fd.map(|fd| [fd.as_raw_fd()]);
    let message = raw.as_ref().map(|raw| [ControlMessage::ScmRights(raw)]);
    let message = message.as_ref().map(<[_; 1]>::as_slice).unwrap_or_default();
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        message,
        flags,
        None,
    )?;
    Ok(())
}

/// Receives bytes, and a descriptor with them if there is one. No bytes are the end.
pub(crate) fn receive_with(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let received = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(space.as_mut_slice()),
        flags,
    )?;
    let mut fds = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            // SAFETY: the kernel has just opened them for this process, and nobody else knows them.
            fds.extend(
                numbers
                    .into_iter()
                    .map(|n| unsafe { OwnedFd::from_raw_fd(n) }),
            );
        }
    }
    Ok((received.bytes, fds.pop()))
}

/// What has become of a child process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Child {
    /// It runs.
    Runs,
    /// It has ended so, as wait(2) tells it, and is reaped.
    Ended(i32),
    /// It is no child of this process.
    Strange,
}

/// Looks after a child process.
pub(crate) fn reap(child: Pid) -> Child {
    match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Child::Ended((code & 0xff) << 8),
        Ok(WaitStatus::Signaled(_, signal, core)) => {
            Child::Ended(signal as i32 | if core { 0x80 } else { 0 })
        }
        Err(Errno::ECHILD) => Child::Strange,
        Ok(_) | Err(_) => Child::Runs,
    }
}

/// Children of this process, whoever started them.
pub(crate) fn children() -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers =
        processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let ours = |process: &i32| parent(*process) == Some(getpid());
    numbers.filter(ours).map(Pid::from_raw).collect()
}

fn parent(process: i32) -> Option<Pid> {
    let stat = std::fs::read(format!("/proc/{process}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // proc(5): behind the name, which may hold anything, come the state and the parent.
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(Pid::from_raw(fields.split(' ').nth(1)?.parse().ok()?))
}

/// Bytes of memory that a process takes, shared ones included, if it can be told.
pub(crate) fn memory(process: Pid) -> Option<u64> {
    let pages = std::fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let resident: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(resident.saturating_mul(u64::try_from(page).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    #[test]
    fn a_descriptor_goes_with_its_bytes() {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        send_with(ours.as_fd(), b"one", Some(writer.as_fd())).unwrap();
        send_with(ours.as_fd(), b"two", None).unwrap();
        drop(writer);
        let mut bytes = [0; 16];
        let (count, fd) = receive_with(theirs.as_fd(), &mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"one");
        nix::unistd::write(fd.unwrap(), b"through").unwrap();
        assert_eq!(std::io::read_to_string(reader).unwrap(), "through");
        let (count, fd) = receive_with(theirs.as_fd(), &mut bytes).unwrap();
        assert_eq!((&bytes[..count], fd.is_none()), (&b"two"[..], true));
        drop(ours);
        assert_eq!(receive_with(theirs.as_fd(), &mut bytes).unwrap().0, 0);
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "this is what is tested")]
    fn a_child_that_has_ended_is_reaped_once() {
        assert_eq!(parent(getpid().as_raw()), Some(nix::unistd::getppid()));
        for (script, expected) in [("exit 7", Ok(7)), ("kill -9 $$", Err(9))] {
            let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            let pid = Pid::from_raw(child.id().cast_signed());
            assert!(children().contains(&pid));
            let raw = loop {
                match reap(pid) {
                    Child::Ended(raw) => break raw,
                    Child::Runs => std::thread::yield_now(),
                    Child::Strange => panic!("not ours"),
                }
            };
            let status = ExitStatus::from_raw(raw);
            let ended = status.code().ok_or_else(|| status.signal().unwrap());
            assert_eq!(ended, expected);
            assert_eq!(reap(pid), Child::Strange);
            assert!(!children().contains(&pid));
        }
    }

    #[test]
    fn this_process_takes_memory_and_no_other_one_of_its_number() {
        assert!(memory(getpid()).unwrap() > 100_000);
        assert_eq!(memory(Pid::from_raw(i32::MAX)), None);
    }

    #[test]
    fn only_what_is_open_is_inherited() {
        assert!(inherited(1).is_none());
        assert!(inherited(1_000_000).is_none());
    }
}
