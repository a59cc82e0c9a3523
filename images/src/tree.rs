//! The files of an image.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::EPOCH;
use crate::command::run;
use crate::kernel::path;

/// Compressed roots are read in blocks of this size: larger ones are smaller on flash, but a
/// device with little memory has to unpack a whole one to read a byte.
const BLOCK: &str = "131072";

/// Files by their path without the leading `/`, so in an order that is always the same. All belong
/// to root.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<String, Node>);

/// What is at a path.
#[derive(Debug)]
pub(crate) enum Node {
    Folder {
        mode: u32,
    },
    File {
        mode: u32,
        bytes: Vec<u8>,
    },
    Link {
        to: String,
    },
    /// A character device.
    Device {
        mode: u32,
        major: u32,
        minor: u32,
    },
}

impl Tree {
    /// Adds a folder.
    #[must_use]
    pub fn folder(self, path: &str, mode: u32) -> Self {
        self.node(path, Node::Folder { mode })
    }

    /// Adds a file.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        self.node(path, Node::File { mode, bytes })
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(self, path: &str, to: &str) -> Self {
        self.node(path, Node::Link { to: to.into() })
    }

    /// Adds a character device.
    #[must_use]
    pub fn device(self, path: &str, mode: u32, major: u32, minor: u32) -> Self {
        self.node(path, Node::Device { mode, major, minor })
    }

    fn node(mut self, path: &str, node: Node) -> Self {
        // Whoever names a file gets the folders above it.
        for (at, _) in path.match_indices('/') {
            let above = path.get(..at).unwrap_or_default();
            let folder = || Node::Folder { mode: 0o755 };
            self.0.entry(above.into()).or_insert_with(folder);
        }
        self.0.insert(path.into(), node);
        self
    }

    /// The paths.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Writes an initramfs: cpio, compressed.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn archive(&self, to: &Path) -> Result<()> {
        let mut gzip = Command::new("gzip")
            .args(["-9", "--no-name"])
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(to).with_context(|| to.display().to_string())?)
            .spawn()
            .context("gzip")?;
        let mut pipe = gzip.stdin.take().context("gzip has an input")?;
        let written = pipe.write_all(&crate::cpio::archive(self)?);
        drop(pipe);
        ensure!(gzip.wait()?.success(), "gzip failed");
        Ok(written?)
    }

    /// Writes a read-only file system.
    ///
    /// # Errors
    /// If `mksquashfs` fails.
    pub fn squashfs(&self, to: &Path) -> Result<()> {
        let stage = tempfile::tempdir()?;
        let mut command = Command::new("mksquashfs");
        command.arg(stage.path()).arg(to);
        command
            .args([
                "-quiet",
                "-no-progress",
                "-noappend",
                "-no-xattrs",
                "-all-root",
            ])
            .args([
                "-comp",
                "xz",
                "-b",
                BLOCK,
                "-all-time",
                EPOCH,
                "-mkfs-time",
                EPOCH,
            ])
            .args(["-root-mode", "755"])
            .env_remove("SOURCE_DATE_EPOCH")
            .env("PATH", path());
        for (path, node) in self.nodes() {
            if let Node::Device { mode, major, minor } = node {
                command.args(["-p", &format!("{path} c {mode:o} 0 0 {major} {minor}")]);
            } else {
                place(&stage.path().join(path), node)?;
            }
        }
        run(&mut command)
    }
}

fn place(at: &Path, node: &Node) -> Result<()> {
    let mode = match node {
        Node::Folder { mode } => {
            std::fs::create_dir(at)?;
            *mode
        }
        Node::File { mode, bytes } => {
            std::fs::write(at, bytes)?;
            *mode
        }
        Node::Link { to } => return Ok(symlink(to, at)?),
        Node::Device { .. } => return Ok(()),
    };
    Ok(std::fs::set_permissions(
        at,
        PermissionsExt::from_mode(mode),
    )?)
}
