//! `tsh proxy ssh`: standard input and output as a stream to a node's SSH server.
//!
//! The two directions live and end apart: the end of standard input is passed on while the node
//! may still send, and the end of what the node sends closes standard output while there may
//! still be input.

use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::cli::{Global, ProxySshArgs};
use crate::dial::{self, ByteStream};
use crate::error::{Exit, Failure};
use crate::login;
use crate::output;
use crate::session::loss::Loss;
use crate::session::stdio::{self, Output, Target};
use crate::session::{exit, signals, usage};

/// Read from the node at once.
const CHUNK: usize = 128 << 10;

/// `tsh proxy ssh`. Gives the exit code.
pub(crate) async fn run(global: &Global, args: &ProxySshArgs) -> Result<u8> {
    let to = args.destination().context(usage())?;
    let user = Arc::new(login::require(global).await?);
    let dialed = dial::open(&user, &to).await?;
    let carried = tokio::select! {
        carried = carry(dialed.stream) => carried.map(|()| 0),
        signal = signals::fatal() => Ok(exit::by_signal(signal?)),
        never = Loss::of(dialed.line.status()).tell(&to.node) => match never {},
    };
    let carried = carried.map_err(|error| dialed.line.explained(error, &to.node));
    dialed.line.close().await;
    carried
}

async fn carry(stream: Box<dyn ByteStream>) -> Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    let outward = async {
        // The node may have had enough before the input ends.
        if let Err(error) = send(&mut write).await {
            output::debug(|| format!("input ended: {error:#}"));
        }
        Ok(())
    };
    tokio::try_join!(receive(&mut read), outward)?;
    Ok(())
}

async fn send(stream: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
    let mut input = stdio::input()?;
    while let Some(bytes) = input.recv().await {
        stream.write_all(&bytes).await?;
        // Whatever has come up meanwhile goes along.
        while let Ok(bytes) = input.try_recv() {
            stream.write_all(&bytes).await?;
        }
        stream.flush().await?;
    }
    stream.shutdown().await?;
    Ok(())
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<()> {
    let output = Output::start()?;
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        let count = stream.read_buf(&mut buffer).await.context(Failure::new(
            Exit::ConnectionLost,
            "The connection to the node was lost",
        ))?;
        if count == 0 || !output.write(Target::Out, buffer.split().freeze()).await {
            break;
        }
    }
    output
        .finish()
        .await
        .context("Cannot write to standard output")?;
    // Whoever reads this must learn that no more comes.
    let _ = nix::unistd::close(nix::libc::STDOUT_FILENO);
    Ok(())
}
