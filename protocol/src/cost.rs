//! What a link's doings cost on the wire: bytes in both directions, with the headers of IPv4 and of
//! UDP or TCP.
//!
//! `hil-tests/tests/link_budget.rs` holds real agents and clusters to these figures; simulations
//! count days with them, and the supervisor weighs QUIC against SSH.

use core::time::Duration;

/// An empty datagram of QUIC and its acknowledgement; four bytes less while both have sent few
/// packets.
pub const HEARTBEAT: u64 = 69 + 57;
/// A short control message and its acknowledgement.
pub const MESSAGE: u64 = 65 + 57;
/// What a heartbeat from a new mapping costs beyond itself: both ends prove the new path to each
/// other with packets of full size (RFC 9000 §8.2.1), and the cluster tells of it.
pub const REBOUND: u64 = 2 * 1228 + 200;
/// A new link over QUIC: handshake, Hello and Welcome, and finding out how long packets may be.
pub const LINK: u64 = 8000;
/// A heartbeat over SSH in TLS, its answer, and TCP's acknowledgement of each; bare, four bytes less.
/// An answer that comes at once makes the first acknowledgement, and saves its 52 bytes.
pub const SSH_HEARTBEAT: u64 = 98 + 98 + 2 * 52;
/// A new link over SSH: the handshakes of TCP, TLS and SSH, Hello and Welcome.
pub const SSH_LINK: u64 = 7500;

/// What it costs to be there over one transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// A sign of life and its answer.
    pub heartbeat: u64,
    /// A mapping that was lost in silence.
    pub lost: u64,
}

/// Over QUIC.
pub const QUIC: Price = Price {
    heartbeat: HEARTBEAT,
    lost: REBOUND,
};
/// Over SSH, where the link is lost with the mapping.
pub const SSH: Price = Price {
    heartbeat: SSH_HEARTBEAT,
    lost: SSH_LINK,
};

/// A day.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

impl Price {
    /// A day of such silences.
    #[must_use]
    pub const fn a_day(self, silence: Duration) -> u64 {
        let silence = match silence.as_secs() {
            0 => 1,
            seconds => seconds,
        };
        DAY.as_secs() * self.heartbeat / silence
    }
}
