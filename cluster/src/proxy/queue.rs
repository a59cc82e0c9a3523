//! Who waits for a handshake to begin, and whose turn is next.
//!
//! People and devices stand in lines of their own, and turns go by turns to one and the other: who
//! dials while ten thousand devices return does not wait behind them. A line is first come, first
//! served, but for those who would not fit: others may pass them.
//!
//! It reads no clock: the time is a [`Duration`] since an epoch of the caller's choosing.

use std::collections::VecDeque;
use std::time::Duration;

/// Whoever waited longer is turned away. Agents give up after 15 s; one that hears earlier that
/// there is no room begins its back-off, and what it would have got is free for another.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// So many at the head of a line are looked at for one who fits.
const HEAD: usize = 64;

/// Which line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// For those who would notice waiting.
    People,
    /// For those who come by the thousand.
    Devices,
}

/// See the [module](self).
pub struct Queue<T> {
    people: VecDeque<Waiter<T>>,
    devices: VecDeque<Waiter<T>>,
    last: Line,
}

struct Waiter<T> {
    who: T,
    since: Duration,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            people: VecDeque::new(),
            devices: VecDeque::new(),
            last: Line::Devices,
        }
    }
}

impl<T> Queue<T> {
    /// Somebody comes.
    pub fn push(&mut self, line: Line, who: T, now: Duration) {
        self.line(line).push_back(Waiter { who, since: now });
    }

    /// Somebody who has waited too long, if there is one.
    pub fn late(&mut self, now: Duration) -> Option<T> {
        [Line::People, Line::Devices].into_iter().find_map(|line| {
            let oldest = self.line(line).front()?;
            let late = now.saturating_sub(oldest.since) > PATIENCE;
            late.then(|| self.take(line, 0)).flatten()
        })
    }

    /// Whose turn it is, of those who fit.
    pub fn next(&mut self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let (first, second) = match self.last {
            Line::Devices => (Line::People, Line::Devices),
            Line::People => (Line::Devices, Line::People),
        };
        let turn = |line, queue: &mut Self| {
            let mut head = queue.line(line).iter().take(HEAD);
            let at = head.position(|waiter| fits(&waiter.who))?;
            queue.last = line;
            queue.take(line, at)
        };
        turn(first, self).or_else(|| turn(second, self))
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.people.len().saturating_add(self.devices.len())
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn line(&mut self, line: Line) -> &mut VecDeque<Waiter<T>> {
        match line {
            Line::People => &mut self.people,
            Line::Devices => &mut self.devices,
        }
    }

    fn take(&mut self, line: Line, at: usize) -> Option<T> {
        let line = self.line(line);
        let who = line.remove(at).map(|w| w.who);
        if line.is_empty() {
            // The room of thousands is not kept for the next storm.
            *line = VecDeque::new();
        }
        who
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn order<T>(queue: &mut Queue<T>) -> Vec<T> {
        std::iter::from_fn(|| queue.next(|_| true)).collect()
    }

    #[test]
    fn lines_take_turns_and_each_is_in_order() {
        let mut queue = Queue::default();
        (0..5).for_each(|who| queue.push(Line::Devices, who, Duration::ZERO));
        (10..12).for_each(|who| queue.push(Line::People, who, Duration::ZERO));
        assert_eq!(order(&mut queue), [10, 0, 11, 1, 2, 3, 4]);
        assert_eq!(queue.devices.capacity(), 0);
    }

    #[test]
    fn a_person_in_a_crowd_of_devices_is_served_within_two_turns() {
        let mut queue = Queue::default();
        (0..10_000).for_each(|who| queue.push(Line::Devices, who, Duration::ZERO));
        queue.next(|_| true);
        queue.push(Line::People, 77_777, SECOND);
        assert!([queue.next(|_| true), queue.next(|_| true)].contains(&Some(77_777)));
    }

    #[test]
    fn a_crowd_of_people_does_not_keep_devices_out() {
        let mut queue = Queue::default();
        (0..100).for_each(|who| queue.push(Line::People, who, Duration::ZERO));
        queue.push(Line::Devices, 100, Duration::ZERO);
        assert!([queue.next(|_| true), queue.next(|_| true)].contains(&Some(100)));
    }

    #[test]
    fn who_does_not_fit_keeps_the_place_and_nobody_else_out() {
        let mut queue = Queue::default();
        (0..10).for_each(|who| queue.push(Line::Devices, who, Duration::ZERO));
        let odd = |who: &i32| who % 2 == 1;
        assert_eq!((queue.next(odd), queue.next(odd)), (Some(1), Some(3)));
        assert_eq!(queue.next(|_| false), None);
        assert_eq!(order(&mut queue), [0, 2, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn nobody_waits_longer_than_patience_and_nobody_is_forgotten() {
        let mut queue = Queue::default();
        let (mut served, mut late) = (0, 0);
        // Four come, two of each kind, for one that is served.
        for step in 0..400u32 {
            let now = SECOND * step / 4;
            for line in [Line::People, Line::Devices] {
                queue.push(line, now, now);
                queue.push(line, now, now);
            }
            while let Some(since) = queue.late(now) {
                assert!(now - since > PATIENCE);
                late += 1;
            }
            assert!(now - queue.next(|_| true).unwrap() <= PATIENCE);
            served += 1;
        }
        assert_eq!(served + late + queue.len(), 1600);
    }
}
