//! Building the agent for the boards in `targets/`.
//!
//! - [`agent`]: what was built.
//! - [`target`]: what a file in `targets/` says.
//! - [`cache`]: where what outlives a checkout is kept.

pub mod agent;
pub mod cache;
pub mod target;
