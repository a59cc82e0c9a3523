//! `cargo xtask hil`, `cargo xtask image`: boards, and what they boot.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use ::cross::shell::{cargo, check, root, say};
use ::cross::target::{self, Target};
use ::cross::tools::{exists, packages};
use ::cross::{agent, cache};

use crate::{cross, tools};

/// What to run on boards.
#[derive(Args)]
pub(crate) struct Options {
    /// Only scenarios whose name contains this
    scenario: Option<String>,
    /// Every board, not only those of the ordinary test run
    #[arg(long)]
    all: bool,
    /// Install nothing; fail if something is missing
    #[arg(long)]
    no_install: bool,
}

/// Boots the boards and runs their scenarios.
///
/// # Errors
/// If something is missing or a scenario fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let install = !options.no_install;
    tools::runner(install)?;
    cross::build_named(&boards(options.all)?, install)?;
    self::install(options.all, install)?;
    check(&mut cargo(&["build", "--workspace", "--locked"])?)?;
    let mut command = cargo(&["nextest", "run", "--locked", "-p", "hil-tests"])?;
    command.args(["--no-fail-fast", "--no-capture", "-E", "binary(/^board_/)"]);
    command.args(&options.scenario);
    if options.all {
        command.env(hil_tests::trials::ALL, "1");
    }
    check(&mut command)
}

/// Installs what boards and their images need.
///
/// # Errors
/// If something is missing and cannot be installed.
pub(crate) fn install(all: bool, install: bool) -> Result<()> {
    packages(images::TOOLS, install)?;
    let needed = images::emulators::needed(&boards(all)?);
    let missing: Vec<_> = needed
        .iter()
        .filter(|(program, ..)| !exists(program))
        .collect();
    for (program, package, why) in &missing {
        say(&format!("{program} is missing (package {package}): {why}"));
    }
    let mut names: Vec<_> = missing
        .iter()
        .map(|(_, package, _)| package.as_str())
        .collect();
    names.dedup();
    ensure!(
        install || names.is_empty(),
        "install these packages: {}",
        names.join(" ")
    );
    if names.is_empty() {
        return Ok(());
    }
    images::emulators::install(&names)
}

fn boards(all: bool) -> Result<Vec<Target>> {
    let mut targets = target::all()?;
    targets.retain(|target| {
        target
            .board
            .as_ref()
            .is_some_and(|board| all || board.always)
    });
    Ok(targets)
}

/// What image to make.
#[derive(Args)]
pub(crate) struct ImageOptions {
    /// Name of a file in targets/
    target: String,
    /// What to make
    #[arg(value_enum)]
    kind: Kind,
    /// Folder to put it into [default: target/images/<target>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Install nothing; fail if something is missing
    #[arg(long)]
    no_install: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Kernel, read-only root, data partition
    Rootfs,
}

/// Makes an image around the agent of a target, which is built first.
///
/// # Errors
/// If the target has no board, or something is missing.
pub(crate) fn image(options: &ImageOptions) -> Result<()> {
    let target = target::find(&options.target)?;
    let install = !options.no_install;
    packages(images::TOOLS, install)?;
    cross::build_named(std::slice::from_ref(&target), install)?;
    let out = match &options.out {
        Some(out) => out.clone(),
        None => root()?.join("target/images").join(&target.name),
    };
    let Kind::Rootfs = options.kind;
    let made = images::rootfs(&target, &agent::built(&target)?, &out)?;
    let parts = [
        Some(&made.kernel),
        made.initramfs.as_ref(),
        Some(&made.root),
        Some(&made.data),
    ];
    for path in parts.into_iter().flatten() {
        let kib = std::fs::metadata(path)?.len() / 1024;
        say(&format!("{kib:>8} KiB  {}", path.display()));
    }
    say(&format!(
        "Kernels and programs came from {}.",
        cache::dir("")?.display()
    ));
    Ok(())
}
