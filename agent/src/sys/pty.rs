//! Pseudo-terminals.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::unistd::{fchown, geteuid, ttyname};

use super::Account;

nix::ioctl_write_ptr_bad!(tiocswinsz, nix::libc::TIOCSWINSZ, Winsize);
nix::ioctl_write_int_bad!(tiocsctty, nix::libc::TIOCSCTTY);

/// A new terminal.
pub(crate) struct Terminal {
    /// Our end; does not block.
    pub(crate) master: OwnedFd,
    /// The program's end.
    pub(crate) slave: OwnedFd,
    /// The program's end in the file system.
    pub(crate) path: PathBuf,
}

/// Opens a terminal that belongs to `account`.
pub(crate) fn open_pty(size: Winsize, account: &Account) -> io::Result<Terminal> {
    let pty = openpty(&size, None)?;
    for fd in [&pty.master, &pty.slave] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    fcntl(
        &pty.master,
        FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK),
    )?;
    if geteuid().is_root() {
        fchown(
            &pty.slave,
            Some(account.uid.into()),
            Some(account.gid.into()),
        )?;
    }
    let path = ttyname(&pty.slave)?;
    Ok(Terminal {
        master: pty.master,
        slave: pty.slave,
        path,
    })
}

/// Tells a terminal its size; whoever runs on it gets SIGWINCH.
pub(crate) fn resize(terminal: &OwnedFd, size: Winsize) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed, and TIOCSWINSZ reads one
    // `winsize` from a pointer that is valid for the call.
    unsafe { tiocswinsz(terminal.as_raw_fd(), &size) }?;
    Ok(())
}

/// Makes standard input the controlling terminal; for a session leader without one.
pub(super) fn take_as_controlling_terminal() -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer and touches no memory.
    unsafe { tiocsctty(0, 0) }?;
    Ok(())
}
