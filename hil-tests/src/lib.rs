//! The shipped programs, driven as a person would drive them.
//!
//! | module | holds |
//! | --- | --- |
//! | [`programs`] | where the built binaries are |
//! | [`process`] | running a program: bounded, collected, ended with its owner |
//! | [`net`] | network namespaces: a device behind NAT with no way in |
//! | [`cluster`] | a cluster of one's own, with its agents and users |
//! | [`swarm`] | a thousand light agents in one process |
//!
//! The scenarios are in `tests/`, one file a subject.

pub mod cluster;
pub mod net;
pub mod process;
pub mod programs;
pub mod swarm;
