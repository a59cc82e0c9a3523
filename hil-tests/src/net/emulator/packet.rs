//! IPv4 packets, as far as a router with address translation looks into them: RFC 791, and RFC 1624
//! for checksums that follow a change.

use std::net::{Ipv4Addr, SocketAddrV4};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// Unreachable, time exceeded, parameter problem: they quote the packet they are about.
const QUOTING: [u8; 3] = [3, 11, 12];
/// Length of what comes before the quoted packet.
const ICMP_HEADER: usize = 8;

/// What packets of a flow are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// `ping`, whose identifier stands for the asker's port.
    Echo,
}

/// From where to where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) protocol: Protocol,
    pub(super) source: SocketAddrV4,
    pub(super) destination: SocketAddrV4,
}

impl Flow {
    /// That of a whole packet, or of the start of one that an ICMP error quotes. Nothing for
    /// fragments, other protocols, and what is no packet.
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        const FRAGMENT: u16 = 0x3fff;
        let header = header_length(packet)?;
        if word(packet, 6)? & FRAGMENT != 0 {
            return None;
        }
        let (protocol, ports) = match *packet.get(9)? {
            TCP => (Protocol::Tcp, ports(packet, header)?),
            UDP => (Protocol::Udp, ports(packet, header)?),
            ICMP => {
                let id = word(packet, header + 4)?;
                match *packet.get(header)? {
                    ECHO_REQUEST => (Protocol::Echo, (id, 0)),
                    ECHO_REPLY => (Protocol::Echo, (0, id)),
                    _ => return None,
                }
            }
            _ => return None,
        };
        Some(Self {
            protocol,
            source: SocketAddrV4::new(address(packet, End::Source)?, ports.0),
            destination: SocketAddrV4::new(address(packet, End::Destination)?, ports.1),
        })
    }

    /// That of the packet which an ICMP error is about.
    pub(super) fn quoted_in(packet: &[u8]) -> Option<Self> {
        Self::of(packet.get(quote(packet)?..)?)
    }
}

/// Which of its two addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// One of the addresses of an IPv4 packet.
pub(super) fn address(packet: &[u8], end: End) -> Option<Ipv4Addr> {
    header_length(packet)?;
    let bytes: [u8; 4] = packet.get(address_at(end)..)?.first_chunk().copied()?;
    Some(bytes.into())
}

/// Whether it opens a TCP connection.
pub(super) fn opens(packet: &[u8]) -> bool {
    const SYN: u8 = 2;
    let flags = header_length(packet).and_then(|header| packet.get(header + 13));
    packet.get(9) == Some(&TCP) && flags.is_some_and(|flags| flags & SYN != 0)
}

/// Gives a packet of some flow another end; checksums follow.
pub(super) fn readdress(packet: &mut [u8], end: End, to: SocketAddrV4) -> Option<()> {
    let header = header_length(packet)?;
    let (sum_at, covers_addresses) = match *packet.get(9)? {
        TCP => (header + 16, true),
        UDP => (header + 6, true),
        ICMP => (header + 2, false),
        _ => return None,
    };
    let octets = to.ip().octets();
    let words = octets.as_chunks::<2>().0.iter().copied();
    for (at, new) in (address_at(end)..).step_by(2).zip(words) {
        let (old, new) = (word(packet, at)?, u16::from_be_bytes(new));
        put(packet, at, new)?;
        adjust(packet, 10, old, new);
        if covers_addresses {
            adjust(packet, sum_at, old, new);
        }
    }
    if let Some(at) = port_at(packet, header, end) {
        let old = word(packet, at)?;
        put(packet, at, to.port())?;
        adjust(packet, sum_at, old, to.port());
    }
    Some(())
}

/// Gives an ICMP error to somebody else: the packet it quotes becomes one from `source` to
/// `destination`, and it goes to that source.
pub(super) fn readdress_error(
    packet: &mut [u8],
    source: SocketAddrV4,
    destination: SocketAddrV4,
) -> Option<()> {
    let (icmp, quoted) = (header_length(packet)?, quote(packet)?);
    let inner = packet.get_mut(quoted..)?;
    readdress(inner, End::Source, source)?;
    readdress(inner, End::Destination, destination)?;
    let octets = source.ip().octets();
    packet
        .get_mut(address_at(End::Destination)..)?
        .first_chunk_mut()
        .map(|place| *place = octets)?;
    put(packet, 10, 0)?;
    let sum = checksum(packet.get(..icmp)?);
    put(packet, 10, sum)?;
    put(packet, icmp + 2, 0)?;
    let sum = checksum(packet.get(icmp..)?);
    put(packet, icmp + 2, sum)
}

/// The internet checksum (RFC 1071); 0 over bytes that hold their own right one.
pub(super) fn checksum(bytes: &[u8]) -> u16 {
    let (words, last) = bytes.as_chunks::<2>();
    let sum = words
        .iter()
        .fold(0u64, |sum, word| sum + u64::from(u16::from_be_bytes(*word)));
    let last = last.first().map_or(0, |byte| u64::from(*byte) << 8);
    !folded(sum + last)
}

