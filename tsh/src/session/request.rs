//! What a session asks of the node: environment, terminal, and a command or a shell.
//!
//! The requests go out together, without waiting for the answers, which come with the output:
//! over a cellular line every wait is felt.

use std::collections::VecDeque;

use anyhow::{Context, Result};
use russh::ChannelWriteHalf;
use russh::client::{Handle, Msg};

use super::client::Client;
use super::loss::Loss;
use super::{Plan, pump, terminal};
use crate::cli::ssh::Destination;
use crate::error::{Exit, Failure, fail};

/// A request that the node must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Terminal,
    Shell,
    Command,
}

impl Request {
    /// The error for a no.
    pub(super) fn refused(self, node: &str) -> anyhow::Error {
        let sentence = match self {
            Self::Terminal => {
                format!("{node} does not give you a terminal. Try -T, with a command.")
            }
            Self::Shell => format!("{node} does not give you a shell."),
            Self::Command => format!("{node} does not run that command."),
        };
        fail(Exit::Denied, sentence)
    }
}

/// Opens a channel, asks, and carries bytes until the end. Gives the exit code, if there was one.
pub(super) async fn session(
    session: &Handle<Client>,
    to: &Destination,
    plan: &Plan,
    loss: Loss,
) -> Result<Option<u8>> {
    let opened = session.channel_open_session().await;
    let (read, write) = opened.with_context(|| refused_channel(to))?.split();
    let requests = ask(&write, plan).await.context(Failure::new(
        Exit::ConnectionLost,
        "The connection ended before the session began",
    ))?;
    pump::run(read, &write, requests, to, plan, loss).await
}

fn refused_channel(to: &Destination) -> Failure {
    let sentence = format!("{} does not open a session", to.node);
    Failure::new(Exit::ConnectionLost, sentence)
}

async fn ask(
    channel: &ChannelWriteHalf<Msg>,
    plan: &Plan,
) -> Result<VecDeque<Request>, russh::Error> {
    let mut requests = VecDeque::new();
    if plan.pty {
        for (name, value) in terminal::environment() {
            channel.set_env(false, name, value).await?;
        }
        let (kind, size, modes) = (terminal::kind(), terminal::size(), terminal::modes());
        channel
            .request_pty(true, &kind, size.columns, size.rows, 0, 0, &modes)
            .await?;
        requests.push_back(Request::Terminal);
    }
    match &plan.command {
        Some(command) => {
            channel.exec(true, command.as_str()).await?;
            requests.push_back(Request::Command);
        }
        None => {
            channel.request_shell(true).await?;
            requests.push_back(Request::Shell);
        }
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_refuses_is_named() {
        for (request, sentence) in [
            (
                Request::Terminal,
                "n does not give you a terminal. Try -T, with a command.",
            ),
            (Request::Shell, "n does not give you a shell."),
            (Request::Command, "n does not run that command."),
        ] {
            let error = request.refused("n");
            assert_eq!(Exit::of(&error), Exit::Denied);
            assert_eq!(error.to_string(), sentence);
        }
    }
}
