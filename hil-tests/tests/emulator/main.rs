//! The link emulator: that links behave as told, seen with real sockets and `ping`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it measures"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hil_tests::cluster::READY;
use hil_tests::net::Nat;
use hil_tests::net::emulator::{
    Count, Direction, Emulator, Filter, Interface, Link, Protocol, Rule, Shape, Strays, Timeouts,
    World,
};
use hil_tests::process::{Daemon, poll, run};

const SEED: u64 = 7;
const MS: Duration = Duration::from_millis(1);
/// IP and UDP headers.
const HEADERS: u64 = 28;

/// An emulator, unless this machine does not allow it.
macro_rules! emulator {
    () => {
        emulator!(World::Here)
    };
    ($world:expr) => {{
        if !Emulator::available() {
            eprintln!("skipped: this machine does not let us emulate links");
            return;
        }
        Emulator::with_world(SEED, $world).unwrap()
    }};
}

mod device;
mod nat;
mod shape;
mod world;

#[test]
fn where_there_are_namespaces_and_tun_devices_there_are_links() {
    // Else everything that happens over them would pass unseen.
    if Nat::available() && Path::new("/dev/net/tun").exists() {
        Emulator::new(SEED).unwrap();
    }
}

/// A UDP socket on the device and one in the world.
struct Sockets {
    device: UdpSocket,
    world: UdpSocket,
}

impl Sockets {
    fn new(emulator: &Emulator) -> Self {
        let bind = |addr: &str| {
            let socket = UdpSocket::bind(addr).unwrap();
            socket.set_read_timeout(Some(READY)).unwrap();
            socket
        };
        let host = format!("{}:0", emulator.host_addr());
        let world = emulator.in_world(|| bind(&host)).unwrap();
        let device = emulator.on_device(|| bind("0.0.0.0:0")).unwrap();
        let sockets = Self { device, world };
        sockets.connect();
        sockets
    }

    /// Each connect looks up the route, and so the source address.
    fn connect(&self) {
        let world = self.world.local_addr().unwrap();
        self.device.connect(world).unwrap();
    }

    fn up(&self, payload: &[u8]) {
        self.device.send(payload).unwrap();
    }

    /// What arrives in the world next, and from where.
    fn arrived(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 2048];
        let (length, from) = self.world.recv_from(&mut buffer).unwrap();
        (buffer[..length].to_vec(), from)
    }

    /// There and back.
    fn passes(&self, word: &[u8]) -> SocketAddr {
        self.up(word);
        let (said, from) = self.arrived();
        assert_eq!(said, word);
        self.world.send_to(word, from).unwrap();
        assert_eq!(self.answer(), word);
        from
    }

    /// What arrives at the device next.
    fn answer(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let length = self.device.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    fn port(&self) -> u16 {
        self.world.local_addr().unwrap().port()
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    assert!(poll(READY, || holds().then_some(())).is_some(), "{what}");
}

/// Sends numbered packets no faster than they are taken in.
fn send_numbered(sockets: &Sockets, link: Link<'_>, count: u64, length: usize) {
    let before = link.counters().up.offered.packets;
    for number in 0..count {
        let mut payload = vec![0; length];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        sockets.up(&payload);
        if number % 64 == 63 {
            let sent = before + number + 1;
            until("taken in", || link.counters().up.offered.packets >= sent);
        }
    }
    until("taken in", || {
        link.counters().up.offered.packets == before + count
    });
}

/// The numbers of the packets that arrive, `count` of them.
fn numbers(sockets: &Sockets, count: u64) -> Vec<u64> {
    let number = || u64::from_be_bytes(sockets.arrived().0[..8].try_into().unwrap());
    (0..count).map(|_| number()).collect()
}

/// The times that `ping` measured.
fn ping(emulator: &Emulator, count: usize) -> Vec<f64> {
    let mut ping = emulator.command(Path::new("ping"));
    ping.args(["-n", "-i", "0.05", "-W", "10", "-c", &count.to_string()])
        .arg(emulator.host_addr());
    let said = run(&mut ping, b"").unwrap().ok().unwrap();
    let times = said.split("time=").skip(1);
    times
        .map(|rest| rest.split(' ').next().unwrap().parse().unwrap())
        .collect()
}
