//! What an interface is: the kernel's files in `/sys/class/net` and `/proc/net` say so.

use std::fs;
use std::path::PathBuf;

/// Hardware types (`if_arp.h`), as text.
const ETHERNET: &str = "1";
const PPP: &str = "512";
const RAW_IP: &str = "519";
const LOOPBACK: &str = "772";

/// What it costs to send over an interface, and how it comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum InterfaceKind {
    Wired,
    Wifi,
    Cellular,
    Loopback,
    #[default]
    Unknown,
}

impl InterfaceKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Wired => "wired",
            Self::Wifi => "wifi",
            Self::Cellular => "cellular",
            Self::Loopback => "loopback",
            Self::Unknown => "unknown",
        }
    }

    pub(super) fn of(interface: &str) -> Self {
        let folder = folder(interface);
        let wireless = ["wireless", "phy80211"];
        Self::classify(
            interface,
            &read(interface, "type"),
            &read(interface, "uevent"),
            wireless.iter().any(|file| folder.join(file).exists()),
        )
    }

    /// Decides by the interface's name and the contents of its files `type` and `uevent`.
    fn classify(name: &str, hardware: &str, uevent: &str, wireless: bool) -> Self {
        let is = |kind: &str| uevent.lines().any(|line| line == kind);
        let named = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
        if wireless || is("DEVTYPE=wlan") {
            return Self::Wifi;
        }
        // Modems that pass for Ethernet have these names on most systems.
        if is("DEVTYPE=wwan") || named(&["wwan", "rmnet"]) {
            return Self::Cellular;
        }
        match hardware.trim() {
            LOOPBACK => Self::Loopback,
            // PPP over Ethernet is a DSL line; any other PPP in the field is a modem.
            PPP if named(&["pppoe"]) => Self::Wired,
            PPP | RAW_IP => Self::Cellular,
            ETHERNET => Self::Wired,
            _ => Self::Unknown,
        }
    }
}

/// The name of an interface by its number; empty if there is none.
pub(super) fn name(index: u32) -> String {
    nix::net::if_::if_indextoname(index)
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Whether the cable is plugged in, or what stands for it. Who does not tell has it.
pub(super) fn has_carrier(interface: &str) -> bool {
    read(interface, "carrier").trim() != "0"
}

/// The hardware address of a neighbour that the device has talked to.
pub(super) fn hardware_of(neighbour: &str, interface: &str) -> Option<String> {
    let table = fs::read_to_string("/proc/net/arp").ok()?;
    in_table(&table, neighbour, interface).map(str::to_owned)
}

/// Columns: address, hardware type, flags, hardware address, mask, interface.
fn in_table<'a>(table: &'a str, neighbour: &str, interface: &str) -> Option<&'a str> {
    /// Stands for one that is not known yet.
    const UNKNOWN: &str = "00:00:00:00:00:00";
    table.lines().find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let its = columns.next()? == neighbour && columns.next_back()? == interface;
        let hardware = columns.nth(2)?;
        (its && hardware != UNKNOWN).then_some(hardware)
    })
}

fn folder(interface: &str) -> PathBuf {
    PathBuf::from("/sys/class/net").join(interface)
}

fn read(interface: &str, file: &str) -> String {
    fs::read_to_string(folder(interface).join(file)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_told_apart() {
        use InterfaceKind::{Cellular, Loopback, Unknown, Wifi, Wired};
        let plain = "INTERFACE=x\nIFINDEX=2\n";
        let modem = "DEVTYPE=wwan\nINTERFACE=wwan0\nIFINDEX=7\n";
        let wlan = "DEVTYPE=wlan\nINTERFACE=wlan0\nIFINDEX=3\n";
        for (name, hardware, uevent, wireless, kind) in [
            ("eth0", "1\n", plain, false, Wired),
            ("br-lan", "1\n", "DEVTYPE=bridge\n", false, Wired),
            ("wlan0", "1\n", wlan, true, Wifi),
            ("wlan0", "1\n", wlan, false, Wifi),
            // Drivers of vendors often say nothing but this.
            ("apcli0", "1\n", plain, true, Wifi),
            ("wwan0", "65534\n", modem, false, Cellular),
            ("usb0", "1\n", "DEVTYPE=wwan\n", false, Cellular),
            ("rmnet_data0", "519\n", plain, false, Cellular),
            ("rawip0", "519\n", plain, false, Cellular),
            ("ppp0", "512\n", plain, false, Cellular),
            ("pppoe-wan", "512\n", plain, false, Wired),
            ("lo", "772\n", plain, false, Loopback),
            ("wg0", "65534\n", "DEVTYPE=wireguard\n", false, Unknown),
            ("gone", "", "", false, Unknown),
        ] {
            let found = InterfaceKind::classify(name, hardware, uevent, wireless);
            assert_eq!(found, kind, "{name}");
        }
    }

    #[test]
    fn the_loopback_of_this_machine_is_one() {
        assert_eq!(InterfaceKind::of("lo"), InterfaceKind::Loopback);
        assert_eq!(name(1), "lo");
        assert_eq!(name(u32::MAX), "");
        assert!(has_carrier("lo"));
        assert!(has_carrier("no such interface"));
    }

    #[test]
    fn a_neighbour_is_found_once_it_is_known() {
        let table = "\
IP address       HW type     Flags       HW address            Mask     Device
192.168.77.9     0x1         0x0         00:00:00:00:00:00     *        eth0
192.168.77.1     0x1         0x2         02:42:ac:11:00:02     *        eth1
192.168.77.1     0x1         0x6         02:42:ac:11:00:01     *        eth0
broken
";
        let router = "192.168.77.1";
        assert_eq!(in_table(table, router, "eth0"), Some("02:42:ac:11:00:01"));
        assert_eq!(in_table(table, router, "eth1"), Some("02:42:ac:11:00:02"));
        assert_eq!(in_table(table, router, "wlan0"), None);
        assert_eq!(in_table(table, "192.168.77.9", "eth0"), None);
        assert_eq!(in_table("", router, "eth0"), None);
    }
}
