//! The agent's binary against a small cluster on the same machine.

mod cluster;
mod join;
mod link;
mod process;
