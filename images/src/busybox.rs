//! busybox, linked statically.

use anyhow::{Context, Result, bail};
use cross::target::board::{Board, Busybox};

use crate::apt;

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
        Busybox::Built(from) => bail!("busybox for {} is not built yet", from.target),
    }
}
