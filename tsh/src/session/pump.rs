//! The running session: input and output at the same time, until the node ends it.

use std::collections::VecDeque;
use std::future::pending;
use std::io;

use anyhow::{Context, Result};
use bytes::Bytes;
use nix::sys::signal::Signal;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::mpsc;

use super::input::{Input, Quit};
use super::loss::{Loss, News};
use super::notice::{self, Notice, OtherWindow};
use super::request::Request;
use super::stdio::{Output, Target};
use super::terminal::Raw;
use super::{Plan, exit};
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
    loss: Loss,
) -> Result<Option<u8>> {
    let raw = if plan.raw { Some(Raw::enter()?) } else { None };
    let was_raw = raw.is_some();
    let (redraw, other_window) = mpsc::channel(1);
    let input = Input::new(write, was_raw, other_window);
    let output = Received {
        output: Output::start()?,
        line: plan.line.then(|| Line::new(loss)),
        redraw,
        code: None,
    };
    let ended = tokio::select! {
        ended = output.receive(read, requests, &to.node) => ended,
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

/// What comes from the node, and where it goes.
struct Received {
    output: Output,
    line: Option<Line>,
    /// The node should draw its screen anew.
    redraw: mpsc::Sender<OtherWindow>,
    code: Option<u8>,
}

impl Received {
    async fn receive(
        mut self,
        mut channel: ChannelReadHalf,
        mut requests: VecDeque<Request>,
        node: &str,
    ) -> Result<Option<u8>> {
        loop {
            let message = tokio::select! {
                message = channel.wait() => message,
                news = Line::news(&mut self.line) => {
                    self.tell(news).await;
                    continue;
                }
            };
            let piece = match message {
                Some(ChannelMsg::Data { data }) => Some((Target::Out, data)),
                Some(ChannelMsg::ExtendedData { data, ext: 1 }) => Some((Target::Err, data)),
                Some(ChannelMsg::Success) => {
                    requests.pop_front();
                    None
                }
                Some(ChannelMsg::Failure) => match requests.pop_front() {
                    Some(request) => return Err(request.refused(node)),
                    None => None,
                },
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    self.code = Some(exit::by_status(exit_status));
                    None
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    self.code = Some(exit::by_remote_signal(&signal_name));
                    None
                }
                Some(ChannelMsg::Close) | None => break,
                Some(_) => None,
            };
            if let Some((target, bytes)) = piece
                && !self.write(target, bytes).await
            {
                break;
            }
        }
        self.finish().await
    }

    /// Tells the person in front of the terminal.
    async fn tell(&mut self, news: News) {
        let Some(line) = &mut self.line else {
            return;
        };
        let drawn = match news {
            News::Lost { lost_for, left } => line.notice.show(&notice::text(lost_for, left)),
            News::Back => {
                if let Some(other) = line.notice.redraw() {
                    // One that waits is enough.
                    let _ = self.redraw.try_send(other);
                }
                line.notice.hide()
            }
        };
        if let Some(bytes) = drawn {
            self.output.write(Target::Out, bytes).await;
        }
    }

    async fn write(&mut self, target: Target, bytes: Bytes) -> bool {
        let line = self.line.as_mut();
        if let Some(hide) = line.and_then(|line| line.notice.before(&bytes)) {
            self.output.write(Target::Out, hide).await;
        }
        self.output.write(target, bytes).await
    }

    async fn finish(mut self) -> Result<Option<u8>> {
        if let Some(line) = &mut self.line {
            line.ended = self.code.is_some();
        }
        match self.output.finish().await {
            Ok(()) => Ok(self.code),
            // The reader has seen enough. A local command would have got this signal.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                Ok(Some(exit::by_signal(Signal::SIGPIPE)))
            }
            Err(error) => Err(error).context("Cannot write to standard output"),
        }
    }
}

/// The line that says that the link is lost, on a terminal that is the node's.
struct Line {
    notice: Notice,
    loss: Loss,
    /// What runs on the node has ended by itself.
    ended: bool,
}

impl Line {
    const fn new(loss: Loss) -> Self {
        Self {
            notice: Notice::new(),
            loss,
            ended: false,
        }
    }

    async fn news(line: &mut Option<Self>) -> News {
        match line {
            Some(line) => line.loss.news().await,
            None => pending().await,
        }
    }
}

impl Drop for Line {
    /// Whatever ended the session, the line goes, and so does a program that filled the screen and
    /// was cut off.
    fn drop(&mut self) {
        if let Some(hide) = self.notice.hide() {
            output::to_screen(&hide);
        }
        if let Some(back) = self.notice.give_back().filter(|_| !self.ended) {
            output::to_screen(back.as_bytes());
        }
    }
}
