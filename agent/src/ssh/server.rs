//! What a client may ask for, request by request.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use protocol::message::dial::Permits;
use russh::keys::Certificate;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, Session as Connection};
use russh::{Channel, ChannelId, ChannelWriteHalf, Pty, Sig};
use tokio::sync::watch;
use tokio::time::Instant;

use super::authorize::Door;
use super::environment::Wished;
use super::group::Group;
use super::input::Input;
use super::jobs::{What, start};
use super::session::{Output, Session};
use super::terminal::{Size, Wanted};
use super::{Dial, Host, WINDOW};
use crate::sys::{self, Account};

/// Channels of one connection, so sessions of one dial.
const MAX_CHANNELS: usize = 16;
/// Terminal modes one client may send: RFC 4254 §8 knows fewer than 60.
const MAX_MODES: usize = 128;

/// How far a connection has come, and when something last happened on it.
pub(super) struct Progress {
    authenticated: AtomicBool,
    last: Mutex<Instant>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            authenticated: AtomicBool::new(false),
            last: Mutex::new(Instant::now()),
        }
    }
}

impl Progress {
    /// Something has happened.
    pub(super) fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns if nobody has authenticated at this time.
    pub(super) async fn not_authenticated_by(&self, deadline: Instant) {
        tokio::time::sleep_until(deadline).await;
        if self.authenticated.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }

