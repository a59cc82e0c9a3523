//! Chores: `cargo xtask demo`, `cargo xtask test`, `cargo xtask cross`, `cargo xtask swarm`, ...

mod bench;
mod cross;
mod demo;
mod fuzz;
mod hil;
mod swarm;
mod test;
mod tools;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use hil_tests::process::INTERRUPTED;

/// Chores of the Tether workspace.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    after_help = "Example:\n  cargo xtask demo --script"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a cluster and two devices behind NAT, and open a shell on one
    #[command(
        after_help = "Examples:\n  cargo xtask demo\n  cargo xtask demo --script   # no terminal needed"
    )]
    Demo {
        /// Run every step without a terminal and stop
        #[arg(long)]
        script: bool,
    },
    /// Install what the tests need, and run everything
    #[command(
        after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --quick   # no cross builds, no boards"
    )]
    Test(test::Options),
    /// Build the agent for boards, small and static, and hold it to its budgets
    #[command(
        after_help = "Examples:\n  cargo xtask cross mipsel --bloat\n  cargo xtask cross --all\n  cargo xtask cross --list --format json"
    )]
    Cross(cross::Options),
    /// Boot boards in QEMU with the agent, and run scenarios on them
    #[command(after_help = "Examples:\n  cargo xtask hil\n  cargo xtask hil --all power_cut")]
    Hil(hil::Options),
    /// Make what a board boots: kernel, root, data partition
    #[command(after_help = "Example:\n  cargo xtask image mipsel rootfs")]
    Image(hil::ImageOptions),
    /// Look for bytes that a decoder of the protocol cannot stand
    #[command(
        after_help = "Examples:\n  cargo xtask fuzz --seconds 600\n  cargo xtask fuzz to_cluster link"
    )]
    Fuzz(fuzz::Options),
    /// Put a fleet of light agents on a cluster, restart it under them, and count
    #[command(
        after_help = "Examples:\n  cargo xtask swarm --count 10000 --restart --at-once\n  cargo xtask swarm --count 500 --restart stop --format json\n  cargo xtask swarm --cluster gw.example.net:3080 --token tjoin-... --ca-file ca.pem\n\nPrograms are built for release, or taken from TETHER_BIN_DIR."
    )]
    Swarm(swarm::Options),
    /// Measure Tether beside OpenSSH, in one run
    #[command(
        after_help = "Examples:\n  cargo xtask bench --json target/bench.json\n  cargo xtask bench --links\n  cargo xtask bench --sessions --only cost"
    )]
    Bench(bench::Options),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ::cross::shell::complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    // Waiting ends when one of these comes, and owners clean up on the way out.
    for signal in [
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
    ] {
        signal_hook::flag::register(signal, INTERRUPTED.clone())?;
    }
    match Cli::parse().command {
        Command::Demo { script } => demo::run(script),
        Command::Test(options) => test::run(options),
        Command::Cross(options) => cross::run(&options),
        Command::Hil(options) => hil::run(&options),
        Command::Image(options) => hil::image(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Swarm(options) => swarm::run(&options),
    }
}
