//! A board that believes in another year: without a battery, or with a clock that is decades ahead.

#![allow(
    clippy::indexing_slicing,
    reason = "what JSON does not have is null, not a panic"
)]

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use hil_tests::cluster::text;
use hil_tests::device::boot;
use hil_tests::lab::{Lab, REACH_LIMIT};
use hil_tests::process::poll;
use hil_tests::time::{now, shown};
use hil_tests::trials::{self, Boards, Scenario};
use serde_json::Value;

/// A day in January 1970.
const BEHIND: u64 = 1_000_000;
/// 2040-06-01.
const AHEAD: u64 = 2_222_208_000;
/// 2038-01-19T03:14:08: the first second that 32 bits cannot count.
const END: u64 = 1 << 31;
/// Before [`END`], so that a board is up when it comes.
const MARGIN: u64 = 60;
const DAY: u64 = 86_400;

fn main() -> ExitCode {
    trials::main(&[
        Scenario {
            name: "a_board_joins_in_1970_and_goes_on_decades_ahead",
            boards: Boards::Every,
            run: |lab| {
                let ahead = ahead(lab);
                joins_in_one_year_and_goes_on_in_another(lab, BEHIND, ahead)
            },
        },
        Scenario {
            name: "a_board_joins_decades_ahead_and_goes_on_in_1970",
            boards: Boards::Every,
            run: |lab| {
                let ahead = ahead(lab);
                joins_in_one_year_and_goes_on_in_another(lab, ahead, BEHIND)
            },
        },
    ])
}

/// A kernel of 32 bits takes no time beyond [`END`] from its clock chip. But it gets there.
fn ahead(lab: &Lab) -> u64 {
    let triple = &lab.device.target().triple;
    let long = ["aarch64", "riscv64", "x86_64"];
    if long.iter().any(|cpu| triple.starts_with(cpu)) {
        AHEAD
    } else {
        END - MARGIN
    }
}

fn joins_in_one_year_and_goes_on_in_another(lab: &mut Lab, first: u64, then: u64) -> Result<()> {
    lab.cluster.set_clock("-4d")?;
    lab.device.set_clock(first)?;
    boot(&mut *lab.device)?;
    believes_in(lab, first)?;
    lives_on(lab, -4, 1)?;

    // Half of the certificate's life goes by on the cluster. The agent hears of it by the next dial.
    lab.cluster.set_clock("+0d")?;
    lab.reach()?;
    lives_on(lab, -4, 2).context("after four days")?;
    outlives_the_end(lab, first)?;

    lab.device.cut_power()?;
    lab.device.set_clock(then)?;
    boot(&mut *lab.device)?;
    lab.reach()?;
    believes_in(lab, then)?;
    // It comes with the certificate that it has: whatever its clock says, that is not over.
    lives_on(lab, 0, 2).context("after the reboot")?;
    outlives_the_end(lab, then)
}

/// Where the clock is about to pass [`END`], it does, and the agent goes on.
fn outlives_the_end(lab: &mut Lab, year: u64) -> Result<()> {
    if !(END - DAY..END).contains(&year) {
        return Ok(());
    }
    let pid = lab.inside("pidof tether-agent")?;
    let passed = poll(REACH_LIMIT, || {
        let uptime = lab.inside("cut -d. -f1 /proc/uptime").ok()?;
        let uptime: u64 = uptime.trim().parse().ok()?;
        (started(lab).ok()? + uptime > END).then_some(())
    });
    ensure!(passed.is_some(), "the board does not get beyond {END}");
    lab.reach().context("after 2038-01-19")?;
    let after = lab.inside("pidof tether-agent")?;
    ensure!(after == pid, "the agent was started again: {pid} {after}");
    Ok(())
}

/// What the kernel takes for the time at which it was started.
fn started(lab: &mut Lab) -> Result<u64> {
    let said = lab.inside("grep btime /proc/stat")?;
    let started = said.trim().strip_prefix("btime ").unwrap_or_default();
    started.parse().with_context(|| said.clone())
}

fn believes_in(lab: &mut Lab, year: u64) -> Result<()> {
    let started = started(lab)?;
    ensure!(
        started.abs_diff(year) < DAY,
        "the board was started at {started} by its clock, which was set to {year}"
    );
    Ok(())
}

/// Waits until the agent holds certificates of this generation, and looks at the times it shows: its
/// link is up since this day, counted from today.
fn lives_on(lab: &mut Lab, day: i64, generation: u64) -> Result<()> {
    let mut last = Value::Null;
    let wanted = poll(REACH_LIMIT, || {
        let said = lab.inside("tether-agent status --format json").ok()?;
        last = serde_json::from_str(&said).ok()?;
        let up = last["link"]["state"] == "up";
        (up && last["certificate"]["generation"] == generation).then_some(())
    });
    if wanted.is_none() {
        bail!("no link with certificates of generation {generation}: {last}");
    }
    ensure!(last["certificate"]["expired"] == false, "{last}");
    let since = text(&last["link"], "since");
    let middle = now().checked_add_signed(day * DAY as i64);
    let middle = middle.context("a time")?;
    let about = shown(middle - DAY / 2)..shown(middle + DAY / 2);
    ensure!(about.contains(&since), "up since {since}, not in {about:?}");
    Ok(())
}
