//! What happens to the device's interfaces, and what is left when all is over.

use super::*;

#[test]
fn the_device_gets_another_address_and_its_kernel_says_so() {
    let emulator = emulator!();
    let dir = tempfile::tempdir().unwrap();
    let link = emulator.link(Interface::Wlan);
    let sockets = Sockets::new(&emulator);
    let seen = sockets.passes(b"here");
    let mut monitor = emulator.command(Path::new("ip"));
    monitor.args(["-4", "monitor", "address", "route"]);
    let mut monitor = Daemon::start(&mut monitor, &dir.path().join("monitor")).unwrap();
    let log = dir.path().join("monitor");
    let said = |what: &str| {
        let log = std::fs::read_to_string(&log).unwrap();
        log.contains(what).then_some(())
    };
    // It tells nothing of what was before it listened.
    let listens = || {
        for what in ["replace", "del"] {
            let mut ip = emulator.command(Path::new("ip"));
            ip.args(["addr", what, "192.0.2.1/32", "dev", "lo"]);
            run(&mut ip, b"").unwrap().ok().unwrap();
        }
        said("192.0.2.1")
    };
    monitor.wait_until("listening", READY, listens).unwrap();

    let old = link.device_addr();
    link.change_address().unwrap();
    let new = link.device_addr();
    assert_ne!(old, new);
    for event in [
        format!("inet {old}/24"),
        format!("inet {new}/24"),
        "default via".to_owned(),
    ] {
        let seen = || said(&event);
        monitor.wait_until(&event, READY, seen).unwrap();
    }
    // A connected socket keeps its old address, where nobody is any more.
    sockets.device.send(b"from nowhere").ok();
    let again = Sockets::new(&emulator);
    assert_eq!(again.passes(b"there").ip(), seen.ip());
    link.roam().unwrap();
    let far = Sockets::new(&emulator).passes(b"far away");
    assert_ne!(far.ip(), seen.ip());
}

#[test]
fn the_device_moves_to_its_modem_and_back() {
    let emulator = emulator!();
    let dev = |interface| emulator.link(interface);
    let passes = || Sockets::new(&emulator).passes(b"word").ip();
    let (wlan, wwan) = (dev(Interface::Wlan), dev(Interface::Wwan));
    assert_eq!(passes(), wlan.external_addr());
    wwan.bring_up().unwrap();
    assert_eq!(passes(), wlan.external_addr());
    wwan.prefer().unwrap();
    assert_eq!(passes(), wwan.external_addr());
    wlan.prefer().unwrap();
    assert_eq!(passes(), wlan.external_addr());
    wlan.take_down().unwrap();
    assert_eq!(passes(), wwan.external_addr());
    wlan.bring_up().unwrap();
    wwan.take_down().unwrap();
    assert_eq!(passes(), wlan.external_addr());
    assert!(wwan.counters().bytes() > 0);
}

#[test]
fn a_lost_carrier_is_seen_by_the_device() {
    let emulator = emulator!();
    let link = emulator.link(Interface::Wlan);
    let sockets = Sockets::new(&emulator);
    let seen = sockets.passes(b"before");
    let state = || {
        let mut show = emulator.command(Path::new("ip"));
        show.args(["link", "show", "wlan0"]);
        run(&mut show, b"").unwrap().ok().unwrap()
    };
    assert!(!state().contains("NO-CARRIER"), "{}", state());
    link.set_carrier(false).unwrap();
    assert!(state().contains("NO-CARRIER"), "{}", state());
    let before = link.counters().down.cut.packets;
    sockets.world.send_to(b"lost", seen).unwrap();
    until("cut", || link.counters().down.cut.packets == before + 1);
    link.set_carrier(true).unwrap();
    assert!(!state().contains("NO-CARRIER"), "{}", state());
    assert_eq!(sockets.passes(b"after"), seen);
}

#[test]
fn worlds_apart_and_side_by_side() {
    let first = emulator!(World::Apart);
    let second = emulator!();
    assert_ne!(first.host_addr(), second.host_addr());
    for emulator in [&first, &second] {
        emulator.use_congestion_control("cubic").unwrap();
        Sockets::new(emulator).passes(b"word");
        let mut show = emulator.command(Path::new("sysctl"));
        show.args(["-n", "net.ipv4.tcp_congestion_control"]);
        assert_eq!(run(&mut show, b"").unwrap().stdout, "cubic\n");
    }
    let mut show = Command::new("ip");
    show.args(["-4", "addr"]);
    let here = run(&mut show, b"").unwrap().ok().unwrap();
    assert!(here.contains(&second.host_addr()), "{here}");
    assert!(!here.contains(&format!("{}/", first.host_addr())), "{here}");
}

/// A run that is killed, and one that takes over what it has left: this test in two roles.
#[test]
fn a_killed_run_leaves_nothing_for_good() {
    const ROLE: &str = "TETHER_HELD_EMULATOR";
    let exists = |path: &str| Path::new(path).exists();
    if std::env::var_os(ROLE).is_some() {
        let emulator = Emulator::new(SEED).unwrap();
        let mut inside = emulator.command(Path::new("sh"));
        inside.args(["-c", "echo inside; exec sleep 600"]);
        let mut inside = inside.stdout(Stdio::piped()).spawn().unwrap();
        // Until it says so, it is on its way there, and nobody finds it.
        let mut line = String::new();
        let mut output = BufReader::new(inside.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        println!("held {} {}", emulator.host_addr(), inside.id());
        inside.wait().unwrap();
        return;
    }
    if !Emulator::available() {
        eprintln!("skipped: this machine does not let us emulate links");
        return;
    }
    let mut held = Command::new(std::env::current_exe().unwrap())
        .args(["device::a_killed_run_leaves_nothing_for_good", "--exact"])
        .arg("--nocapture")
        .env(ROLE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(held.stdout.take().unwrap()).lines();
    let line = lines
        .map(Result::unwrap)
        .find(|line| line.contains("held "));
    let line = line.unwrap();
    let words: Vec<_> = line.split_once("held ").unwrap().1.split(' ').collect();
    let number = words[0].split('.').nth(2).unwrap();
    let (tun, inside) = (
        format!("/sys/class/net/tth{number}w"),
        format!("/proc/{}", words[1]),
    );
    assert!(exists(&tun) && exists(&inside));

    held.kill().unwrap();
    held.wait().unwrap();
    until("the links are gone", || !exists(&tun));
    // Whoever gets the number next, here or in another test, ends what is left.
    let mut taken = Vec::new();
    until("the rest is gone", || {
        taken.push(Emulator::new(SEED).unwrap());
        !exists(&inside)
    });
    drop(taken);
    let emulator = Emulator::new(SEED).unwrap();
    let mut inside = emulator.command(Path::new("sleep"));
    let mut inside = inside.arg("600").spawn().unwrap();
    let addr = emulator.host_addr();
    let name = format!("/run/netns/tether-e{}", addr.split('.').nth(2).unwrap());
    assert!(exists(&name));
    drop(emulator);
    inside.wait().unwrap();
}
