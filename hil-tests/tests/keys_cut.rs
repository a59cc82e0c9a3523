//! Keys that are typed at a terminal while the links of both ends are cut, and addresses change.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what it measures"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hil_tests::apart;
use hil_tests::apart::{ATTACHED, Apart, cut_for};
use hil_tests::cluster::me;
use hil_tests::exchange::LIMIT;
use hil_tests::net::emulator::{Interface, Protocol, Rule};
use hil_tests::process::poll;
use hil_tests::scene::NODE;
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SEED: u64 = 7;
const KEYS: usize = 10_000;
/// Between two keys: a hundred a second, which nobody types, but holds down.
const PACE: Duration = Duration::from_millis(8);
const CUTS: usize = 100;
/// How long a cut lasts, in milliseconds.
const CUT: std::ops::Range<u64> = 20..300;
/// A fifth of them leaves the addresses as they are: the NAT only loses its mappings.
const MOVES: usize = 25;
/// What the far side says before it gives keys back.
const READY: &[u8] = b"here\n";

/// Output of the far side, without what tsh draws beside it: that is between ESC 7 and ESC 8.
#[derive(Default)]
struct Echo {
    bytes: Vec<u8>,
    /// When each came.
    at: Vec<Instant>,
    last: u8,
    drawn: bool,
}

impl Echo {
    fn feed(&mut self, byte: u8, now: Instant) {
        match (self.last, byte, self.drawn) {
            (0x1b, b'7', false) => {
                self.drawn = true;
                self.bytes.pop();
                self.at.pop();
            }
            (0x1b, b'8', true) => self.drawn = false,
            (_, _, true) => {}
            (_, _, false) => {
                self.bytes.push(byte);
                self.at.push(now);
            }
        }
        self.last = byte;
    }
}

/// A terminal, with tsh in front of an interactive program.
struct Typist {
    tsh: Child,
    keys: File,
    echo: Mutex<Echo>,
}

impl Typist {
    fn new(apart: &Apart) -> Self {
        let pty = openpty(None, None).unwrap();
        let (terminal, keys) = (File::from(pty.slave), File::from(pty.master));
        let far_side = "stty raw -echo; echo here; exec cat";
        let mut tsh = apart.operator.command().unwrap();
        tsh.args(["ssh", "-tt", &format!("{}@{NODE}", me()), far_side])
            .env("TERM", "xterm")
            .stdin(Stdio::from(terminal.try_clone().unwrap()))
            .stdout(Stdio::from(terminal));
        Self {
            tsh: tsh.spawn().unwrap(),
            keys,
            echo: Mutex::default(),
        }
    }

    fn echo(&self) -> std::sync::MutexGuard<'_, Echo> {
        self.echo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until tsh ends.
    fn read(&self) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = (&self.keys).read(&mut buffer) {
            let (mut echo, now) = (self.echo(), Instant::now());
            for byte in &buffer[..count] {
                echo.feed(*byte, now);
            }
        }
    }

    /// Types, and gives the time of each key.
    fn type_keys(&self, keys: &[u8], typed: &AtomicUsize) -> Vec<Instant> {
        let mut times = Vec::with_capacity(keys.len());
        for key in keys {
            (&self.keys).write_all(&[*key]).unwrap();
            times.push(Instant::now());
            typed.fetch_add(1, Ordering::Relaxed);
            thread::sleep(PACE);
        }
        times
    }

    fn wait_for(&self, count: usize) {
        let there = poll(LIMIT, || (self.echo().bytes.len() >= count).then_some(()));
        let echo = self.echo();
        assert!(there.is_some(), "{} of {count}", echo.bytes.len());
    }
}

/// Ends a program, and with it the reading of its terminal, whatever becomes of the test.
struct Killed(Pid);

impl Drop for Killed {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGKILL).ok();
    }
}

/// Cuts links and changes addresses at random keys. In the middle, the person's network stops
/// passing UDP: from then on each of the person's moves breaks a connection for good.
fn disturb(apart: &Apart, typed: &AtomicUsize) {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut places: Vec<_> = (0..CUTS + MOVES)
        .map(|n| (random.usize(..KEYS / 100 * 98), n))
        .collect();
    places.sort_unstable();
    let (near, far) = (&*apart.near, &*apart.far);
    let mut blocked = false;
    for (place, number) in places {
        let reached = || (typed.load(Ordering::Relaxed) >= place).then_some(());
        assert!(poll(LIMIT, reached).is_some(), "nobody types");
        if place > KEYS / 2 && !blocked {
            near.block(Rule::protocol(Protocol::Udp));
            blocked = true;
        }
        if number < MOVES {
            change_address(apart, number);
            continue;
        }
        let time = Duration::from_millis(random.u64(CUT));
        match number % 3 {
            0 => cut_for(&[near], time),
            1 => cut_for(&[far], time),
            _ => cut_for(&[near, far], time),
        }
    }
}

fn change_address(apart: &Apart, number: usize) {
    let near = apart.near.link(Interface::Wlan);
    let far = apart.far.link(Interface::Wlan);
    match number % 5 {
        0 => near.roam().unwrap(),
        1 => far.roam().unwrap(),
        2 => near.change_nat(),
        3 => far.change_nat(),
        _ => near.lose_mappings(),
    }
}

/// How long echoes took: half of them, 99 of 100, and the last.
fn lags(typed: &[Instant], echoed: &[Instant]) -> [Duration; 3] {
    let pairs = typed.iter().zip(echoed);
    let lags = pairs.map(|(typed, echoed)| echoed.saturating_duration_since(*typed));
    let mut lags: Vec<_> = lags.collect();
    lags.sort_unstable();
    [50, 99, 100].map(|share| lags[(lags.len() * share / 100).min(lags.len() - 1)])
}

#[test]
fn each_key_is_echoed_once_and_in_order_over_cuts_and_changes_of_address() {
    let apart = apart!("", "keepalive = \"lan\"\n");
    let mut random = fastrand::Rng::with_seed(SEED);
    let keys: Vec<u8> = (0..KEYS).map(|_| random.lowercase() as u8).collect();
    let mut typist = Typist::new(&apart);
    let (typed, start) = (AtomicUsize::new(0), Instant::now());
    let times = thread::scope(|scope| {
        let killed = Killed(Pid::from_raw(typist.tsh.id().try_into().unwrap()));
        let reading = scope.spawn(|| typist.read());
        typist.wait_for(READY.len());
        let disturbing = scope.spawn(|| disturb(&apart, &typed));
        let times = typist.type_keys(&keys, &typed);
        disturbing.join().unwrap();
        typist.wait_for(READY.len() + KEYS);
        drop(killed);
        reading.join().unwrap();
        times
    });
    typist.tsh.wait().unwrap();
    let echo = typist.echo();
    let echoed = echo.bytes.strip_prefix(READY).unwrap();
    let attached = apart.sessions(ATTACHED).unwrap().len();
    println!(
        "seed {SEED}: {KEYS} keys, {CUTS} cuts of {CUT:?} ms, {MOVES} changes of address, \
         {attached} times attached again, {:?}; half of the echoes, 99 of 100 and all within {:?}",
        start.elapsed(),
        lags(&times, &echo.at[READY.len()..])
    );
    let right = keys.iter().zip(echoed).take_while(|(a, b)| a == b).count();
    assert!(
        echoed == keys,
        "{right} keys are right, of {}",
        echoed.len()
    );
    assert!(attached >= 2, "nothing ever broke");
}
