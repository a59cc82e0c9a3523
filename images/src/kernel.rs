//! Kernels: Debian's, or built once from its source.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cross::target::board::{Board, DebianKernel, Kernel};

use crate::command::{output, run};
use crate::{apt, built};

/// A kernel that is there.
#[derive(Debug)]
pub struct Found {
    /// What boots.
    pub image: PathBuf,
    /// Its device tree, if it does not come from the machine.
    pub dtb: Option<PathBuf>,
    /// Its drivers, if they are modules.
    pub modules: Option<Modules>,
}

/// Drivers, each before those that need it.
#[derive(Debug, Default)]
pub struct Modules {
    /// Loaded before the root is mounted.
    pub early: Vec<Module>,
    /// Loaded from the root.
    pub late: Vec<Module>,
}

/// A module of the kernel.
#[derive(Debug)]
pub struct Module {
    /// Its file's name.
    pub name: String,
    /// What is loaded.
    pub bytes: Vec<u8>,
}

/// The kernel of a board.
///
/// # Errors
/// If it cannot be had, or lacks a module.
pub fn of(board: &Board) -> Result<Found> {
    match &board.kernel {
        Kernel::Debian(kernel) => debian(kernel),
        Kernel::Built(kernel) => built::kernel(kernel),
    }
}

fn debian(kernel: &DebianKernel) -> Result<Found> {
    let unpacked = apt::named_by(&kernel.suite, &kernel.architecture, &kernel.package)?;
    let image = named(&unpacked.join("boot"), "vmlinu")?;
    // Before and after /lib became a part of /usr.
    let base = [unpacked.join("usr"), unpacked]
        .into_iter()
        .find(|base| base.join("lib/modules").is_dir())
        .with_context(|| format!("{} has no modules", kernel.package))?;
    let early = modules(&base, &kernel.early)?;
    let mut late = modules(&base, &kernel.late)?;
    late.retain(|module| early.iter().all(|other| other.name != module.name));
    Ok(Found {
        image,
        dtb: None,
        modules: Some(Modules { early, late }),
    })
}

fn modules(base: &Path, wanted: &[String]) -> Result<Vec<Module>> {
    let release = named(&base.join("lib/modules"), "")?;
    let release = release.file_name().context("a release has a name")?;
    if !base
        .join("lib/modules")
        .join(release)
        .join("modules.dep.bin")
        .exists()
    {
        run(Command::new("depmod")
            .arg("--basedir")
            .arg(base)
            .arg(release)
            .env("PATH", path()))?;
    }
    let shown = output(
        Command::new("modprobe")
            .args(["--show-depends", "--ignore-install", "--dirname"])
            .arg(base)
            .arg("--set-version")
            .arg(release)
            .arg("--all")
            .args(wanted)
            .env("PATH", path()),
    )
    .context("a kernel without one of the modules its board needs")?;
    let mut modules: Vec<Module> = Vec::new();
    for file in files(&shown) {
        let module = read(Path::new(file))?;
        if modules.iter().all(|other| other.name != module.name) {
            modules.push(module);
        }
    }
    Ok(modules)
}

/// The modules' files, as `modprobe --show-depends` names them; others are part of the kernel.
fn files(shown: &str) -> impl Iterator<Item = &str> {
    let files = shown
        .lines()
        .filter_map(|line| line.strip_prefix("insmod "));
    files.filter_map(|rest| rest.split_whitespace().next())
}

fn read(file: &Path) -> Result<Module> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let Some(plain) = name.strip_suffix(".xz") else {
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        let name = name.into_owned();
        return Ok(Module { name, bytes });
    };
    let unpacked = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(file)
        .output()?;
    if !unpacked.status.success() {
        bail!(
            "{}: {}",
            file.display(),
            String::from_utf8_lossy(&unpacked.stderr)
        );
    }
    Ok(Module {
        name: plain.into(),
        bytes: unpacked.stdout,
    })
}

/// Not everybody has the system's own programs in `PATH`.
pub(crate) fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

/// The first entry of a folder whose name starts so.
fn named(folder: &Path, start: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut names: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(start))
        })
        .collect();
    names.sort();
    let nothing = || format!("{} has no {start}", folder.display());
    names.into_iter().next().with_context(nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_in_the_order_they_are_loaded_in() {
        let shown = "insmod /x/lib/crc16.ko \nbuiltin virtio\ninsmod /x/fs/ext4.ko.xz opt=1\n";
        let files: Vec<_> = files(shown).collect();
        assert_eq!(files, ["/x/lib/crc16.ko", "/x/fs/ext4.ko.xz"]);
    }
}
