//! What the chores need beyond Rust: apt packages and cargo tools, and why.

use std::path::PathBuf;

use ::cross::shell::{cargo, check, say};
use ::cross::tools::{Tool, exists};
use anyhow::{Context, Result, bail};

/// For the end-to-end tests.
pub(crate) const TEST: &[Tool<'_>] = &[
    (
        "ssh",
        "openssh-client",
        "tests reach devices with the real OpenSSH client",
    ),
    (
        "ip",
        "iproute2",
        "tests put devices into network namespaces",
    ),
    ("iptables", "iptables", "those namespaces are behind NAT"),
    ("sysctl", "procps", "their routers forward packets"),
    ("ping", "iputils-ping", "tests measure emulated links"),
    ("rsync", "rsync", "tests copy files through the tunnel"),
    ("tmux", "tmux", "tests drive a real terminal"),
    ("vim", "vim", "tests look at a program that fills it"),
    ("faketime", "faketime", "tests let certificates expire"),
];

/// For the demo's namespaces.
pub(crate) const DEMO: &[Tool<'_>] = &[
    ("ip", "iproute2", "devices live in network namespaces"),
    ("iptables", "iptables", "those namespaces are behind NAT"),
    ("sysctl", "procps", "their routers forward packets"),
];

/// For the benchmark.
pub(crate) const BENCH: &[Tool<'_>] = &[
    ("ssh", "openssh-client", "the peer"),
    ("/usr/sbin/sshd", "openssh-server", "the peer"),
    (
        "autossh",
        "autossh",
        "keeps the peer's tunnel over bad links",
    ),
    ("ip", "iproute2", "emulated links have a device's namespace"),
    ("sysctl", "procps", "it has TCP as devices have it"),
];

/// A cargo tool, with the version and why.
type CargoTool = (&'static str, &'static str, &'static str);

const RUNNER: CargoTool = (
    "cargo-nextest",
    "0.9.143",
    "runs the tests, each in a process of its own",
);
const DENY: CargoTool = (
    "cargo-deny",
    "0.20.2",
    "checks licences, sources and duplicates of dependencies",
);
const FUZZER: CargoTool = ("cargo-fuzz", "0.13.2", "builds and runs the fuzzer");

/// Where cargo puts what it builds with a profile: beside where it put this program, whatever
/// names that folder (a setting, the environment, or nobody).
///
/// # Errors
/// If this program does not know where it is.
pub(crate) fn outputs(profile: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("this program has no path")?;
    let target = own.ancestors().nth(2).context("not built by cargo")?;
    Ok(target.join(profile))
}

/// Installs missing cargo tools for the whole test.
///
/// # Errors
/// If one is missing and cannot be installed.
pub(crate) fn cargo_tools(install: bool) -> Result<()> {
    cargo_install(&[RUNNER, DENY], install)
}

/// Installs what runs tests, if it is missing.
///
/// # Errors
/// If it cannot be installed.
pub(crate) fn runner(install: bool) -> Result<()> {
    cargo_install(&[RUNNER], install)
}

/// Installs the fuzzer, if it is missing.
///
/// # Errors
/// If it cannot be installed.
pub(crate) fn fuzzer(install: bool) -> Result<()> {
    cargo_install(&[FUZZER], install)
}

fn cargo_install(tools: &[CargoTool], install: bool) -> Result<()> {
    for (name, version, why) in tools {
        if exists(name) {
            continue;
        }
        say(&format!("{name} is missing: {why}"));
        if !install {
            bail!("install it: cargo install --locked {name}");
        }
        check(&mut cargo(&[
            "install",
            "--locked",
            "--version",
            version,
            name,
        ])?)?;
    }
    Ok(())
}
