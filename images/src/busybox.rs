//! busybox, linked statically.

use anyhow::{Context, Result};
use cross::target::board::{Board, Busybox};

use crate::{apt, built};

/// The busybox of a board.
///
/// # Errors
/// If it cannot be had.
pub fn of(board: &Board) -> Result<Vec<u8>> {
    match &board.busybox {
        Busybox::Debian(from) => {
            let unpacked = apt::package(&from.suite, &from.architecture, "busybox-static")?;
            // Before and after /bin became a part of /usr.
            ["bin/busybox", "usr/bin/busybox"]
                .iter()
                .find_map(|path| std::fs::read(unpacked.join(path)).ok())
                .context("busybox-static has no busybox")
        }
        Busybox::Built(from) => {
            let program = built::busybox(from)?;
            std::fs::read(&program).with_context(|| program.display().to_string())
        }
    }
}
