//! What becomes of sessions when the agent is replaced, or its process ends: those that outlive links
//! go on over a restart that is asked for. None goes on for nobody, and whoever was in one learns why
//! it has ended.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use hil_tests::cluster::{Agent, Cluster, Person, me};
use hil_tests::process::{end_of, poll, run};
use hil_tests::terminal::Terminal;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
    scene_with(|_| Ok(()))
}

/// With a device that something is done to before its agent starts.
fn scene_with<T>(prepare: impl FnOnce(&mut Agent) -> anyhow::Result<T>) -> Scene {
    let (dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let mut agent = cluster.joined_agent(NODE, "", None).unwrap();
    prepare(&mut agent).unwrap();
    agent.start().unwrap();
    cluster.wait_online(NODE, true).unwrap();
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
        let names = children(&scene.agent).into_iter();
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

/// What the children of an agent are called; those that nobody has reaped have no name.
fn children(agent: &Agent) -> Vec<String> {
    let pid = agent.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap();
    let names = children
        .split_whitespace()
        .filter_map(|child| std::fs::read_to_string(format!("/proc/{child}/cmdline")).ok());
    names.collect()
}

/// A session that answers what it is sent, with a number of its own.
struct Talk {
    child: Child,
    output: BufReader<ChildStdout>,
    shell: u32,
}

impl Talk {
    const SCRIPT: &str = "echo $$; while read word; do echo $word of $$; done; exit 5";

    fn start(command: Command) -> Self {
        let (child, output, pids) = piped(command);
        Self {
            child,
            output,
            shell: pids[0],
        }
    }

    #[track_caller]
    fn says(&mut self, word: &str) {
        let mut input = self.child.stdin.as_ref().unwrap();
        writeln!(input, "{word}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{word} of {}\n", self.shell));
    }

    /// Ends it by its own exit.
    #[track_caller]
    fn ends(mut self) {
        drop(self.child.stdin.take());
        let ended = end_of(self.child).unwrap();
        assert_eq!(ended.code(), 5, "{ended:?}");
    }
}

fn talk(scene: &Scene) -> Talk {
    Talk::start(ssh(&scene.operator, Talk::SCRIPT))
}

#[track_caller]
fn restart(scene: &Scene, says: &str) {
    let before = scene.agent.pid();
    let done = scene.agent.run(&["restart"], b"").unwrap();
    assert_eq!(done.code(), 0, "{done:?}\n{}", scene.agent.log());
    assert!(
        done.stdout.contains(says),
        "{done:?}\n{}",
        scene.agent.log()
    );
    assert_eq!(scene.agent.pid(), before);
}

/// Processes that keep sessions for the agent.
fn keepers(agent: &Agent) -> Vec<u32> {
    let status = agent.wait_for_status(r#""running":true"#).unwrap();
    let keepers = status.split_once(r#""keepers":["#).unwrap().1;
    let keepers = keepers.split_once(']').unwrap().0;
    let pids = keepers.split(r#""pid":"#).skip(1);
    pids.map(|rest| rest.split(',').next().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn sessions_go_on_in_their_shells_when_another_program_takes_over() {
    let mut scene = scene_with(Agent::install);
    let terminal = Terminal::open(&scene.operator, &format!("tsh ssh {}", target())).unwrap();
    terminal.enter("kept=$((6 * 7)); echo here=$kept").unwrap();
    terminal.wait_for("here=42").unwrap();
    let mut by_tsh = talk(&scene);
    let mut ssh = scene.operator.ssh().unwrap();
    ssh.args([&format!("{}.lab", target()), Talk::SCRIPT]);
    let mut by_ssh = Talk::start(ssh);
    by_tsh.says("one");
    by_ssh.says("one");

    let program = scene.agent.install().unwrap();
    restart(&scene, "3 sessions kept, 0 ended");
    let number = |path: &str| std::fs::metadata(path).unwrap().ino();
    let runs = format!("/proc/{}/exe", scene.agent.pid());
    assert_eq!(number(&runs), number(program.to_str().unwrap()));
    by_tsh.says("two");
    by_ssh.says("two");
    terminal.enter("echo still=$kept").unwrap();
    terminal.wait_for("still=42").unwrap();
    // New ones are the new agent's.
    let mut newer = talk(&scene);
    newer.says("one");
    assert_eq!(keepers(&scene.agent).len(), 1);

    // How they end comes through, too.
    by_tsh.ends();
    by_ssh.ends();
    terminal.enter("exit 7").unwrap();
    terminal.wait_for("ended with 7").unwrap();
    scene.agent.wait_for_status(r#""sessions":1,"#).unwrap();
    newer.ends();
    let ends = || scene.cluster.audit("T2004I").unwrap().len();
    assert!(
        poll(LIMIT, || (ends() == 4).then_some(())).is_some(),
        "{} ends",
        ends()
    );
    let gone = || keepers(&scene.agent).is_empty().then_some(());
    assert!(poll(LIMIT, gone).is_some(), "{}", scene.agent.log());
}

#[test]
fn a_copy_is_whole_after_restarts_in_its_middle() {
    let scene = scene();
    let sent: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_be_bytes).collect();
    let (mut tsh, mut output, _) = piped(ssh(&scene.operator, "echo 1; exec cat"));
    let mut input = tsh.stdin.take().unwrap();
    let mut got = vec![0; sent.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| input.write_all(&sent).map(|()| drop(input)).unwrap());
        for (n, part) in got.chunks_mut(sent.len() / 4).enumerate() {
            if n > 0 {
                restart(&scene, "1 session kept");
            }
            output.read_exact(part).unwrap();
        }
    });
    assert!(got == sent);
    assert!(end_of(tsh).unwrap().status.success());
}

#[test]
fn restarts_by_signal_leave_the_newest_two_processes_with_their_sessions() {
    let scene = scene();
    let mut talks = Vec::new();
    for n in 1..=3 {
        let mut talk = talk(&scene);
        talk.says("before");
        talks.push(talk);
        scene.agent.signal(Signal::SIGHUP).unwrap();
        let restarted = || (keepers(&scene.agent).len() == n.min(2)).then_some(());
        let log = scene.agent.log();
        assert!(poll(LIMIT, restarted).is_some(), "{n}\n{log}");
        scene.cluster.wait_online(NODE, true).unwrap();
        if n < 3 {
            talks.iter_mut().for_each(|talk| talk.says("after"));
        }
    }
    let oldest = talks.remove(0);
    let ended = end_of(oldest.child).unwrap();
    // By the session itself, if it still could.
    let said = ["The agent of", "the agent stops"];
    let said = said.iter().any(|said| ended.stderr.contains(said));
    assert!(said && !ended.status.success(), "{ended:?}");
    all_end(&[oldest.shell]);
    for mut talk in talks {
        talk.says("last");
        talk.ends();
    }
}

#[test]
fn a_program_that_would_start_but_does_not_take_over_does_not_end_the_agent() {
    let mut program = None;
    let mut scene = scene_with(|agent| agent.install().map(|path| program = Some(path)));
    let program = program.unwrap();
    let mut talk = talk(&scene);
    let real = program.with_extension("real");
    std::fs::rename(&program, &real).unwrap();
    // As a program of before: all is fine, as far as it looks.
    let old = format!(
        "#!/bin/sh\nunset TETHER_HANDOVER\nexec '{}' \"$@\"\n",
        real.display()
    );
    std::fs::write(&program, old).unwrap();
    let mode = std::fs::metadata(&real).unwrap().permissions();
    std::fs::set_permissions(&program, mode).unwrap();
    let before = scene.agent.pid();
    let refused = scene.agent.run(&["restart"], b"").unwrap();
    refused.refused(1, "stop the agent and start it").unwrap();
    talk.says("undisturbed");
    std::fs::rename(&real, &program).unwrap();
    restart(&scene, "1 session kept");
    talk.says("moved");
    assert_eq!(scene.agent.pid(), before);
    scene.agent.stop().unwrap();
    end_of(talk.child).unwrap();
}

#[test]
fn restarts_leave_nothing_behind_that_nobody_reaps() {
    // One runs at any time.
    let label =
        "[[command_labels]]\nname = \"slow\"\ncommand = [\"sleep\", \"1000\"]\nperiod = \"5s\"\n";
    let scene = scene_with(|agent| agent.configure(label));
    // Without sessions, the older process is gone before or after the new program looks.
    for _ in 0..3 {
        restart(&scene, "0 sessions kept");
    }
    let mut kept = talk(&scene);
    restart(&scene, "1 session kept");
    kept.says("here");
    let [keeper] = keepers(&scene.agent)[..] else {
        panic!("no keeper");
    };
    kill(Pid::from_raw(keeper.cast_signed()), Signal::SIGKILL).unwrap();
    all_end(&[kept.shell]);
    end_of(kept.child).unwrap();
    let others = || {
        let mut children = children(&scene.agent);
        children.retain(|name| !name.starts_with("sleep"));
        children
    };
    let reaped = poll(LIMIT, || others().is_empty().then_some(()));
    let log = scene.agent.log();
    assert!(reaped.is_some(), "{:?}\n{log}", others());
    assert!(!log.contains("is lost"), "{log}");
}

#[test]
fn an_agent_that_would_not_come_back_stays_and_says_why() {
    let mut scene = scene();
    let mut talk = talk(&scene);
    let config = std::fs::read_to_string(scene.agent.config_file()).unwrap();
    scene.agent.configure("keepalve = \"lan\"\n").unwrap();
    let refused = scene
        .agent
        .run(&["restart", "--config", "/dev/null"], b"")
        .unwrap();
    refused.refused(1, "goes on as it was").unwrap();
    refused.refused(1, "keepalve").unwrap();
    talk.says("undisturbed");
    scene.agent.configure(&config).unwrap();
    restart(&scene, "1 session kept");
    talk.says("moved");
    scene.agent.stop().unwrap();
    all_end(&[talk.shell]);
    let nobody = scene.agent.run(&["restart"], b"").unwrap();
    nobody.refused(1, "tether-agent start").unwrap();
}

#[test]
fn what_a_keeper_keeps_ends_with_it_with_the_agent_and_with_its_users_right() {
    let mut scene = scene();
    let ends = |talk: Talk, sentence: &str| {
        all_end(&[talk.shell]);
        let ended = end_of(talk.child).unwrap();
        assert!(ended.stderr.contains(sentence), "{ended:?}");
    };
    let first = talk(&scene);
    restart(&scene, "1 session kept");
    let [keeper] = keepers(&scene.agent)[..] else {
        panic!("no keeper");
    };
    kill(Pid::from_raw(keeper.cast_signed()), Signal::SIGKILL).unwrap();
    ends(first, "was restarted");
    let done = run(&mut ssh(&scene.operator, "true"), b"").unwrap();
    assert_eq!(done.code(), 0, "{done:?}");

    let second = talk(&scene);
    restart(&scene, "1 session kept");
    let [keeper] = keepers(&scene.agent)[..] else {
        panic!("no keeper");
    };
    scene.agent.kill().unwrap();
    all_end(&[second.shell, keeper]);
    let log = scene.agent.log();
    assert!(!log.contains("ignored its hang-up"), "{log}");
    scene.agent.start().unwrap();
    ends(second, "was restarted");

    scene.cluster.wait_online(NODE, true).unwrap();
    let mut third = talk(&scene);
    restart(&scene, "1 session kept");
    third.says("here");
    scene
        .cluster
        .tctl(&["lock", "user/operator"])
        .unwrap()
        .ok()
        .unwrap();
    ends(third, "");
}
