//! What the chores need beyond Rust, and how it is installed: apt packages and cargo tools.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::shell::{cargo, check, say};

/// A program, the apt package that has it, and why it is needed.
type Tool = (&'static str, &'static str, &'static str);

/// For the end-to-end tests.
pub(crate) const TEST: &[Tool] = &[
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
    ("rsync", "rsync", "tests copy files through the tunnel"),
    ("tmux", "tmux", "tests drive a real terminal"),
    ("faketime", "faketime", "tests let certificates expire"),
];

/// For the demo's namespaces.
pub(crate) const DEMO: &[Tool] = &[
    ("ip", "iproute2", "devices live in network namespaces"),
    ("iptables", "iptables", "those namespaces are behind NAT"),
    ("sysctl", "procps", "their routers forward packets"),
];

/// For the benchmark.
pub(crate) const BENCH: &[Tool] = &[
    ("ssh", "openssh-client", "the peer"),
    ("/usr/sbin/sshd", "openssh-server", "the peer"),
];

/// Cargo tools, with the version and why.
const CARGO: &[(&str, &str, &str)] = &[
    (
        "cargo-nextest",
        "0.9",
        "runs the tests, each in a process of its own",
    ),
    (
        "cargo-deny",
        "0.20",
        "checks licences, sources and duplicates of dependencies",
    ),
];

/// Installs the packages whose programs are missing.
///
/// # Errors
/// If one is missing and cannot be installed.
pub(crate) fn packages(tools: &[Tool], install: bool) -> Result<()> {
    let missing: Vec<_> = tools
        .iter()
        .filter(|(program, ..)| !exists(program))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for (program, package, why) in &missing {
        say(&format!("{program} is missing (package {package}): {why}"));
    }
    let names: Vec<_> = missing.iter().map(|(_, package, _)| *package).collect();
    if !install || !exists("apt-get") {
        bail!("install these packages: {}", names.join(" "));
    }
    // The lists may be old or absent on a fresh machine.
    check(apt().arg("update").stdout(Stdio::null()))?;
    check(
        apt()
            .args(["install", "-y", "--no-install-recommends"])
            .args(names)
            .stdout(Stdio::null()),
    )
}

/// Installs missing cargo tools.
///
/// # Errors
/// If one is missing and cannot be installed.
pub(crate) fn cargo_tools(install: bool) -> Result<()> {
    for (name, version, why) in CARGO {
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

fn apt() -> Command {
    let root = nix::unistd::geteuid().is_root();
    let mut command = Command::new(if root { "apt-get" } else { "sudo" });
    if !root {
        command.arg("apt-get");
    }
    command.arg("-q").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn exists(program: &str) -> bool {
    let cargo_bin = std::env::var_os("CARGO_HOME")
        .map(Into::into)
        .or_else(|| Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
        .map(|home| home.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs = std::env::split_paths(&path)
        .chain(cargo_bin)
        .chain(["/usr/sbin".into(), "/sbin".into()]);
    Path::new(program).is_absolute() && Path::new(program).exists()
        || dirs.any(|dir| dir.join(program).exists())
}
