//! `cargo xtask bench --links`: Tether beside autossh, on one device behind the same emulated link.
//!
//! The peer is what people build from stock parts: on the device, autossh holds `ssh -R` to a
//! gateway; both ends ask every 30 s whether the other is there, and give up after three questions.
//! TCP on the device is cubic, as on most; where it matters, bbr is tried as well.
//!
//! Both sides are cut, moved and left idle at the same time, in the same way; only bulk has the
//! link for itself.

mod bulk;
mod dial;
pub(super) mod ours;
pub(super) mod peer;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use hil_tests::net::emulator::{Emulator, Interface, Link, Shape, Timeouts};
use hil_tests::process::poll;

use super::Options;
use super::report::{Limit, NEVER, Report, Table};
use ::cross::shell::say;
use ours::Ours;
use peer::Peer;

/// The device's congestion control, unless said otherwise.
pub(super) const ORDINARY: &str = "cubic";
/// What decides which packets are lost.
const SEED: u64 = 7;
/// How long dials are tried eagerly: until TCP has tried again that was interrupted for a minute;
/// and where TCP cannot come back by itself.
const REVIVES: Duration = Duration::from_mins(1);
const CANNOT_REVIVE: Duration = Duration::from_secs(5);
/// A side must serve a dial within this time before anything is done to it.
const READY: Duration = Duration::from_mins(10);
/// Cuts and moves come at other moments of the keepalives each time.
pub(super) const STEP: Duration = Duration::from_secs(7);

/// A new dial is served so many seconds after the path's return, and after a change of the way.
const CUT_LIMIT: f64 = 2.0;
const MOVED_LIMIT: f64 = 1.0;

/// What a day may cost, in kB, behind a NAT that keeps UDP for so many seconds.
fn idle_limit(profile: &str, nat: u64) -> Limit {
    match (profile, nat) {
        ("metered", 300..) => Limit::AtMost(50.0),
        ("metered", 120..) => Limit::AtMost(100.0),
        ("normal", 120..) => Limit::AtMost(500.0),
        _ => Limit::None,
    }
}

/// One side of the comparison.
pub(super) trait Side: Sync {
    fn name(&self) -> &'static str;
    /// The user's command that runs another on the device, with options of `ssh`.
    fn client_with(&self, options: &[&str], command: &str) -> Result<Command>;
    /// As [`Self::client_with`], without any.
    fn client(&self, command: &str) -> Result<Command> {
        self.client_with(&[], command)
    }
    /// The port that the device's end holds its link to.
    fn port(&self) -> u16;
    /// What dials now pass, if somebody in the world can tell; another after a reconnect.
    fn tunnel(&self) -> Option<String> {
        None
    }
}

/// Both sides on one device.
struct Bench<'o> {
    options: &'o Options,
    links: Arc<Emulator>,
    ours: Ours,
    peer: Peer,
    runs: usize,
    /// What a side gets to come back.
    patience: Duration,
}

/// Builds, measures and prints.
///
/// # Errors
/// If links cannot be emulated here, or a side cannot be set up.
pub(super) fn run(options: &Options) -> Result<()> {
    let bin = super::programs(options)?;
    let dir = tempfile::tempdir()?;
    let bench = Bench::start(options, dir.path(), &bin)?;
    let mut report = Report::new(options.json.as_deref());
    for measure in [Bench::cuts, Bench::moves, Bench::bulk, Bench::idle] {
        let mut table = Table::beside("autossh");
        measure(&bench, &mut table)?;
        report.add(table)?;
    }
    report.write()
}

impl<'o> Bench<'o> {
    fn start(options: &'o Options, dir: &Path, bin: &Path) -> Result<Self> {
        let links = Arc::new(Emulator::new(SEED)?);
        links.use_congestion_control(ORDINARY)?;
        // From the start: how long silence may last is learnt.
        links.set_nat_timeouts(Timeouts {
            udp: Duration::from_secs(options.nat_timeout),
            ..Timeouts::default()
        });
        let keepalive = options.keepalive.as_deref();
        let ours = Ours::start(&dir.join("tether"), bin, &links, keepalive)?;
        let peer = Peer::start(&dir.join("openssh"), &links, ours.accounts())?;
        Ok(Self {
            options,
            links,
            ours,
            peer,
            // A cut takes its time.
            runs: options.runs.min(3),
            patience: Duration::from_secs(if options.long { 420 } else { 120 }),
        })
    }

