//! Programs from Debian packages: found, or installed with a word on why.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::shell::{check, say};

/// A program or file, the apt package that has it, and why it is needed.
pub type Tool<'a> = (&'a str, &'a str, &'a str);

/// Installs the packages whose programs are missing.
///
/// # Errors
/// If one is missing and cannot be installed.
pub fn packages(tools: &[Tool<'_>], install: bool) -> Result<()> {
    let missing: Vec<_> = tools
        .iter()
        .filter(|(program, ..)| !exists(program))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for (program, package, why) in &missing {
        say(&format!("{program} is missing (package {package}): {why}"));
    }
    let names: Vec<_> = missing.iter().map(|(_, package, _)| *package).collect();
    if !install {
        bail!("install these packages: {}", names.join(" "));
    }
    apt_install(&names)
}

/// Installs packages. The lists may be old or absent on a fresh machine, so they are fetched first.
///
/// # Errors
/// If there is no apt, or it fails.
pub fn apt_install(packages: &[&str]) -> Result<()> {
    if !exists("apt-get") {
        bail!("install these packages: {}", packages.join(" "));
    }
    check(apt().arg("update").stdout(Stdio::null()))?;
    check(
        apt()
            .args(["install", "-y", "--no-install-recommends"])
            .args(packages)
            .stdout(Stdio::null()),
    )
}

fn apt() -> Command {
    let root = nix::unistd::geteuid().is_root();
    let mut command = Command::new(if root { "apt-get" } else { "sudo" });
    if !root {
        command.arg("apt-get");
    }
    command.arg("-q").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Whether a program or file is there.
#[must_use]
pub fn exists(program: &str) -> bool {
    let cargo_bin = std::env::var_os("CARGO_HOME")
        .map(Into::into)
        .or_else(|| Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
        .map(|home| home.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs = std::env::split_paths(&path)
        .chain(cargo_bin)
        .chain(["/usr/sbin".into(), "/sbin".into()]);
    Path::new(program).is_absolute() && Path::new(program).exists()
        || dirs.any(|dir| dir.join(program).exists())
}
