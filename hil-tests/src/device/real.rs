//! A board on a bench: a serial line, a power relay, a switch port.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cross::target::Target;

use super::bench::Wiring;
use super::console::Console;
use super::{BOOT_LIMIT, Device, Link, Storage, serial, wait_ready};
use crate::process::run;

/// Its capacitors are empty after this long without power.
const DISCHARGE: Duration = Duration::from_secs(3);
/// A write to flash takes about this long, as far as anybody can tell from outside.
const MOMENT: Duration = Duration::from_millis(10);
/// A serial line has no flow control: what is typed comes in pieces that a slow shell can take.
const PIECE: usize = 512;

/// A real board.
pub struct Real {
    wiring: Wiring,
    target: Target,
    log: PathBuf,
    console: Option<Console>,
    /// Commands for the next start, before anything else.
    first: Vec<String>,
}

impl Real {
    /// The board that is wired so, without power. Its log is in the folder `dir`.
    ///
    /// # Errors
    /// If its relay does not work.
    pub fn new(wiring: &Wiring, dir: &Path) -> Result<Self> {
        let real = Self {
            wiring: wiring.clone(),
            target: cross::target::find(&wiring.target)?,
            log: dir.join("serial.log"),
            console: None,
            first: Vec::new(),
        };
        real.command(&wiring.power.off)?;
        Ok(real)
    }

    fn command(&self, words: &[String]) -> Result<()> {
        let within = || {
            format!(
                "on the bench, for {}: {}",
                self.wiring.name,
                words.join(" ")
            )
        };
        let (program, args) = words.split_first().with_context(within)?;
        run(Command::new(program).args(args), b"")
            .and_then(|done| done.ok())
            .with_context(within)?;
        Ok(())
    }

    fn switch_on(&mut self) -> Result<()> {
        // Listening before the power comes: the first line counts.
        let port = serial::open(&self.wiring.serial, self.wiring.baud)?;
        self.console = Some(Console::new(port, &self.log)?);
        self.command(&self.wiring.power.on)
    }
}

impl Device for Real {
    fn name(&self) -> &str {
        &self.wiring.name
    }

    fn target(&self) -> &Target {
        &self.target
    }

    fn host(&self) -> &str {
        &self.wiring.host
    }

    fn install(&mut self, files: &[(&str, &str)]) -> Result<()> {
        self.switch_on()?;
        wait_ready(self, BOOT_LIMIT)?;
        let console = self.console()?;
        let wipe =
            "touch /run/hold; killall tether-agent; rm -rf /data/tether-agent/* /data/config/*";
        console.run(wipe)?;
        for (name, text) in files {
            let path = format!("/data/{name}");
            let folder = Path::new(&path)
                .parent()
                .unwrap_or(Path::new("/data"))
                .display();
            console
                .run(&format!("umask 077; mkdir -p {folder}; : > {path}"))?
                .ok()?;
            for piece in pieces(text) {
                console
                    .run(&format!("printf '%s' {} >> {path}", quoted(piece)))?
                    .ok()?;
            }
        }
        console.run("sync")?.ok()?;
        self.cut_power()
    }

    fn power_on(&mut self) -> Result<()> {
        self.switch_on()?;
        let first = std::mem::take(&mut self.first);
        if first.is_empty() {
            return Ok(());
        }
        wait_ready(self, BOOT_LIMIT)?;
        let console = self.console()?;
        for command in first {
            console.run(&command)?.ok()?;
        }
        // Its shell greets again, for whoever waits for that.
        console.send("exit\n")
    }

    fn cut_power(&mut self) -> Result<()> {
        self.console = None;
        self.command(&self.wiring.power.off)?;
        std::thread::sleep(DISCHARGE);
        Ok(())
    }

    fn cut_power_at_write(&mut self, n: u32) -> Result<Option<u32>> {
        std::thread::sleep(MOMENT * n);
        self.cut_power()?;
        Ok(None)
    }

    fn console(&mut self) -> Result<&mut Console> {
        let name = &self.wiring.name;
        self.console
            .as_mut()
            .with_context(|| format!("{name} has no power"))
    }

    fn set_link(&mut self, link: Link) -> Result<()> {
        let Some(cable) = &self.wiring.link else {
            bail!("the bench cannot pull the cable of {}", self.wiring.name)
        };
        self.command(match link {
            Link::Up => &cable.up,
            Link::Down => &cable.down,
        })
    }

    fn set_storage(&mut self, storage: Storage) -> Result<()> {
        let mode = match storage {
            Storage::Writable => "rw",
            Storage::ReadOnly => "ro",
        };
        self.first.push(format!(
            "killall tether-agent; mount -o remount,{mode} /data"
        ));
        Ok(())
    }

    fn set_clock(&mut self, seconds: u64) -> Result<()> {
        self.first
            .push(format!("date -s @{seconds}; killall tether-agent"));
        Ok(())
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        // A relay that has failed has said so before.
        self.command(&self.wiring.power.off).ok();
    }
}

/// In pieces, none of them cut within a character.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_typed_in_pieces() {
        let text = "ä".repeat(600);
        let pieces: Vec<_> = pieces(&text).collect();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces.concat(), text);
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
