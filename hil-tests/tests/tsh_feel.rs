//! What somebody sees at a terminal whose link is lost and comes back.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what it measures"
)]

use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hil_tests::cluster::{Agent, Cluster, PASSWORD, Person, READY, me};
use hil_tests::net::Network;
use hil_tests::net::emulator::{Emulator, Interface, Protocol, Rule, Shape};
use hil_tests::process::{end_of, poll};
use hil_tests::terminal::Terminal;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What the line says.
const LINE: &str = "session kept, ";
const NODE: &str = "gateway-1";
/// Long before a session is given up, and long after it should have gone on.
const SOON: Duration = Duration::from_secs(30);

/// Somebody behind a link that can be cut, and a node that is somewhere else.
struct Scene {
    operator: Person,
    agent: Agent,
    cluster: Cluster,
    links: Arc<Emulator>,
    _dir: tempfile::TempDir,
}

impl Scene {
    /// Nothing, if this machine cannot emulate links.
    fn new(roles: &str) -> Option<Self> {
        let Ok(links) = Emulator::new(7) else {
            eprintln!("skipped: this machine does not let us emulate links");
            return None;
        };
        let links = Arc::new(links);
        let (dir, cluster) = Cluster::temporary().unwrap();
        let brief = "kind: role\nversion: v1\nmetadata: {name: brief}\n\
                     spec:\n  options: {resume_grace: 20s}\n";
        cluster.create(brief).unwrap();
        cluster.add_user("operator", roles, &me()).unwrap();
        let agent = cluster.agent(NODE, "", None).unwrap();
        let mut operator = cluster.person("operator");
        operator.move_behind(Network::from(&links));
        operator.login(&cluster, PASSWORD).unwrap().ok().unwrap();
        Some(Self {
            operator,
            agent,
            cluster,
            links,
            _dir: dir,
        })
    }

    /// A shell on the node that edits lines, in a terminal.
    fn shell(&self) -> Terminal {
        let line = format!("tsh ssh -t {}@{NODE} bash --norc --noprofile", me());
        let terminal = Terminal::open(&self.operator, &line).unwrap();
        terminal
            .enter("PS1='\\[\\e[1;32m\\]here\\[\\e[m\\] $ '")
            .unwrap();
        terminal.enter("echo up=$TETHER_USER").unwrap();
        terminal.wait_for("up=operator").unwrap();
        terminal
    }

    /// Cuts the link until the line is there, for a while; gives what is seen then.
    fn cut_off(&self, terminal: &Terminal) -> String {
        self.links.cut();
        // Nothing to see in the end, but something to wait for.
        terminal.press(&["x", "BSpace"]).unwrap();
        terminal.wait_for(LINE).unwrap();
        terminal.look().unwrap()
    }
}

/// For so long something is gone.
fn gone_for(time: Duration) {
    let _: Option<()> = poll(time, || None);
}

/// Waits until all is as it was before.
fn is_restored(terminal: &Terminal, before: &str) {
    let restored = poll(READY, || (terminal.look().unwrap() == before).then_some(()));
    let now = terminal.look().unwrap();
    assert!(restored.is_some(), "before:\n{before}\nnow:\n{now}");
}

/// The other window, which makes programs draw anew, is gone after a moment.
fn has_its_size_again(terminal: &Terminal) {
    let again = poll(READY, || {
        terminal.enter("echo now=$(stty size)").unwrap();
        let screen = terminal.screen().unwrap();
        screen.contains("now=30 100").then_some(())
    });
    assert!(again.is_some(), "{}", terminal.screen().unwrap());
}

/// The rows of two screens that differ.
fn differing(a: &str, b: &str) -> usize {
    a.lines().zip(b.lines()).filter(|(a, b)| a != b).count()
}

