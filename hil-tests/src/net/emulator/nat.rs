//! Address translation, without I/O: as the NAT of a home router or a carrier does it.
//!
//! A mapping belongs to one pair of device's and far socket (RFC 4787 calls that address and port
//! dependent), and nothing gets in without one. Packets in either direction keep it. A new mapping
//! has another port than those before it, so that a lost one shows at the far end.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::packet::{End, Flow, Protocol, opens, readdress, readdress_error};

/// Mappings at most; then the one that was silent for longest makes room.
const MAPPINGS: usize = 4096;
/// Ports that mappings get, one after the other.
const PORTS: std::ops::Range<u16> = 20_000..60_000;

/// How long a mapping is kept in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// UDP.
    pub udp: Duration,
    /// TCP.
    pub tcp: Duration,
    /// `ping`.
    pub echo: Duration,
}

impl Default for Timeouts {
    /// The least that RFC 4787 and RFC 5382 demand, and RFC 5508 for `ping`.
    fn default() -> Self {
        Self {
            udp: Duration::from_mins(2),
            tcp: Duration::from_mins(124),
            echo: Duration::from_mins(1),
        }
    }
}

impl Timeouts {
    fn of(&self, protocol: Protocol) -> Duration {
        match protocol {
            Protocol::Tcp => self.tcp,
            Protocol::Udp => self.udp,
            Protocol::Echo => self.echo,
        }
    }
}

/// What becomes of a TCP packet from the device that has no mapping and opens no connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strays {
    /// It gets a mapping, as on Linux; so the far end sees a stranger and resets the connection.
    #[default]
    Map,
    /// It vanishes, as with many carriers.
    Drop,
}

/// The translator's settings and mappings.
pub(super) struct Table {
    pub(super) timeouts: Timeouts,
    pub(super) strays: Strays,
    /// Where TCP goes, wherever the device wants to: a captive portal.
    pub(super) portal: Option<SocketAddrV4>,
    external: Ipv4Addr,
    mappings: HashMap<Near, Mapping>,
    ways_back: HashMap<Far, Near>,
    next_port: u16,
}

/// As the device sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Near {
    protocol: Protocol,
    device: SocketAddrV4,
    remote: SocketAddrV4,
}

/// As the world sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Far {
    protocol: Protocol,
    port: u16,
    remote: SocketAddrV4,
}

struct Mapping {
    far: Far,
    last: Duration,
}

impl Table {
    pub(super) fn new(external: Ipv4Addr) -> Self {
        Self {
            timeouts: Timeouts::default(),
            strays: Strays::default(),
            portal: None,
            external,
            mappings: HashMap::new(),
            ways_back: HashMap::new(),
            next_port: PORTS.start,
        }
    }

    pub(super) fn external(&self) -> Ipv4Addr {
        self.external
    }

    /// Forgets all mappings.
    pub(super) fn forget(&mut self) {
        self.mappings.clear();
        self.ways_back.clear();
    }

    /// Has another address in the world from now on, and no mapping.
    pub(super) fn move_to(&mut self, external: Ipv4Addr) {
        self.external = external;
        self.forget();
    }

    /// Readdresses a packet from the device; false if it goes nowhere.
    pub(super) fn outbound(&mut self, packet: &mut [u8], now: Duration) -> bool {
        let Some(flow) = Flow::of(packet) else {
            return false;
        };
        let near = Near {
            protocol: flow.protocol,
            device: flow.source,
            remote: flow.destination,
        };
        let stray = flow.protocol == Protocol::Tcp && !opens(packet);
        let Some(far) = self.mapped(near, stray, now) else {
            return false;
        };
        let external = SocketAddrV4::new(self.external, far.port);
        readdress(packet, End::Source, external)
            .and_then(|()| readdress(packet, End::Destination, far.remote))
            .is_some()
    }

    /// Readdresses a packet from the world; false if nobody has asked for it.
    pub(super) fn inbound(&mut self, packet: &mut [u8], now: Duration) -> bool {
        if let Some(flow) = Flow::quoted_in(packet) {
            // It is about a packet that went out, and so goes the other way.
            let Some(near) = self.way_back(flow.protocol, flow.source, flow.destination, now)
            else {
                return false;
            };
            return readdress_error(packet, near.device, near.remote).is_some();
        }
        let Some(flow) = Flow::of(packet) else {
            return false;
        };
        let Some(near) = self.way_back(flow.protocol, flow.destination, flow.source, now) else {
            return false;
        };
        if let Some(mapping) = self.mappings.get_mut(&near) {
            mapping.last = now;
        }
        readdress(packet, End::Source, near.remote)
            .and_then(|()| readdress(packet, End::Destination, near.device))
            .is_some()
    }

