//! The same session with the layer that keeps it and without, in turn, so that a busy moment of the
//! machine hits both; the median counts.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hil_tests::net::emulator::Shape;

use super::setting::{Setting, User};
use super::{ROUND_TRIP, usual};
use crate::bench::report::{Limit, Table};
use crate::bench::{BULK, GIB, Options, median, openssh, proc, write_bulk};
use ::cross::shell::say;

/// Name of the other side.
pub(super) const OTHER: &str = "without layer";
/// Round trips of its person's link that a session without the layer takes longer than it would
/// without a cluster that has one: `tsh` asks for it first, and is told that there is none.
const REFUSAL: f64 = 1.0;
const MIB: f64 = (1u64 << 20) as f64;

/// Runs both so often, in turn, and not always in the same order. The first of each warms caches
/// and counts for nothing.
fn in_turn<T>(
    runs: usize,
    setting: &Setting,
    mut run: impl FnMut(&User) -> Result<T>,
) -> Result<(Vec<T>, Vec<T>)> {
    let (with, without) = (&setting.with, &setting.without);
    run(with)?;
    run(without)?;
    let mut seen = (Vec::new(), Vec::new());
    for number in 0..runs {
        if number % 2 == 0 {
            seen.0.push(run(with)?);
            seen.1.push(run(without)?);
        } else {
            seen.1.push(run(without)?);
            seen.0.push(run(with)?);
        }
    }
    Ok(seen)
}

/// Each run of both sides.
type Runs = (Vec<f64>, Vec<f64>);
type Pick = fn(&SetUp) -> &Runs;

/// Times of sessions that say a word, in ms.
struct SetUp {
    /// Until the word is there.
    word: Runs,
    /// Until the client has ended.
    whole: Runs,
}

/// Time and round trips until a session's first word, and until its end: what a round trip more of
/// either link adds is how many there are.
pub(super) fn set_up(setting: &Setting, options: &Options) -> Result<Table> {
    say("set-up ...");
    let runs = options.runs * 2;
    let slow = Shape::lossy(ROUND_TRIP, 0.0);
    let fast = set_ups(setting, runs)?;
    setting.links.shape(slow);
    let device = set_ups(setting, runs);
    setting.links.shape(Shape::default());
    setting.away.shape(slow);
    let person = set_ups(setting, runs);
    setting.away.shape(Shape::default());
    let (device, person) = (device?, person?);
    let mut table = Table::beside(OTHER);
    // The client's end is no set-up: it tells how long `tsh` waits until the cluster knows.
    for (what, of, limit) in [
        ("first word", SetUp::word as Pick, Limit::NoneExtra),
        ("end of the client", SetUp::whole, Limit::None),
    ] {
        let (ours, other) = of(&fast);
        let name = format!("set-up to {what}, links without delay");
        table.medians(&name, "ms", (ours, other), Limit::None);
        for (link, slow, off) in [("device", &device, 0.0), ("person", &person, REFUSAL)] {
            let (slow_ours, slow_other) = of(slow);
            let ours = trips(slow_ours, ours);
            let other = trips(slow_other, other).map(|trips| trips - off);
            let name = format!("round trips to {what}, {link}'s link");
            table.medians(&name, "", (&ours, &other), limit);
        }
    }
    Ok(table)
}

impl SetUp {
    const fn word(&self) -> &Runs {
        &self.word
    }

    const fn whole(&self) -> &Runs {
        &self.whole
    }
}

fn trips(slow: &[f64], fast: &[f64]) -> [f64; 1] {
    let more = median(slow.to_vec()) - median(fast.to_vec());
    [more / 1000.0 / ROUND_TRIP.as_secs_f64()]
}

fn set_ups(setting: &Setting, runs: usize) -> Result<SetUp> {
    let (ours, other) = in_turn(runs, setting, |user| word(user.far("echo up")?))?;
    let of = |pick: fn(&(f64, f64)) -> f64| {
        let all = |runs: &[(f64, f64)]| runs.iter().map(pick).collect::<Vec<_>>();
        (all(&ours), all(&other))
    };
    Ok(SetUp {
        word: of(|(word, _)| *word),
        whole: of(|(_, whole)| *whole),
    })
}

