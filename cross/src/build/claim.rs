//! The build cache belongs to one checkout at a time.
//!
//! cargo knows the crates of a workspace by their path within it, and whether they changed by the
//! times of their files. So what another checkout built passes for up to date here, though its
//! source may differ. Dependencies are the same everywhere, and are what the cache is for.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// The crates of this workspace that an agent is made of.
const OWN: &str = "tether-";
/// Where cargo keeps what it knows of each crate: until 2026 all fingerprints in one folder, since
/// then a folder for each crate.
const FINGERPRINTS: [&str; 2] = [".fingerprint", "build"];
/// Holds the path of the checkout that built last, and is locked while it does.
const OWNER: &str = "owner";

/// The cache of one target, until dropped.
pub(super) struct Claim {
    _lock: File,
}

impl Claim {
    /// Waits for other builds, and clears away what another checkout has built in `outputs`, the
    /// folder of one target and profile below `cache`.
    ///
    /// # Errors
    /// If the cache cannot be written.
    pub(super) fn new(cache: &Path, outputs: &Path, checkout: &Path) -> Result<Self> {
        let lock = cache.join("lock");
        let lock = File::create(&lock).with_context(|| lock.display().to_string())?;
        lock.lock().context("the build cache cannot be locked")?;
        fs::create_dir_all(outputs).with_context(|| outputs.display().to_string())?;
        let path = outputs.join(OWNER);
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut owner = options
            .open(&path)
            .with_context(|| path.display().to_string())?;
        let mut before = Vec::new();
        owner.read_to_end(&mut before)?;
        let now = checkout.as_os_str().as_encoded_bytes();
        if before != now {
            forget(outputs)?;
            // Build scripts run here, whatever the target.
            forget(&cache.join("small"))?;
            owner.set_len(0)?;
            owner.rewind()?;
            owner.write_all(now)?;
        }
        Ok(Self { _lock: lock })
    }
}

/// Without its fingerprint, cargo builds a crate again.
fn forget(outputs: &Path) -> Result<()> {
    for folder in FINGERPRINTS {
        let Ok(entries) = outputs.join(folder).read_dir() else {
            continue;
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(OWN.as_bytes()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_checkout_built_is_built_again() -> Result<()> {
        let cache = tempfile::tempdir()?;
        let outputs = cache.path().join("mips/small");
        let made = |crates: &[&str]| -> Result<()> {
            crates.iter().try_for_each(|name| {
                fs::create_dir_all(outputs.join(name)).map_err(anyhow::Error::from)
            })
        };
        let claim = |checkout: &str| Claim::new(cache.path(), &outputs, Path::new(checkout));
        let there = |name: &str| outputs.join(name).exists();
        let own = [".fingerprint/tether-agent-1", "build/tether-protocol/2"];
        let dependencies = [".fingerprint/russh-3", "build/russh/3"];

        drop(claim("/a")?);
        made(&own)?;
        made(&dependencies)?;
        drop(claim("/a")?);
        assert!(own.iter().all(|name| there(name)), "its own are kept");
        drop(claim("/b")?);
        assert!(!own.iter().any(|name| there(name)));
        let kept = dependencies.iter().all(|name| there(name));
        assert!(kept, "dependencies are the same everywhere");
        made(&own)?;
        drop(claim("/a")?);
        assert!(!own.iter().any(|name| there(name)));
        Ok(())
    }
}
