//! The network that the device is in, and when it becomes another one.
//!
//! What counts is the way to the cluster: by which interface, from which address, through which
//! gateway. The kernel is asked for it ([`route`]) at the start and whenever it tells of a change
//! ([`watch`]); nothing is sent for that. Only a real difference is told to the loop in
//! [`crate::link`].

mod interface;
mod route;
mod watch;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

pub(crate) use interface::InterfaceKind;
pub(crate) use watch::watch;

/// Addresses of the global internet that are nobody's (RFC 7526 §4; the first /16 of RFC 4291
/// §2.5.4): the way to them is the default route. Those for examples will not do, since people who
/// read an example use them.
const ANYWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 88, 99, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1)),
];

/// Names a network, today and after a restart: what was learnt of a network is remembered by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct NetworkId(pub(crate) u64);

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The way to the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Network {
    pub(crate) id: NetworkId,
    pub(crate) kind: InterfaceKind,
    /// Empty if the kernel does not say.
    pub(crate) interface: String,
    /// The device's address; `None` if there is no way.
    pub(crate) local: Option<IpAddr>,
    pub(crate) gateway: Option<IpAddr>,
    /// The gateway's hardware address, once the device has talked to it.
    pub(crate) hardware: Option<String>,
}

impl Network {
    /// Looks at the way to an address of the cluster, or to anywhere while none is known.
    pub(crate) fn look(towards: Option<IpAddr>) -> Self {
        let mut ways = towards.into_iter().chain(ANYWHERE);
        ways.find_map(way).unwrap_or_default()
    }

    /// Whether packets to the cluster have a way, as far as it is known where that is: the way to
    /// addresses of the other family is no answer.
    fn leads_to(&self, cluster: Option<IpAddr>) -> bool {
        let family = |local: IpAddr| cluster.is_none_or(|to| to.is_ipv4() == local.is_ipv4());
        self.local.is_some_and(family)
    }

    /// Whether all is known that makes its name.
    fn is_complete(&self) -> bool {
        self.gateway.is_none() || self.hardware.is_some()
    }

    /// Whether the device sends by another way than before. That more is known of the same way
    /// does not count.
    pub(crate) fn differs_from(&self, before: &Self) -> bool {
        let way = |network: &Self| (network.local, network.gateway);
        let hardware = (&self.hardware, &before.hardware);
        way(self) != way(before)
            || self.interface != before.interface
            || matches!(hardware, (Some(now), Some(then)) if now != then)
    }
}

/// As people read it: `wwan0 (cellular), via 10.0.0.1`.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.local.is_none() {
            return f.write_str("none");
        }
        let interface = match &*self.interface {
            "" => "an interface",
            name => name,
        };
        write!(f, "{interface} ({})", self.kind.name())?;
        match self.gateway {
            Some(gateway) => write!(f, ", via {gateway}"),
            None => Ok(()),
        }
    }
}

fn way(to: IpAddr) -> Option<Network> {
    let Ok(way) = route::to(to) else {
        return bare(to);
    };
    let way = way?;
    let interface = interface::name(way.interface);
    if !interface::has_carrier(&interface) {
        return None;
    }
    let gateway = way.gateway.map(|gateway| gateway.to_string());
    let hardware = gateway
        .as_deref()
        .and_then(|gateway| interface::hardware_of(gateway, &interface));
    let site = hardware.clone().or_else(|| site(way.gateway, way.local));
    Some(Network {
        id: id([
            gateway.as_deref().unwrap_or_default(),
            site.as_deref().unwrap_or_default(),
            &interface,
        ]),
        kind: InterfaceKind::of(&interface),
        interface,
        local: Some(way.local),
        gateway: way.gateway,
        hardware,
    })
}

/// What tells networks apart whose routers have no hardware address that could be looked up, which
/// are those of IPv6: many of them are `fe80::1`.
fn site(gateway: Option<IpAddr>, local: IpAddr) -> Option<String> {
    match (gateway, local) {
        (Some(IpAddr::V6(_)), IpAddr::V6(local)) => {
            let [a, b, c, d, ..] = local.segments();
            Some(format!("{a:x}:{b:x}:{c:x}:{d:x}"))
        }
        _ => None,
    }
}