    /// Returns after silence of this length.
    pub(super) async fn idle_for(&self, limit: Option<Duration>) {
        let Some(limit) = limit else {
            return std::future::pending().await;
        };
        loop {
            let end = *self.last.lock().unwrap_or_else(PoisonError::into_inner) + limit;
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

/// One connection.
pub(super) struct Server {
    host: Arc<Host>,
    dial: Dial,
    now: Duration,
    progress: Arc<Progress>,
    account: Option<Account>,
    channels: HashMap<ChannelId, Open>,
}

/// One open channel.
struct Open {
    /// Taken by the session when it starts.
    write: Option<ChannelWriteHalf<Msg>>,
    wished: Wished,
    wanted: Option<Wanted>,
    input: Arc<Input>,
    group: Option<Arc<Group>>,
    terminal: Option<OwnedFd>,
    /// Dropped with this, which ends the session.
    open: watch::Sender<()>,
}

impl Server {
    pub(super) fn new(host: Arc<Host>, dial: Dial, now: Duration, progress: Arc<Progress>) -> Self {
        Self {
            host,
            dial,
            now,
            progress,
            account: None,
            channels: HashMap::new(),
        }
    }

    fn authorize(&self, login: &str, certificate: &Certificate) -> Result<Account, String> {
        let door = Door {
            user_ca: &self.host.user_ca,
            logins: &self.dial.logins,
            fingerprint: self.dial.fingerprint,
            only_login: self.host.only_login.as_deref(),
            now: self.now,
        };
        door.admit(login, certificate)
            .map_err(|refusal| refusal.to_string())?;
        (self.host.accounts)(login).ok_or_else(|| format!("there is no OS user {login:?} here"))
    }

    fn start(&mut self, id: ChannelId, what: What<'_>, connection: &mut Connection) -> Result<()> {
        let permitted = self.dial.permits.allows(Permits::SESSION);
        let (Some(account), true) = (&self.account, permitted) else {
            return Ok(connection.channel_failure(id)?);
        };
        let Some(open) = self.channels.get_mut(&id) else {
            return Ok(());
        };
        // RFC 4254 §6.5: one program a channel.
        let Some(channel) = open.write.take() else {
            return Ok(connection.channel_failure(id)?);
        };
        let job = match start(
            what,
            account,
            &self.dial,
            &open.wished,
            open.wanted.as_ref(),
        ) {
            Ok(job) => job,
            Err(error) => {
                let shell = account.shell.display();
                log::warn!("{shell} could not be started: {error}");
                connection.channel_success(id)?;
                let text = format!("{shell} could not be started: {error}\r\n");
                connection.extended_data(id, 1, text.into_bytes())?;
                connection.exit_status_request(id, 127)?;
                return Ok(connection.close(id)?);
            }
        };
        open.group = Some(job.program.group());
        open.terminal = job
            .terminal
            .as_ref()
            .and_then(|t| t.as_fd().try_clone_to_owned().ok());
        connection.channel_success(id)?;
        let session = Session {
            job,
            output: Output {
                channel,
                progress: Arc::clone(&self.progress),
            },
            handle: connection.handle(),
            input: Arc::clone(&open.input),
            open: open.open.subscribe(),
        };
        crate::spawn(session.run());
        Ok(())
    }
}

impl Handler for Server {
    type Error = anyhow::Error;

    async fn auth_openssh_certificate(
        &mut self,
        login: &str,
        certificate: &Certificate,
    ) -> Result<Auth> {
        match self.authorize(login, certificate) {
            Ok(account) => {
                log::info!("{} has logged in as {login}", self.dial.user);
                self.account = Some(account);
                // There is one login; another would change nothing.
                let _ = self.dial.logged_in.set(login.to_owned());
                self.progress.authenticated.store(true, Ordering::Relaxed);
                Ok(Auth::Accept)
            }
            Err(reason) => {
                log::warn!("{} may not log in as {login:?}: {reason}", self.dial.user);
                Ok(Auth::reject())
            }
        }
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _connection: &mut Connection,
    ) -> Result<()> {
        // Dropping the reply refuses the channel.
        if self.channels.len() < MAX_CHANNELS {
            let id = channel.id();
            // The read half goes: requests and data come through callbacks, which never block.
            let (_, write) = channel.split();
            let open = Open {
                write: Some(write),
                wished: Wished::default(),
                wanted: None,
                input: Arc::default(),
                group: None,
                terminal: None,
                open: watch::Sender::new(()),
            };
            self.channels.insert(id, open);
            reply.accept().await;
        }
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        connection: &mut Connection,
    ) -> Result<()> {
        let plain = term.len() <= 64 && term.chars().all(|c| c.is_ascii_graphic());
        match self.channels.get_mut(&id) {
            Some(open) if plain && self.dial.permits.allows(Permits::PTY) => {
                let modes = modes.iter().take(MAX_MODES).copied().collect();
                let size = Size {
                    columns,
                    rows,
                    width,
                    height,
                };
                open.wanted = Some(Wanted {
                    term: term.to_owned(),
                    size,
                    modes,
                });
                Ok(connection.channel_success(id)?)
            }
            _ => Ok(connection.channel_failure(id)?),
        }
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        connection: &mut Connection,
    ) -> Result<()> {
        let taken = self
            .channels
            .get_mut(&id)
            .is_some_and(|open| open.wished.set(name, value));
        if taken {
            Ok(connection.channel_success(id)?)
        } else {
            Ok(connection.channel_failure(id)?)
        }
    }

    async fn shell_request(&mut self, id: ChannelId, connection: &mut Connection) -> Result<()> {
        self.start(id, What::Shell, connection)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        connection: &mut Connection,
    ) -> Result<()> {
        self.start(id, What::Command(command), connection)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        connection: &mut Connection,
    ) -> Result<()> {
        Ok(connection.channel_failure(id)?)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        _connection: &mut Connection,
    ) -> Result<()> {
        if let Some(terminal) = self
            .channels
            .get(&id)
            .and_then(|open| open.terminal.as_ref())
        {
            sys::resize(
                terminal,
                Size {
                    columns,
                    rows,
                    width,
                    height,
                }
                .into(),
            )?;
        }
        Ok(())
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _: &mut Connection) -> Result<()> {
        let group = self.channels.get(&id).and_then(|open| open.group.as_ref());
        if let (Some(group), Some(signal)) = (group, known(&signal)) {
            group.signal(signal);
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Connection) -> Result<()> {
        self.progress.touch();
        match self.channels.get(&id) {
            Some(open) => open.input.push(data),
            None => Ok(()),
        }
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Connection) -> Result<()> {
        if let Some(open) = self.channels.get(&id) {
            open.input.end();
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Connection) -> Result<()> {
        self.channels.remove(&id);
        Ok(())
    }

    /// One window serves all channels of a connection: the fullest queue decides.
    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        self.channels
            .values()
            .map(|open| open.input.window())
            .min()
            .unwrap_or(WINDOW)
    }
}

/// The signal a client names, if it may be sent.
fn known(signal: &Sig) -> Option<Signal> {
    Some(match signal {
        Sig::ABRT => Signal::SIGABRT,
        Sig::ALRM => Signal::SIGALRM,
        Sig::FPE => Signal::SIGFPE,
        Sig::HUP => Signal::SIGHUP,
        Sig::ILL => Signal::SIGILL,
        Sig::INT => Signal::SIGINT,
        Sig::KILL => Signal::SIGKILL,
        Sig::PIPE => Signal::SIGPIPE,
        Sig::QUIT => Signal::SIGQUIT,
        Sig::SEGV => Signal::SIGSEGV,
        Sig::TERM => Signal::SIGTERM,
        Sig::USR1 => Signal::SIGUSR1,
        Sig::Custom(name) if name == "USR2" => Signal::SIGUSR2,
        Sig::Custom(_) => return None,
    })
}
