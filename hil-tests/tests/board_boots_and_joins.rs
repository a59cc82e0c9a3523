//! A board boots, joins its cluster with a token, and answers.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hil_tests::cluster::READY;
use hil_tests::device::{BOOT_LIMIT, READY as BOOTED};
use hil_tests::lab::{Lab, REACH_LIMIT};
use hil_tests::process::poll;
use hil_tests::terminal::Terminal;
use hil_tests::trials::{self, Boards, Scenario, say};

fn main() -> ExitCode {
    trials::main(&[Scenario {
        name: "a_board_boots_joins_and_answers",
        boards: Boards::Every,
        run: a_board_boots_joins_and_answers,
    }])
}

fn a_board_boots_joins_and_answers(lab: &mut Lab) -> Result<()> {
    let name = lab.device.name().to_owned();
    let on = Instant::now();
    lab.device.power_on()?;
    let console = lab.device.console()?;
    console.expect(BOOTED, BOOT_LIMIT)?;
    let greeting = console.expect("\n", BOOT_LIMIT)?;
    // The kernel's clock starts when the kernel does: what is before is the loader's.
    let loader = on
        .elapsed()
        .saturating_sub(uptime(&greeting).context(greeting)?);
    lab.reach()?;
    let reachable = on.elapsed();
    let log = lab.inside("dmesg")?;
    say(&split(&name, loader, reachable, &log)
        .with_context(|| format!("not as expected: {log}"))?);

    let kernel = lab.inside("uname -r")?;
    let done = lab.ssh("uname -r; echo to stderr >&2; exit 7")?;
    ensure!((done.code(), &done.stdout) == (7, &kernel), "{done:?}");
    ensure!(done.stderr.contains("to stderr"), "{done:?}");

    let label = |key: &str| {
        let labels = lab.node().ok()?.get("labels")?.clone();
        labels.get(key)?.as_str().map(str::to_owned)
    };
    ensure!(label("board") == Some(name.clone()), "{:?}", lab.node()?);
    let seen = poll(READY, || (label("kernel")? == kernel.trim()).then_some(()));
    ensure!(seen.is_some(), "no label says {kernel}: {:?}", lab.node()?);

    let terminal = Terminal::open(&lab.operator, &format!("tsh ssh root@{name}"))?;
    let prompt = || {
        let screen = terminal.screen().ok()?;
        let mut lines = screen.lines();
        lines
            .any(|line| line.trim_end().ends_with('#'))
            .then_some(())
    };
    ensure!(
        poll(REACH_LIMIT, prompt).is_some(),
        "no prompt: {}",
        terminal.screen()?
    );
    terminal.enter("echo $TETHER_USER has $(stty size) and $((6 * 7))")?;
    terminal.wait_for("operator has 30 100 and 42")?;
    terminal.resize(90, 20)?;
    // Before it runs, the shell takes Ctrl-C for a key of its line editor.
    terminal.enter("echo asleep: $((40 + 2)); sleep 1000")?;
    terminal.wait_for("asleep: 42")?;
    terminal.press(&["C-c"])?;
    terminal.enter("echo now $(stty size); exit 5")?;
    terminal.wait_for("now 20 90")?;
    terminal.wait_for("ended with 5")
}

fn uptime(greeting: &str) -> Option<Duration> {
    let (_, rest) = greeting.split_once("up ")?;
    let seconds = rest.split_once(" s")?.0.parse().ok()?;
    Some(Duration::from_secs_f64(seconds))
}

/// Where the time from power on to the first command has gone.
fn split(name: &str, loader: Duration, reachable: Duration, log: &str) -> Option<String> {
    let at = |text: &str| {
        let line = log.lines().find(|line| line.contains(text))?;
        let (time, _) = line.strip_prefix('[')?.split_once(']')?;
        Some(Duration::from_secs_f64(time.trim().parse().ok()?))
    };
    let init = at("tether: init")?;
    let agent = at("INFO  tether-agent ")?;
    let joined = at("INFO  node=")?;
    let link = at("INFO  link up")?;
    // A busy host reads the greeting late, and takes the loader for slower than it was.
    let session = reachable.saturating_sub(loader + link);
    Some(format!(
        "{name}: reachable {:.1} s after power on: loader {:.1}, kernel {:.1}, init and network up \
         to the agent's start {:.1}, join {:.1}, link {:.1}, first command {:.1}",
        reachable.as_secs_f64(),
        loader.as_secs_f64(),
        init.as_secs_f64(),
        agent.saturating_sub(init).as_secs_f64(),
        joined.saturating_sub(agent).as_secs_f64(),
        link.saturating_sub(joined).as_secs_f64(),
        session.as_secs_f64(),
    ))
}
