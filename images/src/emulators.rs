//! Installing QEMU's emulators. Debian 12 has them twice: its own do not go together with the
//! newer QEMU tools that its backports have, so there they come from the backports. The host's list
//! of archives stays as it is.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use cross::cache;
use cross::target::Target;

use crate::apt::{KEYRING, codename, mirror};
use crate::command::run;

/// The release whose own emulators are not taken.
const OLD: &str = "bookworm";

/// What the boards of these targets need: program, package, why.
#[must_use]
pub fn needed(targets: &[Target]) -> Vec<(String, String, String)> {
    let mut needed = Vec::new();
    for target in targets {
        let Some(board) = &target.board else { continue };
        let name = &target.name;
        let mut need = |program: &str, package: &str, why: &str| {
            needed.push((
                program.to_owned(),
                package.to_owned(),
                format!("{why} {name}"),
            ));
        };
        let qemu = &board.qemu;
        need(
            &qemu.program,
            &qemu.package,
            "the agent is tested on a board with",
        );
        for tool in &board.build_tools {
            need(
                &tool.program,
                &tool.package,
                "there is no ready-made kernel for",
            );
        }
    }
    needed.sort();
    needed.dedup_by(|a, b| a.0 == b.0);
    needed
}

/// Installs packages of emulators.
///
/// # Errors
/// If apt fails.
pub fn install(packages: &[&str]) -> Result<()> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let options = match codename(&release) {
        Some(OLD) => with_backports()?,
        _ => Vec::new(),
    };
    run(apt().args(&options).arg("update"))?;
    run(apt()
        .args(&options)
        .args(["install", "-y", "--no-install-recommends"])
        .args(packages))
    .with_context(|| format!("install these packages: {}", packages.join(" ")))
}

/// The host's archives and the backports, in a place of our own.
fn with_backports() -> Result<Vec<String>> {
    let dir = cache::dir("apt")?.join("backports");
    let sources = dir.join("sources");
    if sources.exists() {
        std::fs::remove_dir_all(&sources)?;
    }
    std::fs::create_dir_all(&sources)?;
    std::fs::create_dir_all(dir.join("lists/partial"))?;
    let host = Path::new("/etc/apt");
    for entry in std::fs::read_dir(host.join("sources.list.d"))? {
        let entry = entry?;
        symlink(entry.path(), sources.join(entry.file_name()))?;
    }
    symlink(host.join("sources.list"), sources.join("sources.list"))?;
    let line = format!(
        "deb [signed-by={KEYRING}] {} {OLD}-backports main\n",
        mirror()?
    );
    std::fs::write(sources.join("tether-backports.list"), line)?;
    let dir = dir.display();
    let settings = [
        "Dir::Etc::sourcelist=-".into(),
        format!("Dir::Etc::sourceparts={dir}/sources"),
        format!("Dir::State::lists={dir}/lists"),
        "Dir::Cache::pkgcache=".into(),
        "Dir::Cache::srcpkgcache=".into(),
        "APT::Sandbox::User=root".into(),
        format!("APT::Default-Release={OLD}-backports"),
    ];
    Ok(settings
        .into_iter()
        .flat_map(|setting| ["-o".into(), setting])
        .collect())
}

fn apt() -> Command {
    let root = nix::unistd::geteuid().is_root();
    let mut command = Command::new(if root { "apt-get" } else { "sudo" });
    if !root {
        command.arg("apt-get");
    }
    command
        .args(["-q"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}
