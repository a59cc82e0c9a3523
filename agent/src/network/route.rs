//! Asks the kernel for the way to an address, as `ip route get` does (rtnetlink(7)): it knows all
//! tables and rules, and says which address it would send from.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    socket,
};

const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;
const REQUEST: u16 = 1;
/// Kinds of route that lead somewhere: to others, to this device.
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
/// Attributes.
const DESTINATION: u16 = 1;
const INTERFACE: u16 = 4;
const GATEWAY: u16 = 5;
const SOURCE: u16 = 7;
const VIA: u16 = 18;
/// `AF_INET` and `AF_INET6`.
const INET: u8 = 2;
const INET6: u8 = 10;
/// Of a message's own header, and of a route message's after it.
const HEADERS: usize = 16 + 12;

/// A way to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// The interface's number.
    pub(super) interface: u32,
    /// The address that packets are sent from.
    pub(super) local: IpAddr,
    /// The next router, if there is one in between.
    pub(super) gateway: Option<IpAddr>,
}

/// The way to an address; `None` if there is none.
///
/// # Errors
/// If the kernel cannot be asked.
pub(super) fn to(destination: IpAddr) -> io::Result<Option<Way>> {
    let kernel = open(0)?;
    let to_kernel = NetlinkAddr::new(0, 0);
    let flags = MsgFlags::empty();
    sendto(kernel.as_raw_fd(), &request(destination), &to_kernel, flags)?;
    // The answer is there when sending is done.
    let mut answer = [0; 512];
    let length = recv(kernel.as_raw_fd(), &mut answer, flags)?;
    Ok(answer.get(..length).and_then(read))
}

/// A socket for rtnetlink that gets notices of these groups.
pub(super) fn open(groups: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let kind = (AddressFamily::Netlink, SockType::Raw);
    let socket = socket(kind.0, kind.1, flags, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

fn request(destination: IpAddr) -> Vec<u8> {
    let (family, address) = match destination {
        IpAddr::V4(address) => (INET, address.octets().to_vec()),
        IpAddr::V6(address) => (INET6, address.octets().to_vec()),
    };
    // An address has 16 bytes at most.
    let size = u8::try_from(address.len()).unwrap_or(0);
    let attribute = u16::from(size) + 4;
    [
        &(HEADERS as u32 + u32::from(attribute)).to_ne_bytes(),
        GETROUTE.to_ne_bytes().as_slice(),
        &REQUEST.to_ne_bytes(),
        // Sequence and port: there is one question on this socket.
        &[0; 8],
        &[family, size * 8],
        &[0; 10],
        &attribute.to_ne_bytes(),
        &DESTINATION.to_ne_bytes(),
        &address,
    ]
    .concat()
}

fn read(message: &[u8]) -> Option<Way> {
    let kind = message.get(7 + 16)?;
    if word(message, 4)? != NEWROUTE || ![UNICAST, LOCAL].contains(kind) {
        return None;
    }
    let attributes = message.get(HEADERS..)?;
    let interface = attribute(attributes, INTERFACE)?.first_chunk()?;
    let gateway = attribute(attributes, GATEWAY).or_else(|| {
        // The address of another family comes after that family.
        attribute(attributes, VIA)?.get(2..)
    });
    Some(Way {
        interface: u32::from_ne_bytes(*interface),
        local: address(attribute(attributes, SOURCE)?)?,
        gateway: gateway.and_then(address),
    })
}

/// Attributes follow each other: length with this header, number, value, up to a multiple of four.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(word(attributes, 0)?);
        let value = attributes.get(4..length)?;
        if word(attributes, 2)? == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|&octets| octets.into()),
        _ => bytes.first_chunk::<16>().map(|&octets| octets.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn answer(message: u16, kind: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; HEADERS];
        bytes[4..6].copy_from_slice(&message.to_ne_bytes());
        bytes[23] = kind;
        for (number, value) in attributes {
            bytes.extend((value.len() as u16 + 4).to_ne_bytes());
            bytes.extend(number.to_ne_bytes());
            bytes.extend(*value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn a_route_is_read() {
        let index = 7u32.to_ne_bytes();
        let four: [(u16, &[u8]); 5] = [
            (DESTINATION, &[192, 0, 2, 1]),
            // Neither its number nor its odd length are of interest.
            (8, &[1]),
            (INTERFACE, &index),
            (GATEWAY, &[10, 0, 0, 1]),
            (SOURCE, &[10, 0, 0, 7]),
        ];
        let way = Way {
            interface: 7,
            local: [10, 0, 0, 7].into(),
            gateway: Some([10, 0, 0, 1].into()),
        };
        assert_eq!(read(&answer(NEWROUTE, UNICAST, &four)), Some(way));
        let direct = Way {
            gateway: None,
            ..way
        };
        let without: [(u16, &[u8]); 2] = [(SOURCE, &[10, 0, 0, 7]), (INTERFACE, &index)];
        assert_eq!(read(&answer(NEWROUTE, LOCAL, &without)), Some(direct));
        let router = "fe80::1".parse::<Ipv6Addr>().unwrap();
        let mut via = vec![10, 0];
        via.extend(router.octets());
        let mixed: [(u16, &[u8]); 3] = [(SOURCE, &[10, 0, 0, 7]), (VIA, &via), (INTERFACE, &index)];
        let mixed = read(&answer(NEWROUTE, UNICAST, &mixed)).unwrap();
        assert_eq!(mixed.gateway, Some(router.into()));
    }

    #[test]
    fn what_leads_nowhere_is_no_way() {
        let index = 1u32.to_ne_bytes();
        let attributes: [(u16, &[u8]); 2] = [(SOURCE, &[127, 0, 0, 1]), (INTERFACE, &index)];
        const ERROR: u16 = 2;
        const UNREACHABLE: u8 = 7;
        assert_eq!(read(&answer(ERROR, UNICAST, &attributes)), None);
        assert_eq!(read(&answer(NEWROUTE, UNREACHABLE, &attributes)), None);
        assert_eq!(read(&answer(NEWROUTE, UNICAST, &attributes[1..])), None);
        assert_eq!(read(&answer(NEWROUTE, UNICAST, &attributes[..1])), None);
    }

    #[test]
    fn a_torn_answer_is_no_way() {
        let index = 7u32.to_ne_bytes();
        let attributes: [(u16, &[u8]); 2] = [(INTERFACE, &index), (SOURCE, &[10, 0, 0, 7])];
        let whole = answer(NEWROUTE, UNICAST, &attributes);
        assert!(read(&whole).is_some());
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), None, "{length}");
        }
        let mut endless = answer(NEWROUTE, UNICAST, &[]);
        endless.extend([0; 8]);
        assert_eq!(read(&endless), None);
    }

    #[test]
    fn the_kernel_answers() {
        let own = to(Ipv4Addr::LOCALHOST.into()).unwrap().unwrap();
        assert_eq!(own.local, Ipv4Addr::LOCALHOST);
        assert_eq!((own.interface, own.gateway), (1, None));
    }
}
