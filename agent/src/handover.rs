//! One agent after the other in the same process, while sessions go on.
//!
//! What an SSH connection needs to go on (keys, counters, windows) lives in russh, which does not
//! give it away. So it stays where it is: on a restart the process copies itself. The copy, the
//! *keeper*, holds what outlives links, and nothing else; the process itself becomes the program
//! that is on disk by then. It keeps its number, which whoever supervises it knows, and stays the
//! parent of the sessions' programs.
//!
//! ```text
//!   agent ──check──fork──exec──► new agent ── link ──► cluster
//!                   │                │
//!                   └── keeper ──────┘ one socket: streams of clients that come back, locks,
//!                       sessions       the ends of programs; the ends of streams
//! ```
//!
//! * Before anything changes, the program on disk is asked whether it would start and take over.
//! * The copy waits until the process has become the program. If that fails, the copy is dropped,
//!   and the agent goes on as if nothing had been. So never do both do anything with one link or
//!   one SSH connection, whose keys must not be used twice.
//! * The copy is made while there is one thread only: whatever it needs, it has.
//! * The keeper ends the old link. Clients lose their streams with it, and come back over the new
//!   one: the agent hands the stream over to the keeper that knows it, and moves bytes.
//! * A keeper ends with its last session, or when the agent does: the socket tells. Its programs
//!   end as when their clients go, and what a keeper leaves behind when it is killed, its
//!   [guard](crate::ssh::guard) ends.

pub(crate) mod message;
mod program;
pub(crate) mod wire;

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::sys;
pub(crate) use program::Program;

/// Names descriptors to the program that takes over: process, lock, keepers. To one that is only
/// asked whether it would start, it is [`QUESTION`].
const VARIABLE: &str = "TETHER_HANDOVER";
/// Whether a program would take over.
const QUESTION: &str = "?";
/// What a program answers that would, in a line of its own: one that does not know this file could
/// not start beside the lock.
pub(crate) const ANSWER: &str = "It takes over from the agent that runs.";
/// Keepers at once that shall stay. Each takes a few MB, so the oldest goes when there is another.
pub(crate) const KEEPERS: usize = 2;
/// Keepers that one program may name to the next: those that end count as well.
const MAX_NAMED: usize = 8;

/// What this program got from the one before it.
#[derive(Default)]
pub(crate) struct Inherited {
    /// The lock on the data folder.
    pub(crate) lock: Option<OwnedFd>,
    /// A socket to each keeper, the oldest first.
    pub(crate) keepers: Vec<OwnedFd>,
    /// Whatever was started before and runs, or waits to be reaped: nobody else will.
    pub(crate) children: Vec<Pid>,
}

impl Inherited {
    /// To be called before anything is opened.
    pub(crate) fn take() -> Self {
        let word = std::env::var(VARIABLE).unwrap_or_default();
        let Some((lock, keepers)) = understand(&word, std::process::id()) else {
            return Self::default();
        };
        Self {
            lock: sys::inherited(lock),
            keepers: keepers.into_iter().filter_map(sys::inherited).collect(),
            children: sys::children(),
        }
    }
}

/// Whether an agent that runs asks whether this program would take over.
pub(crate) fn is_asked() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|word| word == QUESTION)
}

/// Becomes the program on disk, with the lock and these keepers. Comes back in the new keeper
/// alone, with its socket.
///
/// # Errors
/// If this process could not become the program; nothing has changed then.
pub(crate) fn hand_over(
    program: &Program,
    lock: BorrowedFd<'_>,
    keepers: &[BorrowedFd<'_>],
) -> io::Result<OwnedFd> {
    if keepers.len() >= MAX_NAMED {
        return Err(io::Error::other(
            "too many older processes are about to end",
        ));
    }
    let (ours, theirs) = wire::pair()?;
    let (mut gone_over, open) = io::pipe()?;
    let Some(keeper) = sys::fork()? else {
        drop((ours, open));
        return match gone_over.read_exact(&mut [0]) {
            // Closed by the exec.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(theirs),
            _ => std::process::exit(1),
        };
    };
    drop((theirs, gone_over));
    let mut passed = vec![lock];
    passed.extend(keepers);
    passed.push(ours.as_fd());
    let error = match hold_hang_ups(true).and_then(|()| set_all(&passed, true)) {
        Ok(()) => program.become_it(&word(std::process::id(), &passed)),
        Err(error) => error,
    };
    // It has done nothing yet, and must not see the pipe close.
    kill(keeper, Signal::SIGKILL)?;
    waitpid(keeper, None)?;
    drop(open);
    set_all(&passed, false)?;
    hold_hang_ups(false)?;
    Err(error)
}

/// Lets SIGHUP wait while nobody listens to it: it would end a program that has just begun.
pub(crate) fn hold_hang_ups(held: bool) -> io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGHUP);
    if held {
        signals.thread_block()?;
    } else {
        signals.thread_unblock()?;
    }
    Ok(())
}

fn set_all(fds: &[BorrowedFd<'_>], inherited: bool) -> io::Result<()> {
    fds.iter()
        .try_for_each(|fd| sys::set_inherited(*fd, inherited))
}

fn word(process: u32, passed: &[BorrowedFd<'_>]) -> String {
    let numbers = passed.iter().map(|fd| format!(":{}", fd.as_raw_fd()));
    format!("{process}{}", numbers.collect::<String>())
}

/// What a word names. It is for one process: children that have it, too, have no such descriptors.
fn understand(word: &str, process: u32) -> Option<(RawFd, Vec<RawFd>)> {
    let mut numbers = word.split(':');
    if numbers.next()?.parse() != Ok(process) {
        return None;
    }
    let lock = numbers.next()?.parse().ok()?;
    let keepers: Result<Vec<_>, _> = numbers.map(str::parse).collect();
    let keepers = keepers.ok()?;
    (keepers.len() <= MAX_NAMED).then_some((lock, keepers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_for_one_process_and_names_a_few_descriptors() {
        let (one, two) = io::pipe().unwrap();
        let word = word(7, &[one.as_fd(), two.as_fd()]);
        let expected = (one.as_raw_fd(), vec![two.as_raw_fd()]);
        assert_eq!(understand(&word, 7), Some(expected));
        assert_eq!(understand(&word, 8), None);
        assert_eq!(understand("7:3", 7), Some((3, vec![])));
        for wrong in ["", "7", "7:", "7:x", "7:3:", "7:3:4x", "x:3"] {
            assert_eq!(understand(wrong, 7), None, "{wrong}");
        }
        let many = format!("7:3{}", ":9".repeat(MAX_NAMED + 1));
        assert_eq!(understand(&many, 7), None);
    }
}
