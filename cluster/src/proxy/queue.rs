//! Who waits for a handshake to begin, and whose turn is next.
//!
//! People and devices stand in lines of their own, and turns go by turns to one and the other: who
//! dials while ten thousand devices return does not wait behind them. A line is first come, first
//! served, but for those whose address has used its share: they stand aside, in any number, until it
//! has room again.
//!
//! It reads no clock: the time is a [`Duration`] since an epoch of the caller's choosing.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

/// Whoever waited longer is turned away. Agents give up after 15 s; one that hears earlier that
/// there is no room begins its back-off, and what it would have got is free for another.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// Which line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// For those who would notice waiting.
    People,
    /// For those who come by the thousand.
    Devices,
}

/// See the [module](self). `A` is where somebody comes from.
pub struct Queue<A, T> {
    people: Row<A, T>,
    devices: Row<A, T>,
    last: Line,
    come: u64,
}

/// Those of one line.
struct Row<A, T> {
    /// In the order of their coming.
    line: VecDeque<(A, Waiter<T>)>,
    /// Who did not fit when looked at, each address in order. Nobody is looked at twice but the first
    /// of an address.
    aside: HashMap<A, VecDeque<Waiter<T>>>,
    waiting: usize,
}

struct Waiter<T> {
    who: T,
    since: Duration,
    number: u64,
}

impl<A, T> Default for Queue<A, T> {
    fn default() -> Self {
        Self {
            people: Row::default(),
            devices: Row::default(),
            last: Line::Devices,
            come: 0,
        }
    }
}

impl<A, T> Default for Row<A, T> {
    fn default() -> Self {
        Self {
            line: VecDeque::new(),
            aside: HashMap::new(),
            waiting: 0,
        }
    }
}

impl<A: Copy + Eq + Hash, T> Queue<A, T> {
    /// Somebody comes.
    pub fn push(&mut self, line: Line, from: A, who: T, now: Duration) {
        let number = self.come;
        self.come = number.wrapping_add(1);
        let since = now;
        let row = self.row(line);
        row.line.push_back((from, Waiter { who, since, number }));
        row.waiting = row.waiting.saturating_add(1);
    }

    /// Somebody who has waited too long, if there is one.
    pub fn late(&mut self, now: Duration) -> Option<T> {
        [Line::People, Line::Devices]
            .into_iter()
            .find_map(|line| self.row(line).late(now))
    }

    /// Whose turn it is, of those who fit.
    pub fn next(&mut self, fits: impl Fn(&A) -> bool) -> Option<T> {
        let (first, second) = match self.last {
            Line::Devices => (Line::People, Line::Devices),
            Line::People => (Line::Devices, Line::People),
        };
        [first, second].into_iter().find_map(|line| {
            let who = self.row(line).next(&fits)?;
            self.last = line;
            Some(who)
        })
    }

    /// How many wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.people.waiting.saturating_add(self.devices.waiting)
    }

    /// Whether nobody waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    const fn row(&mut self, line: Line) -> &mut Row<A, T> {
        match line {
            Line::People => &mut self.people,
            Line::Devices => &mut self.devices,
        }
    }
}

impl<A: Copy + Eq + Hash, T> Row<A, T> {
    fn late(&mut self, now: Duration) -> Option<T> {
        let late = |waiter: &Waiter<T>| now.saturating_sub(waiter.since) > PATIENCE;
        if self.line.front().is_some_and(|(_, waiter)| late(waiter)) {
            let (_, waiter) = self.line.pop_front()?;
            return Some(self.leaves(waiter));
        }
        let (from, _) = self.aside(|_, first| late(first))?;
        self.leaves_aside(from)
    }

    fn next(&mut self, fits: impl Fn(&A) -> bool) -> Option<T> {
        // Whoever stands aside came before everybody in the line.
        if let Some((from, _)) = self.aside(|from, _| fits(from)) {
            return self.leaves_aside(from);
        }
        while let Some((from, waiter)) = self.line.pop_front() {
            if fits(&from) {
                return Some(self.leaves(waiter));
            }
            self.aside.entry(from).or_default().push_back(waiter);
        }
        None
    }

