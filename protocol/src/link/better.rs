//! What may be better than the link that is held: QUIC than SSH, and where every byte is paid for,
//! an SSH link that is silent for long.
//!
//! Many NATs keep UDP for half a minute, and TCP for hours. So while nobody uses the device, and
//! nothing is left to learn about silence over QUIC, SSH is tried beside it:
//!
//! * if half a day would pay for the link, by what is known of SSH in this network or, before that,
//!   by the longest silence there is;
//! * if a try that comes to nothing costs a twentieth at most of what QUIC does: in a day, or else
//!   since the last try. Each that came to nothing doubles that time;
//! * once QUIC has cost as much as a try, where the device came from another network: it may soon
//!   be in the next.
//!
//! The first silence over SSH is one that already pays. If the mapping does not last that long,
//! nothing does that SSH is good for here, and the next link is QUIC again; else the silence grows,
//! as anywhere ([`crate::keepalive`]), and QUIC is not looked for as long as it costs more.

use core::time::Duration;

use super::{BETTER_TIMEOUT, CONNECT_TIMEOUT, Link, Loss, Next, PROBE_TIMEOUT, Why};
use crate::cost::{self, DAY};
use crate::keepalive::Keepalive;
use crate::transport::{FIRST_PROBE, Kind, Plan};

/// What a try costs that comes to nothing: that link, a heartbeat and its repetitions, and another
/// link over QUIC.
const TRY: u64 = cost::SSH_LINK + 6 * cost::SSH_HEARTBEAT + cost::LINK;
/// A try may cost such a part of what QUIC does meanwhile.
const PART: u32 = 20;

/// What is known of a quiet link in the present network.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Quiet {
    /// The link is over SSH since that costs less.
    on: bool,
    /// Tries that came to nothing.
    failed: u8,
    /// Since when QUIC costs what it does without a try.
    since: Option<Duration>,
    /// The device was in another network before.
    moved: bool,
    /// What was known of silence over SSH before the link was lost in it, and whether that made SSH
    /// too dear; until it shows that this was the NAT.
    doubted: Option<(Keepalive, bool)>,
}

impl Quiet {
    /// In a network that the device came to.
    pub(super) fn elsewhere() -> Self {
        Self {
            moved: true,
            ..Self::default()
        }
    }

    fn fail(&mut self, now: Duration) {
        self.failed = self.failed.saturating_add(1);
        self.since = Some(now);
    }
}

impl Link {
    pub(super) fn look_for_better(&mut self, now: Duration) {
        self.next = Next::None;
        let wait = match self.held.map(|held| held.kind) {
            Some(Kind::Quic) => self.quiet_after(now),
            Some(kind) if !self.ssh_saves() => self.choice.probe_after(kind),
            _ => None,
        };
        if let Some(wait) = wait {
            self.why = Why::Better;
            self.wait(wait, now);
        }
    }

    /// Looks again, since more is known now.
    pub(super) fn look_again(&mut self, now: Duration) {
        if self.next == Next::None {
            self.look_for_better(now);
        }
    }

    /// Which transport to try beside the held one, and for how long.
    pub(super) fn better(&mut self, now: Duration) -> Option<(Plan, Duration)> {
        if self.held.map(|held| held.kind) != Some(Kind::Quic) {
            return Some((Plan::only(Kind::Quic), BETTER_TIMEOUT));
        }
        if self.attended {
            self.wait(FIRST_PROBE, now);
            return None;
        }
        if self.quiet_after(now).is_none() {
            self.next = Next::None;
            return None;
        }
        Some((Plan::only(Kind::Ssh), CONNECT_TIMEOUT))
    }

    /// What was tried beside the held link has come to nothing.
    pub(super) fn no_better(&mut self, now: Duration) {
        match self.held.map(|held| held.kind) {
            Some(Kind::Quic) => self.quiet.fail(now),
            _ => self.choice.probe_failed(),
        }
        if self.needs_another() {
            self.detour(0, now);
        } else {
            self.look_for_better(now);
        }
    }

    /// Before a link over `kind` takes the place of the held one.
    pub(super) fn settle(&mut self, kind: Kind) {
        let tried = self.why == Why::Better && kind == Kind::Ssh;
        if tried && !self.ssh_saves() {
            let [quic, ssh] = &mut self.keepalives;
            ssh.begin(paying(quic));
        }
        self.quiet.on = kind == Kind::Ssh && self.ssh_saves();
        self.quiet.doubted = None;
    }

    /// A link over SSH was lost in silence, as it is with its mapping.
    pub(super) fn unsettle(&mut self, loss: Loss, now: Duration) {
        let [_, ssh] = &mut self.keepalives;
        let before = *ssh;
        ssh.lost();
        let dear = self.quiet.on && !self.ssh_saves();
        if dear {
            self.quiet.fail(now);
            self.choice.prefer(Kind::Quic);
        }
        // Otherwise somebody has answered.
        self.quiet.doubted = (loss == Loss::Silent).then_some((before, dear));
    }

    /// Nobody can be reached, so no NAT is to blame.
    pub(super) fn was_outage(&mut self) {
        let Some((before, dear)) = self.quiet.doubted.take() else {
            return;
        };
        let [_, ssh] = &mut self.keepalives;
        *ssh = before;
        if dear {
            self.quiet.failed = self.quiet.failed.saturating_sub(1);
            self.choice.prefer(Kind::Ssh);
        }
    }

    /// Whether silence over SSH is known to cost less in this network than over QUIC.
    fn ssh_saves(&self) -> bool {
        let [quic, ssh] = &self.keepalives;
        self.choice.goes_by_bytes() && quic.is_steady() && ssh.a_day() < quic.a_day()
    }

    /// After which time SSH should be tried beside QUIC, if at all.
    fn quiet_after(&mut self, now: Duration) -> Option<Duration> {
        let saves = self.ssh_saves();
        let [quic, ssh] = &self.keepalives;
        if !self.choice.goes_by_bytes() || !quic.is_steady() {
            return None;
        }
        let hoped = if saves {
            ssh.a_day()
        } else {
            cost::SSH.a_day(ssh.longest())
        };
        if quic.a_day().saturating_sub(hoped) / 2 < cost::SSH_LINK {
            return None;
        }
        // In this time, QUIC costs as much as a try.
        let beats = u32::try_from(TRY.div_ceil(cost::HEARTBEAT)).unwrap_or(u32::MAX);
        let once = quic.interval().saturating_mul(beats);
        let share = once.saturating_mul(PART);
        let was_lost = !saves && ssh.known().lost_s > 0;
        let wait = match self.quiet.failed.max(was_lost.into()) {
            0 if !saves && share > DAY => share,
            0 if self.quiet.moved => once,
            0 => Duration::ZERO,
            failed => share.saturating_mul(1 << failed.min(16)),
        };
        let since = *self.quiet.since.get_or_insert(now);
        let left = since.saturating_add(wait).saturating_sub(now);
        // Whatever was asked of the cluster just now is answered by then.
        Some(left.max(PROBE_TIMEOUT))
    }
}

/// The first silence over SSH: one at which it costs an eighth less than QUIC.
fn paying(quic: &Keepalive) -> Duration {
    let even = quic.interval().as_secs() * cost::SSH_HEARTBEAT / cost::HEARTBEAT;
    Duration::from_secs(even * 9 / 8 + 1)
}
