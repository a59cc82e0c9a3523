//! Moves bytes between two streams until both directions are done.

use std::io;
use std::pin::pin;

use tokio::time::timeout;

use super::sessions::LAST_BYTES;
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
/// A node that leaves a stream whose session outlives it has another, or the session is over: so
/// does the client, unless it is gone without a word, and is not waited for.
///
/// # Errors
/// If either stream broke.
pub async fn splice(
    client: Stream,
    node: Stream,
    outlived: bool,
    moved: &mut Moved,
) -> io::Result<()> {
    let Moved { sent, received } = moved;
    let mut up = pin!(direction(client.read, node.write, sent));
    let mut down = pin!(direction(node.read, client.write, received));
    tokio::select! {
        done = &mut up => {
            done?;
            down.await
        }
        done = &mut down => {
            done?;
            if outlived {
                timeout(LAST_BYTES, up).await.unwrap_or(Ok(()))
            } else {
                up.await
            }
        }
    }
}

async fn direction(mut from: ReadHalf, mut to: WriteHalf, count: &mut u64) -> io::Result<()> {
    while let Some(bytes) = from.chunk().await? {
        *count += bytes.len() as u64;
        to.send(bytes).await?;
    }
    to.finish().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// A splice, and what is at its client's and its node's end.
    fn spliced(
        outlived: bool,
    ) -> (
        tokio::task::JoinHandle<(io::Result<()>, Moved)>,
        DuplexStream,
        DuplexStream,
    ) {
        let ((client, theirs), (node, its)) = (duplex(64), duplex(64));
        let splicing = tokio::spawn(async move {
            let mut moved = Moved::default();
            let (client, node) = (Stream::io(client), Stream::io(node));
            (splice(client, node, outlived, &mut moved).await, moved)
        });
        (splicing, theirs, its)
    }

    #[tokio::test(start_paused = true)]
    async fn each_direction_ends_by_itself_and_all_is_counted() {
        for outlived in [false, true] {
            let (splicing, mut client, mut node) = spliced(outlived);
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut got = String::new();
            node.read_to_string(&mut got).await.unwrap();
            assert_eq!(got, "question");
            // However late the answer is.
            tokio::time::sleep(LAST_BYTES * 10).await;
            node.write_all(b"answer").await.unwrap();
            node.shutdown().await.unwrap();
            got.clear();
            client.read_to_string(&mut got).await.unwrap();
            assert_eq!(got, "answer");
            let (done, moved) = splicing.await.unwrap();
            done.unwrap();
            assert_eq!((moved.sent, moved.received), (8, 6));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_gone_without_a_word_is_waited_for_only_if_its_session_ends_here() {
        for outlived in [false, true] {
            let (splicing, _client, mut node) = spliced(outlived);
            node.shutdown().await.unwrap();
            let ended = timeout(LAST_BYTES * 100, splicing).await;
            assert_eq!(ended.is_ok(), outlived);
        }
    }
}
