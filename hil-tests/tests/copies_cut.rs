//! Files that are copied by the real `scp` while the links of both ends are cut and move.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what it measures"
)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hil_tests::apart;
use hil_tests::apart::{ATTACHED, Apart, ENDED, STARTED, cut_for};
use hil_tests::cluster::me;
use hil_tests::exchange::{LIMIT, pattern};
use hil_tests::net::emulator::{Interface, Protocol, Rule};
use hil_tests::process::poll;
use hil_tests::scene::NODE;

/// What is copied, in bytes.
const SIZE: u32 = 100 << 20;
/// How often a copy is cut.
const CUTS: usize = 50;
/// How long a cut lasts, in milliseconds.
const CUT: std::ops::Range<u64> = 20..500;

/// Cuts links whenever the file has grown to a random size; tells how often. In the middle, the
/// person's network stops passing UDP: from then on each move breaks a connection for good.
fn cut_at_random(apart: &Apart, seed: u64, file: &Path, over: &AtomicBool) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut marks: Vec<_> = (0..CUTS).map(|_| random.u32(..SIZE / 10 * 9)).collect();
    marks.sort_unstable();
    let length = || std::fs::metadata(file).map_or(0, |file| file.len());
    let is_over = || over.load(Ordering::Relaxed);
    let (near, far) = (&*apart.near, &*apart.far);
    for (count, mark) in marks.into_iter().enumerate() {
        let there = || (is_over() || length() >= u64::from(mark)).then_some(());
        assert!(poll(LIMIT, there).is_some(), "{} of {mark} bytes", length());
        if is_over() {
            return count;
        }
        if count == CUTS / 2 {
            near.block(Rule::protocol(Protocol::Udp));
        }
        let time = Duration::from_millis(random.u64(CUT));
        match count % 4 {
            0 => cut_for(&[near], time),
            1 => cut_for(&[far], time),
            2 => cut_for(&[near, far], time),
            _ => {
                near.cut();
                near.link(Interface::Wlan).roam().unwrap();
                cut_for(&[near], time);
            }
        }
    }
    CUTS
}

fn is_copied_whole(to_the_node: bool, seed: u64) {
    let apart = apart!("", "keepalive = \"lan\"\n");
    let bytes = pattern(SIZE);
    let path = |name: &str| apart.dir().join(name);
    std::fs::write(path("file"), &bytes).unwrap();
    let local = |name: &str| path(name).display().to_string();
    let remote = |name: &str| format!("{}@{NODE}.lab:{}", me(), local(name));
    let (from, to) = if to_the_node {
        (local("file"), remote("copy"))
    } else {
        (remote("file"), local("copy"))
    };
    let mut scp = apart.operator.program(Path::new("scp"));
    // Nodes offer no sftp, which scp uses by itself.
    scp.args(["-O", "-o", "BatchMode=yes", "-F"]);
    scp.arg(apart.operator.ssh_config().unwrap());
    let start = Instant::now();
    let mut scp = scp.args([from, to]).spawn().unwrap();
    let over = AtomicBool::new(false);
    let (status, cuts) = thread::scope(|scope| {
        let cutting = scope.spawn(|| cut_at_random(&apart, seed, &path("copy"), &over));
        let status = poll(LIMIT * 2, || scp.try_wait().unwrap());
        over.store(true, Ordering::Relaxed);
        (status, cutting.join().unwrap())
    });
    scp.kill().ok();
    let took = start.elapsed();
    apart.wait_for(ENDED, 1).unwrap();
    let attached = apart.sessions(ATTACHED).unwrap();
    println!(
        "seed {seed}: {SIZE} bytes, {cuts} cuts of {CUT:?} ms, {} times attached again, {took:?}",
        attached.len()
    );
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    assert_eq!(cuts, CUTS, "the copy was over before");
    let copy = std::fs::read(path("copy")).unwrap();
    assert!(copy == bytes, "{} other bytes have arrived", copy.len());
    // Some of it was under way when its connection broke.
    assert!(attached.len() >= CUTS / 10, "{attached:?}");
    let started = apart.sessions(STARTED).unwrap();
    assert_eq!(started.len(), 1, "one session");
    assert!(attached.iter().all(|sid| started.contains(sid)));
}

#[test]
fn a_file_goes_whole_to_a_node_by_scp_over_many_cuts() {
    is_copied_whole(true, 1);
}

#[test]
fn a_file_comes_whole_from_a_node_by_scp_over_many_cuts() {
    is_copied_whole(false, 2);
}
