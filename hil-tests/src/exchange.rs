//! Bytes through a program and back, disturbed while they move.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::poll;

/// The next part must come back within this time, whatever became of what carries it.
pub const LIMIT: Duration = Duration::from_mins(4);

/// Bytes that tell their position.
#[must_use]
pub fn pattern(length: u32) -> Vec<u8> {
    (0..length / 4).flat_map(u32::to_be_bytes).collect()
}

/// Starts a program that is written to and read from.
///
/// # Errors
/// If it cannot be started.
pub fn piped(command: &mut Command) -> Result<Child> {
    let shown = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().context(shown)
}

/// Sends bytes through a program that gives them back, and disturbs it each time another of
/// `times` parts has come. They must come back as they are, and the program must end with success.
///
/// # Errors
/// If they do not, or it does not.
pub fn comes_back_whole(
    mut program: Child,
    sent: &[u8],
    times: u64,
    mut disturb: impl FnMut(u64),
) -> Result<()> {
    let mut input = program.stdin.take().context("no input")?;
    let mut output = program.stdout.take().context("no output")?;
    let received = AtomicU64::new(0);
    let mut got: Vec<u8> = Vec::with_capacity(sent.len());
    let (count, into) = (&received, &mut got);
    let moved = thread::scope(|scope| {
        scope.spawn(move || input.write_all(sent));
        let reading = scope.spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                into.extend(buffer.iter().take(read));
                count.fetch_add(read as u64, Ordering::Relaxed);
            }
        });
        for part in 1..=times {
            let wanted = sent.len() as u64 * part / (times + 1);
            let mut before = 0;
            // However long the whole takes, something must come now and then.
            while received.load(Ordering::Relaxed) < wanted {
                let more = || received.load(Ordering::Relaxed) > before;
                let news = || (more() || reading.is_finished()).then_some(());
                if poll(LIMIT, news).is_none() || !more() {
                    program.kill().ok();
                    return Some(part);
                }
                before = received.load(Ordering::Relaxed);
            }
            disturb(part);
        }
        if poll(LIMIT, || reading.is_finished().then_some(())).is_none() {
            program.kill().ok();
            return Some(times + 1);
        }
        None
    });
    let status = program.wait()?;
    let (there, all) = (got.len(), sent.len());
    ensure!(
        moved.is_none(),
        "part {moved:?} never came: {there} of {all} bytes ({status})"
    );
    ensure!(
        got == sent,
        "{there} of {all} bytes came back, or others ({status})"
    );
    ensure!(status.success(), "{status}");
    Ok(())
}
