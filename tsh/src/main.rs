//! `tsh`, Tether's client: logs in, lists the fleet, opens sessions.
//!
//! | module | holds |
//! | --- | --- |
//! | [`cli`] | the command line, as typed |
//! | [`login`] | from a password or an invite to certificates; prompts |
//! | [`trust`] | whether the peer is the cluster, or the node |
//! | [`profile`] | what is remembered between two runs |
//! | [`api`] | the proxy's HTTPS API |
//! | [`dial`] | a stream to a node: QUIC, or TLS on TCP |
//! | [`session`] | SSH over that stream: terminal, escapes, exit codes |
//! | [`relay`] | the same stream for OpenSSH |
//! | [`fleet`], [`sessions`], [`status`], [`config`] | what is listed, shown, and written for OpenSSH |
//! | [`agent_keys`] | the key in ssh-agent |
//! | [`output`], [`error`] | the only printing; the exit codes |
//!
//! One thread does it all, but for reading and writing standard input and output: there is one
//! user and one session, and starting threads takes longer than most commands need.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

mod address;
mod agent_keys;
mod api;
mod cli;
mod config;
mod dial;
mod error;
mod fleet;
mod login;
mod output;
mod profile;
mod relay;
mod session;
mod sessions;
mod status;
#[cfg(test)]
mod testing;
mod trust;

use cli::{Cli, Command, ProxyCommand};
use error::Exit;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.global.debug {
        output::show_debug();
    }
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let ended = builder
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| {
            let ended = runtime.block_on(run(cli));
            // Nothing that still runs in the background is worth waiting for.
            runtime.shutdown_background();
            ended
        });
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::error(&error);
            ExitCode::from(Exit::of(&error).code())
        }
    }
}

async fn run(cli: Cli) -> Result<u8> {
    let global = &cli.global;
    match &cli.command {
        Command::Login(args) => login::run(global, args).await?,
        Command::Logout => status::logout(global).await?,
        Command::Status(args) => status::run(global, args)?,
        Command::Ls(args) => fleet::list(global, args).await?,
        Command::Sessions(args) => sessions::list(global, args).await?,
        Command::Ssh(args) => return session::run(global, args).await,
        Command::Proxy(ProxyCommand::Ssh(args)) => return relay::run(global, args).await,
        Command::Config => config::run(global)?,
        Command::Version => output::result(concat!("tsh ", env!("CARGO_PKG_VERSION"))),
    }
    Ok(0)
}
