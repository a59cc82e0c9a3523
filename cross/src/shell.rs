//! Running cargo and printing: everything the chores say goes through here.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The workspace's folder.
///
/// # Errors
/// If this program was moved out of it.
pub fn root() -> Result<PathBuf> {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("not in a workspace")?.to_owned())
}

/// Runs a command to its end, its output going where ours goes.
///
/// # Errors
/// If it fails.
pub fn check(command: &mut Command) -> Result<()> {
    say(&format!("$ {}", shown(command)));
    let status = command.status().with_context(|| shown(command))?;
    ensure!(status.success(), "`{}` failed: {status}", shown(command));
    Ok(())
}

/// `cargo` in the workspace, with the toolchain that runs this.
///
/// # Errors
/// If this program was moved out of the workspace.
pub fn cargo(args: &[&str]) -> Result<Command> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(args).current_dir(root()?);
    Ok(command)
}

/// A command as one would type it.
#[must_use]
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|w| quoted(&w.to_string_lossy())).collect();
    let line = words.join(" ");
    // The folder of cargo or of a built program says nothing to a reader.
    match line.split_once(' ') {
        Some((program, rest)) => format!("{} {rest}", base(program)),
        None => base(&line).to_owned(),
    }
}

fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{word}'")
    }
}

/// Prints a line.
#[allow(clippy::print_stdout, reason = "the one place where the chores print")]
pub fn say(text: &str) {
    println!("{text}");
}

/// Prints a line on standard error.
#[allow(
    clippy::print_stderr,
    reason = "the one place where the chores complain"
)]
pub fn complain(text: &str) {
    eprintln!("{text}");
}
