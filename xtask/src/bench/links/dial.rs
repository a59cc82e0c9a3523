//! When a new dial is served: found by trying, as somebody would who needs it.
//!
//! Trying must not be what keeps a side from coming back. Each dial through a dead tunnel is work
//! for the gateway's sshd, which then never gets around to asking whether the device is still there
//! (OpenSSH 9.2); a person who tries every few seconds keeps it dead for good. So after an eager
//! start, dials through the same tunnel are rarer than sshd's questions.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use hil_tests::process::poll;

use super::Side;

/// A try that was refused is repeated after this time.
const PAUSE: Duration = Duration::from_secs(1);
/// Beside a try that hangs, another is started after this time.
const AGAIN: Duration = Duration::from_secs(5);
/// Tries under way at most; then the oldest is given up.
const AT_ONCE: usize = 4;
/// Longer than the interval of the peer's questions.
const RARE: Duration = Duration::from_secs(35);

struct Try {
    child: Child,
}

impl Drop for Try {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// How long it takes from now; nothing if that is longer than `patience`. Tries are rare after
/// `eager`, unless the side has another tunnel.
pub(super) fn time_until_served(
    side: &dyn Side,
    eager: Duration,
    patience: Duration,
) -> Result<Option<Duration>> {
    let start = Instant::now();
    let mut tries: Vec<Try> = Vec::new();
    // When, and through which tunnel.
    let mut last: Option<(Instant, Option<String>)> = None;
    let served = poll(patience, || {
        let mut served = None;
        tries.retain_mut(|one| match one.child.try_wait() {
            Ok(Some(status)) if status.success() => {
                served = Some(Ok(start.elapsed()));
                false
            }
            Ok(None) => true,
            _ => false,
        });
        let tunnel = side.tunnel();
        let due = last.as_ref().is_none_or(|(at, through)| {
            let same = through.is_some() && *through == tunnel;
            let pause = match (tries.is_empty(), same && start.elapsed() > eager) {
                (_, true) => RARE,
                (true, false) => PAUSE,
                (false, false) => AGAIN,
            };
            at.elapsed() >= pause || (through.is_some() && *through != tunnel)
        });
        if served.is_none() && due {
            if tries.len() == AT_ONCE {
                tries.remove(0);
            }
            match dial(side) {
                Ok(one) => tries.push(one),
                Err(error) => served = Some(Err(error)),
            }
            last = Some((Instant::now(), tunnel));
        }
        served
    });
    served.transpose()
}

fn dial(side: &dyn Side) -> Result<Try> {
    let mut client = side.client("true")?;
    client
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(Try {
        child: client.spawn()?,
    })
}
