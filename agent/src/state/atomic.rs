//! Replaces a file so that a power cut leaves the old one or the new one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A file system that has this much room has it for the state file, too.
const PROBE: [u8; 4096] = [0; 4096];

/// Writes `folder/name`.
pub(super) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = folder.join(format!(".{name}.new"));
    let done = write(&new, bytes).and_then(|()| std::fs::rename(&new, folder.join(name)));
    if done.is_err() {
        let _ = std::fs::remove_file(&new);
        return done;
    }
    // The rename is an entry in the folder, and that is what must reach the disk.
    File::open(folder)?.sync_all()
}

/// Whether [`replace`] would work now.
pub(super) fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(".probe.new");
    let done = write(&path, &PROBE);
    let _ = std::fs::remove_file(&path);
    done
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // One left behind by a power cut must not decide the new one's permissions.
    let _ = std::fs::remove_file(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        replace(folder.path(), "f", b"old").unwrap();
        // A folder in the new file's place makes the write fail.
        let blocker = folder.path().join(".f.new");
        std::fs::create_dir(&blocker).unwrap();
        assert!(replace(folder.path(), "f", b"new").is_err());
        assert_eq!(std::fs::read(folder.path().join("f")).unwrap(), b"old");
        std::fs::remove_dir(&blocker).unwrap();
        replace(folder.path(), "f", b"new").unwrap();
        assert_eq!(std::fs::read(folder.path().join("f")).unwrap(), b"new");
    }

    #[test]
    fn a_new_file_left_by_a_power_cut_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".f.new"), b"half").unwrap();
        replace(folder.path(), "f", b"whole").unwrap();
        assert_eq!(std::fs::read(folder.path().join("f")).unwrap(), b"whole");
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1);
    }

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        probe(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(probe(&folder.path().join("missing")).is_err());
    }
}
