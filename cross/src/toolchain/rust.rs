//! A compiler with the source of its standard library: rustup's nightly of a fixed day where it
//! can be had, else Debian's compiler for its web browsers, which comes with its source.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell::{check, say};
use crate::tools;

/// The nightly whose sizes the reports in `targets/sizes` were made with.
const NIGHTLY: &str = "nightly-2026-10-30";

/// Debian's packages.
const DEBIAN: &[tools::Tool<'_>] = &[
    ("/usr/bin/rustc", "rustc-web", "a current Rust compiler"),
    ("/usr/bin/cargo", "cargo-web", "the cargo that fits it"),
    (
        "/usr/lib/rustlib/src/rust/library/Cargo.toml",
        "rust-web-src",
        "the standard library is built for size",
    ),
];

/// A compiler and its cargo.
#[derive(Debug, Clone)]
pub struct Rust {
    pub(super) rustc: PathBuf,
    pub(super) cargo: PathBuf,
    pub(super) stable: bool,
    /// As `rustc --version` says.
    pub version: String,
}

pub(super) fn ready(install: bool) -> Result<Rust> {
    if let Some(rust) = rustup().or_else(debian) {
        return Ok(rust);
    }
    let mut tried = Vec::new();
    if install {
        say("A Rust compiler with the source of its standard library is missing.");
        match install_nightly() {
            Ok(()) => match rustup() {
                Some(rust) => return Ok(rust),
                None => tried.push(format!(
                    "rustup's {NIGHTLY}: installed, but it does not run"
                )),
            },
            Err(error) => tried.push(format!("rustup's {NIGHTLY}: {error:#}")),
        }
        match tools::packages(DEBIAN, true) {
            Ok(()) => match debian() {
                Some(rust) => return Ok(rust),
                None => tried.push("Debian's packages: installed, but they do not run".into()),
            },
            Err(error) => tried.push(format!("Debian's packages: {error:#}")),
        }
    }
    let tried = tried.iter().map(|line| format!("\n  tried {line}"));
    bail!(
        "no Rust compiler with the source of its standard library{}\n  install one of:\n    \
         rustup toolchain install {NIGHTLY} --profile minimal --component rust-src\n    \
         apt-get install rustc-web cargo-web rust-web-src",
        tried.collect::<String>()
    )
}

/// The name of rustup's nightly, installed if missing: sanitizers need one.
///
/// # Errors
/// If it cannot be had.
pub fn nightly(install: bool) -> Result<&'static str> {
    if rustup().is_none() {
        if !install {
            bail!("install it: rustup toolchain install {NIGHTLY} --profile minimal");
        }
        install_nightly()?;
    }
    Ok(NIGHTLY)
}

fn install_nightly() -> Result<()> {
    check(
        Command::new("rustup")
            .args(["toolchain", "install", NIGHTLY, "--profile", "minimal"])
            .args(["--component", "rust-src", "--no-self-update"])
            // Half a minute without an answer is no.
            .env("RUSTUP_MAX_RETRIES", "1"),
    )
}

fn rustup() -> Option<Rust> {
    let which = |program: &str| {
        let args = ["which", "--toolchain", NIGHTLY, program];
        let path = output(Command::new("rustup").args(args)).ok()?;
        Some(PathBuf::from(path))
    };
    with_source(which("rustc")?, which("cargo")?, false)
}

fn debian() -> Option<Rust> {
    let (Some((rustc, ..)), Some((cargo, ..))) = (DEBIAN.first(), DEBIAN.get(1)) else {
        return None;
    };
    with_source(rustc.into(), cargo.into(), true)
}

fn with_source(rustc: PathBuf, cargo: PathBuf, stable: bool) -> Option<Rust> {
    let sysroot = output(Command::new(&rustc).args(["--print", "sysroot"])).ok()?;
    let library = Path::new(&sysroot).join("lib/rustlib/src/rust/library/Cargo.toml");
    let version = output(Command::new(&rustc).arg("--version")).ok()?;
    (library.exists() && cargo.exists()).then_some(Rust {
        rustc,
        cargo,
        stable,
        version,
    })
}

fn output(command: &mut Command) -> Result<String> {
    // Under `cargo xtask`, rustup would take the host's toolchain for the one that is meant.
    command.env_remove("RUSTUP_TOOLCHAIN").stderr(Stdio::null());
    let output = command.output()?;
    if !output.status.success() {
        bail!("{}", output.status);
    }
    let text = String::from_utf8(output.stdout).context("not text")?;
    Ok(text.trim().to_owned())
}
