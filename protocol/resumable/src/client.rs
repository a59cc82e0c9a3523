//! The end that dials.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use protocol::resume::{Client, Generation, Reason, Secret, Sizes, Start, StreamId};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::core::{Carrier, Shared};
use crate::driver::Driver;
use crate::handle::Handle;
use crate::mac::HMAC;
use crate::pool::Lender;
use crate::random;
use crate::status::Status;
use crate::stream::Resumable;

/// A dial that is under way.
pub type Dialling<'a> = Pin<Box<dyn Future<Output = Result<Carrier, Failure>> + Send + 'a>>;

/// Dials the node again.
pub trait Dial: Send + Sync {
    /// One attempt, with the opening to hand over. Dropped when it is no longer wanted.
    fn dial<'a>(&'a self, opening: &'a [u8]) -> Dialling<'a>;
}

/// A dial without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It did not get through; another may.
    Passing,
    /// The stream may not go on.
    Refused(Reason),
}

/// A stream that is not dialled yet.
pub struct Opening {
    client: Client,
    bytes: Vec<u8>,
    origin: Instant,
}

/// A stream that was dialled.
pub struct Opened {
    /// For the application.
    pub stream: Resumable<Client>,
    /// For whoever watches it.
    pub handle: Handle<Client>,
    /// To be spawned.
    pub driver: Driver<Client>,
    /// To be run with what dials.
    pub redial: Redial,
}

/// Dials for a stream when it needs it.
pub struct Redial {
    shared: Arc<Shared<Client>>,
}

impl Opening {
    /// A new stream, which holds so much at most.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn new(sizes: Sizes) -> io::Result<Self> {
        let start = Start {
            id: StreamId(random::bytes()?),
            secret: Secret(random::bytes()?),
            sizes,
            seed: u64::from_ne_bytes(random::bytes()?),
        };
        let (client, bytes) = Client::open(start, &HMAC, Duration::ZERO);
        Ok(Self {
            client,
            bytes: bytes.to_vec(),
            origin: Instant::now(),
        })
    }

    /// The stream's name.
    #[must_use]
    pub const fn id(&self) -> StreamId {
        self.client.stream().id()
    }

    /// What to dial with. It holds the stream's secret.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The stream, over what the dial has given.
    #[must_use]
    pub fn over(self, carrier: Carrier) -> Opened {
        self.over_with(carrier, None)
    }

    /// The same, for an end that more may be lent to.
    #[must_use]
    pub fn over_with(self, carrier: Carrier, lender: Option<Arc<dyn Lender>>) -> Opened {
        let shared = Arc::new(Shared::new(self.client, self.origin, lender));
        shared.attach(Generation(0), carrier, Vec::new());
        Opened {
            stream: Resumable::new(Arc::clone(&shared)),
            handle: Handle {
                shared: Arc::clone(&shared),
            },
            driver: Driver::new(Arc::clone(&shared)),
            redial: Redial { shared },
        }
    }
}

impl Handle<Client> {
    /// The network has changed: what there is may be dead.
    pub fn network_changed(&self) {
        self.shared
            .change(|core, now| core.end.handle_network_changed(now));
    }

    /// The machine has slept, so long by more than [`Instant`] counts; or what carries the stream
    /// cannot follow to another network: what there is is probably dead.
    pub fn slept(&self, time: Duration) {
        self.shared.change(|core, _| {
            core.pass(time);
            core.end.handle_slept(time, core.now());
            if core.end.stream().alone_since().is_some() {
                core.tell_lost();
            }
        });
    }
}

impl Redial {
    /// Dials whenever the stream wants it, until it is over.
    pub async fn run(self, dial: impl Dial) {
        let mut status = self.shared.status();
        let over = status.wait_for(|status| matches!(status, Status::Ended(_)));
        tokio::select! {
            _ = over => {}
            () = self.serve(&dial) => {}
        }
    }

    async fn serve(&self, dial: &impl Dial) {
        let mut wanted = self.shared.lock().dial.subscribe();
        loop {
            let Ok(Some(generation)) = wanted.wait_for(Option::is_some).await.map(|g| *g) else {
                return;
            };
            let opening = self.opening(generation);
            let Ok(Some(opening)) = opening else {
                self.failed(generation, Failure::Passing);
                continue;
            };
            tokio::select! {
                () = superseded(&mut wanted, generation) => {}
                done = dial.dial(&opening) => match done {
                    Ok(carrier) => self.dialled(generation, carrier),
                    Err(failure) => self.failed(generation, failure),
                },
            }
        }
    }

    fn opening(&self, generation: Generation) -> io::Result<Option<Vec<u8>>> {
        let nonce = random::bytes()?;
        let mut core = self.shared.lock();
        let opening = core.end.opening(generation, nonce);
        Ok(opening.map(|bytes| bytes.to_vec()))
    }

    fn dialled(&self, generation: Generation, carrier: Carrier) {
        self.shared.change(|core, _| {
            // It may just have been cancelled.
            if core.dial.send_replace(None) == Some(generation) {
                core.attach(generation, carrier, Vec::new());
            }
        });
    }

    fn failed(&self, generation: Generation, failure: Failure) {
        self.shared.change(|core, now| {
            core.dial
                .send_if_modified(|dial| *dial == Some(generation) && dial.take().is_some());
            match failure {
                Failure::Passing => core.end.handle_closed(generation, now),
                Failure::Refused(reason) => core.end.handle_refused(generation, reason, now),
            }
        });
    }
}

/// Waits until another dial is wanted, or none.
async fn superseded(wanted: &mut watch::Receiver<Option<Generation>>, generation: Generation) {
    if wanted.wait_for(|g| *g != Some(generation)).await.is_err() {
        std::future::pending::<()>().await;
    }
}
