//! When this machine's network may have changed: the kernel's word, where it gives it (rtnetlink(7)),
//! and the address that packets to the proxy leave from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The address that packets to another leave from; none if there is no way.
pub(super) fn address_towards(to: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if to.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).ok()?;
    // Nothing is sent for that.
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(target_os = "linux")]
pub(super) use linux::Notices;
#[cfg(not(target_os = "linux"))]
pub(super) use other::Notices;

#[cfg(target_os = "linux")]
mod linux {
    use std::future::pending;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use nix::sys::socket::{
        AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
    };
    use tokio::time::{Instant, sleep_until};

    use crate::output;

    /// Links, addresses and routes of both families: `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`,
    /// `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_IFADDR`, `RTMGRP_IPV6_ROUTE`.
    const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
    /// A change comes as several notices. The first is looked at at once, and any other no sooner
    /// than this after the one before.
    const BURST: Duration = Duration::from_millis(20);

    /// The kernel's notices, if they are to be had. To tokio, sockets for datagrams are all alike.
    pub(in super::super) struct Notices {
        socket: Option<tokio::net::UnixDatagram>,
        told: Instant,
    }

    impl Notices {
        pub(in super::super) fn open() -> Self {
            let opened = open().and_then(tokio::net::UnixDatagram::from_std);
            if let Err(error) = &opened {
                output::debug(|| format!("the kernel tells nothing of the network: {error}"));
            }
            Self {
                socket: opened.ok(),
                told: Instant::now(),
            }
        }

        /// Waits until something may have changed.
        pub(in super::super) async fn next(&mut self) {
            let Some(socket) = &self.socket else {
                return pending().await;
            };
            if socket.readable().await.is_ok() {
                sleep_until(self.told + BURST).await;
            }
            self.told = Instant::now();
            if let Err(error) = empty(socket) {
                output::debug(|| format!("the kernel tells nothing more: {error}"));
                self.socket = None;
            }
        }
    }

    fn open() -> io::Result<UnixDatagram> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let kind = (AddressFamily::Netlink, SockType::Raw);
        let socket = socket(kind.0, kind.1, flags, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(socket.into())
    }

    /// Drops what has come: what matters is looked at after this.
    fn empty(socket: &tokio::net::UnixDatagram) -> io::Result<()> {
        // The kernel drops what of a notice does not fit.
        let mut buffer = [0; 16];
        loop {
            match socket.try_recv(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // There were too many: all the more reason to look.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    /// The address is looked at every second, which is soon enough.
    pub(in super::super) struct Notices;

    impl Notices {
        pub(in super::super) const fn open() -> Self {
            Self
        }

        pub(in super::super) async fn next(&mut self) {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_to_oneself_leave_from_the_loopback() {
        let to = (Ipv4Addr::LOCALHOST, 9).into();
        assert_eq!(address_towards(to), Some(Ipv4Addr::LOCALHOST.into()));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_is_listened_to_and_says_nothing_by_itself_for_a_moment() {
        let mut notices = Notices::open();
        // It may, on a machine where something happens; but not without an end.
        let quiet = async {
            loop {
                let moment = std::time::Duration::from_millis(200);
                if tokio::time::timeout(moment, notices.next()).await.is_err() {
                    return;
                }
            }
        };
        let limit = std::time::Duration::from_secs(60);
        tokio::time::timeout(limit, quiet).await.unwrap();
    }
}
