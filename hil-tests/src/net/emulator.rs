//! A device behind two links that behave as told: slow, lossy, cut, behind a NAT that forgets.
//!
//! ```text
//!   device's namespace                     this program                       world
//!   wlan0 192.168.77.2 ── TUN ── filter, queue, rate, delay, loss ── NAT ──┐
//!   wwan0 100.64.0.2   ── TUN ── the same, with its own settings ─── NAT ──┴─ TUN ── 10.213.N.1
//! ```
//!
//! Every packet between the device and the world passes a thread of this program, so TCP and UDP
//! get the same treatment, and each byte is counted. All settings can be changed at any time. The
//! world is this machine, or a namespace of its own. IPv4 only; fragments do not pass the NAT.
//!
//! What decides is in modules without I/O: [`pipe`] (what one direction does to packets), [`nat`],
//! [`filter`], and [`core`](self::core) that puts them together. [`engine`] moves the packets.
//!
//! Names and addresses carry a number, as in [`net`](super). The TUN devices go away with this
//! process however it ends; the namespaces with their owner, or when the number is taken next.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::namespace::{self, Namespace};
use super::{free_number, sh};

mod core;
mod engine;
mod filter;
mod link;
mod nat;
mod packet;
mod pipe;
mod trace;
mod traffic;
mod tun;

pub use self::core::Interface;
pub use filter::{Direction, Filter, Rule};
pub use link::Link;
pub use nat::{Strays, Timeouts};
pub use packet::Protocol;
pub use pipe::Shape;
pub use traffic::{Count, Counters, Traffic};

use self::core::Core;
use engine::{Ends, Engine};
use link::Moves;
use trace::Trace;
use tun::Tun;

/// Where the cluster and everybody else is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// Where this program runs.
    Here,
    /// In a namespace of its own.
    Apart,
}

/// A device's namespace with its links to the world.
pub struct Emulator {
    number: u8,
    engine: Engine,
    device: Namespace,
    world: Option<Namespace>,
    moves: Mutex<Moves>,
    /// Held for as long as the number is in use.
    _lock: File,
}

impl Emulator {
    /// Whether this machine lets us emulate links.
    #[must_use]
    pub fn available() -> bool {
        Self::new(0).is_ok()
    }

    /// A device on a perfect `wlan0`; `wwan0` is down. The world is here. The seed decides which
    /// packets will be lost or late.
    ///
    /// # Errors
    /// If the kernel or missing rights do not allow it; nothing is left then.
    pub fn new(seed: u64) -> Result<Self> {
        Self::with_world(seed, World::Here)
    }

