//! A board has a root that cannot be written, and a data partition that is full.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use hil_tests::cluster::READY;
use hil_tests::device::{Storage, boot};
use hil_tests::lab::Lab;
use hil_tests::process::poll;
use hil_tests::trials::{self, Boards, Scenario};

fn main() -> ExitCode {
    trials::main(&[
        Scenario {
            name: "a_full_disk_does_not_keep_anybody_out",
            boards: Boards::Every,
            run: a_full_disk_does_not_keep_anybody_out,
        },
        Scenario {
            name: "a_worn_out_disk_does_not_keep_anybody_out",
            boards: Boards::One("aarch64"),
            run: a_worn_out_disk_does_not_keep_anybody_out,
        },
    ])
}

fn a_full_disk_does_not_keep_anybody_out(lab: &mut Lab) -> Result<()> {
    let identity = joined_four_days_ago(lab)?;
    for path in ["/etc/new", "/root/new", "/usr/sbin/tether-agent"] {
        let refused = lab.device.console()?.run(&format!(": > {path}"))?;
        ensure!(refused.code() != 0, "{path} can be written");
        ensure!(refused.stdout.contains("Read-only"), "{refused:?}");
    }
    lab.inside("! dd if=/dev/zero of=/data/full bs=1k 2>/dev/null")?;
    lab.inside("! echo more > /data/more && sync")?;

    lab.cluster.set_clock("+0s")?;
    lab.device.cut_power()?;
    lab.start()?;
    let status = wait_for_status(lab, "No space left on device")?;
    ensure!(status.contains("node.state"), "{status}");
    lab.inside("dmesg | grep 'No space left on device.*going on without'")?;
    let pid = lab.inside("pidof tether-agent")?;
    for round in 0..5 {
        let done = lab.ssh(&format!("echo {round}"))?.ok()?;
        ensure!(done.trim() == round.to_string(), "{done}");
    }
    ensure!(
        lab.inside("pidof tether-agent")? == pid,
        "the agent was started again"
    );

    // With room again, it is caught up on without being asked.
    lab.inside("rm /data/full /data/more")?;
    let written = poll(READY * 2, || {
        lab.inside("dmesg | grep 'state written again'").ok()
    });
    ensure!(
        written.is_some(),
        "nothing was written: {}",
        lab.inside("dmesg | tail -n 30")?
    );
    lab.device.cut_power()?;
    lab.start()?;
    ensure!(lab.identity()? == identity, "another identity");
    Ok(())
}

fn a_worn_out_disk_does_not_keep_anybody_out(lab: &mut Lab) -> Result<()> {
    let identity = joined_four_days_ago(lab)?;
    lab.inside("sync")?;
    lab.device.cut_power()?;
    lab.device.set_storage(Storage::ReadOnly)?;
    lab.cluster.set_clock("+0s")?;
    boot(&mut *lab.device)?;
    lab.reach()?;
    ensure!(
        lab.device.console()?.run(": > /data/new")?.code() != 0,
        "it can be written"
    );
    // Its socket is on that disk, too: the log is where it says so.
    let said = poll(READY, || {
        lab.inside("dmesg | grep 'Read-only file system.*going on'")
            .ok()
    });
    ensure!(
        said.is_some(),
        "the agent does not say so: {}",
        lab.inside("dmesg | tail -n 30")?
    );
    ensure!(lab.identity()? == identity, "another identity");
    Ok(())
}

/// A node whose certificates have lived more than half of their life once the cluster's clock is
/// right again: they are renewed then, and that is something to be written.
fn joined_four_days_ago(lab: &mut Lab) -> Result<(String, String)> {
    lab.cluster.set_clock("-4d")?;
    boot(&mut *lab.device)?;
    lab.cluster.wait_online(lab.device.name(), true)?;
    lab.identity()
}

fn wait_for_status(lab: &mut Lab, wanted: &str) -> Result<String> {
    let mut last = String::new();
    let seen = poll(READY, || {
        last = lab
            .inside("tether-agent status")
            .unwrap_or_else(|error| format!("{error:#}"));
        last.contains(wanted).then_some(())
    });
    ensure!(seen.is_some(), "the agent does not say {wanted:?}:\n{last}");
    Ok(last)
}
