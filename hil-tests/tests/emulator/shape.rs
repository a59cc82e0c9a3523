//! What a link does to packets, and what it counts.

use super::*;

#[test]
fn ping_takes_the_delay_and_no_less() {
    let emulator = emulator!();
    let fast = ping(&emulator, 5);
    emulator.shape(Shape::lossy(200 * MS, 0.0));
    let slow = ping(&emulator, 5);
    println!("ping in ms, unshaped: {fast:?}; with 200 ms: {slow:?}");
    assert_eq!((fast.len(), slow.len()), (5, 5));
    assert!(slow.iter().all(|ms| (200.0..2000.0).contains(ms)));
    let least = fast.iter().copied().fold(f64::MAX, f64::min);
    assert!(least < 100.0, "{least}");
}

#[test]
fn the_same_seed_loses_the_same_packets() {
    const SENT: u64 = 5000;
    let lossy = || {
        let emulator = Emulator::new(SEED).unwrap();
        emulator.shape(Shape::lossy(20 * MS, 0.02));
        let sockets = Sockets::new(&emulator);
        let link = emulator.link(Interface::Wlan);
        // Not more at once than a socket holds.
        let mut seen = Vec::new();
        for _ in 0..50 {
            send_numbered(&sockets, link, SENT / 50, 32);
            until("all delivered or lost", || {
                let up = link.counters().up;
                up.delivered.packets + up.lost.packets == up.offered.packets
            });
            let arrived = link.counters().up.delivered.packets - seen.len() as u64;
            seen.extend(numbers(&sockets, arrived));
        }
        seen
    };
    if !Emulator::available() {
        eprintln!("skipped: this machine does not let us emulate links");
        return;
    }
    let once = lossy();
    let lost = SENT - once.len() as u64;
    println!("{lost} of {SENT} packets were lost at 2 %");
    assert!((50..200).contains(&lost), "{lost}");
    assert!(once == lossy(), "other packets were lost");
}

#[test]
fn five_megabits_are_five_megabits() {
    const SENT: u64 = 500;
    const LENGTH: usize = 1250 - HEADERS as usize;
    let emulator = emulator!();
    emulator.shape(Shape {
        loss: 0.0,
        queue: 1 << 20,
        ..Shape::cellular()
    });
    let sockets = Sockets::new(&emulator);
    let start = Instant::now();
    send_numbered(&sockets, emulator.link(Interface::Wlan), SENT, LENGTH);
    assert!(numbers(&sockets, SENT).is_sorted());
    let took = start.elapsed();
    println!("625,000 bytes at 5 Mbit/s with 100 ms took {took:?}, and should take 1.1 s");
    assert!(took >= 1100 * MS && took < 10 * 1100 * MS, "{took:?}");
}

#[test]
fn a_fast_link_is_no_bottleneck() {
    const BYTES: usize = 64 << 20;
    let emulator = emulator!();
    let listener = TcpListener::bind(format!("{}:0", emulator.host_addr())).unwrap();
    let addr = listener.local_addr().unwrap();
    let device = emulator
        .on_device(|| TcpStream::connect(addr).unwrap())
        .unwrap();
    let (world, _) = listener.accept().unwrap();
    for (name, mut from, mut to) in [("from", &device, &world), ("to", &world, &device)] {
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| from.write_all(&vec![0; BYTES]).unwrap());
            let mut buffer = vec![0; 1 << 20];
            let mut left = BYTES;
            while left > 0 {
                left -= to.read(&mut buffer).unwrap();
            }
        });
        let rate = BYTES as f64 * 8e-6 / start.elapsed().as_secs_f64();
        println!("{rate:.0} Mbit/s {name} the device");
        assert!(rate > 20.0, "{rate}");
    }
}

