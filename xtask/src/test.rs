//! `cargo xtask test`: everything that must hold before a change is kept.

use std::num::NonZero;

use anyhow::Result;
use clap::Args;
use hil_tests::net::emulator::Emulator;

use ::cross::shell::{cargo, check, say};
use ::cross::target;
use ::cross::tools::packages;

use crate::{cross, hil, tools};

/// How much of it.
#[derive(Args, Clone, Copy)]
pub(crate) struct Options {
    /// Install nothing; fail if something is missing
    #[arg(long)]
    no_install: bool,
    /// Only what runs on this machine itself: no cross builds, no boards
    #[arg(long)]
    quick: bool,
    /// Every target and every board, not only those of the ordinary run
    #[arg(long, conflicts_with = "quick")]
    all: bool,
}

/// Installs what is missing and runs format, lints, dependency checks and all tests.
///
/// # Errors
/// At the first step that fails.
pub(crate) fn run(options: Options) -> Result<()> {
    let install = !options.no_install;
    packages(tools::TEST, install)?;
    tools::cargo_tools(install)?;
    step("format", &["fmt", "--all", "--check"])?;
    let lints = ["clippy", "--workspace", "--all-targets", "--locked"];
    step("lints", &[&lints[..], &["--", "-D", "warnings"]].concat())?;
    let deny = ["deny", "check", "bans", "licenses", "sources"];
    step("dependencies", &deny)?;
    say("\n== documents");
    cross::check_readme()?;
    step("programs", &["build", "--workspace", "--locked"])?;
    if options.quick {
        nextest(&["-E", NATIVE], options)?;
        say("\nall quick checks passed");
        return Ok(());
    }
    say("\n== agents for boards");
    emulators(options)?;
    cross::run_tested(options.all, install)?;
    hil::install(options.all, install)?;
    nextest(&[], options)?;
    say("\nall checks passed");
    Ok(())
}

/// Tests that need neither a cross build nor a board.
const NATIVE: &str = "not (binary(emulated) | binary(/^board_/) | binary(reproducible))";

fn nextest(more: &[&str], options: Options) -> Result<()> {
    say("\n== tests");
    let mut command = cargo(&[
        "nextest",
        "run",
        "--workspace",
        "--locked",
        "--no-fail-fast",
    ])?;
    // Scenarios mostly wait for links; what computes counts as two (`.config/nextest.toml`).
    let lanes = 2 * std::thread::available_parallelism().map_or(1, NonZero::get);
    command.arg(format!("--test-threads={lanes}")).args(more);
    if options.all {
        command.env(hil_tests::programs::ALL_TARGETS, "1");
        command.env(hil_tests::trials::ALL, "1");
    }
    check(&mut command)?;
    if !Emulator::available() {
        say(
            "\nNOT tested: what happens over links, since none can be emulated here (as root, with /dev/net/tun)",
        );
    }
    Ok(())
}

/// User-mode emulators for the targets that are tested with one.
fn emulators(options: Options) -> Result<()> {
    let targets = target::all()?;
    let programs: Vec<_> = targets
        .iter()
        .filter(|target| options.all || target.emulator.always)
        .filter_map(|target| target.emulator.command.first())
        .map(|program| {
            let why = "the agent of each target is run";
            (program.as_str(), "qemu-user-static", why)
        })
        .collect();
    packages(&programs, !options.no_install)
}

fn step(what: &str, args: &[&str]) -> Result<()> {
    say(&format!("\n== {what}"));
    check(&mut cargo(args)?)
}