#[test]
fn the_line_leaves_no_trace_at_a_prompt_in_the_last_row() {
    let Some(scene) = Scene::new("access") else {
        return;
    };
    let terminal = scene.shell();
    terminal
        .enter("seq 1 100; echo -e '\\e[33myellow\\e[44mon blue\\e[m'")
        .unwrap();
    terminal.wait_for("on blue\nhere $").unwrap();
    // Something stands on both sides of the cursor, and goes on in another colour.
    terminal.type_text("echo one two three").unwrap();
    terminal.wait_for("$ echo one two three").unwrap();
    terminal
        .press(&["Left", "Left", "Left", "Left", "Left"])
        .unwrap();
    let at = poll(READY, || {
        let cursor = terminal.cursor().unwrap();
        cursor.starts_with("20,29 ").then_some(cursor)
    });
    assert!(at.is_some(), "{}", terminal.look().unwrap());
    let before = terminal.look().unwrap();

    let cut_off = scene.cut_off(&terminal);
    println!("cut off:\n{cut_off}");
    assert_eq!(
        differing(&before, &cut_off),
        1,
        "one row:\n{before}\n{cut_off}"
    );
    assert_eq!(terminal.cursor().unwrap(), at.unwrap());
    scene.links.mend();
    is_restored(&terminal, &before);
    // What is typed goes where it belongs.
    terminal.press(&["BSpace", "Enter"]).unwrap();
    terminal.wait_for("\none twothree\n").unwrap();
    has_its_size_again(&terminal);
    assert!(!terminal.screen().unwrap().contains(LINE));
}

#[test]
fn the_line_leaves_no_trace_over_a_program_that_fills_the_screen() {
    let Some(scene) = Scene::new("access") else {
        return;
    };
    let terminal = scene.shell();
    let shell_before = {
        terminal
            .enter("seq 1 60 > text; clear; echo before")
            .unwrap();
        terminal.wait_for("before\nhere $").unwrap();
        terminal.look().unwrap()
    };
    let settings = "set ruler laststatus=0 number hlsearch | highlight LineNr ctermfg=3";
    terminal
        .enter(&format!("vim -u NONE -N -c '{settings}' text"))
        .unwrap();
    terminal.wait_for("60L, ").unwrap();
    // The message about the file goes by itself, sooner or later.
    terminal
        .press(&["G", "/", "5", "7", "Enter", "C-l"])
        .unwrap();
    let quiet = poll(READY, || {
        let screen = terminal.screen().unwrap();
        (screen.contains("57,1") && !screen.contains("/57")).then_some(())
    });
    assert!(quiet.is_some(), "{}", terminal.screen().unwrap());
    let before = terminal.look().unwrap();
    assert!(before.contains("alternate"), "{before}");

    scene.links.cut();
    terminal.press(&["k", "j"]).unwrap();
    terminal.wait_for(LINE).unwrap();
    let cut_off = terminal.look().unwrap();
    println!("cut off:\n{cut_off}");
    assert_eq!(
        differing(&before, &cut_off),
        1,
        "the last row:\n{before}\n{cut_off}"
    );
    scene.links.mend();
    is_restored(&terminal, &before);
    terminal.enter(":quit").unwrap();
    // Its own last line, and the prompt behind it.
    terminal.enter("clear; echo before").unwrap();
    is_restored(&terminal, &shell_before);
    has_its_size_again(&terminal);
}

#[test]
fn what_is_typed_while_cut_off_is_kept() {
    let Some(scene) = Scene::new("access") else {
        return;
    };
    let terminal = scene.shell();
    scene.cut_off(&terminal);
    terminal.enter("echo kept=$((6 * 7))").unwrap();
    scene.links.mend();
    terminal.wait_for("kept=42").unwrap();
}