/// When the first byte comes, and when the client ends, in ms.
fn word(mut command: Command) -> Result<(f64, f64)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let start = Instant::now();
    let passed = || start.elapsed().as_secs_f64() * 1000.0;
    let mut client = command.spawn()?;
    let mut output = client.stdout.take().context("no output")?;
    let read = output.read_exact(&mut [0]);
    let word = passed();
    let status = client.wait()?;
    read?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok((word, passed()))
}

/// A link, and how much is moved over it.
struct Way {
    name: &'static str,
    shape: Shape,
    bytes: u64,
    /// Whether moving takes more of the processors than everything around it.
    counts_cpu: bool,
}

const DIRECTIONS: [&str; 2] = ["from the device", "to the device"];

impl Way {
    fn bulk(&self, direction: &str) -> String {
        format!("bulk {direction}, {}", self.name)
    }

    /// What `--only` looks at.
    fn wanted(&self, direction: &str) -> String {
        format!("cost of {}", self.bulk(direction))
    }
}

fn ways() -> [Way; 4] {
    [
        // Where the processors are the limit.
        Way {
            name: "no delay",
            shape: Shape::default(),
            bytes: BULK,
            counts_cpu: true,
        },
        Way {
            name: "50 Mbit/s, 20 ms",
            shape: Shape {
                rate: Some(50_000_000),
                queue: 256 << 10,
                ..Shape::lossy(Duration::from_millis(20), 0.0)
            },
            bytes: 32 << 20,
            counts_cpu: true,
        },
        Way {
            name: "5 Mbit/s, 100 ms",
            shape: usual(),
            bytes: 4 << 20,
            counts_cpu: false,
        },
        Way {
            name: "5 Mbit/s, 200 ms, 2 % loss",
            shape: Shape::cellular(),
            bytes: 8 << 20,
            counts_cpu: false,
        },
    ]
}

/// What is moved a second, and what a byte costs.
pub(super) fn bulk(setting: &Setting, options: &Options, dir: &Path) -> Result<Table> {
    let mut table = Table::beside(OTHER);
    for way in ways() {
        let path = dir.join("bulk");
        write_bulk(&path, way.bytes)?;
        let path = path.to_str().context("path is not UTF-8")?;
        let down = format!("cat {path}");
        let [from, to] = DIRECTIONS;
        for (direction, command, stdin) in [
            (from, down.as_str(), "/dev/null"),
            (to, "cat > /dev/null", path),
        ] {
            if !options.wants(&way.wanted(direction)) {
                continue;
            }
            let name = way.bulk(direction);
            say(&format!("{name} ..."));
            setting.links.shape(way.shape);
            let seen = in_turn(options.runs, setting, |user| {
                moved(setting, user.near(command)?, stdin, way.bytes)
            });
            setting.links.shape(Shape::default());
            let (ours, other) = seen?;
            let of = |pick: fn(&(f64, f64)) -> f64| {
                let all = |runs: &[(f64, f64)]| runs.iter().map(pick).collect::<Vec<_>>();
                (all(&ours), all(&other))
            };
            let (ours, other) = of(|(rate, _)| *rate);
            table.medians(&name, "MiB/s", (&ours, &other), Limit::TimesAtLeast(0.97));
            if way.counts_cpu {
                let (ours, other) = of(|(_, cpu)| *cpu);
                let name = format!("CPU, {name}");
                table.medians(&name, "s/GiB", (&ours, &other), Limit::TimesAtMost(1.05));
            }
        }
    }
    Ok(table)
}

/// MiB a second, and CPU seconds of client, cluster and agent for a GiB.
fn moved(setting: &Setting, mut tsh: Command, stdin: &str, bytes: u64) -> Result<(f64, f64)> {
    let before = proc::own_cpu_seconds(&setting.daemons())?;
    let start = Instant::now();
    openssh::to_end(&mut tsh, stdin, "/dev/null")?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = proc::own_cpu_seconds(&setting.daemons())? - before;
    let bytes = bytes as f64;
    Ok((bytes / MIB / seconds, cpu * GIB / bytes))
}
