//! `tctl`: steers a running cluster.

use std::process::ExitCode;

use clap::Parser;
use cluster::printable::plain_lines;
use cluster::tctl::{cli::Cli, run};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            complain(&format!("{:#}", failed.error));
            ExitCode::from(failed.code)
        }
    }
}

#[allow(clippy::print_stderr, reason = "the one place where tctl complains")]
fn complain(text: &str) {
    eprintln!("tctl: {}", plain_lines(text));
}