#[test]
fn somebody_who_is_cut_off_may_leave_at_once() {
    let Some(scene) = Scene::new("access") else {
        return;
    };
    let terminal = scene.shell();
    terminal.enter("vim -u NONE -N -c 'set ruler'").unwrap();
    terminal.wait_for("0,0-1").unwrap();
    scene.cut_off(&terminal);
    let start = Instant::now();
    terminal.press(&["Enter"]).unwrap();
    terminal.type_text("~.").unwrap();
    terminal.wait_for("ended with 255").unwrap();
    let took = start.elapsed();
    assert!(took < SOON, "{took:?}");
    println!("left after {took:?}");
    let screen = terminal.look().unwrap();
    assert!(
        !screen.contains(LINE) && !screen.contains("alternate"),
        "{screen}"
    );
    assert!(!terminal.is_raw().unwrap());
}

#[test]
fn a_session_that_is_gone_is_told_with_its_reason() {
    let Some(mut scene) = Scene::new("access") else {
        return;
    };
    let terminal = scene.shell();
    scene.cut_off(&terminal);
    scene.agent.kill().unwrap();
    scene.agent.start().unwrap();
    scene.cluster.wait_online(NODE, true).unwrap();
    scene.links.mend();
    let sentence = "tsh: The agent of gateway-1 was restarted, and the session has ended with it.";
    terminal.wait_for(sentence).unwrap();
    terminal.wait_for("ended with 243").unwrap();
    assert!(!terminal.is_raw().unwrap());
    assert!(!terminal.screen().unwrap().contains(LINE));
}

#[test]
fn a_link_that_is_lost_for_too_long_ends_the_session() {
    let Some(scene) = Scene::new("access,brief") else {
        return;
    };
    let terminal = scene.shell();
    let cut_off = scene.cut_off(&terminal);
    assert!(cut_off.contains(" s left"), "{cut_off}");
    let sentence = "tsh: The session on gateway-1 is over: the link was lost for too long.";
    terminal.wait_for(sentence).unwrap();
    terminal.wait_for("ended with 243").unwrap();
}

#[test]
fn without_a_terminal_nothing_is_said() {
    let Some(scene) = Scene::new("access") else {
        return;
    };
    let mut tsh = scene.operator.command().unwrap();
    tsh.args(["ssh", &format!("{}@{NODE}", me()), "cat"]);
    tsh.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = tsh.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"before\n").unwrap();
    let mut before = [0; 7];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut before)
        .unwrap();
    scene.links.cut();
    input.write_all(b"after\n").unwrap();
    gone_for(Duration::from_secs(15));
    scene.links.mend();
    drop(input);
    let done = end_of(child).unwrap();
    assert_eq!(
        (done.code(), &*done.stdout, &*done.stderr),
        (0, "after\n", "")
    );
}

/// Types, and gives the time until the answer is seen.
fn echo(terminal: &Terminal, word: &str) -> Duration {
    let start = Instant::now();
    terminal.enter(&format!("echo {word}=$((6 * 7))")).unwrap();
    answer(terminal, word, start)
}

fn answer(terminal: &Terminal, word: &str, since: Instant) -> Duration {
    let answer = format!("{word}=42");
    let seen = poll(SOON, || {
        terminal.screen().unwrap().contains(&answer).then_some(())
    });
    assert!(seen.is_some(), "{}", terminal.screen().unwrap());
    since.elapsed()
}

#[test]
fn a_way_that_is_back_is_used_soon() {
    let Some(scene) = Scene::new("access") else {
        return;
    };
    let terminal = scene.shell();
    scene
        .links
        .shape(Shape::lossy(Duration::from_millis(80), 0.0));
    println!("as usual, an echo takes {:?}", echo(&terminal, "usual"));

    // Nobody tells this machine.
    scene.links.cut();
    terminal.enter("echo silent=$((6 * 7))").unwrap();
    gone_for(Duration::from_secs(25));
    scene.links.mend();
    let took = answer(&terminal, "silent", Instant::now());
    println!("back without a word: an echo after {took:?}");

    // The cable is out, and in again.
    let wlan = scene.links.link(Interface::Wlan);
    wlan.take_down().unwrap();
    terminal.enter("echo cable=$((6 * 7))").unwrap();
    gone_for(Duration::from_secs(25));
    let start = Instant::now();
    wlan.bring_up().unwrap();
    println!(
        "the link is up again: an echo after {:?}",
        answer(&terminal, "cable", start)
    );

    // Another network, with other addresses.
    terminal.enter("echo here").unwrap();
    let start = Instant::now();
    wlan.take_down().unwrap();
    scene.links.link(Interface::Wwan).bring_up().unwrap();
    terminal.enter("echo roam=$((6 * 7))").unwrap();
    println!(
        "another network: an echo after {:?}",
        answer(&terminal, "roam", start)
    );
}

