//! What becomes of sessions when the agent's process ends: none goes on for nobody, and whoever was
//! in one learns why it has ended.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use hil_tests::cluster::{Agent, Cluster, Person, me};
use hil_tests::process::{end_of, poll, run};
use hil_tests::terminal::Terminal;

/// Whatever the machine is busy with.
const LIMIT: Duration = Duration::from_secs(120);
const NODE: &str = "gateway-1";
/// Exit code of `tsh` for a session that its node's agent has not kept.
const SESSION_GONE: i32 = 243;

struct Scene {
    operator: Person,
    agent: Agent,
    cluster: Cluster,
    _dir: tempfile::TempDir,
}

fn scene() -> Scene {
    let (dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let agent = cluster.agent(NODE, "", None).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    Scene {
        operator,
        agent,
        cluster,
        _dir: dir,
    }
}

fn target() -> String {
    format!("{}@{NODE}", me())
}

/// Runs a command on the node; gives the numbers that its first line has.
fn piped(mut command: Command) -> (Child, BufReader<ChildStdout>, Vec<u32>) {
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let numbers = line.split_whitespace().map(|word| word.parse().unwrap());
    let numbers = numbers.collect();
    (child, output, numbers)
}

fn ssh(operator: &Person, command: &str) -> Command {
    let mut tsh = operator.command().unwrap();
    tsh.args(["ssh", &target(), command]);
    tsh
}

/// Whether a process is there; what has ended and is not reaped is not.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some(Some('Z' | 'X')))
}

#[track_caller]
fn all_end(pids: &[u32]) {
    let ended = poll(LIMIT, || pids.iter().all(|pid| !runs(*pid)).then_some(()));
    let left: Vec<_> = pids.iter().filter(|pid| runs(**pid)).collect();
    assert!(ended.is_some(), "{left:?} of {pids:?} go on");
}

#[test]
fn no_program_outlives_an_agent_that_is_killed_and_its_user_learns_why() {
    let mut scene = scene();
    // A shell that waits for its child: hanging up the shell alone would leave the child.
    let (tsh, _output, pids) = piped(ssh(&scene.operator, "sleep 1000 & echo $$ $!; wait"));
    // One that does not listen.
    let (deaf, _output, more) = piped(ssh(
        &scene.operator,
        "trap '' HUP; echo $$; while :; do sleep 0.1; done",
    ));
    let terminal = Terminal::open(&scene.operator, &format!("tsh ssh {}", target())).unwrap();
    terminal.enter("echo pid=$$.").unwrap();
    let shell = poll(LIMIT, || {
        let screen = terminal.screen().ok()?;
        let (_, rest) = screen.split_once("pid=").filter(|_| screen.contains("."))?;
        let mut pids = rest
            .split("pid=")
            .filter_map(|rest| rest.split('.').next()?.parse().ok());
        pids.next()
    });
    let pids = [pids, more, vec![shell.unwrap()]].concat();
    assert_eq!(pids.len(), 4);
    assert!(pids.iter().all(|pid| runs(*pid)), "{pids:?}");
    scene.agent.kill().unwrap();
    all_end(&pids);

    scene.agent.start().unwrap();
    for tsh in [tsh, deaf] {
        let ended = end_of(tsh).unwrap();
        ended.refused(SESSION_GONE, "was restarted").unwrap();
    }
    terminal.wait_for("was restarted").unwrap();
    terminal
        .wait_for(&format!("ended with {SESSION_GONE}"))
        .unwrap();
    // The cluster knows as well.
    let ends = || scene.cluster.audit("T2004I").unwrap().len();
    assert!(
        poll(LIMIT, || (ends() == 3).then_some(())).is_some(),
        "{} ends",
        ends()
    );
}

#[test]
fn who_uses_plain_ssh_learns_it_from_its_proxy_command() {
    let mut scene = scene();
    let mut ssh = scene.operator.ssh().unwrap();
    ssh.args([&format!("{}.lab", target()), "echo $$; exec sleep 1000"]);
    let (client, _output, pids) = piped(ssh);
    scene.agent.kill().unwrap();
    all_end(&pids);
    scene.agent.start().unwrap();
    let ended = end_of(client).unwrap();
    ended.refused(255, "was restarted").unwrap();
}

#[test]
fn the_guard_of_programs_goes_with_the_last_of_them() {
    let scene = scene();
    let guards = || {
        let pid = scene.agent.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap();
        let names = children
            .split_whitespace()
            .filter_map(|child| std::fs::read_to_string(format!("/proc/{child}/cmdline")).ok());
        names
            .filter(|name| name.starts_with("tether-guard"))
            .count()
    };
    assert_eq!(guards(), 0);
    let (mut tsh, mut output, _) = piped(ssh(&scene.operator, "echo 1; cat"));
    assert_eq!(guards(), 1);
    drop(tsh.stdin.take());
    output.read_to_string(&mut String::new()).unwrap();
    assert!(end_of(tsh).unwrap().status.success());
    assert!(poll(LIMIT, || (guards() == 0).then_some(())).is_some());
    // Another session, another guard.
    let done = run(&mut ssh(&scene.operator, "true"), b"").unwrap();
    assert_eq!(done.code(), 0, "{done:?}");
}
