//! Kernels and a busybox that Debian has only as source: built once, and kept for as long as their
//! settings stay the same.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cross::cache;
use cross::target::board::{BuiltBusybox, BuiltKernel};

use crate::command::run;
use crate::kernel::Found;
use crate::{EPOCH, apt};

/// The kernel, from its settings in `images/kernels/`.
pub(crate) fn kernel(from: &BuiltKernel) -> Result<Found> {
    let settings = format!("{}{}", settings("common")?, settings(&from.config)?);
    let place = Place::new(&format!("kernel-{}", from.config), &settings)?;
    let _lock = place.lock()?;
    let (image, dtb) = (place.dir.join("kernel"), place.dir.join("board.dtb"));
    if !place.is_current() {
        let work = place.start()?;
        let source = kernel_source(from, &work)?;
        build_kernel(from, &source, &place.settings(), &work.join("out"))?;
        std::fs::copy(work.join("out").join(&from.image), &image)?;
        if let Some(built) = &from.dtb {
            std::fs::copy(work.join("out").join(built), &dtb)?;
        }
        place.finish(&work)?;
    }
    Ok(Found {
        image,
        dtb: from.dtb.as_ref().map(|_| dtb),
        modules: None,
    })
}

fn settings(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("kernels/{name}.config"));
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn kernel_source(from: &BuiltKernel, work: &Path) -> Result<PathBuf> {
    let package = apt::package(&from.suite, "amd64", &from.source)?;
    let archive = package
        .join("usr/src")
        .join(format!("{}.tar.xz", from.source));
    run(Command::new("tar")
        .arg("-xf")
        .arg(archive)
        .arg("-C")
        .arg(work))?;
    Ok(work.join(&from.source))
}

fn build_kernel(from: &BuiltKernel, source: &Path, settings: &Path, out: &Path) -> Result<()> {
    std::fs::create_dir_all(out)?;
    let make = |goals: &[&str]| {
        let mut command = make(source);
        command
            .arg(format!("O={}", out.display()))
            .arg(format!("ARCH={}", from.architecture))
            .arg(format!("CROSS_COMPILE={}", from.compiler))
            .env("KBUILD_BUILD_USER", "tether")
            .env("KBUILD_BUILD_HOST", "tether")
            .env("KBUILD_BUILD_TIMESTAMP", "2023-11-14");
        run(command.args(goals))
    };
    make(&["tinyconfig"])?;
    run(Command::new(source.join("scripts/kconfig/merge_config.sh"))
        .args(["-m", "-O"])
        .arg(out)
        .arg(out.join(".config"))
        .arg(settings)
        .current_dir(source))?;
    make(&["olddefconfig"])?;
    let got = std::fs::read_to_string(out.join(".config"))?;
    let wanted = std::fs::read_to_string(settings)?;
    for line in wanted.lines().filter(|line| line.ends_with("=y")) {
        ensure!(
            got.lines().any(|other| other == line),
            "this kernel cannot have {line}"
        );
    }
    match &from.dtb {
        Some(_) => make(&[base(&from.image), "dtbs"]),
        None => make(&[base(&from.image)]),
    }
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// busybox, with Debian's settings for a static one.
pub(crate) fn busybox(from: &BuiltBusybox) -> Result<PathBuf> {
    let place = Place::new(&format!("busybox-{}", from.compiler), &from.suite)?;
    let _lock = place.lock()?;
    let program = place.dir.join("busybox");
    if !place.is_current() {
        let work = place.start()?;
        let source = work.join("source");
        let unpacked = apt::source(&from.suite, "busybox")?.join("source");
        run(Command::new("cp").arg("-r").arg(unpacked).arg(&source))?;
        std::fs::copy(
            source.join("debian/config/pkg/static"),
            source.join(".config"),
        )?;
        let make = |goals: &[&str]| {
            let mut command = make(&source);
            command
                .arg(format!("CROSS_COMPILE={}", from.compiler))
                .env("KCONFIG_NOTIMESTAMP", "1")
                .env("SOURCE_DATE_EPOCH", EPOCH);
            run(command.args(goals))
        };
        make(&["silentoldconfig"])?;
        make(&["busybox"])?;
        std::fs::copy(source.join("busybox"), &program)?;
        place.finish(&work)?;
    }
    Ok(program)
}

fn make(source: &Path) -> Command {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new("make");
    command
        .arg("-s")
        .arg(format!("-j{jobs}"))
        .arg("-C")
        .arg(source)
        .stdin(std::process::Stdio::null())
        .env("LC_ALL", "C");
    // cargo's jobs are not make's.
    for name in ["MAKEFLAGS", "MFLAGS", "CARGO_MAKEFLAGS"] {
        command.env_remove(name);
    }
    command
}

/// Where something is kept that was built.
struct Place {
    dir: PathBuf,
    wanted: String,
}

impl Place {
    fn new(name: &str, wanted: &str) -> Result<Self> {
        Ok(Self {
            dir: cache::dir(&format!("built/{name}"))?,
            wanted: wanted.into(),
        })
    }

    fn lock(&self) -> Result<File> {
        let lock = File::create(self.dir.join("lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    /// Whether what is there was built from the same settings.
    fn is_current(&self) -> bool {
        std::fs::read_to_string(self.dir.join("built-from")).is_ok_and(|text| text == self.wanted)
    }

    fn settings(&self) -> PathBuf {
        self.dir.join("settings")
    }

    /// An empty folder to work in.
    fn start(&self) -> Result<PathBuf> {
        let work = self.dir.join("work");
        if work.exists() {
            std::fs::remove_dir_all(&work)?;
        }
        std::fs::create_dir_all(&work)?;
        std::fs::write(self.settings(), &self.wanted)?;
        Ok(work)
    }

    /// What was needed on the way is large, and is not needed any more.
    fn finish(&self, work: &Path) -> Result<()> {
        std::fs::remove_dir_all(work)?;
        Ok(std::fs::write(self.dir.join("built-from"), &self.wanted)?)
    }
}
