//! What a link's doings cost on the wire: bytes in both directions, with the headers of IPv4 and UDP.
//!
//! `hil-tests/tests/link_budget.rs` holds real agents and clusters to these figures; simulations
//! count days with them.

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
