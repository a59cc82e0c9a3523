//! Running programs: bounded in time, output collected, nothing left behind.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A single command may take this long on a busy machine; only a hang takes longer.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// A program told to stop gets this long before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// What a command did.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Exit code; 128 and the signal's number if it was killed.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// The standard output of a command that should have succeeded.
    ///
    /// # Errors
    /// If it has not, with all it printed.
    pub fn ok(self) -> Result<String> {
        if !self.status.success() {
            bail!("exit code {}\n{}{}", self.code(), self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }

    /// Makes sure that a command has failed, in this way.
    ///
    /// # Errors
    /// If it has not, with all it printed.
    pub fn refused(&self, code: i32, sentence: &str) -> Result<()> {
        let said = self.code() == code && self.stderr.contains(sentence);
        ensure!(said, "expected {code} and {sentence:?}: {self:?}");
        Ok(())
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            status: output.status,
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

/// Runs a command to its end, with `input` on its standard input.
///
/// # Errors
/// If it cannot be started or does not end within [`COMMAND_LIMIT`].
pub fn run(command: &mut Command, input: &[u8]) -> Result<Finished> {
    run_for_bytes(command, input).map(Finished::from)
}

/// As [`run`], for output that is no text.
///
/// # Errors
/// As [`run`].
pub fn run_for_bytes(command: &mut Command, input: &[u8]) -> Result<Output> {
    let shown = format!("{command:?}");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| shown.clone())?;
    let stdin = child.stdin.take();
    let input = input.to_vec();
    let feed = thread::spawn(move || stdin.map(|mut pipe| pipe.write_all(&input)));
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = wait(&mut child, COMMAND_LIMIT);
    if status.is_none() {
        child.kill().ok();
        child.wait().ok();
    }
    // A program that does not read its input makes the write fail; that is its right.
    feed.join().ok();
    let (stdout, stderr) = (
        stdout.join().unwrap_or_default(),
        stderr.join().unwrap_or_default(),
    );
    let status = status.with_context(|| {
        let said = [&stdout[..], &stderr].concat();
        format!("did not end: {shown}\n{}", String::from_utf8_lossy(&said))
    })?;
    Ok(Output {
        status,
        stdout,
        stderr,
    })
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).ok();
        }
        bytes
    })
}

/// Waits for a child to end by itself.
///
/// # Errors
/// If it does not end within [`COMMAND_LIMIT`]; it is killed then.
pub fn end_of(mut child: Child) -> Result<Finished> {
    if wait(&mut child, COMMAND_LIMIT).is_none() {
        child.kill()?;
        bail!("did not end: {:?}", child.wait_with_output()?);
    }
    Ok(child.wait_with_output()?.into())
}

fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    poll(limit, || child.try_wait().ok().flatten())
}

/// Set by a program that was told to stop: whatever is waited for then fails, and owners clean up.
pub static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Looks until there is something to see.
pub fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if Instant::now() >= end || INTERRUPTED.load(Ordering::Relaxed) {
            return None;
        }
        thread::sleep(LOOK);
    }
}

/// A program that runs until its owner is done with it; its output goes to a file.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until `ready` gives something.
    ///
    /// # Errors
    /// If the program ends first or `limit` passes; with its log.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let child = &mut self.child;
        let seen = poll(limit, || match child.try_wait() {
            Ok(Some(status)) => Some(Err(status)),
            _ => ready().map(Ok),
        });
        match seen {
            Some(Ok(seen)) => Ok(seen),
            Some(Err(status)) => bail!("ended ({status}) before: {what}\n{}", self.log()),
            None => bail!("not within {limit:?}: {what}\n{}", self.log()),
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.id())?), signal)?)
    }

    /// Asks it to stop, and kills it if it does not.
    ///
    /// # Errors
    /// If it had to be killed.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        wait(&mut self.child, STOP_LIMIT).with_context(|| format!("did not stop\n{}", self.log()))
    }

    /// Kills it at once.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGTERM).ok();
            wait(&mut self.child, Duration::from_secs(4));
            self.end();
        }
    }
}
