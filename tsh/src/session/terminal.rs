//! The user's terminal.
//!
//! During a session with a remote terminal the local one is raw: keys go to the node as they are.
//! [`Raw`] puts it back when dropped, be it at the end, on an error, a signal or a panic; nothing
//! in `tsh` leaves without dropping it.

use std::io::{IsTerminal, Stdin, stdin, stdout};
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use russh::Pty;
use terminal_size::{Height, Width, terminal_size, terminal_size_of};

mod modes;

/// Columns and rows of a terminal that has none to tell.
const DEFAULT_SIZE: Size = Size {
    columns: 80,
    rows: 24,
};

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: u32,
    pub(super) rows: u32,
}

/// Whether standard input is a terminal.
pub(super) fn is_input() -> bool {
    stdin().is_terminal()
}

/// Whether standard output is a terminal that does what it is told.
pub(super) fn is_screen() -> bool {
    stdout().is_terminal() && kind() != "dumb"
}

/// The size of the terminal now.
pub(super) fn size() -> Size {
    let known = terminal_size_of(stdin()).or_else(terminal_size);
    known.map_or(DEFAULT_SIZE, |(Width(columns), Height(rows))| Size {
        columns: columns.into(),
        rows: rows.into(),
    })
}

/// How the terminal is set, for the remote one to be set alike.
pub(super) fn modes() -> Vec<(Pty, u32)> {
    tcgetattr(stdin().as_fd()).map_or_else(|_| Vec::new(), |termios| modes::encode(&termios))
}

/// What the remote terminal should know of this one, beyond its type and size.
pub(super) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name == "LANG" || name.starts_with("LC_"))
        .collect()
}

/// The type of the terminal.
pub(super) fn kind() -> String {
    let term = std::env::var("TERM").ok().filter(|term| !term.is_empty());
    term.unwrap_or_else(|| "xterm".to_owned())
}

/// A raw terminal, until dropped.
pub(super) struct Raw {
    terminal: Stdin,
    before: Termios,
}

impl Raw {
    /// Makes standard input raw.
    pub(super) fn enter() -> Result<Self> {
        let terminal = stdin();
        let before = tcgetattr(terminal.as_fd()).context("Cannot read the terminal's settings")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(terminal.as_fd(), SetArg::TCSADRAIN, &raw)
            .context("Cannot change the terminal's settings")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal.as_fd(), SetArg::TCSADRAIN, &self.before);
    }
}
