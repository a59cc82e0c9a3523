//! Where the built binaries are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Overrides the folder that binaries are looked for in.
pub const BIN_DIR: &str = "TETHER_BIN_DIR";
/// Set to emulate the agent of every target, not only those of the ordinary test run.
pub const ALL_TARGETS: &str = "TETHER_ALL_TARGETS";

/// The folder that holds `tether`, `tctl`, `tether-agent` and `tsh`: `TETHER_BIN_DIR`, or the one
/// that this program was built into.
///
/// # Errors
/// If there is none.
pub fn dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os(BIN_DIR) {
        return Ok(dir.into());
    }
    let own = std::env::current_exe().context("this program has no path")?;
    let dir = own.parent().context("this program has no folder")?;
    // Test programs are in `deps`, beside the binaries' folder.
    Ok(if dir.ends_with("deps") {
        dir.parent().unwrap_or(dir)
    } else {
        dir
    }
    .to_owned())
}

/// The path of one binary.
///
/// # Errors
/// If it is not built.
pub fn find(name: &str) -> Result<PathBuf> {
    in_dir(&dir()?, name)
}

/// The path of one binary in a folder.
///
/// # Errors
/// If it is not built.
pub fn in_dir(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    ensure!(
        path.exists(),
        "{} is not built; run `cargo build --workspace`",
        path.display()
    );
    Ok(path)
}
