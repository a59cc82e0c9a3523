//! Resumable streams over attachments that break, in virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and names its seed"
)]

mod app;
mod attaching;
mod cost;
mod hostile;
mod lending;
mod mac;
mod pair;
mod schedules;
mod wire;
mod world;
