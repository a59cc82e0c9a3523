//! Whether a connection still gives signs of life, and whether this machine has slept.
//!
//! QUIC itself asks less and less often when nothing is heard, so that a path that comes back may
//! go unnoticed for as long as it was gone. Here it is asked once a second, as long as an answer is
//! due, and not at all while nothing was said.

use std::time::Duration;

/// How often to look.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// Ticks without an answer after which it should be asked whether the session is still there. A bad
/// path answers within two seconds.
const DOUBTFUL: u32 = 3;
/// A tick that takes longer than this was not one: the machine has slept, or the process was
/// stopped. A busy machine is late, too, but not by so much.
const OVERSLEPT: Duration = Duration::from_secs(4);

/// What was said that wants an answer, and what was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) said: u64,
    pub(super) heard: u32,
    /// The last answer was not to all that was said before it.
    pub(super) owed: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// Ask the proxy for a sign of life.
    Ask,
    /// Ask it, and the node as well.
    Doubt,
}

/// The signs of life of one connection after the other.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    last: Counts,
    silent: u32,
}

impl Pulse {
    /// Looks at the connection of the moment, every [`TICK`].
    pub(super) const fn look(&mut self, now: Counts) -> Wish {
        // Another connection has other counts.
        if now.heard != self.last.heard || now.said < self.last.said {
            self.last = now;
            self.silent = 0;
            return Wish::Nothing;
        }
        if now.said == self.last.said && !now.owed {
            return Wish::Nothing;
        }
        self.silent = self.silent.saturating_add(1);
        if self.silent == DOUBTFUL {
            Wish::Doubt
        } else {
            Wish::Ask
        }
    }
}

/// Whether this was more than a [`TICK`], by a clock that goes on while the machine sleeps.
pub(super) fn is_overslept(passed: Duration) -> bool {
    passed >= OVERSLEPT
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn counts(said: u64, heard: u32) -> Counts {
        let owed = false;
        Counts { said, heard, owed }
    }

    #[test]
    fn who_is_answered_or_silent_is_not_asked() {
        let mut pulse = Pulse::default();
        for now in [counts(5, 9), counts(5, 9), counts(7, 12), counts(7, 12)] {
            assert_eq!(pulse.look(now), Wish::Nothing, "{now:?}");
        }
    }

    #[test]
    fn who_owes_an_answer_is_asked_at_every_look_and_doubted_once() {
        let mut pulse = Pulse::default();
        pulse.look(counts(5, 9));
        let wishes: Vec<_> = (6..12).map(|said| pulse.look(counts(said, 9))).collect();
        assert_eq!(wishes[..2], [Wish::Ask; 2]);
        assert_eq!(wishes[2], Wish::Doubt);
        assert_eq!(wishes[3..], [Wish::Ask; 3]);
        assert_eq!(pulse.look(counts(12, 10)), Wish::Nothing);
        assert_eq!(pulse.look(counts(13, 10)), Wish::Ask);
    }

    #[test]
    fn who_was_answered_in_part_asks_for_the_rest() {
        let part = Counts {
            owed: true,
            ..counts(5, 9)
        };
        let mut pulse = Pulse::default();
        assert_eq!(pulse.look(part), Wish::Nothing, "it comes");
        assert_eq!(pulse.look(part), Wish::Ask);
        assert_eq!(pulse.look(counts(6, 10)), Wish::Nothing);
        assert_eq!(pulse.look(counts(6, 10)), Wish::Nothing);
    }

    #[test]
    fn another_connection_starts_anew() {
        let mut pulse = Pulse::default();
        pulse.look(counts(50, 90));
        assert_eq!(pulse.look(counts(51, 90)), Wish::Ask);
        assert_eq!(pulse.look(counts(3, 2)), Wish::Nothing);
        assert_eq!(pulse.look(counts(3, 2)), Wish::Nothing);
    }

    #[test]
    fn a_night_is_no_tick() {
        assert!(!is_overslept(TICK * 2));
        assert!(is_overslept(Duration::from_secs(8 * 3600)));
    }
}
