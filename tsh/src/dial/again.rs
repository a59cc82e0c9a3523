//! Dialling again, when a connection may be dead, or a name server, or UDP.
//!
//! The connection there is knows its way, and costs the fewest round trips; but it may be that the
//! proxy no longer knows it. So it is asked first, and if it gives no sign of life, a new one is made
//! beside it. Whichever gives an answer first is used.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use protocol::error::DecodeError;
use protocol::resume::Reason;
use resumable::client::{Dial, Dialling, Failure};
use tokio::time::{sleep, timeout};

use super::{Answer, ByteStream, Carrier, Connected, ask, connect, quic, request, tls};
use crate::cli::ssh::Destination;
use crate::error::Exit;
use crate::login::LoggedIn;
use crate::output;

/// The proxy says within 5 s that a node's link is dead. If it does not say anything, the
/// connection to it is.
const ANSWER_LIMIT: Duration = Duration::from_secs(6);
/// What the connection there is gets to show a sign of life, before another is made beside it: more
/// than that takes on most paths.
const HEAD_START: Duration = Duration::from_millis(500);
/// Between two attempts to make a connection: one may fail at once.
const PAUSE: Duration = Duration::from_millis(200);
/// What the way that worked last gets before all are tried, by name and over TCP.
const KNOWN_ALONE: Duration = Duration::from_secs(3);

/// What is needed to dial again.
pub(super) struct Again {
    user: Mutex<Arc<LoggedIn>>,
    to: Destination,
    /// The connection of the moment.
    carrier: Mutex<Option<Carrier>>,
    /// Why the proxy did not let the stream go on.
    refusal: Mutex<Option<anyhow::Error>>,
}

/// For the stream that needs it.
pub(super) struct Redial(pub(super) Arc<Again>);

impl Dial for Redial {
    fn dial<'a>(&'a self, opening: &'a [u8]) -> Dialling<'a> {
        Box::pin(async {
            let dialled = self.0.dial(opening).await;
            dialled
                .map(resumable::Carrier::of)
                .map_err(|error| self.0.failed(error))
        })
    }
}

impl Again {
    pub(super) const fn new(user: Arc<LoggedIn>, to: Destination, carrier: Carrier) -> Self {
        Self {
            user: Mutex::new(user),
            to,
            carrier: Mutex::new(Some(carrier)),
            refusal: Mutex::new(None),
        }
    }

    /// Why the proxy did not let the stream go on, in its own words.
    pub(super) fn refusal(&self) -> Option<anyhow::Error> {
        let refusal = self.refusal.lock();
        refusal.unwrap_or_else(PoisonError::into_inner).take()
    }

