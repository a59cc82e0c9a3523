//! The SSH client: algorithms, the check of the node's certificate, the proof of the user's.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use link_ssh::Backlog;
use russh::client::{
    AuthResult, ChannelOpenHandle, Config, DisconnectReason, Handle, Handler, Msg, Session,
};
use russh::keys::{Algorithm, PublicKeyOrCertificate};
use russh::{Channel, Preferred, SshId, cipher, kex};
use tokio::io::BufReader;
use tokio::time::timeout;

use crate::cli::ssh::Destination;
use crate::dial::ByteStream;
use crate::error::{Exit, Failure, fail};
use crate::login::LoggedIn;
use crate::output;
use crate::trust::crypto;
use crate::trust::host::{ExpectedHost, unix_now};

/// What the node may send before it hears from us: a round trip of 130 ms at 250 Mbit/s.
pub(crate) const WINDOW: u32 = 4 << 20;
/// The largest packet taken; few large packets cost less than many small ones.
const PACKET: u32 = 65_535;
/// Packets that wait for standard output before the session stops reading.
const WAITING_PACKETS: usize = 64;
/// Read from the connection at once; SSH's own reads are a header and a packet each.
const READ_BUFFER: usize = 256 << 10;
/// Seven round trips and two signatures, on a cellular line and a slow device.
const SETUP_DEADLINE: Duration = Duration::from_secs(60);

/// Answers the library's questions.
#[derive(Debug)]
pub(crate) struct Client {
    host: ExpectedHost,
}

/// Opens a session as the user, with the node that was asked for and no other.
pub(super) async fn connect(
    stream: Box<dyn ByteStream>,
    user: &LoggedIn,
    to: &Destination,
) -> Result<Handle<Client>> {
    // Else two ends that both wait to write would wait for ever.
    let (stream, gate) = Backlog::new(stream);
    gate.keep();
    let stream = BufReader::with_capacity(READ_BUFFER, stream);
    let client = Client {
        host: ExpectedHost {
            target: to.node.clone(),
            cas: user.trusted.ssh().to_vec(),
        },
    };
    let setup = async {
        let connected = russh::client::connect_stream(Arc::new(config()), stream, client).await;
        let mut session = connected.map_err(|error| explained(error, to))?;
        authenticate(&mut session, user, to).await?;
        Ok(session)
    };
    timeout(SETUP_DEADLINE, setup).await.unwrap_or_else(|_| {
        let sentence = format!("{} does not answer. Try again.", to.node);
        Err(fail(Exit::ConnectionLost, sentence))
    })
}

fn explained(error: anyhow::Error, to: &Destination) -> anyhow::Error {
    if Exit::of(&error) != Exit::Other {
        return error;
    }
    let sentence = format!("The SSH handshake with {} failed", to.node);
    error.context(Failure::new(Exit::ConnectionLost, sentence))
}

async fn authenticate(
    session: &mut Handle<Client>,
    user: &LoggedIn,
    to: &Destination,
) -> Result<()> {
    let login = to.login.clone().unwrap_or_default();
    let identity = &user.identity;
    let result = session
        .authenticate_openssh_cert(
            login.clone(),
            Arc::clone(&identity.key),
            identity.certificate.clone(),
        )
        .await
        .context(Failure::new(
            Exit::ConnectionLost,
            "The SSH session ended while logging in",
        ))?;
    match result {
        AuthResult::Success => Ok(()),
        AuthResult::Failure {
            remaining_methods, ..
        } => Err(refused(session, remaining_methods.is_empty(), to, &login).await),
    }
}

/// Why the user was not let in. Without anything left to try the session ends; only its end tells
/// a node that refuses from a connection that broke.
async fn refused(
    session: &mut Handle<Client>,
    ends: bool,
    to: &Destination,
    login: &str,
) -> anyhow::Error {
    if ends
        && let Err(error) = session.await
        && !matches!(error.downcast_ref(), Some(russh::Error::NoAuthMethod))
    {
        return explained(error, to);
    }
    // The proxy has allowed this login; it is the node that does not have it.
    fail(
        Exit::LoginUnavailable,
        format!(
            "{} does not let you in as {login}. Does it have that user?",
            to.node
        ),
    )
}

fn config() -> Config {
    Config {
        client_id: SshId::Standard(Cow::Borrowed(concat!(
            "SSH-2.0-tsh_",
            env!("CARGO_PKG_VERSION")
        ))),
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        channel_buffer_size: WAITING_PACKETS,
        preferred: preferred(crypto::has_aes()),
        ..Config::default()
    }
}

fn preferred(has_aes: bool) -> Preferred {
    let aes = [cipher::AES_128_GCM, cipher::AES_256_GCM];
    let chacha = [cipher::CHACHA20_POLY1305];
    let ciphers = if has_aes {
        [&aes[..], &chacha[..]].concat()
    } else {
        [&chacha[..], &aes[..]].concat()
    };
    Preferred {
        kex: Cow::Borrowed(&[
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::MLKEM768X25519_SHA256,
            kex::EXTENSION_SUPPORT_AS_CLIENT,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
        ]),
        key: Cow::Borrowed(&[Algorithm::Ed25519]),
        host_key_certificates: Cow::Borrowed(&[Algorithm::Ed25519]),
        cipher: Cow::Owned(ciphers),
        ..Preferred::DEFAULT
    }
}

impl Handler for Client {
    type Error = anyhow::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool> {
        let node = &self.host.target;
        let refused = |reason: &str| {
            fail(
                Exit::Untrusted,
                format!("This is not {node}, or it cannot prove it: {reason}. Nothing was sent."),
            )
        };
        let certificate = shown
            .certificate()
            .ok_or_else(|| refused("it has no host certificate"))?;
        match self.host.check(certificate, unix_now()) {
            Ok(()) => Ok(true),
            Err(why) => Err(refused(&format!("its host certificate {}", why.reason()))),
        }
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut Session) -> Result<()> {
        output::note(banner.trim_end());
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<anyhow::Error>) -> Result<()> {
        match reason {
            DisconnectReason::ReceivedDisconnect(last) if last.message.is_empty() => Ok(()),
            DisconnectReason::ReceivedDisconnect(last) => {
                Err(anyhow!("the node says: {}", output::plain(&last.message)))
            }
            DisconnectReason::Error(error) => Err(error),
        }
    }

    // Nodes have no business opening channels here. Dropping the handle refuses.

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<()> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<()> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<()> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<()> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<()> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<()> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<()> {
        drop(reply);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_cipher_and_curve25519_come_first() {
        assert_eq!(preferred(true).cipher[0], cipher::AES_128_GCM);
        assert_eq!(preferred(false).cipher[0], cipher::CHACHA20_POLY1305);
        assert_eq!(preferred(true).kex[0], kex::CURVE25519);
    }

    #[test]
    fn only_host_certificates_are_asked_for() {
        assert_eq!(*preferred(true).host_key_certificates, [Algorithm::Ed25519]);
    }
}
