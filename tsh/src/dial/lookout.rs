//! Looks out for the link of a stream that outlives it: so that a way that is back is used at once,
//! and a way that is gone is not waited for.
//!
//! | what is seen | what is done |
//! | --- | --- |
//! | an answer is due | the proxy is asked, every second |
//! | ... for some seconds | the node is asked as well, through the stream |
//! | packets leave from another address | the connection moves there; over TCP, a new one is made |
//! | the kernel tells of anything else | the proxy is asked; over TCP, a stream that is lost is dialled again |
//! | the machine has slept, the process was stopped | the node is dialled again at once, and the proxy is asked |

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use protocol::resume::Client;
use resumable::{Handle, Status};
use tokio::time::{Instant, sleep};

use super::Carrier;
use super::again::Again;
use super::network::{Notices, address_towards};
use super::pulse::{Counts, Pulse, TICK, Wish, is_overslept};
use crate::output;

/// It goes on while the machine sleeps.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

/// Looks out until it is dropped.
pub(super) async fn run(again: Arc<Again>, handle: Handle<Client>) {
    let mut lookout = Lookout {
        address: again.carrier().and_then(|c| address_towards(c.remote())),
        again,
        handle,
        pulse: Pulse::default(),
    };
    let mut notices = Notices::open();
    let (mut last, mut awake) = (now(), Instant::now());
    loop {
        tokio::select! {
            () = notices.next() => lookout.told(),
            () = sleep(TICK) => lookout.tick(),
        }
        let passed = now().saturating_sub(last);
        last += passed;
        let counted = std::mem::replace(&mut awake, Instant::now()).elapsed();
        if is_overslept(passed) {
            lookout.woken(passed.saturating_sub(counted));
        }
    }
}

fn now() -> Duration {
    // A system without that clock has no way to tell.
    clock_gettime(CLOCK).map_or(Duration::ZERO, Duration::from)
}

struct Lookout {
    again: Arc<Again>,
    handle: Handle<Client>,
    /// Where packets to the proxy leave from; none while they have no way.
    address: Option<IpAddr>,
    pulse: Pulse,
}

impl Lookout {
    fn tick(&mut self) {
        let Some(carrier) = self.again.carrier() else {
            return;
        };
        if self.moves(&carrier) {
            return;
        }
        let counts = match &carrier {
            Carrier::Quic(connection) => connection.pulse(),
            // The stream itself asks.
            Carrier::Tls(_) => Counts::default(),
        };
        match self.pulse.look(counts) {
            Wish::Nothing => {}
            Wish::Ask => ask(&carrier),
            Wish::Doubt => {
                ask(&carrier);
                self.handle.network_changed();
            }
        }
    }

    /// The kernel tells of a change.
    fn told(&mut self) {
        let Some(carrier) = self.again.carrier() else {
            return;
        };
        if self.moves(&carrier) {
            return;
        }
        match &carrier {
            Carrier::Quic(connection) => connection.ping(),
            // TCP waits for longer and longer, a dial that is under way as well.
            Carrier::Tls(_) => {
                if matches!(*self.handle.status().borrow(), Status::Lost { .. }) {
                    self.handle.slept(Duration::ZERO);
                }
            }
        }
    }

    /// Goes on from another address, if there is one; tells whether that was so.
    fn moves(&mut self, carrier: &Carrier) -> bool {
        let address = address_towards(carrier.remote());
        let before = std::mem::replace(&mut self.address, address);
        if address.is_none() || address == before {
            return false;
        }
        output::debug(|| "the network is another one".to_owned());
        match carrier {
            Carrier::Quic(connection) => {
                connection.rebind();
                self.handle.network_changed();
            }
            // TCP does not move.
            Carrier::Tls(_) => self.handle.slept(Duration::ZERO),
        }
        true
    }

    /// Nobody knows what there still is. The machine may have slept for so long, or the process was
    /// stopped.
    fn woken(&self, slept: Duration) {
        output::debug(|| "this machine has slept".to_owned());
        if let Some(carrier) = self.again.carrier() {
            ask(&carrier);
        }
        self.handle.slept(slept);
    }
}

fn ask(carrier: &Carrier) {
    if let Carrier::Quic(connection) = carrier {
        connection.ping();
    }
}
