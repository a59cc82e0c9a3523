//! The cluster: certificate authority, users, roles, proxy and audit in one process.
//!
//! `tether` runs it, `tctl` steers it over a local socket. ARCHITECTURE.md has the map.

pub mod admin;
pub mod audit;
pub mod auth;
pub mod config;
pub mod descriptors;
pub mod duration;
pub mod files;
pub mod printable;
pub mod proxy;
pub mod resource;
pub mod start;
pub mod store;
pub mod tctl;
pub mod tunnel;
