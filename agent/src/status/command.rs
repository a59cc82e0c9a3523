//! `tether-agent status`.

use std::io::{self, ErrorKind};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use protocol::clock::Clock;

use super::{Format, NodeStatus, Status, render, socket};
use crate::cli;
use crate::clock;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::machine::Machine;
use crate::node;
use crate::output;
use crate::settings::{self, process_env};
use crate::state::DataDir;

/// How long an agent that restarts is waited for: on most boards it answers again within a second.
const RESTART_LIMIT: Duration = Duration::from_secs(3);
/// How often it is asked.
const LOOK: Duration = Duration::from_millis(50);

/// Runs the command.
pub(crate) fn run(typed: &cli::Status) -> Result<Exit, Failure> {
    let settings = settings::load(&typed.common, &process_env)?;
    let dir = DataDir::new(settings.data_dir);
    match answer(&dir, typed.format) {
        Ok(status) => {
            output::print(&status);
            Ok(Exit::Ok)
        }
        Err(error) if is_between(error.kind()) && dir.is_in_use() => {
            let shown = dir.path().display();
            let said = "starts, or restarts, and does not answer yet; ask again";
            Err(anyhow!("the agent that uses {shown} {said}").into())
        }
        Err(error) if is_absent(error.kind()) => {
            output::print(&render::render(
                &stopped(&dir, &settings.config),
                typed.format,
            ));
            Ok(Exit::Failed)
        }
        Err(error) => {
            let asked = format!("cannot ask the agent at {}", dir.socket().display());
            Err(anyhow::Error::from(error).context(asked).into())
        }
    }
}

/// Asks the agent. One that restarts answers nobody for a moment.
fn answer(dir: &DataDir, format: Format) -> io::Result<String> {
    let start = Instant::now();
    loop {
        match socket::ask(&dir.socket(), format) {
            Err(error)
                if is_between(error.kind())
                    && start.elapsed() < RESTART_LIMIT
                    && dir.is_in_use() =>
            {
                sleep(LOOK);
            }
            answer => return answer,
        }
    }
}

/// Whether nobody listens, or no longer.
const fn is_between(kind: ErrorKind) -> bool {
    is_absent(kind)
        || matches!(
            kind,
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        )
}

const fn is_absent(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

/// What the files tell.
fn stopped(dir: &DataDir, config: &Config) -> Status {
    let mut status = Status::of_stopped();
    status.only_login = Machine::look().only_login;
    match node::stored(dir) {
        Ok(Some((_, membership))) => {
            clock::follow(&Clock::new(clock::BUILT.max(membership.time)));
            let address = config
                .cluster
                .as_ref()
                .map_or_else(|| membership.address.clone(), ToString::to_string);
            status.node = Some(NodeStatus::new(&membership, address, clock::now()));
        }
        Ok(None) => {}
        Err(problems) => status.problems = problems,
    }
    status
}
