//! One request to the admin socket, one answer.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::Value;

use super::Failed;
use crate::admin::{LINE_LIMIT, Request, SOCKET};

/// The cluster answers within this time, or something is stuck.
const DEADLINE: Duration = Duration::from_secs(30);
/// Where a cluster may run if nobody says.
const PLACES: [&str; 2] = ["data", "/var/lib/tether"];

/// Asks the cluster that runs on `data_dir`.
pub(super) fn ask(data_dir: Option<&Path>, request: &Request) -> Result<Value, Failed> {
    let path = find(data_dir);
    let stream = UnixStream::connect(&path).map_err(|e| not_running(&path, &e))?;
    let mut answer: Value = exchange(stream, request)?;
    if let Some(ok) = answer.get_mut("ok") {
        return Ok(ok.take());
    }
    let error = answer.get("error").cloned().unwrap_or_default();
    let code = match error.get("code").and_then(Value::as_str) {
        Some("invalid") => 2,
        Some("not_found") => 3,
        Some("exists") => 4,
        Some("conflict") => 5,
        _ => 1,
    };
    let text = error
        .get("message")
        .and_then(Value::as_str)
        .unwrap_or("unreadable answer");
    Err(Failed {
        code,
        error: anyhow!("{text}"),
    })
}

fn find(data_dir: Option<&Path>) -> PathBuf {
    let sockets = PLACES.map(|place| Path::new(place).join(SOCKET));
    let [local, system] = sockets;
    match data_dir {
        Some(dir) => dir.join(SOCKET),
        None if local.exists() => local,
        None => system,
    }
}

fn not_running(path: &Path, error: &std::io::Error) -> Failed {
    let hint = match error.kind() {
        ErrorKind::PermissionDenied => "run tctl as the user that runs the cluster",
        _ => "is the cluster running here? Start it with `tether start`, or name its --data-dir",
    };
    Failed {
        code: 6,
        error: anyhow!("{}: {error}; {hint}", path.display()),
    }
}

fn exchange(mut stream: UnixStream, request: &Request) -> anyhow::Result<Value> {
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(LINE_LIMIT))
        .read_line(&mut answer)
        .context("the cluster did not answer; its log may say why")?;
    serde_json::from_str(&answer).context("tctl and tether do not fit: unreadable answer")
}
