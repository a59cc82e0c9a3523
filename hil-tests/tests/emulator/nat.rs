//! What the NAT lets through, and what it forgets.

use super::*;

#[test]
fn nobody_gets_in_unasked() {
    let emulator = emulator!();
    let sockets = Sockets::new(&emulator);
    let seen = sockets.passes(b"asked");
    let link = emulator.link(Interface::Wlan);
    assert_eq!(seen.ip(), link.external_addr());
    let stranger = UdpSocket::bind(format!("{}:0", emulator.host_addr())).unwrap();
    stranger.send_to(b"unasked", seen).unwrap();
    until("turned away", || link.counters().untranslated.packets == 1);
    let port = sockets.device.local_addr().unwrap().port();
    let direct = (link.external_addr(), port);
    sockets.world.send_to(b"unasked", direct).unwrap();
    until("turned away", || link.counters().untranslated.packets == 2);
    // What arrives next is what was asked for.
    assert_eq!(sockets.passes(b"asked again"), seen);
}

#[test]
fn mappings_end_in_silence_and_at_a_change() {
    let emulator = emulator!();
    let sockets = Sockets::new(&emulator);
    let link = emulator.link(Interface::Wlan);
    let first = sockets.passes(b"first");
    assert_eq!(sockets.passes(b"still first"), first);

    let short = Timeouts {
        udp: Duration::ZERO,
        ..Timeouts::default()
    };
    emulator.set_nat_timeouts(short);
    sockets.world.send_to(b"too late", first).unwrap();
    until("turned away", || link.counters().untranslated.packets == 1);
    emulator.set_nat_timeouts(Timeouts::default());
    let second = sockets.passes(b"second");
    assert_ne!(first, second);

    link.lose_mappings();
    sockets.world.send_to(b"nobody", second).unwrap();
    until("turned away", || link.counters().untranslated.packets == 2);
    let third = sockets.passes(b"third");
    assert_ne!(second.port(), third.port());
    assert_eq!(second.ip(), third.ip());

    link.change_nat();
    let fourth = sockets.passes(b"fourth");
    assert_ne!(third.port(), fourth.port());
    assert_ne!(third.ip(), fourth.ip());
    sockets.world.send_to(b"moved away", third).unwrap();
    assert_eq!(sockets.passes(b"fourth still"), fourth);
}

#[test]
fn tcp_that_the_nat_forgot_is_reset_or_hangs() {
    let emulator = emulator!();
    let listener = TcpListener::bind(format!("{}:0", emulator.host_addr())).unwrap();
    let addr = listener.local_addr().unwrap();
    let link = emulator.link(Interface::Wlan);
    let connection = || {
        let device = emulator.on_device(|| TcpStream::connect(addr).unwrap());
        (device.unwrap(), listener.accept().unwrap())
    };
    let (mut device, _world) = connection();
    device.set_read_timeout(Some(READY)).unwrap();
    link.change_nat();
    device.write_all(b"who am I?").unwrap();
    let error = device.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let (mut device, _world) = connection();
    emulator.set_strays(Strays::Drop);
    link.change_nat();
    let before = link.counters().untranslated.packets;
    device.write_all(b"who am I?").unwrap();
    until("dropped", || link.counters().untranslated.packets > before);
    device.set_nonblocking(true).unwrap();
    let error = device.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}
