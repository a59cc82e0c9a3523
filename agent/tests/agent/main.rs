//! The agent's binary where there is no cluster, or one that does what a real cluster never does.
//! Everything else is in `hil-tests`, with a real one.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail like tests"
)]

mod alone;
mod authority;
mod cluster;
mod link;
mod process;
