//! Sessions that outlive what carries them: their agents' links, their clients' connections, the
//! cluster.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it measures"
)]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use hil_tests::cluster::{Agent, Cluster, Person, me, text};
use hil_tests::exchange::{LIMIT, comes_back_whole, pattern, piped};
use hil_tests::net::proxy::Proxy;
use hil_tests::openssh::SshAgent;
use hil_tests::process::{end_of, poll, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const NODE: &str = "gateway-1";
/// What `tsh -d` says of a session that ends with its link.
const WILL_NOT: &str = "the session will not outlive its link";
/// How often the cluster is killed while a copy goes on.
const KILLS: u64 = 10;
const STARTED: &str = "T2000I";
const ENDED: &str = "T2004I";
const DETACHED: &str = "TS001I";
const ATTACHED: &str = "TS002I";

fn target() -> String {
    format!("{}@{NODE}", me())
}

/// A cluster, a node whose link can be cut, and somebody who uses both.
struct Scene {
    operator: Person,
    agent: Agent,
    cluster: Cluster,
    /// The agent's link goes through it.
    wire: Proxy,
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self::with("access", "")
    }

    fn with(roles: &str, config: &str) -> Self {
        let (dir, cluster) = Cluster::temporary().unwrap();
        let wire = Proxy::start("127.0.0.1:0").unwrap();
        for (name, options) in [("plain", "resume_grace: 0s"), ("brief", "resume_grace: 3s")] {
            let role = format!(
                "kind: role\nversion: v1\nmetadata: {{name: {name}}}\nspec:\n  options: {{{options}}}\n"
            );
            cluster.create(&role).unwrap();
        }
        cluster.add_user("operator", roles, &me()).unwrap();
        let mut agent = cluster.joined_agent(NODE, "", None).unwrap();
        let through = format!("transport = \"ssh\"\nproxy = \"http://{}\"\n", wire.addr());
        agent.configure(&format!("{through}{config}")).unwrap();
        agent.start().unwrap();
        cluster.wait_online(NODE, true).unwrap();
        let operator = cluster.logged_in("operator").unwrap();
        Self {
            operator,
            agent,
            cluster,
            wire,
            dir,
        }
    }

    fn tsh(&self, args: &[&str]) -> Command {
        let mut tsh = self.operator.command().unwrap();
        tsh.args(args);
        tsh
    }

    /// A session that runs a command.
    fn session(&self, command: &str) -> Child {
        piped(&mut self.tsh(&["ssh", &target(), command])).unwrap()
    }

    /// A session that gives back what it is given, once it says so.
    fn echo(&self) -> Child {
        let mut tsh = self.session("echo here; exec cat");
        expect(&mut tsh, "here\n");
        tsh
    }

    /// Makes the cluster start anew, and waits for the node.
    fn restart_cluster(&mut self) {
        self.cluster.kill().unwrap();
        self.cluster.resume().unwrap();
    }

    /// The ids of the sessions that these events are about.
    fn sessions(&self, code: &str) -> Vec<String> {
        let events = self.cluster.audit(code).unwrap();
        events.iter().map(|event| text(event, "sid")).collect()
    }

    fn wait_for_event(&self, code: &str) {
        let there = poll(LIMIT, || (!self.sessions(code).is_empty()).then_some(()));
        assert!(there.is_some(), "no {code}\n{}", self.agent.log());
    }
}

fn expect(tsh: &mut Child, text: &str) {
    let mut got = vec![0; text.len()];
    tsh.stdout.as_mut().unwrap().read_exact(&mut got).unwrap();
    assert_eq!(String::from_utf8_lossy(&got), text);
}

fn first_line(tsh: &mut Child) -> String {
    let mut line = String::new();
    let mut byte = [0];
    while byte != [b'\n'] {
        tsh.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        line.push(char::from(byte[0]));
    }
    line.trim().to_owned()
}