#[test]
fn a_machine_that_has_slept_goes_on_although_nobody_knows_it_any_more() {
    let Some(mut scene) = Scene::new("access") else {
        return;
    };
    let mut tsh = scene.operator.command().unwrap();
    tsh.args(["-d", "ssh", &format!("{}@{NODE}", me()), "cat"]);
    tsh.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = tsh.spawn().unwrap();
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"before\n").unwrap();
    let mut before = [0; 7];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut before)
        .unwrap();
    kill(pid, Signal::SIGSTOP).unwrap();
    gone_for(Duration::from_secs(8));
    scene.cluster.kill().unwrap();
    scene.cluster.resume().unwrap();
    scene.cluster.wait_online(NODE, true).unwrap();
    let start = Instant::now();
    kill(pid, Signal::SIGCONT).unwrap();
    input.write_all(b"after\n").unwrap();
    let mut after = [0; 6];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut after)
        .unwrap();
    println!("awake: an echo after {:?}", start.elapsed());
    assert_eq!(&after, b"after\n");
    drop(input);
    let done = end_of(child).unwrap();
    assert_eq!(done.code(), 0, "{done:?}");
    assert!(done.stderr.contains("this machine has slept"), "{done:?}");
}

#[test]
fn open_sessions_are_listed_for_their_user_alone() {
    let Some(scene) = Scene::new("access") else {
        return;
    };
    scene.cluster.add_user("eve", "access", &me()).unwrap();
    let eve = scene.cluster.logged_in("eve").unwrap();
    let sessions = |person: &Person| {
        let listed = person.tsh(&["sessions", "ls", "--format", "json"]);
        let listed = listed.unwrap().ok().unwrap();
        serde_json::from_str::<serde_json::Value>(&listed).unwrap()
    };
    let none = scene.operator.tsh(&["sessions"]).unwrap();
    assert_eq!(
        (none.code(), &*none.stderr),
        (0, "You have no sessions open.\n")
    );
    // Over TCP a program that is killed is missed at once.
    scene.links.block(Rule::protocol(Protocol::Udp));
    let terminal = scene.shell();
    let open = sessions(&scene.operator);
    assert_eq!(open.as_array().unwrap().len(), 1, "{open}");
    let first = open.get(0).unwrap();
    for (key, value) in [("node", NODE), ("login", &*me()), ("state", "attached")] {
        assert_eq!(first[key], value, "{open}");
    }
    assert_eq!(first["grace_s"], 600, "{open}");
    assert_eq!(sessions(&eve), serde_json::json!([]), "hers are none");

    // The program is gone without a word, and its session is kept.
    terminal.signal(Signal::SIGKILL).unwrap();
    let detached = poll(READY, || {
        let open = sessions(&scene.operator);
        (open.get(0)?["state"] == "detached").then_some(open)
    });
    let open = detached.unwrap();
    let left = open.get(0).unwrap()["left_s"].as_u64().unwrap();
    assert!((1..=600).contains(&left), "{open}");
    let shown = scene.operator.tsh(&["sessions"]).unwrap().ok().unwrap();
    println!("{shown}");
    assert!(shown.contains("detached"), "{shown}");
    assert_eq!(sessions(&eve), serde_json::json!([]), "hers are none");

    scene
        .cluster
        .tctl(&["lock", "user/eve"])
        .unwrap()
        .ok()
        .unwrap();
    eve.tsh(&["sessions"]).unwrap().refused(247, "").unwrap();
}
