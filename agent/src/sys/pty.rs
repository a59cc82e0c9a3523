//! Pseudo-terminals.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::fcntl::{OFlag, open};
use nix::pty::Winsize;
use nix::sys::stat::Mode;
use nix::unistd::{fchown, geteuid};

use super::Account;

nix::ioctl_read_bad!(tiocgptn, nix::libc::TIOCGPTN, c_int);
nix::ioctl_write_ptr_bad!(tiocsptlck, nix::libc::TIOCSPTLCK, c_int);
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

/// Opens a terminal that belongs to `account`, as `openpty(3)` does; musl's brings `printf`.
pub(crate) fn open_pty(size: Winsize, account: &Account) -> io::Result<Terminal> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = open("/dev/ptmx", flags | OFlag::O_NONBLOCK, Mode::empty())?;
    let path = PathBuf::from(format!("/dev/pts/{}", unlocked(&master)?));
    let slave = open(&path, flags, Mode::empty())?;
    resize(&slave, size)?;
    if geteuid().is_root() {
        fchown(&slave, Some(account.uid.into()), Some(account.gid.into()))?;
    }
    Ok(Terminal {
        master,
        slave,
        path,
    })
}

/// The number of a new terminal, whose other end may be opened from now on.
fn unlocked(master: &OwnedFd) -> io::Result<c_int> {
    let mut number = 0;
    // SAFETY: the descriptor is open for as long as it is borrowed. TIOCSPTLCK reads an int from a
    // pointer that is valid for the call, and TIOCGPTN writes one.
    unsafe {
        tiocsptlck(master.as_raw_fd(), &0)?;
        tiocgptn(master.as_raw_fd(), &raw mut number)?;
    }
    Ok(number)
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
