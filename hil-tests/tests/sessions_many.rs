//! What sessions that outlive their links take of an agent and a cluster, and give back.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what it measures"
)]

use std::collections::HashSet;
use std::fmt;
use std::io::{Read, Write};
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hil_tests::apart;
use hil_tests::apart::{ATTACHED, Apart, DETACHED, ENDED};
use hil_tests::cluster::{READY, me};
use hil_tests::exchange::{LIMIT, piped};
use hil_tests::net::emulator::{Emulator, Interface, Protocol, Rule};
use hil_tests::process::{end_of, poll};
use hil_tests::scene::{NODE, REACH_LIMIT, Scene};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const KIB: u64 = 1024;

/// What a process takes.
#[derive(Debug, Clone, Copy)]
struct Taken {
    /// Memory of its own, in KiB.
    memory: u64,
    children: usize,
    threads: usize,
    files: usize,
}

impl Taken {
    fn by(pid: u32) -> Self {
        let tasks = || std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let children = tasks().filter_map(|task| {
            let children = task.ok()?.path().join("children");
            Some(std::fs::read_to_string(children).ok()?.split(' ').count() - 1)
        });
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let anonymous = rollup.lines().find_map(|l| l.strip_prefix("Anonymous:"));
        let words = anonymous.unwrap().split_whitespace().next();
        Self {
            memory: words.unwrap().parse().unwrap(),
            children: children.sum(),
            threads: tasks().count(),
            files: std::fs::read_dir(format!("/proc/{pid}/fd"))
                .unwrap()
                .count(),
        }
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            memory,
            children,
            threads,
            files,
        } = self;
        write!(
            f,
            "{memory} KiB, {children} children, {threads} threads, {files} files"
        )
    }
}

/// Sessions of one round.
const ABANDONED: usize = 8;
const ROUNDS: usize = 6;
/// What each of them has in its buffers when nobody comes back, at least.
const BUFFERED_KIB: u64 = 512;

/// Starts sessions that send more than anybody reads, in both directions, and kills their clients
/// once nothing moves any more.
fn abandon(apart: &Apart) {
    let command = "echo here; exec cat /dev/zero";
    let mut clients: Vec<_> = (0..ABANDONED)
        .map(|_| {
            let mut tsh = apart.operator.command().unwrap();
            piped(tsh.args(["ssh", &format!("{}@{NODE}", me()), command])).unwrap()
        })
        .collect();
    for client in &mut clients {
        let mut input = client.stdin.take().unwrap();
        // Ends with its client.
        thread::spawn(move || while input.write_all(&[0; 4096]).is_ok() {});
        let mut here = [0; 5];
        let output = client.stdout.as_mut().unwrap();
        output.read_exact(&mut here).unwrap();
        assert_eq!(&here, b"here\n");
    }
    wait_for_rest(&apart.far);
    for client in &mut clients {
        client.kill().unwrap();
        client.wait().unwrap();
    }
}

/// Waits until nothing but signs of life moves.
fn wait_for_rest(links: &Emulator) {
    let bytes = || links.link(Interface::Wlan).counters().bytes();
    let (mut before, mut since) = (bytes(), Instant::now());
    let rests = poll(READY, || {
        if since.elapsed() < Duration::from_secs(1) {
            return None;
        }
        let now = bytes();
        let few = now - before < 64 * KIB;
        (before, since) = (now, Instant::now());
        few.then_some(())
    });
    assert!(rests.is_some(), "something still moves");
}

