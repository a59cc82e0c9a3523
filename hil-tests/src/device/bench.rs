//! A bench: the boards on somebody's desk, in a TOML file that `TETHER_BENCH` names.
//!
//! ```toml
//! [[device]]
//! name = "router-1"
//! target = "mipsel"                       # a file in targets/
//! serial = "/dev/serial/by-id/usb-..."
//! baud = 115200
//! host = "192.0.2.10"                     # this machine, as the board reaches it
//!
//! [device.power]
//! on = ["relay", "1", "on"]
//! off = ["relay", "1", "off"]
//!
//! [device.link]                           # optional: the switch port it is plugged into
//! up = ["switch-port", "3", "up"]
//! down = ["switch-port", "3", "down"]
//! ```
//!
//! A board runs the image that `cargo xtask image <target> rootfs` makes, or any Linux that starts
//! the agent by itself, says `tether: ready: ` on its console and has a root shell there.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::serial;

/// Names the file.
pub const VARIABLE: &str = "TETHER_BENCH";

/// What is on the bench.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bench {
    /// The boards.
    #[serde(rename = "device")]
    pub devices: Vec<Wiring>,
}

/// How a board is connected.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wiring {
    /// As written on its label.
    pub name: String,
    /// What it is: a file in `targets/`.
    pub target: String,
    /// The serial port.
    pub serial: PathBuf,
    /// Its speed.
    #[serde(default = "usual_speed")]
    pub baud: u32,
    /// This machine's address, as the board reaches it.
    pub host: String,
    /// The relay that its power goes through.
    pub power: Power,
    /// What its network cable goes through.
    pub link: Option<Cable>,
}

/// Commands that switch power.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Power {
    /// Switches it on.
    pub on: Vec<String>,
    /// Cuts it.
    pub off: Vec<String>,
}

/// Commands that switch the link.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cable {
    /// Plugs it in.
    pub up: Vec<String>,
    /// Pulls it.
    pub down: Vec<String>,
}

fn usual_speed() -> u32 {
    115_200
}

/// The bench that the environment names, if it does.
///
/// # Errors
/// If the file cannot be read or is wrong.
pub fn named() -> Result<Option<Bench>> {
    let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
    path.map(|path| read(Path::new(&path))).transpose()
}

fn read(path: &Path) -> Result<Bench> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| shown.to_string())?;
    parse(&text).with_context(|| format!("{shown} is not a bench"))
}

fn parse(text: &str) -> Result<Bench> {
    let bench: Bench = toml::from_str(text)?;
    let mut names = HashSet::new();
    for device in &bench.devices {
        let name = &device.name;
        ensure!(names.insert(name), "two devices are named {name}");
        let within = || format!("device {name}");
        serial::rate(device.baud).with_context(within)?;
        cross::target::find(&device.target).with_context(within)?;
        let Power { on, off } = &device.power;
        let link = device.link.iter().flat_map(|link| [&link.up, &link.down]);
        for command in [on, off].into_iter().chain(link) {
            ensure!(!command.is_empty(), "device {name}: a command has no words");
        }
    }
    Ok(bench)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [[device]]
        name = "router-1"
        target = "mipsel"
        serial = "/dev/ttyUSB0"
        host = "192.0.2.10"
        [device.power]
        on = ["relay", "1", "on"]
        off = ["relay", "1", "off"]
        [[device]]
        name = "gateway-1"
        target = "armv7"
        serial = "/dev/ttyUSB1"
        baud = 9600
        host = "192.0.2.10"
        [device.power]
        on = ["true"]
        off = ["true"]
        [device.link]
        up = ["true"]
        down = ["true"]
    "#;

    fn complaint(text: &str) -> String {
        format!("{:#}", parse(text).unwrap_err())
    }

    #[test]
    fn a_bench_is_read() {
        let bench = parse(GOOD).unwrap();
        assert_eq!(bench.devices.len(), 2);
        assert_eq!(bench.devices[0].baud, 115_200);
        assert_eq!(bench.devices[0].power.off, ["relay", "1", "off"]);
        assert!(bench.devices[0].link.is_none());
        assert_eq!(bench.devices[1].baud, 9600);
    }

    #[test]
    fn what_is_wrong_on_it_is_named() {
        for (from, to, said) in [
            ("gateway-1", "router-1", "two devices are named router-1"),
            ("9600", "9601", "device gateway-1: 9601 is no speed"),
            ("armv7", "z80", "there is no target z80"),
            (
                "[\"relay\", \"1\", \"off\"]",
                "[]",
                "a command has no words",
            ),
            ("baud", "speed", "unknown field `speed`"),
            ("host = \"192.0.2.10\"", "", "missing field `host`"),
        ] {
            let text = complaint(&GOOD.replacen(from, to, 1));
            assert!(text.contains(said), "{text}");
        }
    }

    #[test]
    fn a_bench_that_cannot_be_read_is_named() {
        let error = read(Path::new("/nonexistent/bench.toml")).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/bench.toml"));
    }
}
