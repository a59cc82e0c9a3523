//! Devices that scenarios run on: emulated boards, and real ones on a bench.
//!
//! | module | holds |
//! | --- | --- |
//! | [`console`] | what a serial console says, and typing into it |
//! | [`emulated`] | a board in QEMU |
//! | [`disk`] | its data partition, which forgets what was not flushed |
//! | [`bench`], [`real`] | a board on somebody's desk: serial line, power relay |
//! | [`serial`] | serial ports |
//!
//! A device is somebody's who cuts its power in the end: a device that goes away leaves nothing
//! running.

pub mod bench;
pub mod console;
pub mod disk;
pub mod emulated;
mod nbd;
mod qmp;
pub mod real;
pub mod serial;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cross::target::Target;

use console::Console;

/// Begins the line by which a device says that it is up and has a shell.
pub const READY: &str = "tether: ready: ";
/// A board must say so within this time after power on. The slowest takes 20 s on an idle machine.
pub const BOOT_LIMIT: Duration = Duration::from_secs(240);

/// Whether frames pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The cable is plugged in.
    Up,
    /// It is not.
    Down,
}

/// What the data partition allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// As usual.
    Writable,
    /// A worn-out flash.
    ReadOnly,
}

/// A device with power, a link and a serial console.
pub trait Device {
    /// Unique among those of a run.
    fn name(&self) -> &str;

    /// What it is.
    fn target(&self) -> &Target;

    /// The address by which it reaches this machine.
    fn host(&self) -> &str;

    /// Puts the data partition back to new, with these files in it; without power only.
    ///
    /// # Errors
    /// If that fails.
    fn install(&mut self, files: &[(&str, &str)]) -> Result<()>;

    /// Switches it on.
    ///
    /// # Errors
    /// If it does not come to life.
    fn power_on(&mut self) -> Result<()>;

    /// Switches it off, without a word of warning.
    ///
    /// # Errors
    /// If the switch does not work.
    fn cut_power(&mut self) -> Result<()>;

    /// Cuts its power during the `n`th write to the data partition from now. Where writes cannot be
    /// seen, it is cut after as many tens of milliseconds. Gives how many sectors were lost that had
    /// been written and not flushed, if that can be known.
    ///
    /// # Errors
    /// If there are fewer writes, or the switch does not work.
    fn cut_power_at_write(&mut self, n: u32) -> Result<Option<u32>>;

    /// Its serial console.
    ///
    /// # Errors
    /// If it has no power.
    fn console(&mut self) -> Result<&mut Console>;

    /// Pulls its network cable or plugs it in.
    ///
    /// # Errors
    /// If that cannot be done.
    fn set_link(&mut self, link: Link) -> Result<()>;

    /// What the data partition allows from the next start on.
    ///
    /// # Errors
    /// If that cannot be done.
    fn set_storage(&mut self, storage: Storage) -> Result<()>;

    /// Sets its clock, in seconds since the Unix epoch, from the next start on.
    ///
    /// # Errors
    /// If that cannot be done.
    fn set_clock(&mut self, seconds: u64) -> Result<()>;
}

/// Switches a device on, and waits until it has a shell; says how long that took.
///
/// # Errors
/// If it does not get that far, with the end of what its console said.
pub fn boot(device: &mut dyn Device) -> Result<Duration> {
    let started = Instant::now();
    device.power_on()?;
    wait_ready(device, BOOT_LIMIT)?;
    Ok(started.elapsed())
}

/// Waits until a device that starts has a shell.
///
/// # Errors
/// If it does not get that far, with the end of what its console said.
pub fn wait_ready(device: &mut dyn Device, limit: Duration) -> Result<()> {
    let name = device.name().to_owned();
    let console = device.console()?;
    let waited = console.expect(READY, limit);
    waited.with_context(|| format!("{name} does not start: it never said {READY:?}"))?;
    Ok(())
}
