//! A board loses its power while its agent writes.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use hil_tests::device::boot;
use hil_tests::lab::Lab;
use hil_tests::trials::{self, Boards, Scenario, say};

/// Each cut is one write later than the one before. Writing the state takes about a dozen writes
/// of the disk, most of them the file system's journal; so all of them are hit, and the
/// first of the next state, too.
const CUTS: u32 = 20;
/// Joins anew, over and over: each time the agent tries whether it can write, and writes its state.
const WRITE: &str = "touch /run/hold; killall tether-agent; \
    (while :; do tether-agent join --force || sleep 1; done) </dev/null >/dev/kmsg 2>&1 &";

fn main() -> ExitCode {
    trials::main(&[Scenario {
        name: "a_node_is_the_same_after_power_cuts_in_the_middle_of_writing",
        boards: Boards::One("aarch64"),
        run: a_node_is_the_same_after_power_cuts_in_the_middle_of_writing,
    }])
}

fn a_node_is_the_same_after_power_cuts_in_the_middle_of_writing(lab: &mut Lab) -> Result<()> {
    lab.start()?;
    let identity = lab.identity()?;
    let mut states = BTreeSet::new();
    let mut lost = 0;
    for n in 1..=CUTS {
        lab.inside(WRITE)?;
        lost += lab.device.cut_power_at_write(n)?.unwrap_or(0);
        boot(&mut *lab.device)?;
        // Before the agent has a chance to put anything right.
        let files = lab.inside("ls -A /var/lib/tether-agent")?;
        let within = || format!("after cut {n}, with these files:\n{files}");
        lab.reach().with_context(within)?;
        ensure!(lab.identity()? == identity, "another identity {}", within());
        let log = lab.inside("dmesg")?;
        for bad in ["EXT4-fs error", "damaged", "I/O error", "cannot read"] {
            ensure!(!log.contains(bad), "{bad} {}\n{log}", within());
        }
        states.insert(lab.inside("sha256sum < /var/lib/tether-agent/node.state")?);
    }
    say(&format!(
        "{}: {CUTS} cuts while the state was written, {lost} sectors lost that were not flushed, {} \
         different states afterwards, one identity",
        lab.device.name(),
        states.len()
    ));
    Ok(())
}
