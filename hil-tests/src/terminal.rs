//! A terminal with a person in front of it: tmux, with a server of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::{Person, READY};
use crate::process::{poll, run};

/// Columns and rows of a new terminal.
const SIZE: (&str, &str) = ("100", "30");

/// A terminal in which a line runs.
pub struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// Opens a terminal in which a shell runs `line` as this person, says how it ended, and then
    /// shows what is typed.
    ///
    /// # Errors
    /// If there is no tmux.
    pub fn open(person: &Person, line: &str) -> Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        std::fs::create_dir_all(&person.home)?;
        let terminal = Self {
            socket: person.home.join(format!("tmux-{number}")),
        };
        let path = std::env::var("PATH").context("no PATH")?;
        let mut command = person.program(Path::new("tmux"));
        command
            .arg("-S")
            .arg(&terminal.socket)
            .args(["-u", "-f", "/dev/null", "new-session", "-d", "-s", "t"])
            .args(["-x", SIZE.0, "-y", SIZE.1])
            .arg(format!("{line}; echo ended with $?; exec cat"))
            .env("PATH", format!("{}:{path}", person.bin().display()));
        run(&mut command, b"")?.ok()?;
        Ok(terminal)
    }

    /// Presses keys, by the names that tmux has for them.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        self.tmux(&[&["send-keys", "-t", "t"], keys].concat())?;
        Ok(())
    }

    /// Types text, and nothing after it.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn type_text(&self, text: &str) -> Result<()> {
        self.press(&["-l", text])
    }

    /// Types text and Enter.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn enter(&self, line: &str) -> Result<()> {
        self.type_text(line)?;
        self.press(&["Enter"])
    }

    /// What there is to see; lines that are too long for it are whole.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-J", "-t", "t"])
    }

    /// All that there is to see: text with its colours, the cursor, and which screen it is.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn look(&self) -> Result<String> {
        let screen = self.tmux(&["capture-pane", "-p", "-e", "-t", "t"])?;
        Ok(format!("{screen}{}", self.cursor()?))
    }

    /// Where the cursor is, as column and row from 0, and which screen it is on.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn cursor(&self) -> Result<String> {
        let format = "#{cursor_x},#{cursor_y} #{?alternate_on,alternate,main} screen, \
                      cursor #{?cursor_flag,shown,hidden}";
        self.tmux(&["display-message", "-p", "-t", "t", format])
    }

    /// Waits until there is something to see.
    ///
    /// # Errors
    /// If it does not come, with what is there.
    pub fn wait_for(&self, text: &str) -> Result<()> {
        match poll(READY, || self.screen().ok()?.contains(text).then_some(())) {
            Some(()) => Ok(()),
            None => bail!("no {text:?} on the screen:\n{}", self.screen()?),
        }
    }

    /// Changes its size.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.tmux(&["resize-window", "-t", "t", "-x", &columns, "-y", &rows])?;
        Ok(())
    }

    /// Whether keys go to the program as they are, unseen.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn is_raw(&self) -> Result<bool> {
        let device = self.tmux(&["display-message", "-p", "-t", "t", "#{pane_tty}"])?;
        let mut stty = Command::new("stty");
        let modes = run(stty.args(["-F", device.trim(), "-a"]), b"")?.ok()?;
        let mut modes = modes.split(&[' ', ';', '\n'][..]);
        Ok(modes.clone().any(|mode| mode == "-icanon") && modes.any(|mode| mode == "-echo"))
    }

    /// Sends a signal to the program that the line has started.
    ///
    /// # Errors
    /// If there is none.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let shell = self.tmux(&["display-message", "-p", "-t", "t", "#{pane_pid}"])?;
        let shell = shell.trim();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
        let child = children.split_whitespace().next().context("no program")?;
        Ok(kill(Pid::from_raw(child.parse()?), signal)?)
    }

    fn tmux(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("tmux");
        run(command.arg("-S").arg(&self.socket).args(args), b"")?.ok()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]).ok();
    }
}
