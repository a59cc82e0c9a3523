//! Links that lose packets.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what it measures"
)]

use std::time::{Duration, Instant};

use hil_tests::net::emulator::Shape;
use hil_tests::scene;

const ROUND_TRIP: Duration = Duration::from_millis(200);

#[test]
fn two_percent_and_200_ms_are_an_ordinary_day() {
    let scene = scene!();
    scene.links.shape(Shape::lossy(ROUND_TRIP, 0.02));
    let start = Instant::now();
    let done = scene.ssh("echo out; echo err >&2; exit 3").unwrap();
    println!("a command took {:?}", start.elapsed());
    let said = (done.code(), done.stdout.as_str(), done.stderr.as_str());
    assert_eq!(said, (3, "out\n", "err\n"));

    let bytes: String = (0..40_000).map(|number| format!("{number:06}\n")).collect();
    let start = Instant::now();
    let back = scene.ssh_with("cat", bytes.as_bytes()).unwrap();
    println!("280 kB there and back took {:?}", start.elapsed());
    assert!(back.ok().unwrap() == bytes, "what came back is different");

    let start = Instant::now();
    let terminal = scene.shell().unwrap();
    println!("a shell took {:?}", start.elapsed());
    terminal.resize(90, 20).unwrap();
    let start = Instant::now();
    for number in 0..10 {
        // The sum is only seen when it has been to the device.
        let sum = number + 1000;
        terminal
            .enter(&format!("echo sum=$(({number} + 1000))"))
            .unwrap();
        terminal.wait_for(&format!("sum={sum}")).unwrap();
    }
    println!("ten lines took {:?}", start.elapsed());
    terminal.enter("exit 5").unwrap();
    terminal.wait_for("ended with 5").unwrap();
    let lost = scene.wlan().counters();
    assert!(
        lost.up.lost.packets + lost.down.lost.packets > 0,
        "{lost:?}"
    );
}

#[test]
fn a_command_comes_through_at_thirty_percent() {
    let scene = scene!();
    scene.links.shape(Shape::lossy(ROUND_TRIP, 0.3));
    println!("a command came through after {:?}", scene.reach().unwrap());
    let lost = scene.wlan().counters();
    assert!(
        lost.up.lost.packets + lost.down.lost.packets > 0,
        "{lost:?}"
    );
}
