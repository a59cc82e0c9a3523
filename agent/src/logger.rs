//! Logs to stderr, one line per record, for whatever supervises the process to keep.
//!
//! Libraries speak up to WARN only, unless somebody debugs: their INFO is written for their own
//! authors.

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::clock;
use crate::output;

const OWN: &str = env!("CARGO_CRATE_NAME");

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= allowed(metadata.target(), log::max_level())
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let time = clock::Utc(clock::now());
            output::complain(&format!("{time} {:<5} {}\n", record.level(), record.args()));
        }
    }

    fn flush(&self) {}
}

fn allowed(target: &str, level: LevelFilter) -> LevelFilter {
    let own = target == OWN || target.starts_with(concat!(env!("CARGO_CRATE_NAME"), "::"));
    if own || level >= Level::Debug {
        level
    } else {
        level.min(LevelFilter::Warn)
    }
}

/// Starts logging at `level`.
pub(crate) fn start(level: LevelFilter) {
    // Only a second call fails, and the first logger is this one.
    let _ = log::set_logger(&Stderr);
    log::set_max_level(level);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quieter_than_the_agent() {
        assert_eq!(
            allowed("tether_agent::link", LevelFilter::Info),
            LevelFilter::Info
        );
        assert_eq!(
            allowed("russh::server", LevelFilter::Info),
            LevelFilter::Warn
        );
        assert_eq!(
            allowed("tether_agents", LevelFilter::Info),
            LevelFilter::Warn
        );
        assert_eq!(
            allowed("russh::server", LevelFilter::Trace),
            LevelFilter::Trace
        );
        assert_eq!(
            allowed("russh::server", LevelFilter::Error),
            LevelFilter::Error
        );
    }
}
