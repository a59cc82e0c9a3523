//! Network namespaces: a device behind NAT, with no route inwards.
//!
//! ```text
//!   host 10.213.N.1 ──veth── router (masquerades, forwards nothing inwards) ──veth── device 192.168.77.2
//! ```
//!
//! [`emulator`] puts a device behind links that behave as told; [`dns`], [`proxy`], [`portal`] and
//! [`middlebox`] are what it may find there.
//!
//! Every name and address carries a number that is taken with a lock file, so that several runs
//! live side by side; everything goes away with its owner, or, if that was killed, when the number is
//! taken next.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use crate::process::run;

pub mod dns;
pub mod emulator;
pub mod middlebox;
mod namespace;
pub mod portal;
pub mod proxy;
mod server;
mod uplink;

use emulator::Emulator;
pub use uplink::Uplink;

/// What a machine is behind.
#[derive(Clone)]
pub enum Network {
    /// A router that masquerades.
    Nat(Arc<Nat>),
    /// Emulated links.
    Links(Arc<Emulator>),
}

impl Network {
    /// This machine's address, as seen from there.
    #[must_use]
    pub fn host_addr(&self) -> String {
        match self {
            Self::Nat(nat) => nat.host_addr(),
            Self::Links(emulator) => emulator.host_addr(),
        }
    }

    /// A command that runs there.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        match self {
            Self::Nat(nat) => nat.command(program),
            Self::Links(emulator) => emulator.command(program),
        }
    }
}

impl From<Nat> for Network {
    fn from(nat: Nat) -> Self {
        Self::Nat(Arc::new(nat))
    }
}

impl From<&Arc<Emulator>> for Network {
    fn from(emulator: &Arc<Emulator>) -> Self {
        Self::Links(Arc::clone(emulator))
    }
}

/// A router with NAT and one device behind it.
pub struct Nat {
    number: u8,
    /// Held for as long as the number is in use.
    _lock: File,
}

impl Nat {
    /// Whether this machine lets us make namespaces.
    #[must_use]
    pub fn available() -> bool {
        Self::new().is_ok()
    }

