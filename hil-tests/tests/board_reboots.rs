//! A board starts again and again.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use hil_tests::device::{BOOT_LIMIT, wait_ready};
use hil_tests::lab::Lab;
use hil_tests::trials::{self, Boards, Scenario};

/// How often.
const TIMES: u32 = 10;
/// What a board without a battery takes for the time: a day in January 1970.
const NO_BATTERY: u64 = 1_000_000;

fn main() -> ExitCode {
    trials::main(&[Scenario {
        name: "a_node_is_the_same_after_ten_reboots",
        boards: Boards::Every,
        run: a_node_is_the_same_after_ten_reboots,
    }])
}

fn a_node_is_the_same_after_ten_reboots(lab: &mut Lab) -> Result<()> {
    lab.start()?;
    let identity = lab.identity()?;
    for time in 1..=TIMES {
        let within = || format!("reboot {time} of {TIMES}");
        let boot = lab.inside("cat /proc/sys/kernel/random/boot_id")?;
        if time % 2 == 0 {
            lab.device.console()?.send("reboot\n")?;
            wait_ready(&mut *lab.device, BOOT_LIMIT).with_context(within)?;
        } else {
            lab.device.cut_power()?;
            if time == 1 {
                lab.device.set_clock(NO_BATTERY)?;
            }
            hil_tests::device::boot(&mut *lab.device).with_context(within)?;
        }
        lab.reach().with_context(within)?;
        let again = lab.inside("cat /proc/sys/kernel/random/boot_id")?;
        ensure!(again != boot, "{}: it did not start again", within());
        ensure!(
            lab.identity()? == identity,
            "{}: another identity",
            within()
        );
    }
    Ok(())
}
