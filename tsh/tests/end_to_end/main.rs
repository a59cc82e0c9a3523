//! The real `tsh` against a cluster that speaks its side of the protocols.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_arguments,
    clippy::missing_panics_doc,
    reason = "test support"
)]

mod api;
mod ca;
mod client;
mod cluster;
mod login;
mod node;
mod openssh;
mod session;
mod terminal;