fn say(tsh: &mut Child, text: &str) {
    tsh.stdin
        .as_mut()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

fn goes_on(tsh: &mut Child, text: &str) {
    say(tsh, text);
    expect(tsh, text);
}

/// Ends the input, and with it the session.
fn end(mut tsh: Child) {
    drop(tsh.stdin.take());
    end_of(tsh).unwrap().ok().unwrap();
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

#[test]
fn a_copy_goes_on_over_restarts_of_the_cluster() {
    let mut scene = Scene::new();
    let copy = scene.session("cat");
    comes_back_whole(copy, &pattern(32_000_000), 4, |part| {
        if part % 2 == 0 {
            scene.cluster.stop().unwrap();
        } else {
            scene.cluster.kill().unwrap();
        }
        scene.cluster.resume().unwrap();
    })
    .unwrap();
    scene.wait_for_event(ENDED);
    let started = scene.sessions(STARTED);
    assert_eq!(started.len(), 1, "one session");
    let attached = scene.sessions(ATTACHED);
    assert!(!attached.is_empty());
    assert!(
        attached.iter().all(|sid| *sid == started[0]),
        "{attached:?}"
    );
    assert_eq!(scene.sessions(ENDED), started);
}

#[test]
fn a_copy_goes_on_although_the_cluster_is_killed_again_and_again() {
    let (_dir, mut cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    // Both ends over QUIC, where nobody is told that the cluster is gone.
    let agent = cluster.agent(NODE, "", None).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let mut tsh = operator.command().unwrap();
    let copy = piped(tsh.args(["ssh", &target(), "cat"])).unwrap();
    let start = Instant::now();
    comes_back_whole(copy, &pattern(64_000_000), KILLS, |_| {
        cluster.kill().unwrap();
        cluster.resume().unwrap();
    })
    .unwrap();
    let took = start.elapsed();
    let events = |code| cluster.audit(code).unwrap();
    let ended = poll(LIMIT, || (!events(ENDED).is_empty()).then_some(()));
    assert!(ended.is_some(), "{}", agent.log());
    let attached = events(ATTACHED);
    println!(
        "killed {KILLS} times, {} times attached again, {took:?}",
        attached.len()
    );
    assert!(attached.len() as u64 >= KILLS, "{attached:?}");
    let started = events(STARTED);
    assert_eq!(started.len(), 1, "one session");
    let same = |event: &serde_json::Value| event["sid"] == started[0]["sid"];
    assert!(attached.iter().chain(&events(ENDED)).all(same));
}

#[test]
fn a_session_is_one_to_the_audit_log_however_often_its_link_breaks() {
    let scene = Scene::new();
    let mut tsh = scene.echo();
    for times in 1..=2 {
        scene.wire.hang_up();
        goes_on(&mut tsh, "still here\n");
        let all = |code| {
            poll(LIMIT, || {
                (scene.sessions(code).len() >= times).then_some(())
            })
        };
        assert!(all(ATTACHED).is_some());
        assert!(all(DETACHED).is_some());
    }
    end(tsh);
    scene.wait_for_event(ENDED);
    let started = scene.sessions(STARTED);
    assert_eq!(started.len(), 1);
    assert_eq!(scene.sessions(ENDED), started);
    for code in [DETACHED, ATTACHED] {
        let sessions = scene.sessions(code);
        assert!(
            sessions.iter().all(|sid| *sid == started[0]),
            "{sessions:?}"
        );
    }
    // Nobody attaches to what is attached.
    let story = scene.cluster.story(&started[0]).unwrap();
    let moves = story
        .iter()
        .filter(|code| [DETACHED, ATTACHED].contains(&code.as_str()));
    let moves: Vec<_> = moves.collect();
    assert!(moves.len() >= 4, "{story:?}");
    assert!(
        moves
            .chunks_exact(2)
            .all(|pair| pair == [DETACHED, ATTACHED]),
        "{story:?}"
    );
}

#[test]
fn a_session_ends_for_good_when_its_user_is_locked() {
    let scene = Scene::new();
    let mut tsh = scene.echo();
    scene.agent.wait_for_status(r#""sessions":1"#).unwrap();
    let locked = scene.cluster.tctl(&["lock", "user/operator"]).unwrap();
    locked.ok().unwrap();
    let ended = poll(LIMIT, || tsh.try_wait().unwrap());
    assert!(!ended.unwrap().success());
    scene.agent.wait_for_status(r#""sessions":0"#).unwrap();
    scene.wait_for_event(ENDED);
}

/// The number of a program on the node that goes on after its client has vanished.
fn left_behind(scene: &Scene) -> String {
    let mut tsh = scene.session("echo $$; exec cat");
    let process = format!("/proc/{}", first_line(&mut tsh));
    scene.agent.wait_for_status(r#""sessions":1"#).unwrap();
    tsh.kill().unwrap();
    tsh.wait().unwrap();
    process
}

#[track_caller]
fn is_ended(scene: &Scene, process: &str) {
    let gone = poll(LIMIT, || (!Path::new(process).exists()).then_some(()));
    assert!(gone.is_some(), "{process} goes on\n{}", scene.agent.log());
    scene.agent.wait_for_status(r#""sessions":0"#).unwrap();
}

#[test]
fn a_lock_ends_what_a_cluster_that_was_started_anew_knows_nothing_of() {
    let mut scene = Scene::new();
    let process = left_behind(&scene);
    scene.restart_cluster();
    scene.cluster.wait_online(NODE, true).unwrap();
    assert!(Path::new(&process).exists());
    let locked = scene.cluster.tctl(&["lock", "user/operator"]).unwrap();
    locked.ok().unwrap();
    is_ended(&scene, &process);
}

#[test]
fn an_agent_that_stops_says_which_sessions_are_over_that_nobody_was_attached_to() {
    let mut scene = Scene::new();
    let process = left_behind(&scene);
    let before = scene.wire.connected();
    scene.wire.hang_up();
    scene.wait_for_event(DETACHED);
    let back = poll(LIMIT, || (scene.wire.connected() > before).then_some(()));
    assert!(back.is_some(), "{}", scene.agent.log());
    scene.agent.wait_for_status(r#""state":"up""#).unwrap();
    assert_eq!(scene.sessions(ENDED).len(), 0);
    scene.agent.stop().unwrap();
    let gone = poll(LIMIT, || (!Path::new(&process).exists()).then_some(()));
    assert!(gone.is_some(), "{process} goes on\n{}", scene.agent.log());
    scene.wait_for_event(ENDED);
    assert_eq!(scene.sessions(ENDED), scene.sessions(STARTED));
}

#[test]
fn who_is_removed_while_a_node_is_away_loses_what_it_keeps_when_it_is_back() {
    let mut scene = Scene::new();
    let process = left_behind(&scene);
    // In a process of its own.
    let restarted = scene.agent.run(&["restart"], b"").unwrap();
    assert!(restarted.stdout.contains("1 session kept"), "{restarted:?}");
    scene.agent.signal(Signal::SIGSTOP).unwrap();
    scene.restart_cluster();
    let removed = scene.cluster.tctl(&["users", "rm", "operator"]).unwrap();
    removed.ok().unwrap();
    assert!(Path::new(&process).exists());
    scene.agent.signal(Signal::SIGCONT).unwrap();
    is_ended(&scene, &process);
}

#[test]
fn a_session_goes_on_when_another_node_has_its_name() {
    let mut scene = Scene::new();
    let mut tsh = scene.echo();
    let token = scene
        .cluster
        .tctl_json(&["tokens", "add", "--type", "node"]);
    let token = token.unwrap();
    let secret = |key| token[key].as_str().unwrap();
    let spare = scene.cluster.device("spare", None).unwrap();
    let named = ["--node-name", NODE];
    let joined = spare.join(&scene.cluster, secret("token"), secret("ca_pin"), &named);
    joined.unwrap().ok().unwrap();
    let anew = end_of(scene.session("true")).unwrap();
    assert_eq!(anew.code(), 253, "{anew:?}");
    // Nor does a cluster that knows nothing of the session take one for the other.
    scene.restart_cluster();
    goes_on(&mut tsh, "still here\n");
    end(tsh);
}

#[test]
fn a_role_may_end_sessions_with_their_links() {
    let mut scene = Scene::with("access,plain", "");
    let mut tsh = scene.echo();
    scene.restart_cluster();
    let ended = poll(LIMIT, || tsh.try_wait().unwrap());
    assert_eq!(ended.unwrap().code(), Some(255));
}

#[test]
fn a_client_that_was_stopped_for_a_while_goes_on() {
    let mut scene = Scene::new();
    let mut tsh = scene.echo();
    signal(&tsh, Signal::SIGSTOP);
    scene.restart_cluster();
    scene.cluster.wait_online(NODE, true).unwrap();
    // Long enough for it to notice, once it can.
    let asleep = Instant::now();
    poll(Duration::from_secs(6), || None::<()>);
    assert!(asleep.elapsed() >= Duration::from_secs(6));
    signal(&tsh, Signal::SIGCONT);
    goes_on(&mut tsh, "awake again\n");
    end(tsh);
    scene.agent.wait_for_status(r#""sessions":0"#).unwrap();
}

#[test]
fn what_nobody_comes_back_to_is_given_back_after_the_grace_time() {
    let scene = Scene::with("access,brief", "[resume]\nstreams = 1\n");
    let mut tsh = scene.session("echo $$; exec cat");
    let process = format!("/proc/{}", first_line(&mut tsh));
    assert!(Path::new(&process).exists());
    scene.agent.wait_for_status(r#""sessions":1"#).unwrap();
    // It says no word, and neither does its link.
    tsh.kill().unwrap();
    tsh.wait().unwrap();
    scene.wire.hang_up();
    scene.wait_for_event(DETACHED);
    scene.agent.wait_for_status(r#""sessions":0"#).unwrap();
    scene.wait_for_event(ENDED);
    let gone = poll(LIMIT, || (!Path::new(&process).exists()).then_some(()));
    assert!(gone.is_some(), "the program on the node goes on");
    // Its place is free again.
    let next = run(&mut scene.tsh(&["-d", "ssh", &target(), "true"]), b"").unwrap();
    assert_eq!(next.code(), 0, "{next:?}");
    assert!(!next.stderr.contains(WILL_NOT), "{}", next.stderr);
}

#[test]
fn a_session_that_the_node_cannot_keep_is_plain_and_says_why() {
    let mut scene = Scene::with("access", "[resume]\nstreams = 1\n");
    let mut kept = scene.echo();
    let told = run(&mut scene.tsh(&["-d", "ssh", &target(), "true"]), b"").unwrap();
    assert_eq!(told.code(), 0, "{told:?}");
    let why = "This node keeps as many sessions as it may over a loss of its link.";
    let said = format!("{WILL_NOT}: {why}");
    assert!(told.stderr.contains(&said), "{}", told.stderr);
    let mut plain = scene.echo();
    scene.restart_cluster();
    goes_on(&mut kept, "kept\n");
    let ended = poll(LIMIT, || plain.try_wait().unwrap());
    assert_eq!(ended.unwrap().code(), Some(255));
    end(kept);
}

/// OpenSSH's jump, with nothing of ours but the certificate in the ssh-agent.
fn jump(scene: &Scene, command: &str) -> (SshAgent, Child) {
    let ssh_agent = SshAgent::start(scene.dir.path()).unwrap();
    let mut operator = scene.cluster.person("operator");
    operator.home = scene.dir.path().join("home-jumper");
    operator.use_ssh_agent(&ssh_agent);
    let login = operator.login(&scene.cluster, hil_tests::cluster::PASSWORD);
    login.unwrap().ok().unwrap();
    let mut ssh = operator.program(Path::new("ssh"));
    let config = operator.home.join("plain");
    let lines =
        "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\nBatchMode yes\n";
    std::fs::write(&config, lines).unwrap();
    let jump = format!("operator@{}", scene.cluster.addr());
    ssh.arg("-F")
        .arg(&config)
        .args(["-J", &jump, &target(), command]);
    (ssh_agent, piped(&mut ssh).unwrap())
}

#[test]
fn a_plain_jump_goes_on_when_the_agents_link_breaks() {
    let scene = Scene::new();
    let (_ssh_agent, copy) = jump(&scene, "cat");
    let wire = &scene.wire;
    comes_back_whole(copy, &pattern(16_000_000), 4, |_| {
        let connected = wire.connected();
        wire.hang_up();
        let back = poll(LIMIT, || (wire.connected() > connected).then_some(()));
        assert!(back.is_some(), "{}", scene.agent.log());
    })
    .unwrap();
    scene.wait_for_event(ENDED);
    assert_eq!(scene.sessions(STARTED), scene.sessions(ENDED));
    for code in [DETACHED, ATTACHED] {
        let events = scene.sessions(code);
        assert!(!events.is_empty(), "{code}");
        assert!(events.iter().all(|sid| *sid == scene.sessions(STARTED)[0]));
    }
    scene.agent.wait_for_status(r#""sessions":0"#).unwrap();
}

#[test]
fn a_plain_jump_ends_with_its_program_when_its_person_may_not_go_on() {
    let scene = Scene::new();
    let (_ssh_agent, mut ssh) = jump(&scene, "echo $$; exec cat");
    let process = format!("/proc/{}", first_line(&mut ssh));
    let update = ["users", "update", "operator", "--set-roles", "brief"];
    scene.cluster.tctl(&update).unwrap().ok().unwrap();
    goes_on(&mut ssh, "still here\n");
    scene.wire.hang_up();
    is_ended(&scene, &process);
    let ended = poll(LIMIT, || ssh.try_wait().unwrap());
    assert!(!ended.unwrap().success());
    scene.wait_for_event(ENDED);
}
