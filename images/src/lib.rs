//! What gets flashed: a device's read-only root, its data partition, and an initramfs where the
//! kernel has its drivers as modules.
//!
//! A root holds the agent, busybox and a few scripts (`images/files/`), nothing else: no bash, no
//! name service switch, no users but root, no login. busybox's init runs the agent, keeps an
//! address on the first network card, and offers a root shell on the serial console. The agent
//! reads `/etc/tether/agent.toml` and writes to `/var/lib/tether-agent`, as everywhere; both lie on
//! the data partition, the only one that can be written.
//!
//! Images are made without root, loop devices or mounts, and the same input gives the same bytes.
//!
//! | module | holds |
//! | --- | --- |
//! | [`apt`] | Debian's packages of other architectures |
//! | [`kernel`], [`busybox`] | what an image needs beside the agent |
//! | [`emulators`] | installing QEMU |
//! | [`tree`] | files of an image, as an archive or a file system |
//! | [`disk`] | the data partition |
//! | [`root`] | what is on a device |

pub mod apt;
mod built;
pub mod busybox;
mod command;
mod cpio;
pub mod disk;
pub mod emulators;
pub mod kernel;
pub mod root;
pub mod tree;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cross::target::Target;

/// A program or file, the apt package that has it, and why it is needed.
pub const TOOLS: &[(&str, &str, &str)] = &[
    ("mksquashfs", "squashfs-tools", "roots are read-only"),
    ("mke2fs", "e2fsprogs", "data partitions are ext4"),
    (
        "depmod",
        "kmod",
        "the initramfs loads modules with their dependencies",
    ),
    (
        "xz",
        "xz-utils",
        "some kernels have their modules compressed",
    ),
];

/// The time that every file of an image has: images do not depend on when they were made.
const EPOCH: &str = "1700000000";

/// What a board boots.
#[derive(Debug, Clone)]
pub struct Rootfs {
    /// The kernel.
    pub kernel: PathBuf,
    /// Its device tree, if it does not come from the machine.
    pub dtb: Option<PathBuf>,
    /// Loads the kernel's modules, if it has any.
    pub initramfs: Option<PathBuf>,
    /// The root: squashfs.
    pub root: PathBuf,
    /// A new data partition: ext4, empty.
    pub data: PathBuf,
}

/// Makes the images of a target with this agent in the folder `out`.
///
/// # Errors
/// If the target has no board; a tool is missing; or a package cannot be had.
pub fn rootfs(target: &Target, agent: &Path, out: &Path) -> Result<Rootfs> {
    let name = &target.name;
    let board = target
        .board
        .as_ref()
        .with_context(|| format!("{name} has no [board] to make an image for"))?;
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let kernel = kernel::of(board)?;
    let busybox = busybox::of(board)?;
    let agent = std::fs::read(agent).with_context(|| agent.display().to_string())?;
    let made = Rootfs {
        kernel: out.join("kernel"),
        dtb: kernel.dtb.as_ref().map(|_| out.join("board.dtb")),
        initramfs: kernel
            .modules
            .as_ref()
            .map(|_| out.join("initramfs.cpio.gz")),
        root: out.join("root.squashfs"),
        data: out.join("data.ext4"),
    };
    copy(&kernel.image, &made.kernel)?;
    if let (Some(from), Some(to)) = (&kernel.dtb, &made.dtb) {
        copy(from, to)?;
    }
    if let (Some(modules), Some(to)) = (&kernel.modules, &made.initramfs) {
        root::initramfs(&modules.early, &busybox).archive(to)?;
    }
    let late = kernel
        .modules
        .map(|modules| modules.late)
        .unwrap_or_default();
    root::tree(name, board, &agent, &busybox, &late).squashfs(&made.root)?;
    disk::data(&made.data, &[])?;
    Ok(made)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(())
}
