//! Dials for clients that know nothing of streams which outlive their links: a plain `ssh -J`. The
//! client's end of such a stream is here then. It survives what becomes of the agent's link; the
//! client's own connection it does not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use protocol::message::dial::DialRefusal;
use protocol::resume::{Client, End, Reason, Sizes};
use resumable::client::{Dial, Dialling, Failure, Opened, Opening};
use resumable::{Carrier, Handle, Status};
use tokio::io::{AsyncRead, ReadBuf};

use super::{About, Caller, Dialled, Refused, Way, Wish, ended, event};
use crate::audit::code;
use crate::proxy::Proxy;
use crate::proxy::sessions::{Guard, Left, Place, SessionId, holder};
use crate::proxy::splice::{Moved, splice};
use crate::tunnel::live::OpenStream;
use crate::tunnel::stream::{ReadHalf, Stream};

/// What this process holds of one stream: as much as the agent, since there are many. Those that are
/// busy may [borrow](resumable::Pool).
const SIZES: Sizes = Sizes::AGENT;
/// How long the node may take to learn that a session is over.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);

/// A node's SSH server, for a plain client.
pub enum Jump {
    /// By a stream that ends with the agent's link.
    Plain(Box<Dialled>),
    /// By one that outlives it.
    Held(Box<Held>),
}

/// The beginning of a stream whose client's end is here.
pub struct Held {
    dialled: Dialled,
    opening: Opening,
    place: Place,
}

/// What it takes to come back to a node.
struct Again {
    proxy: Proxy,
    caller: Caller,
    target: String,
    id: SessionId,
}

/// A link stays for as long as it carries this.
struct Counted {
    read: ReadHalf,
    _open: OpenStream,
}

impl Proxy {
    /// Opens a stream to a node for a plain client; one that outlives the agent's link, if agent,
    /// roles and memory allow that.
    ///
    /// # Errors
    /// The refusal, as the user should see it.
    pub async fn jump(&self, caller: &Caller, target: &str) -> Result<Jump, Refused> {
        if let (Some(place), Ok(opening)) = (
            self.sessions.place(holder(&caller.user)),
            Opening::new(SIZES),
        ) {
            let asked = self
                .dial(caller, wish(target, Way::Here(opening.bytes())))
                .await;
            match asked {
                Err(refused) if refused.reason == DialRefusal::NotResumable => {}
                Err(refused) => return Err(refused),
                Ok(dialled) => {
                    return Ok(Jump::Held(Box::new(Held {
                        dialled,
                        opening,
                        place,
                    })));
                }
            }
        }
        let asked = self.dial(caller, wish(target, Way::Plain)).await;
        asked.map(|dialled| Jump::Plain(Box::new(dialled)))
    }

    /// Moves bytes until the session ends.
    pub async fn carry_jump(&self, client: Stream, jump: Jump) {
        match jump {
            Jump::Plain(dialled) => self.carry(client, *dialled).await,
            Jump::Held(held) => self.hold(client, *held).await,
        }
    }

