//! Which transport an agent uses: QUIC where it can, SSH over TCP where it must.
//!
//! * QUIC is tried first. If its handshake is not done within [`STAGGER`], SSH starts beside it,
//!   and the first that is authenticated is taken.
//! * QUIC links that went dark [`DARK_TWICE`] times without having [`LIVED`], and were not heard
//!   again, put SSH first: some networks let a handshake through and nothing after it.
//! * While a link runs over SSH, QUIC is tried again at growing intervals, and taken once it holds;
//!   unless silence costs less over SSH ([`crate::link`]).
//! * What worked is remembered for each network by the caller ([`Choice::remember`]).

use core::time::Duration;

/// How long QUIC is alone in an attempt: three of its probe time-outs before a round trip is known
/// (RFC 9002 §6.2.2).
pub const STAGGER: Duration = Duration::from_secs(3);
/// So many QUIC links in a row must go dark before SSH comes first.
pub const DARK_TWICE: u8 = 2;
/// A QUIC link that was up this long has shown that the network carries QUIC.
pub const LIVED: Duration = Duration::from_secs(600);
/// First wait before QUIC is tried again beside an SSH link; it doubles with each failure.
pub const FIRST_PROBE: Duration = Duration::from_secs(30);
/// The longest such wait: a failed probe costs about 5 kB.
pub const LAST_PROBE: Duration = Duration::from_secs(3600);
/// The longest such wait where bytes cost money.
pub const LAST_PROBE_METERED: Duration = Duration::from_secs(8 * 3600);

/// What a link is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// QUIC over UDP.
    Quic,
    /// SSH over TCP, inside TLS where possible.
    Ssh,
}

/// What the operator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Whatever works, QUIC preferred.
    #[default]
    Auto,
    /// This one only.
    Only(Kind),
}

/// What one attempt tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Tried at once.
    pub first: Kind,
    /// Tried as well after `stagger`, or as soon as the first has failed.
    pub second: Option<Kind>,
    /// See `second`.
    pub stagger: Duration,
}

impl Plan {
    /// One transport and no other.
    #[must_use]
    pub const fn only(kind: Kind) -> Self {
        Self {
            first: kind,
            second: None,
            stagger: Duration::ZERO,
        }
    }
}

/// See the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    policy: Policy,
    metered: bool,
    preferred: Kind,
    went_dark: u8,
    failed_probes: u32,
}

