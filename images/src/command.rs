//! Programs that do one thing and are quiet about it.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

/// Runs a program to its end.
///
/// # Errors
/// If it fails, with what it said.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    finished(command).map(drop)
}

/// What a program prints.
///
/// # Errors
/// If it fails, with what it said; or prints no text.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let printed = finished(command)?.stdout;
    String::from_utf8(printed).with_context(|| format!("{command:?} prints no text"))
}

fn finished(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}
