//! An emulated machine: what QEMU is told, and where its kernel comes from.

use serde::Deserialize;

/// A QEMU board.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// What it is, in a few words.
    pub summary: String,
    /// Whether the ordinary test run boots it, or only `--all`.
    #[serde(default)]
    pub always: bool,
}
