//! `cargo xtask fuzz`: looks for bytes that a decoder of the protocol cannot stand.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use ::cross::shell::{check, root, say};
use ::cross::toolchain::nightly;

use crate::tools;

/// Where the fuzzer's crate and its corpus are.
const FOLDER: &str = "protocol/fuzz";
/// Longest input: a frame with some room, and what a supervisor's history takes.
const LONGEST: usize = 16 * 1024;

/// What to fuzz, and how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Decoders to fuzz; all of them if none is named
    targets: Vec<String>,
    /// Time for each of them, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Add what reaches new code to the committed corpus, as little of it as will do
    #[arg(long)]
    keep: bool,
    /// Name the decoders and stop
    #[arg(long)]
    list: bool,
}

/// Fuzzes.
///
/// # Errors
/// If something was found: then the file to replay is named. Or if the fuzzer cannot be built.
pub(crate) fn run(options: &Options) -> Result<()> {
    let known = targets()?;
    if options.list {
        known.iter().for_each(|name| say(name));
        return Ok(());
    }
    for name in &options.targets {
        ensure!(
            known.contains(name),
            "there is no decoder {name:?}; there are: {}",
            known.join(", ")
        );
    }
    let toolchain = nightly(true)?;
    tools::fuzzer(true)?;
    let chosen = if options.targets.is_empty() {
        &known
    } else {
        &options.targets
    };
    for (at, name) in chosen.iter().enumerate() {
        say(&format!("\n== {name} ({} of {})", at + 1, chosen.len()));
        fuzz(toolchain, name, options)
            .with_context(|| format!("{name}: replay with the file named above"))?;
    }
    say("\nnothing found");
    Ok(())
}

fn fuzz(toolchain: &str, name: &str, options: &Options) -> Result<()> {
    // Findings of one run do not belong into the repository; good seeds do, if asked for.
    let corpus = format!("{FOLDER}/corpus/{name}");
    let scratch = tempfile::tempdir()?;
    let found = scratch.path().to_string_lossy();
    check(
        cargo_fuzz(toolchain, "run")?
            .args([name, &found, &corpus, "--"])
            .arg(format!("-max_total_time={}", options.seconds))
            .arg(format!("-max_len={LONGEST}"))
            .args(["-verbosity=0", "-print_final_stats=1"]),
    )?;
    if options.keep {
        let mut merge = cargo_fuzz(toolchain, "run")?;
        check(merge.args([name, &corpus, &found, "--", "-merge=1", "-verbosity=0"]))?;
    }
    Ok(())
}

fn cargo_fuzz(toolchain: &str, what: &str) -> Result<Command> {
    let mut command = Command::new("rustup");
    command
        .args(["run", toolchain, "cargo", "fuzz", what])
        .args(["--fuzz-dir", FOLDER])
        .current_dir(root()?)
        // Under `cargo xtask`, they name the toolchain that runs this.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO");
    Ok(command)
}

/// Every file in `fuzz_targets/` is one.
fn targets() -> Result<Vec<String>> {
    let folder = root()?.join(FOLDER).join("fuzz_targets");
    let mut names = Vec::new();
    for entry in folder.read_dir().context("the fuzzer's folder")? {
        let path = entry?.path();
        if let Some(name) = path.file_stem() {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
