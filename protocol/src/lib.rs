//! What a Tether agent, cluster and client must agree on.
//!
//! This crate holds the messages they exchange, the limits on those messages, and the state
//! machines that need no I/O: they read no clock, socket or random source. It allocates nothing but
//! the bounded buffers of [`resume`]: a decoded message borrows from the frame it came in, and every
//! list in it has a fixed capacity.
//!
//! | module | holds |
//! | --- | --- |
//! | [`message`] | frames, control messages, dials, joins: layout, limits, versions |
//! | [`link`] | one agent's link to its cluster: connect, liveness, drain |
//! | [`resume`] | streams that outlive their links: numbered, acknowledged, attached again |
//! | [`opening`] | what a TCP connection starts with |
//! | [`keepalive`] | how long a link may be silent |
//! | [`cost`] | what all that costs on the wire |
//! | [`transport`] | QUIC or SSH |
//! | [`appetite`] | whether a stream is bulk |
//! | [`congestion`] | how much may be in flight on a link |
//! | [`backoff`] | when to try again |
//! | [`renewal`] | when a certificate is due for renewal |
//! | [`clock`] | what time it is on a device without one |
//! | [`identity`] | node ids, fingerprints, CA pins, the names in certificates |
//! | [`error`] | whose fault, and the QUIC close code it maps to |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod appetite;
pub mod backoff;
pub mod clock;
pub mod congestion;
pub mod cost;
pub mod error;
pub mod identity;
pub mod keepalive;
pub mod link;
pub mod message;
pub mod opening;
pub mod renewal;
pub mod resume;
pub mod transport;

/// ALPN of an agent's link; both ends present certificates.
pub const ALPN_AGENT: &[u8] = b"tether-agent/1";
/// ALPN of an agent's link where UDP is blocked: SSH inside TLS.
pub const ALPN_AGENT_SSH: &[u8] = b"tether-agent-ssh/1";
/// ALPN of `tsh`; both ends present certificates.
pub const ALPN_CLIENT: &[u8] = b"tether-client/1";
/// Bytes of the connection id that a client of people chooses for its first packet (RFC 9000 §7.2);
/// agents choose more. A cluster that meets a crowd cannot see more of anybody before a handshake.
pub const CLIENT_FIRST_CID: usize = 16;
/// ALPN for a device that has no usable certificate yet.
pub const ALPN_JOIN: &[u8] = b"tether-join/1";
/// ALPN protocols of the HTTPS API.
pub const ALPN_HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Label for the keying material a join proof signs (RFC 5705, RFC 8446 §7.5).
pub const JOIN_EXPORTER_LABEL: &[u8] = b"EXPORTER-tether-join";

/// Key id of the cluster's own SSH host certificate. A node's is its id, so none can pass for it.
pub const PROXY_KEY_ID: &str = "proxy";

/// Server name that every internal ALPN is asked for; the real address is pinned by CA instead.
pub const SERVER_NAME: &str = "tether.cluster.internal";
