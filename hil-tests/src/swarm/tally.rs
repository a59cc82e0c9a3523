//! What happens to a fleet, counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Counts since [`super::Swarm::begin_count`], except for `up`.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Agents with a link right now, as they see it.
    pub up: usize,
    /// Connections begun.
    pub attempts: u64,
    /// Connections that the cluster turned away before a handshake, for lack of room.
    pub turned_away: u64,
    /// Hellos refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Links lost and connections that came to nothing, by reason.
    pub losses: BTreeMap<String, u64>,
    /// When each agent was welcomed for the first time, in order.
    pub welcomed: Vec<Duration>,
}

impl Tally {
    /// The time until this share of `count` agents was back, in percent, if they are.
    #[must_use]
    pub fn until(&self, percent: usize, count: usize) -> Option<Duration> {
        let last = (count * percent).div_ceil(100).checked_sub(1)?;
        self.welcomed.get(last).copied()
    }

    /// Welcomes a second, over the middle 80 %.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let (early, late) = (share(&self.welcomed, 10)?, share(&self.welcomed, 90)?);
        let seconds = late.checked_sub(early)?.as_secs_f64();
        (seconds > 0.0).then(|| self.welcomed.len() as f64 * 0.8 / seconds)
    }
}

/// The value below which this share of a sorted list lies, in percent.
#[must_use]
pub fn share(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied()
}

/// Where agents note what happens to them.
#[derive(Default)]
pub(super) struct Board {
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    round: u32,
    since: Duration,
    first: Option<usize>,
    tally: Tally,
}

impl Board {
    pub(super) fn begin(&self, now: Duration) {
        let mut counted = self.lock();
        counted.round += 1;
        counted.since = now;
        counted.first = None;
        let up = counted.tally.up;
        counted.tally = Tally {
            up,
            ..Tally::default()
        };
    }

    pub(super) fn read(&self) -> Tally {
        self.lock().tally.clone()
    }

    pub(super) fn first(&self) -> Option<usize> {
        self.lock().first
    }

    pub(super) fn attempt(&self) {
        self.lock().tally.attempts += 1;
    }

    pub(super) fn turned_away(&self) {
        self.lock().tally.turned_away += 1;
    }

    /// An agent was welcomed; `round` is the one in which it was welcomed last.
    pub(super) fn up(&self, number: usize, was_up: bool, round: &mut u32, now: Duration) {
        let mut counted = self.lock();
        counted.tally.up += usize::from(!was_up);
        if *round != counted.round {
            *round = counted.round;
            let took = now.saturating_sub(counted.since);
            counted.first.get_or_insert(number);
            counted.tally.welcomed.push(took);
        }
    }

    /// An agent lost its link, or the attempt at one.
    pub(super) fn down(&self, was_up: bool, reason: String, refused: bool) {
        let mut counted = self.lock();
        let tally = &mut counted.tally;
        tally.up -= usize::from(was_up);
        let of_kind = if refused {
            &mut tally.refused
        } else {
            &mut tally.losses
        };
        *of_kind.entry(reason).or_default() += 1;
    }

    /// A link is kept, but seems to be of no use.
    pub(super) fn lost(&self, reason: &str) {
        let mut counted = self.lock();
        let losses = &mut counted.tally.losses;
        *losses.entry(reason.to_owned()).or_default() += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_agent_counts_once_a_round_and_shares_are_of_the_whole_fleet() {
        let board = Board::default();
        board.begin(SECOND * 10);
        let mut rounds = [0; 4];
        for (round, second) in rounds.iter_mut().zip(11..) {
            board.up(7, false, round, SECOND * second);
            board.up(8, false, round, SECOND * 99);
        }
        let tally = board.read();
        assert_eq!(tally.up, 8);
        assert_eq!(board.first(), Some(7));
        assert_eq!(tally.welcomed, [SECOND, SECOND * 2, SECOND * 3, SECOND * 4]);
        assert_eq!(tally.until(50, 4), Some(SECOND * 2));
        assert_eq!(tally.until(100, 4), Some(SECOND * 4));
        assert_eq!(tally.until(100, 5), None);
        board.begin(SECOND * 100);
        assert_eq!(board.read().welcomed, []);
        assert_eq!(board.read().up, 8);
    }

    #[test]
    fn losses_and_refusals_are_counted_by_reason() {
        let board = Board::default();
        let mut round = 1;
        board.up(1, false, &mut round, SECOND);
        board.down(true, "Silent".into(), false);
        board.down(false, "Busy".into(), true);
        board.down(false, "Busy".into(), true);
        let tally = board.read();
        assert_eq!(tally.up, 0);
        assert_eq!(tally.losses, BTreeMap::from([("Silent".to_owned(), 1)]));
        assert_eq!(tally.refused, BTreeMap::from([("Busy".to_owned(), 2)]));
    }
}
