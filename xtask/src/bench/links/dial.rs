//! When a new dial is served: found by trying, again and again, as somebody would who needs it.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use hil_tests::process::poll;

use super::Side;

/// A try that was refused is repeated after this time.
const PAUSE: Duration = Duration::from_millis(200);
/// Beside a try that hangs, another is started after this time.
const AGAIN: Duration = Duration::from_secs(1);
/// Tries under way at most; then the oldest is given up.
const AT_ONCE: usize = 10;

struct Try {
    started: Instant,
    child: Child,
}

impl Drop for Try {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// How long it takes from now; nothing if that is longer than `patience`.
pub(super) fn time_until_served(side: &dyn Side, patience: Duration) -> Result<Option<Duration>> {
    let start = Instant::now();
    let mut tries: Vec<Try> = Vec::new();
    let mut last: Option<Instant> = None;
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
        let pause = if tries.is_empty() { PAUSE } else { AGAIN };
        if served.is_none() && last.is_none_or(|last| last.elapsed() >= pause) {
            if tries.len() == AT_ONCE {
                tries.remove(0);
            }
            match dial(side) {
                Ok(one) => {
                    last = Some(one.started);
                    tries.push(one);
                }
                Err(error) => served = Some(Err(error)),
            }
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
        started: Instant::now(),
        child: client.spawn()?,
    })
}
