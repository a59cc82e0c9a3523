//! Sessions whose device is cut off, moves meanwhile or not, and is told that it is back or not.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use hil_tests::net::emulator::{Emulator, Interface};

use super::typist::Typist;
use super::{ROUND_TRIP, usual};
use crate::bench::Options;
use crate::bench::links::ours::Ours;
use crate::bench::links::peer::Peer;
use crate::bench::links::{ORDINARY, STEP, settle, wait};
use crate::bench::report::{Limit, NEVER, Table};
use ::cross::shell::say;

/// Cuts in seconds, and how often each is made at most.
const CUTS: [(u64, usize); 3] = [(10, 5), (60, 3), (300, 2)];
/// What a side gets to go on.
const PATIENCE: Duration = Duration::from_secs(120);
/// Somebody types for so long before a cut.
const BEFORE: Duration = Duration::from_secs(5);
/// What was under way when the link was cut has arrived by then.
const ARRIVED: Duration = Duration::from_secs(1);
/// The first echo, if nothing tells that the path is back.
const UNTOLD_LIMIT: Duration = Duration::from_secs(2);
/// The same beyond two round trips, if something tells.
const TOLD_LIMIT: Duration = Duration::from_millis(100);

/// What a cut is like.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    /// The device loses its carrier, and gets it back with the path. Otherwise it sees nothing.
    told: bool,
    /// It has another address from the middle of the cut on.
    moves: bool,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "told",
        told: true,
        moves: false,
    },
    Kind {
        name: "told, new address",
        told: true,
        moves: true,
    },
    Kind {
        name: "not told",
        told: false,
        moves: false,
    },
    Kind {
        name: "not told, new address",
        told: false,
        moves: true,
    },
];

impl Kind {
    fn limit(self) -> Duration {
        if self.told {
            2 * ROUND_TRIP + TOLD_LIMIT
        } else {
            UNTOLD_LIMIT
        }
    }
}

/// Times to the first echo, in seconds.
#[derive(Default)]
struct Times {
    ours: Vec<f64>,
    peer: Vec<f64>,
    /// Runs that ended with an error.
    failed: usize,
}

/// A device with both sides on it, for one kind of cuts.
struct Device {
    kind: Kind,
    links: Arc<Emulator>,
    ours: Ours,
    peer: Peer,
}

/// All kinds at once, each on a device and with a cluster of its own; one cut after the other.
pub(super) fn measure(options: &Options, dir: &Path, bin: &Path) -> Result<Table> {
    let devices = KINDS.map(|kind| Device::start(kind, dir, bin));
    let devices: Vec<_> = devices.into_iter().collect::<Result<_>>()?;
    let seen: Result<Vec<_>> = thread::scope(|scope| {
        let runs = devices
            .iter()
            .map(|device| scope.spawn(move || device.cuts(options.runs)));
        let runs: Vec<_> = runs.collect();
        let ends = runs.into_iter().map(|run| run.join());
        ends.map(|end| end.map_err(|_| anyhow!("panicked")))
            .collect()
    });
    let mut table = Table::beside("autossh");
    for (device, times) in devices.iter().zip(seen?) {
        tell(device.kind, &times, &mut table);
    }
    Ok(table)
}

fn tell(kind: Kind, times: &[Times], table: &mut Table) {
    for ((seconds, _), Times { ours, peer, failed }) in CUTS.iter().zip(times) {
        let name = |what| format!("cut of {seconds} s, {}: {what}", kind.name);
        if *failed > 0 {
            let failed = &[*failed as f64][..];
            table.medians(
                &name("not measured"),
                "runs",
                (failed, &[]),
                Limit::AtMost(0.0),
            );
        }
        if ours.is_empty() {
            continue;
        }
        let kept = |times: &[f64]| {
            let kept = times.iter().filter(|time| **time != NEVER).count();
            100.0 * kept as f64 / times.len() as f64
        };
        let both = (&ours[..], &peer[..]);
        let limit = kind.limit().as_secs_f64();
        table.add(&name("kept"), "%", both, kept, Limit::AtLeast(100.0));
        table.medians(&name("echo, median"), "s", both, Limit::AtMost(limit));
        table.worst(&name("echo, worst"), "s", both, Limit::AtMost(limit));
    }
}

impl Device {
    fn start(kind: Kind, dir: &Path, bin: &Path) -> Result<Self> {
        let links = Arc::new(Emulator::new(super::SEED)?);
        links.use_congestion_control(ORDINARY)?;
        links.shape(usual());
        let dir = dir.join(kind.name.replace([' ', ','], "-"));
        let ours = Ours::start(&dir.join("tether"), bin, &links, None)?;
        let peer = Peer::start(&dir.join("openssh"), &links, ours.accounts())?;
        Ok(Self {
            kind,
            links,
            ours,
            peer,
        })
    }

    fn cuts(&self, runs: usize) -> Vec<Times> {
        let mut all = Vec::new();
        for (seconds, most) in CUTS {
            let runs = runs.min(most);
            let mut times = Times::default();
            for run in 0..runs {
                let name = format!("cut of {seconds} s, {}", self.kind.name);
                let done = self.cut(Duration::from_secs(seconds), run, &mut times);
                times.failed += usize::from(done.is_err());
                let seen = (times.ours.last(), times.peer.last());
                let run = run + 1;
                say(&match done {
                    Ok(()) => format!("{name}, run {run} of {runs}: echo after {seen:.2?} s"),
                    // The others have taken as long to be measured.
                    Err(error) => format!("{name}, run {run} of {runs}: error: {error:#}"),
                });
            }
            all.push(times);
        }
        all
    }

    fn cut(&self, time: Duration, run: usize, times: &mut Times) -> Result<()> {
        settle(&self.ours, &self.peer)?;
        let (ours, peer) = (Typist::start(&self.ours)?, Typist::start(&self.peer)?);
        // At another moment of the keepalives each time.
        wait(BEFORE + STEP * u32::try_from(run)?);
        let cut = Instant::now();
        self.end_path()?;
        wait(time / 2);
        if self.kind.moves {
            self.links.link(Interface::Wlan).change_address()?;
        }
        wait(time.saturating_sub(cut.elapsed()));
        let through = |typist: &Typist| typist.echoes_since(cut + ARRIVED);
        ensure!(
            through(&ours) + through(&peer) == 0,
            "something has passed a link that is cut"
        );
        let back = Instant::now();
        self.restore_path()?;
        times.ours.push(seconds(&ours, back));
        times.peer.push(seconds(&peer, back));
        Ok(())
    }

    fn end_path(&self) -> Result<()> {
        if self.kind.told {
            return self.links.link(Interface::Wlan).set_carrier(false);
        }
        self.links.cut();
        Ok(())
    }

    fn restore_path(&self) -> Result<()> {
        if self.kind.told {
            return self.links.link(Interface::Wlan).set_carrier(true);
        }
        self.links.mend();
        Ok(())
    }
}

/// Time to the first echo of a session that goes on from there.
fn seconds(typist: &Typist, back: Instant) -> f64 {
    let first = typist.first_echo(back, PATIENCE);
    let kept = first.filter(|_| typist.goes_on());
    kept.map_or(NEVER, |time| time.as_secs_f64())
}
