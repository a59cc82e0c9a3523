//! Serial ports: raw, eight bits, no parity.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use nix::sys::termios::{BaudRate, SetArg, cfmakeraw, cfsetspeed, tcgetattr, tcsetattr};

/// Opens a port at a speed in bits per second.
///
/// # Errors
/// If it cannot be opened, is no serial port, or has no such speed.
pub fn open(path: &Path, baud: u32) -> Result<OwnedFd> {
    let shown = path.display();
    let port = File::options()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NOCTTY.bits())
        .open(path)
        .with_context(|| format!("the serial port {shown}"))?;
    let mut settings = tcgetattr(&port).with_context(|| format!("{shown} is not a serial port"))?;
    cfmakeraw(&mut settings);
    cfsetspeed(&mut settings, rate(baud)?)?;
    tcsetattr(&port, SetArg::TCSANOW, &settings).with_context(|| shown.to_string())?;
    Ok(port.into())
}

/// A speed that boards are known to use.
///
/// # Errors
/// If it is another.
pub fn rate(baud: u32) -> Result<BaudRate> {
    Ok(match baud {
        9600 => BaudRate::B9600,
        19_200 => BaudRate::B19200,
        38_400 => BaudRate::B38400,
        57_600 => BaudRate::B57600,
        115_200 => BaudRate::B115200,
        230_400 => BaudRate::B230400,
        460_800 => BaudRate::B460800,
        921_600 => BaudRate::B921600,
        1_500_000 => BaudRate::B1500000,
        _ => bail!("{baud} is no speed that a serial port is known to have, such as 115200"),
    })
}
