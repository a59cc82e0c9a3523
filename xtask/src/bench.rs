//! `cargo xtask bench`: Tether beside OpenSSH, in one run on one machine.
//!
//! The peer does the same job with stock parts: a device's `sshd`, reached by `ssh -J` over the
//! reverse tunnel that the device's `ssh -R` holds to a gateway's `sshd`. Measurements of both
//! sides alternate, so that a busy moment of the machine hits both; the median counts. Nothing is
//! asserted: the figures are printed with their ratio, and written as JSON if asked.
//! `--links` compares what becomes of both over [bad links](links) instead, `--sessions` what
//! becomes of [sessions](sessions) over cuts, and what it costs that they are kept.

mod links;
mod openssh;
pub(crate) mod proc;
mod report;
mod sessions;
mod tether;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use crate::tools;
use ::cross::shell::{cargo, check, say};
use openssh::OpenSsh;
use tether::Tether;

/// Bytes moved by one bulk run.
const BULK: u64 = 256 << 20;
/// One GiB, for ratios.
const GIB: f64 = (1u64 << 30) as f64;

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Write every figure to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// An agent built elsewhere, for example a static one
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// All programs, built elsewhere
    #[arg(long, value_name = "DIR", conflicts_with = "agent")]
    bin: Option<PathBuf>,
    /// Runs of each measurement; the median counts
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Simulated agents for the cluster's memory
    #[arg(long, default_value_t = 1000)]
    swarm: usize,
    /// Links that are cut, move, are slow or idle, beside autossh; about half an hour
    #[arg(long, group = "apart")]
    links: bool,
    /// Sessions over cuts, beside autossh, and what keeping them costs; about an hour
    #[arg(long, group = "apart")]
    sessions: bool,
    /// With --links: a cut of ten minutes, more patience with the peer, a longer idle time
    #[arg(long, requires = "links")]
    long: bool,
    /// With --links: how long the NAT keeps a silent UDP mapping
    #[arg(
        long,
        requires = "links",
        default_value_t = 120,
        value_name = "SECONDS"
    )]
    nat_timeout: u64,
    /// With --links: the agent's `keepalive`
    #[arg(long, requires = "links", value_name = "PROFILE")]
    keepalive: Option<String>,
    /// With --links: how long idle bytes are counted; as long before that, the agent learns
    #[arg(long, requires = "links", value_name = "MINUTES")]
    idle: Option<u64>,
    /// With --links or --sessions: only measurements whose name contains this
    #[arg(long, requires = "apart", value_name = "NAME")]
    only: Option<String>,
}

/// One side of the comparison.
pub(crate) trait Side {
    /// Runs a command on the device, its standard input and output connected to files.
    fn exec(&self, command: &str, stdin: &str, stdout: &str) -> Result<()>;
    /// Processes to count, apart from the client's own.
    fn daemons(&self) -> Vec<u32>;
    /// Processes on the device.
    fn device(&self) -> Vec<u32>;
    /// Starts a session that stays until the returned value is dropped.
    fn hold_session(&self) -> Result<Box<dyn std::any::Any>>;
    /// Size of the device's programs in bytes.
    fn size(&self) -> Result<u64>;
}

struct Figure {
    name: &'static str,
    unit: &'static str,
    ours: f64,
    peer: Option<f64>,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        let wanted = self.only.as_ref();
        wanted.is_none_or(|part| name.contains(part))
    }
}

/// Builds, measures and prints.
///
/// # Errors
/// If a side cannot be set up or a run fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    ::cross::tools::packages(tools::BENCH, true)?;
    if options.links {
        return links::run(options);
    }
    if options.sessions {
        return sessions::run(options);
    }
    let bin = programs(options)?;
    let dir = tempfile::tempdir()?;
    let bulk = dir.path().join("bulk");
    write_bulk(&bulk, BULK)?;
    let ours = Tether::start(&dir.path().join("tether"), &bin)?;
    let peer = OpenSsh::start(&dir.path().join("openssh"), ours.accounts())?;
    let mut figures = Vec::new();
    set_up(options, &ours, &peer, &mut figures)?;
    throughput(options, &ours, &peer, &bulk, &mut figures)?;
    memory(&ours, &peer, &mut figures)?;
    figures.push(figure(
        "size of the device's programs",
        "KiB",
        kib(ours.size()?),
        Some(kib(peer.size()?)),
    ));
    drop(peer);
    swarm(options, &ours, &mut figures)?;
    report(options, &figures)
}

/// Builds the programs as they ship; gives their folder.
fn programs(options: &Options) -> Result<PathBuf> {
    if let Some(bin) = &options.bin {
        return Ok(bin.clone());
    }
    check(&mut cargo(&[
        "build",
        "--release",
        "--locked",
        "-p",
        "tether-cluster",
        "-p",
        "tsh",
    ])?)?;
    let bin = tools::outputs("release")?;
    let agent = match &options.agent {
        Some(agent) => agent.clone(),
        None => {
            check(&mut cargo(&[
                "build",
                "--profile",
                "small",
                "--locked",
                "-p",
                "tether-agent",
            ])?)?;
            tools::outputs("small")?.join("tether-agent")
        }
    };
    std::fs::copy(&agent, bin.join("tether-agent")).with_context(|| agent.display().to_string())?;
    Ok(bin)
}

