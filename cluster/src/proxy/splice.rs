//! Moves bytes between two streams until both directions are done.

use std::io;

use crate::tunnel::stream::{ReadHalf, Stream, WriteHalf};

/// Bytes moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// From the client to the node.
    pub sent: u64,
    /// From the node to the client.
    pub received: u64,
}

/// Splices; a direction that ends is ended on the other side, one that breaks ends both. `moved`
/// keeps count also if this is dropped half way.
///
/// # Errors
/// If either stream broke.
pub async fn splice(client: Stream, node: Stream, moved: &mut Moved) -> io::Result<()> {
    let Moved { sent, received } = moved;
    let up = direction(client.read, node.write, sent);
    let down = direction(node.read, client.write, received);
    tokio::try_join!(up, down).map(drop)
}

async fn direction(mut from: ReadHalf, mut to: WriteHalf, count: &mut u64) -> io::Result<()> {
    while let Some(bytes) = from.chunk().await? {
        *count += bytes.len() as u64;
        to.send(bytes).await?;
    }
    to.finish().await;
    Ok(())
}
