//! The data partition: a small ext4 file system in a file.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::EPOCH;
use crate::command::run;
use crate::kernel::path;

/// As small as such partitions are on devices with little flash.
const SIZE: &str = "8m";
/// Fixed, as everything else in an image; a device does not mount it by name.
const UUID: &str = "7e7e7e7e-0000-4000-8000-000000000001";
/// What a Linux of the last ten years can mount, whatever the host's `mke2fs` likes best. Without
/// checksums: the superblock has its own in another sector than what changes with each mount, so
/// that a power cut between the two would leave a partition that cannot be mounted any more.
const FEATURES: &str = "none,has_journal,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super,\
                        large_file,huge_file,dir_nlink,extra_isize";

/// Writes a new data partition with these files, which only root may read.
///
/// # Errors
/// If `mke2fs` fails.
pub fn data(to: &Path, files: &[(&str, &str)]) -> Result<()> {
    let stage = tempfile::tempdir()?;
    let mut owners = String::new();
    for (name, text) in files {
        let at = stage.path().join(name);
        if let Some(parent) = at.parent() {
            let mut folders = std::fs::DirBuilder::new();
            folders.recursive(true).mode(0o700).create(parent)?;
        }
        std::fs::write(&at, text)?;
        std::fs::set_permissions(&at, PermissionsExt::from_mode(0o600))?;
        for part in Path::new(name)
            .ancestors()
            .filter(|part| !part.as_os_str().is_empty())
        {
            let part = part.display();
            owners += &format!("set_inode_field /{part} uid 0\nset_inode_field /{part} gid 0\n");
        }
    }
    if to.exists() {
        std::fs::remove_file(to)?;
    }
    let mut command = tool("mke2fs");
    command
        .args([
            "-q", "-F", "-t", "ext4", "-b", "1024", "-I", "256", "-m", "0", "-N", "256",
        ])
        .args(["-O", FEATURES, "-J", "size=1", "-L", "data", "-U", UUID])
        .arg("-E")
        .arg(format!(
            "hash_seed={UUID},root_owner=0:0,lazy_itable_init=0"
        ));
    if !files.is_empty() {
        command.arg("-d").arg(stage.path());
    }
    run(command.arg(to).arg(SIZE))?;
    if owners.is_empty() {
        return Ok(());
    }
    // `mke2fs -d` keeps the owner that the files had here.
    let script = stage.path().join("owners");
    std::fs::write(&script, owners)?;
    run(tool("debugfs").arg("-w").arg("-f").arg(script).arg(to)).context("owners")
}

fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("E2FSPROGS_FAKE_TIME", EPOCH)
        .env("SOURCE_DATE_EPOCH", EPOCH)
        // The host's taste does not matter.
        .env("MKE2FS_CONFIG", "/dev/null")
        .env("PATH", path());
    command
}
