//! Servers that a device may find in the world.

use hil_tests::net::dns::{Dns, Health};
use hil_tests::net::portal::Portal;
use hil_tests::net::proxy::{Manners, Proxy, Request};

use super::*;

/// What the other side says, up to an empty line or its end.
fn head(from: &mut impl Read) -> String {
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(b"\r\n\r\n") && from.read(&mut byte).unwrap() > 0 {
        said.extend(byte);
    }
    String::from_utf8(said).unwrap()
}

fn connect(emulator: &Emulator, addr: SocketAddr) -> TcpStream {
    let connect = || TcpStream::connect(addr).unwrap();
    let stream = emulator.on_device(connect).unwrap();
    stream.set_read_timeout(Some(READY)).unwrap();
    stream
}

#[test]
fn a_proxy_is_the_only_way_out() {
    let emulator = emulator!();
    let here = format!("{}:0", emulator.host_addr());
    let proxy = Proxy::start(&here).unwrap();
    let listener = TcpListener::bind(&here).unwrap();
    let target = listener.local_addr().unwrap().to_string();
    emulator.allow_only(&[Rule::service(Protocol::Tcp, proxy.addr().port())]);

    let mut client = connect(&emulator, proxy.addr());
    let mut ask = |head_of_request: &str| {
        client.write_all(head_of_request.as_bytes()).unwrap();
        head(&mut client)
    };
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    proxy.behave(Manners::Refuse(403));
    assert!(ask(&format!("{request}\r\n")).starts_with("HTTP/1.1 403 "));
    proxy.behave(Manners::Password("ann".into(), "secret".into()));
    let said = ask(&format!("{request}\r\n"));
    assert!(said.starts_with("HTTP/1.1 407 "), "{said}");
    assert!(said.contains("Proxy-Authenticate: Basic realm="), "{said}");
    let wrong = ask(&format!(
        "{request}Proxy-Authorization: Basic YW5uOm5v\r\n\r\n"
    ));
    assert!(wrong.starts_with("HTTP/1.1 407 "), "{wrong}");
    let right = "Proxy-Authorization: Basic YW5uOnNlY3JldA==";
    let said = ask(&format!("{request}{right}\r\n\r\nword"));
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");

    let (mut server, _) = listener.accept().unwrap();
    let mut word = [0; 4];
    server.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"word");
    server.write_all(b"back").unwrap();
    client.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"back");
    proxy.hang_up();
    assert_eq!(server.read(&mut word).unwrap(), 0);
    let asked = proxy.requests();
    assert!(asked.iter().all(|request| request.target == target));
    let seen: Vec<_> = asked.iter().map(|request| request.status).collect();
    assert_eq!(seen, [403, 407, 407, 200]);
}

#[test]
fn a_proxy_says_what_it_cannot_do() {
    let proxy = Proxy::start("127.0.0.1:0").unwrap();
    // Nobody listens where somebody just did.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let closed = closed.unwrap().to_string();
    let ask = |request: &str| {
        let mut client = TcpStream::connect(proxy.addr()).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let said = head(&mut client);
        said.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(ask(&format!("CONNECT {closed} HTTP/1.1\r\n\r\n")), "502");
    assert_eq!(ask("GET http://example.net/ HTTP/1.1\r\n\r\n"), "405");
    let refused = Request {
        target: closed,
        status: 502,
    };
    assert_eq!(proxy.requests()[0], refused);
}

#[test]
fn a_portal_answers_whatever_the_device_asks() {
    let emulator = emulator!();
    let portal = Portal::start(&format!("{}:0", emulator.host_addr())).unwrap();
    let SocketAddr::V4(addr) = portal.addr() else {
        panic!("not IPv4");
    };
    let sockets = Sockets::new(&emulator);
    sockets.passes(b"before");
    emulator.set_portal(Some(addr));
    for (anywhere, said) in [
        ("192.0.2.7:80", &b"GET / HTTP/1.1\r\n\r\n"[..]),
        ("198.51.100.1:443", b"\x16\x03\x01"),
    ] {
        let mut guest = connect(&emulator, anywhere.parse().unwrap());
        guest.write_all(said).unwrap();
        let answer = head(&mut guest);
        assert!(answer.starts_with("HTTP/1.1 302 Found\r\n"), "{answer}");
    }
    assert_eq!(portal.visits(), 2);
    let link = emulator.link(Interface::Wlan);
    let before = link.counters().up.filtered.packets;
    sockets.up(b"blocked");
    until("blocked", || {
        link.counters().up.filtered.packets == before + 1
    });
    emulator.set_portal(None);
    sockets.passes(b"after");
}

#[test]
fn names_are_known_until_the_server_is_gone() {
    let emulator = emulator!();
    let dns = Dns::start(&emulator.host_addr()).unwrap();
    dns.set("Gateway.test", emulator.host_ip());
    let look_up = |name: &str| {
        let mut getent = emulator.command(Path::new("getent"));
        let found = run(getent.args(["ahostsv4", name]), b"").unwrap();
        found.stdout
    };
    let found = look_up("gateway.test");
    assert!(found.starts_with(&emulator.host_addr()), "{found}");
    assert_eq!(look_up("nowhere.test"), "");
    for health in [Health::Failing, Health::Gone] {
        let before = dns.asked();
        dns.set_health(health);
        assert_eq!(look_up("gateway.test"), "");
        assert!(dns.asked() > before);
    }
    dns.set_health(Health::Well);
    assert_eq!(look_up("gateway.test"), found);
}