    fn mapped(&mut self, near: Near, stray: bool, now: Duration) -> Option<Far> {
        if let Some(mapping) = self.mappings.get_mut(&near) {
            if now.saturating_sub(mapping.last) <= self.timeouts.of(near.protocol) {
                mapping.last = now;
                return Some(mapping.far);
            }
            self.remove(near);
        }
        // Who answers a ping has no port of its own, and has not been asked through here.
        let answers = near.protocol == Protocol::Echo && near.device.port() == 0;
        if answers || (stray && self.strays == Strays::Drop) {
            return None;
        }
        self.make_room();
        let remote = match (near.protocol, self.portal) {
            (Protocol::Tcp, Some(portal)) => portal,
            _ => near.remote,
        };
        let far = Far {
            protocol: near.protocol,
            port: self.free_port(near.protocol),
            remote,
        };
        self.mappings.insert(near, Mapping { far, last: now });
        self.ways_back.insert(far, near);
        Some(far)
    }

    fn way_back(
        &mut self,
        protocol: Protocol,
        external: SocketAddrV4,
        remote: SocketAddrV4,
        now: Duration,
    ) -> Option<Near> {
        let far = Far {
            protocol,
            port: external.port(),
            remote,
        };
        let near = *self.ways_back.get(&far)?;
        let silent = now.saturating_sub(self.mappings.get(&near)?.last);
        if silent > self.timeouts.of(protocol) {
            self.remove(near);
            return None;
        }
        (*external.ip() == self.external).then_some(near)
    }

    fn remove(&mut self, near: Near) {
        if let Some(mapping) = self.mappings.remove(&near) {
            self.ways_back.remove(&mapping.far);
        }
    }

    fn make_room(&mut self) {
        if self.mappings.len() < MAPPINGS {
            return;
        }
        let oldest = self.mappings.iter().min_by_key(|(_, mapping)| mapping.last);
        if let Some(near) = oldest.map(|(near, _)| *near) {
            self.remove(near);
        }
    }

