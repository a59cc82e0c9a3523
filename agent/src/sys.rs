//! The operating system: accounts, terminals, processes, the clock, CPU features. The only unsafe code
//! of the agent.
//!
//! `unsafe` is needed where a child process changes its identity between fork and exec, where a
//! thread does for a moment, for a copy of this process and descriptors that come from others, for
//! a few ioctls and a socket option, and to stand in for two functions of the C library; each place
//! says why it is sound.
#![allow(
    unsafe_code,
    reason = "fork hooks, ioctls and C functions have no safe form; each says why it is sound"
)]

mod account;
pub(crate) mod clock;
mod copy;
mod pty;
mod signal;
mod tcp;
#[cfg(target_env = "musl")]
mod thread;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::{getegid, geteuid, setgid, setgroups, setsid, setuid};
use tokio::io::unix::AsyncFd;

pub(crate) use account::Account;
pub(crate) use copy::{
    Child, children, fork, inherited, is_alone, memory, reap, receive_with, send_with,
    set_inherited,
};
pub(crate) use pty::{open_pty, resize};
pub(crate) use signal::signal_as;
pub(crate) use tcp::{HEADER_WITH_TIMESTAMPS, beside_payload};

/// Whether AES-GCM is fast here. Where it is not, ChaCha20 is several times faster.
pub(crate) fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    let found = std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let found = std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found = false;
    found
}

/// Lets the runtime say when something can be read and written.
pub(crate) fn watch(open: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the `AsyncFd` owns the descriptor, so it stays open for as long as it is registered.
    Ok(unsafe { AsyncFd::register(open) }?)
}

/// Lets a command run as another user, in a session of its own; with `terminal`, its standard
/// input becomes the session's controlling terminal.
pub(crate) fn become_user(command: &mut Command, account: &Account, terminal: bool) {
    let (uid, gid) = (account.uid.into(), account.gid.into());
    let groups = account.groups.clone();
    let switch = geteuid().is_root();
    let hook = move || {
        setsid()?;
        if terminal {
            pty::take_as_controlling_terminal()?;
        }
        if switch {
            // Groups first: they need the right that setuid gives up.
            setgroups(&groups)?;
            setgid(gid)?;
            setuid(uid)?;
        }
        if geteuid() == uid && (!switch || getegid() == gid) {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::PermissionDenied))
        }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are made (setsid, ioctl, setgroups,
    // setgid, setuid, getuid are system calls); `groups` was allocated before the fork, and
    // `io::Error` from an errno or a kind does not allocate.
    unsafe {
        command.pre_exec(hook);
    }
}
