//! Settling whom we talk to, before anything of the user's is sent.

use anyhow::Result;
use protocol::identity::CaPin;

use super::prompt::Prompt;
use crate::address::ProxyAddr;
use crate::api::Client;
use crate::api::types::Ping;
use crate::error::{Exit, fail};
use crate::trust::{Verdict, Verifier, ask, mismatch};

/// A cluster that may be told secrets.
#[derive(Debug)]
pub(super) struct Settled {
    /// For requests to it, and to no other.
    pub(super) client: Client,
    /// The cluster's name.
    pub(super) cluster: String,
    /// The pin of its host CA.
    pub(super) pin: CaPin,
}

/// Talks to a proxy without saying who we are. `pins` is what is known of it.
pub(super) async fn trust(proxy: &ProxyAddr, pins: &[CaPin]) -> Result<Settled> {
    match greet(proxy, pins).await {
        Err((_, Some(Verdict::Unknown(pin)))) if asked(proxy, pin)? => {
            greet(proxy, &[pin]).await.map_err(|(error, _)| error)
        }
        greeted => greeted.map_err(|(error, _)| error),
    }
}

async fn greet(
    proxy: &ProxyAddr,
    pins: &[CaPin],
) -> Result<Settled, (anyhow::Error, Option<Verdict>)> {
    let verifier = Verifier::new(proxy.clone(), pins.to_vec());
    let client = Client::new(proxy.clone(), verifier.clone(), None).map_err(|e| (e, None))?;
    let ping: Ping = match client.get("/v1/ping").await {
        Ok(ping) => ping,
        Err(error) => return Err((error, verifier.verdict())),
    };
    if !pins.is_empty() && !pins.contains(&ping.ca_pin) {
        return Err((mismatch(proxy, pins, Some(ping.ca_pin)), None));
    }
    Ok(Settled {
        client,
        cluster: ping.cluster,
        pin: ping.ca_pin,
    })
}

/// Whether there is a user who says that an unknown cluster is the right one. A clear no is an
/// error; without a terminal the handshake's own error says what to do.
fn asked(proxy: &ProxyAddr, pin: CaPin) -> Result<bool> {
    let Some(mut prompt) = Prompt::open() else {
        return Ok(false);
    };
    if ask::whether_to_trust(&mut prompt, proxy, pin)? {
        return Ok(true);
    }
    Err(fail(Exit::Untrusted, "Not trusted; nothing was sent."))
}
