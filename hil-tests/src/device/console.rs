//! A serial console: what it says is kept, and a shell on it runs commands.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll as poll_fd};

use crate::process::{Finished, INTERRUPTED, poll};

/// A command on a slow board may take this long; only a hang takes longer.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// How much is kept; a board that floods its console does not flood our memory.
const KEPT: usize = 1 << 20;
/// How much of it an error shows.
const TAIL: usize = 3000;
/// How often the reader looks whether it is still needed.
const LOOK_MS: u16 = 100;

/// What was said, and by whom nothing more is to come.
#[derive(Default)]
struct Heard {
    bytes: Vec<u8>,
    /// How much was forgotten before that.
    forgotten: usize,
    ended: bool,
}

/// One end of a serial line.
pub struct Console {
    port: File,
    heard: Arc<Mutex<Heard>>,
    done: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    /// How much of what was heard has been looked at.
    looked: usize,
    commands: u32,
}

impl Console {
    /// Listens to a port. What is heard goes to the file `log`, too.
    ///
    /// # Errors
    /// If there is no log, or no thread to listen.
    pub fn new(port: OwnedFd, log: &Path) -> Result<Self> {
        let port = File::from(port);
        let heard = Arc::new(Mutex::default());
        let done = Arc::new(AtomicBool::new(false));
        let log = File::options().create(true).append(true).open(log)?;
        let listener = Listener {
            port: port.try_clone()?,
            log,
            heard: Arc::clone(&heard),
            done: Arc::clone(&done),
        };
        let reader = std::thread::Builder::new().spawn(|| listener.listen())?;
        Ok(Self {
            port,
            heard,
            done,
            reader: Some(reader),
            looked: 0,
            commands: 0,
        })
    }

    /// Types.
    ///
    /// # Errors
    /// If nobody is at the other end.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.port
            .write_all(text.as_bytes())
            .context("the serial line does not take what is typed")
    }

    /// Waits for a text, and gives what came before it. What was looked at once is not looked at
    /// again.
    ///
    /// # Errors
    /// If it does not come, the kernel gives up, or the line is cut; with what was said last.
    pub fn expect(&mut self, text: &str, limit: Duration) -> Result<String> {
        let found = poll(limit, || self.look_for(text));
        match found {
            Some(Ok(before)) => Ok(before),
            Some(Err(why)) => bail!("{why}; last on its console:\n{}", self.tail()),
            None if INTERRUPTED.load(Ordering::Relaxed) => bail!("interrupted"),
            None => bail!(
                "no {text:?} within {limit:?}; last on its console:\n{}",
                self.tail()
            ),
        }
    }

    fn look_for(&mut self, text: &str) -> Option<Result<String, &'static str>> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let from = self.looked.saturating_sub(heard.forgotten);
        let new = heard.bytes.get(from..).unwrap_or_default();
        if let Some(at) = find(new, text.as_bytes()) {
            let before = String::from_utf8_lossy(new.get(..at).unwrap_or_default()).into_owned();
            self.looked = heard.forgotten + from + at + text.len();
            return Some(Ok(before));
        }
        if find(new, b"Kernel panic").is_some() {
            return Some(Err("the kernel has given up"));
        }
        heard.ended.then_some(Err("the line was cut"))
    }

    /// Runs a command in the shell on the line, its output and errors together.
    ///
    /// # Errors
    /// If it does not end, with what was said last.
    pub fn run(&mut self, command: &str) -> Result<Finished> {
        self.commands += 1;
        let id = self.commands;
        // What is typed comes back as an echo, so that it must not look like what is printed. A
        // newline first: whatever somebody else has typed is over. In a shell of its own: an error
        // may end that.
        self.send(&format!(
            "\necho \"<BEG\"IN-{id}\">\"; ({command}\n) 2>&1; echo \"<E\"ND-{id}\" $?>\"\n"
        ))?;
        let within = || format!("on the console: {command}");
        self.expect(&format!("<BEGIN-{id}>"), COMMAND_LIMIT)
            .with_context(within)?;
        let printed = self
            .expect(&format!("<END-{id} "), COMMAND_LIMIT)
            .with_context(within)?;
        let code: i32 = self
            .expect(">", COMMAND_LIMIT)?
            .parse()
            .with_context(within)?;
        let printed = printed.replace("\r\n", "\n").replace('\r', "");
        Ok(Finished {
            status: std::os::unix::process::ExitStatusExt::from_raw(code << 8),
            stdout: printed.strip_prefix('\n').unwrap_or(&printed).to_owned(),
            stderr: String::new(),
        })
    }

    /// What was said last.
    #[must_use]
    pub fn tail(&self) -> String {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let from = heard.bytes.len().saturating_sub(TAIL);
        let tail = String::from_utf8_lossy(heard.bytes.get(from..).unwrap_or_default());
        if tail.trim().is_empty() {
            return "(nothing)".into();
        }
        tail.replace('\r', "")
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

/// Takes what comes, in a thread of its own.
struct Listener {
    port: File,
    log: File,
    heard: Arc<Mutex<Heard>>,
    done: Arc<AtomicBool>,
}

impl Listener {
    fn listen(mut self) {
        let mut buffer = [0; 4096];
        while !self.done.load(Ordering::Relaxed) {
            if !self.is_readable() {
                continue;
            }
            match self.port.read(&mut buffer) {
                // A terminal whose other end is closed says EIO.
                Ok(0) | Err(_) => break,
                Ok(read) => self.take(buffer.get(..read).unwrap_or_default()),
            }
        }
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.ended = true;
    }

    fn is_readable(&self) -> bool {
        let mut fds = [PollFd::new(self.port.as_fd(), PollFlags::POLLIN)];
        poll_fd(&mut fds, PollTimeout::from(LOOK_MS)).is_ok_and(|ready| ready > 0)
    }

    fn take(&mut self, bytes: &[u8]) {
        // A log that cannot be written does not stop anything.
        self.log.write_all(bytes).ok();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.bytes.extend_from_slice(bytes);
        if heard.bytes.len() > 2 * KEPT {
            let gone = heard.bytes.len() - KEPT;
            heard.bytes.drain(..gone);
            heard.forgotten += gone;
        }
    }
}
