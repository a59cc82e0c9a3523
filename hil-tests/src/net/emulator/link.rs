//! One of a device's links, and what can be done to it.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;

use super::core::{Interface, Path};
use super::filter::{Direction, Filter};
use super::pipe::Shape;
use super::traffic::Counters;
use super::{Emulator, nat};
use crate::net::sh;

/// Which addresses the links have had.
pub(super) struct Moves {
    number: u8,
    wlan: Steps,
    wwan: Steps,
}

/// How often each was changed.
#[derive(Default)]
struct Steps {
    inside: u8,
    external: u8,
}

impl Moves {
    pub(super) fn new(number: u8) -> Self {
        Self {
            number,
            wlan: Steps::default(),
            wwan: Steps::default(),
        }
    }

    /// The addresses of a link, inside and external.
    pub(super) fn first(&mut self, interface: Interface) -> (Ipv4Addr, Ipv4Addr) {
        (self.inside(interface), self.external(interface))
    }

    /// Two home networks are rarely the same, and so another address comes from another network.
    fn inside(&mut self, interface: Interface) -> Ipv4Addr {
        match interface {
            Interface::Wlan => {
                let step = next(&mut self.wlan.inside, 100);
                Ipv4Addr::new(192, 168, 77 + step, 2 + step)
            }
            Interface::Wwan => {
                let step = next(&mut self.wwan.inside, 60);
                Ipv4Addr::new(100, 64 + step, 0, 2 + step)
            }
        }
    }

    fn external(&mut self, interface: Interface) -> Ipv4Addr {
        let last = match interface {
            Interface::Wlan => 2 + next(&mut self.wlan.external, 120),
            Interface::Wwan => 130 + next(&mut self.wwan.external, 120),
        };
        Ipv4Addr::new(10, 213, self.number, last)
    }
}

fn next(step: &mut u8, count: u8) -> u8 {
    let this = *step;
    *step = (this + 1) % count;
    this
}

/// One of the device's links.
#[derive(Clone, Copy)]
pub struct Link<'e> {
    emulator: &'e Emulator,
    interface: Interface,
}

impl<'e> Link<'e> {
    pub(super) fn new(emulator: &'e Emulator, interface: Interface) -> Self {
        Self {
            emulator,
            interface,
        }
    }

    /// Behaves so in both directions.
    pub fn shape(&self, shape: Shape) {
        self.shape_one(Direction::Up, shape);
        self.shape_one(Direction::Down, shape);
    }

    /// Behaves so in one direction.
    pub fn shape_one(&self, direction: Direction, shape: Shape) {
        self.with(|path, now| path.reshape(direction, shape, now));
    }

    /// Cuts it in both directions, or mends it. The device's kernel does not notice.
    pub fn set_cut(&self, cut: bool) {
        self.set_cut_one(Direction::Up, cut);
        self.set_cut_one(Direction::Down, cut);
    }

    /// As [`Self::set_cut`], in one direction.
    pub fn set_cut_one(&self, direction: Direction, cut: bool) {
        self.with(|path, now| {
            let shape = Shape {
                cut,
                ..path.shape(direction)
            };
            path.reshape(direction, shape, now);
        });
    }

    /// Changes what passes in one direction.
    pub fn filter(&self, direction: Direction, change: impl FnOnce(&mut Filter)) {
        self.with(|path, _| change(path.filter(direction)));
    }

    /// The NAT forgets all mappings, and has another address in the world.
    pub fn change_nat(&self) {
        let external = self.emulator.moves().external(self.interface);
        self.with(|path, _| path.nat.move_to(external));
    }

    /// The NAT forgets all mappings.
    pub fn lose_mappings(&self) {
        self.with(|path, _| nat::Table::forget(&mut path.nat));
    }

    /// The address that the world sees.
    #[must_use]
    pub fn external_addr(&self) -> Ipv4Addr {
        self.with(|path, _| path.nat.external())
    }

    /// The device's address.
    #[must_use]
    pub fn device_addr(&self) -> Ipv4Addr {
        self.with(|path, _| path.inside)
    }

    /// The interface gets another address, as from another network, and loses the old one. What the
    /// world sees stays the same, but for the ports.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn change_address(&self) -> Result<()> {
        let inside = self.emulator.moves().inside(self.interface);
        self.ip(&format!("addr flush dev {}", self.name()))?;
        self.with(|path, _| path.inside = inside);
        self.configure()
    }

    /// The device moves to another network: another address inside, and another in the world.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn roam(&self) -> Result<()> {
        self.change_nat();
        self.change_address()
    }

    /// Brings the interface up, with an address and a default route; `wlan0`'s is preferred.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn bring_up(&self) -> Result<()> {
        self.with(|path, now| path.attach(true, now));
        self.ip(&format!("link set {} up", self.name()))?;
        self.configure()
    }

    /// Takes the interface down; its routes go with that.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn take_down(&self) -> Result<()> {
        self.ip(&format!("link set {} down", self.name()))?;
        self.with(|path, now| path.attach(false, now));
        Ok(())
    }

    /// Takes the carrier away, as a pulled cable does, or gives it back. Address and routes stay.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn set_carrier(&self, carrier: bool) -> Result<()> {
        let state = if carrier { "on" } else { "off" };
        // Whoever sees it come back uses it at once.
        if carrier {
            self.with(|path, now| path.attach(true, now));
        }
        self.ip(&format!("link set {} carrier {state}", self.name()))?;
        self.with(|path, now| path.attach(carrier, now));
        Ok(())
    }

    /// Lets the default route lead through this interface, which is up.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn prefer(&self) -> Result<()> {
        let other = match self.interface {
            Interface::Wlan => Interface::Wwan,
            Interface::Wwan => Interface::Wlan,
        };
        // Together they would fail if the other is down, and has none.
        let behind = format!("route del default dev {} metric {FIRST}", other.name());
        self.ip(&behind).ok();
        self.route(FIRST)
    }

    /// What has passed since the start, or since [`Self::reset_counters`].
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.with(|path, _| path.counters())
    }

    /// Counts from zero.
    pub fn reset_counters(&self) {
        self.with(|path, _| path.reset_counters());
    }

    fn configure(&self) -> Result<()> {
        let (addr, name) = (self.device_addr(), self.name());
        self.ip(&format!("addr replace {addr}/24 dev {name}"))?;
        self.route(match self.interface {
            Interface::Wlan => SECOND,
            Interface::Wwan => THIRD,
        })
    }

    fn route(&self, metric: u16) -> Result<()> {
        let name = self.name();
        // A modem has no router on its link.
        let via = match (self.interface, self.device_addr().octets()) {
            (Interface::Wlan, [a, b, c, _]) => format!("via {a}.{b}.{c}.1 "),
            (Interface::Wwan, _) => String::new(),
        };
        self.ip(&format!(
            "route replace default {via}dev {name} metric {metric}"
        ))
    }

    fn ip(&self, what: &str) -> Result<()> {
        sh(&format!("ip -n {} {what}", self.emulator.device.name()))
    }

    fn name(&self) -> &'static str {
        self.interface.name()
    }

    fn with<T>(&self, look: impl FnOnce(&mut Path, Duration) -> T) -> T {
        self.emulator.with(self.interface, look)
    }
}

/// Metrics of default routes: the one that was asked for, then `wlan0`, then `wwan0`.
const FIRST: u16 = 50;
const SECOND: u16 = 100;
const THIRD: u16 = 600;