    /// There are more ports than mappings.
    fn free_port(&mut self, protocol: Protocol) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = if port + 1 == PORTS.end {
                PORTS.start
            } else {
                port + 1
            };
            let mut used = self.ways_back.keys();
            if !used.any(|far| far.protocol == protocol && far.port == port) {
                return port;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::address;
    use super::super::packet::made::{echo, is_sound, socket, tcp, udp, unreachable};
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const DEVICE: &str = "192.168.77.2:4000";
    const SERVER: &str = "10.213.9.1:3080";
    const SYN: u8 = 2;
    const ACK: u8 = 16;

    fn table() -> Table {
        Table::new(Ipv4Addr::new(10, 213, 9, 2))
    }

    /// Sends a packet out; gives the socket that the world sees.
    fn out(table: &mut Table, mut packet: Vec<u8>, now: Duration) -> Option<SocketAddrV4> {
        let passed = table.outbound(&mut packet, now);
        assert!(!passed || is_sound(&packet));
        passed.then(|| Flow::of(&packet).unwrap().source)
    }

    /// Where a packet from the world comes out.
    fn back(table: &mut Table, mut packet: Vec<u8>, now: Duration) -> Option<Flow> {
        let passed = table.inbound(&mut packet, now);
        assert!(!passed || is_sound(&packet));
        passed.then(|| Flow::of(&packet).unwrap())
    }

    fn answer(table: &mut Table, to: SocketAddrV4, now: Duration) -> bool {
        let flow = back(table, udp(SERVER, &to.to_string(), b"answer"), now);
        flow.inspect(|flow| {
            assert_eq!(flow.source, socket(SERVER));
            assert_eq!(flow.destination, socket(DEVICE));
        })
        .is_some()
    }

    #[test]
    fn only_answers_get_in() {
        let mut table = table();
        let seen = out(&mut table, udp(DEVICE, SERVER, b"question"), S).unwrap();
        assert_eq!(seen.ip(), &table.external());
        assert!(answer(&mut table, seen, S));
        let stranger = udp("10.213.9.1:3081", &seen.to_string(), b"");
        assert_eq!(back(&mut table, stranger, S), None);
        let elsewhere = SocketAddrV4::new(*seen.ip(), seen.port() + 1);
        assert!(!answer(&mut table, elsewhere, S));
        let old_address = SocketAddrV4::new(Ipv4Addr::new(10, 213, 9, 3), seen.port());
        assert!(!answer(&mut table, old_address, S));
        let other = tcp(SERVER, &seen.to_string(), ACK);
        assert_eq!(back(&mut table, other, S), None);
    }

    #[test]
    fn a_silent_mapping_ends_and_the_next_has_another_port() {
        let mut table = table();
        table.timeouts.udp = 30 * S;
        let first = out(&mut table, udp(DEVICE, SERVER, b""), Duration::ZERO).unwrap();
        // Either side keeps it.
        assert!(answer(&mut table, first, 30 * S));
        assert_eq!(
            out(&mut table, udp(DEVICE, SERVER, b""), 60 * S),
            Some(first)
        );
        assert!(!answer(&mut table, first, 91 * S));
        let second = out(&mut table, udp(DEVICE, SERVER, b""), 91 * S).unwrap();
        assert_ne!(first, second);
        assert!(answer(&mut table, second, 92 * S));
        assert!(!answer(&mut table, first, 92 * S));
    }

    #[test]
    fn protocols_have_their_own_time() {
        let mut table = table();
        table.timeouts.udp = S;
        let seen = out(&mut table, tcp(DEVICE, SERVER, SYN), S).unwrap();
        let segment = tcp(SERVER, &seen.to_string(), ACK);
        assert!(back(&mut table, segment, 7000 * S).is_some());
    }

    #[test]
    fn a_change_of_the_nat_changes_address_and_port() {
        let mut table = table();
        let first = out(&mut table, udp(DEVICE, SERVER, b""), S).unwrap();
        table.move_to(Ipv4Addr::new(10, 213, 9, 3));
        assert!(!answer(&mut table, first, S));
        let second = out(&mut table, udp(DEVICE, SERVER, b""), S).unwrap();
        assert!(first.ip() != second.ip() && first.port() != second.port());
        table.forget();
        assert!(!answer(&mut table, second, S));
        let third = out(&mut table, udp(DEVICE, SERVER, b""), S).unwrap();
        assert!(second.ip() == third.ip() && second.port() != third.port());
        assert!(answer(&mut table, third, S));
    }

    #[test]
    fn strays_are_mapped_or_dropped() {
        let mut table = table();
        assert!(out(&mut table, tcp(DEVICE, SERVER, ACK), S).is_some());
        table.forget();
        table.strays = Strays::Drop;
        assert!(out(&mut table, tcp(DEVICE, SERVER, ACK), S).is_none());
        assert!(out(&mut table, tcp(DEVICE, SERVER, SYN), S).is_some());
        assert!(out(&mut table, tcp(DEVICE, SERVER, ACK), S).is_some());
    }

    #[test]
    fn ping_goes_out_and_comes_back_and_none_comes_in() {
        let mut table = table();
        let seen = out(&mut table, echo(8, DEVICE, SERVER, 4000), S).unwrap();
        let reply = echo(0, SERVER, &format!("{}:0", seen.ip()), seen.port());
        let flow = back(&mut table, reply, S).unwrap();
        assert_eq!(flow.destination, socket(DEVICE));
        let request = echo(8, SERVER, &format!("{}:0", seen.ip()), seen.port());
        assert_eq!(back(&mut table, request, S), None);
        assert!(out(&mut table, echo(0, DEVICE, SERVER, 4000), S).is_none());
    }

    #[test]
    fn an_error_reaches_whoever_caused_it() {
        let mut table = table();
        let mut sent = udp(DEVICE, SERVER, b"to a closed port");
        assert!(table.outbound(&mut sent, S));
        let mut error = unreachable("10.213.9.1:0", &sent);
        assert!(table.inbound(&mut error, S));
        let to = address(&error, End::Destination).unwrap();
        assert_eq!(to, *socket(DEVICE).ip());
        assert_eq!(Flow::quoted_in(&error).unwrap().source, socket(DEVICE));
        table.forget();
        assert!(!table.inbound(&mut unreachable("10.213.9.1:0", &sent), S));
    }

    #[test]
    fn a_portal_answers_for_everybody() {
        let mut table = table();
        let portal = socket("10.213.9.1:8080");
        table.portal = Some(portal);
        let mut packet = tcp(DEVICE, "93.184.216.34:443", SYN);
        assert!(table.outbound(&mut packet, S));
        let flow = Flow::of(&packet).unwrap();
        assert!(is_sound(&packet));
        assert_eq!(flow.destination, portal);
        let reply = tcp("10.213.9.1:8080", &flow.source.to_string(), SYN | ACK);
        let flow = back(&mut table, reply, S).unwrap();
        assert_eq!(flow.source, socket("93.184.216.34:443"));
        assert_eq!(flow.destination, socket(DEVICE));
    }

    #[test]
    fn a_full_table_forgets_the_oldest() {
        let mut table = table();
        let port = |number: usize| format!("192.168.77.2:{}", 1000 + number);
        let first = out(&mut table, udp(&port(0), SERVER, b""), S).unwrap();
        for number in 1..=MAPPINGS {
            out(&mut table, udp(&port(number), SERVER, b""), 2 * S).unwrap();
        }
        assert_eq!(table.mappings.len(), MAPPINGS);
        assert_eq!(table.ways_back.len(), MAPPINGS);
        let to_first = udp(SERVER, &first.to_string(), b"");
        assert_eq!(back(&mut table, to_first, 2 * S), None);
    }
}
