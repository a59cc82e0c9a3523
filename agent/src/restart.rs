//! `tether-agent restart`.

use std::io::ErrorKind;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};

use crate::cli::Common;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::settings::{self, process_env};
use crate::state::DataDir;
use crate::status::{Format, socket};

/// The new program answers as soon as it has read its files.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How often it is asked.
const LOOK: Duration = Duration::from_millis(100);

/// Runs the command.
pub(crate) fn run(typed: &Common) -> Result<Exit, Failure> {
    let settings = settings::load(typed, &process_env)?;
    let path = DataDir::new(settings.data_dir).socket();
    let said = asked(&path)?;
    let status = new_status(&path)?;
    output::print(&format!("The agent was restarted: {said}.\n{status}"));
    Ok(Exit::Ok)
}

fn asked(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let answer = socket::ask_to_restart(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow!(
            "no agent answers at {shown}; start it with tether-agent start, or name its --data-dir"
        ),
        ErrorKind::UnexpectedEof => anyhow!(
            "the agent at {shown} cannot restart: it is about to join, or older than this program; \
             stop it and start it"
        ),
        _ => anyhow!("cannot ask the agent at {shown}: {error}"),
    })?;
    match answer.trim_end().split_once(' ') {
        Some(("ok", said)) => Ok(said.to_owned()),
        Some(("no", reason)) => bail!("the agent goes on as it was: {reason}"),
        _ => bail!("the agent at {shown} says what this program does not understand"),
    }
}

/// What the new agent says first; the old one says nothing any more.
fn new_status(path: &Path) -> anyhow::Result<String> {
    let start = Instant::now();
    loop {
        match socket::ask(path, Format::Text) {
            Ok(status) => return Ok(status),
            Err(error) if start.elapsed() > START_LIMIT => bail!(
                "the agent has gone, and the new one does not answer yet ({error}); see its log, \
                 and tether-agent status"
            ),
            Err(_) => sleep(LOOK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;

    /// An agent that says these things, one a caller.
    fn agent(says: &'static [&str]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            for words in says {
                let (mut caller, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&caller).read_line(&mut line).unwrap();
                caller.write_all(words.as_bytes()).unwrap();
            }
        });
        (folder, path)
    }

    #[test]
    fn what_the_agent_says_is_understood() {
        let (_folder, path) = agent(&["ok 2 sessions kept\n", "no reason\n", "what?\n", ""]);
        assert_eq!(asked(&path).unwrap(), "2 sessions kept");
        let error = asked(&path).unwrap_err().to_string();
        assert_eq!(error, "the agent goes on as it was: reason");
        assert!(
            asked(&path)
                .unwrap_err()
                .to_string()
                .contains("does not understand")
        );
        assert!(
            asked(&path)
                .unwrap_err()
                .to_string()
                .contains("stop it and start it")
        );
        let error = asked(Path::new("/nonexistent/agent.sock")).unwrap_err();
        assert!(error.to_string().contains("tether-agent start"), "{error}");
    }

    #[test]
    fn the_new_agent_is_waited_for() {
        let (_folder, path) = agent(&["", "", "agent: 9\n"]);
        assert_eq!(new_status(&path).unwrap(), "agent: 9\n");
    }
}