#[test]
fn sessions_that_nobody_comes_back_to_give_back_all_that_they_took() {
    let config = "[resume]\nmemory_kib = 16384\n";
    let apart = apart!("resume_grace: 3s", config);
    // Over TCP the cluster sees at once that a client is gone.
    apart.near.block(Rule::protocol(Protocol::Udp));
    let taken = || [apart.agent.pid(), apart.cluster.pid()].map(Taken::by);
    let before = taken();
    println!("before: agent {}; cluster {}", before[0], before[1]);
    let mut after = Vec::new();
    for round in 1..=ROUNDS {
        abandon(&apart);
        apart.wait_for(DETACHED, round * ABANDONED).unwrap();
        apart.wait_for(ENDED, round * ABANDONED).unwrap();
        apart.agent.wait_for_status(r#""sessions":0"#).unwrap();
        // What they took first may be kept for others: threads, files of the store.
        let first: &[Taken; 2] = after.first().unwrap_or(&before);
        let is_back = |now: &[Taken; 2]| {
            let mut both = now.iter().zip(first);
            let no_more = |(now, first): (&Taken, &Taken)| {
                now.children <= first.children && (round == 1 || now.files <= first.files)
            };
            both.all(no_more)
        };
        let mut now = taken();
        let back = poll(REACH_LIMIT, || {
            now = taken();
            is_back(&now).then_some(())
        });
        println!("round {round}: agent {}; cluster {}", now[0], now[1]);
        assert!(back.is_some(), "{now:?}");
        after.push(now);
    }
    // What was given back may stay with the allocator for the next round, so that a round that takes
    // more than those before leaves more; but only leaks make all but one leave more.
    let leaked = ABANDONED as u64 * BUFFERED_KIB;
    for number in 0..taken().len() {
        let memory = after.iter().map(|taken| taken[number].memory);
        let mut more: Vec<_> = memory.clone().zip(memory.skip(1)).map(more).collect();
        more.sort_unstable();
        println!("{more:?} KiB more after a round; buffers that leak would be {leaked} KiB");
        assert!(more[1] < leaked / 4, "{more:?}");
    }
}

/// How much more the second is.
fn more((before, after): (u64, u64)) -> u64 {
    after.saturating_sub(before)
}

const MANY: usize = 100;
/// Of each session's buffers, there and back, and what that makes.
const BUFFER_KIB: u64 = 16;
/// One person has half of it at most.
const CAP_KIB: u64 = 2 * 2 * BUFFER_KIB * MANY as u64;
/// What busy ones may borrow.
const SPARE_KIB: u64 = KIB;
/// What moves in each, there and back.
const EACH: usize = 512 << 10;
/// What the link itself holds of all streams, at most: 4 MiB that came, and 4 MiB that are sent.
const LINK_KIB: u64 = 8 * KIB;
/// What the SSH server of each session takes at most while it is busy, beside its buffers.
const BUSY_KIB: u64 = 128;

/// Bytes of one session, which no other has.
fn bytes_of(number: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number as u64);
    std::iter::repeat_with(|| random.u8(..))
        .take(EACH)
        .collect()
}

/// Sessions that give back what they are given.
fn many(scene: &Scene) -> Vec<Child> {
    let command = "echo here; exec cat";
    let started = (0..MANY).map(|_| {
        let mut tsh = scene.operator.command().unwrap();
        let mut tsh = piped(tsh.args(["ssh", &format!("{}@{NODE}", me()), command])).unwrap();
        let mut here = [0; 5];
        tsh.stdout.as_mut().unwrap().read_exact(&mut here).unwrap();
        assert_eq!(&here, b"here\n");
        tsh
    });
    started.collect()
}

/// A device that keeps as many.
fn roomy() -> Option<Scene> {
    let Ok(links) = Emulator::new(7) else {
        eprintln!("skipped: this machine does not let us emulate links");
        return None;
    };
    let config = format!(
        "keepalive = \"lan\"\n[resume]\nstreams = {MANY}\nstreams_per_user = {MANY}\n\
         buffer_kib = {BUFFER_KIB}\nmemory_kib = {CAP_KIB}\nspare_kib = {SPARE_KIB}\n"
    );
    let mut scene = Scene::behind(links, &config).unwrap();
    scene.start().unwrap();
    Some(scene)
}

/// How many sessions the person sees in this state.
fn listed(scene: &Scene, state: &str) -> usize {
    let listed = scene.operator.tsh(&["sessions", "--format", "json"]);
    let listed = listed.unwrap().ok().unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let listed = listed.as_array().unwrap();
    listed.iter().filter(|one| one["state"] == state).count()
}

