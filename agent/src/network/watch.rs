//! Waits for the kernel to tell of a change, and looks what it means.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Network, route};
use crate::link::input::Input;

/// Links, addresses and routes of both families: `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`,
/// `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_IFADDR`, `RTMGRP_IPV6_ROUTE`.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// A change comes as several notices, and between them there is an address without a route, or
/// none at all. A DHCP client on a slow CPU needs some tens of milliseconds from the first to the
/// last. So long it is not believed that there is no way; one that there is is used at once.
const BURST: Duration = Duration::from_millis(100);
/// Between two looks at least: each asks the kernel, and reads some files.
const PAUSE: Duration = Duration::from_millis(10);
/// How often the network is looked at where the kernel tells nothing.
const LOOK: Duration = Duration::from_secs(30);

/// When to look again at a network whose gateway has not shown its hardware address: the link has
/// talked to it by then...
const AGAIN: Duration = Duration::from_secs(2);
/// ...unless it has none.
const AGAIN_TIMES: u8 = 3;

/// Tells the loop of another network than before, for as long as it listens. `towards` is where
/// the cluster is, as far as it is known.
pub(crate) async fn watch(
    mut towards: watch::Receiver<Option<IpAddr>>,
    inputs: mpsc::Sender<Input>,
) {
    let mut notices = Notices::open();
    let mut known = Network::look(*towards.borrow_and_update());
    let mut again = AGAIN_TIMES;
    // When what is seen counts, whatever it is.
    let mut settled = None;
    loop {
        tokio::select! {
            () = notices.next() => {
                sleep(PAUSE).await;
                settled = settled.or(Some(Instant::now() + BURST));
            }
            () = sleep_until(settled.unwrap_or_else(Instant::now)), if settled.is_some() => settled = None,
            changed = towards.changed() => if changed.is_err() { return },
            () = sleep(AGAIN), if again > 0 && !known.is_complete() => again -= 1,
        }
        notices.forget();
        let cluster = *towards.borrow_and_update();
        let network = Network::look(cluster);
        if settled.is_some() && !network.leads_to(cluster) {
            continue;
        }
        if network.differs_from(&known) {
            again = AGAIN_TIMES;
        }
        if network != known {
            known = network.clone();
            // Nobody listens any more only when the agent ends.
            if inputs.send(Input::Network(network)).await.is_err() {
                return;
            }
        }
    }
}

/// The kernel's notices.
enum Notices {
    Kernel(AsyncFd<OwnedFd>),
    /// There are none to be had.
    None,
}

impl Notices {
    fn open() -> Self {
        match route::open(GROUPS).and_then(crate::sys::watch) {
            Ok(socket) => Self::Kernel(socket),
            Err(error) => {
                log::info!("the kernel tells nothing of changes ({error}); looking now and then");
                Self::None
            }
        }
    }

    /// Waits until something may have changed.
    async fn next(&self) {
        match self {
            // Should it fail, so does reading, which takes care of that.
            Self::Kernel(socket) => drop(socket.readable().await),
            Self::None => sleep(LOOK).await,
        }
    }

    /// Drops what has come: it is looked at as a whole after this.
    fn forget(&mut self) {
        if let Self::Kernel(socket) = self
            && let Err(error) = empty(socket)
        {
            log::info!("the kernel tells nothing more of changes ({error})");
            *self = Self::None;
        }
    }
}

fn empty(socket: &AsyncFd<OwnedFd>) -> io::Result<()> {
    // The kernel drops what of a notice does not fit.
    let mut buffer = [0; 16];
    loop {
        let read = socket.try_io(Interest::READABLE, |socket| {
            match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                // There were too many: all the more reason to look.
                Err(Errno::ENOBUFS | Errno::EINTR) => Ok(1),
                read => Ok(read?),
            }
        });
        match read {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::time::timeout;

    /// Nothing here takes longer, unless it does not come at all.
    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn another_way_is_told_once() {
        let (inputs, mut queue) = mpsc::channel(4);
        let (towards, seen) = watch::channel(None);
        let watching = tokio::spawn(watch(seen, inputs));
        // It has looked once when it waits.
        tokio::task::yield_now().await;
        towards.send_replace(Some(Ipv4Addr::LOCALHOST.into()));
        let told = timeout(SOON, queue.recv()).await.unwrap();
        let Some(Input::Network(network)) = told else {
            panic!("another input");
        };
        assert_eq!(network.interface, "lo");
        // The same again is no news; without anybody who knows the cluster, it ends.
        towards.send_replace(Some(Ipv4Addr::new(127, 0, 0, 1).into()));
        drop(towards);
        timeout(SOON, watching).await.unwrap().unwrap();
        assert!(queue.recv().await.is_none());
    }

    #[tokio::test]
    async fn the_kernel_is_listened_to() {
        let mut notices = Notices::open();
        assert!(matches!(notices, Notices::Kernel(_)));
        notices.forget();
        assert!(matches!(notices, Notices::Kernel(_)));
    }
}
