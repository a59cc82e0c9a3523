//! Memory of an agent whose sessions are idle. No other process runs the same file meanwhile: the
//! proportional share of what several of them map would be less.

use std::time::Duration;

use anyhow::Result;
use hil_tests::cluster::READY;
use hil_tests::process::Daemon;

use super::cost::OTHER;
use super::setting::{Setting, User};
use crate::bench::links::wait;
use crate::bench::proc;
use crate::bench::report::{Limit, Table};
use ::cross::shell::say;

const SESSIONS: usize = 4;
/// In KiB.
const LIMIT: f64 = 5.0 * 1024.0;
/// What was set up and moved is past, and the first heartbeats are.
const IDLE: Duration = Duration::from_secs(40);

/// Of agents that have just been started.
pub(super) fn fresh(setting: &mut Setting) -> Result<Table> {
    setting.restart_agent()?;
    let with = idle(setting, &setting.with)?;
    setting.restart_agent()?;
    let without = idle(setting, &setting.without)?;
    Ok(table("fresh", &with, &without))
}

/// Of one that has moved what there was to move.
pub(super) fn after_traffic(setting: &Setting) -> Result<Table> {
    let with = idle(setting, &setting.with)?;
    let without = idle(setting, &setting.without)?;
    Ok(table("after traffic", &with, &without))
}

/// The agent alone, and with all that its sessions run.
struct Memory {
    agent: f64,
    all: f64,
}

fn table(name: &str, with: &Memory, without: &Memory) -> Table {
    let mut table = Table::beside(OTHER);
    let name = |what| format!("{what}, {SESSIONS} idle sessions, {name} (PSS)");
    for (name, ours, other) in [
        (name("agent"), with.agent, without.agent),
        (name("device with what they run"), with.all, without.all),
    ] {
        table.medians(&name, "KiB", (&[ours], &[other]), Limit::AtMost(LIMIT));
    }
    table
}

fn idle(setting: &Setting, user: &User) -> Result<Memory> {
    say(&format!("{SESSIONS} idle sessions ..."));
    let sessions = (0..SESSIONS).map(|number| hold(setting, user, number));
    let sessions: Vec<_> = sessions.collect::<Result<_>>()?;
    let agent = &setting.agent;
    agent.wait_for_status(&format!(r#""sessions":{SESSIONS}"#))?;
    wait(IDLE);
    let memory = Memory {
        agent: proc::pss_of(agent.pid()),
        all: proc::pss_kib(&[agent.pid()]),
    };
    drop(sessions);
    agent.wait_for_status(r#""sessions":0"#)?;
    Ok(memory)
}

fn hold(setting: &Setting, user: &User, number: usize) -> Result<Daemon> {
    let log = setting.agent.dir().join(format!("held-{number}.log"));
    std::fs::write(&log, "")?;
    let mut session = Daemon::start(&mut user.near("echo up; exec sleep 600")?, &log)?;
    session.wait_until("a session", READY, || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        said.contains("up").then_some(())
    })?;
    Ok(session)
}