    /// Who came first of those who stand aside.
    fn aside(&self, counts: impl Fn(&A, &Waiter<T>) -> bool) -> Option<(A, u64)> {
        let first = |(from, waiters): (&A, &VecDeque<Waiter<T>>)| {
            let first = waiters.front()?;
            counts(from, first).then_some((*from, first.number))
        };
        let firsts = self.aside.iter().filter_map(first);
        firsts.min_by_key(|(_, number)| *number)
    }

    fn leaves_aside(&mut self, from: A) -> Option<T> {
        let waiters = self.aside.get_mut(&from)?;
        let waiter = waiters.pop_front()?;
        if waiters.is_empty() {
            self.aside.remove(&from);
        }
        Some(self.leaves(waiter))
    }

    fn leaves(&mut self, waiter: Waiter<T>) -> T {
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 {
            // The room of thousands is not kept for the next storm.
            *self = Self::default();
        }
        waiter.who
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn order<T>(queue: &mut Queue<T, T>) -> Vec<T>
    where
        T: Copy + Eq + Hash,
    {
        std::iter::from_fn(|| queue.next(|_| true)).collect()
    }

    #[test]
    fn lines_take_turns_and_each_is_in_order() {
        let mut queue = Queue::default();
        (0..5).for_each(|who| queue.push(Line::Devices, who, who, Duration::ZERO));
        (10..12).for_each(|who| queue.push(Line::People, who, who, Duration::ZERO));
        assert_eq!(order(&mut queue), [10, 0, 11, 1, 2, 3, 4]);
        assert_eq!(queue.devices.line.capacity(), 0);
    }

    #[test]
    fn a_person_in_a_crowd_of_devices_is_served_within_two_turns() {
        let mut queue = Queue::default();
        (0..10_000).for_each(|who| queue.push(Line::Devices, who, who, Duration::ZERO));
        queue.next(|_| true);
        queue.push(Line::People, 77_777, 77_777, SECOND);
        assert!([queue.next(|_| true), queue.next(|_| true)].contains(&Some(77_777)));
    }

    #[test]
    fn a_crowd_of_people_does_not_keep_devices_out() {
        let mut queue = Queue::default();
        (0..100).for_each(|who| queue.push(Line::People, who, who, Duration::ZERO));
        queue.push(Line::Devices, 100, 100, Duration::ZERO);
        assert!([queue.next(|_| true), queue.next(|_| true)].contains(&Some(100)));
    }

    #[test]
    fn who_does_not_fit_keeps_the_place_and_nobody_else_out() {
        let mut queue = Queue::default();
        (0..10).for_each(|who| queue.push(Line::Devices, who, who, Duration::ZERO));
        let odd = |who: &i32| who % 2 == 1;
        assert_eq!((queue.next(odd), queue.next(odd)), (Some(1), Some(3)));
        assert_eq!(queue.next(|_| false), None);
        assert_eq!(order(&mut queue), [0, 2, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_crowd_that_does_not_fit_holds_up_nobody_and_is_served_in_order_when_it_does() {
        let mut queue = Queue::default();
        let crowd = |queue: &mut Queue<_, _>, numbers: std::ops::Range<u32>| {
            numbers.for_each(|who| queue.push(Line::Devices, "crowd", who, Duration::ZERO));
        };
        crowd(&mut queue, 0..10_000);
        queue.push(Line::Devices, "another", 77_777, Duration::ZERO);
        crowd(&mut queue, 10_000..10_002);
        let fits = |from: &&str| *from == "another";
        assert_eq!((queue.next(fits), queue.next(fits)), (Some(77_777), None));
        assert_eq!(queue.len(), 10_002);
        assert_eq!(queue.late(PATIENCE + SECOND), Some(0));
        let rest: Vec<u32> = std::iter::from_fn(|| queue.next(|_| true)).collect();
        assert!(rest.into_iter().eq(1..10_002) && queue.is_empty());
    }

    #[test]
    fn nobody_waits_longer_than_patience_and_nobody_is_forgotten() {
        let mut queue = Queue::default();
        let (mut served, mut late) = (0, 0);
        // Four come, two of each kind, for one that is served.
        for step in 0..400u32 {
            let now = SECOND * step / 4;
            for line in [Line::People, Line::Devices] {
                queue.push(line, (), now, now);
                queue.push(line, (), now, now);
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
