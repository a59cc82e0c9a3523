//! The agent of every target, run by a user-mode emulator, is as good as any: it joins over QUIC
//! and serves. Big-endian machines speak the same bytes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cross::target::{self, Target};
use hil_tests::cluster::{Cluster, Person, me};
use hil_tests::programs;

/// Passed through each agent both ways.
const BULK: usize = 1 << 20;

#[test]
fn every_targets_agent_joins_and_serves() {
    let mut targets = target::all().unwrap();
    targets.retain(|target| {
        target.emulator.always || std::env::var_os(programs::ALL_TARGETS).is_some()
    });
    let dir = tempfile::tempdir().unwrap();
    let host = programs::dir().unwrap();
    let failures: Vec<_> = targets
        .iter()
        .filter_map(|target| {
            eprintln!("{}: {}", target.name, target.summary);
            let result = serves(target, &dir.path().join(&target.name), &host);
            result.with_context(|| target.name.clone()).err()
        })
        .map(|error| format!("{error:#}"))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn serves(target: &Target, dir: &Path, host: &Path) -> Result<()> {
    let bin = programs_with_agent(target, dir, host)?;
    let mut cluster = Cluster::start_with(dir, "127.0.0.1", &bin)?;
    cluster.use_plain_accounts()?;
    let me = me();
    cluster.add_user("operator", "access", &me)?;
    let mut agent = cluster.joined_agent("board", "", None)?;
    fs::write(agent.config_file(), &target.emulator.agent_config)?;
    agent.start()?;
    cluster.wait_online("board", true)?;
    let operator = cluster.logged_in("operator")?;
    let node = format!("{me}@board");
    sessions(&operator, &node).with_context(|| agent.log())?;

    // What it wrote down is read again by the same machine.
    agent.stop()?;
    cluster.wait_online("board", false)?;
    agent.start()?;
    cluster.wait_online("board", true)?;
    operator.tsh(&["ssh", &node, "true"])?.ok()?;
    agent.stop()
}

fn sessions(operator: &Person, node: &str) -> Result<()> {
    let said = operator.tsh(&["ssh", node, "echo to-stderr >&2; echo to-stdout; exit 42"])?;
    ensure!(
        said.code() == 42,
        "exit code {}: {}",
        said.code(),
        said.stderr
    );
    ensure!(said.stdout == "to-stdout\n", "stdout {:?}", said.stdout);
    ensure!(said.stderr == "to-stderr\n", "stderr {:?}", said.stderr);
    let terminal = operator.tsh(&["ssh", "-tt", node, "test -t 0 && echo a-terminal"])?;
    ensure!(terminal.stdout.trim() == "a-terminal", "{terminal:?}");
    bulk(operator, node)
}

fn bulk(operator: &Person, node: &str) -> Result<()> {
    let line = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n";
    let sent = line.repeat(BULK / line.len());
    let echoed = operator.tsh_with(&["ssh", node, "cat"], sent.as_bytes())?;
    ensure!(
        echoed.code() == 0,
        "exit code {}: {}",
        echoed.code(),
        echoed.stderr
    );
    ensure!(
        echoed.stdout == sent,
        "{} bytes came back",
        echoed.stdout.len()
    );
    Ok(())
}

/// A folder with the host's cluster and `tsh`, and the target's agent.
fn programs_with_agent(target: &Target, dir: &Path, host: &Path) -> Result<PathBuf> {
    let bin = dir.join("bin");
    fs::create_dir_all(&bin)?;
    for name in ["tether", "tctl", "tsh"] {
        symlink(programs::in_dir(host, name)?, bin.join(name))?;
    }
    let words = target.emulator.command.iter().cloned();
    let built = cross::agent::built(target)?.display().to_string();
    let words: Vec<_> = words
        .chain([built])
        .map(|word| format!("'{word}'"))
        .collect();
    let agent = bin.join("tether-agent");
    fs::write(
        &agent,
        format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")),
    )?;
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))?;
    Ok(bin)
}
