//! Messages: layout, limits, versions.
//!
//! Every message is one [`frame`]: a length and a postcard-encoded enum. Enums are append-only:
//! a variant, once released, keeps its number and its fields; what is new becomes a new variant at
//! the end. A reader that meets a variant it does not know skips the frame
//! ([`DecodeError::UnknownVariant`](crate::error::DecodeError)). The golden vectors in
//! `tests/golden.rs` hold the layout still.
//!
//! | stream | opened by | first message | then |
//! | --- | --- | --- | --- |
//! | control | agent | [`control::ToCluster::Hello`] | [`control::ToAgent`] / [`control::ToCluster`] |
//! | dial to a node | cluster | [`dial::LinkRequest`] | [`dial::DialReply`], then bytes |
//! | dial by a user | client | [`dial::ClientRequest`] | [`dial::DialReply`], then bytes |
//! | join | device | [`join::JoinRequest`] | [`join::JoinReply`] |

pub mod bounded;
pub mod control;
pub mod dial;
pub mod frame;
pub mod join;
pub mod version;

pub use bounded::{Blob, Text};
pub use frame::{MAX_FRAME, decode, encode};

/// An enum whose variants a peer may extend.
pub trait Message {
    /// How many variants this build knows; numbers from here on are of a newer version.
    const VARIANTS: u32;
}

/// Labels on one resource.
pub const MAX_LABELS: usize = 32;

/// One label: `key=value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Label<'a> {
    /// The label's name.
    #[serde(borrow)]
    pub key: Text<'a, 64>,
    /// Its value.
    pub value: Text<'a, 256>,
}

/// All labels of one resource.
pub type Labels<'a> = heapless::Vec<Label<'a>, MAX_LABELS>;
