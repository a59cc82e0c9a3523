//! From the user to the node: keys, or the bytes of standard input, and the terminal's size.

use std::future::pending;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use russh::ChannelWriteHalf;
use russh::client::Msg;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::escape::{Command, Escapes, HELP};
use super::notice::OtherWindow;
use super::{Plan, stdio, terminal};
use crate::output;

/// How long the node believes in another window, so that its program draws everything anew: long
/// enough for a program to notice that has something else to do.
const OTHER_WINDOW: Duration = Duration::from_millis(200);

/// What the user asked for with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quit;

/// What goes to the node, and how.
pub(super) struct Input<'a> {
    channel: &'a ChannelWriteHalf<Msg>,
    /// Only where keys are typed.
    escapes: Option<Escapes>,
    /// The node should draw its screen anew.
    redraw: mpsc::Receiver<OtherWindow>,
    /// When the node is to be told of the real window again.
    real_at: Option<Instant>,
}

impl<'a> Input<'a> {
    /// `raw` says that the keys of a raw terminal are read.
    pub(super) fn new(
        channel: &'a ChannelWriteHalf<Msg>,
        raw: bool,
        redraw: mpsc::Receiver<OtherWindow>,
    ) -> Self {
        Self {
            channel,
            escapes: raw.then(Escapes::new),
            redraw,
            real_at: None,
        }
    }

    /// Sends all there is. Ends when the user wants to quit; if the channel has ended, that is
    /// for the other direction to say.
    pub(super) async fn run(mut self, plan: &Plan) -> Result<Quit> {
        let mut resized = plan
            .pty
            .then(|| signal(SignalKind::window_change()))
            .transpose()?;
        let mut source = plan.stdin.then(stdio::input).transpose()?;
        if source.is_none() {
            self.channel.eof().await?;
        }
        loop {
            tokio::select! {
                piece = next(&mut source) => match piece {
                    Some(bytes) => {
                        if let Some(quit) = self.send(bytes).await? {
                            return Ok(quit);
                        }
                    }
                    None => {
                        source = None;
                        self.channel.eof().await?;
                    }
                },
                () = change(&mut resized) => self.resize(None).await?,
                Some(other) = self.redraw.recv() => {
                    // A window of the same size as before is no news to anybody.
                    self.resize(Some(other)).await?;
                    self.real_at = Some(Instant::now() + OTHER_WINDOW);
                }
                () = until(self.real_at) => {
                    self.real_at = None;
                    self.resize(None).await?;
                }
            }
        }
    }

    async fn send(&mut self, bytes: Bytes) -> Result<Option<Quit>> {
        let Some(escapes) = &mut self.escapes else {
            self.channel.data_bytes(bytes).await?;
            return Ok(None);
        };
        let mut typed: &[u8] = &bytes;
        let mut out = Vec::with_capacity(typed.len() + 1);
        while let Some((command, rest)) = escapes.feed(typed, &mut out) {
            match command {
                Command::Disconnect => return Ok(Some(Quit)),
                Command::Help => output::to_terminal(HELP),
            }
            typed = rest;
        }
        self.channel.data_bytes(out).await?;
        Ok(None)
    }

    /// Tells the node of the window, or of one that is a little smaller.
    async fn resize(&self, other: Option<OtherWindow>) -> Result<()> {
        let mut size = terminal::size();
        match other {
            Some(OtherWindow::Row) => size.rows = size.rows.saturating_sub(1).max(1),
            Some(OtherWindow::Column) => size.columns = size.columns.saturating_sub(1).max(1),
            None => {}
        }
        let (columns, rows) = (size.columns, size.rows);
        self.channel.window_change(columns, rows, 0, 0).await?;
        Ok(())
    }
}

async fn next(source: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    match source {
        Some(source) => source.recv().await,
        None => pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

async fn change(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => pending().await,
    }
}
