//! zig, and cargo-zigbuild which makes it cargo's linker: from PyPI, pinned by hash.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell::{check, say};
use crate::{cache, tools};

/// What to install, with hashes.
const REQUIREMENTS: &str = include_str!("../../requirements.txt");
/// Written last, so that an interrupted installation is not taken for a whole one.
const COMPLETE: &str = "complete";

const PYTHON: &[tools::Tool<'_>] = &[("python3", "python3", "zig comes as a Python package")];

/// The folder with the programs.
pub(super) fn ready(install: bool) -> Result<PathBuf> {
    let dir = cache::dir("zig")?;
    let done = dir.join(COMPLETE);
    if std::fs::read_to_string(&done).is_ok_and(|text| text == REQUIREMENTS) {
        return Ok(dir.join("bin"));
    }
    let by_hand = "zig and cargo-zigbuild are missing; `cargo xtask cross` installs them";
    if !install {
        bail!("{by_hand}");
    }
    say("zig is missing: the C compiler and linker of the cross builds");
    tools::packages(PYTHON, true)?;
    std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    environment(&dir)?;
    let requirements = dir.join("requirements.txt");
    std::fs::write(&requirements, REQUIREMENTS)?;
    check(
        Command::new(dir.join("bin/pip"))
            .args([
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--require-hashes",
            ])
            .args(["--only-binary", ":all:", "--requirement"])
            .arg(requirements),
    )
    .context("zig cannot be had from PyPI")?;
    std::fs::write(&done, REQUIREMENTS)?;
    Ok(dir.join("bin"))
}

/// Debian's Python makes environments only with another package.
fn environment(dir: &Path) -> Result<()> {
    let mut able = Command::new("python3");
    able.args(["-c", "import ensurepip, venv"]);
    if !able.output()?.status.success() {
        tools::apt_install(&["python3-venv"])?;
    }
    check(Command::new("python3").args(["-m", "venv"]).arg(dir))
}
