//! What outlives a checkout: toolchains, kernels, build caches. All of it can be made again.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Names the folder, if not the default.
pub const VARIABLE: &str = "TETHER_CACHE";

/// A folder below the cache: `~/.cache/tether`, or what [`VARIABLE`] says. Made if absent.
///
/// # Errors
/// If there is no home, or the folder cannot be made.
pub fn dir(name: &str) -> Result<PathBuf> {
    let set = |variable: &str| std::env::var_os(variable).filter(|v| !v.is_empty());
    let base = set(VARIABLE)
        .map(PathBuf::from)
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| PathBuf::from(dir).join("tether")))
        .or_else(|| set("HOME").map(|dir| PathBuf::from(dir).join(".cache/tether")))
        .with_context(|| format!("no HOME; set {VARIABLE} to a folder"))?;
    let dir = base.join(name);
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    Ok(dir)
}
