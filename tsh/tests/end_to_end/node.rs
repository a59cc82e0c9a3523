//! A node's SSH server. Commands run in a real shell; a terminal gets a stub that tells what it
//! was given and echoes what it gets.

use std::borrow::Cow;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use russh::keys::{Certificate, PrivateKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handle, Handler, Msg, Session, run_stream};
use russh::{Channel, ChannelId, ChannelMsg, ChannelWriteHalf, Preferred, Pty, Sig, cipher};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

type Error = anyhow::Error;

/// A node that lets certain users in.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) key: PrivateKey,
    pub(crate) certificate: Certificate,
    pub(crate) logins: Vec<String>,
}

impl Node {
    pub(crate) async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let config = Config {
            keys: vec![self.key.clone()],
            certificates: vec![self.certificate.clone()],
            auth_rejection_time: Duration::from_millis(10),
            window_size: 4 << 20,
            maximum_packet_size: 65_535,
            preferred: Preferred {
                cipher: Cow::Borrowed(&[cipher::AES_128_GCM, cipher::CHACHA20_POLY1305]),
                ..Preferred::DEFAULT
            },
            ..Config::default()
        };
        let session = Server {
            logins: self.logins,
            channel: None,
            terminal: None,
        };
        let stream = tokio::io::BufReader::with_capacity(256 << 10, stream);
        if let Ok(running) = run_stream(Arc::new(config), stream, session).await {
            let _ = running.await;
        }
    }
}

struct Server {
    logins: Vec<String>,
    channel: Option<Channel<Msg>>,
    terminal: Option<String>,
}

impl Handler for Server {
    type Error = Error;

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        _: &Certificate,
    ) -> Result<Auth, Error> {
        let known = self.logins.iter().any(|login| login == user);
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        self.channel = Some(channel);
        reply.accept().await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        let erase = modes.iter().find(|(mode, _)| *mode == Pty::VERASE);
        let erase = erase.map_or(0, |(_, value)| *value);
        self.terminal = Some(format!("{term} {columns}x{rows} erase={erase}"));
        session.channel_success(id)?;
        Ok(())
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.data(id, format!("resized {columns}x{rows}\r\n"))?;
        Ok(())
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.data(id, format!("env {name}={value}\r\n"))?;
        Ok(())
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Error> {
        let Some(channel) = self.channel.take() else {
            return Ok(session.channel_failure(id)?);
        };
        session.channel_success(id)?;
        match self.terminal.take() {
            Some(terminal) => tokio::spawn(terminal_stub(channel, terminal)),
            None => tokio::spawn(run(channel, session.handle(), "exec sh".to_owned())),
        };
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        let command = String::from_utf8(command.to_vec())?;
        match self.channel.take() {
            Some(channel) if command != "refuse me" => {
                session.channel_success(id)?;
                tokio::spawn(run(channel, session.handle(), command));
            }
            _ => session.channel_failure(id)?,
        }
        Ok(())
    }
}

async fn terminal_stub(mut channel: Channel<Msg>, terminal: String) -> Result<(), Error> {
    channel
        .data_bytes(format!("terminal {terminal}\r\n").into_bytes())
        .await?;
    let mut typed = Vec::new();
    while let Some(message) = channel.wait().await {
        if let ChannelMsg::Data { data } = message {
            typed.extend_from_slice(&data);
            channel.data_bytes(data).await?;
            if typed.ends_with(b"exit\r") {
                channel.exit_status(7).await?;
                break;
            }
        }
    }
    Ok(channel.close().await?)
}

async fn run(channel: Channel<Msg>, session: Handle, command: String) -> Result<(), Error> {
    let mut child = Command::new("sh")
        .args(["-c", &command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (mut read, write) = channel.split();
    let mut stdin = child.stdin.take();
    // Without a bound: a session that waits for the command would not see that the client makes
    // room for its output.
    let (queue, mut queued) = mpsc::unbounded_channel();
    let input = tokio::spawn(async move {
        while let Some(message) = queued.recv().await {
            let written = match (message, &mut stdin) {
                (ChannelMsg::Data { data }, Some(pipe)) => pipe.write_all(&data).await.is_ok(),
                (message, _) => !matches!(message, ChannelMsg::Eof),
            };
            if !written {
                stdin = None;
            }
        }
    });
    tokio::spawn(async move {
        while let Some(message) = read.wait().await {
            if queue.send(message).is_err() {
                break;
            }
        }
    });
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    tokio::try_join!(copy(stdout, &write, None), copy(stderr, &write, Some(1)))?;
    end(child, &write, &session).await?;
    input.abort();
    Ok(())
}

async fn copy(
    from: Option<impl AsyncRead + Unpin>,
    to: &ChannelWriteHalf<Msg>,
    kind: Option<u32>,
) -> Result<(), Error> {
    let mut buffer = BytesMut::new();
    let Some(mut from) = from else { return Ok(()) };
    loop {
        buffer.reserve(64 << 10);
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let bytes = buffer.split().freeze();
        match kind {
            None => to.data_bytes(bytes).await?,
            Some(kind) => to.extended_data_bytes(kind, bytes).await?,
        }
    }
}

async fn end(
    mut child: Child,
    channel: &ChannelWriteHalf<Msg>,
    session: &Handle,
) -> Result<(), Error> {
    let id = channel.id();
    use std::os::unix::process::ExitStatusExt;
    let status = child.wait().await?;
    channel.eof().await?;
    match (status.code(), status.signal()) {
        (None, Some(9)) => {
            let sent =
                session.exit_signal_request(id, Sig::KILL, false, String::new(), String::new());
            sent.await.map_err(|()| anyhow::anyhow!("session ended"))?;
        }
        (code, _) => {
            let code = code.and_then(|code| u32::try_from(code).ok());
            channel.exit_status(code.unwrap_or(255)).await?;
        }
    }
    Ok(channel.close().await?)
}
