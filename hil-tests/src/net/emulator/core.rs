//! Two links between a device and the world, without I/O: filters, pipes and translators put
//! together.
//!
//! ```text
//!   device wlan0 ── filter ─ pipe ──► NAT ──► world
//!                ◄─ pipe ─ filter ─── NAT ◄──
//!   device wwan0    the same, with an external address of its own
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use super::filter::{Direction, Filter};
use super::nat::Table;
use super::packet::{End, Flow, address};
use super::pipe::{Pipe, Shape};
use super::traffic::{Counters, Traffic};

/// Services that are counted by themselves, at most.
const SERVICES: usize = 1024;

/// One of the device's network interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// Wi-Fi or a cable.
    Wlan,
    /// The modem.
    Wwan,
}

impl Interface {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Wlan, Self::Wwan];

    /// Its name on the device.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wlan => "wlan0",
            Self::Wwan => "wwan0",
        }
    }
}

/// Where a packet is to be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Device(Interface),
    World,
}

/// All that is between a device and the world.
pub(super) struct Core {
    wlan: Path,
    wwan: Path,
}

/// The way through one interface.
pub(super) struct Path {
    up: Way,
    down: Way,
    pub(super) nat: Table,
    /// The device's address; others are not let through.
    pub(super) inside: Ipv4Addr,
    counters: Counters,
}

struct Way {
    direction: Direction,
    filter: Filter,
    pipe: Pipe,
}

impl Core {
    /// With the inside and external addresses of both paths.
    pub(super) fn new(seed: u64, wlan: (Ipv4Addr, Ipv4Addr), wwan: (Ipv4Addr, Ipv4Addr)) -> Self {
        Self {
            wlan: Path::new(seed, wlan),
            wwan: Path::new(seed.wrapping_add(2), wwan),
        }
    }

    pub(super) fn path(&mut self, interface: Interface) -> &mut Path {
        match interface {
            Interface::Wlan => &mut self.wlan,
            Interface::Wwan => &mut self.wwan,
        }
    }

    /// Takes a packet that the device has sent.
    pub(super) fn handle_device(&mut self, interface: Interface, packet: Vec<u8>, now: Duration) {
        self.path(interface).handle_device(packet, now);
    }

    /// Takes a packet that the world has sent.
    pub(super) fn handle_world(&mut self, packet: Vec<u8>, now: Duration) {
        let Some(to) = address(&packet, End::Destination) else {
            return;
        };
        for interface in Interface::ALL {
            let path = self.path(interface);
            if path.nat.external() == to {
                return path.handle_world(packet, now);
            }
        }
    }

    /// A packet that has arrived.
    pub(super) fn poll_transmit(&mut self, now: Duration) -> Option<(Exit, Vec<u8>)> {
        Interface::ALL.into_iter().find_map(|interface| {
            let path = self.path(interface);
            let down = path.down.pipe.poll_deliver(now);
            let down = down.map(|packet| (Exit::Device(interface), packet));
            down.or_else(|| Some((Exit::World, path.poll_world(now)?)))
        })
    }

    /// When something happens next.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let ways = [&self.wlan, &self.wwan].map(|path| [&path.up, &path.down]);
        let times = ways.iter().flatten().map(|way| way.pipe.poll_timeout());
        times.flatten().min()
    }
}

impl Path {
    fn new(seed: u64, (inside, external): (Ipv4Addr, Ipv4Addr)) -> Self {
        Self {
            up: Way::new(Direction::Up, seed),
            down: Way::new(Direction::Down, seed.wrapping_add(1)),
            nat: Table::new(external),
            inside,
            counters: Counters::default(),
        }
    }

    fn handle_device(&mut self, packet: Vec<u8>, now: Duration) {
        // There is no IPv6 here.
        if address(&packet, End::Source).is_none() {
            return;
        }
        self.count(&packet, Direction::Up);
        self.up.offer(packet, now);
    }

    fn handle_world(&mut self, mut packet: Vec<u8>, now: Duration) {
        let length = packet.len();
        if !self.nat.inbound(&mut packet, now) {
            return self.counters.untranslated.add(length);
        }
        // An old address of the device: there is nobody on that wire.
        if address(&packet, End::Destination) != Some(self.inside) {
            return self.counters.untranslated.add(length);
        }
        self.count(&packet, Direction::Down);
        self.down.offer(packet, now);
    }

    fn poll_world(&mut self, now: Duration) -> Option<Vec<u8>> {
        loop {
            let mut packet = self.up.pipe.poll_deliver(now)?;
            let ours = address(&packet, End::Source) == Some(self.inside);
            if ours && self.nat.outbound(&mut packet, now) {
                return Some(packet);
            }
            self.counters.untranslated.add(packet.len());
        }
    }

    fn count(&mut self, packet: &[u8], direction: Direction) {
        let Some(flow) = Flow::of(packet) else { return };
        let far = match direction {
            Direction::Up => flow.destination,
            Direction::Down => flow.source,
        };
        let (services, key) = (&mut self.counters.by_port, (flow.protocol, far.port()));
        if services.len() < SERVICES || services.contains_key(&key) {
            services.entry(key).or_default().add(packet.len());
        }
    }

    pub(super) fn shape(&self, direction: Direction) -> Shape {
        self.way(direction).pipe.shape()
    }

    pub(super) fn reshape(&mut self, direction: Direction, shape: Shape, now: Duration) {
        self.way_mut(direction).pipe.reshape(shape, now);
    }

    pub(super) fn filter(&mut self, direction: Direction) -> &mut Filter {
        &mut self.way_mut(direction).filter
    }

    /// Whether the interface is up and has a carrier.
    pub(super) fn attach(&mut self, attached: bool, now: Duration) {
        for way in [&mut self.up, &mut self.down] {
            way.pipe.attach(attached, now);
        }
    }

    pub(super) fn counters(&self) -> Counters {
        Counters {
            up: self.up.pipe.traffic,
            down: self.down.pipe.traffic,
            ..self.counters.clone()
        }
    }

    pub(super) fn reset_counters(&mut self) {
        self.counters = Counters::default();
        for way in [&mut self.up, &mut self.down] {
            way.pipe.traffic = Traffic::default();
        }
    }

    fn way(&self, direction: Direction) -> &Way {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    fn way_mut(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

impl Way {
    fn new(direction: Direction, seed: u64) -> Self {
        Self {
            direction,
            filter: Filter::default(),
            pipe: Pipe::new(seed),
        }
    }

    fn offer(&mut self, packet: Vec<u8>, now: Duration) {
        if self.filter.passes(&packet, self.direction) {
            self.pipe.offer(packet, now);
        } else {
            self.pipe.turn_away(packet.len());
        }
    }
}
