//! The kernel's initramfs format: cpio, "newc" (Linux, `Documentation/driver-api/early-userspace/
//! buffer-format.rst`). Numbers count from one and times are fixed, so that the same files give the
//! same bytes.

use anyhow::{Context, Result};

use crate::EPOCH;
use crate::tree::{Node, Tree};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const DEVICE: u32 = 0o020_000;
/// Ends an archive.
const TRAILER: &str = "TRAILER!!!";

pub(crate) fn archive(tree: &Tree) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    let time = EPOCH.parse()?;
    for (number, (path, node)) in (1..).zip(tree.nodes()) {
        let (mode, device, bytes): (_, _, &[u8]) = match node {
            Node::Folder { mode } => (FOLDER | mode, (0, 0), &[]),
            Node::File { mode, bytes } => (FILE | mode, (0, 0), bytes),
            Node::Link { to } => (LINK | 0o777, (0, 0), to.as_bytes()),
            Node::Device { mode, major, minor } => (DEVICE | mode, (*major, *minor), &[]),
        };
        entry(&mut archive, number, path, mode, time, device, bytes)?;
    }
    entry(&mut archive, 0, TRAILER, 0, 0, (0, 0), &[])?;
    Ok(archive)
}

fn entry(
    archive: &mut Vec<u8>,
    number: u32,
    path: &str,
    mode: u32,
    time: u32,
    (major, minor): (u32, u32),
    bytes: &[u8],
) -> Result<()> {
    let size = u32::try_from(bytes.len()).context("too large for a cpio archive")?;
    let length = u32::try_from(path.len() + 1)?;
    let (owner, group, links, check) = (0, 0, 1, 0);
    archive.extend_from_slice(b"070701");
    for field in [
        number, mode, owner, group, links, time, size, 0, 0, major, minor, length, check,
    ] {
        archive.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    archive.extend_from_slice(path.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(bytes);
    pad(archive);
    Ok(())
}

/// Names and contents start at multiples of four.
fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_the_format_says() {
        let tree = Tree::default().file("a/b", 0o644, *b"hello");
        let archive = archive(&tree).unwrap();
        assert_eq!(archive.len() % 4, 0);
        let text = String::from_utf8_lossy(&archive);
        let folder = "07070100000001000041ED00000000000000000000000165";
        assert!(text.starts_with(folder), "{text}");
        assert!(text.contains("07070100000002000081A4"), "{text}");
        assert!(text.contains("a/b\0\0\0hello\0\0\x00070701"), "{text}");
        assert!(text.contains("TRAILER!!!\0"), "{text}");
    }
}
