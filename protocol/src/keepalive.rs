//! How long a link may be silent: as long as the NATs on the way keep their mapping, and no byte
//! more often than that.
//!
//! The machine waits a little longer each time, until the cluster reports that the agent's address
//! changed ([`crate::message::control::ToAgent::Rebound`]): then the silence was too long.
//!
//! ```text
//!   first ──held──► + 1/8 ──held──► + 1/8 ── ... ──lost──► steady, a little below what held
//! ```
//!
//! Steps are small since those that hold cost nothing: the packets that they are made of keep the
//! mapping anyway. One that fails costs [`Price::lost`], and nobody can reach the device
//! meanwhile. So the gap between what held and what did not is halved only as long as that pays.
//!
//! A silence counts as held once the next one begins without a report. What was learnt is
//! remembered for each network by the caller ([`Keepalive::known`]).

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cost::{DAY, Price};

/// No mapping is shorter: RFC 4787 §4.3 asks for two minutes, the worst seen keep 10 to 20 s.
pub const LEAST: Duration = Duration::from_secs(10);
/// The next silence is longer by one such part of the one that held.
const STEP: u32 = 8;
/// Closer than this is not worth knowing: the timers of both ends and of the NAT do not agree.
const CLOSE: Duration = Duration::from_secs(3);
/// So many steady silences before the one that was lost is tried again: a NAT may have been replaced.
/// That costs less than a hundredth of them.
const RETRY_AFTER: u16 = 4096;
/// A silence that used to hold must fail so often in a row before it is believed: a NAT that
/// restarts loses every mapping, whatever its age.
const SURPRISES: u8 = 2;

/// What silence costs, and what packets cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Every byte is paid for.
    Metered,
    /// Bytes are cheap.
    #[default]
    Normal,
    /// Bytes cost nothing.
    Lan,
}

impl Profile {
    /// The first silence on a network of which nothing is known.
    #[must_use]
    pub const fn first(self) -> Duration {
        Duration::from_secs(match self {
            Self::Metered | Self::Normal => 25,
            Self::Lan => 15,
        })
    }

    /// The longest silence while somebody uses the device, or always where bytes cost nothing. A
    /// NAT on the way that is another one all of a sudden tells nobody: it shows when the agent
    /// sends, and until then nothing comes in.
    #[must_use]
    const fn attended(self) -> Duration {
        match self {
            Self::Metered => Duration::MAX,
            Self::Normal => Duration::from_secs(1),
            Self::Lan => Duration::from_millis(500),
        }
    }

    /// The longest silence, whatever the network allows: how long a dead link may look alive.
    #[must_use]
    pub const fn most(self) -> Duration {
        Duration::from_secs(match self {
            Self::Metered => 900,
            Self::Normal => 60,
            Self::Lan => 15,
        })
    }
}

/// What is known of one network: seconds of silence after which the mapping was still there, and
/// after which it was gone; 0 for unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Known {
    /// Held.
    pub held_s: u16,
    /// Lost.
    pub lost_s: u16,
}

/// See the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    profile: Profile,
    price: Price,
    /// The silence to begin with where nothing is known.
    first: Duration,
    /// What the cluster allows.
    most: Duration,
    held: Duration,
    /// Zero if unknown.
    lost: Duration,
    /// The silence whose outcome is not known yet.
    tested: Option<Duration>,
    surprises: u8,
    steady: u16,
}

impl Keepalive {
    /// Knows nothing yet.
    #[must_use]
    pub const fn new(profile: Profile, price: Price) -> Self {
        Self {
            profile,
            price,
            first: profile.first(),
            most: Duration::MAX,
            held: Duration::ZERO,
            lost: Duration::ZERO,
            tested: None,
            surprises: 0,
            steady: 0,
        }
    }

    /// The network is another one; `known` is what is remembered of it.
    pub fn enter(&mut self, profile: Profile, known: Known) {
        *self = Self {
            most: self.most,
            held: Duration::from_secs(u64::from(known.held_s)),
            lost: Duration::from_secs(u64::from(known.lost_s)),
            ..Self::new(profile, self.price)
        };
    }

    /// Forgets what is known of this network, and begins with this silence.
    pub fn begin(&mut self, first: Duration) {
        self.enter(self.profile, Known::default());
        self.first = first;
    }

