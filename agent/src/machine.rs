//! The machine the agent runs on.

use std::time::Duration;

use nix::unistd::{Uid, User};

/// What `uname` says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    pub(crate) hostname: String,
    pub(crate) os: String,
    pub(crate) arch: String,
    pub(crate) kernel: String,
    /// Changes with every boot; zero where the kernel does not tell.
    pub(crate) boot_id: [u8; 16],
    /// The only login an agent without root can offer.
    pub(crate) only_login: Option<String>,
}

impl Machine {
    /// Asks the system.
    pub(crate) fn look() -> Self {
        let mut machine = Self {
            boot_id: boot_id(),
            only_login: only_login(),
            ..Self::default()
        };
        if let Ok(name) = nix::sys::utsname::uname() {
            machine.hostname = name.nodename().to_string_lossy().into_owned();
            machine.os = name.sysname().to_string_lossy().into_owned();
            machine.arch = name.machine().to_string_lossy().into_owned();
            machine.kernel = name.release().to_string_lossy().into_owned();
        }
        machine
    }
}

/// Whether the agent may become other users.
pub(crate) fn is_root() -> bool {
    Uid::effective().is_root()
}

fn only_login() -> Option<String> {
    let uid = Uid::effective();
    (!uid.is_root()).then(|| match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        // Without a passwd entry nobody can log in; the number at least says why.
        _ => uid.to_string(),
    })
}

fn boot_id() -> [u8; 16] {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .and_then(|text| text.trim().parse::<protocol::identity::NodeId>().ok())
        .map_or([0; 16], |id| id.0)
}

/// Time since boot until now would be the same for every device of a fleet that boots together;
/// seeds come from the kernel's random numbers instead.
pub(crate) fn seed() -> u64 {
    let mut bytes = [0; 8];
    match ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => Duration::as_nanos(&crate::clock::now())
            .try_into()
            .unwrap_or(0),
    }
}

/// Memory that programs can still get, in KiB; `None` where the system does not say.
pub(crate) fn available_kib() -> Option<u32> {
    let said = std::fs::read_to_string("/proc/meminfo").ok()?;
    let mut lines = said.lines();
    let number = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    number.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// A node's name goes into certificates and SSH command lines.
pub(crate) fn check_node_name(name: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=63).contains(&name.len()) && !name.starts_with(['-', '.']) && name.chars().all(allowed)
    {
        Ok(())
    } else {
        Err("expected 1 to 63 letters, digits or . _ -, not starting with . or -")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_looked_at() {
        let machine = Machine::look();
        assert_eq!(machine.os, "Linux");
        assert!(!machine.arch.is_empty());
        assert_ne!(machine.boot_id, [0; 16]);
        assert_eq!(machine.only_login.is_none(), is_root());
    }

    #[test]
    fn this_machine_has_memory_left() {
        assert!(available_kib().unwrap() > 1024);
    }

    #[test]
    fn node_names_are_checked() {
        for name in ["gateway-1", "a", "GW.lab_2", "0"] {
            assert!(check_node_name(name).is_ok(), "{name}");
        }
        for name in ["", "-a", ".a", "a b", "käse", &"x".repeat(64)] {
            assert!(check_node_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn two_seeds_differ() {
        assert_ne!(seed(), seed());
    }
}
