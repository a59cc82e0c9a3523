//! A board that believes in another year: without a battery, or with a clock that is decades ahead.

#![allow(
    clippy::indexing_slicing,
    reason = "what JSON does not have is null, not a panic"
)]

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use hil_tests::cluster::{READY, text};
use hil_tests::device::boot;
use hil_tests::lab::Lab;
use hil_tests::process::poll;
use hil_tests::time::{now, shown};
use hil_tests::trials::{self, Boards, Scenario};
use serde_json::Value;

/// A day in January 1970.
const BEHIND: u64 = 1_000_000;
/// 2040-06-01: beyond what C programs of 32 bits can count.
const AHEAD: u64 = 2_222_208_000;
const DAY: u64 = 86_400;

fn main() -> ExitCode {
    trials::main(&[
        Scenario {
            name: "a_board_joins_in_1970_and_goes_on_in_2040",
            boards: Boards::Every,
            run: |lab| joins_in_one_year_and_goes_on_in_another(lab, BEHIND, AHEAD),
        },
        Scenario {
            name: "a_board_joins_in_2040_and_goes_on_in_1970",
            boards: Boards::Every,
            run: |lab| joins_in_one_year_and_goes_on_in_another(lab, AHEAD, BEHIND),
        },
    ])
}

fn joins_in_one_year_and_goes_on_in_another(lab: &mut Lab, first: u64, then: u64) -> Result<()> {
    lab.device.set_clock(first)?;
    lab.start()?;
    believes_in(lab, first)?;
    lives_on(lab, 0, 1)?;

    // Half of the certificate's life goes by on the cluster.
    lab.cluster.set_clock("+4d")?;
    lab.operator = lab.cluster.logged_in("operator")?;
    lab.reach()?;
    lives_on(lab, 0, 2).context("after four days")?;

    lab.device.cut_power()?;
    lab.device.set_clock(then)?;
    boot(&mut *lab.device)?;
    lab.reach()?;
    believes_in(lab, then)?;
    // It comes with the certificate that it has: whatever its clock says, that is not over.
    lives_on(lab, 4, 2).context("after the reboot")
}

/// What the kernel takes for the time at which it was started.
fn believes_in(lab: &mut Lab, year: u64) -> Result<()> {
    let said = lab.inside("grep btime /proc/stat")?;
    let started = said.trim().strip_prefix("btime ").unwrap_or_default();
    let started: u64 = started.parse().with_context(|| said.clone())?;
    ensure!(
        started.abs_diff(year) < DAY,
        "the board was started at {started} by its clock, which was set to {year}"
    );
    Ok(())
}

/// Waits until the agent holds certificates of this generation, and looks at the times it shows: its
/// link is up since this day, counted from today.
fn lives_on(lab: &mut Lab, day: u64, generation: u64) -> Result<()> {
    let mut last = Value::Null;
    let wanted = poll(READY, || {
        let said = lab.inside("tether-agent status --format json").ok()?;
        last = serde_json::from_str(&said).ok()?;
        (last["certificate"]["generation"] == generation).then_some(())
    });
    if wanted.is_none() {
        bail!("no certificates of generation {generation}: {last}");
    }
    ensure!(last["certificate"]["expired"] == false, "{last}");
    let since = text(&last["link"], "since");
    let middle = now() + day * DAY;
    let about = shown(middle - DAY / 2)..shown(middle + DAY / 2);
    ensure!(about.contains(&since), "up since {since}, not in {about:?}");
    Ok(())
}
