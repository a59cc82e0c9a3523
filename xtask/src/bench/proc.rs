//! What processes cost, read from `/proc` (proc_pid_stat(5), proc_pid_smaps(5)).

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Clock ticks a second: fixed by Linux's ABI on every architecture we run on.
const TICKS: f64 = 100.0;

/// CPU seconds of these processes, all below them, those of them that have ended, and of this
/// process's own ended children (the clients).
pub(crate) fn cpu_seconds(roots: &[u32]) -> f64 {
    let all = snapshot();
    let mut ticks = all
        .get(&std::process::id())
        .map_or(0, |own| own.ended_ticks);
    for pid in below(roots, &all) {
        ticks += all.get(&pid).map_or(0, |p| p.own_ticks + p.ended_ticks);
    }
    ticks as f64 / TICKS
}

/// As [`cpu_seconds`], without what is below these processes, and to the microsecond.
///
/// # Errors
/// If one of them is gone.
pub(crate) fn own_cpu_seconds(pids: &[u32]) -> Result<f64> {
    let ended = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let ended = [ended.user_time(), ended.system_time()];
    let mut seconds: f64 = ended
        .iter()
        .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 * 1e-6)
        .sum();
    for pid in pids {
        let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(*pid)?));
        let time = clock.and_then(clock_gettime).context("a process is gone")?;
        seconds += Duration::from(time).as_secs_f64();
    }
    Ok(seconds)
}

/// Proportional memory of these processes and all below them, in KiB.
pub(crate) fn pss_kib(roots: &[u32]) -> f64 {
    below(roots, &snapshot()).into_iter().map(pss_of).sum()
}

struct Process {
    parent: u32,
    own_ticks: u64,
    ended_ticks: u64,
}

fn snapshot() -> HashMap<u32, Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, read(pid)?))).collect()
}

fn read(pid: u32) -> Option<Process> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything, but ends at the last parenthesis.
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |i: usize| fields.get(i)?.parse::<u64>().ok();
    Some(Process {
        parent: u32::try_from(number(1)?).ok()?,
        own_ticks: number(11)? + number(12)?,
        ended_ticks: number(13)? + number(14)?,
    })
}

fn below(roots: &[u32], all: &HashMap<u32, Process>) -> Vec<u32> {
    let mut found = roots.to_vec();
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let children = all
            .iter()
            .filter(|(_, p)| p.parent == parent)
            .map(|(pid, _)| *pid);
        let new: Vec<_> = children.filter(|pid| !found.contains(pid)).collect();
        found.extend(new);
        next += 1;
    }
    found
}

/// Proportional memory of a process, in KiB.
pub(crate) fn pss_of(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("Pss:"))
        .unwrap_or("0");
    line.split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0.0)
}
