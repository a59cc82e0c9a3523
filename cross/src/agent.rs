//! The agent built for a target.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::target::{Target, folder};

/// Where the stripped agent of a target lies once built: `target/cross/<name>/tether-agent`.
#[must_use]
pub fn place(target: &Target) -> PathBuf {
    let root = folder().with_file_name("target");
    root.join("cross").join(&target.name).join("tether-agent")
}

/// The stripped agent of a target.
///
/// # Errors
/// If it was not built, with what to do.
pub fn built(target: &Target) -> Result<PathBuf> {
    let place = place(target);
    ensure!(
        place.exists(),
        "there is no agent for {0} at {1}; build it: cargo xtask cross {0}",
        target.name,
        place.display()
    );
    Ok(place)
}
