//! What a cluster knows of sessions whose clients are away: over its own end, and when their people
//! may not come back.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout};

use hil_tests::apart::{ATTACHED, DETACHED, ENDED, STARTED};
use hil_tests::cluster::{Agent, Cluster, PASSWORD, Person, me, text};
use hil_tests::exchange::{LIMIT, piped};
use hil_tests::process::{end_of, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const NODE: &str = "gateway-1";

struct Scene {
    operator: Person,
    agent: Agent,
    cluster: Cluster,
    _dir: tempfile::TempDir,
}

/// Somebody's session, whose program gives lines back.
struct Session {
    tsh: Child,
    output: BufReader<ChildStdout>,
    /// Its program's folder in `/proc`.
    program: String,
}

impl Scene {
    fn new() -> Self {
        let (dir, cluster) = Cluster::temporary().unwrap();
        cluster
            .create("kind: role\nversion: v1\nmetadata: {name: plain}\nspec:\n  options: {resume_grace: 0s}\n")
            .unwrap();
        cluster.add_user("operator", "access", &me()).unwrap();
        let agent = cluster.agent(NODE, "", None).unwrap();
        let operator = cluster.logged_in("operator").unwrap();
        Self {
            operator,
            agent,
            cluster,
            _dir: dir,
        }
    }

    fn session(&self) -> Session {
        let mut tsh = self.operator.command().unwrap();
        let target = format!("{}@{NODE}", me());
        let mut tsh = piped(tsh.args(["ssh", &target, "echo $$; exec cat"])).unwrap();
        let mut output = BufReader::new(tsh.stdout.take().unwrap());
        let mut number = String::new();
        output.read_line(&mut number).unwrap();
        let program = format!("/proc/{}", number.trim());
        assert!(Path::new(&program).exists());
        Session {
            tsh,
            output,
            program,
        }
    }

    /// The cluster ends without a word, and is started anew.
    fn kill_cluster(&mut self) {
        self.cluster.kill().unwrap();
        self.cluster.resume().unwrap();
    }

    fn set_roles(&self, roles: &str) {
        let update = ["users", "update", "operator", "--set-roles", roles];
        self.cluster.tctl(&update).unwrap().ok().unwrap();
    }

    /// What the person sees of their only session.
    fn listed(&self) -> serde_json::Value {
        let listed = self.operator.tsh(&["sessions", "--format", "json"]);
        let listed = listed.unwrap().ok().unwrap();
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let listed = listed.as_array().unwrap().clone();
        assert_eq!(listed.len(), 1, "{listed:?}");
        listed.into_iter().next().unwrap()
    }

    /// The only session's story, once it has come to this event.
    fn story_until(&self, code: &str) -> Vec<String> {
        let event = poll(LIMIT, || self.cluster.audit(code).unwrap().pop());
        let Some(event) = event else {
            panic!("no {code}\n{}", self.agent.log());
        };
        self.cluster.story(&text(&event, "sid")).unwrap()
    }

    fn is_ended(&self, program: &str) {
        let gone = poll(LIMIT, || (!Path::new(program).exists()).then_some(()));
        assert!(gone.is_some(), "{program} goes on\n{}", self.agent.log());
    }
}

impl Session {
    fn goes_on(&mut self) {
        let input = self.tsh.stdin.as_mut().unwrap();
        input.write_all(b"still here\n").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, "still here\n");
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.tsh.id().try_into().unwrap()), signal).unwrap();
    }

    /// The code that tsh ends with by itself.
    fn code(mut self) -> i32 {
        let _stdin = self.tsh.stdin.take();
        end_of(self.tsh).unwrap().code()
    }
}

#[test]
fn a_cluster_that_follows_one_that_was_killed_knows_its_sessions() {
    let mut scene = Scene::new();
    let mut session = scene.session();
    let before = scene.listed();
    assert_eq!(text(&before, "state"), "attached");
    session.signal(Signal::SIGSTOP);
    scene.kill_cluster();
    let after = scene.listed();
    assert_eq!(text(&after, "state"), "detached");
    for key in ["id", "node", "login", "started"] {
        assert_eq!(text(&after, key), text(&before, key));
    }
    session.signal(Signal::SIGCONT);
    session.goes_on();
    assert_eq!(scene.story_until(ATTACHED), [STARTED, DETACHED, ATTACHED]);
    assert_eq!(text(&scene.listed(), "state"), "attached");
    // One that is stopped says itself what becomes of them.
    scene.cluster.stop().unwrap();
    scene.cluster.resume().unwrap();
    session.goes_on();
    drop(session.tsh.stdin.take());
    assert!(session.tsh.wait().unwrap().success());
    let whole = [STARTED, DETACHED, ATTACHED, DETACHED, ATTACHED, ENDED];
    assert_eq!(scene.story_until(ENDED), whole);
    let ended = scene.cluster.audit(ENDED).unwrap();
    assert_eq!(text(&ended[0], "session_start"), text(&before, "started"));
}

#[test]
fn sessions_that_ended_with_a_killed_cluster_are_over_to_the_next_one() {
    let mut scene = Scene::new();
    scene.set_roles("access,plain");
    let session = scene.session();
    assert!(scene.cluster.audit(ENDED).unwrap().is_empty());
    scene.kill_cluster();
    assert_eq!(scene.story_until(ENDED), [STARTED, ENDED]);
    assert_eq!(session.code(), 255);
    // That was all there is to say of it.
    scene.kill_cluster();
    assert_eq!(scene.story_until(ENDED), [STARTED, ENDED]);
}

#[test]
fn what_its_person_may_not_come_back_to_is_over() {
    for roles in ["plain", "access,plain"] {
        let mut scene = Scene::new();
        let mut session = scene.session();
        scene.set_roles(roles);
        // What is open stays so.
        session.goes_on();
        let program = session.program.clone();
        scene.kill_cluster();
        assert_eq!(session.code(), 251);
        scene.is_ended(&program);
        assert_eq!(scene.story_until(ENDED), [STARTED, DETACHED, ENDED]);
    }
}

#[test]
fn who_logs_in_again_goes_on_when_the_first_certificate_is_over() {
    let mut scene = Scene::new();
    let pin = scene.cluster.ca_pin().unwrap();
    let brief = ["--ca-pin", &pin, "--ttl", "1m"];
    let login = scene.operator.login_with(&scene.cluster, PASSWORD, &brief);
    login.unwrap().ok().unwrap();
    let mut session = scene.session();
    let over = || (scene.operator.tsh(&["ls"]).ok()?.code() == 249).then_some(());
    assert!(poll(LIMIT, over).is_some(), "the certificate is still good");
    // What is open stays so.
    session.goes_on();
    let login = scene.operator.login(&scene.cluster, PASSWORD);
    login.unwrap().ok().unwrap();
    scene.kill_cluster();
    session.goes_on();
}

#[test]
fn what_runs_on_a_node_ends_when_that_is_removed() {
    let mut scene = Scene::new();
    let (mut attached, mut left) = (scene.session(), scene.session());
    left.tsh.kill().unwrap();
    left.tsh.wait().unwrap();
    scene.kill_cluster();
    attached.goes_on();
    assert!(Path::new(&left.program).exists());
    let removed = scene.cluster.tctl(&["nodes", "rm", NODE]).unwrap();
    removed.ok().unwrap();
    for program in [&left.program, &attached.program] {
        scene.is_ended(program);
    }
    assert_ne!(attached.code(), 0);
}
