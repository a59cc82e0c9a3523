//! `tether-agent`: dials out from a device, holds the link to its cluster, serves SSH through it.
//!
//! | module | holds |
//! | --- | --- |
//! | [`cli`], [`config`], [`settings`], [`proxy`] | what the user wants |
//! | [`start`], [`join`], [`status`], [`restart`] | the commands |
//! | [`handover`] | from one program to the next, with its sessions |
//! | [`state`], [`node`], [`trust`], [`clock`] | who this device is, whom it believes, what time it is |
//! | [`link`] | the connection to the cluster |
//! | [`network`] | the way there, and when it changes |
//! | [`ssh`] | the server behind it |
//! | [`labels`], [`machine`] | what the node tells of itself |
//! | [`sys`] | the platform |

mod address;
mod cli;
mod clock;
mod config;
mod exit;
mod handover;
mod join;
mod labels;
mod link;
mod logger;
mod machine;
mod network;
mod node;
mod output;
mod proxy;
mod restart;
mod settings;
mod ssh;
mod start;
mod state;
mod status;
mod sys;
mod text;
mod token;
mod trust;

use std::pin::Pin;
use std::process::ExitCode;

use tokio::task::JoinHandle;

use cli::Command;
use exit::{Exit, Failure};

/// Release of the agent.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    if ssh::guard::is_guard(std::env::args_os().next().as_deref()) {
        ssh::guard::run();
        return Exit::Ok.into();
    }
    let exit = run().unwrap_or_else(|failure| {
        output::failure(&failure);
        failure.exit
    });
    exit.into()
}

fn run() -> Result<Exit, Failure> {
    match cli::parse(std::env::args_os().skip(1))? {
        Command::Join(typed) => join::command::run(typed),
        Command::Start(typed) => start::run(&typed),
        Command::Status(typed) => status::command::run(&typed),
        Command::Restart(typed) => restart::run(&typed),
        Command::Version => {
            output::line(&format!("tether-agent {VERSION}"));
            Ok(Exit::Ok)
        }
        Command::Help(topic) => {
            output::print(topic.text());
            Ok(Exit::Ok)
        }
    }
}

/// One thread, the caller's: the agent waits most of the time, and threads cost memory.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Names are looked up in threads; see `handover` for why they should not stay.
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .build()
}

/// Starts a task. To the compiler all tasks are of one type, so that the runtime's code for a task
/// is there once and not for each: on MIPS that is 2 KiB a task.
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(task);
    tokio::spawn(task)
}
