//! The same input gives the same bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use cross::target;

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn two_builds_of_a_boards_images_are_byte_identical() {
    let boards = target::all().unwrap().into_iter();
    let always = |target: &target::Target| target.board.as_ref().is_some_and(|board| board.always);
    for target in boards.filter(always) {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        std::fs::write(&agent, b"stands for the agent").unwrap();
        let first = images::rootfs(&target, &agent, &dir.path().join("first")).unwrap();
        let again = images::rootfs(&target, &agent, &dir.path().join("again")).unwrap();
        for (first, again) in [
            (Some(first.kernel), Some(again.kernel)),
            (first.initramfs, again.initramfs),
            (Some(first.root), Some(again.root)),
            (Some(first.data), Some(again.data)),
        ] {
            let same = first.as_deref().map(bytes) == again.as_deref().map(bytes);
            assert!(
                same,
                "{} differs for {}",
                first.unwrap().display(),
                target.name
            );
        }
    }
}
