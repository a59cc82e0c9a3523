//! `tether`: runs a cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use cluster::config::{Config, File};
use cluster::descriptors;
use cluster::start::Cluster;
use tracing_subscriber::EnvFilter;

/// Secure access to machines that nobody can reach: the cluster.
#[derive(Parser)]
#[command(
    name = "tether",
    version,
    after_help = "Example:\n  tether start --data-dir ./data --public-addr gw.example.net:3080"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the cluster: certificate authority, proxy and audit log
    #[command(
        after_help = "Example:\n  tether start --data-dir ./data --public-addr gw.example.net:3080\n\nExit codes: 0 stopped by a signal, 1 failed, 2 wrong usage or configuration."
    )]
    Start(Box<Start>),
    /// Print the version
    #[command(after_help = "Example:\n  tether version")]
    Version,
}

#[derive(Args)]
struct Start {
    /// Configuration file (TOML); flags outweigh it
    #[arg(long, env = "TETHER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder for all state [default: /var/lib/tether]
    #[arg(long, env = "TETHER_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address that agents and people use
    #[arg(long, value_name = "HOST[:PORT]")]
    public_addr: Option<String>,
    /// Address to listen on, TCP and UDP [default: 0.0.0.0 and the public port]
    #[arg(long, value_name = "IP:PORT")]
    listen_addr: Option<String>,
    /// Name of the cluster, for good [default: the public host]
    #[arg(long, value_name = "NAME")]
    cluster_name: Option<String>,
    /// Address for /healthz, /readyz and /metrics; keep it local [default: off]
    #[arg(long, value_name = "IP:PORT")]
    diag_addr: Option<String>,
    /// Certificate chain shown to browsers (PEM)
    #[arg(long, value_name = "FILE")]
    public_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// How the log is written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Check the configuration and exit
    #[arg(long)]
    check: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Version => {
            show(&format!("tether {}", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        Command::Start(start) => match configure(&start) {
            Err(error) => {
                complain(&format!("{error:#}"));
                ExitCode::from(2)
            }
            Ok(_) if start.check => {
                show("configuration is fine");
                ExitCode::SUCCESS
            }
            Ok(config) => finish(run(&config, start.log_format)),
        },
    }
}

fn configure(start: &Start) -> Result<Config> {
    let file = start
        .config
        .as_deref()
        .map(File::read)
        .transpose()?
        .unwrap_or_default();
    let flags = File {
        data_dir: start.data_dir.clone(),
        public_addr: start.public_addr.clone(),
        listen_addr: start.listen_addr.clone(),
        cluster_name: start.cluster_name.clone(),
        diag_addr: start.diag_addr.clone(),
        public_cert: start.public_cert.clone(),
        public_key: start.public_key.clone(),
    };
    flags.over(file).check()
}

fn run(config: &Config, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::try_from_env("TETHER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init(),
        LogFormat::Json => log.json().init(),
    }
    descriptors::raise();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(async { Cluster::open(config).await?.run(config).await });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(
    clippy::print_stdout,
    reason = "what was asked for goes to standard output"
)]
fn show(text: &str) {
    println!("{text}");
}

#[allow(clippy::print_stderr, reason = "the log may not be set up yet")]
fn complain(text: &str) {
    eprintln!("tether: {text}");
}
