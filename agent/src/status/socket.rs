//! The socket: one line comes in, with a format, and the status goes out, or the word `restart`, and
//! `ok` or `no` goes out with a sentence; then the connection ends.
//!
//! Only the agent's own user can open it. Callers are served one after the other, each with a
//! deadline, so that they cost a bounded amount of everything; but for one who waits for a restart,
//! beside whom the others are served.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream as Caller;
use std::path::Path;
use std::time::Duration;

use nix::sys::stat::{Mode, umask};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Format, Query};
use crate::link::input::Input;
use crate::link::restart::Asked;

/// Caller and agent are on the same machine; only a stopped process is slower.
const DEADLINE: Duration = Duration::from_secs(2);
/// The longest request is `restart` and a line end.
const MAX_REQUEST: usize = 16;
/// A new program may take its time to say that it would start.
const RESTART_DEADLINE: Duration = Duration::from_secs(45);
/// What asks for a restart.
const RESTART: &str = "restart";
/// A status has a handful of short lines.
const MAX_REPLY: u64 = 64 * 1024;

/// Opens the socket. The caller holds the folder's lock, so a socket that is there is a dead
/// agent's.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

/// Answers callers for ever.
pub(crate) async fn serve(listener: UnixListener, inputs: mpsc::Sender<Input>) {
    let mut restart = None;
    loop {
        match listener.accept().await {
            Ok((caller, _)) => tell(answer(caller, &inputs, &mut restart).await),
            Err(error) => {
                // Out of file descriptors: they come back when sessions end.
                log::debug!("the status socket: {error}");
                tokio::time::sleep(DEADLINE).await;
            }
        }
    }
}

/// What a caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Status(Format),
    Restart,
}

fn tell(answered: io::Result<()>) {
    if let Err(error) = answered {
        log::debug!("a status request was dropped: {error}");
    }
}

async fn answer(
    mut caller: UnixStream,
    inputs: &mpsc::Sender<Input>,
    restart: &mut Option<JoinHandle<()>>,
) -> io::Result<()> {
    match timeout(DEADLINE, request(&mut caller)).await?? {
        Request::Status(format) => {
            let (reply, status) = oneshot::channel();
            send(inputs, Input::Query(Query { format, reply })).await?;
            say(caller, &come(DEADLINE, status).await?).await
        }
        Request::Restart if restart.as_ref().is_some_and(|task| !task.is_finished()) => {
            say(caller, "no another restart is under way\n").await
        }
        Request::Restart => {
            let inputs = inputs.clone();
            let asked = async move { tell(restart_for(caller, &inputs).await) };
            *restart = Some(crate::spawn(asked));
            Ok(())
        }
    }
}

async fn restart_for(caller: UnixStream, inputs: &mpsc::Sender<Input>) -> io::Result<()> {
    let (asked, answer, writes) = Asked::new();
    send(inputs, Input::Restart(Some(asked))).await?;
    let said = say(caller, &come(RESTART_DEADLINE, answer).await?).await;
    // An agent that goes may go now.
    drop(writes);
    said
}

async fn come(limit: Duration, answer: oneshot::Receiver<String>) -> io::Result<String> {
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    timeout(limit, answer).await?.map_err(gone)
}

async fn say(mut caller: UnixStream, answer: &str) -> io::Result<()> {
    let said = timeout(DEADLINE, async {
        caller.write_all(answer.as_bytes()).await?;
        caller.shutdown().await
    });
    said.await?
}

async fn send(inputs: &mpsc::Sender<Input>, input: Input) -> io::Result<()> {
    let sent = inputs.send(input).await;
    sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

async fn request(caller: &mut UnixStream) -> io::Result<Request> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        if line.len() == MAX_REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        line.push(caller.read_u8().await?);
    }
    let line = std::str::from_utf8(&line).unwrap_or_default().trim_end();
    match line {
        RESTART => Ok(Request::Restart),
        format => match format.parse() {
            Ok(format) => Ok(Request::Status(format)),
            Err(_) => Err(io::ErrorKind::InvalidData.into()),
        },
    }
}