    /// As [`Self::new`], with the world elsewhere.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_world(seed: u64, world: World) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "network namespaces need root"
        );
        let (number, lock) = free_number()?;
        let device = Namespace::new(&format!("tether-e{number}"))?;
        let apart = format!("tether-w{number}");
        let world = match world {
            World::Here => None,
            World::Apart => Some(Namespace::new(&apart)?),
        };
        let ends = Ends {
            world: Tun::new(&format!("tth{number}w"))?,
            wlan: Tun::new(&format!("tth{number}a"))?,
            wwan: Tun::new(&format!("tth{number}b"))?,
        };
        let mut moves = Moves::new(number);
        let core = Core::new(
            seed,
            moves.first(Interface::Wlan),
            moves.first(Interface::Wwan),
        );
        let emulator = Self {
            number,
            engine: Engine::start(core, ends)?,
            device,
            world,
            moves: Mutex::new(moves),
            _lock: lock,
        };
        emulator.build().context("links cannot be emulated here")?;
        Ok(emulator)
    }

    fn build(&self) -> Result<()> {
        let (number, device) = (self.number, self.device.name());
        for (interface, made_as) in [(Interface::Wlan, "a"), (Interface::Wwan, "b")] {
            let name = interface.name();
            sh(&format!(
                "ip link set tth{number}{made_as} netns {device} name {name}"
            ))?;
            self.link(interface).take_down()?;
        }
        self.device
            .use_nameserver(&format!("nameserver {}\n", self.host_addr()))?;
        let far = format!("tth{number}w");
        match &self.world {
            Some(world) => {
                sh(&format!("ip link set {far} netns {}", world.name()))?;
                self.join_world(&far, &format!("-n {}", world.name()))?;
            }
            None => {
                namespace::no_ipv6_here(&far)?;
                self.join_world(&far, "")?;
            }
        }
        self.link(Interface::Wlan).bring_up()
    }

    fn join_world(&self, interface: &str, namespace: &str) -> Result<()> {
        let addr = self.host_addr();
        sh(&format!(
            "ip {namespace} addr add {addr}/24 dev {interface}"
        ))?;
        sh(&format!("ip {namespace} link set {interface} up"))
    }

    /// The world's address, as the device can reach it.
    #[must_use]
    pub fn host_addr(&self) -> String {
        self.host_ip().to_string()
    }

    /// As [`Self::host_addr`].
    #[must_use]
    pub fn host_ip(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.number, 1)
    }

    /// A command that runs on the device.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        self.device.command(program)
    }

    /// Runs this on a thread on the device; sockets that it makes stay there.
    ///
    /// # Errors
    /// If the namespace cannot be entered, or it panics.
    pub fn on_device<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.device.enter(work)
    }

    /// As [`Self::on_device`], in the world.
    ///
    /// # Errors
    /// As [`Self::on_device`].
    pub fn in_world<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        match &self.world {
            Some(world) => world.enter(work),
            None => Ok(work()),
        }
    }

    /// A command that runs in the world.
    #[must_use]
    pub fn world_command(&self, program: &Path) -> Command {
        match &self.world {
            Some(world) => world.command(program),
            None => Command::new(program),
        }
    }

    /// Chooses how TCP on the device finds its rate, such as `cubic` or `bbr`, for connections to
    /// come.
    ///
    /// # Errors
    /// If the kernel does not have it.
    pub fn use_congestion_control(&self, name: &str) -> Result<()> {
        namespace::allow_congestion_control(name)?;
        for namespace in [Some(&self.device), self.world.as_ref()]
            .into_iter()
            .flatten()
        {
            namespace.sysctl("net.ipv4.tcp_congestion_control", name)?;
        }
        Ok(())
    }

    /// One of the device's links.
    #[must_use]
    pub fn link(&self, interface: Interface) -> Link<'_> {
        Link::new(self, interface)
    }

    fn links(&self) -> [Link<'_>; 2] {
        Interface::ALL.map(|interface| self.link(interface))
    }

    /// Lets both links behave so in both directions.
    pub fn shape(&self, shape: Shape) {
        for link in self.links() {
            link.shape(shape);
        }
    }

    /// Drops everything from now on, both ways.
    pub fn cut(&self) {
        self.set_cut(true);
    }

    /// Ends a cut.
    pub fn mend(&self) {
        self.set_cut(false);
    }

    fn set_cut(&self, cut: bool) {
        for link in self.links() {
            link.set_cut(cut);
        }
    }

    /// Lets nothing of this pass.
    pub fn block(&self, rule: Rule) {
        self.filter(|filter| filter.deny.push(rule));
    }

    /// Lets nothing but this pass.
    pub fn allow_only(&self, rules: &[Rule]) {
        self.filter(|filter| filter.only = Some(rules.to_vec()));
    }

    /// Lets everything pass again that was blocked.
    pub fn unblock(&self) {
        self.filter(|filter| *filter = Filter::default());
    }

    /// Changes what passes, in both directions of both links.
    pub fn filter(&self, change: impl Fn(&mut Filter)) {
        for link in self.links() {
            for direction in [Direction::Up, Direction::Down] {
                link.filter(direction, &change);
            }
        }
    }

    /// Sets how long the NATs keep silent mappings.
    pub fn set_nat_timeouts(&self, timeouts: Timeouts) {
        self.nat(|nat| nat.timeouts = timeouts);
    }

    /// Sets what the NATs do with TCP that they know nothing of.
    pub fn set_strays(&self, strays: Strays) {
        self.nat(|nat| nat.strays = strays);
    }

    /// Puts a captive portal before the world: all TCP goes to `portal`, nothing else passes, and
    /// connections that were open know nobody any more. Nothing opens the world again.
    pub fn set_portal(&self, portal: Option<SocketAddrV4>) {
        self.nat(|nat| {
            nat.portal = portal;
            nat.forget();
        });
        let only = portal.map(|_| vec![Rule::protocol(Protocol::Tcp)]);
        self.filter(|filter| filter.only.clone_from(&only));
    }

    /// The NATs lose all mappings, as after a restart.
    pub fn lose_mappings(&self) {
        self.nat(nat::Table::forget);
    }

    fn nat(&self, change: impl Fn(&mut nat::Table)) {
        for interface in Interface::ALL {
            self.with(interface, |path, _| change(&mut path.nat));
        }
    }

    /// Writes every packet on the device's interfaces to a file, until it is told another or is
    /// dropped; for Wireshark and tcpdump.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn trace(&self, file: Option<&Path>) -> Result<()> {
        self.engine.trace(file.map(Trace::create).transpose()?);
        Ok(())
    }

    fn with<T>(
        &self,
        interface: Interface,
        look: impl FnOnce(&mut self::core::Path, Duration) -> T,
    ) -> T {
        self.engine
            .with(|core, now| look(core.path(interface), now))
    }

    fn moves(&self) -> std::sync::MutexGuard<'_, Moves> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
