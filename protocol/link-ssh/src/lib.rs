//! Links over SSH: what the agent's end and the cluster's end share.
//!
//! A link is one SSH connection over TCP, inside TLS or bare. The agent is the SSH client. It opens
//! one channel for control messages; the cluster opens one for each dial. A channel carries bytes
//! both ways and nothing else: no requests, no programs.
//!
//! **Flow control.** russh hands data on before it is consumed and opens its windows again by
//! itself; the only brake it has is to stop reading, which stops every channel of the connection
//! and, if the other end waits to write, both ends for good. So each channel has an allowance of
//! its own ([`window`]): who receives says how much more may come, and says so again only when the
//! bytes have been consumed. It is said on the channel itself, as extended data of a private type
//! (RFC 4254 §5.2). SSH's windows are twice as wide as any allowance, so they are never the limit,
//! and russh never waits for a consumer. An end that sends more than it may breaks the protocol.
//!
//! **Writing.** russh does not read while it writes. One end must therefore always take what the
//! other sends: the cluster puts what TCP does not take at once into a [`backlog`], and lets
//! channels send only while that is short.
//!
//! | module | holds |
//! | --- | --- |
//! | [`channel`] | a channel as a [`Reader`] and a [`Writer`] |
//! | [`table`] | all channels of a connection, fed by russh's callbacks |
//! | [`window`] | allowances, without I/O |
//! | [`backlog`] | a stream whose writer does not wait |
//! | [`wire`] | a stream that can be cut from outside |
//! | [`tcp`] | how the sockets are tuned |

pub mod backlog;
pub mod channel;
mod outgoing;
pub mod table;
pub mod tcp;
pub mod window;
pub mod wire;

#[cfg(test)]
mod tests;

pub use backlog::{Backlog, Gate};
pub use channel::{Ended, Reader, Writer};
pub use table::{Bounds, Misbehaved, Table};
pub use wire::{Cutter, Wire};

/// Largest piece of data sent at once. Smaller ones let channels take turns on a slow line.
pub const CHUNK: usize = 16 * 1024;
/// Largest packet taken.
pub const PACKET: u32 = 32 * 1024;