    fn failed(&self, error: anyhow::Error) -> Failure {
        output::debug(|| format!("cannot go on yet: {error:#}"));
        let failure = failure(&error);
        if failure != Failure::Passing {
            let refusal = self.refusal.lock();
            *refusal.unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        failure
    }

    /// The connection of the moment.
    pub(super) fn carrier(&self) -> Option<Carrier> {
        let place = self.carrier.lock();
        place.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn user(&self) -> Arc<LoggedIn> {
        let user = self.user.lock();
        Arc::clone(&user.unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the certificate of whoever has logged in again, if somebody has.
    fn renew(&self) -> bool {
        let Some(renewed) = self.user().renewed() else {
            return false;
        };
        output::debug(|| "going on with the certificate of a later login".to_owned());
        *self.user.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(renewed);
        true
    }

    fn use_from_now(&self, carrier: Carrier) {
        let place = self.carrier.lock();
        *place.unwrap_or_else(PoisonError::into_inner) = Some(carrier);
    }

    async fn dial(&self, opening: &[u8]) -> Result<Box<dyn ByteStream>> {
        let request = request(&self.to, Some(opening))?;
        let renewed = self.renew();
        let known = self.carrier();
        if renewed {
            // What there is was opened with the old certificate.
            return self.anew(known.as_ref(), &request).await;
        }
        let mut over = pin!(self.over(known.as_ref(), &request));
        let early = tokio::select! {
            dialled = &mut over => Some(dialled),
            () = seems_dead(known.as_ref()) => None,
        };
        match early {
            Some(Err(error))
                if !is_answer(&error) || known.as_ref().is_some_and(Carrier::is_closed) => {}
            Some(dialled) => return dialled,
            None => {
                return tokio::select! {
                    dialled = answered(over) => dialled,
                    dialled = self.anew(known.as_ref(), &request) => dialled,
                };
            }
        }
        self.anew(known.as_ref(), &request).await
    }

    /// Over a connection that there is.
    async fn over(&self, known: Option<&Carrier>, request: &[u8]) -> Result<Box<dyn ByteStream>> {
        let Some(Carrier::Quic(connection)) = known else {
            return pending().await;
        };
        let asked = async {
            let mut stream = connection.open(&self.user().profile.proxy).await?;
            stream.try_out();
            accepted(&ask(&mut stream, request).await?)?;
            stream.keep();
            anyhow::Ok::<Box<dyn ByteStream>>(Box::new(stream))
        };
        let asked = timeout(ANSWER_LIMIT, asked).await;
        asked.unwrap_or_else(|_| Err(super::silent()))
    }

    /// Over a new connection.
    async fn anew(&self, known: Option<&Carrier>, request: &[u8]) -> Result<Box<dyn ByteStream>> {
        let mut connected = self.connect(known).await;
        accepted(&connected.ask(request, &self.user()).await?)?;
        let Connected { stream, carrier } = connected;
        self.use_from_now(carrier);
        Ok(stream)
    }

    /// A new connection: by the way that worked last, or, a little later, by any. Tries until it gets
    /// through: before the proxy has proved itself, whatever comes may be from anybody on the way.
    async fn connect(&self, known: Option<&Carrier>) -> Connected {
        let user = self.user();
        let any = async {
            loop {
                let wait = if known.is_some() { KNOWN_ALONE } else { PAUSE };
                sleep(wait).await;
                match connect(&user).await {
                    Ok(connected) => return connected,
                    Err(error) => output::debug(|| format!("no connection yet: {error:#}")),
                }
            }
        };
        let same = async {
            match known {
                Some(Carrier::Quic(connection)) => self.quic(connection.remote()).await,
                Some(Carrier::Tls(address)) => self.tls(*address).await,
                None => None,
            }
        };
        let (mut any, mut same) = (pin!(any), pin!(same));
        tokio::select! {
            connected = &mut any => connected,
            connected = &mut same => match connected {
                Some(connected) => connected,
                None => any.await,
            },
        }
    }

    /// Tries until it gets through: without a network, each attempt gives up after a while.
    async fn quic(&self, address: SocketAddr) -> Option<Connected> {
        let user = self.user();
        let (proxy, tls) = (&user.profile.proxy, tls::config(&user).ok()?);
        loop {
            if let quic::Outcome::Connected(connection) =
                quic::connect(proxy, &[address], &tls).await.ok()?
            {
                return Some(Connected {
                    stream: Box::new(connection.open(proxy).await.ok()?),
                    carrier: Carrier::Quic(connection),
                });
            }
            sleep(PAUSE).await;
        }
    }

    /// The same over TCP.
    async fn tls(&self, address: SocketAddr) -> Option<Connected> {
        let user = self.user();
        let (proxy, tls) = (&user.profile.proxy, tls::config(&user).ok()?);
        loop {
            if let Ok((stream, _)) = tls::connect(proxy, &[address], tls.clone()).await {
                return Some(Connected {
                    stream: Box::new(stream),
                    carrier: Carrier::Tls(address),
                });
            }
            sleep(PAUSE).await;
        }
    }
}

/// Returns when there is no connection that gives a sign of life.
async fn seems_dead(known: Option<&Carrier>) {
    let Some(Carrier::Quic(connection)) = known else {
        return;
    };
    let before = connection.pulse().heard;
    connection.ping();
    sleep(HEAD_START).await;
    if connection.pulse().heard != before {
        pending().await
    }
}

/// An answer, if one comes.
async fn answered(
    asked: impl Future<Output = Result<Box<dyn ByteStream>>>,
) -> Result<Box<dyn ByteStream>> {
    match asked.await {
        Err(error) if !is_answer(&error) => pending().await,
        answer => answer,
    }
}

fn accepted(answer: &Answer) -> Result<()> {
    match answer {
        Answer::Accepted(_) => Ok(()),
        // Not an answer to who comes back.
        Answer::NotResumable(_) => Err(super::garbled(DecodeError::Malformed)),
    }
}

/// Whether the proxy has decided, and would decide the same over another connection.
fn is_answer(error: &anyhow::Error) -> bool {
    !matches!(
        Exit::of(error),
        Exit::ConnectionLost | Exit::Unreachable | Exit::Other
    )
}

/// What an error means for the stream.
fn failure(error: &anyhow::Error) -> Failure {
    match Exit::of(error) {
        Exit::Denied => Failure::Refused(Reason::Denied),
        Exit::Locked => Failure::Refused(Reason::Locked),
        Exit::LoggedOut => Failure::Refused(Reason::Expired),
        Exit::UnknownNode => Failure::Refused(Reason::Gone),
        _ => Failure::Passing,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::error::fail;
    use crate::testing::{Cas, now, profile};

    /// For a session whose proxy is of this name.
    fn again(proxy: &str, known: Option<Carrier>) -> Again {
        let cas = Cas::new();
        let mut profile = profile(now());
        profile.proxy = proxy.parse().unwrap();
        let user = LoggedIn {
            profile,
            identity: cas.identity(&["root"]),
            trusted: cas.trusted(),
        };
        Again {
            user: Mutex::new(Arc::new(user)),
            to: "gateway-1".parse().unwrap(),
            carrier: Mutex::new(known),
            refusal: Mutex::default(),
        }
    }

    #[tokio::test]
    async fn without_names_the_way_that_is_known_is_tried_again_and_again() {
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let known = Carrier::Tls(there.local_addr().unwrap());
        let again = again("nowhere.invalid:443", Some(known));
        // For longer than the known way is tried alone.
        let hangs_up = async {
            for _ in 0..2 * KNOWN_ALONE.as_millis() / PAUSE.as_millis() {
                drop(there.accept().await.unwrap());
            }
        };
        tokio::select! {
            done = timeout(KNOWN_ALONE * 20, hangs_up) => done.unwrap(),
            dialled = again.dial(b"opening") => panic!("gave up: {:?}", dialled.err()),
        }
    }

    #[tokio::test]
    async fn an_alert_within_the_handshake_is_nobodys_verdict() {
        const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];
        let on_the_way = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let again = again(&on_the_way.local_addr().unwrap().to_string(), None);
        let answers = async {
            for _ in 0..2 {
                let (mut stream, _) = on_the_way.accept().await.unwrap();
                let hello = stream.read(&mut [0; 1 << 14]).await.unwrap();
                assert!(hello > 0);
                stream.write_all(&ACCESS_DENIED).await.unwrap();
                stream.shutdown().await.unwrap();
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        };
        tokio::select! {
            () = answers => {}
            dialled = again.dial(b"opening") => panic!("gave up: {:?}", dialled.err()),
        }
    }

    #[test]
    fn only_a_decision_ends_a_session() {
        for (exit, expected) in [
            (Exit::Offline, Failure::Passing),
            (Exit::Unreachable, Failure::Passing),
            (Exit::Busy, Failure::Passing),
            (Exit::Denied, Failure::Refused(Reason::Denied)),
            (Exit::Locked, Failure::Refused(Reason::Locked)),
            (Exit::LoggedOut, Failure::Refused(Reason::Expired)),
        ] {
            assert_eq!(failure(&fail(exit, "x")), expected);
        }
        assert!(is_answer(&fail(Exit::Offline, "x")));
        assert!(!is_answer(&fail(Exit::ConnectionLost, "x")));
        assert!(!is_answer(
            &std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()
        ));
    }
}
