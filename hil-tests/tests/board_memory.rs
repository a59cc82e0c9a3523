//! What the agent takes of a board's memory.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use hil_tests::lab::Lab;
use hil_tests::trials::{self, Boards, Scenario, say};

/// What a session that is measured sends.
const BYTES: usize = 1 << 20;

fn main() -> ExitCode {
    trials::main(&[Scenario {
        name: "the_agent_fits_into_the_memory_of_a_small_board",
        boards: Boards::Every,
        run: the_agent_fits_into_the_memory_of_a_small_board,
    }])
}

fn the_agent_fits_into_the_memory_of_a_small_board(lab: &mut Lab) -> Result<()> {
    lab.start()?;
    let idle = lab.share()?;
    let sent = lab.ssh(&format!("head -c {BYTES} /dev/zero"))?.ok()?;
    ensure!(sent.len() == BYTES, "{} bytes", sent.len());
    let busy = lab.share()?;
    let memory = lab.inside("head -n 3 /proc/meminfo")?;
    let board = lab.device.target().board.as_ref();
    let ram = board.map_or_else(String::new, |board| format!(" of {}", board.memory));
    say(&format!(
        "{}{ram}: the agent's PSS is {idle} KiB, {busy} KiB after a session of {} KiB; {}",
        lab.device.name(),
        BYTES >> 10,
        memory.split_whitespace().collect::<Vec<_>>().join(" ")
    ));
    let log = lab.inside("dmesg")?;
    for bad in ["Out of memory", "oom-kill", "page allocation failure"] {
        ensure!(!log.contains(bad), "{bad}:\n{log}");
    }
    Ok(())
}

/// What the agent takes.
trait Share {
    /// Its proportional set size in KiB, as the kernel of the board counts it.
    fn share(&mut self) -> Result<u64>;
}

impl Share for Lab {
    fn share(&mut self) -> Result<u64> {
        let seen = self.inside("grep ^Pss: /proc/$(pidof tether-agent)/smaps_rollup")?;
        let number = seen.split_whitespace().nth(1);
        number
            .and_then(|number| number.parse().ok())
            .with_context(|| seen.clone())
    }
}
