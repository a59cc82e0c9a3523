//! Building the agent for the boards in `targets/`.
//!
//! - [`target`]: what a file in `targets/` says.
//! - [`toolchain`]: the compiler and linker, fetched on a bare machine.
//! - [`build`]: one target from source to a measured, stripped agent; [`elf`] looks inside it.
//! - [`report`]: sizes, budgets, and what grew.
//! - [`agent`]: where what was built lies.
//! - [`cache`]: where what outlives a checkout is kept.
//! - [`shell`], [`tools`]: running, printing, installing, for every chore.

pub mod agent;
pub mod build;
pub mod cache;
pub mod elf;
pub mod report;
pub mod shell;
pub mod target;
pub mod toolchain;
pub mod tools;