#[test]
fn a_hundred_detached_sessions_of_one_node_wait_for_their_clients() {
    let Some(mut scene) = roomy() else { return };
    let mut sessions = many(&scene);
    let all = |sessions: &[Child], signal| {
        for tsh in sessions {
            kill(Pid::from_raw(tsh.id().try_into().unwrap()), signal).unwrap();
        }
    };
    all(&sessions, Signal::SIGSTOP);
    assert_eq!(listed(&scene, "attached"), MANY);
    scene.cluster.kill().unwrap();
    scene.cluster.resume().unwrap();
    scene.cluster.wait_online(NODE, true).unwrap();
    assert_eq!(listed(&scene, "detached"), MANY);
    let kept = format!(r#""sessions":{MANY}"#);
    scene.agent.wait_for_status(&kept).unwrap();
    println!("detached: {}", Taken::by(scene.agent.pid()));
    all(&sessions, Signal::SIGCONT);
    for tsh in &mut sessions {
        tsh.stdin.as_mut().unwrap().write_all(b"still\n").unwrap();
        let mut still = [0; 6];
        tsh.stdout.as_mut().unwrap().read_exact(&mut still).unwrap();
        assert_eq!(&still, b"still\n");
    }
    assert_eq!(listed(&scene, "attached"), MANY);
    for mut tsh in sessions {
        drop(tsh.stdin.take());
        assert!(tsh.wait().unwrap().success());
    }
    scene.agent.wait_for_status(r#""sessions":0"#).unwrap();
}

#[test]
fn a_hundred_sessions_of_one_node_go_on_after_a_cut_within_the_memory_they_may_take() {
    let Some(scene) = roomy() else { return };
    let taken = || Taken::by(scene.agent.pid());
    let idle = taken();
    let sessions = many(&scene);
    let open = taken();
    println!("idle: {idle}\n{MANY} sessions: {open}");

    let received = AtomicUsize::new(0);
    let (mut detached, start) = (open, Instant::now());
    let whole = thread::scope(|scope| {
        let moving: Vec<_> = sessions
            .into_iter()
            .enumerate()
            .map(|(number, tsh)| {
                let received = &received;
                scope.spawn(move || moves_whole(tsh, &bytes_of(number), received))
            })
            .collect();
        let some = || (received.load(Ordering::Relaxed) > MANY * EACH / 5).then_some(());
        assert!(poll(LIMIT, some).is_some(), "nothing moves");
        scene.links.cut();
        // Heard shortly before, it has two silences to show that it is away.
        let noticed = poll(LIMIT, || scene.cluster.wait_online(NODE, false).ok());
        let cut_after = received.load(Ordering::Relaxed);
        detached = taken();
        println!("cut after {cut_after} bytes: {detached}");
        // They do not go on where they were: QUIC does not pass any more.
        scene.links.block(Rule::protocol(Protocol::Udp));
        scene.links.mend();
        noticed.unwrap();
        let whole = moving.into_iter().map(|moving| moving.join().unwrap());
        whole.filter(|whole| *whole).count()
    });
    println!("all over after {:?}: {}", start.elapsed(), taken());
    assert_eq!(whole, MANY, "sessions with all of their bytes");
    let attached = scene.cluster.audit(ATTACHED).unwrap();
    let attached: HashSet<_> = attached
        .iter()
        .map(|event| event["sid"].to_string())
        .collect();
    assert_eq!(attached.len(), MANY, "sessions that have come back");
    let base = open.memory + MANY as u64 * BUSY_KIB + LINK_KIB;
    println!(
        "{} KiB more than when nothing moved, of which buffers may take {CAP_KIB} and \
         {SPARE_KIB} KiB",
        detached.memory.saturating_sub(open.memory)
    );
    assert!(
        detached.memory <= base + CAP_KIB + SPARE_KIB,
        "{detached}, base {base} KiB"
    );
    scene.agent.wait_for_status(r#""sessions":0"#).unwrap();
}

/// Moves bytes there and back; tells whether all have come, and the program has ended well.
fn moves_whole(mut tsh: Child, bytes: &[u8], received: &AtomicUsize) -> bool {
    let mut input = tsh.stdin.take().unwrap();
    let mut output = tsh.stdout.take().unwrap();
    let mut got: Vec<u8> = Vec::with_capacity(bytes.len());
    thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes));
        let mut buffer = [0; 1 << 14];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            got.extend(buffer.iter().take(count));
            received.fetch_add(count, Ordering::Relaxed);
        }
    });
    end_of(tsh).is_ok_and(|ended| ended.code() == 0) && got == bytes
}
