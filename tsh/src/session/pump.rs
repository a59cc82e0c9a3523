//! The running session: input and output at the same time, until the node ends it.

use std::collections::VecDeque;
use std::future::pending;
use std::io;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};

use super::input::{Input, Quit};
use super::request::Request;
use super::stdio::{Output, Target};
use super::terminal::Raw;
use super::{Plan, exit, terminal};
use crate::cli::ssh::Destination;
use crate::error::Exit;
use crate::output;

/// Carries bytes both ways. Gives the exit code, or nothing if the connection was lost.
pub(super) async fn run(
    read: ChannelReadHalf,
    write: &ChannelWriteHalf<Msg>,
    requests: VecDeque<Request>,
    to: &Destination,
    plan: &Plan,
) -> Result<Option<u8>> {
    let raw = if plan.pty && terminal::is_input() {
        Some(Raw::enter()?)
    } else {
        None
    };
    let was_raw = raw.is_some();
    let input = Input::new(write, was_raw);
    let ended = tokio::select! {
        ended = receive(read, requests, &to.node) => ended,
        Quit = send(input, plan) => Ok(Some(Exit::ConnectionLost.code())),
    };
    drop(raw);
    if was_raw && matches!(ended, Ok(Some(_))) {
        output::note(&format!("Connection to {} closed.", to.node));
    }
    ended
}

/// Ends only if the user wants to: a channel that takes no more will be reported by its other
/// half.
async fn send(input: Input<'_>, plan: &Plan) -> Quit {
    match input.run(plan).await {
        Ok(quit) => quit,
        Err(error) => {
            output::debug(|| format!("input ended: {error:#}"));
            pending().await
        }
    }
}

async fn receive(
    mut channel: ChannelReadHalf,
    mut requests: VecDeque<Request>,
    node: &str,
) -> Result<Option<u8>> {
    let output = Output::start()?;
    let mut code = None;
    while let Some(message) = channel.wait().await {
        let piece = match message {
            ChannelMsg::Data { data } => Some((Target::Out, data)),
            ChannelMsg::ExtendedData { data, ext: 1 } => Some((Target::Err, data)),
            ChannelMsg::Success => {
                requests.pop_front();
                None
            }
            ChannelMsg::Failure => match requests.pop_front() {
                Some(request) => return Err(request.refused(node)),
                None => None,
            },
            ChannelMsg::ExitStatus { exit_status } => {
                code = Some(exit::by_status(exit_status));
                None
            }
            ChannelMsg::ExitSignal { signal_name, .. } => {
                code = Some(exit::by_remote_signal(&signal_name));
                None
            }
            ChannelMsg::Close => break,
            _ => None,
        };
        if let Some((target, bytes)) = piece
            && !output.write(target, bytes).await
        {
            break;
        }
    }
    match output.finish().await {
        Ok(()) => Ok(code),
        // The reader has seen enough. A local command would have got this signal.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(Some(exit::by_signal(Signal::SIGPIPE)))
        }
        Err(error) => Err(error).context("Cannot write to standard output"),
    }
}