    /// What to remember of this network.
    #[must_use]
    pub fn known(&self) -> Known {
        let seconds = |d: Duration| u16::try_from(d.as_secs()).unwrap_or(u16::MAX);
        Known {
            held_s: seconds(self.held),
            lost_s: seconds(self.lost),
        }
    }

    /// The longest silence that the cluster allows.
    pub fn allow(&mut self, most: Duration) {
        self.most = most;
    }

    /// How long to be silent next. Nothing was reported of the silence before, so it has held.
    #[must_use]
    pub fn interval(&self) -> Duration {
        let most = self.longest();
        let mut next = *self;
        next.probed_early();
        next.wish().clamp(LEAST.min(most), most)
    }

    /// The longest silence that may come of learning.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.profile.most().min(self.most)
    }

    /// Bytes that a day of silence costs by what is known.
    #[must_use]
    pub fn a_day(&self) -> u64 {
        self.price.a_day(self.interval())
    }

    /// How long to be silent next where a heartbeat is all that a changed way needs.
    #[must_use]
    pub fn interval_if(&self, attended: bool) -> Duration {
        if attended || self.profile == Profile::Lan {
            self.interval().min(self.profile.attended())
        } else {
            self.interval()
        }
    }

    fn wish(&self) -> Duration {
        let (held, lost) = (self.held, self.lost);
        if lost.is_zero() {
            return match held {
                Duration::ZERO => self.first,
                held => held.saturating_add(held / STEP),
            };
        }
        if held >= lost || held.is_zero() {
            return lost / 2;
        }
        if !self.is_steady() {
            return held.saturating_add((held / STEP).min((lost - held) / 2));
        }
        if self.steady >= RETRY_AFTER {
            return lost;
        }
        // The mapping may have held by a hair.
        held - (held / 64).max(Duration::from_secs(1))
    }

    /// Whether there is nothing left to find out that is worth a failure, which is as likely as not:
    /// what is saved would have to pay for it in a third of a day.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        if self.lost.is_zero() || self.held.is_zero() {
            return false;
        }
        let gap = self.lost.saturating_sub(self.held);
        let a_day = |silence: Duration| DAY.as_secs() / silence.as_secs().max(1);
        let saved = a_day(self.held).saturating_sub(a_day(self.held.saturating_add(gap / 2)));
        gap <= CLOSE || saved <= self.price.lost.div_ceil(self.price.heartbeat) * 3
    }

    /// A probe is sent after this much silence. Whatever the one before tested has held.
    pub fn probed(&mut self, silence: Duration) {
        if let Some(tested) = self.tested.replace(silence) {
            self.confirm(tested);
        }
    }

    /// As [`Self::probed`], after a silence that was kept short: it tests nothing.
    pub fn probed_early(&mut self) {
        if let Some(tested) = self.tested.take() {
            self.confirm(tested);
        }
    }

    fn confirm(&mut self, silence: Duration) {
        self.surprises = 0;
        // A mapping that held for longer than one that was lost: the report was about a restart.
        if silence >= self.lost {
            self.lost = Duration::ZERO;
        }
        self.held = self.held.max(silence);
        if self.is_steady() {
            self.steady = self.steady.saturating_add(1);
        }
    }

    /// The mapping was gone after the last silence.
    pub fn lost(&mut self) {
        let Some(silence) = self.tested.take() else {
            return;
        };
        if silence <= self.held {
            self.surprises = self.surprises.saturating_add(1);
            if self.surprises < SURPRISES {
                return;
            }
            self.held = Duration::ZERO;
        }
        self.surprises = 0;
        self.steady = 0;
        self.lost = if self.lost.is_zero() {
            silence
        } else {
            self.lost.min(silence)
        };
    }

    /// The link ended: nothing will be known of the last silence.
    pub fn forget_test(&mut self) {
        self.tested = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Runs silences against a NAT until `rounds` are over; gives the time lost and spent.
    fn run(keepalive: &mut Keepalive, mapping: Duration, rounds: usize) -> usize {
        let mut lost = 0;
        for _ in 0..rounds {
            let silence = keepalive.interval();
            keepalive.probed(silence);
            if silence > mapping {
                keepalive.lost();
                lost += 1;
            }
        }
        lost
    }

    #[test]
    fn it_settles_just_below_what_the_nat_allows() {
        for mapping in 12..=1200 {
            let mut keepalive = Keepalive::new(Profile::Metered, cost::QUIC);
            let lost = run(&mut keepalive, s(mapping), 60);
            assert!(lost <= 4, "{mapping} s: lost {lost} times");
            assert_eq!(run(&mut keepalive, s(mapping), 1000), 0, "{mapping} s");
            let got = keepalive.interval();
            assert!(got <= s(mapping), "{mapping} s: {got:?}");
            let good = s(mapping).min(Profile::Metered.most());
            assert!(
                got * 100 >= good * 80 || got >= good - s(5),
                "{mapping} s: {got:?}"
            );
        }
    }

    #[test]
    fn no_profile_exceeds_its_longest_silence_nor_the_clusters() {
        for profile in [Profile::Metered, Profile::Normal, Profile::Lan] {
            let mut keepalive = Keepalive::new(profile, cost::QUIC);
            run(&mut keepalive, Duration::MAX, 100);
            assert_eq!(keepalive.interval(), profile.most());
            keepalive.allow(s(12));
            assert_eq!(keepalive.interval(), s(12));
        }
    }

    #[test]
    fn one_restart_of_a_nat_teaches_nothing() {
        let mut keepalive = Keepalive::new(Profile::Metered, cost::QUIC);
        run(&mut keepalive, s(300), 60);
        let before = keepalive.interval();
        keepalive.probed(before);
        keepalive.lost();
        assert_eq!(keepalive.interval(), before);
        assert_eq!(run(&mut keepalive, s(300), 100), 0);
    }

    #[test]
    fn a_nat_that_forgets_sooner_is_followed() {
        let mut keepalive = Keepalive::new(Profile::Metered, cost::QUIC);
        run(&mut keepalive, s(300), 60);
        assert!(run(&mut keepalive, s(40), 60) <= 10);
        assert!(keepalive.interval() <= s(40));
        assert_eq!(run(&mut keepalive, s(40), 500), 0);
    }

    #[test]
    fn a_nat_that_keeps_longer_is_found_out_in_time() {
        let mut keepalive = Keepalive::new(Profile::Metered, cost::QUIC);
        run(&mut keepalive, s(60), 60);
        assert!(keepalive.interval() <= s(60));
        run(&mut keepalive, s(600), usize::from(RETRY_AFTER) + 60);
        assert!(keepalive.interval() >= s(450), "{:?}", keepalive.interval());
    }

    #[test]
    fn looking_whether_a_nat_keeps_longer_costs_one_mapping() {
        for mapping in [25, 60, 120, 300] {
            let mut keepalive = Keepalive::new(Profile::Metered, cost::QUIC);
            run(&mut keepalive, s(mapping), 100);
            let before = keepalive.interval();
            let rounds = usize::from(RETRY_AFTER) * 3;
            assert!(run(&mut keepalive, s(mapping), rounds) <= 3, "{mapping} s");
            assert_eq!(keepalive.interval(), before);
        }
    }

    #[test]
    fn a_silence_kept_short_teaches_nothing_and_forgets_nothing() {
        let mut keepalive = Keepalive::new(Profile::Normal, cost::QUIC);
        keepalive.probed(s(25));
        keepalive.probed_early();
        assert_eq!(keepalive.known().held_s, 25, "it had held");
        let before = keepalive;
        for _ in 0..10 {
            keepalive.probed_early();
            keepalive.lost();
        }
        assert_eq!(keepalive, before);
        assert!(keepalive.interval_if(true) < keepalive.interval());
        assert_eq!(keepalive.interval_if(false), keepalive.interval());
        keepalive.enter(Profile::Lan, Known::default());
        assert!(keepalive.interval_if(false) < Duration::from_secs(1));
    }

    #[test]
    fn what_was_learnt_is_remembered() {
        let mut keepalive = Keepalive::new(Profile::Metered, cost::QUIC);
        run(&mut keepalive, s(120), 60);
        let (known, interval) = (keepalive.known(), keepalive.interval());
        keepalive.enter(Profile::Normal, Known::default());
        assert_eq!(keepalive.interval(), Profile::Normal.first());
        keepalive.enter(Profile::Metered, known);
        assert!(interval.as_secs().abs_diff(keepalive.interval().as_secs()) <= 2);
        assert_eq!(run(&mut keepalive, s(120), 100), 0);
    }

    #[test]
    fn a_report_without_a_test_changes_nothing() {
        let mut keepalive = Keepalive::new(Profile::Normal, cost::QUIC);
        let before = keepalive;
        keepalive.lost();
        assert_eq!(keepalive, before);
    }
}
