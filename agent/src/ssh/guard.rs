//! Who ends programs when the agent cannot.
//!
//! A program that runs on a terminal is hung up by the kernel when the agent dies. One with pipes is
//! not: it would go on for nobody, unseen. So beside an agent with programs lives a process that
//! knows them, and does nothing. When the agent ends, for whatever reason, its pipe does, and the
//! guard does to every program what the agent does to one whose client has gone.
//!
//! It is the agent's own program by another name, so it is in memory already; what it takes itself
//! is a stack. It goes with the last program.

use std::ffi::OsStr;
use std::io::{PipeWriter, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::unistd::{Pid, setsid};

use super::session::HANG_UP;
use crate::output;
use crate::text::counted;

/// What the agent's program does under this name.
const NAME: &str = "tether-guard";
/// It itself, even if another one has taken its place on disk.
const PROGRAM: &str = "/proc/self/exe";
/// How often the guard looks whether programs have ended.
const LOOK: Duration = Duration::from_millis(100);

static GUARD: Mutex<Option<Guard>> = Mutex::new(None);

/// A guard that runs.
struct Guard {
    pipe: PipeWriter,
    process: Option<i32>,
    /// Programs that it knows.
    programs: Vec<Pid>,
}

/// A program that the guard knows, until this is dropped. The program leads a group of its own.
pub(super) struct Guarded(Pid);

/// What the guard is told: one byte, and a group.
type Word = [u8; 5];
const STARTED: u8 = b'+';
const ENDED: u8 = b'-';

impl Guarded {
    /// Tells the guard of a program.
    pub(super) fn new(program: Pid) -> Self {
        let mut guard = lock();
        if guard.is_none() {
            match start() {
                Ok(started) => *guard = Some(started),
                // The program runs without.
                Err(error) => log::warn!("programs would outlive this agent's crash: {error}"),
            }
        }
        if let Some(guard) = &mut *guard {
            guard.programs.push(program);
            guard.tell(STARTED, program);
        }
        Self(program)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let mut guard = lock();
        if let Some(known) = &mut *guard {
            known.programs.retain(|program| *program != self.0);
            known.tell(ENDED, self.0);
            if known.programs.is_empty() {
                *guard = None;
            }
        }
    }
}

impl Guard {
    fn tell(&mut self, what: u8, program: Pid) {
        let [a, b, c, d] = program.as_raw().to_ne_bytes();
        // A guard that is gone or stopped is no reason to turn anybody away.
        if let Err(error) = self.pipe.write_all(&[what, a, b, c, d]) {
            log::debug!("the guard of programs does not listen: {error}");
        }
    }
}

/// The guard's process, if there is one.
pub(crate) fn process() -> Option<i32> {
    lock().as_ref()?.process
}

/// Whether the guard would end a program.
#[cfg(test)]
pub(super) fn knows(program: Pid) -> bool {
    let guard = lock();
    guard
        .as_ref()
        .is_some_and(|guard| guard.programs.contains(&program))
}

fn lock() -> MutexGuard<'static, Option<Guard>> {
    GUARD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start() -> std::io::Result<Guard> {
    let (reader, pipe) = std::io::pipe()?;
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut process = None;
    // A test's program would run its tests.
    if cfg!(not(test)) {
        let mut command = Command::new(PROGRAM);
        command.arg0(NAME).env_clear();
        command.stdin(reader).stdout(Stdio::null());
        // The runtime reaps it when it ends.
        let guard = tokio::process::Command::from(command).spawn()?;
        process = guard.id().and_then(|id| i32::try_from(id).ok());
    }
    Ok(Guard {
        pipe,
        process,
        programs: Vec::new(),
    })
}

/// Whether the program runs as a guard.
pub(crate) fn is_guard(name: Option<&OsStr>) -> bool {
    name == Some(OsStr::new(NAME))
}

/// Waits for the agent's end, and ends its programs.
pub(crate) fn run() {
    // Who ends the agent by its group means the agent, not its guard.
    let _ = setsid();
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        signals.add(signal);
    }
    let _ = signals.thread_block();
    let programs = known_at_the_end(std::io::stdin().lock());
    if !programs.is_empty() {
        let count = counted(programs.len(), "program");
        output::complain(&format!(
            "tether-agent is gone; ending {count} of its sessions\n"
        ));
        end(programs);
    }
}

/// Reads until the agent ends; gives the programs that run then.
fn known_at_the_end(mut pipe: impl Read) -> Vec<Pid> {
    let mut programs = Vec::new();
    let mut word = Word::default();
    while pipe.read_exact(&mut word).is_ok() {
        let [what, a, b, c, d] = word;
        let program = Pid::from_raw(i32::from_ne_bytes([a, b, c, d]));
        programs.retain(|known| *known != program);
        if what == STARTED {
            programs.push(program);
        }
    }
    programs
}

/// Hangs up, and kills what does not listen.
fn end(mut programs: Vec<Pid>) {
    for group in &programs {
        let _ = killpg(*group, Signal::SIGHUP);
        let _ = killpg(*group, Signal::SIGCONT);
    }
    let mut left = HANG_UP;
    while left > Duration::ZERO {
        programs.retain(|group| killpg(*group, None).is_ok());
        if programs.is_empty() {
            return;
        }
        std::thread::sleep(LOOK);
        left = left.saturating_sub(LOOK);
    }
    // As long as a group has a process, its number is that of no other.
    for program in programs {
        let _ = kill(program, Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, ChildStdout};

    #[test]
    fn what_has_started_and_not_ended_is_known_at_the_end() {
        let mut bytes = Vec::new();
        for (what, program) in [
            (STARTED, 7),
            (STARTED, 8),
            (ENDED, 7),
            (STARTED, 9),
            (STARTED, 9),
        ] {
            bytes.push(what);
            bytes.extend(i32::to_ne_bytes(program));
        }
        bytes.push(STARTED);
        assert_eq!(
            known_at_the_end(bytes.as_slice()),
            [8, 9].map(Pid::from_raw)
        );
    }

    /// A group; gives its leader once it runs, and what all of it may write to.
    fn group(script: &str) -> (Child, BufReader<ChildStdout>) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).process_group(0);
        let mut leader = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(leader.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        (leader, output)
    }

    #[test]
    fn all_of_a_group_is_hung_up_and_a_leader_that_does_not_listen_is_killed() {
        let (mut listens, mut output) = group("sleep 1000 & echo up; wait");
        let (mut ignores, _) = group("trap '' HUP; echo up; while :; do sleep 0.1; done");
        let programs = [&listens, &ignores].map(|child| Pid::from_raw(child.id().cast_signed()));
        let [heard, killed] = std::thread::scope(|scope| {
            scope.spawn(|| end(programs.to_vec()));
            [&mut listens, &mut ignores].map(|child| child.wait().unwrap().signal())
        });
        assert_eq!(heard, Some(Signal::SIGHUP as i32));
        assert_eq!(killed, Some(Signal::SIGKILL as i32));
        // It ends when nobody can write any more, the sleep included.
        assert_eq!(output.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
}
