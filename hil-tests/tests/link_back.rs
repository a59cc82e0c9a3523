//! The first echo of a session once a path is back: at the person's end, at the device's, at both;
//! whether anything tells that end or not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what it measures"
)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use hil_tests::cluster::{Agent, Cluster, PASSWORD, Person, me};
use hil_tests::net::Network;
use hil_tests::net::emulator::{Emulator, Interface, Link, Shape};
use hil_tests::process::poll;
use tempfile::TempDir;

const NODE: &str = "gateway-1";
const ROUND_TRIP: Duration = Duration::from_millis(80);
/// So long that QUIC by itself would ask again after as much time.
const LONG: Duration = Duration::from_secs(20);
/// Well before that, and well after anything that was told.
const SOON: Duration = Duration::from_secs(10);
/// So short that nobody holds the link for dead yet.
const SHORT: Duration = Duration::from_millis(3300);
/// Long before a session is given up, and long after it should have gone on.
const LIMIT: Duration = Duration::from_secs(60);

/// Whose path is the emulated one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Person,
    Device,
    Both,
}

/// A session, and whatever comes back from the node.
struct Session {
    tsh: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<(Instant, String)>,
    links: Arc<Emulator>,
    agent: Agent,
    _cluster: Cluster,
    _dir: TempDir,
}

impl Session {
    /// Nothing, if this machine cannot emulate links.
    fn new(end: End) -> Option<Self> {
        let Ok(links) = Emulator::new(7) else {
            eprintln!("skipped: this machine does not let us emulate links");
            return None;
        };
        let links = Arc::new(links);
        let behind = |is: bool| is.then(|| Network::from(&links));
        let (dir, cluster) = Cluster::temporary().unwrap();
        cluster.add_user("operator", "access", &me()).unwrap();
        let network = behind(end != End::Person);
        let agent = cluster.agent(NODE, "", network).unwrap();
        let mut operator = cluster.person("operator");
        if let Some(network) = behind(end != End::Device) {
            operator.move_behind(network);
        }
        operator.login(&cluster, PASSWORD).unwrap().ok().unwrap();
        let (tsh, input, lines) = echoed(&operator);
        let mut session = Self {
            tsh,
            input,
            lines,
            links,
            agent,
            _cluster: cluster,
            _dir: dir,
        };
        session.links.shape(Shape::lossy(ROUND_TRIP, 0.0));
        session.say("first");
        session.hear("first");
        session.say("usual");
        let usual = session.hear("usual");
        println!("{end:?}: as usual, an echo takes {usual:?}");
        Some(session)
    }

    fn link(&self, interface: Interface) -> Link<'_> {
        self.links.link(interface)
    }

    fn say(&mut self, word: &str) {
        self.input
            .write_all(format!("{word}\n").as_bytes())
            .unwrap();
    }

    /// How long it takes from now on until a word comes back.
    fn hear(&self, word: &str) -> Duration {
        let now = Instant::now();
        match self.lines.recv_timeout(LIMIT) {
            Ok((at, line)) if line == word => at.saturating_duration_since(now),
            other => panic!("{other:?} for {word}\n{}", self.agent.log()),
        }
    }

    /// A word is said while the path is gone for so long; how long does it take to come back?
    fn back_after(
        &mut self,
        (what, gone): (&str, Duration),
        go: impl Fn(&Self),
        come: impl Fn(&Self),
    ) {
        go(self);
        self.say(what);
        // Only an interrupted run ends it early.
        let _: Option<()> = poll(gone, || None);
        come(self);
        let took = self.hear(what);
        println!("{what}: gone for {gone:?}, an echo after {took:?}");
        assert!(took < SOON, "{}", self.agent.log());
    }

    fn run(&mut self) {
        let cut = |this: &Self| this.links.cut();
        let mend = |this: &Self| this.links.mend();
        self.back_after(("untold", SHORT), cut, mend);
        self.back_after(("untold", LONG), cut, mend);
        let wlan = |this: &Self, there: bool| {
            let link = this.link(Interface::Wlan);
            if there {
                link.bring_up().unwrap();
            } else {
                link.take_down().unwrap();
            }
        };
        self.back_after(("up", LONG), |s| wlan(s, false), |s| wlan(s, true));
        let carrier = |this: &Self, there| {
            this.link(Interface::Wlan).set_carrier(there).unwrap();
        };
        self.back_after(
            ("carrier", SHORT),
            |s| carrier(s, false),
            |s| carrier(s, true),
        );
        self.back_after(
            ("carrier", LONG),
            |s| carrier(s, false),
            |s| carrier(s, true),
        );
        let elsewhere = |this: &Self| this.link(Interface::Wwan).bring_up().unwrap();
        self.back_after(("elsewhere", LONG), |s| wlan(s, false), elsewhere);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.tsh.kill().ok();
        self.tsh.wait().ok();
    }
}

/// A program on the node that gives lines back.
fn echoed(operator: &Person) -> (Child, ChildStdin, mpsc::Receiver<(Instant, String)>) {
    let mut tsh = operator.command().unwrap();
    tsh.args(["ssh", &format!("{}@{NODE}", me()), "cat"]);
    tsh.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut tsh = tsh.spawn().unwrap();
    let (input, output) = (tsh.stdin.take().unwrap(), tsh.stdout.take().unwrap());
    let (tell, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if tell.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
    (tsh, input, lines)
}

#[test]
fn at_the_persons_end() {
    if let Some(mut session) = Session::new(End::Person) {
        session.run();
    }
}

#[test]
fn at_the_devices_end() {
    if let Some(mut session) = Session::new(End::Device) {
        session.run();
    }
}

#[test]
fn at_both_ends() {
    if let Some(mut session) = Session::new(End::Both) {
        session.run();
    }
}