impl Choice {
    /// Knows nothing of the network yet.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self {
            policy,
            metered: false,
            preferred: Kind::Quic,
            went_dark: 0,
            failed_probes: 0,
        }
    }

    /// The network is another one. `worked` is what is remembered of it.
    pub fn enter(&mut self, worked: Option<Kind>, metered: bool) {
        *self = Self {
            metered,
            preferred: worked.unwrap_or(Kind::Quic),
            ..Self::new(self.policy)
        };
    }

    /// What works on this network.
    #[must_use]
    pub const fn remember(&self) -> Kind {
        self.preferred
    }

    /// What the next attempt should try.
    #[must_use]
    pub const fn plan(&self) -> Plan {
        match (self.policy, self.preferred) {
            (Policy::Only(kind), _) => Plan::only(kind),
            (Policy::Auto, first) => Plan {
                first,
                second: Some(match first {
                    Kind::Quic => Kind::Ssh,
                    Kind::Ssh => Kind::Quic,
                }),
                stagger: STAGGER,
            },
        }
    }

    /// Whether bytes may decide what a link is made of.
    #[must_use]
    pub fn goes_by_bytes(&self) -> bool {
        self.metered && self.policy == Policy::Auto
    }

    /// This one comes first from now on.
    pub const fn prefer(&mut self, kind: Kind) {
        self.preferred = kind;
    }

    /// A link that was up for `lasting` no longer carries anything.
    pub fn dark(&mut self, kind: Kind, lasting: Duration) {
        if kind == Kind::Ssh {
            return;
        }
        self.ended(kind, lasting);
        self.went_dark = self.went_dark.saturating_add(1);
        if self.went_dark >= DARK_TWICE && self.policy == Policy::Auto {
            self.preferred = Kind::Ssh;
            self.failed_probes = self.failed_probes.saturating_add(1);
        }
    }

    /// A link that was dark carries again.
    pub fn light(&mut self, kind: Kind) {
        self.went_dark = 0;
        self.preferred = kind;
    }

    /// A link has ended that carried something for `lasting`.
    pub fn ended(&mut self, kind: Kind, lasting: Duration) {
        if kind == Kind::Quic && lasting >= LIVED {
            self.went_dark = 0;
            self.failed_probes = 0;
        }
    }

    /// After which time something better than `kind` should be looked for, if there may be any.
    #[must_use]
    pub fn probe_after(&self, kind: Kind) -> Option<Duration> {
        if kind == Kind::Quic || self.policy != Policy::Auto {
            return None;
        }
        let most = if self.metered {
            LAST_PROBE_METERED
        } else {
            LAST_PROBE
        };
        Some(
            FIRST_PROBE
                .saturating_mul(1 << self.failed_probes.min(16))
                .min(most),
        )
    }

    /// QUIC was looked for, and is not to be had.
    pub fn probe_failed(&mut self) {
        self.failed_probes = self.failed_probes.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn first(choice: &Choice) -> Kind {
        choice.plan().first
    }

    #[test]
    fn quic_comes_first_and_ssh_beside_it() {
        let plan = Choice::new(Policy::Auto).plan();
        assert_eq!((plan.first, plan.second), (Kind::Quic, Some(Kind::Ssh)));
        assert_eq!(plan.stagger, STAGGER);
    }

    #[test]
    fn what_the_operator_names_is_all_that_is_tried() {
        for kind in [Kind::Quic, Kind::Ssh] {
            let mut choice = Choice::new(Policy::Only(kind));
            for _ in 0..5 {
                choice.dark(Kind::Quic, Duration::ZERO);
            }
            assert_eq!(choice.plan(), Plan::only(kind));
            assert_eq!(choice.probe_after(Kind::Ssh), None);
        }
    }

    #[test]
    fn quic_that_goes_dark_twice_comes_second() {
        let mut choice = Choice::new(Policy::Auto);
        choice.dark(Kind::Quic, MINUTE);
        assert_eq!(first(&choice), Kind::Quic);
        choice.dark(Kind::Quic, MINUTE);
        assert_eq!(first(&choice), Kind::Ssh);
    }

    #[test]
    fn quic_that_is_heard_again_is_not_blamed() {
        let mut choice = Choice::new(Policy::Auto);
        for _ in 0..10 {
            choice.dark(Kind::Quic, MINUTE);
            choice.light(Kind::Quic);
        }
        assert_eq!(first(&choice), Kind::Quic);
    }

    #[test]
    fn quic_that_had_lived_is_not_blamed() {
        let mut choice = Choice::new(Policy::Auto);
        for _ in 0..10 {
            choice.dark(Kind::Quic, LIVED);
        }
        assert_eq!(first(&choice), Kind::Quic);
    }

    #[test]
    fn quic_is_looked_for_less_and_less_often_but_never_given_up() {
        let mut choice = Choice::new(Policy::Auto);
        choice.prefer(Kind::Ssh);
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            let wait = choice.probe_after(Kind::Ssh).unwrap();
            assert!(wait >= last && wait <= LAST_PROBE);
            last = wait;
            choice.probe_failed();
        }
        assert_eq!(last, LAST_PROBE);
        choice.enter(Some(Kind::Ssh), true);
        assert_eq!(choice.probe_after(Kind::Ssh), Some(FIRST_PROBE));
        assert_eq!(first(&choice), Kind::Ssh);
    }

    #[test]
    fn a_link_over_quic_looks_for_nothing() {
        let mut choice = Choice::new(Policy::Auto);
        choice.prefer(Kind::Quic);
        assert_eq!(choice.probe_after(Kind::Quic), None);
        assert_eq!(choice.remember(), Kind::Quic);
    }
}
