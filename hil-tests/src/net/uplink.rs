//! Two uplinks of one device, as a vehicle has them: each comes, goes, and gives addresses.
//!
//! Both lead to the same router; the second one is made when it is first used.

use anyhow::Result;

use super::{Nat, sh};

/// One of a device's ways to the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uplink {
    /// 192.168.77.0/24, there from the start.
    First,
    /// 192.168.78.0/24.
    Second,
}

impl Uplink {
    const fn net(self) -> &'static str {
        match self {
            Self::First => "192.168.77",
            Self::Second => "192.168.78",
        }
    }

    /// Ends of the cable: at the router, at the device.
    const fn ends(self) -> (&'static str, &'static str) {
        match self {
            Self::First => ("i", "d"),
            Self::Second => ("j", "e"),
        }
    }
}

impl Nat {
    /// The name of the device's interface.
    #[must_use]
    pub fn interface(&self, uplink: Uplink) -> String {
        self.veth(uplink.ends().1)
    }

    /// Gives the device another address, as another lease does; the old one is gone.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn readdress(&self, uplink: Uplink, host: u8) -> Result<()> {
        let (device, interface) = (self.device(), self.interface(uplink));
        sh(&format!("ip -n {device} addr flush dev {interface}"))?;
        self.lease(uplink, host)
    }

    /// Takes an uplink away, with its routes.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn take_down(&self, uplink: Uplink) -> Result<()> {
        let (device, interface) = (self.device(), self.interface(uplink));
        sh(&format!("ip -n {device} link set {interface} down"))
    }

    /// Brings an uplink up, with the address `.2` and the default route.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn bring_up(&self, uplink: Uplink) -> Result<()> {
        let (device, interface) = (self.device(), self.interface(uplink));
        if sh(&format!("ip -n {device} link show {interface}")).is_err() {
            self.lay(uplink)?;
        }
        sh(&format!("ip -n {device} link set {interface} up"))?;
        self.lease(uplink, 2)
    }

    /// Pulls the cable at the router's end: the device sees no carrier, and keeps its addresses.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn pull(&self, uplink: Uplink) -> Result<()> {
        let (router, end) = (self.router(), self.veth(uplink.ends().0));
        sh(&format!("ip -n {router} link set {end} down"))
    }

    /// Plugs it in again.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn plug(&self, uplink: Uplink) -> Result<()> {
        let (router, end) = (self.router(), self.veth(uplink.ends().0));
        sh(&format!("ip -n {router} link set {end} up"))
    }

    fn lease(&self, uplink: Uplink, host: u8) -> Result<()> {
        let (device, interface) = (self.device(), self.interface(uplink));
        let net = uplink.net();
        sh(&format!(
            "ip -n {device} addr replace {net}.{host}/24 dev {interface}"
        ))?;
        sh(&format!("ip -n {device} route replace default via {net}.1"))
    }

    fn lay(&self, uplink: Uplink) -> Result<()> {
        let (router, device, net) = (self.router(), self.device(), uplink.net());
        let (end, interface) = (self.veth(uplink.ends().0), self.interface(uplink));
        for line in [
            format!("ip -n {router} link add {end} type veth peer name {interface} netns {device}"),
            format!("ip -n {router} addr add {net}.1/24 dev {end}"),
            format!("ip -n {router} link set {end} up"),
        ] {
            sh(&line)?;
        }
        Ok(())
    }
}