    /// Time from the return of the network until a new dial is served.
    fn cuts(&self, table: &mut Table) -> Result<()> {
        let mut cuts = vec![(10, self.runs), (60, self.runs)];
        if self.options.long {
            cuts.push((600, 1));
        }
        for (seconds, runs) in cuts {
            let name = format!("back after a cut of {seconds} s");
            let cut = |_: Link<'_>| {
                self.links.cut();
                wait(Duration::from_secs(seconds));
                self.links.mend();
                Ok(())
            };
            self.after(&name, runs, REVIVES, (CUT_LIMIT, cut), table)?;
        }
        Ok(())
    }

    /// Time from a change of the way until a new dial is served.
    fn moves(&self, table: &mut Table) -> Result<()> {
        let runs = self.runs.min(2);
        let address = |link: Link<'_>| link.change_address();
        let name = "back after a change of address";
        self.after(name, runs, CANNOT_REVIVE, (MOVED_LIMIT, address), table)?;
        let nat = |link: Link<'_>| {
            link.change_nat();
            Ok(())
        };
        let name = "back after a change of the NAT";
        self.after(name, runs, CANNOT_REVIVE, (MOVED_LIMIT, nat), table)
    }

    fn after(
        &self,
        name: &str,
        runs: usize,
        eager: Duration,
        (limit, happen): (f64, impl Fn(Link<'_>) -> Result<()>),
        table: &mut Table,
    ) -> Result<()> {
        if !self.options.wants(name) {
            return Ok(());
        }
        let mut times: [Vec<f64>; 2] = Default::default();
        for run in 0..runs {
            settle(&self.ours, &self.peer)?;
            wait(STEP * u32::try_from(run)?);
            say(&format!("{name}, run {} of {runs} ...", run + 1));
            happen(self.links.link(Interface::Wlan))?;
            let time = |side| dial::time_until_served(side, eager, self.patience);
            let (peer, ours) = std::thread::scope(|scope| {
                let ours = scope.spawn(|| time(&self.ours));
                (time(&self.peer), ours.join())
            });
            let ours = ours.map_err(|_| anyhow::anyhow!("panicked"))??;
            for (times, time) in times.iter_mut().zip([ours, peer?]) {
                times.push(time.map_or(NEVER, |time| time.as_secs_f64()));
            }
        }
        let both = (&times[0][..], &times[1][..]);
        table.medians(&format!("{name}, median"), "s", both, Limit::AtMost(limit));
        table.worst(&format!("{name}, worst"), "s", both, Limit::AtMost(limit));
        Ok(())
    }

    /// Bulk from the device, and somebody who types meanwhile.
    fn bulk(&self, table: &mut Table) -> Result<()> {
        for (name, shape) in bulk::links() {
            if self.options.wants(name) {
                self.bulk_over(name, shape, table)?;
            }
        }
        Ok(())
    }

    fn bulk_over(&self, name: &str, shape: Shape, table: &mut Table) -> Result<()> {
        let measure = |side: &dyn Side, control: &str| {
            self.links.shape(Shape::default());
            self.links.use_congestion_control(control)?;
            self.peer.reconnect()?;
            settle(&self.ours, &self.peer)?;
            // The same packets are lost for everybody, as far as they send the same.
            self.links.shape(shape);
            say(&format!("{name}: {} ...", side.name()));
            let loaded = bulk::measure(side);
            self.links.shape(Shape::default());
            loaded
        };
        let ours = measure(&self.ours, ORDINARY)?;
        for control in [ORDINARY, "bbr"] {
            match measure(&self.peer, control) {
                Ok(peer) => bulk::tell(name, control, &ours, &peer, table),
                Err(error) => say(&format!("{name}, {control}: {error:#}")),
            }
        }
        self.links.use_congestion_control(ORDINARY)?;
        self.peer.reconnect()
    }

    /// What an idle link costs.
    fn idle(&self, table: &mut Table) -> Result<()> {
        let profile = self.options.keepalive.as_deref().unwrap_or("auto");
        let nat = self.options.nat_timeout;
        let name = format!("idle, {profile}, NAT that keeps UDP for {nat} s");
        if !self.options.wants(&name) {
            return Ok(());
        }
        let usual = if self.options.long { 60 } else { 10 };
        let time = Duration::from_mins(self.options.idle.unwrap_or(usual));
        settle(&self.ours, &self.peer)?;
        let minutes = time.as_secs() / 60;
        say(&format!("{name}: twice {minutes} minutes ..."));
        let (ours, peer) = self.bytes_of(time);
        let learning = format!("{name}: its first {minutes} minutes");
        let (ours, peer) = (ours / 1000.0, peer / 1000.0);
        table.medians(&learning, "kB", (&[ours], &[peer]), Limit::None);
        let (ours, peer) = self.bytes_of(time);
        let a_day = 24.0 * 3600.0 / time.as_secs_f64() / 1000.0;
        let both = (&[ours * a_day][..], &[peer * a_day][..]);
        table.medians(&name, "kB/day", both, idle_limit(profile, nat));
        Ok(())
    }

    /// Lets time pass; says what both sides put on the wire meanwhile.
    fn bytes_of(&self, time: Duration) -> (f64, f64) {
        let link = self.links.link(Interface::Wlan);
        link.reset_counters();
        wait(time);
        let counters = link.counters();
        let of = |port| counters.bytes_of(port) as f64;
        (of(self.ours.port()), of(self.peer.port()))
    }
}

/// Waits until both sides serve dials.
pub(super) fn settle(ours: &Ours, peer: &Peer) -> Result<()> {
    let sides: [&dyn Side; 2] = [ours, peer];
    for side in sides {
        let served = dial::time_until_served(side, CANNOT_REVIVE, READY)?;
        ensure!(served.is_some(), "{} serves no dial", side.name());
    }
    Ok(())
}

/// Lets time pass, unless the run is interrupted.
pub(super) fn wait(time: Duration) {
    let _: Option<()> = poll(time, || None);
}
