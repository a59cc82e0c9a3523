//! A clock that differs from everybody else's, for one program: libfaketime, preloaded, reads the
//! difference from a file whenever the program asks for the time. Timers do not notice.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::time::now;

pub(super) struct Clock {
    library: String,
    file: PathBuf,
}

impl Clock {
    pub(super) fn new(dir: &Path, offset: &str) -> Result<Self> {
        let clock = Self {
            library: library()?,
            file: dir.join("clock"),
        };
        clock.set(offset)?;
        Ok(clock)
    }

    /// How far a clock that shows this time, in seconds since the Unix epoch, is from this machine's.
    pub(super) fn offset(time: u64) -> String {
        let now = now();
        if time < now {
            format!("-{}", now - time)
        } else {
            format!("+{}", time - now)
        }
    }

    /// Whoever reads the file meanwhile sees the old offset or the new one.
    pub(super) fn set(&self, offset: &str) -> Result<()> {
        let draft = self.file.with_extension("new");
        std::fs::write(&draft, offset)?;
        Ok(std::fs::rename(draft, &self.file)?)
    }

    pub(super) fn give_to(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}

/// Its wrapper would know, but leaves a semaphore named by its process id behind whenever it is
/// killed, and fails for the next process of that id.
fn library() -> Result<String> {
    const NAME: &str = "faketime/libfaketimeMT.so.1";
    // Debian puts it into a folder named by the architecture.
    let by_architecture = std::fs::read_dir("/usr/lib")?.flatten();
    let folders = by_architecture.map(|entry| entry.path());
    let mut places = folders
        .chain(["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from))
        .map(|folder| folder.join(NAME));
    let found = places.find(|place| place.exists());
    let found = found.context("libfaketime is not installed")?;
    Ok(found.to_str().context("an odd path")?.to_owned())
}
