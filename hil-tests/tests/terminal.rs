//! What somebody sees who sits at a terminal.

#![allow(
    clippy::unwrap_used,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

use hil_tests::cluster::{Agent, Cluster, PASSWORD, Person, READY, me};
use hil_tests::process::poll;
use hil_tests::terminal::Terminal;
use nix::sys::signal::Signal;

/// Somebody with a node to log in to.
struct Scene {
    operator: Person,
    _agent: Agent,
    _cluster: Cluster,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let (dir, cluster) = Cluster::temporary().unwrap();
        cluster.add_user("operator", "access", &me()).unwrap();
        let agent = cluster.agent("gateway-1", "", None).unwrap();
        Self {
            operator: cluster.logged_in("operator").unwrap(),
            _agent: agent,
            _cluster: cluster,
            _dir: dir,
        }
    }

    /// A shell on the node, in a terminal; `before` is what the local shell is told first.
    fn shell(&self, before: &str) -> Terminal {
        let line = format!("{before} tsh ssh {}@gateway-1", me());
        let terminal = Terminal::open(&self.operator, &line).unwrap();
        terminal.enter("echo up=$TETHER_USER").unwrap();
        terminal.wait_for("up=operator").unwrap();
        terminal
    }
}

#[test]
fn a_shell_gets_the_terminal_and_the_terminal_is_put_back() {
    let scene = Scene::new();
    let terminal = scene.shell("stty erase ^H; TERM=vt100 LANG=C.UTF-8 SECRET=x");
    assert!(terminal.is_raw().unwrap());
    let question = "echo $TERM, $LANG, $(stty size), [$SECRET], $(stty -a | grep -o 'erase = ..')";
    terminal.enter(question).unwrap();
    let answer = "vt100, C.UTF-8, 30 100, [], erase = ^H";
    terminal.wait_for(answer).unwrap();
    terminal.enter("exit 5").unwrap();
    terminal
        .wait_for("Connection to gateway-1 closed.")
        .unwrap();
    terminal.wait_for("ended with 5").unwrap();
    assert!(!terminal.is_raw().unwrap());
}

#[test]
fn a_shell_follows_the_window() {
    let scene = Scene::new();
    let terminal = scene.shell("");
    terminal.resize(90, 20).unwrap();
    // The size arrives when it does: ask until it is there.
    let resized = poll(READY, || {
        terminal.enter("echo now=$(stty size)").unwrap();
        let screen = terminal.screen().unwrap();
        screen.contains("now=20 90").then_some(())
    });
    assert!(resized.is_some(), "{}", terminal.screen().unwrap());
}

#[test]
fn escapes_help_send_a_tilde_and_disconnect() {
    let scene = Scene::new();
    let terminal = scene.shell("");
    terminal.type_text("~?").unwrap();
    terminal.wait_for("~.   - end the connection").unwrap();
    terminal.enter("~~who").unwrap();
    terminal.wait_for("~who: not found").unwrap();
    let screen = terminal.screen().unwrap();
    assert!(!screen.contains("~~who"), "{screen}");
    terminal.type_text("~.").unwrap();
    terminal.wait_for("ended with 255").unwrap();
    assert!(!terminal.is_raw().unwrap());
}

#[test]
fn keys_that_are_signals_elsewhere_go_to_the_node() {
    let scene = Scene::new();
    let terminal = scene.shell("");
    // The quotes keep the word from being seen before it is said.
    let listen = "stty raw -echo; echo read''y; head -c 8 | cat -v; stty sane";
    terminal.enter(listen).unwrap();
    terminal.wait_for("ready").unwrap();
    terminal.press(&["C-c", "C-z", "C-d"]).unwrap();
    terminal.type_text("<end>").unwrap();
    terminal.wait_for("^C^Z^D<end>").unwrap();

    terminal.enter("echo asle''ep; sleep 600").unwrap();
    terminal.wait_for("asleep").unwrap();
    terminal.press(&["C-c"]).unwrap();
    terminal.enter("echo interrupted=$?").unwrap();
    terminal.wait_for("interrupted=130").unwrap();
    terminal.press(&["C-d"]).unwrap();
    terminal.wait_for("ended with 0").unwrap();
}

#[test]
fn a_signal_from_outside_puts_the_terminal_back() {
    let scene = Scene::new();
    let terminal = scene.shell("");
    assert!(terminal.is_raw().unwrap());
    terminal.signal(Signal::SIGTERM).unwrap();
    terminal.wait_for("ended with 143").unwrap();
    assert!(!terminal.is_raw().unwrap());
}

#[test]
fn the_first_login_asks_for_trust_and_takes_an_invite() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    let invite = cluster.invite("operator", "access", &me()).unwrap();
    let operator = cluster.person("operator");
    let login = format!("tsh login --proxy {} --user operator", cluster.addr());
    let terminal = Terminal::open(&operator, &login).unwrap();
    terminal.wait_for(&cluster.ca_pin().unwrap()).unwrap();
    terminal.wait_for("Continue (yes/no)?").unwrap();
    // Too hasty.
    terminal.enter("y").unwrap();
    terminal.wait_for("Continue (yes/no)? y\nContinue").unwrap();
    terminal.enter("yes").unwrap();
    terminal.wait_for("Password, or invite code: ").unwrap();
    terminal.enter(&invite).unwrap();
    terminal.wait_for("New password: ").unwrap();
    terminal.enter(PASSWORD).unwrap();
    terminal.wait_for("Repeat it: ").unwrap();
    terminal.enter(PASSWORD).unwrap();
    terminal.wait_for("Valid until:").unwrap();
    terminal.wait_for("ended with 0").unwrap();
    let screen = terminal.screen().unwrap();
    assert!(!screen.contains(&PASSWORD[..7]), "{screen}");
    assert!(!screen.contains(&invite[..12]), "{screen}");

    let terminal = Terminal::open(&operator, "tsh login").unwrap();
    terminal.wait_for("Password, or invite code: ").unwrap();
    terminal.enter(PASSWORD).unwrap();
    terminal.wait_for("ended with 0").unwrap();
    let screen = terminal.screen().unwrap();
    assert!(!screen.contains(&PASSWORD[..7]), "{screen}");
}

#[test]
fn a_login_can_be_broken_off() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    let operator = cluster.person("operator");
    let login = format!("tsh login --proxy {} --user operator", cluster.addr());
    let terminal = Terminal::open(&operator, &login).unwrap();
    terminal.wait_for("Continue (yes/no)?").unwrap();
    terminal.enter("no").unwrap();
    terminal.wait_for("ended with 246").unwrap();

    let login = format!("{login} --ca-pin {}", cluster.ca_pin().unwrap());
    let terminal = Terminal::open(&operator, &login).unwrap();
    terminal.wait_for("Password, or invite code: ").unwrap();
    terminal.type_text("corr").unwrap();
    terminal.press(&["C-c"]).unwrap();
    terminal.wait_for("ended with 1").unwrap();
    let screen = terminal.screen().unwrap();
    assert!(!screen.contains("corr"), "{screen}");
    // It echoes again.
    assert!(!terminal.is_raw().unwrap());
    terminal.type_text("seen").unwrap();
    terminal.wait_for("seen").unwrap();
}
