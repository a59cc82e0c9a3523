//! The shipped programs, driven as a person would drive them.
//!
//! | module | holds |
//! | --- | --- |
//! | [`programs`] | where the built binaries are |
//! | [`process`] | running a program: bounded, collected, ended with its owner |
//! | [`net`] | network namespaces: a device behind NAT with no way in; links that behave as told |
//! | [`cluster`] | a cluster of one's own, with its agents and users |
//! | [`scene`] | a device behind emulated links, its cluster and somebody who uses it |
//! | [`apart`] | a person and a device behind emulated links of their own |
//! | [`terminal`] | a terminal with a person in front of it |
//! | [`exchange`] | bytes through a program and back, disturbed while they move |
//! | [`openssh`] | OpenSSH's ssh-agent |
//! | [`device`] | boards: emulated ones, and those on a bench |
//! | [`lab`] | a board with a cluster and somebody who uses it |
//! | [`trials`] | a scenario on each board |
//! | [`time`] | the time, as programs print it |
//! | [`swarm`] | thousands of light agents in one process, and storms |
//!
//! The scenarios are in `tests/`, one file a subject.

pub mod apart;
pub mod cluster;
pub mod device;
pub mod exchange;
pub mod lab;
pub mod net;
pub mod openssh;
pub mod process;
pub mod programs;
pub mod scene;
pub mod swarm;
pub mod terminal;
pub mod time;
pub mod trials;
