//! From the user to the node: keys, or the bytes of standard input, and the terminal's size.

use std::future::pending;

use anyhow::Result;
use bytes::Bytes;
use russh::ChannelWriteHalf;
use russh::client::Msg;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::escape::{Command, Escapes, HELP};
use super::{Plan, stdio, terminal};
use crate::output;

/// What the user asked for with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quit;

/// What goes to the node, and how.
pub(super) struct Input<'a> {
    channel: &'a ChannelWriteHalf<Msg>,
    /// Only where keys are typed.
    escapes: Option<Escapes>,
}

impl<'a> Input<'a> {
    /// `raw` says that the keys of a raw terminal are read.
    pub(super) fn new(channel: &'a ChannelWriteHalf<Msg>, raw: bool) -> Self {
        Self {
            channel,
            escapes: raw.then(Escapes::new),
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
                () = change(&mut resized) => self.resize().await?,
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

    async fn resize(&self) -> Result<()> {
        let size = terminal::size();
        self.channel
            .window_change(size.columns, size.rows, 0, 0)
            .await?;
        Ok(())
    }
}

async fn next(source: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    match source {
        Some(source) => source.recv().await,
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
