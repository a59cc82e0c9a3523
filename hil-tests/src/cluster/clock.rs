//! A clock that differs from everybody else's, for one program: libfaketime, preloaded, reads the
//! difference from a file whenever the program asks for the time. Timers do not notice.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::run;
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

/// The wrapper knows where its library is, but stays in between: signals would not pass.
fn library() -> Result<String> {
    let mut wrapper = Command::new("faketime");
    wrapper.args(["-m", "-f", "+0", "sh", "-c", "echo \"$LD_PRELOAD\""]);
    let said = run(&mut wrapper, b"").context("faketime")?.ok()?;
    ensure!(!said.trim().is_empty(), "faketime preloads nothing");
    Ok(said.trim().to_owned())
}
