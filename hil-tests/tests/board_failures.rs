//! What somebody is told whose board does not start, and what is left of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::time::Duration;

use cross::target::{self, Target};
use hil_tests::device::emulated::Emulated;
use hil_tests::device::{BOOT_LIMIT, Device, boot, wait_ready};

fn board(words: &[&str]) -> Target {
    let mut target = target::find("aarch64").unwrap();
    let words = words.iter().map(|word| (*word).to_owned());
    target.board.as_mut().unwrap().kernel_args.extend(words);
    target
}

fn emulated(target: &Target, dir: &Path) -> Emulated {
    let agent = cross::agent::built(target).unwrap();
    Emulated::new(target, &agent, dir).unwrap()
}

fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_board_that_never_gets_ready_is_told_with_the_end_of_its_log_and_leaves_nothing_running() {
    let dir = tempfile::tempdir().unwrap();
    // A shell instead of an init: it waits for ever, and says so.
    let mut device = emulated(&board(&["rdinit=/bin/sh"]), dir.path());
    device.power_on().unwrap();
    device.console().unwrap().expect("# ", BOOT_LIMIT).unwrap();
    device
        .console()
        .unwrap()
        .send("echo stuck in the $((40 + 2))nd place\n")
        .unwrap();
    device
        .console()
        .unwrap()
        .expect("42nd", BOOT_LIMIT)
        .unwrap();
    let pid = device.pid().unwrap();
    let error = wait_ready(&mut device, Duration::from_secs(1)).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("aarch64 does not start"), "{text}");
    assert!(text.contains("stuck in the 42nd place"), "{text}");
    assert!(is_running(pid));
    drop(device);
    assert!(!is_running(pid));
}

#[test]
fn a_kernel_that_gives_up_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut device = emulated(
        &board(&["rdinit=/nonexistent", "root=/dev/none"]),
        dir.path(),
    );
    let text = format!("{:#}", boot(&mut device).unwrap_err());
    assert!(text.contains("the kernel has given up"), "{text}");
    assert!(text.contains("Kernel panic"), "{text}");
}

#[test]
fn an_emulator_that_is_missing_is_named_with_its_package() {
    let dir = tempfile::tempdir().unwrap();
    let mut target = board(&[]);
    target.board.as_mut().unwrap().qemu.program = "qemu-system-z80".into();
    let agent = dir.path().join("agent");
    let error = Emulated::new(&target, &agent, dir.path()).err().unwrap();
    let text = format!("{error:#}");
    assert!(
        text.contains("qemu-system-z80 is missing (package qemu-system-arm)"),
        "{text}"
    );
}

#[test]
fn an_emulator_that_does_not_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let mut target = board(&[]);
    target.board.as_mut().unwrap().nic = "no-such-card".into();
    let mut device = emulated(&target, dir.path());
    let text = format!("{:#}", device.power_on().unwrap_err());
    assert!(text.contains("no-such-card"), "{text}");
    assert!(device.pid().is_none());
    assert!(device.console().is_err());
}
