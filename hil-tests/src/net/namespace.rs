//! A network namespace, which goes away with all that runs in it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::net::{clean, sh};

pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    pub(super) fn new(name: &str) -> Result<Self> {
        let namespace = Self { name: name.into() };
        sh(&format!("ip netns add {name}")).context("network namespaces cannot be made here")?;
        sh(&format!("ip -n {name} link set lo up"))?;
        if has_ipv6() {
            // The kernel would send packets of its own.
            for of in ["all", "default"] {
                namespace.sysctl(&format!("net.ipv6.conf.{of}.disable_ipv6"), "1")?;
            }
        }
        Ok(namespace)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs this on a thread in the namespace; sockets that it makes stay there.
    pub(super) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = path(&self.name);
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        let enter = || {
            setns(&file, CloneFlags::CLONE_NEWNET)?;
            anyhow::Ok(work())
        };
        let done = thread::scope(|scope| scope.spawn(enter).join());
        done.map_err(|_| anyhow!("panicked in {}", self.name))?
    }

    pub(super) fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        sh(&format!(
            "ip netns exec {} sysctl -qw {key}={value}",
            self.name
        ))
    }

    /// What commands in it find as `/etc/resolv.conf`.
    pub(super) fn use_nameserver(&self, resolv_conf: &str) -> Result<()> {
        let dir = etc(&self.name);
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(std::fs::write(dir.join("resolv.conf"), resolv_conf)?)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes a namespace with all that runs in it, if there is one of this name.
pub(super) fn remove(name: &str) {
    if path(name).exists() {
        let inside = clean(&format!("ip netns pids {name}"));
        for pid in inside.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        clean(&format!("ip netns del {name}"));
    }
    std::fs::remove_dir_all(etc(name)).ok();
    // Only if nobody else uses it.
    std::fs::remove_dir("/etc/netns").ok();
}

fn path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

fn etc(name: &str) -> PathBuf {
    Path::new("/etc/netns").join(name)
}

/// Keeps the kernel from sending packets of its own from an interface of this namespace.
pub(super) fn no_ipv6_here(interface: &str) -> Result<()> {
    if has_ipv6() {
        let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        std::fs::write(&path, "1").context(path)?;
    }
    Ok(())
}

/// Lets namespaces choose a congestion control that the kernel has, but does not offer to all.
pub(super) fn allow_congestion_control(name: &str) -> Result<()> {
    let path = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
    let allowed = std::fs::read_to_string(path).context(path)?;
    if allowed.split_whitespace().any(|one| one == name) {
        return Ok(());
    }
    std::fs::write(path, format!("{} {name}", allowed.trim())).context(path)
}

fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}
