//! Whether a peer owes an answer to what was sent to it, and asking for it.
//!
//! What a path has swallowed is sent again once something later is acknowledged, and QUIC itself
//! asks for that less and less often: a path that comes back may go unused for as long as it was
//! gone. Here a peer is asked every second as long as it owes an answer, and at once when it gives
//! another sign of life. Who owes nothing is not asked.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use link_quic::{Answers, answers, insist};
use quinn::Connection;
use tokio::time::Instant;

/// How often to look.
pub const LOOK: Duration = Duration::from_millis(500);
/// Looks without an answer from one question to the next. The first comes after more than one look,
/// since most answers are under way.
const PATIENCE: u32 = 2;
/// Who was not looked at for so long owes what may have been answered since.
const STALE: Duration = Duration::from_secs(2);
/// Questions that find room beside what the path has swallowed: one a second, as long as sessions
/// are kept if no role says otherwise.
const QUESTIONS: u32 = 600;

/// What is known of a connection's answers.
#[derive(Debug, Default)]
pub struct Owed(Mutex<Looks>);

#[derive(Debug, Default)]
struct Looks {
    last: Counts,
    /// How many looks ago something was said that is not answered.
    silent: u32,
    at: Option<Instant>,
}

/// What was said that wants an answer, and what was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    said: u64,
    answers: Answers,
}

impl Owed {
    /// Looks at the connection, every [`LOOK`] while somebody uses it.
    pub fn look(&self, connection: &Connection) {
        let counts = Counts::of(connection);
        if self.with(|looks| looks.look(counts, Instant::now())) {
            ask(connection);
        }
    }

    /// The peer has given a sign of life that is no answer.
    pub fn heard(&self, connection: &Connection) {
        let counts = Counts::of(connection);
        if self.with(|looks| looks.owes(counts, Instant::now())) {
            ask(connection);
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Looks) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Looks {
    /// Tells whether it is time to ask.
    fn look(&mut self, now: Counts, at: Instant) -> bool {
        self.at = Some(at);
        // Another path has other counts.
        if now.answers.count != self.last.answers.count || now.said < self.last.said {
            (self.last, self.silent) = (now, 0);
            return false;
        }
        if now.said == self.last.said && !now.answers.owed {
            return false;
        }
        self.silent = self.silent.saturating_add(1);
        self.silent.is_multiple_of(PATIENCE)
    }

    /// Whether it was asked already, and has not answered.
    fn owes(&self, now: Counts, at: Instant) -> bool {
        let recent = self.at.is_some_and(|last| at < last + STALE);
        recent && self.silent >= PATIENCE && now.answers.count == self.last.answers.count
    }
}

impl Counts {
    fn of(connection: &Connection) -> Self {
        let said = connection.stats().frame_tx;
        Self {
            said: said.stream + said.datagram + said.ping + said.max_data + said.max_stream_data,
            answers: answers(connection.congestion_state()),
        }
    }
}

fn ask(connection: &Connection) {
    insist(connection.congestion_state(), QUESTIONS);
    // A connection that has ended says so elsewhere.
    let _ = connection.send_datagram(Bytes::new());
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn counts(said: u64, count: u32, owed: bool) -> Counts {
        let answers = Answers { count, owed };
        Counts { said, answers }
    }

    #[test]
    fn who_has_answered_or_was_told_nothing_is_not_asked() {
        let (mut looks, now) = (Looks::default(), Instant::now());
        for (said, count) in [(5, 9), (5, 9), (5, 9), (7, 10), (9, 11), (9, 11)] {
            let counts = counts(said, count, false);
            assert!(!looks.look(counts, now), "{counts:?}");
            assert!(!looks.owes(counts, now), "{counts:?}");
        }
    }

    #[test]
    fn who_owes_an_answer_is_asked_every_second_and_whenever_it_is_heard() {
        let (mut looks, now) = (Looks::default(), Instant::now());
        looks.look(counts(5, 9, false), now);
        let silent = counts(6, 9, false);
        assert!(!looks.look(silent, now), "it comes");
        assert!(!looks.owes(silent, now), "it comes");
        assert!(looks.look(silent, now));
        assert!(looks.owes(silent, now));
        assert!(!looks.look(counts(8, 9, false), now));
        assert!(looks.look(counts(8, 9, false), now));
        // All is well again.
        let answered = counts(8, 10, false);
        assert!(!looks.owes(answered, now));
        assert!(!looks.look(answered, now));
        assert!(!looks.look(answered, now));
    }

    #[test]
    fn who_has_answered_in_part_is_asked_for_the_rest() {
        let (mut looks, now) = (Looks::default(), Instant::now());
        let part = counts(6, 9, true);
        assert!(!looks.look(part, now));
        assert!(!looks.look(part, now));
        assert!(looks.look(part, now));
    }

    #[test]
    fn what_was_said_right_after_an_answer_is_owed_too() {
        let (mut looks, now) = (Looks::default(), Instant::now());
        looks.look(counts(5, 9, false), now);
        // Both between two looks.
        let silent = counts(7, 10, true);
        assert!(!looks.look(silent, now));
        assert!(!looks.look(silent, now));
        assert!(looks.look(silent, now));
    }

    #[test]
    fn who_was_not_looked_at_for_long_is_not_asked() {
        let (mut looks, now) = (Looks::default(), Instant::now());
        let silent = counts(6, 9, false);
        looks.look(counts(5, 9, false), now);
        looks.look(silent, now);
        looks.look(silent, now);
        assert!(looks.owes(silent, now));
        assert!(!looks.owes(silent, now + STALE));
    }
}