/// All that can be had without netlink.
fn bare(to: IpAddr) -> Option<Network> {
    let local = address_towards(to)?;
    Some(Network {
        id: id([&local.to_string(), "", ""]),
        local: Some(local),
        ..Network::default()
    })
}

/// FNV-1a of gateway, its hardware address or our prefix, and the interface: short, stable, and nobody gains by a
/// collision.
fn id(parts: [&str; 3]) -> NetworkId {
    let hash = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    NetworkId(parts.join(" ").bytes().fold(0xcbf2_9ce4_8422_2325, hash))
}

/// A connected socket has the address from which it would send.
fn address_towards(to: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn cellular() -> Network {
        let gateway = Some([10, 0, 0, 1].into());
        Network {
            id: id(["10.0.0.1", "", "wwan0"]),
            kind: InterfaceKind::Cellular,
            interface: "wwan0".to_owned(),
            local: Some([10, 0, 0, 7].into()),
            gateway,
            hardware: None,
        }
    }

    #[test]
    fn people_read_interface_kind_and_gateway() {
        assert_eq!(cellular().to_string(), "wwan0 (cellular), via 10.0.0.1");
        let direct = Network {
            gateway: None,
            ..cellular()
        };
        assert_eq!(direct.to_string(), "wwan0 (cellular)");
        assert_eq!(Network::default().to_string(), "none");
    }

    #[test]
    fn another_address_gateway_or_interface_is_another_way() {
        let before = cellular();
        let change = |change: &dyn Fn(&mut Network)| {
            let mut network = before.clone();
            change(&mut network);
            network.differs_from(&before)
        };
        assert!(!change(&|_| {}));
        assert!(change(&|n| n.local = Some([10, 0, 0, 8].into())));
        assert!(change(&|n| n.gateway = None));
        assert!(change(&|n| n.interface = "eth0".to_owned()));
        assert!(change(&|n| *n = Network::default()));
        // The router has been talked to, and is known better now.
        assert!(!change(
            &|n| n.hardware = Some("02:00:00:00:00:01".to_owned())
        ));
    }

    #[test]
    fn another_router_at_the_same_address_is_another_way() {
        let home = Network {
            hardware: Some("02:00:00:00:00:01".to_owned()),
            ..cellular()
        };
        let office = Network {
            hardware: Some("02:00:00:00:00:02".to_owned()),
            ..cellular()
        };
        assert!(office.differs_from(&home));
    }

    #[test]
    fn an_id_stays_the_same_and_tells_networks_apart() {
        // Written down once: it must be the same after an update.
        assert_eq!(cellular().id.to_string(), "992aefcf4fd995d8");
        let others = [
            id(["10.0.0.1", "", "wwan1"]),
            id(["10.0.0.1", "02:00:00:00:00:01", "wwan0"]),
            id(["10.0.0.2", "", "wwan0"]),
            id(["", "", "wwan0"]),
        ];
        assert!(!others.contains(&cellular().id));
    }

    #[test]
    fn routers_of_one_name_serve_different_prefixes() {
        let router = Some("fe80::1".parse().unwrap());
        let at = |local: &str| site(router, local.parse().unwrap());
        assert_eq!(at("2001:db8:1:2:3:4:5:6"), at("2001:db8:1:2:ffff::1"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_eq!(at("192.0.2.1"), None);
        // A modem gets another prefix with each call.
        assert_eq!(site(None, "2001:db8:1:2::1".parse().unwrap()), None);
    }

    #[test]
    fn the_way_to_oneself_is_the_loopback() {
        let network = Network::look(Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(network.to_string(), "lo (loopback)");
        assert_eq!(network.local, Some(Ipv4Addr::LOCALHOST.into()));
        let bare = bare(Ipv4Addr::LOCALHOST.into()).unwrap();
        assert_eq!(bare.local, network.local);
        assert_eq!(bare.to_string(), "an interface (unknown)");
    }
}