    async fn hold(&self, client: Stream, held: Held) {
        let Held {
            dialled,
            opening,
            place: _place,
        } = held;
        let Dialled {
            stream,
            open,
            session,
            about,
            caller,
            ..
        } = dialled;
        let pool = Arc::clone(&self.sessions.spare);
        let _borrower = pool.borrower(opening.id());
        let Opened {
            stream: node,
            handle,
            driver,
            redial,
        } = opening.over_with(carrier(stream, open), Some(pool));
        let again = Again {
            proxy: self.clone(),
            caller: caller.clone(),
            target: about.node.to_string(),
            id: session.id,
        };
        let driver = tokio::spawn(driver);
        let redial = tokio::spawn(redial.run(again));
        let mut moved = Moved::default();
        self.metrics.sessions.inc();
        let reason = tokio::select! {
            done = splice(client, Stream::io(node), false, &mut moved) => {
                if let Err(error) = done {
                    tracing::debug!(%error, "session broke");
                }
                Reason::Finished
            }
            () = session.ended() => {
                tracing::info!(user = about.user, "session ended by the cluster");
                Reason::Locked
            }
            never = self.tell(&handle, &session, &about, &caller) => match never {},
        };
        self.metrics.sessions.dec();
        self.metrics.bytes.inc_by(moved.sent + moved.received);
        let knows = knows(&handle.status().borrow());
        handle.reset(reason);
        tokio::time::timeout(GOODBYE_LIMIT, driver).await.ok();
        redial.abort();
        let _busy = self.sessions.busy();
        let left = if knows {
            session.leave(moved).await
        } else {
            let (id, holder) = (session.id, about.holder());
            let left = session.abandon(moved).await;
            // At once, or when it links.
            self.end_sessions(|known, about| known == id && about.holder() == holder);
            left
        };
        if let Left::Over(listed) = left {
            let addr = caller.addr.to_string();
            let event = ended(&listed).field("addr.remote", addr);
            tokio::join!(self.audit.record(event), self.write_sessions());
        }
    }

    /// Tells the audit log when the agent's end is lost, and when it is found again.
    async fn tell(
        &self,
        handle: &Handle<Client>,
        session: &Guard,
        about: &About,
        caller: &Caller,
    ) -> std::convert::Infallible {
        let mut status = handle.status();
        let mut before = false;
        loop {
            let lost = match *status.borrow_and_update() {
                Status::Attached => false,
                Status::Lost { .. } => true,
                Status::Ended(_) => before,
            };
            if lost != before {
                before = lost;
                session.set_lost(lost);
                let code = if lost {
                    code::SESSION_DETACHED
                } else {
                    code::SESSION_ATTACHED
                };
                let event = event(code, session.id, about);
                let addr = caller.addr.to_string();
                self.audit.record(event.field("addr.remote", addr)).await;
            }
            if status.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Dial for Again {
    fn dial<'a>(&'a self, opening: &'a [u8]) -> Dialling<'a> {
        Box::pin(async {
            let wish = wish(&self.target, Way::Here(opening));
            let (node, permit) = self
                .proxy
                .decide(&self.caller, wish)
                .await
                .map_err(failed)?;
            if permit.resume_grace.is_zero() {
                return Err(Failure::Refused(Reason::Denied));
            }
            let asked = self.proxy.ask(&self.caller, wish, &node, &permit, self.id);
            let (stream, open) = asked.await.map_err(failed)?;
            Ok(carrier(stream, open))
        })
    }
}

/// Whether the agent hears of the end by the stream itself.
const fn knows(status: &Status) -> bool {
    match status {
        Status::Attached => true,
        // The cluster, mostly, which does not let it go on.
        Status::Ended(End::Reset(Reason::Denied | Reason::Locked)) => false,
        Status::Ended(End::Clean | End::Reset(_)) => true,
        Status::Lost { .. } | Status::Ended(End::GivenUp(_)) => false,
    }
}

/// A plain client does not say as whom it will log in.
const fn wish<'a>(target: &'a str, way: Way<'a>) -> Wish<'a> {
    Wish {
        target,
        login: None,
        way,
    }
}

fn failed(refused: Refused) -> Failure {
    tracing::debug!(reason = refused.text, "cannot go on with a session yet");
    match refused.reason {
        DialRefusal::Denied => Failure::Refused(Reason::Denied),
        DialRefusal::Locked => Failure::Refused(Reason::Locked),
        DialRefusal::UnknownNode => Failure::Refused(Reason::Gone),
        _ => Failure::Passing,
    }
}

fn carrier(stream: Stream, open: OpenStream) -> Carrier {
    Carrier {
        reader: Box::new(Counted {
            read: stream.read,
            _open: open,
        }),
        writer: Box::new(stream.write),
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().read).poll_read(cx, buffer)
    }
}
