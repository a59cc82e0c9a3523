//! `cargo xtask swarm`: a fleet in one process against a cluster, and what becomes of both when the
//! cluster goes away.

mod report;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use hil_tests::cluster::{Cluster, me, text};
use hil_tests::programs::BIN_DIR;
use hil_tests::swarm::{Dialler, Storm, Swarm, Target};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::bench::proc;
use crate::tools;
use ::cross::shell::{cargo, check, complain};
use report::{Format, Memory, Report, Restart};

/// Descriptors beyond one for each agent.
const SPARE_FILES: u64 = 1024;
/// Agents idle this long before memory is read: past the first heartbeats.
const SETTLE: Duration = Duration::from_secs(40);
/// Somebody has to give up at some point.
const LIMIT: Duration = Duration::from_secs(600);
/// How often the progress of joining is told.
const STEP: usize = 1000;

/// What to do.
#[derive(Args)]
pub(crate) struct Options {
    /// Agents
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Take the cluster away under them, start it again, and measure until all are back
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "kill", value_name = "HOW")]
    restart: Option<How>,
    /// All agents notice at once, as over TCP, instead of being told by the cluster
    #[arg(long, requires = "restart")]
    at_once: bool,
    /// A cluster that runs elsewhere, instead of one of our own
    #[arg(long, value_name = "HOST:PORT", requires_all = ["token", "ca_file"], conflicts_with = "restart")]
    cluster: Option<String>,
    /// Its join token
    #[arg(long, env = "TETHER_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Its host CA, as `tctl auth export --type tls` prints it
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Do not wait for the agents to idle, and measure no memory
    #[arg(long)]
    no_memory: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How a cluster goes away.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum How {
    /// As a power cut would: nobody is told
    Kill,
    /// As an operator would: agents are asked to come back later
    Stop,
}

/// Runs it and prints the figures.
///
/// # Errors
/// If the cluster cannot be started, an agent cannot join, or not all come back.
pub(crate) fn run(options: &Options) -> Result<()> {
    raise_file_limit(u64::from(options.count) + SPARE_FILES)?;
    let report = match &options.cluster {
        Some(address) => elsewhere(options, address)?,
        None => ours(options)?,
    };
    report.print(options.format)?;
    ensure!(report.all_back(), "not all agents are back");
    Ok(())
}

fn elsewhere(options: &Options, address: &str) -> Result<Report> {
    let file = options.ca_file.as_ref().context("no --ca-file")?;
    let target = Target {
        addr: resolve(address)?,
        ca: std::fs::read_to_string(file).with_context(|| file.display().to_string())?,
        token: options.token.clone().context("no --token")?,
    };
    let (swarm, joined) = join(options, &target)?;
    let first = link(&swarm, None)?;
    Ok(Report {
        joined,
        first,
        restart: None,
        memory: None,
    })
}

fn ours(options: &Options) -> Result<Report> {
    let dir = tempfile::tempdir()?;
    let mut cluster = Cluster::start_with(dir.path(), "127.0.0.1", &programs()?)?;
    cluster.add_user("operator", "access", &me())?;
    let operator = cluster.logged_in("operator")?;
    let token = cluster.tctl_json(&["tokens", "add", "--ttl", "2h"])?;
    let target = Target {
        addr: format!("127.0.0.1:{}", cluster.port()).parse()?,
        ca: cluster.tctl(&["auth", "export", "--type", "tls"])?.ok()?,
        token: text(&token, "token"),
    };
    let dialler = Dialler::new(&operator, target.addr, &target.ca)?;
    let empty = proc::pss_kib(&[cluster.pid()]);
    let (swarm, joined) = join(options, &target)?;
    let first = link(&swarm, Some(&dialler))?;
    let mut memory = Memory::new(empty, swarm.len());
    if !options.no_memory {
        complain("idling ...");
        swarm.idle(SETTLE);
        memory.idle = Some(proc::pss_kib(&[cluster.pid()]));
    }
    let restart = match options.restart {
        Some(how) => Some(restart(options, how, &mut cluster, &swarm, &dialler)?),
        None => None,
    };
    if restart.is_some() && !options.no_memory {
        complain("idling ...");
        swarm.idle(SETTLE);
        memory.after_restart = Some(proc::pss_kib(&[cluster.pid()]));
    }
    Ok(Report {
        joined,
        first,
        restart,
        memory: Some(memory).filter(|m| m.idle.is_some()),
    })
}

fn restart(
    options: &Options,
    how: How,
    cluster: &mut Cluster,
    swarm: &Swarm,
    dialler: &Dialler,
) -> Result<Restart> {
    complain("restarting the cluster ...");
    let begin = || {
        let begun = Instant::now();
        match how {
            How::Kill => cluster.kill()?,
            How::Stop => cluster.stop()?,
        }
        let gone = begun.elapsed();
        if options.at_once {
            swarm.cut();
        }
        cluster.resume()?;
        Ok((gone, begun.elapsed()))
    };
    let (storm, (gone, ready)) = Storm::watch(swarm, Some(dialler), LIMIT, begin)?;
    Ok(Restart { storm, gone, ready })
}

fn join(options: &Options, target: &Target) -> Result<(Swarm, Duration)> {
    let count = usize::try_from(options.count)?;
    let begun = Instant::now();
    let told = |joined: usize| {
        if joined.is_multiple_of(STEP) || joined == count {
            complain(&format!("{joined} of {count} agents have joined"));
        }
    };
    let swarm = Swarm::join(target, count, &told)?;
    Ok((swarm, begun.elapsed()))
}

/// Lets the whole fleet link at once: a first storm.
fn link(swarm: &Swarm, dialler: Option<&Dialler>) -> Result<Storm> {
    complain("linking ...");
    let begin = || {
        swarm.link();
        Ok(())
    };
    Ok(Storm::watch(swarm, dialler, LIMIT, begin)?.0)
}

/// Programs that are built already, or the release build: figures of a debug build mean nothing.
fn programs() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os(BIN_DIR) {
        return Ok(dir.into());
    }
    let build = ["build", "--release", "--locked", "-p"];
    check(&mut cargo(
        &[&build[..], &["tether-cluster", "-p", "tsh"]].concat(),
    )?)?;
    tools::outputs("release")
}

fn resolve(address: &str) -> Result<SocketAddr> {
    let mut found = address
        .to_socket_addrs()
        .with_context(|| format!("{address:?}: expected HOST:PORT"))?;
    found.next().context("the name has no address")
}

/// Most systems start programs with room for 1,024 descriptors, and allow more to who asks.
fn raise_file_limit(wanted: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard).max(soft), hard)?;
    }
    Ok(())
}
