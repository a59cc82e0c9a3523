//! `tsh ssh`: an SSH session with a node, end to end.
//!
//! The proxy carries the bytes of this session and cannot read them: the node proves itself with
//! its host certificate, the user with the certificate of the login.
//!
//! A session ends with the exit code of the remote command. Whatever way it ends, the terminal is
//! put back first ([`terminal`]), and what the node has sent is written out.

use std::sync::Arc;

use anyhow::{Context, Result};
use russh::client::Handle;

use crate::cli::ssh::{Destination, Tty};
use crate::cli::{Global, SshArgs};
use crate::dial;
use crate::error::{Exit, Failure};
use crate::login::{self, LoggedIn};
use crate::output;

pub(crate) mod client;
mod escape;
pub(crate) mod exit;
mod input;
pub(crate) mod loss;
mod notice;
mod pump;
mod request;
pub(crate) mod signals;
pub(crate) mod stdio;
mod terminal;

use client::Client;
use loss::Loss;

/// `tsh ssh`. Gives the exit code of the remote command.
pub(crate) async fn run(global: &Global, args: &SshArgs) -> Result<u8> {
    if args.quiet {
        output::hide_notes();
    }
    for option in &args.options {
        output::debug(|| format!("-o {option} has no effect"));
    }
    let to = args.destination().context(usage())?;
    let user = Arc::new(login::require(global).await?);
    let to = with_login(to, &user);
    let plan = Plan::new(args);
    let dialed = dial::open(&user, &to).await?;
    let line = dialed.line;
    let (drawn, told) = if plan.line {
        (line.status(), None)
    } else {
        (None, line.status())
    };
    let ended = tokio::select! {
        ended = converse(dialed.stream, &user, &to, &plan, Loss::of(drawn)) => ended,
        signal = signals::fatal() => Ok(exit::by_signal(signal?)),
        never = Loss::of(told).tell(&to.node) => match never {},
    };
    let ended = ended.map_err(|error| line.explained(error, &to.node));
    line.close().await;
    ended
}

/// What the session shall be.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Ask for a terminal.
    pub(crate) pty: bool,
    /// Give the node this terminal's keys as they are.
    pub(crate) raw: bool,
    /// Say on this terminal, in a line of its own, that the link is lost.
    pub(crate) line: bool,
    /// Run this instead of a shell.
    pub(crate) command: Option<String>,
    /// Run nothing.
    pub(crate) idle: bool,
    /// Read standard input.
    pub(crate) stdin: bool,
}

impl Plan {
    fn new(args: &SshArgs) -> Self {
        let command = args.command();
        let pty = match args.tty() {
            Tty::Never => false,
            Tty::Forced => true,
            Tty::Wanted => terminal::is_input(),
            Tty::Auto => command.is_none() && !args.no_command && terminal::is_input(),
        };
        let raw = pty && terminal::is_input();
        Self {
            pty,
            raw,
            line: raw && !args.quiet && terminal::is_screen(),
            command,
            idle: args.no_command,
            stdin: !args.no_stdin && !args.no_command,
        }
    }
}

async fn converse(
    stream: Box<dyn dial::ByteStream>,
    user: &LoggedIn,
    to: &Destination,
    plan: &Plan,
    loss: Loss,
) -> Result<u8> {
    let session = client::connect(stream, user, to).await?;
    let ended = if plan.idle {
        Ok(None)
    } else {
        request::session(&session, to, plan, loss).await
    };
    match ended? {
        Some(code) => Ok(code),
        None => Err(lost(session, to).await),
    }
}

/// Waits for the end of a connection that has no channel, or has lost it, and says why it ended.
async fn lost(session: Handle<Client>, to: &Destination) -> anyhow::Error {
    let sentence = format!("The connection to {} ended", to.node);
    let failure = Failure::new(Exit::ConnectionLost, sentence);
    match session.await {
        Ok(()) => failure.into(),
        Err(error) if Exit::of(&error) != Exit::Other => error,
        Err(error) => error.context(failure),
    }
}

/// Without a login the only allowed one is taken, or else the local user's name, as OpenSSH does.
fn with_login(to: Destination, user: &LoggedIn) -> Destination {
    let login = to.login.or_else(|| match user.logins() {
        [login] => Some(login.clone()),
        _ => local_user(),
    });
    Destination { login, ..to }
}

fn local_user() -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid());
    let name = user.ok().flatten().map(|user| user.name);
    name.or_else(|| std::env::var("USER").ok())
}

/// The error for a node that cannot be one.
pub(crate) fn usage() -> Failure {
    Failure::new(Exit::Usage, "That is not a node")
}