fn set_up(
    options: &Options,
    ours: &dyn Side,
    peer: &dyn Side,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let time = |side: &dyn Side| {
        let start = Instant::now();
        side.exec("true", "/dev/null", "/dev/null")?;
        anyhow::Ok(start.elapsed().as_secs_f64() * 1000.0)
    };
    let (ours, peer) = alternate(options.runs * 4, || time(ours), || time(peer))?;
    figures.push(figure(
        "session set-up, whole process",
        "ms",
        ours,
        Some(peer),
    ));
    Ok(())
}

fn throughput(
    options: &Options,
    ours: &dyn Side,
    peer: &dyn Side,
    bulk: &std::path::Path,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let path = bulk.to_str().context("path is not UTF-8")?;
    let down = format!("cat {path}");
    for (rate_name, cpu_name, command, stdin) in [
        (
            "bulk from the device",
            "CPU, bulk from the device",
            down.as_str(),
            "/dev/null",
        ),
        (
            "bulk to the device",
            "CPU, bulk to the device",
            "cat > /dev/null",
            path,
        ),
    ] {
        let mut cpu = (Vec::new(), Vec::new());
        let rate = |side: &dyn Side, cpu: &mut Vec<f64>| {
            let before = proc::cpu_seconds(&side.daemons());
            let start = Instant::now();
            side.exec(command, stdin, "/dev/null")?;
            let seconds = start.elapsed().as_secs_f64();
            cpu.push((proc::cpu_seconds(&side.daemons()) - before) * GIB / BULK as f64);
            anyhow::Ok(BULK as f64 / f64::from(1 << 20) / seconds)
        };
        let (ours, peer) = alternate(
            options.runs,
            || rate(ours, &mut cpu.0),
            || rate(peer, &mut cpu.1),
        )?;
        figures.push(figure(rate_name, "MiB/s", ours, Some(peer)));
        figures.push(figure(
            cpu_name,
            "s/GiB",
            median(cpu.0),
            Some(median(cpu.1)),
        ));
    }
    Ok(())
}

fn memory(ours: &dyn Side, peer: &dyn Side, figures: &mut Vec<Figure>) -> Result<()> {
    let pss = |side: &dyn Side| proc::pss_kib(&side.device());
    figures.push(figure(
        "device memory after traffic, idle (PSS)",
        "KiB",
        pss(ours),
        Some(pss(peer)),
    ));
    let sessions = (ours.hold_session()?, peer.hold_session()?);
    figures.push(figure(
        "device memory, one session (PSS)",
        "KiB",
        pss(ours),
        Some(pss(peer)),
    ));
    drop(sessions);
    Ok(())
}

fn swarm(options: &Options, ours: &Tether, figures: &mut Vec<Figure>) -> Result<()> {
    let idle = ours.fresh_agent_pss()?;
    figures.push(figure(
        "agent memory, fresh and idle (PSS)",
        "KiB",
        idle,
        None,
    ));
    if options.swarm > 0 {
        say(&format!("linking {} simulated agents ...", options.swarm));
        let each = ours.memory_per_agent(options.swarm)?;
        figures.push(figure("cluster memory per idle agent", "KiB", each, None));
    }
    Ok(())
}

fn alternate(
    runs: usize,
    mut ours: impl FnMut() -> Result<f64>,
    mut peer: impl FnMut() -> Result<f64>,
) -> Result<(f64, f64)> {
    // The first of each warms caches and counts for nothing.
    ours()?;
    peer()?;
    let mut seen = (Vec::new(), Vec::new());
    for _ in 0..runs {
        seen.0.push(ours()?);
        seen.1.push(peer()?);
    }
    Ok((median(seen.0), median(seen.1)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn figure(name: &'static str, unit: &'static str, ours: f64, peer: Option<f64>) -> Figure {
    Figure {
        name,
        unit,
        ours,
        peer,
    }
}

fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

fn report(options: &Options, figures: &[Figure]) -> Result<()> {
    say(&format!(
        "\n{:<42} {:>10} {:>10} {:>7}  unit",
        "", "Tether", "OpenSSH", "ratio"
    ));
    for Figure {
        name,
        unit,
        ours,
        peer,
    } in figures
    {
        let show = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".into(), |v| format!("{v:.digits$}"))
        };
        let ratio = show(peer.map(|p| ours / p), 2);
        say(&format!(
            "{name:<42} {ours:>10.1} {:>10} {ratio:>7}  {unit}",
            show(*peer, 1)
        ));
    }
    if let Some(path) = &options.json {
        let rows: Vec<_> = figures
            .iter()
            .map(|f| json!({ "name": f.name, "unit": f.unit, "ours": f.ours, "peer": f.peer, "ratio": f.peer.map(|p| f.ours / p) }))
            .collect();
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)?;
        say(&format!("written to {}", path.display()));
    }
    Ok(())
}

/// Bytes that do not compress.
fn write_bulk(path: &std::path::Path, bytes: u64) -> Result<()> {
    use std::io::Read;
    let mut random = std::fs::File::open("/dev/urandom")?.take(bytes);
    std::io::copy(&mut random, &mut std::fs::File::create(path)?)?;
    Ok(())
}
