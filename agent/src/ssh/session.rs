//! One running program: its input, its output, its end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use nix::sys::signal::{Signal, killpg};
use russh::server::{Handle, Msg};
use russh::{ChannelWriteHalf, Sig};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdin;
use tokio::sync::watch;

use super::input::Input;
use super::jobs::{Job, Pipes};
use super::server::Progress;

/// Bytes read from a program at once: one packet.
const CHUNK: usize = super::PACKET as usize;
/// RFC 4254 §5.2: data type code of standard error.
const STDERR: u32 = 1;
/// A program whose client has gone gets this long after SIGHUP before it is killed.
pub(super) const HANG_UP: Duration = Duration::from_secs(5);

/// A program and its channel.
pub(super) struct Session {
    pub(super) job: Job,
    pub(super) output: Output,
    pub(super) handle: Handle,
    pub(super) input: Arc<Input>,
    /// Ends when the client closes the channel or goes away.
    pub(super) open: watch::Receiver<()>,
}

/// Where a program's output goes.
pub(super) struct Output {
    pub(super) channel: ChannelWriteHalf<Msg>,
    pub(super) progress: Arc<Progress>,
}

impl Session {
    /// Runs to the program's end, or the client's.
    pub(super) async fn run(mut self) {
        let mut open = self.open.clone();
        let ended = tokio::select! {
            status = self.pump() => Some(status),
            // Nothing is ever sent: this resolves when the sender is dropped.
            _ = open.changed() => None,
        };
        self.input.discard();
        match ended {
            Some(status) => self.report(status).await,
            None => hang_up(&mut self.job).await,
        }
    }

    async fn pump(&mut self) -> ExitStatus {
        match self.job.terminal.take() {
            Some(master) => self.pump_terminal(master).await,
            None => self.pump_pipes().await,
        }
    }

    async fn pump_pipes(&mut self) -> ExitStatus {
        let Pipes {
            stdin,
            stdout,
            stderr,
        } = std::mem::take(&mut self.job.pipes);
        // As sshd: the session lasts until both pipes are closed, also by grandchildren.
        let output = async {
            tokio::join!(
                self.output.copy(stdout, None),
                self.output.copy(stderr, Some(STDERR))
            );
        };
        tokio::select! {
            () = output => {}
            () = feed_pipe(&self.input, stdin) => {}
        }
        self.job.program.wait().await
    }

    async fn pump_terminal(&mut self, master: AsyncFd<OwnedFd>) -> ExitStatus {
        let program = &mut self.job.program;
        tokio::select! {
            () = self.output.copy_terminal(&master, program.wait()) => {}
            () = feed_terminal(&self.input, &master) => {}
        }
        program.wait().await
    }

    /// Says how the program ended. If the client is gone meanwhile, there is nobody to tell.
    async fn report(self, status: ExitStatus) {
        let channel = &self.output.channel;
        match status.signal() {
            Some(number) => {
                let id = channel.id();
                let core = status.core_dumped();
                let told = self.handle.exit_signal_request(
                    id,
                    name(number),
                    core,
                    String::new(),
                    String::new(),
                );
                told.await.ok();
            }
            None => {
                let code = u32::try_from(status.code().unwrap_or(255)).unwrap_or(255);
                channel.exit_status(code).await.ok();
            }
        }
        channel.eof().await.ok();
        channel.close().await.ok();
    }
}

