//! Signals that end `tsh`. In a remote terminal Ctrl-C is a key like any other and comes as
//! input, not as a signal.

use anyhow::Result;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Waits for a signal that asks to end.
pub(crate) async fn fatal() -> Result<Signal> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => Signal::SIGINT,
        _ = terminate.recv() => Signal::SIGTERM,
        _ = hangup.recv() => Signal::SIGHUP,
    })
}
