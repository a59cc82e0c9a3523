//! The agent's binary against a small cluster on the same machine.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail like tests"
)]

mod authority;
mod cluster;
mod join;
mod link;
mod process;
