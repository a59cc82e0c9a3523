//! Standard input and output, in threads of their own.
//!
//! Files, pipes and terminals cannot be awaited portably without changing them for everybody who
//! shares them, so a thread reads and another writes, a few pieces ahead of the session: enough
//! to keep both busy, little enough that a slow reader is felt at the other end. Neither thread
//! is waited for when the process ends.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use anyhow::{Context, Result};
use bytes::Bytes;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::{mpsc, oneshot};

/// Read at once.
const CHUNK: usize = 128 << 10;
/// Pieces read ahead.
const READ_AHEAD: usize = 4;
/// Pieces that wait to be written.
const WRITE_BEHIND: usize = 32;

/// Where output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Reads standard input to its end.
pub(crate) fn input() -> Result<mpsc::Receiver<Bytes>> {
    let file = duplicate(io::stdin().as_fd()).context("Cannot read standard input")?;
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    thread::Builder::new()
        .name("stdin".into())
        .spawn(move || read_all(file, &sender))?;
    Ok(receiver)
}

/// An input that cannot be read has ended, as for any other filter.
fn read_all(mut file: File, sender: &mpsc::Sender<Bytes>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if wait(&error, &file, PollFlags::POLLIN) => continue,
            Err(_) => return,
        };
        match buffer.get(..count) {
            None | Some([]) => return,
            Some(read) if sender.blocking_send(Bytes::copy_from_slice(read)).is_err() => return,
            Some(_) => {}
        }
    }
}

/// Writes standard output and standard error, in the order given.
#[derive(Debug)]
pub(crate) struct Output {
    pieces: mpsc::Sender<(Target, Bytes)>,
    done: oneshot::Receiver<io::Result<()>>,
}

impl Output {
    /// Starts the thread.
    pub(crate) fn start() -> Result<Self> {
        let files = (
            duplicate(io::stdout().as_fd()).context("Cannot write standard output")?,
            duplicate(io::stderr().as_fd()).context("Cannot write standard error")?,
        );
        let (pieces, mut receiver) = mpsc::channel(WRITE_BEHIND);
        let (sender, done) = oneshot::channel();
        thread::Builder::new()
            .name("stdout".into())
            .spawn(move || {
                let _ = sender.send(write_all(files, &mut receiver));
            })?;
        Ok(Self { pieces, done })
    }

    /// Writes, as soon as it is its turn. Says whether there still is somebody who reads; if not,
    /// [`Self::finish`] says why.
    pub(crate) async fn write(&self, target: Target, bytes: Bytes) -> bool {
        self.pieces.send((target, bytes)).await.is_ok()
    }

    /// Waits until all is written.
    pub(crate) async fn finish(self) -> io::Result<()> {
        drop(self.pieces);
        self.done.await.unwrap_or(Ok(()))
    }
}

fn write_all(
    (mut out, mut err): (File, File),
    pieces: &mut mpsc::Receiver<(Target, Bytes)>,
) -> io::Result<()> {
    while let Some((target, bytes)) = pieces.blocking_recv() {
        match target {
            Target::Out => write_piece(&mut out, &bytes)?,
            // Who does not read complaints may still read the result.
            Target::Err => drop(write_piece(&mut err, &bytes)),
        }
    }
    Ok(())
}

fn write_piece(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if wait(&error, file, PollFlags::POLLOUT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether to try again. Somebody who shares the file may have made it non-blocking.
fn wait(error: &io::Error, file: &File, event: PollFlags) -> bool {
    match error.kind() {
        io::ErrorKind::Interrupted => true,
        io::ErrorKind::WouldBlock => {
            let mut files = [PollFd::new(file.as_fd(), event)];
            poll(&mut files, PollTimeout::NONE).is_ok()
        }
        _ => false,
    }
}

/// The same file without the standard library's buffers.
fn duplicate(file: BorrowedFd<'_>) -> io::Result<File> {
    Ok(File::from(file.try_clone_to_owned()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> (File, File) {
        let (read, write) = io::pipe().unwrap();
        (
            File::from(std::os::fd::OwnedFd::from(read)),
            File::from(std::os::fd::OwnedFd::from(write)),
        )
    }

    fn nonblocking(file: &File) {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        fcntl(file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    }

    #[test]
    fn a_pipe_that_others_made_non_blocking_is_still_read_and_written_whole() {
        let (read, mut write) = pipe();
        nonblocking(&read);
        nonblocking(&write);
        let (sender, mut receiver) = mpsc::channel(READ_AHEAD);
        let reader = thread::spawn(move || read_all(read, &sender));
        let sent: Vec<u8> = (0..1 << 20).map(|i| (i % 251) as u8).collect();
        let copy = sent.clone();
        let writer = thread::spawn(move || write_piece(&mut write, &copy).unwrap());
        let mut got = Vec::new();
        while let Some(piece) = receiver.blocking_recv() {
            got.extend_from_slice(&piece);
        }
        writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!(got, sent);
    }

    #[test]
    fn nobody_reading_is_an_error_of_output_but_not_of_complaints() {
        let (out_read, out) = pipe();
        let (err_read, err) = pipe();
        drop((out_read, err_read));
        let (sender, mut receiver) = mpsc::channel(2);
        sender
            .blocking_send((Target::Err, Bytes::from_static(b"x")))
            .unwrap();
        sender
            .blocking_send((Target::Out, Bytes::from_static(b"x")))
            .unwrap();
        let error = write_all((out, err), &mut receiver).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