#[test]
fn nothing_passes_a_cut_and_everything_after_it() {
    let emulator = emulator!();
    let sockets = Sockets::new(&emulator);
    let link = emulator.link(Interface::Wlan);
    sockets.passes(b"before");
    emulator.shape(Shape::lossy(10_000_000 * MS, 0.0));
    sockets.up(b"under way");
    until("under way", || link.counters().up.offered.packets == 2);
    emulator.cut();
    sockets.up(b"lost");
    until("cut", || link.counters().up.cut.packets == 2);
    emulator.shape(Shape::default());
    sockets.passes(b"after");

    // Only towards the device.
    link.set_cut_one(Direction::Down, true);
    sockets.up(b"one way");
    let (said, from) = sockets.arrived();
    assert_eq!(said, b"one way");
    sockets.world.send_to(b"lost", from).unwrap();
    until("cut", || link.counters().down.cut.packets == 1);
    emulator.mend();
    sockets.passes(b"both ways");
}

#[test]
fn counters_are_exact() {
    let emulator = emulator!();
    let sockets = Sockets::new(&emulator);
    let link = emulator.link(Interface::Wlan);
    send_numbered(&sockets, link, 100, 100);
    numbers(&sockets, 100);
    sockets.passes(b"four");
    let counted = |packets, bytes| Count {
        packets,
        bytes: bytes + packets * HEADERS,
    };
    let counters = link.counters();
    assert_eq!(counters.up.offered, counted(101, 100 * 100 + 4));
    assert_eq!(counters.up.delivered, counters.up.offered);
    assert_eq!(counters.down.offered, counted(1, 4));
    assert_eq!(counters.down.delivered, counters.down.offered);
    assert_eq!(counters.bytes(), 10_008 + 102 * HEADERS);
    assert_eq!(counters.bytes_of(sockets.port()), counters.bytes());
    assert_eq!(counters.bytes_of(sockets.port() ^ 1), 0);
    let idle = emulator.link(Interface::Wwan).counters();
    assert_eq!(idle.bytes(), 0);

    link.reset_counters();
    assert_eq!(link.counters(), Default::default());
    assert_eq!(ping(&emulator, 3).len(), 3);
    let pings = link.counters();
    // 20 bytes of IP, 8 of ICMP, 56 of ping.
    let each = Count {
        packets: 3,
        bytes: 3 * 84,
    };
    assert_eq!((pings.up.offered, pings.down.delivered), (each, each));
}

#[test]
fn udp_a_port_or_long_packets_can_be_blocked() {
    let emulator = emulator!();
    let sockets = Sockets::new(&emulator);
    let link = emulator.link(Interface::Wlan);
    let filtered = || link.counters().up.filtered.packets;
    for rule in [
        Rule::protocol(Protocol::Udp),
        Rule::port(sockets.port()),
        Rule::service(Protocol::Udp, sockets.port()),
    ] {
        let before = filtered();
        emulator.block(rule);
        sockets.up(b"blocked");
        until("blocked", || filtered() == before + 1);
        assert_eq!(ping(&emulator, 1).len(), 1);
        emulator.unblock();
        sockets.passes(b"allowed");
    }
    emulator.allow_only(&[Rule::protocol(Protocol::Tcp)]);
    sockets.up(b"blocked");
    until("blocked", || filtered() == 4);
    emulator.unblock();
    link.filter(Direction::Up, |filter| {
        *filter = Filter {
            longest: Some(1280),
            ..Filter::default()
        };
    });
    sockets.passes(&[0; 1280 - HEADERS as usize]);
    sockets.up(&[0; 1281 - HEADERS as usize]);
    until("too long", || filtered() == 5);
}

#[test]
fn a_trace_holds_what_has_passed() {
    let emulator = emulator!();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace.pcap");
    let sockets = Sockets::new(&emulator);
    emulator.trace(Some(&file)).unwrap();
    sockets.passes(b"to be found");
    emulator.trace(None).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let packet = 16 + HEADERS as usize + 11;
    assert_eq!(bytes.len(), 24 + 2 * packet);
    assert_eq!(bytes[..4], 0xa1b2_c3d4_u32.to_le_bytes());
    let found = bytes.windows(11).filter(|window| window == b"to be found");
    assert_eq!(found.count(), 2);
}