    /// Makes both namespaces.
    ///
    /// # Errors
    /// If the kernel or missing rights do not allow it; nothing is left then.
    pub fn new() -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "network namespaces need root"
        );
        let (number, lock) = free_number()?;
        let nat = Self {
            number,
            _lock: lock,
        };
        nat.build()
            .context("network namespaces cannot be made here")?;
        Ok(nat)
    }

    /// The host's address, as the device can reach it.
    #[must_use]
    pub fn host_addr(&self) -> String {
        format!("10.213.{}.1", self.number)
    }

    /// A command that runs on the device.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.device()]).arg(program);
        command
    }

    /// Cuts the link between router and host, or mends it.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn set_link(&self, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        sh(&format!("ip link set {} {state}", self.veth("h")))?;
        if up {
            // Routes go with the link, and do not come back by themselves.
            sh(&format!(
                "ip addr replace {}/24 dev {}",
                self.host_addr(),
                self.veth("h")
            ))?;
        }
        Ok(())
    }

    /// Lets no UDP pass, as some hotels do: packets vanish without a word.
    ///
    /// # Errors
    /// What `iptables` says.
    pub fn block_udp(&self) -> Result<()> {
        let router = self.router();
        sh(&format!(
            "ip netns exec {router} iptables -I FORWARD -p udp -j DROP"
        ))
    }

    /// Lets nothing pass but TCP to one port of the host, as where everything goes through a proxy.
    ///
    /// # Errors
    /// What `iptables` says.
    pub fn allow_only(&self, port: u16) -> Result<()> {
        let (router, inside, host) = (self.router(), self.veth("i"), self.host_addr());
        let rule = format!("ip netns exec {router} iptables -I FORWARD -i {inside}");
        sh(&format!("{rule} -j DROP"))?;
        sh(&format!("{rule} -p tcp -d {host} --dport {port} -j ACCEPT"))
    }

    fn build(&self) -> Result<()> {
        let (router, device) = (self.router(), self.device());
        let (h, r, i, d) = (
            self.veth("h"),
            self.veth("r"),
            self.veth("i"),
            self.veth("d"),
        );
        let outer = format!("10.213.{}", self.number);
        for line in [
            format!("ip netns add {router}"),
            format!("ip netns add {device}"),
            format!("ip link add {h} type veth peer name {r} netns {router}"),
            format!("ip addr add {outer}.1/24 dev {h}"),
            format!("ip link set {h} up"),
            format!("ip -n {router} addr add {outer}.2/24 dev {r}"),
            format!("ip -n {router} link set {r} up"),
            format!("ip -n {router} route add default via {outer}.1"),
            format!("ip -n {router} link add {i} type veth peer name {d} netns {device}"),
            format!("ip -n {router} addr add 192.168.77.1/24 dev {i}"),
            format!("ip -n {router} link set {i} up"),
            format!("ip -n {device} addr add 192.168.77.2/24 dev {d}"),
            format!("ip -n {device} link set {d} up"),
            format!("ip -n {device} link set lo up"),
            format!("ip -n {device} route add default via 192.168.77.1"),
            format!("ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1"),
            format!("ip netns exec {router} iptables -t nat -A POSTROUTING -o {r} -j MASQUERADE"),
            format!(
                "ip netns exec {router} iptables -A FORWARD -i {r} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
            ),
            format!("ip netns exec {router} iptables -A FORWARD -i {r} -j DROP"),
        ] {
            sh(&line)?;
        }
        Ok(())
    }

    fn router(&self) -> String {
        format!("tether-r{}", self.number)
    }

    fn device(&self) -> String {
        format!("tether-d{}", self.number)
    }

    fn veth(&self, end: &str) -> String {
        format!("tth{}{end}", self.number)
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        clear(self.number);
    }
}

/// A number that nobody uses, and nothing that a killed run has left under it.
fn free_number() -> Result<(u8, File)> {
    for number in 1..=250 {
        let path = PathBuf::from(format!("/tmp/tether-netns-{number}.lock"));
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        if file.try_lock().is_ok() {
            clear(number);
            return Ok((number, file));
        }
    }
    bail!("all 250 network numbers are in use")
}

/// Removes what is there under a number, whatever it was made for.
fn clear(number: u8) {
    clean(&format!("ip link del tth{number}h"));
    for kind in ["d", "r", "e", "w"] {
        namespace::remove(&format!("tether-{kind}{number}"));
    }
}

/// Runs a line whose success does not matter, and to its end also in a run that was interrupted.
fn clean(line: &str) -> String {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let done = Command::new(program).args(words).output();
    done.map_or(String::new(), |done| {
        String::from_utf8_lossy(&done.stdout).into_owned()
    })
}

fn sh(line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let program = words.next().context("empty command")?;
    run(Command::new(program).args(words), b"")?
        .ok()
        .with_context(|| line.to_owned())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::mem::ManuallyDrop;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn nothing_of_a_killed_run_is_left_to_who_has_its_number_next() {
        let Ok(nat) = Nat::new() else { return };
        // The number stays taken.
        let nat = ManuallyDrop::new(nat);
        let mut inside = nat.command(Path::new("sh"));
        inside.args(["-c", "echo; exec sleep 1000"]);
        let mut inside = inside.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = inside.stdout.take().unwrap();
        output.read_exact(&mut [0]).unwrap();
        clear(nat.number);
        assert!(!inside.wait().unwrap().success());
        let left = clean("ip netns list") + &clean("ip -o link");
        for name in [nat.router(), nat.device(), nat.veth("h")] {
            let mut words = left.split([' ', ':', '@', '\n']);
            assert!(!words.any(|word| word == name), "{name} in {left}");
        }
    }
}
