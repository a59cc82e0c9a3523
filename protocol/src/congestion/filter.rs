//! The best of what was seen lately.

use super::{Micros, SECOND};

/// The highest rate of this cycle and of the one before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Peak {
    now: u64,
    before: u64,
}

impl Peak {
    pub(super) fn see(&mut self, rate: u64) {
        self.now = self.now.max(rate);
    }

    pub(super) fn best(&self) -> u64 {
        self.now.max(self.before)
    }

    pub(super) fn next_cycle(&mut self) {
        self.before = self.now;
        self.now = 0;
    }

    /// Forgets all but this.
    pub(super) fn reset(&mut self, rate: u64) {
        *self = Self {
            now: rate,
            before: 0,
        };
    }
}

/// The shortest round trip of this period and of the one before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Floor {
    now: Option<Micros>,
    before: Option<Micros>,
    since: Micros,
}

impl Floor {
    /// At least this long, and [`Self::ROUNDS`] round trips, so that a moment without a queue falls
    /// into each period.
    const PERIOD: Micros = 5 * SECOND;
    const ROUNDS: u64 = 10;

    pub(super) fn see(&mut self, round_trip: Micros, now: Micros) {
        let shortest = self.shortest();
        let period = Self::PERIOD.max(shortest.unwrap_or(0).saturating_mul(Self::ROUNDS));
        let passed = now.saturating_sub(self.since);
        if passed > period {
            self.before = self.now.filter(|_| passed <= 2 * period);
            self.now = None;
            self.since = now;
        }
        self.now = Some(self.now.map_or(round_trip, |least| least.min(round_trip)));
    }

    pub(super) fn shortest(&self) -> Option<Micros> {
        match (self.now, self.before) {
            (Some(now), Some(before)) => Some(now.min(before)),
            (now, before) => now.or(before),
        }
    }

    /// Forgets all but this.
    pub(super) fn reset(&mut self, round_trip: Micros, now: Micros) {
        *self = Self {
            now: Some(round_trip),
            before: None,
            since: now,
        };
    }
}
