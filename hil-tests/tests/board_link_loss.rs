//! A board loses its link and gets it back.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hil_tests::device::Link;
use hil_tests::lab::Lab;
use hil_tests::process::poll;
use hil_tests::trials::{self, Boards, Scenario, say};

/// How long the cable is out.
const OUT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    trials::main(&[Scenario {
        name: "a_node_is_back_without_help_after_its_cable_was_out",
        boards: Boards::Every,
        run: a_node_is_back_without_help_after_its_cable_was_out,
    }])
}

fn a_node_is_back_without_help_after_its_cable_was_out(lab: &mut Lab) -> Result<()> {
    lab.start()?;
    let pid = lab.inside("pidof tether-agent")?;
    lab.device.set_link(Link::Down)?;
    let out = Instant::now();
    // Nothing hangs meanwhile: whoever asks is told.
    let done = lab.ssh("true")?;
    ensure!(done.code() != 0, "a command was run through no cable");
    ensure!(!done.stderr.trim().is_empty(), "nobody said why: {done:?}");
    // The cable is out for as long as the scenario says, however long that took.
    poll(OUT.saturating_sub(out.elapsed()), || None::<()>);
    lab.device.set_link(Link::Up)?;
    let back = Instant::now();
    lab.reach()?;
    say(&format!(
        "{}: reachable {:.1} s after its cable was plugged in again",
        lab.device.name(),
        back.elapsed().as_secs_f64()
    ));
    let after = lab.inside("pidof tether-agent")?;
    ensure!(after == pid, "the agent was started again: {pid} {after}");
    Ok(())
}