fn folded(mut sum: u64) -> u16 {
    while sum > u64::from(u16::MAX) {
        sum = (sum & u64::from(u16::MAX)) + (sum >> 16);
    }
    sum as u16
}

/// Lets a checksum follow the change of a word (RFC 1624, equation 3).
fn adjust(packet: &mut [u8], at: usize, old: u16, new: u16) {
    // A quoted packet may end before its checksum, and UDP need not have one.
    let Some(sum) = word(packet, at) else { return };
    let is_udp = packet.get(9) == Some(&UDP) && at != 10;
    if is_udp && sum == 0 {
        return;
    }
    let sum = !folded(u64::from(!sum) + u64::from(!old) + u64::from(new));
    let sum = if is_udp && sum == 0 { u16::MAX } else { sum };
    put(packet, at, sum);
}

fn header_length(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let length = usize::from(first & 0xf) * 4;
    (first >> 4 == 4 && length >= 20 && packet.len() >= length).then_some(length)
}

fn address_at(end: End) -> usize {
    match end {
        End::Source => 12,
        End::Destination => 16,
    }
}

/// Where the port of an end is; only who asks for an echo has one.
fn port_at(packet: &[u8], header: usize, end: End) -> Option<usize> {
    match (*packet.get(9)?, *packet.get(header)?, end) {
        (TCP | UDP, _, End::Source) => Some(header),
        (TCP | UDP, _, End::Destination) => Some(header + 2),
        (ICMP, ECHO_REQUEST, End::Source) | (ICMP, ECHO_REPLY, End::Destination) => {
            Some(header + 4)
        }
        _ => None,
    }
}

fn ports(packet: &[u8], header: usize) -> Option<(u16, u16)> {
    Some((word(packet, header)?, word(packet, header + 2)?))
}

/// Where an ICMP error's quoted packet starts.
fn quote(packet: &[u8]) -> Option<usize> {
    let header = header_length(packet)?;
    let kind = packet.get(header)?;
    let quotes = packet.get(9) == Some(&ICMP) && QUOTING.contains(kind);
    quotes.then_some(header + ICMP_HEADER)
}

fn word(packet: &[u8], at: usize) -> Option<u16> {
    let bytes = packet.get(at..)?.first_chunk().copied()?;
    Some(u16::from_be_bytes(bytes))
}

fn put(packet: &mut [u8], at: usize, value: u16) -> Option<()> {
    *packet.get_mut(at..)?.first_chunk_mut()? = value.to_be_bytes();
    Some(())
}

/// Packets for tests, with right checksums.
#[cfg(test)]
pub(super) mod made {
    use super::*;

    pub(crate) fn udp(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
        let length = (8 + payload.len()) as u16;
        let ports = [port(from), port(to)].concat();
        let body = [&ports, &length.to_be_bytes()[..], &[0, 0], payload].concat();
        ip(UDP, from, to, body, Some(6))
    }

    pub(crate) fn tcp(from: &str, to: &str, flags: u8) -> Vec<u8> {
        let ports = [port(from), port(to)].concat();
        let rest = [0, 0, 0, 1, 0, 0, 0, 2, 5 << 4, flags, 1, 0, 0, 0, 0, 0];
        ip(TCP, from, to, [&ports, &rest[..]].concat(), Some(16))
    }

    pub(crate) fn echo(kind: u8, from: &str, to: &str, id: u16) -> Vec<u8> {
        let mut body = [&[kind, 0, 0, 0], &id.to_be_bytes()[..], &[0, 1], b"ping"].concat();
        let sum = checksum(&body);
        put(&mut body, 2, sum);
        ip(ICMP, from, to, body, None)
    }

    /// "Port unreachable", about a packet.
    pub(crate) fn unreachable(from: &str, about: &[u8]) -> Vec<u8> {
        let to = address(about, End::Source).unwrap();
        let mut body = [&[3, 3, 0, 0, 0, 0, 0, 0], &about[..28]].concat();
        let sum = checksum(&body);
        put(&mut body, 2, sum);
        ip(ICMP, from, &format!("{to}:0"), body, None)
    }

    /// Whether all its checksums are right.
    pub(crate) fn is_sound(packet: &[u8]) -> bool {
        let header = header_length(packet).unwrap();
        let sum_at = if packet[9] == TCP { 16 } else { 6 };
        let whole = match packet[9] {
            ICMP => checksum(&packet[header..]),
            UDP if word(packet, header + 6) == Some(0) => 0,
            _ => {
                let mut copy = packet.to_vec();
                let stored = word(packet, header + sum_at).unwrap();
                put(&mut copy, header + sum_at, 0);
                stored ^ with_addresses(&copy)
            }
        };
        checksum(&packet[..header]) == 0 && whole == 0
    }

