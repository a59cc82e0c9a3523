//! A scenario on each board: one trial per board, so that each is run, counted and skipped by
//! itself. What is not there to be tried is counted as ignored: boards of the long run, unless
//! `TETHER_ALL_BOARDS` asks for them, and a bench that nobody has named.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use cross::target::{self, Target};
use libtest_mimic::{Arguments, Trial};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::device::bench::{self, Wiring};
use crate::device::emulated::Emulated;
use crate::device::real::Real;
use crate::lab::Lab;
use crate::process::INTERRUPTED;

/// Asks for every board.
pub const ALL: &str = "TETHER_ALL_BOARDS";

/// Something that devices do.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// What holds, in words joined by `_`.
    pub name: &'static str,
    /// Where to see it.
    pub boards: Boards,
    /// Looks whether it holds.
    pub run: fn(&mut Lab) -> Result<()>,
}

/// Which boards a scenario is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boards {
    /// Each.
    Every,
    /// The one of this target, and those on a bench.
    One(&'static str),
}

/// The `main` of a file of scenarios.
#[must_use]
pub fn main(scenarios: &[Scenario]) -> ExitCode {
    let arguments = Arguments::from_args();
    // Waiting ends when one of these comes, and owners clean up on the way out.
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if let Err(error) = signal_hook::flag::register(signal, INTERRUPTED.clone()) {
            complain(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    }
    match trials(scenarios) {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn trials(scenarios: &[Scenario]) -> Result<Vec<Trial>> {
    let targets = target::all()?;
    let all = std::env::var_os(ALL).is_some_and(|value| !value.is_empty());
    let bench = bench::named()?;
    let mut trials = Vec::new();
    for scenario in scenarios {
        for target in &targets {
            let Some(board) = &target.board else { continue };
            let fits = scenario.boards.have(&target.name);
            if fits {
                trials.push(emulated(*scenario, target).with_ignored_flag(!board.always && !all));
            }
        }
        match &bench {
            Some(bench) => trials.extend(bench.devices.iter().map(|one| real(*scenario, one))),
            None => trials.push(no_bench(*scenario)),
        }
    }
    Ok(trials)
}

impl Boards {
    fn have(self, target: &str) -> bool {
        match self {
            Self::Every => true,
            Self::One(name) => name == target,
        }
    }
}

fn emulated(scenario: Scenario, target: &Target) -> Trial {
    let target = target.clone();
    trial(scenario, &target.name.clone(), move |dir| {
        let agent = cross::agent::built(&target)?;
        let device = Emulated::new(&target, &agent, dir)?;
        (scenario.run)(&mut Lab::new(Box::new(device))?)
    })
}

fn real(scenario: Scenario, wiring: &Wiring) -> Trial {
    let wiring = wiring.clone();
    trial(scenario, &wiring.name.clone(), move |dir| {
        let device = Real::new(&wiring, dir)?;
        (scenario.run)(&mut Lab::new(Box::new(device))?)
    })
}

fn no_bench(scenario: Scenario) -> Trial {
    trial(scenario, "bench", |_| {
        anyhow::bail!("no bench: set {}", bench::VARIABLE)
    })
    .with_ignored_flag(true)
}

fn trial(
    scenario: Scenario,
    on: &str,
    run: impl FnOnce(&Path) -> Result<()> + Send + 'static,
) -> Trial {
    Trial::test(format!("{on}::{}", scenario.name), move || {
        let done = tempfile::tempdir()
            .map_err(Into::into)
            .and_then(|dir| run(dir.path()));
        done.map_err(|error| format!("{error:#}").into())
    })
}

/// Prints a figure for whoever runs the scenarios.
#[allow(clippy::print_stdout, reason = "what a scenario measures is printed")]
pub fn say(text: &str) {
    println!("{text}");
}

#[allow(clippy::print_stderr, reason = "a wrong bench is complained about")]
fn complain(text: &str) {
    eprintln!("{text}");
}
