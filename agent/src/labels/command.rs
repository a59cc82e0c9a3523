//! Runs one label's command: no shell, no input, a deadline, and a bound on what it prints.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A command that takes longer is stuck, or not fit for a label.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// What is read of a command's output; a value is a 16th of it.
const MAX_OUTPUT: u64 = 4096;

/// Gives the label's value, or a phrase why there is none.
pub(super) async fn run(command: &[String], limit: Duration) -> Result<String, String> {
    let mut child = spawn(command).map_err(|error| format!("cannot be started: {error}"))?;
    let group = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .map(Pid::from_raw);
    let result = timeout(limit, finish(&mut child)).await;
    // Whatever it started and left behind goes, too.
    if let Some(group) = group {
        let _ = killpg(group, Signal::SIGKILL);
    }
    match result {
        Ok(result) => result,
        Err(_) => Err(format!("did not end within {} s", limit.as_secs())),
    }
}

fn spawn(command: &[String]) -> std::io::Result<Child> {
    let (program, arguments) = command
        .split_first()
        .ok_or(std::io::ErrorKind::InvalidInput)?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

async fn finish(child: &mut Child) -> Result<String, String> {
    let mut printed = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(MAX_OUTPUT).read_to_end(&mut printed).await;
        read.map_err(|error| format!("cannot be read: {error}"))?;
    }
    match child.wait().await {
        Ok(status) if status.success() => Ok(super::value(&printed)),
        // Cut off for printing too much: what it printed first is the value all the same.
        Ok(_) if u64::try_from(printed.len()) == Ok(MAX_OUTPUT) => Ok(super::value(&printed)),
        Ok(status) => Err(format!("failed: {status}")),
        Err(error) => Err(format!("was lost: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str) -> Result<String, String> {
        let command = ["sh", "-c", script].map(str::to_owned);
        run(&command, Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn what_it_prints_is_the_value() {
        assert_eq!(
            sh("echo ' 3 days '; echo noise >&2").await,
            Ok("3 days".into())
        );
        assert_eq!(sh("yes").await.map(|value| value.len()), Ok(255));
    }

    #[tokio::test]
    async fn failures_are_told_apart() {
        assert!(sh("exit 3").await.unwrap_err().contains("exit status: 3"));
        let missing = ["/nonexistent".to_owned()];
        assert!(
            run(&missing, TIMEOUT)
                .await
                .unwrap_err()
                .contains("cannot be started")
        );
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", pid.display());
        let command = ["sh".to_owned(), "-c".to_owned(), script];
        let error = run(&command, Duration::from_millis(500)).await.unwrap_err();
        assert!(error.contains("did not end"), "{error}");
        let pid: i32 = std::fs::read_to_string(pid)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        // The group is dead once the signal is delivered; the entry may linger until it is reaped.
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        while state().contains(") S ") {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_child_left_behind_does_not_hold_the_label_up() {
        assert_eq!(
            sh("sleep 60 >/dev/null & echo done").await,
            Ok("done".into())
        );
    }
}
