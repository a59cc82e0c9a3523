//! One link under load: bulk from the device, and lines that are echoed by it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use hil_tests::net::emulator::Shape;

use super::{ORDINARY, Side, wait};
use crate::bench::report::{Limit, Table};

/// Until the sender has found its rate.
const WARM_UP: Duration = Duration::from_secs(10);
const TIME: Duration = Duration::from_secs(60);
/// Between an echo and the next line.
const PAUSE: Duration = Duration::from_millis(100);

/// What the device is behind.
pub(super) fn links() -> [(&'static str, Shape); 4] {
    let shape = |rate, round_trip, loss, queue| Shape {
        rate: Some(rate),
        queue,
        ..Shape::lossy(Duration::from_millis(round_trip), loss)
    };
    [
        (LIMITED, Shape::cellular()),
        (
            "50 Mbit/s, 20 ms, no loss",
            shape(50_000_000, 20, 0.0, 256 << 10),
        ),
        (
            "1 Mbit/s, 600 ms, 1 % loss, shallow queue",
            shape(1_000_000, 600, 0.01, 16 << 10),
        ),
        (
            "1 Mbit/s, 600 ms, 1 % loss, deep queue",
            shape(1_000_000, 600, 0.01, 1 << 20),
        ),
    ]
}

/// The link that has limits: of what autossh does on the ordinary congestion control, or on bbr.
const LIMITED: &str = "5 Mbit/s, 200 ms, 2 % loss";
const CUBIC_LEAST: f64 = 4.0;
const BBR_LEAST: f64 = 1.0;
const P50_MOST: f64 = 1.0 / 3.0;
const P99_MOST: f64 = 1.0 / 2.0;

/// Both sides on one link, the peer with this congestion control.
pub(super) fn tell(link: &str, control: &str, ours: &Loaded, peer: &Loaded, table: &mut Table) {
    let name = |what| format!("{link}, {control}: {what}");
    let limit = |limit| if link == LIMITED { limit } else { Limit::None };
    let least = if control == ORDINARY {
        CUBIC_LEAST
    } else {
        BBR_LEAST
    };
    let rates = (&[ours.rate][..], &[peer.rate][..]);
    table.medians(
        &name("bulk"),
        "Mbit/s",
        rates,
        limit(Limit::TimesAtLeast(least)),
    );
    for (what, share, most) in [("echo p50", 0.5, P50_MOST), ("echo p99", 0.99, P99_MOST)] {
        let echoes = (&[ours.quantile(share)][..], &[peer.quantile(share)][..]);
        table.medians(&name(what), "ms", echoes, limit(Limit::TimesAtMost(most)));
    }
}

/// What was seen.
pub(super) struct Loaded {
    /// Bulk, in Mbit/s.
    pub(super) rate: f64,
    /// Each line's way there and back, in ms, shortest first.
    pub(super) echoes: Vec<f64>,
}

impl Loaded {
    /// The echo that this share of them was no longer than.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let at = (self.echoes.len() as f64 * share) as usize;
        let last = self.echoes.last();
        *self.echoes.get(at).or(last).unwrap_or(&f64::NAN)
    }
}

/// Ends its program.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub(super) fn measure(side: &dyn Side) -> Result<Loaded> {
    let (mut typist, mut keys, mut screen) = start(side, "cat")?;
    echo(&mut keys, &mut screen).context("no echo")?;
    let (bulk, _, mut bytes) = start(side, "cat /dev/urandom")?;
    let received = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(read @ 1..) = bytes.read(&mut buffer) {
                received.fetch_add(read as u64, Ordering::Relaxed);
            }
        });
        let seen = scope.spawn(|| {
            wait(WARM_UP);
            let (start, before) = (Instant::now(), received.load(Ordering::Relaxed));
            let mut echoes = Vec::new();
            while start.elapsed() < TIME {
                echoes.push(echo(&mut keys, &mut screen)?.as_secs_f64() * 1000.0);
                wait(PAUSE);
            }
            let bytes = received.load(Ordering::Relaxed) - before;
            let rate = bytes as f64 * 8e-6 / start.elapsed().as_secs_f64();
            echoes.sort_by(f64::total_cmp);
            anyhow::Ok(Loaded { rate, echoes })
        });
        // An echo that never comes is one that took very long.
        let end = WARM_UP + TIME * 3;
        hil_tests::process::poll(end, || seen.is_finished().then_some(()));
        drop(bulk);
        typist.0.kill()?;
        let seen = seen.join().map_err(|_| anyhow::anyhow!("panicked"))?;
        seen.context("a line was not echoed")
    })
}

fn start(side: &dyn Side, command: &str) -> Result<(Running, ChildStdin, BufReader<ChildStdout>)> {
    let mut client = side.client(command)?;
    client.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = Running(client.spawn()?);
    let input = running.0.stdin.take().context("no input")?;
    let output = running.0.stdout.take().context("no output")?;
    Ok((running, input, BufReader::new(output)))
}

fn echo(keys: &mut ChildStdin, screen: &mut impl BufRead) -> Result<Duration> {
    let start = Instant::now();
    keys.write_all(b"x\n")?;
    let mut line = String::new();
    ensure!(screen.read_line(&mut line)? > 0, "the session has ended");
    Ok(start.elapsed())
}
