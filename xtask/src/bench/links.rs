//! `cargo xtask bench --links`: Tether beside autossh, on one device behind the same emulated link.
//!
//! The peer is what people build from stock parts: on the device, autossh holds `ssh -R` to a
//! gateway; both ends ask every 30 s whether the other is there, and give up after three questions.
//! TCP on the device is cubic, as on most; where it matters, bbr is tried as well.
//!
//! Both sides are cut, moved and left idle at the same time, in the same way; only bulk has the
//! link for itself. A side that was not back within the patience counts with all of it.

mod bulk;
mod dial;
mod figures;
mod ours;
mod peer;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use hil_tests::net::emulator::{Emulator, Interface, Link, Shape, Timeouts};
use hil_tests::process::poll;

use super::Options;
use ::cross::shell::say;
use figures::{Figures, Times};
use ours::Ours;
use peer::Peer;

/// The device's congestion control, unless said otherwise.
const ORDINARY: &str = "cubic";
/// What decides which packets are lost.
const SEED: u64 = 7;
/// A side must serve a dial within this time before anything is done to it.
const READY: Duration = Duration::from_mins(10);
/// Cuts and moves come at other moments of the keepalives each time.
const STEP: Duration = Duration::from_secs(7);

/// One side of the comparison.
trait Side: Sync {
    fn name(&self) -> &'static str;
    /// The user's command that runs another on the device.
    fn client(&self, command: &str) -> Result<Command>;
    /// The port that the device's end holds its link to.
    fn port(&self) -> u16;
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
    let mut figures = Figures::default();
    bench.cuts(&mut figures)?;
    bench.moves(&mut figures)?;
    bench.bulk(&mut figures)?;
    bench.idle(&mut figures)?;
    figures.report(options.json.as_deref())
}

impl<'o> Bench<'o> {
    fn start(options: &'o Options, dir: &Path, bin: &Path) -> Result<Self> {
        let links = Arc::new(Emulator::new(SEED)?);
        links.use_congestion_control(ORDINARY)?;
        let ours = Ours::start(&dir.join("tether"), bin, &links)?;
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

    fn wanted(&self, name: &str) -> bool {
        let wanted = self.options.only.as_ref();
        wanted.is_none_or(|part| name.contains(part))
    }

    /// Time from the return of the network until a new dial is served.
    fn cuts(&self, figures: &mut Figures) -> Result<()> {
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
            self.after(&name, runs, cut, figures)?;
        }
        Ok(())
    }

    /// Time from a change of the way until a new dial is served.
    fn moves(&self, figures: &mut Figures) -> Result<()> {
        let runs = self.runs.min(2);
        let address = |link: Link<'_>| link.change_address();
        self.after("back after a change of address", runs, address, figures)?;
        let nat = |link: Link<'_>| {
            link.change_nat();
            Ok(())
        };
        self.after("back after a change of the NAT", runs, nat, figures)
    }

    fn after(
        &self,
        name: &str,
        runs: usize,
        happen: impl Fn(Link<'_>) -> Result<()>,
        figures: &mut Figures,
    ) -> Result<()> {
        if !self.wanted(name) {
            return Ok(());
        }
        let mut times = Times::default();
        for run in 0..runs {
            self.settle()?;
            wait(STEP * u32::try_from(run)?);
            say(&format!("{name}, run {} of {runs} ...", run + 1));
            happen(self.links.link(Interface::Wlan))?;
            let time = |side| dial::time_until_served(side, self.patience);
            let (peer, ours) = std::thread::scope(|scope| {
                let ours = scope.spawn(|| time(&self.ours));
                (time(&self.peer), ours.join())
            });
            let ours = ours.map_err(|_| anyhow::anyhow!("panicked"))??;
            times.add(ours, peer?, self.patience);
        }
        figures.times(name, times);
        Ok(())
    }

    /// Bulk from the device, and somebody who types meanwhile.
    fn bulk(&self, figures: &mut Figures) -> Result<()> {
        const NAME: &str = "5 Mbit/s, 200 ms, 2 % loss";
        if !self.wanted(NAME) {
            return Ok(());
        }
        let measure = |side: &dyn Side| {
            say(&format!("{NAME}: {} ...", side.name()));
            // The same packets are lost for everybody, as far as they send the same.
            let loaded = bulk::measure(side);
            self.links.shape(Shape::default());
            loaded
        };
        let prepare = |control: &str| {
            self.links.shape(Shape::default());
            self.links.use_congestion_control(control)?;
            self.peer.reconnect()?;
            self.settle()?;
            self.links.shape(Shape::cellular());
            anyhow::Ok(())
        };
        prepare(ORDINARY)?;
        let ours = measure(&self.ours)?;
        for control in [ORDINARY, "bbr"] {
            prepare(control)?;
            figures.loaded(NAME, control, &ours, &measure(&self.peer)?);
        }
        prepare(ORDINARY)?;
        self.links.shape(Shape::default());
        Ok(())
    }

    /// What an idle link costs.
    fn idle(&self, figures: &mut Figures) -> Result<()> {
        let timeouts = Timeouts::default();
        let name = format!("idle, NAT that keeps UDP for {} s", timeouts.udp.as_secs());
        if !self.wanted(&name) {
            return Ok(());
        }
        let minutes = if self.options.long { 60 } else { 10 };
        self.settle()?;
        self.links.set_nat_timeouts(timeouts);
        // What the last dial left to be acknowledged is not idle.
        wait(Duration::from_secs(30));
        say(&format!("{name}: {minutes} minutes ..."));
        let link = self.links.link(Interface::Wlan);
        link.reset_counters();
        wait(Duration::from_mins(minutes));
        let counters = link.counters();
        let a_day = |port| counters.bytes_of(port) as f64 * (24.0 * 60.0) / minutes as f64;
        let (ours, peer) = (a_day(self.ours.port()), a_day(self.peer.port()));
        figures.add(&name, "KiB/day", ours / 1024.0, peer / 1024.0);
        Ok(())
    }

    /// Waits until both sides serve dials.
    fn settle(&self) -> Result<()> {
        let sides: [&dyn Side; 2] = [&self.ours, &self.peer];
        for side in sides {
            let served = dial::time_until_served(side, READY)?;
            ensure!(served.is_some(), "{} serves no dial", side.name());
        }
        Ok(())
    }
}

/// Lets time pass, unless the run is interrupted.
fn wait(time: Duration) {
    let _: Option<()> = poll(time, || None);
}
