//! The socket between agent and keeper.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde::Serialize;
use tokio::io::unix::AsyncFd;

use super::message::{MAX_PACKET, packet};
use crate::sys;

/// One end of it. Each message is one packet; the end of the other end is an end of file.
pub(crate) struct Wire(AsyncFd<OwnedFd>);

/// Both ends.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        flags,
    )?)
}

impl Wire {
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        sys::watch(socket).map(Self)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }

    /// Sends a message, with a descriptor if there is one. It never waits: there is room for
    /// hundreds of messages, and an end that does not read them is broken.
    pub(crate) fn send(&self, message: &impl Serialize, fd: Option<OwnedFd>) -> io::Result<()> {
        let Some(packet) = packet(message) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        sys::send_with(self.as_fd(), &packet, fd.as_ref().map(AsFd::as_fd))
    }

    /// Receives a packet; none at the end.
    pub(crate) async fn receive(&self) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
        let mut packet = vec![0; MAX_PACKET];
        loop {
            let mut ready = self.0.readable().await?;
            let received =
                ready.try_io(|socket| sys::receive_with(socket.get_ref().as_fd(), &mut packet));
            match received {
                Ok(Ok((0, _))) => return Ok(None),
                Ok(Ok((count, fd))) => {
                    packet.truncate(count);
                    return Ok(Some((packet, fd)));
                }
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::message::{FromKeeper, ToKeeper, read};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[tokio::test]
    async fn packets_keep_their_order_and_bring_their_descriptors() {
        let (ours, theirs) = pair().unwrap();
        let (ours, theirs) = (Wire::new(ours).unwrap(), Wire::new(theirs).unwrap());
        let (mut kept, given) = UnixStream::pair().unwrap();
        ours.send(&ToKeeper::Hello, None).unwrap();
        ours.send(&ToKeeper::Stop, Some(given.into())).unwrap();
        let (packet, fd) = theirs.receive().await.unwrap().unwrap();
        assert_eq!(read(&packet), Some(ToKeeper::Hello));
        assert!(fd.is_none());
        let (packet, fd) = theirs.receive().await.unwrap().unwrap();
        assert_eq!(read(&packet), Some(ToKeeper::Stop));
        UnixStream::from(fd.unwrap()).write_all(b"here").unwrap();
        let mut said = String::new();
        kept.read_to_string(&mut said).unwrap();
        assert_eq!(said, "here");
        drop(ours);
        assert!(theirs.receive().await.unwrap().is_none());
        assert!(theirs.send(&FromKeeper::Over([0; 16]), None).is_err());
    }
}