/// Asks the agent behind a socket for its status. An error of the kinds `NotFound` and
/// `ConnectionRefused` means that there is none.
pub(crate) fn ask(path: &Path, format: Format) -> io::Result<String> {
    asked(path, format.name(), DEADLINE * 2)
}

/// Asks the agent behind a socket to restart; errors are as those of [`ask`].
pub(crate) fn ask_to_restart(path: &Path) -> io::Result<String> {
    asked(path, RESTART, RESTART_DEADLINE)
}

fn asked(path: &Path, what: &str, limit: Duration) -> io::Result<String> {
    let mut agent = Caller::connect(path)?;
    agent.set_read_timeout(Some(limit))?;
    agent.set_write_timeout(Some(limit))?;
    agent.write_all(format!("{what}\n").as_bytes())?;
    let mut answer = String::new();
    agent.take(MAX_REPLY).read_to_string(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the agent gave no answer",
        ));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Status;
    use std::os::unix::fs::PermissionsExt;

    async fn agent(mut inputs: mpsc::Receiver<Input>) {
        while let Some(input) = inputs.recv().await {
            match input {
                Input::Query(query) => query.answer(&Status::of_stopped()),
                Input::Restart(asked) => asked.unwrap().answer("no reason\n".into()).await,
                _ => {}
            }
        }
    }

    async fn asked(path: &Path, request: &'static [u8]) -> String {
        let mut caller = UnixStream::connect(path).await.unwrap();
        caller.write_all(request).await.unwrap();
        let mut reply = String::new();
        let _ = caller.read_to_string(&mut reply).await;
        reply
    }

    #[tokio::test]
    async fn callers_get_the_format_they_ask_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let listener = bind(&path).unwrap();
        let (inputs, queue) = mpsc::channel(4);
        let serving = tokio::spawn(serve(listener, inputs));
        let answering = tokio::spawn(agent(queue));

        let asking = path.clone();
        let json = tokio::task::spawn_blocking(move || ask(&asking, Format::Json))
            .await
            .unwrap();
        assert!(json.unwrap().starts_with('{'));
        assert!(asked(&path, b"text\n").await.starts_with("agent:"));
        assert_eq!(asked(&path, b"restart\n").await, "no reason\n");
        for wrong in [&b"xml\n"[..], b"text-and-much-more-than-fits\n", b"\xff\n"] {
            assert_eq!(asked(&path, wrong).await, "");
        }
        serving.abort();
        answering.abort();
    }

    #[tokio::test]
    async fn only_the_owner_may_ask_and_a_dead_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        drop(bind(&path).unwrap());
        assert_eq!(
            ask(&path, Format::Text).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        let _listener = bind(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[tokio::test]
    async fn whoever_waits_for_a_restart_stands_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let (inputs, mut queue) = mpsc::channel(4);
        let serving = tokio::spawn(serve(bind(&path).unwrap(), inputs));
        let mut first = UnixStream::connect(&path).await.unwrap();
        first.write_all(b"restart\n").await.unwrap();
        let Some(Input::Restart(Some(restart))) = queue.recv().await else {
            panic!("no restart");
        };
        let answering = tokio::spawn(agent(queue));
        assert!(asked(&path, b"text\n").await.starts_with("agent:"));
        let second = asked(&path, b"restart\n").await;
        assert_eq!(second, "no another restart is under way\n");
        restart.answer("ok all\n".into()).await;
        let mut reply = String::new();
        first.read_to_string(&mut reply).await.unwrap();
        assert_eq!(reply, "ok all\n");
        serving.abort();
        answering.abort();
    }

    #[test]
    fn no_socket_means_no_agent() {
        let error = ask(Path::new("/nonexistent/agent.sock"), Format::Text).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
