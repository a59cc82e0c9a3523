//! Somebody who types at a terminal on the device, a line a second, whether anything comes back or
//! not.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hil_tests::process::poll;

use crate::bench::links::{Side, wait};

/// Gives each line back, with what tells the program from any other.
const PROGRAM: &str = "stty raw -echo; echo $$; while read -r line; do echo $$ $line; done";
/// A session must be there, and go on once it does, within this time.
const READY: Duration = Duration::from_mins(1);
/// Between two lines.
const PAUSE: Duration = Duration::from_secs(1);

/// What came back, and when.
type Echoes = Arc<Mutex<Vec<(Instant, String)>>>;

/// See the [module](self).
pub(super) struct Typist {
    client: Child,
    echoes: Echoes,
    typed: Arc<AtomicU64>,
    reading: JoinHandle<()>,
}

impl Typist {
    /// Waits until the first line has come back.
    pub(super) fn start(side: &dyn Side) -> Result<Self> {
        let mut command = side.client_with(&["-tt"], PROGRAM)?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut client = command.spawn()?;
        let input = client.stdin.take().context("no input")?;
        let output = client.stdout.take().context("no output")?;
        let (echoes, typed) = (Echoes::default(), Arc::<AtomicU64>::default());
        let (into, count) = (Arc::clone(&echoes), Arc::clone(&typed));
        let typist = Self {
            client,
            echoes,
            typed,
            reading: thread::spawn(move || read(output, &into)),
        };
        // The program's own line: what is typed before it may be lost with the modes it sets.
        let started = poll(READY, || (!typist.echoes().is_empty()).then_some(()));
        ensure!(started.is_some(), "{}: no session", side.name());
        thread::spawn(move || write(input, &count));
        let echoed = poll(READY, || (typist.echoes().len() > 1).then_some(()));
        ensure!(echoed.is_some(), "{}: no echo", side.name());
        Ok(typist)
    }

    fn echoes(&self) -> MutexGuard<'_, Vec<(Instant, String)>> {
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many lines have come back since then.
    pub(super) fn echoes_since(&self, start: Instant) -> usize {
        let echoes = self.echoes();
        echoes.iter().filter(|(at, _)| *at >= start).count()
    }

    /// The time from `start` to the first line that came back after it; nothing if the session is
    /// over, or goes on later than that.
    pub(super) fn first_echo(&self, start: Instant, patience: Duration) -> Option<Duration> {
        let left = patience.saturating_sub(start.elapsed());
        poll(left, || {
            // Looked at first: what it has read counts.
            let over = self.reading.is_finished();
            let echoes = self.echoes();
            let first = echoes.iter().find(|(at, _)| *at >= start);
            let time = first.map(|(at, _)| *at - start);
            (over || time.is_some()).then_some(time)
        })
        .flatten()
    }

    /// Whether the session goes on: lines typed from now on come back, and every line has come back
    /// once, in order, and from the same program.
    pub(super) fn goes_on(&self) -> bool {
        let wanted = usize::try_from(self.typed.load(Ordering::Relaxed) + 1).unwrap_or(usize::MAX);
        let back = poll(READY, || {
            let over = self.reading.is_finished();
            let there = self.echoes().len() > wanted;
            (over || there).then_some(there)
        });
        back == Some(true) && self.is_whole()
    }

    fn is_whole(&self) -> bool {
        let echoes = self.echoes();
        let mut lines = echoes.iter().map(|(_, line)| line);
        let Some(program) = lines.next() else {
            return false;
        };
        lines
            .zip(0u64..)
            .all(|(line, number)| *line == format!("{program} {number}"))
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        self.client.kill().ok();
        self.client.wait().ok();
    }
}

/// Reads until the session is over.
fn read(output: ChildStdout, into: &Echoes) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { return };
        let now = Instant::now();
        let mut echoes = into.lock().unwrap_or_else(PoisonError::into_inner);
        echoes.push((now, line.trim().to_owned()));
    }
}

/// Types until nobody listens any more.
fn write(mut input: ChildStdin, typed: &AtomicU64) {
    loop {
        let number = typed.load(Ordering::Relaxed);
        if input.write_all(format!("{number}\n").as_bytes()).is_err() {
            return;
        }
        typed.store(number + 1, Ordering::Relaxed);
        wait(PAUSE);
    }
}
