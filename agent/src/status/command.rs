//! `tether-agent status`.

use std::io::ErrorKind;

use protocol::clock::Clock;

use super::{NodeStatus, Status, render, socket};
use crate::cli;
use crate::clock;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::machine::Machine;
use crate::node;
use crate::output;
use crate::settings::{self, process_env};
use crate::state::DataDir;

/// Runs the command.
pub(crate) fn run(typed: &cli::Status) -> Result<Exit, Failure> {
    let settings = settings::load(&typed.common, &process_env)?;
    let dir = DataDir::new(settings.data_dir);
    match socket::ask(&dir.socket(), typed.format) {
        Ok(status) => {
            output::print(&status);
            Ok(Exit::Ok)
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
