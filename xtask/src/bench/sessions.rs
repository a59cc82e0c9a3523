//! `cargo xtask bench --sessions`: sessions over cuts of the device's link, and what it costs that
//! they are kept.
//!
//! * **kept**: somebody types at a terminal on the device when its link is cut, beside a session of
//!   OpenSSH over a tunnel that autossh holds, as in [`links`](super::links). Each pair is on one
//!   device, so that both see the same.
//! * **cost**: the same session with the layer that keeps it and without, as a role says, over the
//!   same links, in turn.
//! * **memory**: of an agent whose sessions are idle.
//!
//! What must hold stands beside what was seen.

mod cost;
mod kept;
mod memory;
mod setting;
mod typist;

use std::time::Duration;

use anyhow::Result;
use hil_tests::net::emulator::Shape;

use super::Options;
use super::report::Report;
use setting::Setting;

/// The device's link, unless said otherwise: a cellular one on a good day.
const ROUND_TRIP: Duration = Duration::from_millis(100);
const RATE: u64 = 5_000_000;
/// What `--only` calls the cuts.
const KEPT: &str = "kept";
/// Nothing is lost by chance.
const SEED: u64 = 7;

fn usual() -> Shape {
    Shape {
        rate: Some(RATE),
        ..Shape::lossy(ROUND_TRIP, 0.0)
    }
}

/// Builds, measures and prints.
///
/// # Errors
/// If links cannot be emulated here, or a side cannot be set up.
pub(super) fn run(options: &Options) -> Result<()> {
    let bin = super::programs(options)?;
    let dir = tempfile::tempdir()?;
    let mut report = Report::new(options.json.as_deref());
    if options.only.is_none() || !options.wants(KEPT) {
        let mut setting = Setting::new(&dir.path().join("cost"), &bin)?;
        if options.wants("memory of a fresh agent") {
            report.add(memory::fresh(&mut setting)?)?;
        }
        if options.wants("cost of set-up") {
            report.add(cost::set_up(&setting, options)?)?;
        }
        report.add(cost::bulk(&setting, options, dir.path())?)?;
        if options.wants("memory after traffic") {
            report.add(memory::after_traffic(&setting)?)?;
        }
    }
    if options.wants(KEPT) {
        report.add(kept::measure(options, dir.path(), &bin)?)?;
    }
    report.write()
}
