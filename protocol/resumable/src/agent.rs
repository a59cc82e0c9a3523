//! The end that is dialled.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use protocol::resume::frame::{Attach, Open};
use protocol::resume::{Agent, Generation, Reason, Sizes};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use crate::core::{Carrier, Shared};
use crate::driver::Driver;
use crate::handle::Handle;
use crate::mac::HMAC;
use crate::pool::Lender;
use crate::random;
use crate::stream::Resumable;

/// How long a refusal may take to be sent.
const REFUSAL_LIMIT: Duration = Duration::from_secs(10);

/// A stream that was accepted.
pub struct Accepted {
    /// For the application.
    pub stream: Resumable<Agent>,
    /// For those who attach, or end it.
    pub handle: Handle<Agent>,
    /// To be spawned.
    pub driver: Driver<Agent>,
}

/// Accepts a new stream, which holds so much at most, unless more is lent to it. The preamble is the
/// answer to the dial.
#[must_use]
pub fn accept(
    open: &Open,
    sizes: Sizes,
    grace: Duration,
    (carrier, preamble): (Carrier, Vec<u8>),
    lender: Option<Arc<dyn Lender>>,
) -> Accepted {
    let end = Agent::accept(open, sizes, grace, &HMAC, Duration::ZERO);
    let shared = Arc::new(Shared::new(end, Instant::now(), lender));
    shared.attach(Generation(0), carrier, preamble);
    Accepted {
        stream: Resumable::new(Arc::clone(&shared)),
        handle: Handle {
            shared: Arc::clone(&shared),
        },
        driver: Driver::new(shared),
    }
}

impl Handle<Agent> {
    /// A client comes back. Until it has proved itself, nothing changes. The preamble is the answer
    /// to the dial.
    ///
    /// # Errors
    /// The carrier, and what to [tell](refuse) the client.
    pub fn attach(
        &self,
        attach: &Attach,
        carrier: Carrier,
        preamble: Vec<u8>,
    ) -> Result<(), (Carrier, Reason)> {
        let Ok(nonce) = random::bytes() else {
            return Err((carrier, Reason::Busy));
        };
        self.shared
            .change(|core, now| match core.end.attach(attach, nonce, now) {
                Ok(()) => {
                    core.attach(Generation(attach.generation), carrier, preamble);
                    Ok(())
                }
                Err(reason) => Err((carrier, reason)),
            })
    }
}

impl Handle<Agent> {
    /// How many wrong proofs there were since the last time.
    #[must_use]
    pub fn take_wrong_proofs(&self) -> u32 {
        std::mem::take(&mut self.shared.lock().wrong_proofs)
    }
}

/// Tells a client why it cannot attach, after the answer to its dial.
///
/// # Errors
/// If it could not be told.
pub async fn refuse(carrier: Carrier, preamble: &[u8], reason: Reason) -> io::Result<()> {
    let Carrier { reader, mut writer } = carrier;
    let told = async {
        writer.write_all(preamble).await?;
        writer.write_all(&reason.frame()).await?;
        writer.shutdown().await
    };
    let told = timeout(REFUSAL_LIMIT, told).await;
    drop(reader);
    told.unwrap_or_else(|late| Err(late.into()))
}