    fn ip(protocol: u8, from: &str, to: &str, body: Vec<u8>, sum_at: Option<usize>) -> Vec<u8> {
        let total = (20 + body.len()) as u16;
        let [a, b] = [from, to].map(|end| socket(end).ip().octets());
        let start = [0x45, 0];
        let rest = [0, 0, 0x40, 0, 64, protocol, 0, 0];
        let mut packet = [&start, &total.to_be_bytes()[..], &rest, &a, &b, &body].concat();
        let sum = checksum(&packet[..20]);
        put(&mut packet, 10, sum);
        if let Some(at) = sum_at {
            let sum = with_addresses(&packet);
            put(&mut packet, 20 + at, sum);
        }
        packet
    }

    /// The checksum of TCP and UDP, which covers the addresses.
    fn with_addresses(packet: &[u8]) -> u16 {
        let body = &packet[20..];
        let length = (body.len() as u16).to_be_bytes();
        let sum = checksum(&[&packet[12..20], &[0, packet[9]], &length, body].concat());
        // For UDP, 0 is for none.
        if packet[9] == UDP && sum == 0 {
            u16::MAX
        } else {
            sum
        }
    }

    fn port(end: &str) -> [u8; 2] {
        socket(end).port().to_be_bytes()
    }

    pub(crate) fn socket(end: &str) -> SocketAddrV4 {
        end.parse().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::made::{echo, is_sound, socket, tcp, udp, unreachable};
    use super::*;

    const DEVICE: &str = "192.168.77.2:4000";
    const SERVER: &str = "10.213.9.1:3080";

    #[test]
    fn a_readdressed_packet_has_right_checksums() {
        let odd = udp(DEVICE, SERVER, b"odd");
        for mut packet in [odd, tcp(DEVICE, SERVER, 2), echo(8, DEVICE, SERVER, 4000)] {
            assert!(is_sound(&packet));
            let to = socket("10.213.9.77:65535");
            readdress(&mut packet, End::Source, to).unwrap();
            assert!(is_sound(&packet), "{packet:?}");
            let flow = Flow::of(&packet).unwrap();
            assert_eq!(flow.source, to);
            assert_eq!(flow.destination.ip(), socket(SERVER).ip());
        }
    }

    #[test]
    fn every_port_and_address_leaves_udp_with_a_checksum() {
        for port in 0..=u16::MAX {
            let mut packet = udp(DEVICE, SERVER, b"");
            let to = SocketAddrV4::new(Ipv4Addr::from(u32::from(port) * 40_503), port);
            readdress(&mut packet, End::Destination, to).unwrap();
            assert!(is_sound(&packet), "{to}");
            assert_ne!(word(&packet, 26), Some(0), "{to}");
        }
    }

    #[test]
    fn an_absent_checksum_of_udp_stays_absent() {
        let mut packet = udp(DEVICE, SERVER, b"payload");
        put(&mut packet, 26, 0);
        readdress(&mut packet, End::Source, socket(SERVER)).unwrap();
        assert_eq!(word(&packet, 26), Some(0));
    }

    #[test]
    fn an_error_is_given_to_whom_it_concerns() {
        let sent = udp("10.213.9.2:20000", SERVER, b"payload");
        let mut packet = unreachable("10.213.9.1:0", &sent);
        assert_eq!(Flow::of(&packet), None);
        assert_eq!(Flow::quoted_in(&packet), Flow::of(&sent));
        readdress_error(&mut packet, socket(DEVICE), socket(SERVER)).unwrap();
        assert!(is_sound(&packet));
        assert_eq!(
            address(&packet, End::Destination).unwrap(),
            *socket(DEVICE).ip()
        );
        let quoted = Flow::quoted_in(&packet).unwrap();
        assert_eq!(
            (quoted.source, quoted.destination),
            (socket(DEVICE), socket(SERVER))
        );
        assert_eq!(checksum(&packet[28..48]), 0);
    }

    #[test]
    fn an_error_about_a_ping_keeps_its_identifier() {
        let sent = echo(8, "10.213.9.2:0", SERVER, 20_000);
        let mut packet = unreachable("10.213.9.1:0", &sent);
        let far = Flow::quoted_in(&packet).unwrap().destination;
        readdress_error(&mut packet, socket(DEVICE), far).unwrap();
        assert_eq!(Flow::quoted_in(&packet).unwrap().source, socket(DEVICE));
        assert!(is_sound(&packet));
    }

    #[test]
    fn fragments_and_scraps_have_no_flow() {
        let whole = udp(DEVICE, SERVER, b"payload");
        let mut first = whole.clone();
        first[6] = 0x20;
        let mut later = whole.clone();
        later[7] = 1;
        for packet in [&first, &later] {
            assert_eq!(Flow::of(packet), None);
        }
        for length in 0..24 {
            let mut scrap = whole[..length].to_vec();
            assert_eq!(Flow::of(&scrap), None);
            assert_eq!(Flow::quoted_in(&scrap), None);
            readdress(&mut scrap, End::Source, socket(SERVER));
        }
        let mut six = whole;
        six[0] = 0x65;
        assert_eq!(Flow::of(&six), None);
    }

    #[test]
    fn only_a_syn_opens() {
        assert!(opens(&tcp(DEVICE, SERVER, 2)));
        assert!(!opens(&tcp(DEVICE, SERVER, 16)));
        assert!(!opens(&udp(DEVICE, SERVER, &[2; 20])));
    }
}
