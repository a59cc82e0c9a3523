//! The time, and how programs print it.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the Unix epoch.
#[must_use]
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// A time in UTC as RFC 3339 writes it, by the calendar of the command `date`. Such texts compare as
/// times do.
#[must_use]
pub fn shown(seconds: u64) -> String {
    let args = ["-u", "-d", &format!("@{seconds}"), "+%FT%TZ"];
    let printed = Command::new("date").args(args).output();
    printed.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