impl Output {
    /// Copies until the pipe or the channel ends.
    async fn copy<R: AsyncRead + Unpin>(&self, pipe: Option<R>, stream: Option<u32>) {
        let Some(mut pipe) = pipe else { return };
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            match pipe.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if !self.send(&mut buffer, stream).await {
                return;
            }
        }
    }

    /// Copies until the terminal or the channel ends. Once the program is `over`, only what it has
    /// left in its terminal: others may hold that open.
    async fn copy_terminal<T>(&self, master: &AsyncFd<OwnedFd>, over: impl Future<Output = T>) {
        let mut over = pin!(over);
        let mut buffer = BytesMut::new();
        loop {
            // Nothing that was read is lost to a program's end: what an arm does is done whole.
            let mut ready = tokio::select! {
                Ok(ready) = master.readable() => ready,
                _ = &mut over => break,
            };
            match ready.try_io(|fd| read(fd.get_ref(), &mut buffer)) {
                // EIO says that the last process has closed the terminal.
                Ok(Ok(0) | Err(_)) => return,
                Ok(Ok(_)) => {
                    if !self.send(&mut buffer, None).await {
                        return;
                    }
                }
                Err(_would_block) => {}
            }
        }
        while let Ok(1..) = read(master.get_ref(), &mut buffer) {
            if !self.send(&mut buffer, None).await {
                return;
            }
        }
    }

    async fn send(&self, buffer: &mut BytesMut, stream: Option<u32>) -> bool {
        self.progress.touch();
        let bytes = buffer.split().freeze();
        let sent = match stream {
            None => self.channel.data_bytes(bytes).await,
            Some(stream) => self.channel.extended_data_bytes(stream, bytes).await,
        };
        sent.is_ok()
    }
}

/// Feeds a program until it stops reading; then drops what else comes, forever.
async fn feed_pipe(input: &Input, stdin: Option<ChildStdin>) {
    if let Some(mut stdin) = stdin {
        while let Some(chunk) = input.next().await {
            if stdin.write_all(&chunk).await.is_err() {
                break;
            }
        }
    }
    input.discard();
    std::future::pending().await
}

async fn feed_terminal(input: &Input, master: &AsyncFd<OwnedFd>) {
    while let Some(chunk) = input.next().await {
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            let Ok(mut ready) = master.writable().await else {
                break;
            };
            match ready.try_io(|fd| Ok(nix::unistd::write(fd.get_ref(), rest)?)) {
                Ok(Ok(written)) => rest = rest.get(written..).unwrap_or_default(),
                Ok(Err(_)) => break,
                Err(_would_block) => {}
            }
        }
    }
    // The end of input is not the end of a terminal: as with sshd, the program goes on.
    std::future::pending().await
}

fn read(fd: &OwnedFd, buffer: &mut BytesMut) -> io::Result<usize> {
    buffer.resize(CHUNK, 0);
    let read = nix::unistd::read(fd, buffer.as_mut());
    buffer.truncate(*read.as_ref().unwrap_or(&0));
    Ok(read?)
}

/// The client has gone: tells the program, and ends it if it does not listen.
async fn hang_up(job: &mut Job) {
    job.terminal = None;
    let program = &mut job.program;
    // A group that is gone already needs no signal; a stopped one must wake up to hear it.
    if let Some(group) = program.runs() {
        killpg(group, Signal::SIGHUP).ok();
        killpg(group, Signal::SIGCONT).ok();
    }
    if tokio::time::timeout(HANG_UP, program.wait()).await.is_err() {
        log::info!("a program ignored its hang-up and is killed");
        program.kill().await;
    }
}

/// A signal as RFC 4254 §6.10 names it.
fn name(number: i32) -> Sig {
    match Signal::try_from(number) {
        Ok(Signal::SIGABRT) => Sig::ABRT,
        Ok(Signal::SIGALRM) => Sig::ALRM,
        Ok(Signal::SIGFPE) => Sig::FPE,
        Ok(Signal::SIGHUP) => Sig::HUP,
        Ok(Signal::SIGILL) => Sig::ILL,
        Ok(Signal::SIGINT) => Sig::INT,
        Ok(Signal::SIGKILL) => Sig::KILL,
        Ok(Signal::SIGPIPE) => Sig::PIPE,
        Ok(Signal::SIGQUIT) => Sig::QUIT,
        Ok(Signal::SIGSEGV) => Sig::SEGV,
        Ok(Signal::SIGTERM) => Sig::TERM,
        Ok(Signal::SIGUSR1) => Sig::USR1,
        Ok(other) => Sig::Custom(other.as_str().trim_start_matches("SIG").to_owned()),
        Err(_) => Sig::Custom(number.to_string()),
    }
}
