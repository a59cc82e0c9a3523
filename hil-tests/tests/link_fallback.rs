//! Links that leave UDP for TCP and come back to it, over networks that let little pass.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what it measures"
)]

use std::net::{SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use hil_tests::net::dns::{Dns, Health};
use hil_tests::net::emulator::{Direction, Emulator, Link, Protocol, Rule, Shape, Timeouts};
use hil_tests::net::portal::Portal;
use hil_tests::net::proxy::{Manners, Proxy};
use hil_tests::process::poll;
use hil_tests::scene::{NODE, REACH_LIMIT, Scene};

const QUIC: &str = r#""transport":"quic""#;
const SSH: &str = r#""transport":"ssh""#;
const UDP: fn() -> Rule = || Rule::protocol(Protocol::Udp);

fn links() -> Option<Emulator> {
    let links = Emulator::new(7).ok();
    if links.is_none() {
        eprintln!("skipped: this machine does not let us emulate links");
    }
    links
}

/// Waits until the agent's log says so for the `count`th time.
fn logged(scene: &Scene, words: &str, count: usize) {
    let seen = poll(REACH_LIMIT, || {
        (scene.agent.log().matches(words).count() >= count).then_some(())
    });
    assert!(
        seen.is_some(),
        "{words:?} is missing: {}",
        scene.agent.log()
    );
}

/// What the cluster lists of the device's link.
fn listed(scene: &Scene) -> String {
    scene.operator.tsh(&["ls", "-v"]).unwrap().ok().unwrap()
}

fn block_udp(link: &Link<'_>) {
    for direction in [Direction::Up, Direction::Down] {
        link.filter(direction, |filter| filter.deny.push(UDP()));
    }
}

#[test]
fn a_device_that_udp_never_reaches_joins_and_serves_over_a_lossy_link() {
    let Some(links) = links() else { return };
    links.block(UDP());
    links.shape(Shape::lossy(Duration::from_millis(150), 0.02));
    let mut scene = Scene::behind(links, "").unwrap();
    scene.start().unwrap();
    scene.agent.wait_for_status(SSH).unwrap();
    let bytes: Vec<u8> = (0..250_000_u32).flat_map(u32::to_le_bytes).collect();
    let start = Instant::now();
    let copied = scene.ssh_with("cksum", &bytes).unwrap().ok().unwrap();
    println!(
        "1 MB over SSH at 150 ms and 2 % loss: {:?}",
        start.elapsed()
    );
    assert!(copied.contains(" 1000000"), "{copied}");
    assert!(listed(&scene).contains("ssh"), "{}", listed(&scene));
}

#[test]
fn a_device_falls_back_when_udp_stops_and_goes_back_when_it_passes_again() {
    let Some(links) = links() else { return };
    let mut scene = Scene::behind(links, "keepalive = \"lan\"\n").unwrap();
    scene.start().unwrap();
    scene.agent.wait_for_status(QUIC).unwrap();
    scene.links.block(UDP());
    let start = Instant::now();
    logged(&scene, "link up over SSH", 1);
    println!("over SSH {:?} after UDP stopped", start.elapsed());
    scene.reach().unwrap();
    let shell = scene.shell().unwrap();
    let ended = || {
        let log = scene.cluster.log();
        log.matches("link ended that the node had left").count()
    };
    let before = ended();

    scene.links.unblock();
    let start = Instant::now();
    logged(&scene, "link up over QUIC", 2);
    println!("over QUIC {:?} after UDP passed again", start.elapsed());
    scene.reach().unwrap();
    assert!(listed(&scene).contains("quic"), "{}", listed(&scene));
    // Whoever was on the old link goes on over the new one.
    let gone = poll(REACH_LIMIT, || (ended() > before).then_some(()));
    assert!(gone.is_some(), "{}", scene.cluster.log());
    shell.enter("echo still=$((6 * 7))").unwrap();
    shell.wait_for("still=42").unwrap();
    shell.enter("exit 3").unwrap();
    shell.wait_for("ended with 3").unwrap();
    assert!(
        !scene.agent.log().contains("link down"),
        "{}",
        scene.agent.log()
    );
}

#[test]
fn a_device_that_only_a_proxy_is_open_to_is_back_once_the_proxy_is() {
    let Some(links) = links() else { return };
    let proxy = Proxy::start(&format!("{}:0", links.host_addr())).unwrap();
    let only = Rule::service(Protocol::Tcp, proxy.addr().port());
    links.filter(|filter| filter.only = Some(vec![only]));
    let config = format!("proxy = \"http://{}\"\n", proxy.addr());
    let mut scene = Scene::behind(links, &config).unwrap();
    scene.start().unwrap();
    scene.agent.wait_for_status(SSH).unwrap();
    scene.reach().unwrap();
    proxy.behave(Manners::Refuse(403));
    proxy.hang_up();
    let told = "the HTTP proxy does not allow connections to the cluster (403";
    scene.agent.wait_for_status(told).unwrap();
    proxy.behave(Manners::Open);
    scene.reach().unwrap();
}

#[test]
fn a_device_starts_when_names_are_known_and_does_without_them_later() {
    let Some(links) = links() else { return };
    let dns = Dns::start(&links.host_addr()).unwrap();
    let mut scene = Scene::behind(links, "").unwrap();
    dns.set("gateway.test", scene.links.host_ip());
    let config = format!("cluster = \"gateway.test:{}\"\n", scene.cluster.port());
    scene.agent.configure(&config).unwrap();
    dns.set_health(Health::Failing);
    scene.agent.start().unwrap();
    let told = "the cluster's name cannot be resolved: ";
    scene.agent.wait_for_status(told).unwrap();
    dns.set_health(Health::Gone);
    let told = "the cluster's name cannot be resolved: the resolver does not answer";
    scene.agent.wait_for_status(told).unwrap();
    dns.set_health(Health::Well);
    scene.reach().unwrap();

    // A link needs no names, and nor does the next one.
    dns.set_health(Health::Gone);
    scene.reach().unwrap();
    scene.cluster.kill().unwrap();
    scene.cluster.resume().unwrap();
    let back = scene.reach().unwrap();
    println!("reached {back:?} after the cluster's restart, without names");
}

#[test]
fn a_portal_before_the_world_is_told_and_left_behind() {
    let Some(links) = links() else { return };
    let portal = Portal::start(&format!("{}:0", links.host_addr())).unwrap();
    let SocketAddr::V4(addr) = portal.addr() else {
        panic!("not IPv4");
    };
    let told = "as captive portals do: somebody must log in to this network";
    let mut scene = Scene::behind(links, "keepalive = \"lan\"\n").unwrap();
    scene.start().unwrap();
    scene.agent.wait_for_status(QUIC).unwrap();
    let through = |scene: &Scene, addr: Option<SocketAddrV4>| scene.links.set_portal(addr);
    through(&scene, Some(addr));
    // The link is dark by then, and hides nothing.
    scene.agent.wait_for_status(told).unwrap();
    through(&scene, None);
    scene.reach().unwrap();
    scene.agent.kill().unwrap();
    through(&scene, Some(addr));
    scene.agent.start().unwrap();
    scene.agent.wait_for_status(told).unwrap();
    through(&scene, None);
    scene.reach().unwrap();
}

#[test]
fn a_link_over_ssh_is_made_anew_at_once_from_another_address() {
    let Some(links) = links() else { return };
    // It would be silent for half a minute at least before it asked for a sign of life.
    let config = "transport = \"ssh\"\nkeepalive = \"metered\"\n";
    let mut scene = Scene::behind(links, config).unwrap();
    scene.start().unwrap();
    scene.agent.wait_for_status(SSH).unwrap();
    for (times, roams) in [(2, false), (3, true)] {
        let start = Instant::now();
        if roams {
            scene.wlan().roam().unwrap();
        } else {
            scene.wlan().change_address().unwrap();
        }
        logged(&scene, "link up over SSH", times);
        println!("a new link {:?} after another address", start.elapsed());
        scene.reach().unwrap();
        println!("reached {:?} after another address", start.elapsed());
        let online = scene.cluster.wait_online(NODE, true);
        online.unwrap();
    }
    // Nobody had to find out by silence.
    let (agent, cluster) = (scene.agent.log(), scene.cluster.log());
    assert!(!agent.contains("link down"), "{agent}");
    assert!(!cluster.contains("no sign of life"), "{cluster}");
}

#[test]
fn what_works_is_remembered_for_each_network() {
    let Some(links) = links() else { return };
    let config = "log_level = \"debug\"\n";
    let mut scene = Scene::behind(links, config).unwrap();
    block_udp(&scene.wlan());
    scene.start().unwrap();
    scene.agent.wait_for_status(SSH).unwrap();
    scene.wwan().bring_up().unwrap();
    scene.wwan().prefer().unwrap();
    logged(&scene, "link up over QUIC", 1);
    scene.wlan().prefer().unwrap();
    logged(&scene, "link up over SSH", 2);
    let log = scene.agent.log();
    let (_, back) = log
        .rsplit_once("the network is another one: wlan0")
        .unwrap();
    let first = back.lines().find(|line| line.contains("connecting to "));
    assert!(first.unwrap().contains("over TCP"), "{log}");
    scene.reach().unwrap();
}

#[test]
fn an_idle_device_that_pays_for_bytes_leaves_a_nat_that_forgets_udp_soon() {
    let Some(links) = links() else { return };
    // A silence of 25 s passes and one of 28 s does not: nothing is left to learn then.
    let udp = Duration::from_secs(27);
    links.set_nat_timeouts(Timeouts {
        udp,
        ..Timeouts::default()
    });
    let mut scene = Scene::behind(links, "keepalive = \"metered\"\n").unwrap();
    scene.start().unwrap();
    scene.agent.wait_for_status(QUIC).unwrap();
    let start = Instant::now();
    logged(&scene, "link up over SSH", 1);
    println!("over SSH after {:?} without sessions", start.elapsed());
    let ended = |log: &str| log.contains("link ended that the node had left");
    let left = poll(REACH_LIMIT, || ended(&scene.cluster.log()).then_some(()));
    assert!(left.is_some(), "{}", scene.cluster.log());
    scene.reach().unwrap();

    // Nothing is sent for longer than UDP would bear.
    let silence = Duration::from_secs(40);
    let before = scene.wlan().counters().bytes();
    scene.wait(silence);
    let (spent, log) = (scene.wlan().counters().bytes() - before, scene.agent.log());
    assert!(spent < 1000, "{spent} bytes in {silence:?}: {log}");
    scene.reach().unwrap();
    assert!(listed(&scene).contains("ssh"), "{}", listed(&scene));
    let log = scene.agent.log();
    assert!(!log.contains("link down"), "{log}");
    assert_eq!(log.matches("link up").count(), 2, "{log}");
}
