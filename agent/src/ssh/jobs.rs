//! Programs of a session: started as the OS user, with pipes or on a terminal.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

use super::Dial;
use super::environment::{Wished, complete};
use super::program::{Program, Watch};
use super::terminal::{Wanted, apply};
use crate::sys::{self, Account};

/// What a client wants to run.
#[derive(Debug, Clone, Copy)]
pub(super) enum What<'a> {
    /// A login shell.
    Shell,
    /// A command line for the shell.
    Command(&'a [u8]),
}

/// A started program.
pub(super) struct Job {
    /// The process; it leads a session and a group of its own.
    pub(super) program: Program,
    /// Its terminal, if it has one; else pipes.
    pub(super) terminal: Option<AsyncFd<OwnedFd>>,
    pub(super) pipes: Pipes,
}

/// What a program without a terminal reads and writes.
#[derive(Default)]
pub(super) struct Pipes {
    pub(super) stdin: Option<ChildStdin>,
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
}

/// Starts a program.
///
/// # Errors
/// If there is no pty left, or the shell cannot be started.
pub(super) fn start(
    what: What<'_>,
    account: &Account,
    dial: &Dial,
    wished: &Wished,
    wanted: Option<&Wanted>,
) -> io::Result<Job> {
    let mut command = Command::new(&account.shell);
    let name = account.shell.file_name().unwrap_or(OsStr::new("sh"));
    match what {
        // A leading dash makes a shell a login shell; login(1) does the same.
        What::Shell => command.arg0(dashed(name)),
        What::Command(line) => command.arg0(name).arg("-c").arg(OsStr::from_bytes(line)),
    };
    command.env_clear().envs(complete(account, dial, wished));
    let home = Path::new(&account.home);
    command.current_dir(if home.is_dir() { home } else { Path::new("/") });
    let terminal = match wanted {
        Some(wanted) => Some(on_terminal(&mut command, account, wanted)?),
        None => {
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            None
        }
    };
    sys::become_user(&mut command, account, terminal.is_some());
    let watch = Watch::new()?;
    let mut child = command.spawn()?;
    let pipes = Pipes::of(&mut child).inspect_err(|_| {
        // It ends at once.
        let _ = child.kill().and_then(|()| child.wait());
    })?;
    Ok(Job {
        program: watch.started(Pid::from_raw(child.id().cast_signed()), account.uid),
        terminal,
        pipes,
    })
}

impl Pipes {
    fn of(child: &mut Child) -> io::Result<Self> {
        Ok(Self {
            stdin: child.stdin.take().map(ChildStdin::from_std).transpose()?,
            stdout: child.stdout.take().map(ChildStdout::from_std).transpose()?,
            stderr: child.stderr.take().map(ChildStderr::from_std).transpose()?,
        })
    }
}

fn on_terminal(
    command: &mut Command,
    account: &Account,
    wanted: &Wanted,
) -> io::Result<AsyncFd<OwnedFd>> {
    let pty = sys::open_pty(wanted.size.into(), account)?;
    let mut termios = tcgetattr(&pty.slave)?;
    apply(&wanted.modes, &mut termios);
    tcsetattr(&pty.slave, SetArg::TCSANOW, &termios)?;
    command.env("TERM", &wanted.term).env("SSH_TTY", &pty.path);
    command
        .stdin(pty.slave.try_clone()?)
        .stdout(pty.slave.try_clone()?)
        .stderr(pty.slave);
    sys::watch(pty.master)
}

fn dashed(name: &OsStr) -> OsString {
    let mut dashed = OsString::from("-");
    dashed.push(name);
    dashed
}
